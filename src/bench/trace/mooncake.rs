//! Mooncake's traces (kvcache-ai/Mooncake, `FAST25-release/traces`): one JSON object a line,
//! `timestamp` in milliseconds, lengths in tokens, and `hash_ids`, one id per block of 512 tokens
//! of the prompt. Equal ids mean equal prompts up to the end of that block.

use serde::Deserialize;

use super::lines::{Lines, TraceError, tokens};
use super::spans::{Span, combine, own};
use super::{Session, Spans, Trace, TraceRequest};

const BLOCK: u32 = 512;

/// The stream that block ids index.
const BLOCKS: u64 = 0x6d6f_6f6e;

#[derive(Deserialize)]
struct Row {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u32>,
}

/// # Errors
/// Where a line is not a request.
pub(super) fn read(mut lines: Lines) -> Result<Trace, TraceError> {
    let mut trace = Trace { name: lines.name(), ..Default::default() };
    lines.each_json(|row: Row| {
        let at = row.timestamp.checked_mul(1_000_000).ok_or("timestamp is out of range")?;
        let unique = own(combine(BLOCKS, trace.sessions.len() as u64));
        let request = TraceRequest {
            prompt: prompt(&row.hash_ids, tokens(row.input_length)?, unique)?,
            output_tokens: tokens(row.output_length)?.max(1),
            ..Default::default()
        };
        trace.sessions.push(Session { starts: at, requests: vec![request] });
        Ok(())
    })?;
    Ok(trace.sorted())
}

/// The prompt of `length` tokens with these block ids; what ids do not cover is `unique`.
fn prompt(ids: &[u32], length: u32, unique: u64) -> Result<Spans, String> {
    let mut spans = Spans::default();
    let mut left = length;
    for &id in ids {
        let start = id.checked_mul(BLOCK).ok_or_else(|| format!("hash id {id} is out of range"))?;
        let tokens = left.min(BLOCK);
        spans.push(Span { stream: own(BLOCKS), start, tokens });
        left -= tokens;
    }
    spans.push_stream(unique, left);
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_become_requests_at_their_time() {
        let trace = read(Lines::from_text(
            "{\"timestamp\": 2000, \"input_length\": 1000, \"output_length\": 7, \"hash_ids\": [0, 1]}\n\
             {\"timestamp\": 0, \"input_length\": 600, \"output_length\": 0, \"hash_ids\": [0, 5]}\n\
             {\"timestamp\": 3000, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [0]}\n",
        ))
        .unwrap();
        let starts: Vec<u64> = trace.sessions.iter().map(|s| s.starts / 1_000_000_000).collect();
        assert_eq!(starts, [0, 2, 3]);
        let lens: Vec<(u64, u32)> =
            trace.requests().map(|r| (r.prompt.tokens(), r.output_tokens)).collect();
        assert_eq!(lens, [(600, 1), (1000, 7), (1024, 1)]);
        // The first block is common to all; the third request's rest is nobody else's.
        assert_eq!(trace.ceiling(16).cached_tokens, 1024);
    }

    #[test]
    fn what_is_no_request_is_an_error_with_its_line() {
        for bad in [
            "{\"timestamp\": 0}",
            "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [4294967295]}",
            "{\"timestamp\": 0, \"input_length\": 99999999999, \"output_length\": 1, \"hash_ids\": []}",
            "{\"timestamp\": 18446744073709551615, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": []}",
        ] {
            let e = read(Lines::from_bytes(bad.as_bytes().to_vec())).unwrap_err();
            assert!(e.to_string().starts_with("test:1: "), "{e}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(text in "\\PC{0,200}") {
            let _ = read(Lines::from_bytes(text.into_bytes()));
        }

        #[test]
        fn prompts_have_their_length(ids in prop::collection::vec(0u32..1000, 0..8), len in 0u32..5000) {
            prop_assert_eq!(prompt(&ids, len, 1).unwrap().tokens(), u64::from(len));
        }
    }
}
