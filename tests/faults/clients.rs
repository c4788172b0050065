//! Clients that ask all the time, and what became of what they asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

/// How long a client waits for a whole answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// One request as its client saw it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub sent_at: Instant,
    pub lost: bool,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
    turn: AtomicUsize,
}

/// Eight clients, each sending one request after the other.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// With several `urls`, requests take turns between them.
    pub fn start(urls: Vec<String>) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let urls: Arc<[String]> = urls.into();
        let client = |n| tokio::spawn(ask_on(n, shared.clone(), http.clone(), urls.clone()));
        Self { tasks: (0..8).map(client).collect(), shared }
    }

    /// Requests that have ended so far.
    pub fn ended(&self) -> usize {
        self.shared.seen.lock().len()
    }

    /// Those sent from `from` on and before `to` that have ended: how many, and how many of them
    /// failed.
    pub fn between(&self, from: Instant, to: Instant) -> (usize, usize) {
        let seen = self.shared.seen.lock();
        let sent = seen.iter().filter(|s| s.sent_at >= from && s.sent_at < to);
        sent.fold((0, 0), |(all, lost), s| (all + 1, lost + usize::from(s.lost)))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn ask_on(n: usize, shared: Arc<Shared>, http: reqwest::Client, urls: Arc<[String]>) {
    // A beginning that this client's prompts share, as a chat's do.
    let beginning = format!("Client {n}. ").repeat(40);
    let mut number = 0;
    while !shared.stop.load(Relaxed) {
        number += 1;
        let prompt = format!("{beginning} Request {number}: tell me something about it.");
        let body = json!({"model": "m", "prompt": prompt, "max_tokens": 2, "stream": true});
        let turn = shared.turn.fetch_add(1, Relaxed);
        let url = format!("{}/v1/completions", urls[turn % urls.len()]);
        let sent_at = Instant::now();
        let lost = !is_answered(&http, &url, &body).await;
        shared.seen.lock().push(Seen { sent_at, lost });
    }
}

async fn is_answered(http: &reqwest::Client, url: &str, body: &serde_json::Value) -> bool {
    let Ok(response) = http.post(url).json(body).send().await else { return false };
    let is_ok = response.status() == 200;
    response.text().await.is_ok_and(|text| is_ok && text.contains("[DONE]"))
}
