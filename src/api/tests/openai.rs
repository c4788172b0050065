use super::*;
use crate::api::Api;

#[test]
fn fields_that_scheduling_reads() {
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    for (path, body, model, stream, limit, salt) in [
        (CHAT, format!(r#"{{"model":"m",{messages}}}"#), Some("m"), false, None, ""),
        (CHAT, format!(r#"{{{messages},"stream":true,"model":"m"}}"#), Some("m"), true, None, ""),
        // The model is checked by the caller: nobody else knows whether a rewrite supplies one.
        (CHAT, format!(r#"{{{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"model":"",{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"model":3,{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"model":null,{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"model":"a","model":"b",{messages}}}"#), Some("b"), false, None, ""),
        (CHAT, format!(r#"{{"model":"a","model":7,{messages}}}"#), None, false, None, ""),
        (
            CHAT,
            format!(r#"{{"model":"\u0061\ud800",{messages}}}"#),
            Some("a\u{fffd}"),
            false,
            None,
            "",
        ),
        // Only the boolean is a stream.
        (CHAT, format!(r#"{{"stream":"true",{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"stream":1,{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"stream":true,"stream":false,{messages}}}"#), None, false, None, ""),
        // Limits: whole and not negative.
        (CHAT, format!(r#"{{"max_tokens":5,{messages}}}"#), None, false, Some(5), ""),
        (CHAT, format!(r#"{{"max_tokens":5.0,{messages}}}"#), None, false, Some(5), ""),
        (CHAT, format!(r#"{{"max_tokens":0,{messages}}}"#), None, false, Some(0), ""),
        (CHAT, format!(r#"{{"max_tokens":-1,{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"max_tokens":5.5,{messages}}}"#), None, false, None, ""),
        (CHAT, format!(r#"{{"max_tokens":"5",{messages}}}"#), None, false, None, ""),
        (
            CHAT,
            format!(r#"{{"max_tokens":5,"max_completion_tokens":7,{messages}}}"#),
            None,
            false,
            Some(7),
            "",
        ),
        (
            CHAT,
            format!(r#"{{"max_tokens":5,"max_completion_tokens":-7,{messages}}}"#),
            None,
            false,
            Some(5),
            "",
        ),
        (COMPLETIONS, r#"{"prompt":"p","max_tokens":9}"#.into(), None, false, Some(9), ""),
        (COMPLETIONS, r#"{"prompt":"p","max_output_tokens":9}"#.into(), None, false, None, ""),
        (RESPONSES, r#"{"input":"p","max_output_tokens":9}"#.into(), None, false, Some(9), ""),
        (EMBEDDINGS, r#"{"input":"p","max_tokens":9}"#.into(), None, false, None, ""),
        // Salt.
        (CHAT, format!(r#"{{"cache_salt":"s",{messages}}}"#), None, false, None, "s"),
        (CHAT, format!(r#"{{"cache_salt":null,{messages}}}"#), None, false, None, ""),
        (COMPLETIONS, r#"{"prompt":"p","cache_salt":"s\n"}"#.into(), None, false, None, "s\n"),
        (EMBEDDINGS, r#"{"input":"p","cache_salt":"s"}"#.into(), None, false, None, "s"),
        (RESPONSES, r#"{"input":"p","cache_salt":"s"}"#.into(), None, false, None, "s"),
        (CONVERSATIONS, r#"{"items":[{}],"cache_salt":"s"}"#.into(), None, false, None, "s"),
    ] {
        for want_prompt in [true, false] {
            let parsed = parse_with(path, body.as_bytes(), want_prompt).expect(&body);
            assert_eq!(parsed.model.as_deref(), model, "{body}");
            assert_eq!(parsed.stream, stream, "{body}");
            assert_eq!(parsed.max_output_tokens, limit, "{body}");
            assert_eq!(parsed.cache_salt, salt, "{body}");
            assert!(parsed.model_required && !parsed.skip_response, "{body}");
            assert!(want_prompt || parsed.prompt.is_empty(), "{body}");
        }
    }
}

#[test]
fn chat_bodies_that_are_accepted() {
    for body in [
        r#"{"messages":[{"role":"user","content":"x"}],"max_tokens":"5"}"#,
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":{}}]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"hologram","data":{"a":[1,2]}}]}]}"#,
        r#"{"messages":[{"role":"user","content":null}]}"#,
        r#"{"messages":[{"role":"user","content":"\ud800"}]}"#,
        r#"{"messages":[{"role":"user","content":[]}]}"#,
        r#"{"messages":[{}]}"#,
        r#"{"messages":[null]}"#,
        r#"{"messages":[{"role":null,"content":[{"type":null,"text":null,"image_url":null}]}]}"#,
        r#"{"messages":[{}],"tools":null,"documents":null,"chat_template":null,
            "chat_template_kwargs":null,"add_generation_prompt":null,"cache_salt":null}"#,
        r#"{"messages":[{}],"tools":[1],"documents":[{}],"chat_template":"t",
            "chat_template_kwargs":{"a":1},"add_generation_prompt":true}"#,
        r#" { "zeta": 1.0, "messages":[ {"content":"x<&>\u00e9","role":"user",
            "extra":[1e30, 12345678901234567890]} ] , "alpha":{"b":null}} "#,
    ] {
        assert_eq!(parse(CHAT, body).api, Api::Chat);
    }
}

#[test]
fn chat_bodies_that_are_refused() {
    const INVALID: &str = "invalid chat completions request: must have valid messages field";
    for body in [
        "{}",
        "null",
        r#"{"messages":[]}"#,
        r#"{"messages":null}"#,
        r#"{"messages":"x"}"#,
        r#"{"messages":{}}"#,
        r#"{"messages":["x"]}"#,
        r#"{"messages":[{"role":5}]}"#,
        r#"{"messages":[{"role":"user","content":5}]}"#,
        r#"{"messages":[{"role":"user","content":{}}]}"#,
        r#"{"messages":[{"role":"user","content":true}]}"#,
        r#"{"messages":[{"role":"user","content":["x"]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":1}]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"text":1}]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"image_url":"http://x"}]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"image_url":{"url":1}}]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"input_audio":{"data":1}}]}]}"#,
        r#"{"messages":[{"role":"user","content":[{"video_url":[]}]}]}"#,
        r#"{"messages":[{"role":"user","tool_calls":{}}]}"#,
        r#"{"messages":[{}],"tools":{}}"#,
        r#"{"messages":[{}],"tools":"x"}"#,
        r#"{"messages":[{}],"documents":{}}"#,
        r#"{"messages":[{}],"chat_template":1}"#,
        r#"{"messages":[{}],"chat_template_kwargs":[]}"#,
        r#"{"messages":[{}],"add_generation_prompt":"yes"}"#,
        r#"{"messages":[{}],"continue_final_message":1}"#,
        r#"{"messages":[{}],"return_assistant_tokens_mask":0}"#,
        r#"{"messages":[{}],"cache_salt":5}"#,
        // A wrong type counts even where a right one follows.
        r#"{"messages":5,"messages":[{}]}"#,
    ] {
        assert_eq!(refusal(CHAT, body), INVALID, "{body}");
    }
}

#[test]
fn other_bodies_that_are_refused() {
    const PROMPT: &str = "invalid completions request: must have prompt field";
    const EMBED: &str = "invalid embeddings request: must have input field";
    const RESPOND: &str = "invalid responses request: must have input field";
    const CONVERSE: &str = "invalid conversations request: must have items field";
    const IMAGE: &str = "invalid images generations request: must have prompt field";
    for (path, body, text) in [
        (COMPLETIONS, r#"{"model":"m"}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":""}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":null}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":5}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":{}}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[1.5]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[-1]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[4294967296]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":["a",1]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[1,"a"]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[[1,2],3]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[3,[1,2]]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[[1,2],["a"]]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[[1,[2]]]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[[-1]]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[1,null]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":[null]}"#, PROMPT),
        (COMPLETIONS, r#"{"prompt":"x","cache_salt":5}"#, PROMPT),
        (EMBEDDINGS, "{}", EMBED),
        (EMBEDDINGS, r#"{"input":""}"#, EMBED),
        (EMBEDDINGS, r#"{"input":[]}"#, EMBED),
        (EMBEDDINGS, r#"{"input":{}}"#, EMBED),
        (EMBEDDINGS, r#"{"input":[true]}"#, EMBED),
        (EMBEDDINGS, r#"{"input":"x","cache_salt":[]}"#, EMBED),
        (EMBEDDINGS, r#"{"input":[[1.5]]}"#, EMBED),
        (EMBEDDINGS, r#"{"input":["a",[1]]}"#, EMBED),
        (RESPONSES, r#"{"model":"m"}"#, RESPOND),
        (RESPONSES, r#"{"previous_response_id":null,"prompt":null}"#, RESPOND),
        (RESPONSES, r#"{"previous_response_id":7}"#, RESPOND),
        (RESPONSES, r#"{"prompt":"text"}"#, RESPOND),
        (RESPONSES, r#"{"input":null}"#, RESPOND),
        (RESPONSES, r#"{"input":"x","cache_salt":1}"#, RESPOND),
        (CONVERSATIONS, "{}", CONVERSE),
        (CONVERSATIONS, r#"{"items":[]}"#, CONVERSE),
        (CONVERSATIONS, r#"{"items":{}}"#, CONVERSE),
        (CONVERSATIONS, r#"{"items":["x"]}"#, CONVERSE),
        (CONVERSATIONS, r#"{"items":[{"type":1}]}"#, CONVERSE),
        (CONVERSATIONS, r#"{"items":[{"role":[]}]}"#, CONVERSE),
        (CONVERSATIONS, r#"{"items":[{}],"metadata":[]}"#, CONVERSE),
        (IMAGES, "{}", IMAGE),
        (IMAGES, r#"{"prompt":""}"#, IMAGE),
        (IMAGES, r#"{"prompt":["x"]}"#, IMAGE),
        (IMAGES, r#"{"prompt":"x","n":1.5}"#, IMAGE),
        (IMAGES, r#"{"prompt":"x","n":"1"}"#, IMAGE),
        (IMAGES, r#"{"prompt":"x","num_inference_steps":true}"#, IMAGE),
        (IMAGES, r#"{"prompt":"x","size":5}"#, IMAGE),
    ] {
        assert_eq!(refusal(path, body), text, "{path} {body}");
    }
}

#[test]
fn bodies_that_are_not_json_objects() {
    let prefixes = [
        (CHAT, "error unmarshaling request bodyMap: "),
        (COMPLETIONS, "error unmarshaling request bodyMap: "),
        (EMBEDDINGS, "error unmarshaling request bodyMap: "),
        (RESPONSES, "error unmarshaling request bodyMap: "),
        (CONVERSATIONS, "error unmarshaling request bodyMap: "),
        (IMAGES, "error unmarshaling request bodyMap: "),
        (VLLM, ""),
        (MESSAGES, "error unmarshaling request body: "),
        (SGLANG, "invalid generate request: "),
    ];
    let of_go = |kind| {
        format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    };
    for (path, prefix) in prefixes {
        for (body, text) in [
            ("", "unexpected end of JSON input".to_owned()),
            ("{", "unexpected end of JSON input".to_owned()),
            (r#"{"prompt":"x"#, "unexpected end of JSON input".to_owned()),
            ("[]", of_go("array")),
            ("\"x\"", of_go("string")),
            ("{} {}", "trailing characters at line 1 column 4".to_owned()),
            // A field of the wrong type does not hide that the rest is no JSON.
            (
                r#"{"messages":5,"prompt":5,oops}"#,
                "key must be a string at line 1 column 26".to_owned(),
            ),
            ("\u{1f}\u{8b}\u{8}", "expected value at line 1 column 1".to_owned()),
        ] {
            assert_eq!(refusal(path, body), format!("{prefix}{text}"), "{path} {body}");
        }
        let gzip = parse_with(path, b"\x1f\x8b\x08\0\0\0\0\0", true).map_err(|e| e.message);
        let unsupported = "content-encoding gzip is not supported";
        assert_eq!(gzip.unwrap_err(), format!("{prefix}{unsupported}"));
        let not_text = parse_with(path, b"{\"prompt\":\"\xff\"}", true).map_err(|e| e.message);
        assert_eq!(not_text.unwrap_err(), format!("{prefix}invalid UTF-8"));
    }
}

#[test]
fn more_prompts_than_one_request_may_hold_are_refused() {
    let list = |item: &str, n: usize| format!("[{}{item}]", format!("{item},").repeat(n - 1));
    for (path, field, api) in
        [(COMPLETIONS, "prompt", "completions"), (EMBEDDINGS, "input", "embeddings")]
    {
        for item in ["\"a\"", "[1]"] {
            let body = |n| format!(r#"{{"{field}":{}}}"#, list(item, n));
            parse(path, &body(16_384));
            let text = format!("invalid {api} request: more than 16384 prompts");
            assert_eq!(refusal(path, &body(16_385)), text);
        }
        // So many token ids are one prompt.
        parse(path, &format!(r#"{{"{field}":{}}}"#, list("1", 16_385)));
    }
}
