use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::{BodyExt, Full};

use super::super::load::{Limit, Numbers};
use super::super::messages;
use super::super::workload::{Body, NONCE_DIGITS, Workload};
use crate::bench::engine_api::{Http, http};
use crate::bench::latency::Latencies;

/// What clients ask, and how.
pub(super) struct Requests {
    bodies: Vec<Body>,
    /// Bytes of a whole answer.
    answer_bytes: usize,
    streams: usize,
    timeout: Duration,
    numbers: Numbers,
}

impl Requests {
    pub(super) fn new(
        workload: &Workload,
        streams: usize,
        timeout: Duration,
        numbers: Numbers,
    ) -> Self {
        let (_, answer) = messages::answer(workload);
        Self {
            bodies: (0..workload.groups).map(|group| workload.body(group)).collect(),
            answer_bytes: answer.iter().map(String::len).sum(),
            streams,
            timeout,
            numbers,
        }
    }

    fn next(&self) -> Bytes {
        let number = self.numbers.next();
        let body = &self.bodies[(number % self.bodies.len() as u64) as usize];
        let mut bytes = body.bytes.clone();
        let digits = format!("{number:016x}");
        bytes[body.nonce_at..body.nonce_at + NONCE_DIGITS].copy_from_slice(digits.as_bytes());
        bytes.into()
    }
}

/// What clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// From the request to the first byte of the answer's body.
    pub(super) first_byte: Latencies,
    /// To the answer's end.
    pub(super) whole: Latencies,
    /// Requests that failed, by kind.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn merge(&mut self, other: &Self) {
        self.first_byte.merge(&other.first_byte);
        self.whole.merge(&other.whole);
        for (kind, n) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += n;
        }
    }

    pub(super) fn answered(&self) -> u64 {
        self.whole.count()
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Keeps so many requests under way until `limit`, and waits for them.
pub(super) async fn drive(address: &str, requests: &Requests, limit: Limit) -> Tally {
    let http = http();
    let url = format!("http://{address}/v1/chat/completions");
    let (tally, started, begin) = (RefCell::new(Tally::default()), RefCell::new(0), Instant::now());
    let goes_on = || match limit {
        Limit::For(time) => begin.elapsed() < time,
        Limit::Count(n) => {
            let mut started = started.borrow_mut();
            *started += 1;
            *started <= n
        }
    };
    let one = || async {
        while goes_on() {
            let asked = ask(&http, &url, requests);
            let result = tokio::time::timeout(requests.timeout, asked).await;
            let mut tally = tally.borrow_mut();
            match result.unwrap_or_else(|_| Err("timeout".to_owned())) {
                Ok((first, whole)) => {
                    tally.first_byte.record(first);
                    tally.whole.record(whole);
                }
                Err(kind) => *tally.errors.entry(kind).or_default() += 1,
            }
        }
    };
    let mut all: FuturesUnordered<_> = (0..requests.streams).map(|_| one()).collect();
    while all.next().await.is_some() {}
    drop(all);
    tally.into_inner()
}

/// The time to the first byte of the answer, and to its end.
async fn ask(http: &Http, url: &str, requests: &Requests) -> Result<(Duration, Duration), String> {
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .body(Full::new(requests.next()))
        .map_err(|e| e.to_string())?;
    let begin = Instant::now();
    let response = http.request(request).await.map_err(|e| format!("no answer: {e}"))?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("HTTP {}", response.status().as_u16()));
    }
    let mut body = response.into_body();
    let (mut first, mut received) = (None, 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
        let Ok(data) = frame.into_data() else { continue };
        if !data.is_empty() {
            first.get_or_insert_with(|| begin.elapsed());
            received += data.len();
        }
    }
    match first {
        Some(first) if received == requests.answer_bytes => Ok((first, begin.elapsed())),
        _ => Err("the answer came altered".to_owned()),
    }
}
