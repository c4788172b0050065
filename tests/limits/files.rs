//! Files that are none: a named pipe blocks whoever opens it, a device never ends.

use std::path::Path;
use std::process::Command;

use crate::support::process::Process;
use crate::support::program::{Program, TUTORIAL};
use crate::support::{PATIENCE, eventually};

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("there is mkfifo");
    assert!(made.success());
}

/// The tutorial's configuration with endpoints from a file.
fn with_endpoints_file(path: &Path) -> String {
    let plugins = format!(
        "plugins:\n- type: file-discovery\n  parameters: {{path: {}, watchFile: true}}\n",
        path.display()
    );
    let discovery = "\ndataLayer:\n  discovery: {pluginRef: file-discovery}\n";
    TUTORIAL.replacen("plugins:\n", &plugins, 1) + discovery
}

/// Waits for the end of a program that cannot start, and returns what it said.
fn refused(arguments: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    command
        .args(["--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"])
        .args(["--metrics-endpoint-auth=false", "--zap-encoder=json"])
        .args(arguments);
    let mut process = Process::start("epp", &mut command);
    let (code, output) = process.wait_at_most(PATIENCE);
    assert_eq!(code, Some(2), "{arguments:?}: {output}");
    output
}

#[test]
fn what_is_no_regular_file_is_refused_at_the_start_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    pipe(&at("pipe"));
    std::fs::create_dir(at("certificates")).unwrap();
    pipe(&at("certificates").join("tls.crt"));
    for (path, kind) in [
        (at("pipe"), "it is a pipe"),
        (directory.path().to_owned(), "it is a directory"),
        ("/dev/zero".into(), "it is a device"),
    ] {
        let config = with_endpoints_file(&path);
        for arguments in [
            vec!["--config-text".to_owned(), config],
            vec!["--endpoints=127.0.0.1:1".to_owned(), format!("--config-file={}", path.display())],
        ] {
            let said = refused(&arguments);
            assert!(said.contains(kind) && said.contains(path.to_str().unwrap()), "{said}");
        }
    }
    let certificates = format!("--cert-path={}", at("certificates").display());
    let said = refused(&["--endpoints=127.0.0.1:1".to_owned(), certificates]);
    assert!(said.contains("tls.crt") && said.contains("it is a pipe"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoints_file_that_becomes_a_pipe_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints.yaml");
    std::fs::write(&file, "endpoints: [{name: a, address: 127.0.0.1, port: 1}]\n").unwrap();
    let config = with_endpoints_file(&file);
    let mut program = Program::start_with(&config, &["--drain-timeout=0".to_owned()]);
    std::fs::remove_file(&file).unwrap();
    pipe(&file);
    program.process.wait_for("the refusal", |line| line.contains("it is a pipe").then_some(()));
    let page = format!("http://127.0.0.1:{}/debug/endpoints", program.metrics_port);
    let endpoints = reqwest::get(&page).await.unwrap().text().await.unwrap();
    assert!(endpoints.contains("default/a"), "{endpoints}");
    // What comes in its place is taken up.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "endpoints: [{name: b, address: 127.0.0.1, port: 2}]\n").unwrap();
    eventually("the new endpoint", || async {
        let text = reqwest::get(&page).await.ok()?.text().await.ok()?;
        text.contains("default/b").then_some(())
    })
    .await;
    program.process.signal("TERM");
    let (code, output) = program.process.wait_at_most(PATIENCE);
    assert_eq!(code, Some(0), "{output}");
}
