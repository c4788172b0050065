//! Envoy's clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use indicatif::ProgressBar;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::ClusterArgs;
use super::tally::{Answer, Goal, Tally};
use crate::bench::engine_api::{Events, Http, PATIENCE, http};
use crate::bench::envoy::SERVED_BY;
use crate::bench::replay::faults::{self, Fault};
use crate::bench::trace::{Session, Spans, Trace, TraceRequest};
use crate::sim::Nanos;

/// What a prompt is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PromptForm {
    /// Made-up text of four letters a token, as epp and epp-sim count; a real tokenizer makes
    /// more tokens of it.
    Text,
    /// Token ids: as many tokens as the trace says, whatever the tokenizer.
    TokenIds,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `host:port` of Envoy.
    pub gateway: String,
    pub model: String,
}

impl Target {
    fn url(&self) -> String {
        format!("http://{}/v1/completions", self.gateway)
    }

    /// Sends requests of one token until one is answered, so that connections stand and the
    /// picker knows its endpoints.
    ///
    /// # Errors
    /// Where none is in time, with the last reason.
    pub(super) async fn warm_up(&self) -> Result<(), String> {
        let body = serde_json::json!({"model": self.model, "prompt": "a", "max_tokens": 1});
        let (http, end) = (http(), Instant::now() + PATIENCE * 3);
        loop {
            let request = http::Request::post(self.url())
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_string())))
                .map_err(|e| e.to_string())?;
            let why = match tokio::time::timeout(PATIENCE, http.request(request)).await {
                Ok(Ok(response)) if response.status() == http::StatusCode::OK => {
                    // Read to its end: the engine is done with it then.
                    _ = response.into_body().collect().await;
                    return Ok(());
                }
                Ok(Ok(response)) => format!("HTTP {}", response.status().as_u16()),
                Ok(Err(e)) => e.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > end {
                return Err(format!("no request is answered: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What all sessions share.
struct Shared {
    http: Http,
    target: Target,
    form: PromptForm,
    vocabulary: u32,
    begin: Instant,
    /// No request starts after it.
    end: Instant,
    rate: f64,
    timeout: Duration,
    goal: Goal,
    faults: Vec<Fault>,
    tally: Mutex<Tally>,
    bar: ProgressBar,
}

/// Plays the trace.
///
/// # Errors
/// Where a session's task failed.
pub(super) async fn drive(
    target: &Target,
    trace: &Trace,
    args: &ClusterArgs,
    faults: &[Fault],
    bar: &ProgressBar,
) -> Result<Tally, String> {
    let begin = Instant::now();
    let shared = Arc::new(Shared {
        http: http(),
        target: target.clone(),
        form: args.prompts,
        vocabulary: args.vocabulary,
        begin,
        end: begin + args.duration,
        rate: args.rate,
        timeout: args.timeout,
        goal: Goal { ttft: args.slo_ttft, itl: args.slo_itl },
        faults: faults.to_vec(),
        tally: Mutex::default(),
        bar: bar.clone(),
    });
    let mut sessions = JoinSet::new();
    for session in &trace.sessions {
        if shared.starts(session) > shared.end {
            break;
        }
        sessions.spawn(play(Arc::clone(&shared), session.clone()));
    }
    while let Some(ended) = sessions.join_next().await {
        ended.map_err(|e| format!("a client failed: {e}"))?;
    }
    Ok(std::mem::take(&mut *shared.tally.lock()))
}

impl Shared {
    fn starts(&self, session: &Session) -> Instant {
        self.begin + nanos(session.starts).div_f64(self.rate)
    }
}

fn nanos(n: Nanos) -> Duration {
    Duration::from_nanos(n)
}

async fn play(shared: Arc<Shared>, session: Session) {
    let begin = shared.starts(&session);
    let mut answered = begin;
    for request in &session.requests {
        let at = (begin + nanos(request.earliest)).max(answered + nanos(request.think));
        if at > shared.end {
            return;
        }
        tokio::time::sleep_until(at.into()).await;
        let in_fault =
            faults::in_force(&shared.faults, crate::clock::nanos(shared.begin.elapsed()));
        let asked = ask(&shared, request);
        let result = tokio::time::timeout(shared.timeout, asked)
            .await
            .unwrap_or_else(|_| Err("timeout".to_owned()));
        answered = Instant::now();
        shared.tally.lock().record(result, shared.goal, in_fault);
        shared.bar.inc(1);
    }
}

async fn ask(shared: &Shared, request: &TraceRequest) -> Result<Answer, String> {
    let body = serde_json::json!({
        "model": shared.target.model,
        "prompt": prompt(&request.prompt, shared.form, shared.vocabulary),
        "max_tokens": request.output_tokens,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let call = http::Request::post(shared.target.url())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| e.to_string())?;
    let begin = Instant::now();
    let response = shared.http.request(call).await.map_err(|e| format!("no answer: {e}"))?;
    let status = response.status();
    if status != http::StatusCode::OK {
        return Err(format!("HTTP {}", status.as_u16()));
    }
    let mut answer = Answer {
        endpoint: response
            .headers()
            .get(SERVED_BY)
            .map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned())
            .unwrap_or_default(),
        ..Default::default()
    };
    let mut body = response.into_body();
    let mut events = Events::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
        let Ok(data) = frame.into_data() else { continue };
        if answer.ttft.is_zero() && !data.is_empty() {
            answer.ttft = begin.elapsed();
        }
        events.take(&data, || ());
    }
    answer.total = begin.elapsed();
    let usage = events.usage.ok_or("an answer without usage")?;
    answer.prompt_tokens = usage.prompt_tokens;
    answer.output_tokens = usage.completion_tokens;
    answer.cached_tokens = usage.cached_tokens();
    Ok(answer)
}

/// Equal where tokens are equal.
fn prompt(prompt: &Spans, form: PromptForm, vocabulary: u32) -> serde_json::Value {
    match form {
        PromptForm::Text => text(prompt).into(),
        PromptForm::TokenIds => ids(prompt, vocabulary).into(),
    }
}

/// Ids below `vocabulary`, but for the first few, which tokenizers keep for marks.
fn ids(prompt: &Spans, vocabulary: u32) -> Vec<u32> {
    const MARKS: u32 = 16;
    let mut bytes = Vec::new();
    prompt.write_tokens(&mut bytes);
    let tokens = bytes.as_chunks::<4>().0.iter().map(|token| u32::from_le_bytes(*token));
    tokens.map(|token| MARKS + token % vocabulary.saturating_sub(MARKS).max(1)).collect()
}

/// Text of four letters a token.
fn text(prompt: &Spans) -> String {
    let mut bytes = Vec::new();
    prompt.write_tokens(&mut bytes);
    bytes.into_iter().map(|b| char::from(b'a' + (b & 15))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_ids_have_a_token_each_within_the_vocabulary() {
        let mut spans = Spans::default();
        spans.push_stream(3, 1000);
        let short = ids(&spans, 32_000);
        spans.push_stream(4, 5);
        let long = ids(&spans, 32_000);
        assert_eq!((short.len(), long.len()), (1000, 1005));
        assert!(long.starts_with(&short) && long.iter().all(|id| (16..32_000).contains(id)));
        assert!(ids(&spans, 1).iter().all(|&id| id == 16), "no division by nothing");
    }

    #[test]
    fn prompts_are_plain_text_of_four_letters_a_token() {
        let mut spans = Spans::default();
        spans.push_stream(3, 10);
        let short = text(&spans);
        spans.push_stream(4, 5);
        let long = text(&spans);
        assert_eq!((short.len(), long.len()), (40, 60));
        assert!(long.starts_with(&short) && long.bytes().all(|b| b.is_ascii_lowercase()));
    }
}
