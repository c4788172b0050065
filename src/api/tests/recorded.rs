use std::path::Path;

use serde_json::Value;

use super::*;

/// A body as the recorded cases write it: a string, or pieces some of which repeat.
fn written(body: &Value) -> Option<String> {
    match body {
        Value::String(text) => Some(text.clone()),
        Value::Array(pieces) => pieces
            .iter()
            .map(|piece| match &piece["repeat"] {
                Value::Null => piece.as_str().map(str::to_owned),
                repeat => Some(repeat[0].as_str()?.repeat(repeat[1].as_u64()? as usize)),
            })
            .collect(),
        _ => None,
    }
}

/// The path and the whole body of a case, up to its first end of stream.
fn request(case: &Value) -> Option<(String, String)> {
    let mut path = None;
    let mut body = String::new();
    for message in case["messages"].as_array()? {
        match message["kind"].as_str()? {
            "request_headers" => {
                let headers = message["headers"].as_array()?;
                path = headers.iter().find(|h| h[0] == ":path")?[1].as_str().map(str::to_owned);
            }
            "request_body" => {
                body += &written(&message["body"])?;
                if message["eos"] == true {
                    return Some((path?, body));
                }
            }
            _ => {}
        }
    }
    None
}

/// What the running reference answered to recorded requests, where the recording is at hand.
#[test]
fn the_same_bodies_are_refused_as_by_the_reference_and_with_the_same_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/wire");
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
    };
    let (Some(cases), Some(answers)) = (read("cases.json"), read("reference-answers.json")) else {
        eprintln!("skipped: no recording in {}", folder.display());
        return;
    };
    let parsers = Parsers::new(vec![
        ParserKind::OpenAi,
        ParserKind::Anthropic,
        ParserKind::VllmHttp,
        ParserKind::Passthrough,
    ]);
    let mut compared = 0;
    for (name, case) in cases.as_object().expect("cases by name") {
        let Some((path, body)) = request(case) else { continue };
        let refusal = match parsers.parse(&path, body.into(), true, &VideoHints::default()) {
            Err(error) => Some(error.to_string()),
            Ok(parsed) if parsed.model_required && parsed.model.is_none() => {
                Some("inference error: BadRequest - model not found in request body".to_owned())
            }
            Ok(_) => None,
        };
        let first = &answers[name]["answers"][0];
        let recorded = first["body"].as_str().filter(|_| first["code"] == 400);
        // What a JSON decoder says is in its own words; a second end of stream is no request.
        let decoder = "error unmarshaling request bodyMap: ";
        match (recorded.and_then(|text| text.split_once(decoder)), &refusal) {
            (Some((before, _)), Some(text)) => {
                assert!(text.starts_with(&format!("{before}{decoder}")), "{name}: {text}");
            }
            _ => assert_eq!(refusal.as_deref(), recorded, "{name}"),
        }
        compared += 1;
    }
    assert!(compared > 40, "only {compared} cases were compared");
}
