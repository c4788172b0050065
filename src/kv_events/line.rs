use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::counters::Counters;
use super::feed::Feed;
use super::message::Numbered;
use super::sequence::{Sequence, Verdict};
use crate::clock::Timestamp;
use crate::kv_index::{Holder, KvIndex};

/// How a publisher's stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamState {
    /// Not connected, and trying.
    Connecting,
    /// Taking in what went by before.
    Replaying,
    /// Connected; what the publisher says is taken in as it comes.
    Live,
}

impl StreamState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Replaying => "replaying",
            Self::Live => "live",
        }
    }
}

/// What others may know of one publisher's stream, at any time and without waiting for it.
#[derive(Debug)]
pub struct StreamStatus {
    pub counters: Arc<Counters>,
    state: AtomicU8,
    /// Number of the last batch, plus one; 0: there was none.
    last: AtomicU64,
    /// When the last message came, in nanoseconds of our clock, plus one; 0: none came.
    heard: AtomicU64,
    /// When the engine says it made the last batch: the bits of seconds since 1970.
    made: AtomicU64,
    /// The topic of the last message whose topic the filter leaves out.
    other_topic: Mutex<Option<String>>,
    /// What went wrong with the connection last.
    problem: Mutex<Option<String>>,
}

impl StreamStatus {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            state: AtomicU8::new(StreamState::Connecting as u8),
            last: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            made: AtomicU64::new(0),
            other_topic: Mutex::default(),
            problem: Mutex::default(),
        }
    }

    pub fn state(&self) -> StreamState {
        match self.state.load(Ordering::Relaxed) {
            state if state == StreamState::Live as u8 => StreamState::Live,
            state if state == StreamState::Replaying as u8 => StreamState::Replaying,
            _ => StreamState::Connecting,
        }
    }

    /// For whoever keeps the stream going.
    pub fn set_state(&self, state: StreamState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Number of the last batch taken in.
    pub fn last_number(&self) -> Option<u64> {
        self.last.load(Ordering::Relaxed).checked_sub(1)
    }

    /// When the last message came.
    pub fn last_heard(&self) -> Option<Timestamp> {
        self.heard.load(Ordering::Relaxed).checked_sub(1).map(Timestamp::from_nanos)
    }

    /// When the engine says it made the last batch, in seconds since 1970 on its clock.
    pub fn last_made(&self) -> Option<f64> {
        let bits = self.made.load(Ordering::Relaxed);
        (bits > 0).then(|| f64::from_bits(bits))
    }

    /// A topic that was seen and that the filter leaves out.
    pub fn other_topic(&self) -> Option<String> {
        self.other_topic.lock().clone()
    }

    /// What went wrong with the connection last; none while it is well.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// A message came; its topic should begin with `topic_filter`.
    pub(super) fn note(&self, batch: &Numbered, topic_filter: &str, now: Timestamp) {
        self.heard.store(now.as_nanos().saturating_add(1), Ordering::Relaxed);
        if !batch.topic.starts_with(topic_filter.as_bytes()) {
            self.counters.topics_unmatched.add(1);
            let shown = &batch.topic[..batch.topic.len().min(200)];
            *self.other_topic.lock() = Some(String::from_utf8_lossy(shown).into_owned());
        }
    }

    /// For whoever keeps the stream going; none while it is well.
    pub fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock() = problem;
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken in, or needed not be.
    Done,
    /// It was not: batches before it are missing, from this number on.
    Missing { from: u64 },
}

/// One publisher's stream without its sockets: puts batches in order, notices what is missing and
/// restarts, and hands the rest to the [`Feed`].
#[derive(Debug)]
pub struct Line {
    feed: Feed,
    sequence: Sequence,
    /// Hash of the last payload: tells the publisher that sent it from one started anew since.
    last_payload: u64,
    topic_filter: Arc<str>,
    status: Arc<StreamStatus>,
}

impl Line {
    /// A stream into `holder`. Topics are expected to begin with `topic_filter`.
    pub fn new(index: Arc<KvIndex>, holder: Arc<Holder>, topic_filter: Arc<str>) -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            feed: Feed::new(index, holder, counters.clone()),
            sequence: Sequence::default(),
            last_payload: 0,
            topic_filter,
            status: Arc::new(StreamStatus::new(counters)),
        }
    }

    pub fn status(&self) -> &Arc<StreamStatus> {
        &self.status
    }

    pub fn holder(&self) -> &Arc<Holder> {
        self.feed.holder()
    }

    /// Number of the last batch taken in.
    pub fn last(&self) -> Option<u64> {
        self.sequence.last()
    }

    /// True where `batch` is the very batch taken in last.
    pub fn is_last(&self, batch: &Numbered) -> bool {
        self.sequence.last() == Some(batch.number) && xxh3_64(&batch.payload) == self.last_payload
    }

    /// A batch came live.
    pub fn live(&mut self, batch: &Numbered, now: Timestamp) -> Taken {
        self.status.note(batch, &self.topic_filter, now);
        match self.sequence.live(batch.number) {
            Verdict::Restart => {
                self.feed.counters().restarts.add(1);
                self.reset();
                self.live_again(batch)
            }
            verdict => self.decide(verdict, batch),
        }
    }

    fn live_again(&mut self, batch: &Numbered) -> Taken {
        let verdict = self.sequence.live(batch.number);
        self.decide(verdict, batch)
    }

    /// A batch that came live during a replay is taken in behind it.
    pub fn set_aside(&mut self, batch: &Numbered) -> Taken {
        let verdict = self.sequence.set_aside(batch.number);
        self.decide(verdict, batch)
    }

    fn decide(&mut self, verdict: Verdict, batch: &Numbered) -> Taken {
        match verdict {
            Verdict::Next => self.apply(batch),
            Verdict::Old | Verdict::Restart => {}
            Verdict::Gap { from } => {
                self.feed.counters().gaps.add(1);
                return Taken::Missing { from };
            }
        }
        Taken::Done
    }

    /// What is missing before `batch` cannot be had: what was known is dropped, for removals may
    /// be among it, and the stream goes on from here.
    pub fn go_on_from(&mut self, batch: &Numbered) {
        if self.sequence.last().is_some() {
            self.reset();
        }
        self.apply(batch);
    }

    /// A batch came by replay.
    pub fn replayed(&mut self, batch: &Numbered) {
        match self.sequence.set_aside(batch.number) {
            Verdict::Next => self.apply(batch),
            Verdict::Old | Verdict::Restart => return,
            // The publisher keeps no more than so many batches.
            Verdict::Gap { .. } => self.go_on_from(batch),
        }
        self.feed.counters().batches_replayed.add(1);
    }

    /// What is known can no longer be relied upon; whatever comes next is the first.
    pub fn reset(&mut self) {
        self.feed.reset();
        self.sequence.reset();
        self.status.last.store(0, Ordering::Relaxed);
    }

    fn apply(&mut self, batch: &Numbered) {
        if let Some(made_at) = self.feed.apply(&batch.payload) {
            self.status.made.store(made_at.to_bits(), Ordering::Relaxed);
        }
        self.last_payload = xxh3_64(&batch.payload);
        self.sequence.advance(batch.number);
        self.status.last.store(batch.number.saturating_add(1), Ordering::Relaxed);
    }
}
