//! Clients that connect and do not come to the point.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw::Client;
use crate::support::PATIENCE;
use crate::support::process::Process;
use crate::support::program::{Program, TUTORIAL};

/// The beginning of a TLS handshake record that never ends.
const HALF_A_HANDSHAKE: &[u8] = &[22, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3];

/// Sends `bytes` and waits until the other side closes the connection.
async fn dropped(port: u16, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open");
    stream.write_all(bytes).await.expect("the first bytes are taken");
    // HTTP servers may say that it took too long, and then close.
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.is_ok()
}

fn start(arguments: &[&str]) -> Program {
    Program::start(TUTORIAL, &["127.0.0.1:1".parse().unwrap()], arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_or_half_of_it_is_dropped() {
    let plain = start(&[]);
    let secure = start(&["--secure-serving=true"]);
    let cases: [(u16, &[u8], &str); 8] = [
        (plain.grpc_port, b"", "ext_proc, nothing"),
        (plain.grpc_port, b"PRI * HTTP/2.0\r\n", "ext_proc, half of the preface"),
        (plain.health_port, b"", "health, nothing"),
        (plain.health_port, b"P", "health, one byte"),
        (plain.metrics_port, b"", "metrics, nothing"),
        (plain.metrics_port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n", "metrics, half of a head"),
        (secure.grpc_port, b"", "ext_proc with TLS, nothing"),
        (secure.grpc_port, HALF_A_HANDSHAKE, "ext_proc with TLS, half of a handshake"),
    ];
    let all = cases.map(|(port, bytes, what)| async move { (dropped(port, bytes).await, what) });
    for (dropped, what) in futures_util::future::join_all(all).await {
        assert!(dropped, "{what}: still connected after {PATIENCE:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_are_closed_and_that_is_said_once() {
    let program = start(&[]);
    let mut open = Vec::new();
    // The metrics port takes 256 at a time; each of these has the beginning of a request.
    for _ in 0..300 {
        let stream = TcpStream::connect(("127.0.0.1", program.metrics_port)).await;
        let mut stream = stream.expect("the port is open");
        _ = stream.write_all(b"GET").await;
        open.push(stream);
    }
    program
        .process
        .wait_for("the warning", |line| line.contains("Too many connections").then_some(()));
    let mut closed = 0;
    for stream in &mut open {
        // Those that are kept say nothing yet, those that are not have ended.
        let read = timeout(Duration::from_millis(1), stream.read(&mut [0; 64])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!(closed >= 300 - 256, "{closed} closed");
    drop(open);
    // When they go there is room again.
    crate::support::eventually("an answer", || async {
        let url = format!("http://127.0.0.1:{}/healthz", program.metrics_port);
        reqwest::get(url).await.ok()
    })
    .await;
    assert_eq!(program.process.output().matches("Too many connections").count(), 1);
}

fn warnings(process: &Process) -> Vec<serde_json::Value> {
    let lines = process.output();
    let lines = lines.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    lines.filter(|l| l["msg"].as_str().is_some_and(|m| m.contains("A client speaks"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_protocol_is_said_once_with_the_flag_to_change() {
    // Is there TLS, what the client begins with, what the log says.
    for (secure, bytes, said) in [
        ("--secure-serving=true", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], "speaks plaintext"),
        ("--secure-serving=false", HALF_A_HANDSHAKE, "speaks TLS"),
    ] {
        let program = start(&[secure]);
        for _ in 0..500 {
            assert!(dropped(program.grpc_port, bytes).await, "{said}: still connected");
        }
        let warnings = warnings(&program.process);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let text = warnings[0].to_string();
        assert!(text.contains(said) && text.contains("--secure-serving"), "{text}");
        if secure.ends_with("false") {
            // Others are served as before.
            Client::connect(program.grpc_port).await.check_health(1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_read_does_not_hold_up_the_end() {
    let mut program = start(&["--drain-timeout=0"]);
    let mut slow = Vec::new();
    for _ in 0..20 {
        let stream = TcpStream::connect(("127.0.0.1", program.metrics_port)).await;
        let mut stream = stream.expect("the port is open");
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        stream.write_all(&request).await.expect("requests are taken");
        slow.push(stream);
    }
    program.process.signal("TERM");
    let (code, output) = program.process.wait();
    assert_eq!(code, Some(0), "{output}");
    drop(slow);
}
