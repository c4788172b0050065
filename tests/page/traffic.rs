//! Simulated workers, and clients that talk to them by way of the picker.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::{Gateway, response_body, response_headers};
use crate::support::eventually;
use crate::support::process::Process;

/// A word that stands in every prompt and nowhere else.
pub const CANARY: &str = "xylophone-canary-7731";
/// Conversations, each with a beginning of its own.
const CONVERSATIONS: usize = 24;
const CLIENTS: usize = 6;

pub struct Workers {
    pub addresses: Vec<SocketAddr>,
    _process: Process,
}

impl Workers {
    pub fn start(count: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
        command.args(["--port=0", "--speed=20", "--workers", &count.to_string()]).args(arguments);
        let process = Process::start("epp-sim", &mut command);
        let mut addresses = Vec::new();
        process.wait_for("the workers' addresses", |line| {
            let address = line.split_once("http://")?.1.split([' ', '/']).next()?;
            addresses.extend(address.trim_end_matches([',', '.']).parse::<SocketAddr>().ok());
            (addresses.len() == count).then_some(())
        });
        Self { addresses, _process: process }
    }
}

/// Clients that ask all the time.
pub struct Traffic {
    gateway: Gateway,
    http: reqwest::Client,
    sent: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.clients.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Traffic {
    pub async fn start(port: u16, endpoints: usize) -> Self {
        let gateway = Gateway::connect(port).await;
        let http = reqwest::Client::new();
        let sent = Arc::new(AtomicUsize::new(0));
        let client = |client: usize| {
            let (gateway, http, sent) = (gateway.clone(), http.clone(), sent.clone());
            tokio::spawn(async move {
                for turn in client.. {
                    let conversation = (turn * 7) % (CONVERSATIONS.max(endpoints));
                    let id = format!("req-{client}-{turn}");
                    exchange(&gateway, &http, &id, "sim", conversation).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { gateway, http, sent, clients }
    }

    pub async fn send_one(&self, model: &str) {
        exchange(&self.gateway, &self.http, "req-odd", model, 0).await;
    }

    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    pub async fn has_sent(&self, count: usize) {
        eventually("requests to be sent", || async { (self.sent() >= count).then_some(()) }).await;
    }
}

/// One request as a gateway handles it.
async fn exchange(gateway: &Gateway, http: &reqwest::Client, id: &str, model: &str, about: usize) {
    let beginning = format!("{CANARY} conversation {about:04} ").repeat(60);
    let message = serde_json::json!({ "role": "user", "content": beginning + id });
    let body = serde_json::json!({ "model": model, "max_tokens": 8, "messages": [message] });
    let body = serde_json::to_vec(&body).unwrap();
    let path = "/v1/chat/completions";
    let fairness = if about.is_multiple_of(3) { "batch" } else { "chat" };
    let headers = [("x-request-id", id), ("x-gateway-inference-fairness-id", fairness)];
    let mut replies = gateway.post(path, &headers, &body).await;
    let url = format!("http://{}{path}", replies.destination());
    let answer = http.post(url).header("content-type", "application/json").body(body);
    let answer = answer.send().await.expect("the worker answers");
    let status = answer.status().as_u16().to_string();
    let text = answer.bytes().await.expect("a body");
    let exchange = &mut replies.exchange;
    let head = [(":status", status.as_str()), ("content-type", "application/json")];
    exchange.send(response_headers(&head, false)).await;
    exchange.send(response_body(&text, true)).await;
    exchange.half_close();
    exchange.rest().await;
}
