//! The page for people, in a real browser: eight workers of which one has no prefix cache and one
//! no metrics, traffic, and what somebody sees who opens the page; then a hundred workers, and a
//! phone. With `UPDATE_DOCS` set, the pictures in `docs/` are taken anew.

mod browser;
mod traffic;

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use browser::{Browser, Device, ENTER, ESCAPE};
use serde_json::{Value, json};
use support::eventually;
use support::program::Program;
use traffic::{CANARY, Traffic, Workers};

const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- {type: queue-scorer}
- {type: kv-cache-utilization-scorer}
- {type: prefix-cache-scorer}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
";

/// A model's name that would do harm if it were taken for HTML.
const HOSTILE: &str = "<img src=x onerror=document.title='broken-into'>";

fn is_update() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

/// Keeps a picture where the documentation shows it, if that is wanted, else where a person may
/// look at it.
fn keep(name: &str, picture: &[u8]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_docs = is_update() && ["page.png", "page-phone.png"].contains(&name);
    let folder =
        if in_docs { root.join("docs") } else { Path::new(env!("CARGO_TARGET_TMPDIR")).into() };
    fs::write(folder.join(name), picture).expect("a picture is written");
}

/// Six good workers, one without a prefix cache and one without metrics.
struct Pool {
    // Ends before those that it talks to.
    traffic: Traffic,
    workers: [Workers; 3],
    epp: Program,
}

impl Pool {
    async fn start() -> Self {
        let good = Workers::start(6, &[]);
        let uncached = Workers::start(1, &["--no-enable-prefix-caching"]);
        let blind = Workers::start(1, &["--fault", r#"{"metrics":"missing"}"#]);
        let workers = [good, uncached, blind];
        let addresses: Vec<_> = workers.iter().flat_map(|w| w.addresses.clone()).collect();
        let epp = Program::start(CONFIG, &addresses, &["-v=5"]);
        let traffic = Traffic::start(epp.grpc_port, addresses.len()).await;
        Self { workers, epp, traffic }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.epp.metrics_port)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_finds_what_is_wrong() {
    let Some(driver) = browser::driver() else { return };
    let pool = Pool::start().await;
    let desktop = Browser::start(&driver, Device::Desktop).await;
    desktop.open(&pool.url("/")).await;
    faults_are_named(&desktop).await;
    pool.traffic.has_sent(800).await;
    desktop.until("decisions", "return decisions.list.length > 10").await;
    desktop.turns(11).await;
    assert_eq!(desktop.count("#rows tr").await, 8);
    rows_fit(&desktop).await;
    assert!(desktop.text("ready").await.contains("ready"));
    assert_eq!(desktop.script("return $('flow').hidden").await, false);
    desktop.script("theme('light')").await;
    keep("page.png", &desktop.picture().await);

    a_decision_opens(&desktop).await;
    keys_do_it_all(&desktop, &pool.workers[1].addresses[0].port().to_string()).await;
    pool.traffic.send_one(HOSTILE).await;
    nothing_is_taken_for_html(&desktop).await;
    prompts_are_nowhere(&desktop, &pool).await;
    // Picks go on while somebody looks.
    let before = pool.traffic.sent();
    pool.traffic.has_sent(before + 200).await;
    desktop.close().await;
    on_a_phone(&driver, &pool).await;
}

/// No row is cut off at the right.
async fn rows_fit(page: &Browser) {
    let script = "return [...$('rows').children].every(row => {
        const box = row.closest('.scroll').getBoundingClientRect();
        return [...row.children].every(cell => cell.getBoundingClientRect().right <= box.right + 1);
    })";
    assert_eq!(page.script(script).await, true);
}

async fn faults_are_named(page: &Browser) {
    for (part, line) in [
        ("reports no cached tokens, where others do", "--enable-prefix-caching"),
        ("has never told its metrics", "curl http://"),
    ] {
        eventually(part, || async {
            let text = page.text("finding-list").await;
            (text.contains(part) && text.contains(line)).then_some(())
        })
        .await;
    }
}

async fn a_decision_opens(page: &Browser) {
    page.click("#decision-list li").await;
    let open = "return document.querySelectorAll('#dialog[open] tr.target').length === 1";
    page.until("the dialog", open).await;
    let dialog = page.text("dialog-body").await;
    for part in ["8 of 8 endpoints", "prefix-cache-scorer", "max-score-picker"] {
        assert!(dialog.contains(part), "{part}: {dialog}");
    }
    keep("page-decision.png", &page.picture().await);
    page.keys(&ESCAPE.to_string()).await;
    assert_eq!(page.count("#dialog[open]").await, 0);
    page.keys(&format!("d{ENTER}")).await;
    page.until("the dialog again", open).await;
    page.keys(&ESCAPE.to_string()).await;
}

/// Sorting, choosing, filtering and the theme without a mouse.
async fn keys_do_it_all(page: &Browser, part_of_one: &str) {
    page.keys("7").await;
    let sorted = page.script("return document.querySelector('[aria-sort]').textContent").await;
    assert_eq!(sorted, "Hit rate");
    page.keys(&format!("e{ENTER}")).await;
    let only = "return table.chosen !== null && decisions.list.length > 0
        && decisions.list.every(d => d.endpoint === table.chosen)";
    page.until("the chosen endpoint's decisions alone", only).await;
    page.keys(&format!("{ESCAPE}/{part_of_one}")).await;
    assert_eq!(page.count("#rows tr").await, 1);
    page.keys(&ESCAPE.to_string()).await;
    assert_eq!(page.count("#rows tr").await, 8);
    page.keys("t").await;
    assert_eq!(page.script("return document.documentElement.dataset.theme").await, "dark");
    keep("page-dark.png", &page.picture().await);
}

async fn nothing_is_taken_for_html(page: &Browser) {
    let show = "const ask = new URLSearchParams({ model: arguments[0] });
        return get('/debug/decisions?' + ask).then(answer => {
            decisions.list = answer.decisions;
            showDecisions();
            return $('decision-list').innerText + document.title;
        })";
    let text = page.script_with(show, json!([HOSTILE])).await;
    let text = text.as_str().unwrap();
    assert!(text.contains("onerror") && text.ends_with("epp"), "{text}");
    assert_eq!(page.script("return page.error || null").await, Value::Null);
}

async fn prompts_are_nowhere(page: &Browser, pool: &Pool) {
    assert!(!page.source().await.contains(CANARY), "a prompt is on the page");
    let debug = ["state", "history", "plugins", "endpoints", "flow-control", "config"];
    let debug = debug.into_iter().chain(["decisions?last=1000", "decisions?format=text"]);
    for path in debug.map(|page| format!("/debug/{page}")).chain(["/metrics".to_owned()]) {
        let text = reqwest::get(pool.url(&path)).await.unwrap().text().await.unwrap();
        assert!(!text.is_empty() && !text.contains(CANARY), "{path} has a prompt");
        if path.ends_with("text") {
            keep("decisions.txt", text.as_bytes());
        }
    }
    let log = pool.epp.process.output();
    assert!(log.contains("Request handled") && !log.contains(CANARY), "the log has a prompt");
}

async fn on_a_phone(driver: &Path, pool: &Pool) {
    let phone = Browser::start(driver, Device::Phone).await;
    phone.open(&pool.url("/")).await;
    phone.turns(2).await;
    phone.script("theme('dark')").await;
    phone.fits().await;
    keep("page-phone.png", &phone.picture().await);
    phone.script("$('endpoints').scrollIntoView()").await;
    rows_fit(&phone).await;
    keep("page-phone-endpoints.png", &phone.picture().await);
    phone.script("$('decisions').scrollIntoView()").await;
    keep("page-phone-decisions.png", &phone.picture().await);
    phone.click("#decision-list li").await;
    phone
        .until("the dialog", "return document.querySelectorAll('#dialog[open] dl').length > 0")
        .await;
    phone.fits().await;
    keep("page-phone-decision.png", &phone.picture().await);
    phone.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_endpoints_fit() {
    let Some(driver) = browser::driver() else { return };
    let workers = Workers::start(100, &[]);
    let epp = Program::start(CONFIG, &workers.addresses, &[]);
    let traffic = Traffic::start(epp.grpc_port, 100).await;
    traffic.has_sent(300).await;
    for (device, name) in
        [(Device::Desktop, "page-100-dark.png"), (Device::Phone, "page-100-phone.png")]
    {
        let page = Browser::start(&driver, device).await;
        page.open(&format!("http://127.0.0.1:{}/", epp.metrics_port)).await;
        page.until("a hundred rows", "return $('rows').children.length === 100").await;
        page.turns(3).await;
        page.script("theme('dark')").await;
        page.fits().await;
        page.script("$('endpoints').scrollIntoView()").await;
        keep(name, &page.picture().await);
        page.close().await;
    }
}
