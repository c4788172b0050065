//! `predicted-latency-producer`: predicts the time to first token and the time per output token
//! that the request would see at each candidate, and learns from what requests did see.
//!
//! The reference asks servers of its own beside the router; here [`crate::latency`] learns in
//! the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use serde_json::json;

use super::latency_prediction::{LatencyPredictions, PredictedLatency, Slo};
use super::{
    About, Build, Capabilities, Kind, Parameter, Parameters, Part, PluginType, Stability, TookOver,
    parameters,
};
use crate::config::Fields;
use crate::endpoints::{Endpoint, EndpointMemory, PoolIds, StateSlot};
use crate::exchange::{Ending, Outcome, OutcomeListener};
use crate::latency::{
    EndpointCorrection, ErrorEstimate, Features, Latency, LatencyPredictor, Observation, Prediction,
};
use crate::scheduling::{
    Cycle, DataKey, DebugState, InferenceRequest, MetricFamily, MetricKind, MetricSample,
    MetricValue, PickObserver, Picked, PluginMetrics, PrefixMatch, Producer, ReadsAnswers,
    RequestData, TokenLoad,
};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "predicted-latency-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "predicts the time to first token and the time per output token on each endpoint, and learns from what requests saw",
    formula: "headroom: the limit of the request (x-llm-d-slo-ttft-ms, x-llm-d-slo-tpot-ms) less the prediction",
    parameters: Parameters::Listed(&[
Parameter::boolean("streamingMode", "answers are streams; else the TTFT is the time to the end of an answer, and TPOT is left alone").default("false"),
Parameter::number("sloBufferFactor", "by how much TPOT limits are multiplied").default("1.0").above(0.0),
Parameter::text("endpointRoleLabel", "label of the endpoints' roles; those with the value prefill have no TPOT").example("llm-d.ai/role"),
Parameter::boolean("predictInProduce", "predict; else only learn").default("true"),
Parameter::prefix_producer(),
Parameter::in_flight_producer(),
Parameter::of_kind("contextTTL", Kind::Any, "when a request was forgotten").without_effect("a request is followed until its exchange ends"),
Parameter::of_kind("useEncoderCacheFeatures", Kind::Any, "count what encoders hold").without_effect("what encoders hold is not counted"),
Parameter::of_kind("encoderCacheMatchInfoProducerName", Kind::Any, "what encoders hold").without_effect("what encoders hold is not counted"),
Parameter::of_kind("samplingMean", Kind::Any, "which tokens are learnt from").dropped("every answer is learnt from"),
Parameter::of_kind("maxDecodeTokenSamplesForPrediction", Kind::Any, "how many tokens are learnt from").dropped("every answer is learnt from"),
]),
};

/// Requests followed to their end at most; beyond them none is learnt from. An exchange gives its
/// place back however it ends.
const MAX_FOLLOWED: usize = 1 << 16;
/// The role of endpoints that compute prompts only, so that their TPOT is nobody's concern.
const PREFILL_ROLE: &str = "prefill";

/// What the producer is set to.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// By how much the requests' TPOT limits are multiplied.
    pub slo_buffer_factor: f64,
    /// Answers are streams: TTFT is the time to the first byte of one, TPOT counts. Otherwise
    /// what stands for TTFT is the time to the end of the answer, and TPOT is left alone.
    pub streaming: bool,
    /// Label of the endpoints' roles; empty: they have none.
    pub role_label: String,
    pub predict: bool,
}

#[derive(Debug)]
pub(super) struct LatencyProducer {
    settings: Settings,
    key: DataKey<LatencyPredictions>,
    prefix: DataKey<PrefixMatch>,
    memory: LatencyMemory,
    took_over: bool,
    /// By the request's address, which is its own from the pick to the end of its exchange; its
    /// id may be another's too.
    followed: DashMap<usize, Followed>,
    /// The plugin's name and type, for metrics.
    labels: [String; 2],
}

/// What was learnt, as a part of its own: a plugin with other parameters that observes the same
/// goes on with it.
#[derive(Clone, Debug)]
struct LatencyMemory {
    model: Arc<LatencyPredictor>,
    endpoints: StateSlot<EndpointLatency>,
    /// What is learnt depends on these.
    of: (bool, String),
}

/// What is remembered of an endpoint.
#[derive(Debug, Default)]
struct EndpointLatency {
    correction: Arc<EndpointCorrection>,
    /// TPOT limits of the requests in flight there, microseconds, and how many have each. Only
    /// requests with such a limit take the lock.
    tpot_limits: Mutex<BTreeMap<u64, u32>>,
}

impl EndpointMemory for EndpointLatency {
    fn forget(&self) -> bool {
        self.correction.forget();
        self.tpot_limits.lock().clear();
        true
    }
}

/// A request on its way.
#[derive(Debug)]
struct Followed {
    /// Where its first token comes from: where its prompt is computed.
    ttft: Learning,
    /// Where its answer comes from.
    tpot: Learning,
    endpoint: Arc<Endpoint>,
    slo: Slo,
}

#[derive(Clone, Debug)]
struct Learning {
    features: Features,
    correction: Arc<EndpointCorrection>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let Build { name, parameters: mut p, dependencies, ids, predecessor, .. } = build;
    let settings = Settings {
        slo_buffer_factor: slo_buffer_factor(&mut p),
        streaming: p.bool("streamingMode").unwrap_or(false),
        role_label: p.string("endpointRoleLabel").unwrap_or_default().to_owned(),
        predict: p.bool("predictInProduce").unwrap_or(true),
    };
    let why = "a request is followed until its exchange ends, however that is";
    parameters::without_effect(&mut p, "contextTTL", why);
    let why = "what encoders hold is not counted in this version";
    for encoders in ["useEncoderCacheFeatures", "encoderCacheMatchInfoProducerName"] {
        parameters::without_effect(&mut p, encoders, why);
    }
    for old in ["samplingMean", "maxDecodeTokenSamplesForPrediction"] {
        parameters::without_effect(&mut p, old, "every answer is learnt from");
    }
    let prefix = parameters::prefix_producer(&mut p);
    let in_flight = parameters::in_flight_producer(&mut p);
    p.finish();
    let prefix = dependencies.read(prefix);
    dependencies.read::<TokenLoad>(in_flight);
    let key = dependencies.provide(name);
    let labels = [name.to_owned(), TYPE.name.to_owned()];
    LatencyProducer::new(settings, prefix, key, ids, labels, predecessor).capabilities()
}

/// `sloBufferFactor`, above 0.
pub(super) fn slo_buffer_factor(parameters: &mut Fields<'_>) -> f64 {
    let factor = parameters.float("sloBufferFactor").unwrap_or(1.0);
    if !(factor > 0.0 && factor.is_finite()) {
        parameters.error("sloBufferFactor", format!("must be above 0, found {factor}"));
    }
    factor
}

impl LatencyProducer {
    pub(super) fn new(
        settings: Settings,
        prefix: DataKey<PrefixMatch>,
        key: DataKey<LatencyPredictions>,
        ids: &PoolIds,
        labels: [String; 2],
        predecessor: Option<&Capabilities>,
    ) -> Arc<Self> {
        let of = (settings.streaming, settings.role_label.clone());
        let known = predecessor.and_then(|before| before.get::<LatencyMemory>());
        let known = known.filter(|known| known.of == of);
        let took_over = known.is_some();
        let memory = known.map_or_else(
            || LatencyMemory { model: Arc::default(), endpoints: ids.claim_slot(), of },
            |known| LatencyMemory::clone(known),
        );
        Arc::new(Self {
            settings,
            key,
            prefix,
            memory,
            took_over,
            followed: DashMap::new(),
            labels,
        })
    }

    /// All parts of it.
    pub(super) fn capabilities(self: Arc<Self>) -> Capabilities {
        let parts = Capabilities::default().with(Arc::new(self.memory.clone()));
        let parts = if self.took_over { parts.with(Arc::new(TookOver)) } else { parts };
        parts
            .with::<dyn Producer>(self.clone())
            .with::<dyn PickObserver>(self.clone())
            .with::<dyn OutcomeListener>(self.clone())
            .with::<dyn PluginMetrics>(self.clone())
            .with::<dyn DebugState>(self)
            .remembering("latency model")
            .reading_answers(ReadsAnswers::FirstToken)
            .reading(Needs { queue: true, running: true, kv: true, ..Needs::default() })
    }

    fn state<'e>(&self, endpoint: &'e Endpoint) -> Option<&'e EndpointLatency> {
        endpoint.state.get_or_init(self.memory.endpoints, EndpointLatency::default)
    }

    fn is_prefill(&self, endpoint: &Endpoint) -> bool {
        let label = self.settings.role_label.as_str();
        !label.is_empty() && endpoint.labels().get(label).is_some_and(|role| role == PREFILL_ROLE)
    }

    /// Whose prediction is `prediction`, against what the request asks for. Of the TPOT limits of
    /// all requests there the least counts, since they share every step.
    fn against(
        &self,
        prediction: Prediction,
        slo: Slo,
        endpoint: &Endpoint,
        state: &EndpointLatency,
    ) -> Option<PredictedLatency> {
        let ttft_ms = prediction.ttft_ms?;
        let mut predicted = PredictedLatency {
            ttft_ms,
            ttft_headroom: slo.ttft_ms - ttft_ms,
            tpot_headroom: 0.0,
            ttft_valid: ttft_ms < slo.ttft_ms,
            tpot_valid: true,
        };
        if self.settings.streaming
            && !self.is_prefill(endpoint)
            && let Some(tpot_ms) = prediction.tpot_ms
        {
            let strictest = state.strictest_tpot_ms().unwrap_or(f64::INFINITY);
            let limit = slo.tpot_ms.min(strictest) * self.settings.slo_buffer_factor;
            predicted.tpot_headroom = limit - tpot_ms;
            predicted.tpot_valid = tpot_ms < limit;
        }
        Some(predicted)
    }

    /// Teaches the model what a request saw, `since` its pick or its first byte.
    fn learn(&self, learning: &Learning, latency: Latency) {
        let Learning { features, correction } = learning.clone();
        self.memory.model.observe(Observation { features, correction, latency });
    }
}

impl EndpointLatency {
    fn strictest_tpot_ms(&self) -> Option<f64> {
        self.tpot_limits.lock().first_key_value().map(|(&us, _)| us as f64 / 1e3)
    }

    fn begin(&self, slo: Slo) {
        if let Some(limit) = in_micros(slo) {
            *self.tpot_limits.lock().entry(limit).or_default() += 1;
        }
    }

    fn end(&self, slo: Slo) {
        let Some(limit) = in_micros(slo) else { return };
        let mut limits = self.tpot_limits.lock();
        if let Some(count) = limits.get_mut(&limit) {
            *count -= 1;
            if *count == 0 {
                limits.remove(&limit);
            }
        }
    }
}

/// The request's TPOT limit; `None` where it has none.
fn in_micros(slo: Slo) -> Option<u64> {
    (slo.tpot_ms > 0.0).then_some((slo.tpot_ms * 1e3) as u64)
}

/// What is known of the request and a candidate.
fn features(cycle: &Cycle<'_>, prefix: Option<&PrefixMatch>, candidate: u32) -> Option<Features> {
    let c = cycle.candidates.get(candidate as usize)?;
    let input_tokens = cycle.request.prompt.token_count() as f64;
    let counted = |n: i64| n.max(0) as f64;
    Some(Features {
        kv_usage: c.signals.kv_usage,
        waiting: f64::from(c.signals.waiting),
        running: f64::from(c.signals.running),
        input_tokens,
        cached_tokens: prefix.map_or(0.0, |found| found.ratio(candidate) * input_tokens),
        prefilling: counted(c.in_flight_unanswered),
        decoding: counted(c.in_flight_requests - c.in_flight_unanswered),
        prefill_tokens: counted(c.in_flight_tokens),
        context_tokens: counted(c.in_flight_prompt_tokens),
        ..Features::default()
    })
}

impl Producer for LatencyProducer {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        if !self.settings.predict || !self.memory.model.is_ready() {
            return;
        }
        let slo = Slo::of(&cycle.request.headers);
        let prefix = data.get(self.prefix);
        let by_candidate = (0..cycle.candidates.len() as u32).map(|c| {
            let endpoint = &cycle.candidates[c as usize].endpoint;
            let state = self.state(endpoint)?;
            let prediction =
                self.memory.model.predict(&features(cycle, prefix, c)?, &state.correction);
            self.against(prediction, slo, endpoint, state)
        });
        let by_candidate = by_candidate.collect();
        data.set(self.key, LatencyPredictions { by_candidate });
    }
}

impl LatencyProducer {
    /// What a pick of `candidate` is to teach.
    fn learning(&self, cycle: &Cycle<'_>, candidate: u32) -> Option<Learning> {
        let endpoint = cycle.candidates.get(candidate as usize)?.endpoint;
        let correction = self.state(endpoint)?.correction.clone();
        Some(Learning {
            features: features(cycle, cycle.data.get(self.prefix), candidate)?,
            correction,
        })
    }

    /// The target where the prompt is computed: one of the prefill role, else the primary one.
    fn prompt_target(&self, cycle: &Cycle<'_>, picked: Picked<'_>) -> Option<u32> {
        let is_prefill = |c: &u32| {
            cycle.candidates.get(*c as usize).is_some_and(|c| self.is_prefill(c.endpoint))
        };
        picked.candidates().find(is_prefill).or(picked.primary())
    }

    fn follow(&self, cycle: &Cycle<'_>, picked: Picked<'_>) -> Option<Followed> {
        let primary = picked.primary()?;
        let endpoint = cycle.candidates.get(primary as usize)?.endpoint.clone();
        let slo = Slo::of(&cycle.request.headers);
        let ttft = self.learning(cycle, self.prompt_target(cycle, picked)?)?;
        Some(Followed { ttft, tpot: self.learning(cycle, primary)?, endpoint, slo })
    }
}

/// What tells a request from all others that are on their way.
fn address(request: &InferenceRequest) -> usize {
    std::ptr::from_ref(request).addr()
}

impl PickObserver for LatencyProducer {
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        if self.followed.len() >= MAX_FOLLOWED {
            return;
        }
        let Some(followed) = self.follow(cycle, picked) else { return };
        if let Some(state) = self.state(&followed.endpoint) {
            state.begin(followed.slo);
        }
        if let Some(before) = self.followed.insert(address(cycle.request), followed) {
            self.forget(&before);
        }
    }
}

impl LatencyProducer {
    fn forget(&self, followed: &Followed) {
        if let Some(state) = self.state(&followed.endpoint) {
            state.end(followed.slo);
        }
    }

    /// Only answers of endpoints that did what they were asked teach anything.
    fn is_answer(outcome: &Outcome<'_>) -> bool {
        outcome.response.status.is_none_or(|status| (200..300).contains(&status))
    }
}

impl OutcomeListener for LatencyProducer {
    fn answer_begins(&self, so_far: &Outcome<'_>) {
        let (Some(picked), Some(first)) = (so_far.times.decided, so_far.times.first_byte) else {
            return;
        };
        // The first byte of an answer that is no stream comes when all of it is there.
        if !self.settings.streaming || !so_far.response.streaming || !Self::is_answer(so_far) {
            return;
        }
        let Some(followed) = self.followed.get(&address(so_far.request)) else { return };
        let learning = followed.ttft.clone();
        drop(followed);
        self.learn(&learning, Latency::Ttft(ms(first.since(picked))));
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        let Some((_, followed)) = self.followed.remove(&address(outcome.request)) else { return };
        self.forget(&followed);
        if outcome.ending != Ending::Complete || !Self::is_answer(outcome) {
            return;
        }
        if self.settings.streaming {
            if let Some(tpot) = tpot(outcome) {
                self.learn(&followed.tpot, Latency::Tpot(ms(tpot)));
            }
        } else if let Some(picked) = outcome.times.decided {
            let latency = Latency::Ttft(ms(outcome.times.ended.since(picked)));
            self.learn(&followed.ttft, latency);
        }
    }
}

/// Mean time between the tokens of a streamed answer. Where the endpoint reports no usage, each
/// chunk counts as a token.
fn tpot(outcome: &Outcome<'_>) -> Option<Duration> {
    if !outcome.response.streaming {
        return None;
    }
    let reported = outcome.response.usage.map(|usage| usage.completion).filter(|&n| n > 0);
    let tokens = match reported {
        Some(tokens) => tokens,
        None => outcome.response.intervals.counts().iter().map(|&n| u64::from(n)).sum::<u64>() + 1,
    };
    let gaps = u32::try_from(tokens.checked_sub(1)?).ok().filter(|&n| n > 0)?;
    Some(outcome.times.ended.since(outcome.times.first_byte?) / gaps)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl DebugState for LatencyProducer {
    /// How far off predictions were of late, as shares of what was observed.
    fn debug_state(&self) -> serde_json::Value {
        let errors = self.memory.model.errors();
        let show = |e: ErrorEstimate| {
            let known = |share: f64| (e.observations > 0).then_some(share);
            json!({
                "predictions": e.observations,
                "medianError": known(e.median),
                "p90Error": known(e.p90),
            })
        };
        json!({
            "ready": self.memory.model.is_ready(),
            "requestsFollowed": self.followed.len(),
            "ttft": show(errors.ttft),
            "tpot": show(errors.tpot),
        })
    }
}

impl PluginMetrics for LatencyProducer {
    /// Ours: the reference's predictions are judged by its servers.
    fn families(&self) -> Vec<MetricFamily> {
        let errors = self.memory.model.errors();
        let (mut shares, mut counts) = (Vec::new(), Vec::new());
        for (latency, error) in [("ttft", errors.ttft), ("tpot", errors.tpot)] {
            counts.push(self.sample(&[("latency", latency)], error.observations as f64));
            for (quantile, share) in [("0.5", error.median), ("0.9", error.p90)] {
                if error.observations > 0 {
                    let labels = [("latency", latency), ("quantile", quantile)];
                    shares.push(self.sample(&labels, share));
                }
            }
        }
        vec![
            MetricFamily {
                name: "llm_d_epp_latency_prediction_error_ratio",
                help: "How far off predicted latencies were of late, as a share of the observed.",
                kind: MetricKind::Gauge,
                samples: shares,
            },
            MetricFamily {
                name: "llm_d_epp_latency_predictions_judged_total",
                help: "Predicted latencies that were compared with the observed ones.",
                kind: MetricKind::Counter,
                samples: counts,
            },
        ]
    }
}

impl LatencyProducer {
    fn sample(&self, labels: &[(&'static str, &str)], value: f64) -> MetricSample {
        let [name, kind] = self.labels.clone();
        let own = [("plugin_name", name), ("plugin_type", kind)];
        let labels = labels.iter().map(|&(key, value)| (key, value.to_owned()));
        MetricSample {
            labels: own.into_iter().chain(labels).collect(),
            value: MetricValue::Number(value),
        }
    }
}
