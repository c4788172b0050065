//! `token-metering`: tells the gateway and the metrics what every exchange used, in tokens.
//! Ours; what goes into the gateway's dynamic metadata is named as Envoy AI Gateway 0.3 names it.

use std::sync::Arc;

use super::token_cost::{self, TokenCost};
use super::token_counts::TokenCounts;
use super::tokens_used::{INCLUDE_USAGE, TokensUsed, estimated_prompt};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::exchange::{Outcome, OutcomeListener};
use crate::scheduling::{
    AnswerSoFar, AskForUsage, CountTokens, Cycle, DataKey, Directions, InferenceRequest,
    MetadataValue, MetricFamily, Picked, PluginMetrics, ReadsAnswers, RequestDatum, RequestHook,
    RequestProcessor, ResponseHook, RoutedRequest, TokenUsage,
};

pub(super) const TYPE: PluginType =
    PluginType { name: "token-metering", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ResponsePlugin, Part::RequestProcessor],
    stability: Stability::Own,
    since: "",
    summary: "tells the gateway and the metrics how many tokens every exchange used",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("namespace", "namespace of the gateway's dynamic metadata")
            .default("io.envoy.ai_gateway"),
        Parameter::each("llmRequestCosts", &token_cost::COST, "what is written there")
            .default(token_cost::DEFAULTS),
        Parameter::text("countedKey", "key that says whether engines reported all of it"),
        Parameter::boolean("whileStreaming", "tell at every piece of an answer, not just its end")
            .default("true"),
        Parameter::text("tenantHeader", "the request header by whose value metrics are split"),
        Parameter::integer("maxTenants", "values of it with numbers of their own")
            .default("1000")
            .at_least(1.0)
            .at_most(1_000_000.0),
        INCLUDE_USAGE,
    ]),
};

/// What Envoy AI Gateway 0.3 calls its own.
const NAMESPACE: &str = "io.envoy.ai_gateway";
/// Values of the tenants' header with numbers of their own.
const MAX_TENANTS: i64 = 1000;

#[derive(Debug)]
struct TokenMetering {
    namespace: String,
    costs: Vec<TokenCost>,
    /// Where it is said that not everything was reported; `None`: nowhere.
    counted_key: Option<String>,
    /// Tells the gateway at every piece of an answer.
    while_streaming: bool,
    /// The header that says whose a request is, in lower case.
    tenant_header: Option<String>,
    counts: TokenCounts,
    prompt: DataKey<EstimatedPrompt>,
}

/// What the prompt was taken for when the request came, tokens.
#[derive(Debug)]
struct EstimatedPrompt(u64);

impl RequestDatum for EstimatedPrompt {
    const PRODUCER: &'static str = "estimate of a prompt that is metered";
    const DEFAULT_PRODUCER: Option<&'static str> = None;
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let namespace = p.string("namespace").unwrap_or(NAMESPACE).to_owned();
    if namespace.is_empty() {
        p.error("namespace", "must not be empty");
    }
    let costs = match p.list("llmRequestCosts") {
        None => TokenCost::defaults(),
        Some(_) => TokenCost::read(p.each("llmRequestCosts")),
    };
    let counted_key = p.string("countedKey").filter(|key| !key.is_empty()).map(str::to_owned);
    let while_streaming = p.bool("whileStreaming").unwrap_or(true);
    let tenant_header = tenant_header(&mut p);
    let max_tenants = p.int_in("maxTenants", 1..=1_000_000).unwrap_or(MAX_TENANTS);
    let ask = p.bool("includeUsage").unwrap_or(false);
    p.finish();
    let metering = Arc::new(TokenMetering {
        namespace,
        costs,
        counted_key,
        while_streaming,
        tenant_header,
        counts: TokenCounts::new(max_tenants.unsigned_abs() as usize),
        prompt: build.dependencies.provide(build.name),
    });
    let parts = Capabilities::default()
        .with::<dyn RequestProcessor>(metering.clone())
        .with::<dyn RequestHook>(metering.clone())
        .with::<dyn ResponseHook>(metering.clone())
        .with::<dyn OutcomeListener>(metering.clone())
        .with::<dyn PluginMetrics>(metering)
        .with(Arc::new(CountTokens))
        .reading_answers(ReadsAnswers::Usage);
    if ask { parts.with(Arc::new(AskForUsage)) } else { parts }
}

fn tenant_header(p: &mut Fields<'_>) -> Option<String> {
    let name = p.string("tenantHeader")?;
    if name.is_empty() || name.len() > 256 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        p.error("tenantHeader", "must name a header, of at most 256 characters");
        return None;
    }
    Some(name.to_ascii_lowercase())
}

impl TokenMetering {
    fn used(&self, request: &InferenceRequest, answer: &AnswerSoFar) -> TokensUsed {
        let prompt = request.kept.get(self.prompt).map_or(0, |estimate| estimate.0);
        TokensUsed::of(answer, prompt)
    }

    fn tell(&self, used: &TokensUsed, directions: &mut Directions) {
        for TokenCost { key, kind } in &self.costs {
            let tokens = kind.of(used);
            directions.set_metadata(&self.namespace, key, MetadataValue::Number(tokens));
        }
        if let Some(key) = &self.counted_key {
            directions.set_metadata(&self.namespace, key, MetadataValue::Flag(used.counted));
        }
    }

    /// Tells what an answer has cost so far.
    fn tell_of(&self, exchange: &RoutedRequest<'_>, directions: &mut Directions) {
        let used = self.used(exchange.request, &exchange.answer);
        self.tell(&used, directions);
    }
}

impl RequestProcessor for TokenMetering {
    fn process(&self, request: &mut InferenceRequest) {
        let estimate = EstimatedPrompt(estimated_prompt(request));
        request.kept.set(self.prompt, estimate);
    }
}

impl RequestHook for TokenMetering {
    /// A request that gets no answer costs nothing: without a number a gateway may charge one.
    fn before_request(&self, _: &Cycle<'_>, _: Picked<'_>, directions: &mut Directions) {
        self.tell(&TokensUsed::default(), directions);
    }
}

impl ResponseHook for TokenMetering {
    fn response_chunk(&self, exchange: &RoutedRequest<'_>, _: &[u8], directions: &mut Directions) {
        if self.while_streaming {
            self.tell_of(exchange, directions);
        }
    }

    fn response_end(
        &self,
        exchange: &RoutedRequest<'_>,
        _: Option<&TokenUsage>,
        directions: &mut Directions,
    ) {
        self.tell_of(exchange, directions);
    }
}

impl OutcomeListener for TokenMetering {
    fn ended(&self, outcome: &Outcome<'_>) {
        let request = outcome.request;
        let used = self.used(request, &outcome.response.so_far());
        // Who invents a model's name gets no answer from it, and uses nothing.
        if used.total() > 0 {
            let header = self.tenant_header.as_deref();
            let tenant = header.and_then(|name| request.headers.get(name)).unwrap_or_default();
            self.counts.add(&request.target_model, tenant, &used);
        }
    }
}

impl PluginMetrics for TokenMetering {
    fn families(&self) -> Vec<MetricFamily> {
        vec![self.counts.family()]
    }
}
