//! Asking streams for their counts, and taking the event out again.

use bytes::Bytes;
use proptest::prelude::*;

use crate::api::{Api, UsageRemover, with_usage};

fn asked(api: Api, body: &str) -> Option<String> {
    let asked = with_usage(api, &Bytes::copy_from_slice(body.as_bytes()), 200)?;
    Some(String::from_utf8(asked.to_vec()).expect("UTF-8"))
}

#[test]
fn a_stream_is_asked_where_the_client_did_not() {
    for (body, expected) in [
        (r#"{"stream":true}"#, Some(r#"{"stream_options":{"include_usage":true},"stream":true}"#)),
        (
            " { \"stream\" : true }\n",
            Some(" {\"stream_options\":{\"include_usage\":true}, \"stream\" : true }\n"),
        ),
        (
            r#"{"stream":true,"stream_options":null}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{ }}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true }}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{"x":{"include_usage":true}}}"#,
            Some(
                r#"{"stream":true,"stream_options":{"include_usage":true,"x":{"include_usage":true}}}"#,
            ),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage": false}}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage": true}}"#),
        ),
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, None),
        (r#"{"stream":true,"stream_options":[1]}"#, None),
        ("no JSON", None),
        ("", None),
    ] {
        assert_eq!(asked(Api::Chat, body).as_deref(), expected, "{body}");
        assert_eq!(asked(Api::Completions, body).as_deref(), expected, "{body}");
        assert_eq!(asked(Api::Messages, body), None, "{body}");
    }
    let large = format!(r#"{{"stream":true,"prompt":"{}"}}"#, "x".repeat(170));
    assert_eq!(asked(Api::Chat, &large), None, "beyond the limit of a body");
}

/// `stream` given in pieces cut at `cuts`, without its counts.
fn removed(stream: &[u8], cuts: &[usize]) -> String {
    let mut remover = UsageRemover::default();
    let mut out = Vec::new();
    let mut from = 0;
    for &cut in cuts {
        out.extend_from_slice(&remover.remove(Bytes::copy_from_slice(&stream[from..cut]), false));
        from = cut;
    }
    out.extend_from_slice(&remover.remove(Bytes::copy_from_slice(&stream[from..]), true));
    String::from_utf8(out).expect("UTF-8")
}

const TEXT: &str = "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":null}\n\n";
const COUNTS: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn the_event_with_the_counts_is_taken_out() {
    for (stream, expected) in [
        ([TEXT, COUNTS, DONE].concat(), [TEXT, DONE].concat()),
        ([TEXT, COUNTS.trim_end()].concat(), TEXT.to_owned()),
        ([COUNTS.replace('\n', "\r\n"), DONE.to_owned()].concat(), DONE.to_owned()),
        (COUNTS.replace(":{", " : {").replace("[]", "[ ]"), String::new()),
        // Counts beside text stay with it, and so does what is no event.
        (TEXT.replace("null", "{}"), TEXT.replace("null", "{}")),
        ("{\"choices\":[],\"usage\":{}}".into(), "{\"choices\":[],\"usage\":{}}".into()),
        ("data: \"usage\"\n\n: \"usage\"\n".into(), "data: \"usage\"\n\n: \"usage\"\n".into()),
        (String::new(), String::new()),
    ] {
        assert_eq!(removed(stream.as_bytes(), &[]), expected, "{stream}");
    }
}

#[test]
fn whole_events_pass_uncopied_and_long_lines_as_they_come() {
    let mut remover = UsageRemover::default();
    let piece = Bytes::from_static(DONE.as_bytes());
    let out = remover.remove(piece.clone(), false);
    assert_eq!((out.as_ptr(), out.len()), (piece.as_ptr(), piece.len()));
    let long = vec![b'x'; (1 << 20) + 1];
    let out = remover.remove(long.clone().into(), false);
    assert_eq!(out.len(), long.len(), "nothing of it waits");
    assert_eq!(remover.remove(Bytes::from_static(b"y\n"), false), "y\n");
    assert_eq!(remover.remove(Bytes::from_static(COUNTS.as_bytes()), false), "");
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        parts in prop::collection::vec(
            prop_oneof![Just(TEXT), Just(COUNTS), Just(DONE), Just("\n"), Just("data: x"), Just("\r\n")],
            0..10,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream = parts.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(removed(stream.as_bytes(), &cuts), removed(stream.as_bytes(), &[]));
    }
}
