use super::*;
use crate::api::Api;

const MESSAGE: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

#[test]
fn fields_that_scheduling_reads() {
    let body =
        format!(r#"{{"model":"m","max_tokens":5,"stream":true,"cache_salt":"s",{MESSAGE}}}"#);
    let parsed = parse(MESSAGES, &body);
    assert_eq!(parsed.api, Api::Messages);
    assert_eq!(parsed.model.as_deref(), Some("m"));
    assert_eq!(parsed.max_output_tokens, Some(5));
    assert_eq!(parsed.cache_salt, "s");
    assert!(parsed.stream && parsed.model_required && !parsed.skip_response);
}

#[test]
fn bodies_that_are_accepted() {
    for body in [
        format!("{{{MESSAGE}}}"),
        format!(r#"{{"system":null,"tools":null,{MESSAGE}}}"#),
        format!(r#"{{"tools":[],"max_tokens":"5","stream":"yes",{MESSAGE}}}"#),
        r#"{"messages":[{}]}"#.to_owned(),
        r#"{"messages":[{"content":[{"type":"document","source":{"type":"x","file_id":"f"}}]}]}"#
            .to_owned(),
        // Blocks in blocks in blocks: what nests is not followed.
        r#"{"messages":[{"content":[{"content":[{"content":[{"content":5}]}]}]}]}"#.to_owned(),
    ] {
        parse(MESSAGES, &body);
    }
}

#[test]
fn bodies_that_are_refused() {
    const EMPTY: &str = "invalid messages request: must have at least one message";
    const CONTENT: &str = "error parsing messages request: anthropic content: must be a string or \
                           an array of content blocks";
    const TYPE: &str = "error parsing messages request: a field has the wrong type";
    for (body, text) in [
        ("{}", EMPTY),
        ("null", EMPTY),
        (r#"{"messages":[]}"#, EMPTY),
        (r#"{"messages":null}"#, EMPTY),
        (r#"{"messages":[{"content":5}]}"#, CONTENT),
        (r#"{"messages":[{"content":{}}]}"#, CONTENT),
        (r#"{"messages":[{"content":["x"]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"text":5}]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"type":"tool_result","content":5}]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"source":"x"}]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"content":[{"content":5}]}]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"content":[{"content":["x"]}]}]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"content":[{"id":5}]}]}]}"#, CONTENT),
        (r#"{"messages":[{"content":[{"content":[{"tool_use_id":5}]}]}]}"#, CONTENT),
        (r#"{"messages":[{}],"system":5}"#, CONTENT),
        (r#"{"messages":5}"#, TYPE),
        (r#"{"messages":["x"]}"#, TYPE),
        (r#"{"messages":[{"role":5}]}"#, TYPE),
        (r#"{"messages":[{}],"tools":{}}"#, TYPE),
        (r#"{"messages":[{}],"tools":[{"name":5}]}"#, TYPE),
        (r#"{"messages":[{}],"tools":[{"strict":"yes"}]}"#, TYPE),
        (r#"{"messages":[{}],"cache_salt":5}"#, TYPE),
    ] {
        assert_eq!(refusal(MESSAGES, body), text, "{body}");
    }
}
