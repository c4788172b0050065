//! `token-producer`: names the tokenizer back-end.
//!
//! The estimate of four bytes of text per token needs nothing done: request parsers apply it while
//! they read a body. With the back-end `vllm` the prompts are turned into the engine's token ids by
//! a server that renders, or by the endpoints.

use std::sync::Arc;
use std::time::Duration;

use super::{
    About, Build, Capabilities, Kind, Outside, Parameter, Parameters, Part, PluginType,
    ReachOutside, Stability, parameters, token_estimate,
};
use crate::endpoints::Pool;
use crate::scheduling::{
    AwaitingProducer, BoxFuture, DataKey, InferenceRequest, Lifecycle, Put, RequestData, Runtime,
};
use crate::tokens::{Patience, Renderer, TokenSource, TokenizedPrompt};

/// The alias is the type's name up to llm-d-router v0.8.
pub(super) const TYPE: PluginType =
    PluginType { name: "token-producer", aliases: &["tokenizer"], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "turns prompts into the engine's tokens, or estimates how many they are",
    formula: "estimate: four bytes of text are one token",
    parameters: Parameters::Listed(&PARAMETERS),
};

/// Defaults of llm-d-router main at ebab6879.
const DEFAULT_URL: &str = "http://localhost:8000";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MEDIA_TIMEOUT: Duration = Duration::from_secs(30);

const PARAMETERS: [Parameter; 4] = [
    Parameter::fields("estimate", &token_estimate::PARAMETERS, "count, by rules"),
    Parameter::fields("vllm", &VLLM, "ask a server that renders")
        .beside("{modelName: m}")
        .example("{url: 'http://renderer:8000'}"),
    Parameter::text("modelName", "the model to ask it for; required with vllm")
        .beside("{vllm: {}}")
        .example("other"),
    Parameter::of_kind(
        "udsTokenizerConfig",
        Kind::Any,
        "ask a sidecar: endpoints are asked instead",
    )
    .older("llm-d v0.7 and v0.8")
    .example("{socketFile: /tmp/tokenizer.sock}"),
];

const VLLM: [Parameter; 3] = [
    Parameter::text("url", "where it is")
        .default("http://localhost:8000")
        .example("http://renderer:8000"),
    Parameter::duration("timeout", "how long to wait for it").default("5s"),
    Parameter::duration("mmTimeout", "how long with media").default("30s"),
];

/// Has prompts turned into token ids.
#[derive(Debug)]
struct TokenProducer {
    key: DataKey<TokenizedPrompt>,
    source: Arc<TokenSource>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let renders = p.node("vllm").is_some();
    let has_sidecar = p.node("udsTokenizerConfig").is_some();
    let estimates = p.node("estimate").is_some();
    if [renders, has_sidecar, estimates].into_iter().filter(|&given| given).count() > 1 {
        let message = "at most one of 'vllm', 'udsTokenizerConfig' and 'estimate' can be given";
        p.diagnostics().error(p.at(), p.path(), message);
    }
    let mut vllm = p.nested("vllm");
    let url = vllm.string("url").filter(|url| !url.is_empty()).unwrap_or(DEFAULT_URL).to_owned();
    let patience = Patience {
        text: vllm.duration("timeout").unwrap_or(DEFAULT_TIMEOUT),
        media: vllm.duration("mmTimeout").unwrap_or(DEFAULT_MEDIA_TIMEOUT),
    };
    let model = p.string("modelName").unwrap_or_default();
    if renders && model.is_empty() {
        p.error("modelName", "is required with the back-end 'vllm'");
    }
    let renderer = if has_sidecar { Renderer::Endpoints } else { Renderer::At(url) };
    let source = match TokenSource::new(renderer, patience) {
        Ok(source) => Some(source).filter(|_| renders || has_sidecar),
        Err(error) => {
            vllm.error("url", error.to_string());
            None
        }
    };
    vllm.finish();
    if has_sidecar {
        let message = "the sidecar is not used: endpoints are asked for the tokens";
        p.warning("udsTokenizerConfig", message);
    } else if !renders {
        parameters::without_effect(&mut p, "modelName", "the estimate needs no model");
    }
    let rules = Arc::new(token_estimate::read(p.nested("estimate")));
    p.finish();
    let Some(source) = source else { return Capabilities::default().with(rules) };
    let key = build.dependencies.provide(build.name);
    let producer = Arc::new(TokenProducer { key, source: Arc::new(source) });
    Capabilities::default()
        .with(rules)
        .with::<dyn AwaitingProducer>(producer.clone())
        .with::<dyn ReachOutside>(producer.clone())
        .with::<dyn Lifecycle>(producer)
}

impl AwaitingProducer for TokenProducer {
    fn begin(&self, request: &Arc<InferenceRequest>) -> Option<BoxFuture<Option<Put>>> {
        let key = self.key;
        let put = move |found: TokenizedPrompt| {
            Some(Box::new(move |data: &mut RequestData| data.set(key, found)) as Put)
        };
        if let Some(given) = TokenSource::given(request) {
            return Some(Box::pin(std::future::ready(put(given))));
        }
        let (source, request) = (self.source.clone(), request.clone());
        Some(Box::pin(async move { put(source.tokenize(&request).await) }))
    }

    /// A little longer than the renderer has, so that it is told why there is nothing.
    fn deadline(&self) -> Duration {
        let Patience { text, media } = self.source.patience();
        text.max(media) + Duration::from_millis(100)
    }
}

impl ReachOutside for TokenProducer {
    fn reach(&self, outside: &Outside) {
        self.source.set_client(&outside.renderer);
    }
}

impl Lifecycle for TokenProducer {
    fn start(&self, pool: &Arc<Pool>, _: &Arc<dyn Runtime>) {
        self.source.set_pool(pool);
    }
}
