//! A running `epp` whose configuration's file is edited.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::{Gateway, Replies, response_body, response_headers};
use crate::support::eventually;
use crate::support::program::Program;

pub const CHAT: &str = "/v1/chat/completions";

pub struct Rig {
    pub program: Program,
    pub gateway: Gateway,
}

/// Addresses nobody listens at: endpoints whose metrics cannot be read still serve.
pub fn endpoints() -> Vec<SocketAddr> {
    (29_161..29_164).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}

/// A configuration that picks by prefix, which counts `weight`; `more` are further plugins.
pub fn by_prefix(weight: u32, more: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: running-requests-size-scorer
- type: prefix-cache-scorer
{more}
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: running-requests-size-scorer
  - {{pluginRef: prefix-cache-scorer, weight: {weight}}}
"
    )
}

/// A request with a prompt of several blocks.
pub fn body(about: &str) -> Vec<u8> {
    let prompt = format!("{about}, again and again. ").repeat(60);
    format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#)
        .into_bytes()
}

impl Rig {
    pub async fn start(config: &str, arguments: &[&str]) -> Self {
        let program = Program::start(config, &endpoints(), arguments);
        let gateway = Gateway::connect(program.grpc_port).await;
        Self { program, gateway }
    }

    pub fn file(&self) -> &Path {
        &self.program.config_file
    }

    /// Puts another text into the file's place, as editors do.
    pub fn edit(&self, text: &str) {
        let beside: PathBuf = self.file().with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, self.file()).unwrap();
    }

    /// The lines of the log with this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let text = self.program.process.output();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["msg"].as_str().is_some_and(|m| m.starts_with(message))).collect()
    }

    /// The `n`th line with this message, from 1 on.
    pub async fn log(&self, message: &str, n: usize) -> Value {
        eventually(&format!("'{message}' {n}"), || async {
            self.logged(message).get(n - 1).cloned()
        })
        .await
    }

    /// Edits the file and waits until that is in force; what the log says changed.
    pub async fn reload(&self, text: &str) -> String {
        let before = self.logged("Configuration reloaded").len();
        self.edit(text);
        let line = self.log("Configuration reloaded", before + 1).await;
        line["changes"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.program.metrics_port);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await).unwrap()
    }

    /// The value of a metric without labels, or with those that stand behind its name.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// What is wrong with the configuration, as the page says it.
    pub async fn findings(&self) -> Vec<String> {
        // The page is made anew twice a second.
        let state = self.json("/debug/state").await;
        let all = state["findings"].as_array().unwrap().clone();
        let of_config = |f: &Value| f["what"].as_str().unwrap().contains("config.yaml");
        all.iter().filter(|f| of_config(f)).map(ToString::to_string).collect()
    }

    /// Requests in flight at all endpoints.
    pub async fn in_flight(&self) -> i64 {
        let all = self.json("/debug/endpoints").await;
        let of = |endpoint: &Value| endpoint["inFlight"]["requests"].as_i64().unwrap();
        all["endpoints"].as_array().unwrap().iter().map(of).sum()
    }

    /// Begins an exchange; its answer has not begun.
    pub async fn begin(&self, id: &str, body: &[u8]) -> Replies {
        self.gateway.post(CHAT, &[("x-request-id", id)], body).await
    }

    /// What is kept of the decision for a request.
    pub async fn decision(&self, id: &str) -> Value {
        eventually("the decision", || async {
            let all = self.json(&format!("/debug/decisions?request_id={id}")).await;
            all["decisions"].as_array().and_then(|all| all.first().cloned())
        })
        .await
    }

    /// The weight of the prefix in a decision.
    pub async fn weight(&self, id: &str) -> f64 {
        let decision = self.decision(id).await;
        let scores = decision["scores"].as_array().unwrap();
        let of_prefix = scores.iter().find(|s| s["plugin"] == "prefix-cache-scorer");
        of_prefix.unwrap_or_else(|| panic!("{decision}"))["weight"].as_f64().unwrap()
    }

    /// Blocks of the prompt that the endpoint was believed to hold.
    pub async fn cached(&self, id: &str) -> u64 {
        let decision = self.decision(id).await;
        decision["prefix"][0]["cachedBlocks"].as_u64().unwrap_or_else(|| panic!("{decision}"))
    }
}

const PIECE: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
const LAST: &[u8] = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":400,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";

/// The answer begins: its headers, as they leave, and a first piece.
pub async fn answer(replies: &mut Replies) -> Vec<(String, String)> {
    let head = [(":status", "200"), ("content-type", "text/event-stream")];
    replies.exchange.send(response_headers(&head, false)).await;
    let reply = replies.exchange.next().await.unwrap().expect("the headers leave");
    replies.exchange.send(response_body(PIECE, false)).await;
    replies.exchange.next().await.unwrap().expect("the first piece leaves");
    crate::support::client::set_headers(&reply)
}

/// The answer goes on to its end.
pub async fn finish(replies: &mut Replies) {
    replies.exchange.send(response_body(PIECE, false)).await;
    replies.exchange.next().await.unwrap().expect("another piece leaves");
    replies.exchange.send(response_body(LAST, true)).await;
    replies.exchange.next().await.unwrap().expect("the last piece leaves");
    replies.exchange.half_close();
    replies.exchange.rest().await;
}
