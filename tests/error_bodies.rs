//! What a client reads of an error of ours: JSON as the API that it asked has errors, or text.

mod support;

use std::net::SocketAddr;

use serde_json::json;
use support::client::*;
use support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";
const NO_MODEL: &[u8] = br#"{"messages":[{"role":"user","content":"hello there"}]}"#;

#[tokio::test]
async fn errors_are_written_as_the_api_that_was_asked_has_them() {
    let message = "model not found in request body";
    let open_ai = json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": "BadRequest",
    }});
    let anthropic = json!({
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
    });
    let worker = SocketAddr::from(([127, 0, 0, 1], 29_001));
    let program = Program::start(TUTORIAL, &[worker], &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    for (path, expected) in [
        (CHAT, &open_ai),
        ("/unknown/chat/completions", &open_ai),
        ("/v1/messages?beta=true", &anthropic),
    ] {
        let (code, body, headers) = gateway.post(path, &[], NO_MODEL).await.json_error();
        assert_eq!((code, &body), (400, expected), "{path}");
        assert_eq!(headers, [("content-type".into(), "application/json".into())], "{path}");
    }
    let grpc = [("content-type", "application/grpc")];
    let (_, text, headers) = gateway.post(CHAT, &grpc, NO_MODEL).await.error();
    let reference = format!("inference error: BadRequest - {message}");
    assert_eq!((text, headers), (reference.clone(), Vec::new()), "gateways make a status of it");
    // Before the headers are all there.
    let many: Vec<_> = (0..1000).map(|n| (format!("x-{n}"), "v")).collect();
    let many: Vec<_> = many.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let (code, body, _) = gateway.post("/v1/messages", &many, NO_MODEL).await.json_error();
    assert_eq!((code, &body["type"]), (431, &json!("error")));

    for (flag, variable) in [(&["--error-format=text"][..], None), (&[], Some("text"))] {
        let variables = variable.map(|value| ("EPP_ERROR_FORMAT", value));
        let mut arguments = vec!["--endpoints=127.0.0.1:29001".to_owned()];
        arguments.extend(flag.iter().map(|flag| (*flag).to_owned()));
        let program = Program::start_in(TUTORIAL, &arguments, variables.as_slice());
        let gateway = Gateway::connect(program.grpc_port).await;
        for path in [CHAT, "/v1/messages"] {
            let (_, text, headers) = gateway.post(path, &[], NO_MODEL).await.error();
            assert_eq!(text, reference, "{path}");
            assert!(headers.is_empty(), "{path}: {headers:?}");
        }
    }
}
