//! The best a prefix cache could do.

use std::collections::HashSet;

use super::Trace;

/// What one cache without limits, that sees every request in order, would find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ceiling {
    pub input_tokens: u64,
    /// Tokens in full blocks that an earlier request (or its answer) left behind.
    pub cached_tokens: u64,
}

impl Ceiling {
    /// Share of prompt tokens found, 0 to 1.
    pub fn hit_rate(&self) -> f64 {
        if self.input_tokens == 0 {
            return 0.0;
        }
        self.cached_tokens as f64 / self.input_tokens as f64
    }
}

impl Trace {
    /// The ceiling for engines with blocks of `block_size` tokens. Requests are taken as they
    /// were recorded: by session start, then by the begin and the pauses of each session.
    pub fn ceiling(&self, block_size: u32) -> Ceiling {
        let mut order = Vec::with_capacity(self.len());
        for session in &self.sessions {
            let mut at = session.starts;
            for request in &session.requests {
                at = (at + request.think).max(session.starts + request.earliest);
                order.push((at, request));
            }
        }
        order.sort_by_key(|(at, _)| *at);
        let mut seen = HashSet::new();
        let mut ceiling = Ceiling::default();
        for (_, request) in order {
            let answer = request.answer.map(|stream| (stream, request.output_tokens));
            let hashes = request.prompt.block_hashes(answer, block_size);
            let tokens = request.prompt.tokens();
            let own = (tokens / u64::from(block_size.max(1))) as usize;
            let hits = hashes[..own].iter().take_while(|h| seen.contains(*h)).count();
            ceiling.input_tokens += tokens;
            ceiling.cached_tokens += hits as u64 * u64::from(block_size);
            seen.extend(hashes);
        }
        ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Session, Span, Spans, TraceRequest};
    use super::*;

    fn request(think: u64, parts: &[(u64, u32)], answer: Option<u64>) -> TraceRequest {
        let spans = parts.iter().map(|&(stream, tokens)| Span { stream, start: 0, tokens });
        TraceRequest {
            think,
            prompt: Spans::from_iter(spans),
            output_tokens: 16,
            answer,
            ..Default::default()
        }
    }

    fn ceiling(sessions: Vec<Session>) -> (u64, u64) {
        let c = Trace { sessions, ..Trace::default() }.ceiling(16);
        (c.input_tokens, c.cached_tokens)
    }

    #[test]
    fn counts_full_blocks_seen_before() {
        // The second request shares 40 tokens: two full blocks of 16.
        let sessions = vec![
            Session { starts: 0, requests: vec![request(0, &[(1, 40), (2, 40)], None)] },
            Session { starts: 1, requests: vec![request(0, &[(1, 40), (3, 40)], None)] },
        ];
        assert_eq!(ceiling(sessions), (160, 32));
    }

    #[test]
    fn answers_are_cached_too() {
        let sessions = vec![Session {
            starts: 0,
            requests: vec![request(0, &[(1, 32)], Some(7)), request(5, &[(1, 32), (7, 16)], None)],
        }];
        assert_eq!(ceiling(sessions), (80, 48));
    }

    #[test]
    fn order_is_that_of_the_recording() {
        // The long prompt comes second in its session, after the short one of the other.
        let sessions = vec![
            Session {
                starts: 0,
                requests: vec![request(0, &[(9, 16)], None), request(100, &[(1, 64)], None)],
            },
            Session { starts: 50, requests: vec![request(0, &[(1, 32)], None)] },
        ];
        assert_eq!(ceiling(sessions), (112, 32));
    }

    #[test]
    fn an_empty_trace_has_no_hits() {
        assert_eq!(Trace::default().ceiling(16).hit_rate(), 0.0);
    }
}
