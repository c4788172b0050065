//! The harness end to end: it drives its own floor, and says what it found.
#![cfg(feature = "bench")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::process::Process;

fn epp_bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_epp-bench"))
}

fn output(command: &mut Command) -> Output {
    command.output().expect("epp-bench starts")
}

/// A floor on a free port, and its address.
fn floor(arguments: &[&str]) -> (Process, String) {
    let mut command = epp_bench();
    command.args(["floor", "--listen", "127.0.0.1:0"]).args(arguments);
    let process = Process::start("floor", &mut command);
    let address = process.wait_for("its address", |line| {
        Some(line.split_once("listening on ")?.1.trim().to_owned())
    });
    (process, address)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the JSON file")).expect("JSON")
}

#[test]
fn drives_a_picker_and_reports_everywhere() {
    let (_floor, address) = floor(&["--endpoint", "10.1.2.3:8000"]);
    let dir = tempfile::tempdir().unwrap();
    let (json_file, html_file) = (dir.path().join("r.json"), dir.path().join("r.html"));
    let output = output(
        epp_bench()
            .args(["extproc", &format!("it={address}"), "--vs", &format!("same={address}")])
            .args(["--count", "60", "--turns", "2", "--warmup", "0", "--streams", "4"])
            .args(["--prompt-bytes", "40Ki", "--chunk-bytes", "7000", "--sse-events", "5"])
            .arg("--json")
            .arg(&json_file)
            .arg("--html")
            .arg(&html_file),
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("it / same"), "{text}");
    let results = &json(&json_file)["results"];
    for picker in results["pickers"].as_array().unwrap() {
        assert_eq!((&picker["succeeded"], &picker["failed"]), (&60.into(), &0.into()));
        assert_eq!(picker["spread"]["endpoints"]["10.1.2.3:8000"], 60);
        assert_eq!(picker["headers_out"]["count"], 60);
    }
    let html = std::fs::read_to_string(html_file).unwrap();
    assert!(html.contains("<svg") && html.contains("it / same"));
}

#[test]
fn drives_over_tls_and_at_a_rate() {
    let (_floor, address) = floor(&["--tls"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.json");
    let arguments = ["--tls", "--count", "40", "--rate", "400", "--warmup", "0", "--connections"];
    let output = output(
        epp_bench().args(["extproc", &address]).args(arguments).arg("3").arg("--json").arg(&file),
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(json(&file)["results"]["pickers"][0]["succeeded"], 40);
}

#[test]
fn a_picker_that_is_not_there_is_an_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = output(epp_bench().args(["extproc", &format!("127.0.0.1:{port}")]));
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot reach"), "{text}");
}

#[test]
fn replays_every_policy_at_every_rate() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mine.yaml");
    std::fs::write(
        &config,
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: random-picker\n\
         schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: random-picker\n",
    )
    .unwrap();
    let file = dir.path().join("r.json");
    let output = output(
        epp_bench()
            .args(["replay", "chat", "--requests", "120", "--rate", "1,4", "--workers", "3"])
            .args(["--baselines", "round-robin,oracle", "--config"])
            .arg(&config)
            .arg("--json")
            .arg(&file),
    );
    assert!(output.status.success(), "{output:?}");
    let results = &json(&file)["results"];
    let rows: Vec<(String, f64, u64)> = results["simulations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            let policy = r["policy"].as_str().unwrap().to_owned();
            (policy, r["rate"].as_f64().unwrap(), r["finished"].as_u64().unwrap())
        })
        .collect();
    let want = |policy: &str, rate: f64| (policy.to_owned(), rate, 120);
    let policies = ["mine", "round robin", "oracle"];
    let wanted: Vec<_> =
        [1.0, 4.0].iter().flat_map(|&r| policies.iter().map(move |p| want(p, r))).collect();
    assert_eq!(rows, wanted);
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.yaml");
    std::fs::write(&broken, "kind: EndpointPickerConfig\nplugins:\n- type: no-such-scorer\n")
        .unwrap();
    let broken = broken.to_str().unwrap();
    for (arguments, want) in [
        (&["replay", "chat", "--config", broken][..], "no-such-scorer"),
        (&["replay", "/no/such/trace"], "/no/such/trace"),
        (&["replay", "chat", "--rate", "0"], "--rate"),
        (&["replay", "chat", "--lose-worker", "soon"], "60s,30s"),
        (&["extproc", "nowhere"], "expected HOST:PORT"),
        (&["extproc", "127.0.0.1:1", "--prompt-bytes", "10"], "--prompt-bytes"),
        (&["picker", "--config", "/no/such/file"], "/no/such/file"),
        (&["cluster", "chat", "--rate", "0"], "--rate"),
        (&["cluster", "chat", "--picker", "its=/no/such/program"], "/no/such/program"),
        (&["cluster", "chat", "--envoy", "/no/such/envoy"], "--envoy"),
        (&["cluster", "chat", "--model", "m"], "--endpoints"),
    ] {
        let output = output(epp_bench().args(arguments));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(want), "{arguments:?}: {text}");
    }
}

/// Engines that exist, for `--endpoints`.
fn engines(n: &str) -> (Process, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
    command.args(["--port", "0", "--workers", n, "--model", "some/model", "--speed", "20"]);
    let process = Process::start("epp-sim", &mut command);
    let mut found = Vec::new();
    let wanted: usize = n.parse().unwrap();
    let list = process.wait_for("the addresses", |line| {
        found.extend(line.split_once("listening on http://").map(|(_, a)| a.trim().to_owned()));
        (found.len() == wanted).then(|| found.join(","))
    });
    (process, list)
}

#[test]
fn compares_on_engines_that_exist_and_goes_on_where_it_ended() {
    let Some(envoy) = support::envoy::binary() else { return };
    let (_engines, endpoints) = engines("2");
    let dir = tempfile::tempdir().unwrap();
    let (kept, file) = (dir.path().join("kept"), dir.path().join("r.json"));
    let run = |more: &[&str]| {
        output(
            epp_bench()
                .args(["cluster", "shared", "--requests", "30", "--base-rate", "60", "--quiet"])
                .args(["--config", "config/default.yaml", "--baselines", "round-robin"])
                .args(["--endpoints", &endpoints, "--reset-caches", "--prompts", "token-ids"])
                .args(["--epp", env!("CARGO_BIN_EXE_epp"), "--turns", "2"])
                .args(more)
                .arg("--envoy")
                .arg(&envoy)
                .arg("--keep")
                .arg(&kept)
                .arg("--json")
                .arg(&file),
        )
    };
    let first = run(&[]);
    assert!(first.status.success(), "{first:?}");
    let results = json(&file)["results"].clone();
    assert_eq!(results["model"], "some/model", "asked of the engines");
    for contender in results["contenders"].as_array().unwrap() {
        for (i, turn) in contender["turns"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&turn["turn"], &turn["failed"]), (&(i + 1).into(), &0.into()), "{turn}");
            assert_eq!(turn["answered"], 30, "{turn}");
            let endpoints = turn["endpoints"].as_object().unwrap();
            assert!(endpoints.keys().all(|e| e.starts_with("127.0.0.1:")), "{turn}");
            let prompts = turn["engines"]["prompt_tokens"].as_f64().unwrap();
            assert!(prompts > 0.0, "what the engines counted in this turn alone: {turn}");
        }
    }
    let names: Vec<&str> = results["contenders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["default", "round robin"]);
    let spread = results["contenders"][1]["turns"][0]["largest_to_mean"].as_f64().unwrap();
    assert!(spread < 1.2, "round robin is even: {spread}");

    // One turn is lost; the others are taken as they stand in the folder.
    std::fs::remove_file(kept.join("default-2.json")).unwrap();
    let text = std::fs::read_to_string(kept.join("default-1.json")).unwrap();
    let told = text.replace("\"answered\": 30", "\"answered\": 4711");
    std::fs::write(kept.join("default-1.json"), told).unwrap();
    let again = run(&[]);
    assert!(again.status.success(), "{again:?}");
    let turns = json(&file)["results"]["contenders"][0]["turns"].clone();
    assert_eq!((&turns[0]["answered"], &turns[1]["answered"]), (&4711.into(), &30.into()));

    let other = run(&["--seed", "9"]);
    let text = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success() && text.contains("other conditions"), "{text}");
}

#[test]
fn engines_that_do_not_empty_their_caches_are_named() {
    let Some(envoy) = support::envoy::binary() else { return };
    // It serves no HTTP at all.
    let (_floor, address) = floor(&[]);
    let output = output(
        epp_bench()
            .args(["cluster", "shared", "--endpoints", &address, "--reset-caches", "--quiet"])
            .arg("--envoy")
            .arg(&envoy)
            .args(["--epp", env!("CARGO_BIN_EXE_epp")]),
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(&address), "{text}");
}
