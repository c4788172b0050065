use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::line::{Line, StreamState, StreamStatus};
use super::trust::{Trouble, Trust};
use crate::clock::Timestamp;
use crate::endpoints::EndpointMemory;
use crate::kv_index::{Holder, KvIndex};

/// One endpoint as its events show it.
#[derive(Debug)]
pub struct Tracked {
    holder: Arc<Holder>,
    status: Arc<StreamStatus>,
    pub trust: Trust,
    line: Arc<Mutex<Line>>,
    /// The engine was heard to say what it holds, or was asked and had nothing to say.
    has_begun: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    is_troubled: AtomicBool,
}

impl EndpointMemory for Tracked {
    /// Another plugin's index has other keys: what is left is no use to it.
    fn forget(&self) -> bool {
        self.holder.clear();
        false
    }
}

impl Tracked {
    /// An endpoint of which nothing is known yet. Topics are expected to begin with
    /// `topic_filter`.
    pub fn new(index: &Arc<KvIndex>, topic_filter: Arc<str>) -> Self {
        let holder = Arc::new(index.holder());
        let line = Line::new(index.clone(), holder.clone(), topic_filter);
        Self {
            holder,
            status: line.status().clone(),
            trust: Trust::default(),
            line: Arc::new(Mutex::new(line)),
            has_begun: AtomicBool::new(false),
            trouble: Mutex::default(),
            is_troubled: AtomicBool::new(false),
        }
    }

    pub fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    pub fn status(&self) -> &Arc<StreamStatus> {
        &self.status
    }

    /// The stream, for whoever hears it.
    pub fn line(&self) -> &Arc<Mutex<Line>> {
        &self.line
    }

    /// True where what its events say is to be believed. Before it has said anything nothing is
    /// known, which is not the same as that it holds nothing.
    pub fn is_relied_upon(&self) -> bool {
        !self.is_troubled.load(Ordering::Relaxed) && self.holder.block_size().is_some()
    }

    pub fn trouble(&self) -> Option<Trouble> {
        *self.trouble.lock()
    }

    /// Looks whether it can still be relied upon. Returns the trouble before and now where that
    /// changed.
    pub fn look(&self, now: Timestamp) -> Option<(Option<Trouble>, Option<Trouble>)> {
        if self.status.state() == StreamState::Live {
            self.has_begun.store(true, Ordering::Relaxed);
        }
        let trouble = self.trust.trouble(&self.status, now);
        let before = std::mem::replace(&mut *self.trouble.lock(), trouble);
        self.is_troubled.store(trouble.is_some(), Ordering::Relaxed);
        (before != trouble).then_some((before, trouble))
    }

    /// Everything there is to say about it, for debug pages.
    pub fn debug_state(&self, now: Timestamp) -> Value {
        let counters = self.status.counters.all().into_iter().filter(|&(_, count)| count > 0);
        let trouble = self.trouble();
        let since = |at: Timestamp| now.since(at).as_secs_f64();
        json!({
            "stream": self.status.state().name(),
            "hasBeenLive": self.has_begun.load(Ordering::Relaxed),
            "reliedUpon": self.is_relied_upon(),
            "trouble": trouble.map(Trouble::name),
            "likelyCause": trouble.map(Trouble::likely_cause),
            "connectionProblem": self.status.problem(),
            "topicThatDoesNotFit": self.status.other_topic(),
            "lastBatch": self.status.last_number(),
            "secondsSinceLastMessage": self.status.last_heard().map(since),
            "blocks": self.holder.len(),
            "blockSize": self.holder.block_size(),
            "hits": self.trust.debug_state(),
            "counts": counters.map(|(name, n)| (name.to_owned(), n.into()))
                .collect::<serde_json::Map<String, Value>>(),
        })
    }
}
