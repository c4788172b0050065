//! Workloads to replay: recorded traces of several formats, and a generator.
//!
//! Whatever the source, a trace is sessions of requests, and a prompt is [`Spans`]: which tokens
//! it is made of, without the tokens themselves. Two prompts share a prefix exactly where their
//! spans begin alike, so the same trace drives a router (which hashes tokens) and a simulated
//! engine (which names blocks) consistently.

mod agentic;
mod azure;
mod ceiling;
mod distribution;
mod generator;
mod lines;
mod mooncake;
mod recording;
mod source;
mod spans;
mod text;

pub use ceiling::Ceiling;
pub use generator::{Generator, Kind};
pub use lines::TraceError;
pub use source::{Format, TraceArgs, open};
pub use spans::{Span, Spans};

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::sim::Nanos;

/// A workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub name: String,
    /// By start.
    pub sessions: Vec<Session>,
    /// Where it comes from, if that is a recording.
    pub origin: Option<Box<Origin>>,
}

/// What a recording tells beside its requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// Endpoints that requests were sent to, or could have been.
    pub endpoints: usize,
    /// Marks of the configurations that decided.
    pub configs: Vec<String>,
    /// What its reader should know.
    pub notes: Vec<String>,
}

/// Requests of one client, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// When the session begins, from the begin of the trace.
    pub starts: Nanos,
    pub requests: Vec<TraceRequest>,
}

/// One request. It starts when its session is at `earliest` and `think` has passed since the
/// answer to the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceRequest {
    /// From the begin of the session.
    pub earliest: Nanos,
    /// From the end of the answer before.
    pub think: Nanos,
    pub prompt: Spans,
    /// At least 1.
    pub output_tokens: u32,
    /// What the answer is made of, where later prompts quote it.
    pub answer: Option<u64>,
    /// Who asks, where the trace tells: who shares fairly with others.
    pub tenant: Option<Arc<str>>,
    /// Larger is more important.
    pub priority: i32,
    /// What became of it when it was recorded.
    pub recorded: Option<Recorded>,
}

/// How a recorded request went.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// To the first byte of a stream.
    pub ttft: Option<Nanos>,
    pub duration: Nanos,
    pub prompt_tokens: u32,
    /// As the endpoint reported, and as it was believed.
    pub cached_tokens: Option<u32>,
    pub predicted_tokens: Option<u32>,
    pub endpoint: Option<u32>,
    /// To its end, and without an error.
    pub is_answered: bool,
}

impl Trace {
    /// Requests in all.
    pub fn len(&self) -> usize {
        self.sessions.iter().map(|s| s.requests.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.iter().all(|s| s.requests.is_empty())
    }

    /// Prompt tokens in all.
    pub fn input_tokens(&self) -> u64 {
        self.requests().map(|r| r.prompt.tokens()).sum()
    }

    /// Answer tokens in all.
    pub fn output_tokens(&self) -> u64 {
        self.requests().map(|r| u64::from(r.output_tokens)).sum()
    }

    /// When the last session begins.
    pub fn last_start(&self) -> Nanos {
        self.sessions.iter().map(|s| s.starts).max().unwrap_or(0)
    }

    /// The priorities there are, each once, from the highest on.
    pub fn priorities(&self) -> Vec<i32> {
        let all: BTreeSet<i32> = self.requests().map(|r| r.priority).collect();
        all.into_iter().rev().collect()
    }

    pub fn requests(&self) -> impl Iterator<Item = &TraceRequest> {
        self.sessions.iter().flat_map(|s| &s.requests)
    }

    /// The trace `times` times in a row. Every pass has prompts of its own, but for what all
    /// sessions share by nature (system prompts, tools, documents).
    #[must_use]
    pub fn repeated(self, times: u32) -> Self {
        if times <= 1 || self.sessions.is_empty() {
            return self;
        }
        let gap = self.last_start() / self.sessions.len() as u64;
        let pass_length = self.last_start() + gap;
        let mut sessions = Vec::with_capacity(self.sessions.len() * times as usize);
        for pass in 0..times {
            sessions.extend(self.sessions.iter().map(|session| Session {
                starts: session.starts + u64::from(pass) * pass_length,
                requests: session.requests.iter().map(|r| r.salted(pass)).collect(),
            }));
        }
        Self { sessions, ..self }
    }

    /// The sessions that begin from `from` on and before `until`, as if `from` were the beginning.
    #[must_use]
    pub fn within(mut self, from: Nanos, until: Nanos) -> Self {
        self.sessions.retain(|session| (from..until).contains(&session.starts));
        self.sessions.iter_mut().for_each(|session| session.starts -= from);
        self
    }

    /// The first `requests` requests in the order of their sessions.
    #[must_use]
    pub fn truncated(mut self, requests: usize) -> Self {
        let mut left = requests;
        for session in &mut self.sessions {
            session.requests.truncate(left);
            left -= session.requests.len();
        }
        self.sessions.retain(|s| !s.requests.is_empty());
        self
    }

    /// Sorts sessions by start; readers call it last.
    fn sorted(mut self) -> Self {
        self.sessions.sort_by_key(|s| s.starts);
        self
    }
}

impl TraceRequest {
    fn salted(&self, pass: u32) -> Self {
        Self {
            prompt: self.prompt.salted(pass),
            answer: self.answer.map(|stream| spans::salted(stream, pass)),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let request = |stream: u64, tokens: u32| TraceRequest {
            prompt: Spans::from_iter([
                Span { stream: spans::shared(1), start: 0, tokens: 32 },
                Span { stream, start: 0, tokens },
            ]),
            output_tokens: 5,
            ..Default::default()
        };
        Trace {
            name: "t".into(),
            sessions: vec![
                Session { starts: 0, requests: vec![request(2, 16), request(2, 48)] },
                Session { starts: 100, requests: vec![request(3, 16)] },
            ],
            origin: None,
        }
    }

    #[test]
    fn a_window_of_a_trace_begins_with_it() {
        let starts = |from, until| -> Vec<u64> {
            trace().within(from, until).sessions.iter().map(|s| s.starts).collect()
        };
        assert_eq!(
            (starts(0, 100), starts(50, 101), starts(0, 101)),
            (vec![0], vec![50], vec![0, 100])
        );
    }

    #[test]
    fn a_repeated_trace_shares_only_what_is_shared_by_nature() {
        let one = trace();
        let two = trace().repeated(2);
        assert_eq!((two.len(), two.input_tokens()), (2 * one.len(), 2 * one.input_tokens()));
        assert!(two.sessions.windows(2).all(|w| w[0].starts <= w[1].starts));
        assert!(two.last_start() > one.last_start());
        let (first, again) =
            (two.sessions[0].requests[1].clone(), two.sessions[2].requests[1].clone());
        let hashes = |r: &TraceRequest| r.prompt.block_hashes(None, 16);
        let common = hashes(&first).iter().zip(&hashes(&again)).take_while(|(a, b)| a == b).count();
        assert_eq!((hashes(&first).len(), common), (5, 2));
        assert_eq!(first, one.sessions[0].requests[1], "the first pass is the trace itself");
    }

    #[test]
    fn truncation_keeps_whole_requests_and_no_empty_session() {
        for (keep, sessions) in [(0, vec![]), (1, vec![1]), (2, vec![2]), (3, vec![2, 1])] {
            let lens: Vec<usize> =
                trace().truncated(keep).sessions.iter().map(|s| s.requests.len()).collect();
            assert_eq!(lens, sessions);
        }
    }
}
