//! One engine, asked over HTTP.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// More of a page or an error is not read.
const MAX_PAGE: usize = 8 << 20;

#[derive(Clone)]
pub(super) struct EngineClient {
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

/// An answer, as its reader saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// From the request to the first event, seconds.
    pub ttft: f64,
    /// The median time between two events; `None` where there are too few.
    pub gap: Option<f64>,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u32,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: u32,
}

#[derive(Deserialize)]
struct Event {
    usage: Option<Usage>,
}

impl EngineClient {
    /// # Errors
    /// Where `url` is no address over plain HTTP.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let url = url.trim_end_matches('/');
        let is_plain = url.parse::<http::Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !is_plain {
            return Err(format!("'{url}': expected an address such as http://127.0.0.1:8000"));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, url: url.to_owned() })
    }

    /// # Errors
    /// Where nobody answers, or with anything but 200.
    pub(super) async fn get(&self, path: &str) -> Result<String, String> {
        let url = format!("{}{path}", self.url);
        let request = http::Request::get(&url).body(Full::default()).map_err(|e| e.to_string())?;
        let response = self.http.request(request).await.map_err(|e| format!("{url}: {e}"))?;
        let status = response.status();
        let text = page(response.into_body()).await.map_err(|e| format!("{url}: {e}"))?;
        match status {
            http::StatusCode::OK => Ok(text),
            _ => Err(format!("{url}: HTTP {}", status.as_u16())),
        }
    }

    /// Has the engine answer with `output` tokens.
    ///
    /// # Errors
    /// Where it does not, with what it says instead.
    pub(super) async fn ask(
        &self,
        model: &str,
        prompt: &Value,
        output: u32,
    ) -> Result<Answer, String> {
        let asked = self.stream(model, prompt, output);
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        answered.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
    }

    async fn stream(&self, model: &str, prompt: &Value, output: u32) -> Result<Answer, String> {
        let body = serde_json::json!({
            "model": model,
            "prompt": prompt,
            "max_tokens": output,
            "temperature": 0,
            "ignore_eos": true,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let request = http::Request::post(format!("{}/v1/completions", self.url))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|e| e.to_string())?;
        let begin = Instant::now();
        let response = self.http.request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        if status != http::StatusCode::OK {
            let text = page(response.into_body()).await.unwrap_or_default();
            let said: String = text.chars().take(300).collect();
            return Err(format!("the engine answers HTTP {}: {said}", status.as_u16()));
        }
        let mut body = response.into_body();
        let mut events = Events::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
            if let Ok(data) = frame.into_data() {
                events.take(&data, begin.elapsed().as_secs_f64());
            }
        }
        events.answer()
    }
}

async fn page(mut body: hyper::body::Incoming) -> Result<String, String> {
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

/// Server-sent events and when they came, however they are cut.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
    at: Vec<f64>,
    usage: Option<Usage>,
}

impl Events {
    fn take(&mut self, data: &[u8], now: f64) {
        for piece in data.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(piece);
            if !self.line.ends_with(b"\n") {
                continue;
            }
            if let Some(event) = self.line.strip_prefix(b"data: ")
                && let Ok(Event { usage }) = serde_json::from_slice(event)
            {
                // The last event tells of the whole answer and has no token in it.
                match usage {
                    Some(usage) => self.usage = Some(usage),
                    None => self.at.push(now),
                }
            }
            self.line.clear();
        }
    }

    fn answer(self) -> Result<Answer, String> {
        let usage = self.usage.ok_or("the engine's answer tells no usage")?;
        let ttft = *self.at.first().ok_or("the engine's answer has no token")?;
        let mut gaps: Vec<f64> = self.at.windows(2).map(|w| w[1] - w[0]).collect();
        let gap = (gaps.len() >= 4).then(|| median(&mut gaps)).flatten();
        let cached_tokens = usage.prompt_tokens_details.map_or(0, |details| details.cached_tokens);
        Ok(Answer { ttft, gap, prompt_tokens: usage.prompt_tokens, cached_tokens })
    }
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    match values.len() % 2 {
        0 => Some((values.get(half - 1)? + upper) / 2.0),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let mut text = String::new();
        for _ in 0..6 {
            text += "data: {\"choices\":[{\"text\":\"a\"}]}\r\n\r\n";
        }
        text += "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":6,\
                 \"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\ndata: [DONE]\n\n";
        for cut in 1..text.len() {
            let mut events = Events::default();
            text.as_bytes().chunks(cut).for_each(|piece| events.take(piece, 0.5));
            let answer = events.answer().unwrap();
            assert_eq!((answer.ttft, answer.gap), (0.5, Some(0.0)));
            assert_eq!((answer.prompt_tokens, answer.cached_tokens), (9, 8));
        }
        assert!(Events::default().answer().is_err());
    }

    #[test]
    fn medians() {
        let of = |values: &[f64]| median(&mut values.to_vec());
        assert_eq!((of(&[]), of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0])), (None, Some(2.0), Some(2.5)));
    }

    #[test]
    fn addresses_that_cannot_be_asked_are_refused() {
        for bad in ["127.0.0.1:8000", "https://host", "http://", "", "file:///x"] {
            assert!(EngineClient::new(bad).is_err(), "{bad}");
        }
        assert!(EngineClient::new("http://127.0.0.1:8000/").is_ok());
    }
}
