//! The life of the real program: flags, log, signals, exit status.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use support::client::{Gateway, response_headers};
use support::eventually;
use support::program::{Program, TUTORIAL};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

const CHAT: &str = "/v1/chat/completions";
const HELLO: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;

/// An address nobody listens at: a worker whose metrics cannot be read still serves.
fn endpoints() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 29_101))]
}

/// Runs `epp` with arguments that make it end by itself.
fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_epp")).args(arguments).output().expect("epp can be started")
}

async fn ready_status(program: &Program) -> u16 {
    let url = format!("http://127.0.0.1:{}/readyz", program.metrics_port);
    reqwest::get(url).await.map_or(0, |response| response.status().as_u16())
}

/// The lines of the log with this message.
fn logged(program: &Program, message: &str) -> Vec<Value> {
    let lines = program.process.output();
    let lines = lines.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    lines.filter(|l| l["msg"] == message).collect()
}

/// The one worker's metrics cannot be read, which counts as full.
#[test]
fn a_pool_that_saturates_is_told_once() {
    let program = Program::start(TUTORIAL, &endpoints(), &[]);
    let line = program.process.wait_for("that the pool is saturated", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["msg"] == "The pool is saturated").then_some(line)
    });
    assert_eq!(
        (line["level"].as_str(), line["unread"].as_u64()),
        (Some("warn"), Some(1)),
        "{line}"
    );
    assert_eq!(logged(&program, "The pool is saturated").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_then_lets_exchanges_finish() {
    let mut program = Program::start(TUTORIAL, &endpoints(), &["--drain-timeout=2s"]);
    let gateway = Gateway::connect(program.grpc_port).await;
    assert_eq!(ready_status(&program).await, 200);
    let answer = gateway.post(CHAT, &[], HELLO).await;
    let in_progress = answer.exchange;

    program.process.signal("TERM");
    eventually("not ready", || async { (ready_status(&program).await == 503).then_some(()) }).await;
    // Gateways that have not noticed yet are still served.
    let late = Gateway::connect(program.grpc_port).await.post(CHAT, &[], HELLO).await;
    assert!(late.destination().starts_with("127.0.0.1:"));
    drop(late.exchange);

    // The drain time is over when nobody new is taken; who is here may finish, and the metrics
    // stay until then.
    let port = program.grpc_port;
    eventually("no listener", || async move {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(())
    })
    .await;
    assert_eq!(ready_status(&program).await, 503);
    drop(in_progress);
    let (code, output) = program.process.wait();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("Every exchange has ended"), "{output}");
}

/// A gateway keeps its connection for as long as it holds, so whoever drains asks it to connect
/// anew, where it finds another replica, while there is time for what is in progress to finish:
/// a kubelet may kill us the moment the drain is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_moves_gateways_on_before_it_is_over() {
    let mut program = Program::start(TUTORIAL, &endpoints(), &["--drain-timeout=14s"]);
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, port) = (connections.clone(), program.grpc_port);
    let connect = tower::service_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://epp");
    let gateway = Gateway::over(endpoint.connect_with_connector(connect).await.unwrap());
    let mut in_progress = gateway.post(CHAT, &[], HELLO).await.exchange;

    program.process.signal("TERM");
    let signalled = Instant::now();
    let mut unsent = 0;
    while connections.load(Ordering::Relaxed) < 2 {
        assert!(signalled.elapsed() < Duration::from_secs(13), "still on the old connection");
        let again = gateway.clone();
        let answer = tokio::spawn(async move { again.post(CHAT, &[], HELLO).await.destination() });
        unsent += usize::from(answer.await.is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // This client, unlike a gateway, learns of it by a request that it then cannot send.
    assert!(unsent <= 1, "{unsent} requests failed");
    // Not at once: the next replica may have to become ready first.
    assert!(signalled.elapsed() > Duration::from_secs(3), "{:?}", signalled.elapsed());
    in_progress.send(response_headers(&[(":status", "200")], true)).await;
    assert!(in_progress.next().await.unwrap().is_some(), "an exchange was cut");
    drop((in_progress, gateway));
    let (code, output) = program.process.wait();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("Every exchange has ended"), "{output}");
}

/// An hour of draining is there for gateways: without one, and with one that asks for nothing any
/// more, it is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_nobody_needs_ends_by_itself() {
    let mut idle = Program::start(TUTORIAL, &endpoints(), &["--drain-timeout=1h"]);
    let mut used = Program::start(TUTORIAL, &endpoints(), &["--drain-timeout=1h"]);
    let gateway = Gateway::connect(used.grpc_port).await;
    drop(gateway.post(CHAT, &[], HELLO).await);
    for program in [&idle, &used] {
        program.process.signal("INT");
    }
    for program in [&mut idle, &mut used] {
        let (code, output) = program.process.wait_at_most(support::PATIENCE);
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("a second signal ends it at once"), "{output}");
        assert!(output.contains("Every exchange has ended"), "{output}");
    }
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_in_place_of_an_address_is_looked_up() {
    let arguments = ["--endpoints=localhost:29101,no.such.host.invalid:1".to_owned()];
    let program = Program::start_with(TUTORIAL, &arguments);
    let answer = Gateway::connect(program.grpc_port).await.post(CHAT, &[], HELLO).await;
    let destination = answer.destination();
    assert!(["127.0.0.1:29101", "[::1]:29101"].contains(&destination.as_str()), "{destination}");
    program.process.wait_for("what is said of the other", |line| {
        (line.contains("no.such.host.invalid") && line.contains("cannot be looked up"))
            .then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut program = Program::start(TUTORIAL, &endpoints(), &["--drain-timeout=1h"]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let answer = gateway.post(CHAT, &[], HELLO).await;
    program.process.signal("INT");
    eventually("not ready", || async { (ready_status(&program).await == 503).then_some(()) }).await;
    program.process.signal("TERM");
    let (_, output) = program.process.wait();
    assert!(output.contains("Ending at once"), "{output}");
    drop(answer.exchange);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_a_line_unless_it_is_not_wanted() {
    for (arguments, lines) in [
        (&[][..], 1),
        (&["-v=1"], 0),
        (&["--access-log=false"], 0),
        (&["-v", "0", "--access-log"], 1),
    ] {
        let arguments = [arguments, &["--drain-timeout=0"]].concat();
        let mut program = Program::start(TUTORIAL, &endpoints(), &arguments);
        let gateway = Gateway::connect(program.grpc_port).await;
        drop(gateway.post(CHAT, &[("x-request-id", "my-request")], HELLO).await);
        drop(gateway);
        program.process.signal("TERM");
        program.process.wait();
        let handled = logged(&program, "Request handled");
        assert_eq!(handled.len(), lines, "{arguments:?}: {}", program.process.output());
        for line in handled {
            assert_eq!(line["level"], "info");
            assert_eq!(line["x-request-id"], "my-request");
            assert!(line["endpoint"].as_str().unwrap().contains("127.0.0.1"), "{line}");
            assert!(!line.to_string().contains("hello there"), "bodies are not logged: {line}");
        }
        let ended = logged(&program, "Request ended");
        assert_eq!(ended.len(), lines, "{arguments:?}: {}", program.process.output());
        for line in ended {
            assert_eq!(line["x-request-id"], "my-request");
            assert_eq!(line["ending"], "cut-before-response", "{line}");
            assert!(line["durationMs"].as_f64().unwrap() >= 0.0, "{line}");
        }
    }
}

#[test]
fn mistakes_end_with_status_2_and_are_all_told() {
    let output = run(&["--grpc-port", "x", "--pool-nam=p", "--drain-timeout", "soon"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["--grpc-port: 'x'", "did you mean '--pool-name'?", "--drain-timeout: 'soon'"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for argument in ["--help", "-h", "--version"] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("epp"));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn the_version_and_what_shells_and_manuals_need_are_printed() {
    let printed = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let version = printed(&["--version"]);
    let expected = format!("epp v{}", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected) && version.lines().count() == 1, "{version}");
    assert!(printed(&["completions", "bash"]).contains("complete"));
    assert!(printed(&["man"]).starts_with(".ie"));
    assert!(printed(&["help"]).contains("--secure-serving"));
    assert!(printed(&["help", "check"]).contains("--effective"));
}

#[test]
fn a_configuration_on_standard_input_is_checked() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_epp"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let indented: String = TUTORIAL.lines().map(|line| format!("    {line}\n")).collect();
    let config_map = format!("kind: ConfigMap\ndata:\n  tutorial.yaml: |\n{indented}");
    input.write_all(config_map.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("stdin (data.tutorial.yaml): ok"), "{text}");
}

#[test]
fn without_workers_there_is_nothing_to_start() {
    let output = run(&["--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--pool-name, --endpoint-selector or --endpoints"), "{text}");
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.yaml");
    std::fs::write(&good, TUTORIAL).unwrap();
    let output = run(&["check", good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["check", "--effective", good.to_str().unwrap()]);
    let effective = String::from_utf8(output.stdout).unwrap();
    assert!(effective.contains("kind: EndpointPickerConfig"), "{effective}");

    let bad = directory.path().join("bad.yaml");
    std::fs::write(&bad, TUTORIAL.replace("max-score-picker", "max-score-pickr")).unwrap();
    let output = run(&["check", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("max-score-picker"), "the nearest type: {text}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = run(&[
        "--endpoints=127.0.0.1:1",
        &format!("--grpc-port={port}"),
        "--grpc-health-port=0",
        "--metrics-port=0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("cannot listen on [::]:{port}: ")), "{text}");
    assert!(text.trim_end().ends_with(": --grpc-port"), "{text}");
}
