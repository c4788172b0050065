use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::buckets;
use super::queue_series::QueueSeries;
use crate::exchange::ChunkIntervals;
use crate::scheduling::Histogram;

/// What is known of a request when its exchange has ended well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Completion {
    /// From the request's headers to the end of the response, seconds.
    pub duration_s: f64,
    /// From the request's headers to the first byte of the response body, seconds.
    pub ttft_s: Option<f64>,
    /// The response was a stream of events.
    pub streaming: bool,
    pub response_bytes: u64,
    /// Tokens as the worker's usage tells; 0 where it told nothing.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: Option<u64>,
}

/// The metrics of all requests that share their labels. Requests fetch it once
/// ([`super::Metrics::request_series`]) and touch nothing but atomics from then on; every name
/// under which a number is published is made from it when somebody scrapes.
#[derive(Debug)]
pub struct RequestSeries {
    pub(super) model: String,
    pub(super) target: String,
    pub(super) fairness: String,
    pub(super) priority: String,

    pub(super) accepted: AtomicU64,
    /// By error code; there are few codes and errors are not the common case.
    pub(super) errors: Mutex<Vec<(&'static str, u64)>>,
    pub(super) running: AtomicI64,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) input_tokens: Histogram,
    pub(super) output_tokens: Histogram,
    pub(super) cached_tokens: Histogram,
    pub(super) per_output_token: Histogram,
    pub(super) first_token: Histogram,
    pub(super) first_token_streaming: Histogram,
    pub(super) streaming_per_token: Histogram,
    pub(super) inter_token: Histogram,
    /// Made when a request is first asked for at a queue.
    queue: OnceLock<Box<QueueSeries>>,
}

impl RequestSeries {
    pub(super) fn new(model: &str, target: &str, fairness: &str, priority: i32) -> Arc<Self> {
        Arc::new(Self {
            model: model.to_owned(),
            target: target.to_owned(),
            fairness: fairness.to_owned(),
            priority: priority.to_string(),
            accepted: AtomicU64::new(0),
            errors: Mutex::default(),
            running: AtomicI64::new(0),
            duration: Histogram::seconds(buckets::GENERAL),
            request_bytes: Histogram::whole(buckets::REQUEST_BYTES),
            response_bytes: Histogram::whole(buckets::RESPONSE_BYTES),
            input_tokens: Histogram::whole(buckets::INPUT_TOKENS),
            output_tokens: Histogram::whole(buckets::OUTPUT_TOKENS),
            cached_tokens: Histogram::whole(buckets::INPUT_TOKENS),
            per_output_token: Histogram::seconds(buckets::PER_TOKEN),
            first_token: Histogram::seconds(buckets::FIRST_TOKEN),
            first_token_streaming: Histogram::seconds(buckets::FIRST_TOKEN),
            streaming_per_token: Histogram::seconds(buckets::STREAMING_PER_TOKEN),
            inter_token: Histogram::seconds(buckets::INTER_TOKEN),
            queue: OnceLock::new(),
        })
    }

    /// What became of these requests at the queue.
    pub(super) fn queue(&self) -> &QueueSeries {
        self.queue.get_or_init(Box::default)
    }

    /// The same where any was asked for.
    pub(super) fn queue_if_any(&self) -> Option<&QueueSeries> {
        self.queue.get().map(|queue| &**queue)
    }

    /// A request was scheduled; its body had this many bytes.
    pub fn accepted(&self, body_bytes: usize) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.request_bytes.observe(body_bytes as f64);
    }

    /// A request ended in an error. `code` is one of ours ([`crate::error::Code::as_str`], or
    /// `ModelServerError`), never a text from outside: it becomes a label.
    pub fn error(&self, code: &'static str) {
        let mut errors = self.errors.lock();
        match errors.iter_mut().find(|(c, _)| *c == code) {
            Some((_, count)) => *count += 1,
            None => errors.push((code, 1)),
        }
    }

    /// The request's body was forwarded.
    pub fn running_inc(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// The exchange of a forwarded request ended, however it did.
    pub fn running_dec(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// The first byte of the response body came, `seconds` after the request's headers.
    pub fn first_token(&self, seconds: f64, streaming: bool) {
        let histogram = if streaming { &self.first_token_streaming } else { &self.first_token };
        histogram.observe(seconds);
    }

    /// The times between the chunks of a streamed response.
    pub fn chunk_intervals(&self, intervals: &ChunkIntervals) {
        if !intervals.is_empty() {
            self.inter_token.add(intervals.counts(), intervals.sum().as_secs_f64());
        }
    }

    /// The tokens of a request, as far as the endpoint told: of one that ended well or was cut.
    /// What it did not tell is not observed.
    pub fn tokens(&self, c: &Completion) {
        if c.prompt_tokens > 0 {
            self.input_tokens.observe(c.prompt_tokens as f64);
        }
        if let Some(cached) = c.cached_tokens {
            self.cached_tokens.observe(cached as f64);
        }
        if c.completion_tokens > 0 {
            self.output_tokens.observe(c.completion_tokens as f64);
        }
    }

    /// The exchange ended, and its answer was not seen.
    pub fn went_unseen(&self, duration_s: f64) {
        self.duration.observe(duration_s);
    }

    /// The exchange ended well.
    pub fn completed(&self, c: &Completion) {
        self.duration.observe(c.duration_s);
        self.response_bytes.observe(c.response_bytes as f64);
        self.tokens(c);
        if c.completion_tokens > 0 {
            let tokens = c.completion_tokens as f64;
            self.per_output_token.observe(c.duration_s / tokens);
            if let (true, true, Some(ttft)) = (c.streaming, c.completion_tokens > 1, c.ttft_s) {
                self.streaming_per_token.observe((c.duration_s - ttft) / (tokens - 1.0));
            }
        }
    }
}
