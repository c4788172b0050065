use xxhash_rust::xxh64::xxh64;

use super::*;
use crate::api::{EstimateRules, ImageRules, MediaItem, PerPicture, VideoRules};

/// Name, path, body and the prompts.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const TEXT_CASES: &[Case] = &[
    ("completions", COMPLETIONS, r#"{"prompt":"once upon"}"#, &["once upon"]),
    ("escapes", COMPLETIONS, r#"{"prompt":"a\n\u00e9\ud83d\ude00\ud800"}"#, &["a\né😀\u{fffd}"]),
    ("the last of two", COMPLETIONS, r#"{"prompt":"a","prompt":"b"}"#, &["b"]),
    ("one of a list", COMPLETIONS, r#"{"prompt":["a"]}"#, &["a"]),
    ("a list", COMPLETIONS, r#"{"prompt":["a","b\n","c"]}"#, &["a", "b\n", "c"]),
    ("a list of nothing", COMPLETIONS, r#"{"prompt":[""]}"#, &[]),
    (
        "chat: role and content, in order",
        CHAT,
        r#"{"messages":[{"content":"be brief","role":"system"},{"role":"user","content":"hi"}]}"#,
        &["systembe briefuserhi"],
    ),
    (
        "chat: text blocks are text",
        CHAT,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},
            {"text":"b","type":"text"},{"type":"hologram","text":"c"},{"text":"d"}]}]}"#,
        &["userab"],
    ),
    (
        "chat: tool calls do not count",
        CHAT,
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]},{"role":"tool",
            "tool_call_id":"1","content":"42"}]}"#,
        &["assistanttool42"],
    ),
    (
        "chat: tools come first, wherever they stand",
        CHAT,
        r#"{"messages":[{"role":"user","content":"x"}],
            "tools":[{"type":"function","function":{"name":"f","description":"a<b"}}]}"#,
        &[r#"[{"function":{"description":"a\u003cb","name":"f"},"type":"function"}]userx"#],
    ),
    ("chat: no tools", CHAT, r#"{"tools":[ ],"messages":[{"role":"user"}]}"#, &["user"]),
    ("chat: nothing to say", CHAT, r#"{"messages":[{}]}"#, &[]),
    (
        "embeddings: as the reference's structure",
        EMBEDDINGS,
        r#"{"input":"a\u003c\n"}"#,
        &[r#"{"Raw":"a\u003c\n","Strings":null,"TokenIDs":null}"#],
    ),
    (
        "embeddings: several",
        EMBEDDINGS,
        r#"{"input":["a","b"]}"#,
        &[r#"{"Raw":"","Strings":["a","b"],"TokenIDs":null}"#],
    ),
    ("responses", RESPONSES, r#"{"input":"hi"}"#, &[r#"[{"input":"hi"}]"#]),
    (
        "responses: all parts, in order",
        RESPONSES,
        r#"{"input":[{"role":"user","content":"hi"}],"tools":[],"instructions":"be brief"}"#,
        &[
            r#"[{"instructions":"be brief"},{"tools":[]},{"input":[{"content":"hi","role":"user"}]}]"#,
        ],
    ),
    (
        "responses: absent parts",
        RESPONSES,
        r#"{"instructions":null,"tools":null,"input":{"b":1,"a":2.0}}"#,
        &[r#"[{"input":{"a":2,"b":1}}]"#],
    ),
    (
        "responses: a template in place of an input",
        RESPONSES,
        r#"{"prompt":{"variables":{},"id":"p"},"instructions":"be brief"}"#,
        &[r#"[{"instructions":"be brief"},{"prompt":{"id":"p","variables":{}}}]"#],
    ),
    (
        "responses: a template beside an input does not count, as in the reference",
        RESPONSES,
        r#"{"prompt":{"id":"p"},"input":"hi"}"#,
        &[r#"[{"input":"hi"}]"#],
    ),
    ("responses: what goes on elsewhere", RESPONSES, r#"{"previous_response_id":"r"}"#, &[]),
    (
        "chat: the role after the content, and twice",
        CHAT,
        r#"{"messages":[{"content":"x","role":"user"},{"role":"a","content":"y","role":"tool"},
            {"content":"dropped","role":"user","content":[{"type":"text","text":"z"}]},{"role":"end"}]}"#,
        &["userxtoolyuserzend"],
    ),
    (
        "conversations: type, role and content",
        CONVERSATIONS,
        r#"{"items":[{"content":[{"type":"text","text":"x"}],"role":"user","type":"message",
            "id":"7"},{"content":""},{"type":"","content":null},null]}"#,
        &[
            r#"[{"type":"message","role":"user","content":[{"text":"x","type":"text"}]},{"content":""},{},{}]"#,
        ],
    ),
    ("images", IMAGES, r#"{"prompt":"a cat","n":1,"size":"1x1"}"#, &[]),
    (
        "messages: system, role and content",
        MESSAGES,
        r#"{"messages":[{"role":"user","content":"hi"}],"system":"be brief"}"#,
        &["be briefuserhi"],
    ),
    (
        "messages: system blocks, without the billing header",
        MESSAGES,
        r#"{"system":[{"type":"text","text":"x-anthropic-billing-header: cc=1"},
            {"type":"text","text":"a"},{"type":"image","text":"b"}],
            "messages":[{"role":"user","content":"hi"}]}"#,
        &["auserhi"],
    ),
    (
        "messages: tools as the reference reads them",
        MESSAGES,
        r#"{"tools":[{"input_schema":{ "type":"object","a":[1, 2] },"name":"f","x":1,
            "description":"d","strict":true,"cache_control":{}},{"name":"g"}],
            "messages":[{"role":"user","content":"hi"}]}"#,
        &[concat!(
            r#"[{"name":"f","description":"d","input_schema":{"a":[1,2],"type":"object"},"#,
            r#""strict":true},{"name":"g"}]userhi"#
        )],
    ),
    (
        "messages: blocks",
        MESSAGES,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
                {"type":"tool_use","id":"t1","name":"f","input":{ "b": "<1 2>", "a": 1.0 }}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"42"},
                {"type":"tool_result","content":[{"type":"text","text":"x"},
                    {"type":"text","text":"y"}]},{"type":"tool_result"},{"type":"other"}]}]}"#,
        &["useraassistanthmt1f{\"b\":\"<1 2>\",\"a\":1.0}user42x\ny"],
    ),
];

#[test]
fn what_counts_of_a_body() {
    for (name, path, body, expected) in TEXT_CASES {
        assert_eq!(texts(&parse(path, body).prompt), *expected, "{name}");
    }
}

#[test]
fn spelling_does_not_matter() {
    for (name, path, body, _) in TEXT_CASES {
        let value: serde_json::Value = match serde_json::from_str(body) {
            Ok(value) => value,
            // A lone surrogate: serde_json itself refuses it.
            Err(_) => continue,
        };
        let pretty = serde_json::to_string_pretty(&value).expect("JSON");
        assert_eq!(
            texts(&parse(path, &pretty).prompt),
            texts(&parse(path, &value.to_string()).prompt),
            "{name}"
        );
    }
}

#[test]
fn token_ids_are_the_prompt() {
    for (path, body) in [
        (COMPLETIONS, r#"{"prompt":[1,2,4294967295]}"#),
        (COMPLETIONS, r#"{"prompt":[1.0,2,4294967295]}"#),
        (EMBEDDINGS, r#"{"input":[1,2,4294967295]}"#),
        (VLLM, r#"{"token_ids":[1,2,4294967295]}"#),
        (VLLM, r#"{"token_ids":[1.0,2e0,4294967295]}"#),
        (SGLANG, r#"{"input_ids":[1,2,4294967295]}"#),
    ] {
        assert_eq!(token_ids(path, body), [1, 2, u32::MAX], "{path} {body}");
    }
}

#[test]
fn lists_of_token_ids_are_prompts_of_their_own() {
    for (path, field) in [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input")] {
        let parsed = parse(path, &format!(r#"{{"{field}":[[1,2, 3],[4294967295],[]]}}"#));
        let prompts: Vec<Vec<Piece<'_>>> = parsed.prompt.prompts().map(Iterator::collect).collect();
        let ids: &[u8] = &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
        let expected = [vec![Piece::Bytes(ids)], vec![Piece::Bytes(&[0xff; 4])], vec![]];
        assert_eq!(prompts, expected, "{path}");
        assert_eq!(parsed.prompt.token_count(), 4);
    }
}

#[test]
fn text_is_not_copied_where_it_stands_unescaped() {
    let body = Bytes::from_static(
        br#"{"messages":[{"role":"user","content":"plain text, long enough to be worth its place"},
            {"role":"user","content":"short"},{"role":"user","content":"a\nb"},
            {"content":"what stands in the body before its role, and is long","role":"user"}]}"#,
    );
    let parsers = Parsers::new(vec![ParserKind::OpenAi]);
    let parsed = parsers.parse(CHAT, body.clone(), true, &VideoHints::default()).expect("a chat");
    let inside: Vec<bool> = parsed
        .prompt
        .prompts()
        .flatten()
        .map(|piece| match piece {
            Piece::Bytes(bytes) => body.as_ptr_range().contains(&bytes.as_ptr()),
            Piece::Fill { .. } => panic!("media"),
        })
        .collect();
    // Roles and short texts lie side by side; a text in the body is a place.
    assert_eq!(inside, [false, true, false, false, true]);
}

#[test]
fn media_stand_for_tokens() {
    let fill = |content: &str, count: u32| {
        format!("<{:08x} x {count}>", xxh64(content.as_bytes(), 0) as u32)
    };
    // 16 x 128 pixels; of a PNG, the first bytes.
    let png = "iVBORw0KGgoAAAANSUhEUgAAABAAAACA";
    let data_url = format!("data:image/png;base64,{png}");
    let jpeg_url = format!("data:image/jpeg;base64,{png}");
    let chat = |block: &str| format!(r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#);
    for (path, block, expected) in [
        (
            CHAT,
            r#"{"type":"image_url","image_url":{"url":"http://x/y"}}"#.to_owned(),
            fill("http://x/y", 225),
        ),
        (
            CHAT,
            format!(r#"{{"type":"image_url","image_url":{{"url":"{data_url}","detail":"low"}}}}"#),
            fill(&data_url, 2),
        ),
        (CHAT, r#"{"type":"video_url","video_url":{"url":"v"}}"#.to_owned(), fill("v", 4500)),
        (
            CHAT,
            r#"{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}"#.to_owned(),
            fill("UklGRg==wav", 3),
        ),
        (CHAT, r#"{"type":"audio_url","audio_url":{"url":"a"}}"#.to_owned(), String::new()),
        (
            MESSAGES,
            r#"{"type":"image","source":{"type":"url","url":"u"}}"#.to_owned(),
            fill("u", 225),
        ),
        (
            MESSAGES,
            format!(r#"{{"type":"image","source":{{"type":"base64","data":"{png}"}}}}"#),
            fill(png, 2),
        ),
        (
            MESSAGES,
            format!(
                r#"{{"type":"tool_result","content":[{{"type":"image","source":{{"type":"base64",
                    "data":"{png}"}}}},{{"type":"text","text":"t"}}]}}"#
            ),
            format!("t{}", fill(&jpeg_url, 2)),
        ),
    ] {
        let parsed = parse(path, &chat(&block));
        assert!(parsed.prompt.has_media(), "{block}");
        assert_eq!(texts(&parsed.prompt), [format!("user{expected}")], "{block}");
    }
    assert!(!parse(CHAT, &chat(r#"{"type":"text","text":"x"}"#)).prompt.has_media());
    let without = parse(MESSAGES, &chat(r#"{"type":"image","source":{"type":"base64"}}"#));
    assert_eq!(texts(&without.prompt), ["user"]);
}

#[test]
fn media_items_are_told_apart_and_counted_by_the_rules_given() {
    let item = |content: &str, tokens| MediaItem { hash: xxh64(content.as_bytes(), 0), tokens };
    let rules = EstimateRules {
        image: ImageRules {
            per_picture: PerPicture::Static { tokens: 256 },
            ..ImageRules::default()
        },
        video: VideoRules { max_tokens: 1000, ..VideoRules::default() },
    };
    let kinds = || vec![ParserKind::OpenAi, ParserKind::Anthropic, ParserKind::VllmHttp];
    let hints = VideoHints { duration_s: Some(1.0), ..VideoHints::default() };
    let chat = r#"{"messages":[{"content":[
        {"type":"image_url","image_url":{"url":"http://x/y"}},
        {"type":"video_url","video_url":{"url":"v"}},
        {"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}},
        {"type":"image_url","image_url":{"url":"http://x/y"}}]},
        {"content":[{"type":"image_url","image_url":{"url":"z"}}],"content":"none"}]}"#;
    let messages = r#"{"messages":[{"role":"user","content":[
        {"type":"tool_result","content":[{"type":"image","source":{"url":"a"}}]},
        {"type":"image","source":{"type":"base64","data":"b"}}]}]}"#;
    let vllm = r#"{"token_ids":[1,2,3],"features":{
        "mm_placeholders":{"audio":[{"offset":9,"length":4}],"image":[{"length":2},{"length":5}]},
        "mm_hashes":{"image":["i",null,"k"],"audio":["s"]}}}"#;
    for (path, body, default, configured) in [
        (
            CHAT,
            chat,
            vec![
                item("http://x/y", 225),
                item("v", 450),
                item("UklGRg==wav", 3),
                item("http://x/y", 225),
            ],
            vec![
                item("http://x/y", 256),
                item("v", 450),
                item("UklGRg==wav", 3),
                item("http://x/y", 256),
            ],
        ),
        (
            MESSAGES,
            messages,
            vec![item("a", 225), item("b", 225)],
            vec![item("a", 256), item("b", 256)],
        ),
        (
            VLLM,
            vllm,
            vec![item("i", 2), item("k", 0), item("s", 4)],
            vec![item("i", 2), item("k", 0), item("s", 4)],
        ),
        (COMPLETIONS, r#"{"prompt":"x"}"#, vec![], vec![]),
    ] {
        let read = |parsers: Parsers, want_prompt| {
            let body = Bytes::from_static(body.as_bytes());
            parsers.parse(path, body, want_prompt, &hints).expect(path).media
        };
        assert_eq!(read(Parsers::new(kinds()), true), default, "{path}");
        assert_eq!(read(Parsers::new(kinds()).with_estimate(rules), true), configured, "{path}");
        assert_eq!(read(Parsers::new(kinds()), false), [], "{path}");
    }
}
