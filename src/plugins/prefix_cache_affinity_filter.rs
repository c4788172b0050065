//! `prefix-cache-affinity-filter`: keeps to the workers that hold nearly the whole prompt, unless
//! they are so much busier than the others that waiting would cost more than computing again.

use super::latency_prediction::{LatencyPredictions, predictions};
use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, Filter, PrefixMatch, ReadsAnswers, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "prefix-cache-affinity-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "endpoints that hold enough of the prompt, unless they are too far behind the others",
    formula: "matched/total ≥ affinityThreshold; all where the least TTFT among them is more than maxTTFTPenaltyMs above that among the others",
    parameters: Parameters::Listed(&[
        Parameter::number(
            "affinityThreshold",
            "cached share from which an endpoint is kept to; 0 and less: off",
        )
        .default("0.8")
        .at_most(1.0),
        Parameter::number("explorationProbability", "share of requests that pass unfiltered")
            .default("0.0")
            .at_least(0.0)
            .at_most(1.0),
        Parameter::number(
            "maxTTFTPenaltyMs",
            "how much longer the first token may take; 0: any time",
        )
        .unit("ms")
        .default("18000.0")
        .at_least(0.0),
        Parameter::one_of(
            "ttftSource",
            &["prefillThroughput", "latencyPredictor"],
            "where the times come from: tokens in flight, or predictions",
        )
        .default("prefillThroughput"),
        Parameter::number("peakPrefillThroughput", "prompt tokens that an endpoint computes")
            .unit("tokens/s")
            .default("15928.0")
            .above(0.0),
        Parameter::prefix_producer(),
        Parameter::in_flight_producer(),
        Parameter::latency_producer().beside("{ttftSource: latencyPredictor}"),
    ]),
};

const DEFAULT_THRESHOLD: f64 = 0.80;
const DEFAULT_MAX_PENALTY_MS: f64 = 18_000.0;
const DEFAULT_PEAK_THROUGHPUT: f64 = 15_928.0;

#[derive(Debug)]
struct PrefixCacheAffinityFilter {
    prefix: DataKey<PrefixMatch>,
    /// Matched share of the prompt from which a worker is sticky; 0 or less switches the filter
    /// off.
    threshold: f64,
    /// Share of requests that pass unfiltered, 0 to 1.
    exploration: f64,
    /// How much longer, in milliseconds, the first token may take on the best sticky worker than
    /// on the best other one; 0 means any time.
    max_penalty_ms: f64,
    ttft: TtftSource,
}

/// How long the first token would take.
#[derive(Debug)]
enum TtftSource {
    /// What is in flight, over the prompt tokens that a worker computes per second.
    Throughput(f64),
    Predicted(DataKey<LatencyPredictions>),
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let prefix = build.dependencies.read(parameters::prefix_producer(&mut p));
    let threshold = p.float("affinityThreshold").unwrap_or(DEFAULT_THRESHOLD);
    if threshold > 1.0 {
        p.error("affinityThreshold", format!("must be at most 1, found {threshold}"));
    }
    let exploration = parameters::share(&mut p, "explorationProbability", 0.0);
    let max_penalty_ms =
        parameters::non_negative(&mut p, "maxTTFTPenaltyMs", DEFAULT_MAX_PENALTY_MS);
    let peak_throughput = p.float("peakPrefillThroughput").unwrap_or(DEFAULT_PEAK_THROUGHPUT);
    if peak_throughput <= 0.0 {
        p.error("peakPrefillThroughput", format!("must be above 0, found {peak_throughput}"));
    }
    let predicted = match p.string("ttftSource") {
        None | Some("prefillThroughput") => false,
        Some("latencyPredictor") => true,
        Some(_) => {
            p.error("ttftSource", "must be 'prefillThroughput' or 'latencyPredictor'");
            false
        }
    };
    let ttft = if predicted {
        TtftSource::Predicted(predictions(&mut p, build.dependencies))
    } else {
        let why = "it belongs to the ttftSource 'latencyPredictor'";
        parameters::without_effect(&mut p, "latencyPredictionInfoProducerName", why);
        TtftSource::Throughput(peak_throughput)
    };
    let in_flight = parameters::in_flight_producer(&mut p);
    p.finish();
    let reads_tokens = max_penalty_ms > 0.0 && !predicted;
    if reads_tokens || in_flight.is_some() {
        // Without it no tokens are counted, and the candidates' are all 0.
        build.dependencies.read::<TokenLoad>(in_flight);
    }
    let filter = Capabilities::filter(PrefixCacheAffinityFilter {
        prefix,
        threshold,
        exploration,
        max_penalty_ms,
        ttft,
    });
    // Tokens are in flight until the answer begins.
    if reads_tokens { filter.reading_answers(ReadsAnswers::FirstToken) } else { filter }
}

impl TtftSource {
    /// The request's own tokens are not added to what is in flight. Where nothing is predicted,
    /// any time may be.
    fn ms(&self, cycle: &Cycle<'_>, candidate: u32) -> f64 {
        match *self {
            Self::Throughput(tokens_per_s) => {
                let in_flight = cycle.candidates[candidate as usize].in_flight_tokens;
                in_flight as f64 / tokens_per_s * 1000.0
            }
            Self::Predicted(key) => cycle
                .data
                .get(key)
                .and_then(|predictions| predictions.get(candidate))
                .map_or(f64::MAX, |predicted| predicted.ttft_ms),
        }
    }
}

impl Filter for PrefixCacheAffinityFilter {
    fn wants(&self) -> String {
        format!("at least {} of the prompt cached, where some endpoint has", self.threshold)
    }

    /// As in llm-d-router main at ebab6879.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        if candidates.len() <= 1 || self.threshold <= 0.0 {
            return;
        }
        if self.exploration > 0.0 && cycle.with_rng(|rng| rng.f64()) < self.exploration {
            return;
        }
        let Some(found) = cycle.data.get(self.prefix) else { return };
        let is_sticky = |c: u32| found.ratio(c) >= self.threshold;
        let ttft_ms = |c: u32| self.ttft.ms(cycle, c);
        // The best of the sticky workers and of the others; infinite where there are none.
        let (mut sticky, mut other) = (f64::INFINITY, f64::INFINITY);
        for &c in candidates.iter() {
            let best = if is_sticky(c) { &mut sticky } else { &mut other };
            *best = best.min(ttft_ms(c));
        }
        let too_busy = self.max_penalty_ms > 0.0 && sticky - other > self.max_penalty_ms;
        if sticky.is_finite() && !too_busy {
            candidates.retain(|&c| is_sticky(c));
        }
    }
}
