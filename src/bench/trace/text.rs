//! Traces with real prompt text (LMCache/lmcache-agent-trace and the like): one JSON object a
//! line, `timestamp` in microseconds, `input` and `output` text, `session_id`.
//!
//! A call starts when it was recorded, but not before the call before it in its session is
//! answered. Four bytes of text count as one token.

use std::collections::BTreeMap;

use serde::Deserialize;
use xxhash_rust::xxh64::xxh64;

use super::lines::{Lines, TraceError, tokens};
use super::spans::{Span, own};
use super::{Session, Spans, Trace, TraceRequest};
use crate::sim::Nanos;

const BYTES_PER_TOKEN: usize = 4;
/// Text is compared in pieces of this size, the block size of most engines.
const PIECE: usize = 16 * BYTES_PER_TOKEN;

#[derive(Deserialize)]
struct Row {
    timestamp: u64,
    input: String,
    output: String,
    /// A number or a text.
    session_id: serde_json::Value,
}

/// # Errors
/// Where a line is not a call.
pub(super) fn read(mut lines: Lines) -> Result<Trace, TraceError> {
    let name = lines.name();
    let mut calls: BTreeMap<String, Vec<(Nanos, TraceRequest)>> = BTreeMap::new();
    lines.each_json(|row: Row| {
        let at = row.timestamp.checked_mul(1000).ok_or("timestamp is out of range")?;
        let request = TraceRequest {
            prompt: spans(row.input.as_bytes())?,
            output_tokens: tokens(row.output.len().div_ceil(BYTES_PER_TOKEN) as u64)?.max(1),
            ..Default::default()
        };
        calls.entry(row.session_id.to_string()).or_default().push((at, request));
        Ok(())
    })?;
    let first = calls.values().flatten().map(|(at, _)| *at).min().unwrap_or(0);
    let sessions = calls.into_values().map(|calls| session(first, calls)).collect();
    Ok(Trace { name, sessions, origin: None }.sorted())
}

fn session(first: Nanos, mut calls: Vec<(Nanos, TraceRequest)>) -> Session {
    calls.sort_by_key(|(at, _)| *at);
    let begin = calls.first().map_or(first, |(at, _)| *at);
    let requests = calls
        .into_iter()
        .map(|(at, request)| TraceRequest { earliest: at - begin, ..request })
        .collect();
    Session { starts: begin - first, requests }
}

/// Equal text is an equal stream, whoever sends it.
fn spans(text: &[u8]) -> Result<Spans, String> {
    tokens(text.len() as u64)?;
    let pieces = text.chunks(PIECE).map(|piece| Span {
        stream: own(xxh64(piece, 0)),
        start: 0,
        tokens: piece.len().div_ceil(BYTES_PER_TOKEN) as u32,
    });
    Ok(pieces.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_keep_their_session_time_and_shared_text() {
        let head = "h".repeat(64).repeat(3);
        let row = |at: u64, session: i64, tail: &str| {
            format!(
                "{{\"timestamp\":{at},\"input\":\"{head}{tail}\",\"output\":\"abcde\",\
                 \"session_id\":{session}}}\n"
            )
        };
        let text = row(5_000_000, 2, "x") + &row(1_000_000, 1, "yy") + &row(2_500_000, 1, "zzzzz");
        let trace = read(Lines::from_bytes(text.into_bytes())).unwrap();
        let got: Vec<(u64, Vec<u64>)> = trace
            .sessions
            .iter()
            .map(|s| (s.starts, s.requests.iter().map(|r| r.earliest).collect()))
            .collect();
        assert_eq!(got, [(0, vec![0, 1_500_000_000]), (4_000_000_000, vec![0])]);
        assert_eq!(trace.requests().map(|r| r.output_tokens).collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(trace.ceiling(16).cached_tokens, 2 * 48);
    }

    #[test]
    fn what_is_no_call_is_an_error_with_its_line() {
        let e = read(Lines::from_text("{\"timestamp\":1}")).unwrap_err();
        assert!(e.to_string().starts_with("test:1: "), "{e}");
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(text in "\\PC{0,200}") {
            let _ = read(Lines::from_bytes(text.into_bytes()));
        }

        #[test]
        fn a_common_head_is_shared_in_whole_pieces(
            head in "[a-c]{0,300}", a in "[a-c]{0,90}", b in "[a-c]{0,90}",
        ) {
            let (a, b) = (head.clone() + &a, head.clone() + &b);
            let (sa, sb) = (spans(a.as_bytes()).unwrap(), spans(b.as_bytes()).unwrap());
            prop_assert_eq!(sa.tokens(), a.len().div_ceil(4) as u64);
            let (ha, hb) = (sa.block_hashes(None, 16), sb.block_hashes(None, 16));
            let common = ha.iter().zip(&hb).take_while(|(a, b)| a == b).count();
            prop_assert!(common >= head.len() / PIECE);
        }
    }
}
