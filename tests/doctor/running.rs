//! A running `epp`, looked at over its metrics port.

use crate::run::{doctor, file};
use crate::support::eventually;
use crate::support::program::{Program, TUTORIAL};
use crate::workers::{Workers, nobody};

fn admin(program: &Program) -> String {
    format!("--admin=http://127.0.0.1:{}", program.metrics_port)
}

/// Waits until it has scraped its endpoints.
async fn scraped(program: &Program, well: usize) {
    let page = format!("http://127.0.0.1:{}/debug/state", program.metrics_port);
    eventually("its endpoints are scraped", || async {
        let state: serde_json::Value = reqwest::get(&page).await.ok()?.json().await.ok()?;
        let endpoints = state["endpoints"].as_array()?;
        let fresh = endpoints.iter().filter(|endpoint| endpoint["stale"] == false).count();
        (fresh == well).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_knows_and_what_it_goes_by_is_looked_at() {
    let workers = Workers::start(2, &[]);
    let gone = nobody();
    let endpoints = [&workers.at[..], &[gone]].concat();
    let program = Program::start(TUTORIAL, &endpoints, &[]);
    scraped(&program, 2).await;
    let found = doctor(&[admin(&program)]).await;
    assert_eq!(found.code, Some(1));
    let about = gone.to_string();
    found.must_have("problem", "reachable", &about, "refused", "");
    // What it says itself is there too.
    found.must_have("problem", "seen", "", "has never told its metrics", "curl");
    found.must_have("ok", "models", &workers.at[1].to_string(), "serves sim", "");
    found.must_have("ok", "configuration", "", "prefix-cache-scorer", "");

    let directory = tempfile::tempdir().expect("a folder");
    let in_force = file(directory.path(), "same.yaml", TUTORIAL);
    let edited =
        file(directory.path(), "edited.yaml", &TUTORIAL.replace("weight: 2.0", "weight: 5.0"));
    let with = |file: &std::path::Path| format!("--config-file={}", file.display());
    let found = doctor(&[admin(&program), with(&in_force), "--only=configuration".into()]).await;
    found.is_well();
    found.must_have("ok", "in-force", "", "same.yaml", "");
    let found = doctor(&[admin(&program), with(&edited), "--only=configuration".into()]).await;
    found.must_have("problem", "in-force", "", "edited.yaml is not what", "restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_well_has_no_problem() {
    let workers = Workers::start(2, &[]);
    let program = Program::start(TUTORIAL, &workers.at, &[]);
    scraped(&program, 2).await;
    let found = doctor(&[admin(&program), "--probe".into()]).await;
    found.is_well();
    found.must_have("ok", "ready", "", "is ready", "");
    found.must_have("ok", "second-prompt", &workers.at[0].to_string(), "from cache", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_closed_or_guarded_is_said() {
    let found = doctor(&[format!("--admin=http://{}", nobody())]).await;
    found.must_have("problem", "admin", "", "does not answer", "--admin");
    let directory = tempfile::tempdir().expect("a folder");
    let token = file(directory.path(), "token", "open-sesame\n");
    let workers = Workers::start(1, &[]);
    let guard = format!("--metrics-token-file={}", token.display());
    let program = Program::start(TUTORIAL, &workers.at, &[&guard]);
    let found = doctor(&[admin(&program)]).await;
    found.must_have("problem", "admin", "", "401", "--admin-token-file");
    let found = doctor(&[
        admin(&program),
        format!("--admin-token-file={}", token.display()),
        "--only=endpoints".into(),
    ])
    .await;
    found.is_well();
}
