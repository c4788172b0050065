//! The same prompt sent twice: whether the second one is served from the cache.

use std::net::SocketAddr;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::endpoints::Asking;
use super::engine::{Model, Seen, cache_hits};
use super::http::{Answer, Ask, Failure};
use super::{AT_ONCE, DoctorOptions, Finding, Report, Subject};

const SUBJECT: Subject = Subject::Probe;
/// Token ids that every vocabulary has, and that stand for nothing special.
const IDS: std::ops::Range<u32> = 1000..8000;
/// A prompt has so many of the engine's blocks, at least.
const MIN_BLOCKS: u32 = 4;
/// And so many tokens at most, whatever the blocks.
const MAX_TOKENS: u32 = 8192;

/// A prompt that an endpoint has computed.
pub(super) struct Probed {
    pub model: String,
    /// Its tokens; `None` where it was sent as text.
    pub ids: Option<Vec<u32>>,
}

/// Sends the prompt to all endpoints that serve something; `None` where that failed.
pub(super) async fn run(
    asking: &Asking,
    options: &DoctorOptions,
    seen: &[Seen],
    report: &Report,
) -> Vec<Option<Probed>> {
    let work: Vec<_> = seen.iter().map(|seen| one(asking, options, seen, report)).collect();
    stream::iter(work).buffered(AT_ONCE).collect().await
}

async fn one(
    asking: &Asking,
    options: &DoctorOptions,
    seen: &Seen,
    report: &Report,
) -> Option<Probed> {
    let model = model(seen.models.as_ref()?, &options.models)?;
    let blocks = seen.cache.block_size.unwrap_or(0).saturating_mul(MIN_BLOCKS);
    let room = model.max_model_len.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let length = options.probe_tokens.max(blocks).min(MAX_TOKENS).min(room.saturating_sub(16));
    let ids: Vec<u32> = (0..length).map(|_| fastrand::u32(IDS)).collect();
    let before = hits(asking, seen).await;
    let mut prompt = json!(ids);
    let mut first = send(asking, seen.at, &model.id, &prompt).await;
    let mut sent_ids = Some(ids);
    if matches!(&first, Ok(answer) if [400, 404, 405, 422].contains(&answer.status.as_u16())) {
        // Some gateways and engines take text alone.
        prompt = text(length).into();
        sent_ids = None;
        first = send(asking, seen.at, &model.id, &prompt).await;
    }
    let first = answered(first, seen, report)?;
    let second = answered(send(asking, seen.at, &model.id, &prompt).await, seen, report)?;
    let after = hits(asking, seen).await;
    judge(seen, &first, &second, before.zip(after), report);
    Some(Probed { model: model.id.clone(), ids: sent_ids })
}

/// The model to ask for: one that was asked about, else a base model.
fn model<'a>(served: &'a [Model], asked: &[String]) -> Option<&'a Model> {
    let is_asked = |model: &&Model| asked.contains(&model.id);
    let base = || served.iter().find(|model| !model.is_adapter()).or(served.first());
    served.iter().find(is_asked).or_else(base)
}

fn text(tokens: u32) -> String {
    (0..tokens / 2).map(|_| format!("{:x} ", fastrand::u32(IDS))).collect()
}

async fn send(
    asking: &Asking,
    at: SocketAddr,
    model: &str,
    prompt: &Value,
) -> Result<Answer, Failure> {
    let body = json!({"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0});
    let ask = Ask { post: Some(body.to_string()), ..asking.get("/v1/completions") };
    asking.serving.ask(at, &ask).await
}

fn answered(answer: Result<Answer, Failure>, seen: &Seen, report: &Report) -> Option<Value> {
    let what = match answer {
        Ok(answer) if answer.status.is_success() => match serde_json::from_slice(&answer.body) {
            Ok(value) => return Some(value),
            Err(_) => format!("answers a prompt with no JSON: {}", answer.excerpt()),
        },
        Ok(answer) => format!("answers a prompt with {}: {}", answer.status, answer.excerpt()),
        Err(failure) => format!("does not answer a prompt: it {failure}"),
    };
    report.add(
        Finding::problem(SUBJECT, "answer", what)
            .about(seen.name())
            .why("requests get the same")
            .change("the engine's log; --patience where it is only slow"),
    );
    None
}

async fn hits(asking: &Asking, seen: &Seen) -> Option<f64> {
    let (http, scrape) = asking.scraping.as_ref()?;
    let at = SocketAddr::new(seen.at.ip(), scrape.port.unwrap_or(seen.at.port()));
    let page = http.ask(at, &Ask::get(&scrape.path)).await.ok()?;
    cache_hits(&page.body)
}

fn judge(seen: &Seen, first: &Value, second: &Value, counted: Option<(f64, f64)>, report: &Report) {
    let cached =
        |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    let prompt = second["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
    let risen = counted.map(|(before, after)| (after - before).max(0.0));
    let finding = match (cached(second), risen) {
        (Some(tokens), _) if tokens > 0 => {
            let what =
                format!("served {tokens} of {prompt} tokens of the second prompt from cache");
            Finding::ok(SUBJECT, "second-prompt", what)
        }
        (None, Some(risen)) if risen > 0.0 => {
            let what = "caches prefixes by its metrics, and its answers do not say so";
            Finding::note(SUBJECT, "cached-tokens", what)
                .why("predicted hits cannot be compared with delivered ones")
                .change("--enable-prompt-tokens-details (vLLM)")
        }
        (None, None) => Finding::note(
            SUBJECT,
            "cached-tokens",
            "says nothing of cached tokens, in answers or metrics",
        )
        .why("whether it caches prefixes is not known")
        .change("--enable-prompt-tokens-details (vLLM)"),
        _ => {
            let first_time = cached(first).unwrap_or(0);
            let what = format!(
                "computed a prompt of {prompt} tokens in full that it had just computed (cached \
                 tokens: {first_time} the first time, {} the second)",
                cached(second).unwrap_or(0)
            );
            Finding::problem(SUBJECT, "second-prompt", what)
                .why("prefix caching silently does nothing there: picking by prefix is in vain")
                .change(
                    "--enable-prefix-caching (vLLM); it is off by itself for some models, with \
                     prompt embeddings and some KV connectors: see the engine's first log lines",
                )
        }
    };
    report.add(finding.about(seen.name()));
}
