//! What the harness asks of engines and of its own programs over HTTP, and how answers are read.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

/// How long anything may take over a question that is not a request for tokens.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// More of a page or an error is not read.
const MAX_PAGE: usize = 8 << 20;

pub(super) type Http = Client<HttpConnector, Full<Bytes>>;

/// A client that keeps its connections and waits for nothing before it sends.
pub(super) fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Status and body of a GET.
///
/// # Errors
/// Where nobody answers in time, with the address.
pub(super) async fn get(url: &str) -> Result<(u16, String), String> {
    call(http::Request::get(url), url, String::new()).await
}

/// Status and body of a POST.
///
/// # Errors
/// Where nobody answers in time, with the address.
pub(super) async fn post(url: &str, body: String) -> Result<(u16, String), String> {
    call(http::Request::post(url), url, body).await
}

/// The body of a GET.
///
/// # Errors
/// As [`get`], and with anything but 200.
pub(super) async fn page_of(url: &str) -> Result<String, String> {
    match get(url).await? {
        (200, text) => Ok(text),
        (status, _) => Err(format!("{url}: HTTP {status}")),
    }
}

async fn call(
    request: http::request::Builder,
    url: &str,
    body: String,
) -> Result<(u16, String), String> {
    let failed = |e: &dyn Display| format!("{url}: {e}");
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| failed(&e))?;
    let answer = async {
        let response = http().request(request).await.map_err(|e| failed(&e))?;
        let status = response.status().as_u16();
        let text = text(response.into_body()).await.map_err(|e| failed(&e))?;
        Ok((status, text))
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(failed(&"no answer")))
}

/// A body as text.
///
/// # Errors
/// Where it breaks off or is longer than any page.
pub(super) async fn text(mut body: hyper::body::Incoming) -> Result<String, String> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() > MAX_PAGE {
            return Err("the answer is too long".into());
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A model that an engine serves.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServedModel {
    pub id: String,
    pub max_model_len: Option<u32>,
}

/// What the engine at `url` lists.
///
/// # Errors
/// Where it does not answer with a list.
pub(super) async fn served_models(url: &str) -> Result<Vec<ServedModel>, String> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<ServedModel>,
    }
    let listed = page_of(&format!("{url}/v1/models")).await?;
    let listed: Models =
        serde_json::from_str(&listed).map_err(|e| format!("the list of models of {url}: {e}"))?;
    Ok(listed.data)
}

/// What an answer used.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    prompt_tokens_details: Option<Details>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Details {
    #[serde(default)]
    cached_tokens: u64,
}

impl Usage {
    pub(super) fn cached_tokens(&self) -> u64 {
        self.prompt_tokens_details.as_ref().map_or(0, |details| details.cached_tokens)
    }
}

#[derive(Deserialize)]
struct Event {
    usage: Option<Usage>,
}

/// Server-sent events, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// Of the last event that told it.
    pub usage: Option<Usage>,
}

impl Events {
    /// Reads on; `token` is called for each event that has some of the answer in it. The one that
    /// tells the usage tells of the whole answer and has nothing of it.
    pub(super) fn take(&mut self, data: &[u8], mut token: impl FnMut()) {
        for piece in data.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(piece);
            if !self.line.ends_with(b"\n") {
                continue;
            }
            if let Some(event) = self.line.strip_prefix(b"data: ")
                && let Ok(Event { usage }) = serde_json::from_slice(event)
            {
                match usage {
                    Some(usage) => self.usage = Some(usage),
                    None => token(),
                }
            }
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_and_usage_are_found_however_events_are_cut() {
        let stream = b"data: {\"choices\":[],\"usage\":null}\n\n\
            data: {\"choices\":[{\"text\":\"a\"}]}\r\n\r\n\
            data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
            \"prompt_tokens_details\":{\"cached_tokens\":8}}}\r\n\r\ndata: [DONE]\n\n";
        for cut in 1..stream.len() {
            let (mut events, mut tokens) = (Events::default(), 0);
            stream.chunks(cut).for_each(|piece| events.take(piece, || tokens += 1));
            let usage = events.usage.unwrap();
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (9, 2));
            assert_eq!((usage.cached_tokens(), tokens), (8, 2));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(data: Vec<u8>) {
            Events::default().take(&data, || ());
        }
    }
}
