use super::*;
use crate::api::Api;

#[test]
fn vllm_fields() {
    let body = r#"{"model":"m","token_ids":[1,2],"cache_salt":"s","stream":true,
        "sampling_params":{"temperature":0,"max_tokens":7}}"#;
    let parsed = parse(VLLM, body);
    assert_eq!(parsed.api, Api::VllmGenerate);
    assert_eq!(parsed.model.as_deref(), Some("m"));
    assert_eq!((parsed.max_output_tokens, parsed.cache_salt.as_str()), (Some(7), "s"));
    assert!(parsed.stream && parsed.model_required && !parsed.prompt.has_media());

    for (features, has_media) in [
        (
            r#"{"mm_hashes":{"image":["h"]},"mm_placeholders":{"image":[{"offset":0,"length":1}]}}"#,
            true,
        ),
        (r#"{"mm_hashes":{}}"#, false),
        (r#"{"mm_hashes":null,"mm_placeholders":{"image":null,"audio":[null,{}]}}"#, false),
        ("{}", false),
        ("null", false),
    ] {
        let body = format!(r#"{{"token_ids":[1],"features":{features},"sampling_params":[]}}"#);
        let parsed = parse(VLLM, &body);
        assert_eq!(parsed.prompt.has_media(), has_media, "{features}");
        assert_eq!(parsed.prompt.token_count(), 1, "{features}");
        assert_eq!(parsed.max_output_tokens, None);
    }
}

#[test]
fn vllm_bodies_that_are_refused() {
    const EMPTY: &str = "invalid generate request: must have non-empty token_ids field";
    const TYPE: &str = "invalid generate request: a field has the wrong type";
    for (body, text) in [
        ("{}", EMPTY),
        ("null", EMPTY),
        (r#"{"token_ids":[]}"#, EMPTY),
        (r#"{"token_ids":null}"#, EMPTY),
        (r#"{"token_ids":[1,-1]}"#, "invalid generate request: token_ids[1]: invalid value -1"),
        (r#"{"token_ids":[1.5]}"#, "invalid generate request: token_ids[0]: invalid value 1.5"),
        (
            r#"{"token_ids":[4294967296]}"#,
            "invalid generate request: token_ids[0]: invalid value 4.294967296e+09",
        ),
        (r#"{"token_ids":["1"]}"#, TYPE),
        // A wrong type outranks a wrong value before it.
        (r#"{"token_ids":[1.5,"1"]}"#, TYPE),
        (r#"{"token_ids":[[1]]}"#, TYPE),
        (r#"{"token_ids":[true]}"#, TYPE),
        (r#"{"token_ids":"1"}"#, TYPE),
        (r#"{"token_ids":[1],"cache_salt":1}"#, TYPE),
        (r#"{"token_ids":[1],"features":[]}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_hashes":[]}}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_hashes":{"image":"h"}}}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_hashes":{"image":[1]}}}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_placeholders":{"image":{}}}}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_placeholders":{"image":[1]}}}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_placeholders":{"image":[{"offset":"1"}]}}}"#, TYPE),
        (r#"{"token_ids":[1],"features":{"mm_placeholders":{"image":[{"length":1.0}]}}}"#, TYPE),
        // What the JSON reader says comes without a word before it.
        ("", "unexpected end of JSON input"),
        ("[1]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ] {
        assert_eq!(refusal(VLLM, body), text, "{body}");
    }
}

#[test]
fn sglang_fields() {
    let body = r#"{"model":"m","input_ids":[1,2],"extra_key":"s","stream":true,
        "sampling_params":{"max_new_tokens":7,"max_tokens":9}}"#;
    let parsed = parse(SGLANG, body);
    assert_eq!(parsed.api, Api::SglangGenerate);
    assert_eq!((parsed.max_output_tokens, parsed.cache_salt.as_str()), (Some(7), "s"));
    assert!(parsed.stream);
    // The body names no model, whatever it holds, and is forwarded as it came.
    assert!(!parsed.model_required && parsed.model.is_none());
    let body = Bytes::from_static(body.as_bytes());
    assert_eq!(parsed.with_model(&body, "other", 0), Ok(body));

    let parsed = parse(SGLANG, r#"{"input_ids":[1],"extra_key":null,"sampling_params":null}"#);
    assert_eq!((parsed.max_output_tokens, parsed.cache_salt.as_str()), (None, ""));
}

#[test]
fn sglang_bodies_that_are_refused() {
    const ABSENT: &str = "invalid generate request: input_ids must be provided";
    const IDS: &str = "invalid generate request: input_ids must be an array of uint32 integers";
    const KEY: &str = "unsupported generate request: extra_key must be a string";
    for (body, text) in [
        ("{}", ABSENT),
        (r#"{"text":"hi"}"#, ABSENT),
        (r#"{"input_ids":null,"extra_key":5}"#, ABSENT),
        (r#"{"input_ids":[]}"#, "invalid generate request: input_ids cannot be empty"),
        (r#"{"input_ids":[[1],[2]]}"#, IDS),
        (r#"{"input_ids":[1.0]}"#, IDS),
        (r#"{"input_ids":[-1]}"#, IDS),
        (r#"{"input_ids":[4294967296]}"#, IDS),
        (r#"{"input_ids":"1"}"#, IDS),
        (r#"{"input_ids":5}"#, IDS),
        (r#"{"input_ids":[1],"stream":1}"#, "invalid generate request: a field has the wrong type"),
        (r#"{"input_ids":[1],"extra_key":["a"]}"#, KEY),
        // The key is looked at before the ids.
        (r#"{"input_ids":"1","extra_key":5}"#, KEY),
    ] {
        assert_eq!(refusal(SGLANG, body), text, "{body}");
    }
}
