//! One engine, asked over HTTP.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use crate::bench::engine_api::{self, Events, Http, Usage};
use crate::bench::report::median;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone)]
pub(super) struct EngineClient {
    http: Http,
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
        Ok(Self { http: engine_api::http(), url: url.to_owned() })
    }

    /// Its address, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.url
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
            let text = engine_api::text(response.into_body()).await.unwrap_or_default();
            let said: String = text.chars().take(300).collect();
            return Err(format!("the engine answers HTTP {}: {said}", status.as_u16()));
        }
        let mut body = response.into_body();
        let (mut events, mut at) = (Events::default(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
            if let Ok(data) = frame.into_data() {
                events.take(&data, || at.push(begin.elapsed().as_secs_f64()));
            }
        }
        answer(&at, events.usage)
    }
}

/// What came, from the moments of its tokens and its usage.
fn answer(at: &[f64], usage: Option<Usage>) -> Result<Answer, String> {
    let usage = usage.ok_or("the engine's answer tells no usage")?;
    let ttft = *at.first().ok_or("the engine's answer has no token")?;
    let mut gaps: Vec<f64> = at.windows(2).map(|w| w[1] - w[0]).collect();
    let gap = (gaps.len() >= 4).then(|| median(&mut gaps)).flatten();
    let tokens = |n: u64| u32::try_from(n).map_err(|_| format!("the engine tells of {n} tokens"));
    let (prompt_tokens, cached_tokens) =
        (tokens(usage.prompt_tokens)?, tokens(usage.cached_tokens())?);
    Ok(Answer { ttft, gap, prompt_tokens, cached_tokens })
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
            let (mut events, mut at) = (Events::default(), Vec::new());
            text.as_bytes().chunks(cut).for_each(|piece| events.take(piece, || at.push(0.5)));
            let answer = answer(&at, events.usage).unwrap();
            assert_eq!((answer.ttft, answer.gap), (0.5, Some(0.0)));
            assert_eq!((answer.prompt_tokens, answer.cached_tokens), (9, 8));
        }
        assert!(answer(&[], None).is_err());
    }

    #[test]
    fn addresses_that_cannot_be_asked_are_refused() {
        for bad in ["127.0.0.1:8000", "https://host", "http://", "", "file:///x"] {
            assert!(EngineClient::new(bad).is_err(), "{bad}");
        }
        assert!(EngineClient::new("http://127.0.0.1:8000/").is_ok());
    }
}
