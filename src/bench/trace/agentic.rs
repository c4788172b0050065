//! Traces of coding agents (callanjfox/kv-cache-tester, `traces/`): one conversation a line.
//!
//! A request's `hash_ids` name the blocks of its prompt within the conversation. The tools and
//! the system prompt at the head (`tool_tokens` + `system_tokens`) are common to all
//! conversations. Work that a conversation hands to a sub-agent nests under `requests` and runs
//! beside it. The file does not say when conversations began, so they begin one after another
//! at a mean distance of the caller's choice.

use std::collections::HashMap;

use serde::Deserialize;

use super::distribution::Random;
use super::lines::{Lines, TraceError, tokens};
use super::spans::{Span, combine, own, shared};
use super::{Session, Spans, Trace, TraceRequest};
use crate::sim::Nanos;

#[derive(Deserialize)]
struct Conversation {
    #[serde(default = "default_block")]
    block_size: u32,
    #[serde(default)]
    tool_tokens: u64,
    #[serde(default)]
    system_tokens: u64,
    requests: Vec<Row>,
}

fn default_block() -> u32 {
    64
}

#[derive(Deserialize)]
struct Row {
    /// Seconds since the conversation began.
    #[serde(default)]
    t: f64,
    #[serde(rename = "in", default)]
    input: u64,
    #[serde(rename = "out", default)]
    output: u64,
    #[serde(default)]
    hash_ids: Vec<u32>,
    /// Seconds.
    #[serde(default)]
    think_time: f64,
    /// A sub-agent's.
    #[serde(default)]
    requests: Vec<Row>,
}

/// The stream of the head that conversations share.
const HEAD: u64 = 0x6865_6164;

/// Reads a trace whose conversations begin `interval` apart on average.
///
/// # Errors
/// Where a line is not a conversation.
pub(super) fn read(mut lines: Lines, interval: Nanos, seed: u64) -> Result<Trace, TraceError> {
    let mut trace = Trace { name: lines.name(), ..Default::default() };
    let mut random = Random::new(seed);
    let mut starts = 0;
    let mut number = 0;
    lines.each_json(|conversation: Conversation| {
        number += 1;
        let mut reader = Reader::new(&conversation, number)?;
        reader.session(starts, &conversation.requests, &mut trace.sessions)?;
        starts += random.exponential(interval as f64) as Nanos;
        Ok(())
    })?;
    Ok(trace.sorted())
}

/// Turns one conversation's rows into sessions.
struct Reader {
    block: u32,
    stream: u64,
    /// Block ids of the shared head, and where in the head each stands.
    head: HashMap<u32, u32>,
    requests: u64,
}

impl Reader {
    fn new(conversation: &Conversation, number: u64) -> Result<Self, String> {
        let block = conversation.block_size;
        if block == 0 {
            return Err("block_size must be at least 1".into());
        }
        let head = conversation.tool_tokens.saturating_add(conversation.system_tokens);
        let blocks = tokens(head)? / block;
        let first = conversation.requests.first().map_or(&[][..], |r| &r.hash_ids[..]);
        Ok(Self {
            block,
            stream: own(number),
            head: first.iter().copied().zip(0..blocks).collect(),
            requests: 0,
        })
    }

    fn session(
        &mut self,
        starts: Nanos,
        rows: &[Row],
        sessions: &mut Vec<Session>,
    ) -> Result<(), String> {
        let mut session = Session { starts, requests: Vec::new() };
        for row in rows {
            if !row.requests.is_empty() {
                self.session(starts.saturating_add(seconds(row.t)?), &row.requests, sessions)?;
            }
            if row.input == 0 {
                continue;
            }
            self.requests += 1;
            session.requests.push(TraceRequest {
                think: seconds(row.think_time)?,
                prompt: self.prompt(&row.hash_ids, tokens(row.input)?)?,
                output_tokens: tokens(row.output)?.max(1),
                ..Default::default()
            });
        }
        if !session.requests.is_empty() {
            sessions.push(session);
        }
        Ok(())
    }

    fn prompt(&self, ids: &[u32], length: u32) -> Result<Spans, String> {
        let mut spans = Spans::default();
        let mut left = length;
        for &id in ids {
            let tokens = left.min(self.block);
            let (stream, index) = match self.head.get(&id) {
                Some(&place) => (shared(HEAD), place),
                None => (self.stream, id),
            };
            let start = index
                .checked_mul(self.block)
                .ok_or_else(|| format!("hash id {id} is out of range"))?;
            spans.push(Span { stream, start, tokens });
            left -= tokens;
        }
        spans.push_stream(own(combine(self.stream, self.requests)), left);
        Ok(spans)
    }
}

fn seconds(s: f64) -> Result<Nanos, String> {
    // A clock that stepped back between two rows is no reason to refuse the trace.
    let s = s.max(0.0);
    if s > 1e9 || s.is_nan() {
        return Err(format!("{s} seconds are out of range"));
    }
    Ok((s * 1e9) as Nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = concat!(
        r#"{"id":"a","block_size":64,"tool_tokens":100,"system_tokens":60,"requests":["#,
        r#"{"t":0,"in":300,"out":10,"hash_ids":[1,2,3,4,5],"think_time":0},"#,
        r#"{"t":9,"in":400,"out":20,"hash_ids":[1,2,3,4,6,7,8],"think_time":2.5},"#,
        r#"{"t":12,"type":"subagent","requests":[{"t":0,"in":128,"out":5,"hash_ids":[9,10]}]}]}"#,
        "\n",
        r#"{"id":"b","block_size":64,"tool_tokens":100,"system_tokens":60,"requests":["#,
        r#"{"t":0,"in":200,"out":10,"hash_ids":[1,2,3,4]}]}"#,
    );

    #[test]
    fn conversations_share_their_heads_and_nothing_else() {
        let trace = read(Lines::from_text(TWO), 0, 1).unwrap();
        let lens: Vec<Vec<u64>> = trace
            .sessions
            .iter()
            .map(|s| s.requests.iter().map(|r| r.prompt.tokens()).collect())
            .collect();
        assert_eq!(lens, [vec![300, 400], vec![200], vec![128]]);
        assert_eq!(trace.sessions[0].requests[1].think, 2_500_000_000);
        assert_eq!(trace.sessions[2].starts, 12_000_000_000, "the sub-agent starts later");
        // Two of 64-token head blocks; the second request finds blocks 1 to 4 of the first.
        assert_eq!(trace.ceiling(64).cached_tokens, 2 * 64 + 4 * 64);
    }

    #[test]
    fn conversations_begin_apart() {
        let trace = read(Lines::from_text(TWO), 1_000_000_000, 1).unwrap();
        let again = read(Lines::from_text(TWO), 1_000_000_000, 1).unwrap();
        assert_eq!(trace, again, "the seed decides");
        assert!(trace.last_start() > 0);
    }

    #[test]
    fn what_is_no_conversation_is_an_error_with_its_line() {
        for bad in [
            r#"{"id":"a"}"#,
            r#"{"block_size":0,"requests":[]}"#,
            r#"{"requests":[{"in":1,"out":1,"hash_ids":[4294967295]}]}"#,
            r#"{"requests":[{"in":1,"out":1,"think_time":1e300}]}"#,
        ] {
            let e = read(Lines::from_bytes(bad.as_bytes().to_vec()), 0, 1).unwrap_err();
            assert!(e.to_string().starts_with("test:1: "), "{e}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(text in "\\PC{0,200}") {
            let _ = read(Lines::from_bytes(text.into_bytes()), 1000, 0);
        }
    }
}
