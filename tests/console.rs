//! `epp explain` and `epp top --once` against a running `epp`.

mod support;

use std::net::SocketAddr;
use std::process::Command;

use support::client::{Gateway, response_body, response_headers};
use support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"canary-word"}]}"#;
const ANSWER: &[u8] = br#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}}"#;

/// Addresses nobody listens at.
fn endpoints() -> Vec<SocketAddr> {
    (29_141..29_143).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}

/// One exchange from its beginning to its end.
async fn exchange(program: &Program, id: &str) {
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut replies = gateway.post(CHAT, &[("x-request-id", id)], HELLO).await;
    let exchange = &mut replies.exchange;
    let head = [(":status", "200"), ("content-type", "application/json")];
    exchange.send(response_headers(&head, false)).await;
    exchange.send(response_body(ANSWER, true)).await;
    exchange.half_close();
    exchange.rest().await;
}

/// What `epp` prints with these arguments against `program`, and its exit status.
fn ask(program: &Program, arguments: &[&str]) -> (Option<i32>, String) {
    let address = format!("--admin=http://127.0.0.1:{}", program.metrics_port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    let output = command.args(arguments).arg(address).output().expect("epp can be started");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained() {
    let program = Program::start(TUTORIAL, &endpoints(), &[]);
    exchange(&program, "id 1").await;
    let (code, text) = ask(&program, &["explain", "id 1"]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "request id 1  model m",
        "sent to default/127.0.0.1:2914",
        "2 candidates of 2 endpoints",
        "prefix-cache-scorer x2",
        "ended: complete",
        "status 200",
        "3 of the prompt cached (33 %)",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("canary-word"), "{text}");

    let (code, text) = ask(&program, &["explain", "id 1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, Some(0));
    assert_eq!(json["decisions"][0]["ended"]["cachedTokens"], 3);
    assert_eq!(json["decisions"][0]["explanation"]["candidates"].as_array().unwrap().len(), 2);

    let (code, text) = ask(&program, &["explain", "nobody"]);
    assert_eq!((code, text.as_str()), (Some(1), "epp: no such decision is kept\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_kept_where_the_request_asks_for_them() {
    let program = Program::start(TUTORIAL, &endpoints(), &["--explain-share=0"]);
    exchange(&program, "plain").await;
    let gateway = Gateway::connect(program.grpc_port).await;
    let headers = [("x-request-id", "asking"), ("x-epp-explain", "1")];
    drop(gateway.post(CHAT, &headers, HELLO).await);
    let (_, plain) = ask(&program, &["explain", "plain"]);
    assert!(plain.contains("steps were not kept") && plain.contains("ended: complete"), "{plain}");
    let (_, asking) = ask(&program, &["explain", "asking"]);
    assert!(asking.contains("2 candidates of 2 endpoints"), "{asking}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_shown_as_a_table() {
    let program = Program::start(TUTORIAL, &endpoints(), &[]);
    exchange(&program, "id").await;
    let (code, text) = ask(&program, &["top", "--once", "--sort=queue"]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["ready | 2 endpoints", "ENDPOINT", "127.0.0.1:29141", "has never told its metrics"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_guarded_is_opened_by_the_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "open-sesame\n").unwrap();
    let path = file.path().to_str().unwrap();
    let program =
        Program::start(TUTORIAL, &endpoints(), &[&format!("--metrics-token-file={path}")]);
    let (code, text) = ask(&program, &["top", "--once"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("401"), "{text}");
    let (code, text) = ask(&program, &["top", "--once", &format!("--admin-token-file={path}")]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn nobody_there_and_bad_flags_are_said() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_epp")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["explain", "id", "--admin=http://127.0.0.1:1"]);
    assert!(code == Some(1) && text.contains("does not answer"), "{text}");
    let (code, text) = run(&["top", "--once", "--admin=ftp://x"]);
    assert!(code == Some(1) && text.contains("no address"), "{text}");
    let (code, text) = run(&["top", "--sort=beauty"]);
    assert!(code == Some(2) && text.contains("name of a column"), "{text}");
    assert_eq!(run(&["explain"]).0, Some(2));
}
