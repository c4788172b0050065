//! `predicted-latency-scorer`, of the Gateway API Inference Extension v1.3: predicts, and chooses
//! one endpoint itself, which scores 1, the others 0. Later versions made several types of it
//! (`predicted-latency-producer`, `latency-scorer`, `slo-headroom-tier-filter`,
//! `prefix-cache-affinity-filter`); here it stands on the same predictions.

use std::sync::Arc;

use super::latency_prediction::{LatencyPredictions, PredictedLatency};
use super::parameters::non_negative;
use super::predicted_latency_producer::{LatencyProducer, Settings, slo_buffer_factor};
use super::{
    About, Build, Capabilities, Kind, Parameter, Parameters, Part, PluginType, Stability,
    parameters,
};
use crate::config::Fields;
use crate::scheduling::{Cycle, DataKey, PrefixMatch, Scorer, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "predicted-latency-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer, Part::Producer],
    stability: Stability::Removed("predicted-latency-producer and latency-scorer"),
    since: "GIE v1.3",
    summary: "predicts, and chooses one endpoint itself",
    formula: "chosen: 1; all others 0",
    parameters: Parameters::Listed(&[
        Parameter::boolean("streamingMode", "answers are streams").default("true"),
        Parameter::number("sloBufferFactor", "by how much TPOT limits are multiplied")
            .default("1.0")
            .above(0.0),
        Parameter::number(
            "headroomTTFTWeight",
            "where limits are kept: weight of the TTFT headroom",
        )
        .default("0.8")
        .at_least(0.0),
        Parameter::number(
            "headroomTPOTWeight",
            "where limits are kept: weight of the TPOT headroom",
        )
        .default("0.2")
        .at_least(0.0),
        Parameter::number(
            "negHeadroomTTFTWeight",
            "where one is missed: weight of the TTFT headroom",
        )
        .default("0.8")
        .at_least(0.0),
        Parameter::number(
            "negHeadroomTPOTWeight",
            "where one is missed: weight of the TPOT headroom",
        )
        .default("0.2")
        .at_least(0.0),
        Parameter::one_of(
            "headroomSelectionStrategy",
            &["least", "most", "composite-least", "composite-most", "composite-only"],
            "which of those that keep the limits is best",
        )
        .default("least"),
        Parameter::number("compositeKVWeight", "weight of the free KV cache")
            .default("1.0")
            .at_least(0.0),
        Parameter::number("compositeQueueWeight", "weight of the short queue")
            .default("1.0")
            .at_least(0.0),
        Parameter::number("compositePrefixWeight", "weight of the cached prefix")
            .default("1.0")
            .at_least(0.0),
        Parameter::number(
            "epsilonExploreSticky",
            "share of requests that disregard what is cached",
        )
        .default("0.01")
        .at_least(0.0)
        .at_most(1.0),
        Parameter::number(
            "epsilonExploreNeg",
            "share of requests that go where a limit is missed though others keep it",
        )
        .default("0.01")
        .at_least(0.0)
        .at_most(1.0),
        Parameter::number(
            "affinityGateTau",
            "cached share from which endpoints of the group are kept to",
        )
        .default("0.8")
        .at_least(0.0)
        .at_most(1.0),
        Parameter::number(
            "affinityGateTauGlobal",
            "cached share from which endpoints are kept to at first",
        )
        .default("0.99")
        .at_least(0.0)
        .at_most(1.0),
        Parameter::one_of(
            "selectionMode",
            &["linear", "max"],
            "at random by weight, or the largest",
        )
        .default("linear"),
        Parameter::of_kind("samplingMean", Kind::Any, "which tokens are learnt from")
            .without_effect("every answer is learnt from"),
        Parameter::of_kind("maxSampledTokens", Kind::Any, "how many tokens are learnt from")
            .without_effect("every answer is learnt from"),
    ]),
};

#[derive(Debug)]
struct PredictedLatencyScorer {
    predictions: DataKey<LatencyPredictions>,
    prefix: DataKey<PrefixMatch>,
    /// Weights of the two headrooms, where limits are kept and where one is missed.
    kept: Blend,
    missed: Blend,
    strategy: Strategy,
    composite: Composite,
    /// Share of requests that disregard what is cached where, and that go where a limit is missed
    /// though others keep it.
    explore_sticky: f64,
    explore_negative: f64,
    /// Cached share of the prompt from which endpoints are kept to, within the group chosen and
    /// before any is.
    tau: f64,
    tau_global: f64,
    /// Takes the largest weight, not one at random by weight.
    largest: bool,
}

#[derive(Clone, Copy, Debug)]
struct Blend {
    ttft: f64,
    tpot: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Least,
    Most,
    CompositeLeast,
    CompositeMost,
    CompositeOnly,
}

const STRATEGIES: [(&str, Strategy); 5] = [
    ("least", Strategy::Least),
    ("most", Strategy::Most),
    ("composite-least", Strategy::CompositeLeast),
    ("composite-most", Strategy::CompositeMost),
    ("composite-only", Strategy::CompositeOnly),
];

/// Weights of what endpoints report.
#[derive(Clone, Copy, Debug)]
struct Composite {
    kv: f64,
    queue: f64,
    prefix: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let Build { name, parameters: mut p, dependencies, ids, predecessor, .. } = build;
    for old in ["samplingMean", "maxSampledTokens"] {
        parameters::without_effect(&mut p, old, "every answer is learnt from");
    }
    let settings = Settings {
        slo_buffer_factor: slo_buffer_factor(&mut p),
        streaming: p.bool("streamingMode").unwrap_or(true),
        role_label: String::new(),
        predict: true,
    };
    let missed = Blend {
        ttft: non_negative(&mut p, "negHeadroomTTFTWeight", 0.8),
        tpot: non_negative(&mut p, "negHeadroomTPOTWeight", 0.2),
    };
    let kept = Blend {
        ttft: non_negative(&mut p, "headroomTTFTWeight", 0.8),
        tpot: non_negative(&mut p, "headroomTPOTWeight", 0.2),
    };
    let strategy = strategy(&mut p);
    let composite = Composite {
        kv: non_negative(&mut p, "compositeKVWeight", 1.0),
        queue: non_negative(&mut p, "compositeQueueWeight", 1.0),
        prefix: non_negative(&mut p, "compositePrefixWeight", 1.0),
    };
    let explore_sticky = parameters::share(&mut p, "epsilonExploreSticky", 0.01);
    let explore_negative = parameters::share(&mut p, "epsilonExploreNeg", 0.01);
    let tau = parameters::share(&mut p, "affinityGateTau", 0.80);
    let tau_global = parameters::share(&mut p, "affinityGateTauGlobal", 0.99);
    let largest = match p.string("selectionMode") {
        None | Some("linear") => false,
        Some("max") => true,
        Some(_) => {
            p.error("selectionMode", "must be 'linear' or 'max'");
            false
        }
    };
    p.finish();
    let prefix = dependencies.read(None);
    dependencies.read::<TokenLoad>(None);
    let predictions = dependencies.provide(name);
    let scorer = PredictedLatencyScorer {
        predictions,
        prefix,
        kept,
        missed,
        strategy,
        composite,
        explore_sticky,
        explore_negative,
        tau,
        tau_global,
        largest,
    };
    let labels = [name.to_owned(), TYPE.name.to_owned()];
    LatencyProducer::new(settings, prefix, predictions, ids, labels, predecessor)
        .capabilities()
        .with::<dyn Scorer>(Arc::new(scorer))
}

fn strategy(p: &mut Fields<'_>) -> Strategy {
    let Some(given) = p.string("headroomSelectionStrategy") else { return Strategy::Least };
    let found = STRATEGIES.iter().find(|(name, _)| *name == given);
    found.map_or_else(
        || {
            let names = STRATEGIES.map(|(name, _)| name).join(", ");
            p.error("headroomSelectionStrategy", format!("must be one of {names}"));
            Strategy::Least
        },
        |(_, strategy)| *strategy,
    )
}

/// A candidate with what is predicted of it.
type Predicted = (u32, PredictedLatency);

impl Scorer for PredictedLatencyScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let Some(chosen) = self.choose(cycle, candidates) else { return };
        if let Some(i) = candidates.iter().position(|&c| c == chosen) {
            scores[i] = 1.0;
        }
    }
}

impl PredictedLatencyScorer {
    fn choose(&self, cycle: &Cycle<'_>, candidates: &[u32]) -> Option<u32> {
        let predictions = cycle.data.get(self.predictions);
        let all: Vec<Predicted> =
            candidates.iter().filter_map(|&c| Some((c, predictions?.get(c)?))).collect();
        if all.is_empty() {
            return self.draw(cycle, self.by_composite(cycle, candidates));
        }
        let all = self.keep_to_cached(cycle, all, self.tau_global);
        let (kept, missed): (Vec<Predicted>, Vec<Predicted>) =
            all.into_iter().partition(|(_, p)| p.has_headroom());
        let explores = || self.happens(cycle, self.explore_negative);
        if kept.is_empty() || (!missed.is_empty() && explores()) {
            self.choose_missed(cycle, missed)
        } else {
            self.choose_kept(cycle, kept)
        }
    }

    /// The members that hold `tau` of the prompt, if any does, but for those requests that explore.
    fn keep_to_cached(&self, cycle: &Cycle<'_>, all: Vec<Predicted>, tau: f64) -> Vec<Predicted> {
        let ratio = |c: u32| cycle.data.get(self.prefix).map_or(0.0, |p| p.ratio(c));
        let cached: Vec<Predicted> =
            all.iter().copied().filter(|&(c, _)| ratio(c) >= tau).collect();
        if cached.is_empty() || self.happens(cycle, self.explore_sticky) { all } else { cached }
    }

    fn choose_kept(&self, cycle: &Cycle<'_>, members: Vec<Predicted>) -> Option<u32> {
        let members = self.keep_to_cached(cycle, members, self.tau);
        let candidates: Vec<u32> = members.iter().map(|&(c, _)| c).collect();
        match self.strategy {
            Strategy::Least | Strategy::Most => {}
            Strategy::CompositeLeast => {
                let weights = self.by_composite(cycle, &candidates);
                return self.draw(cycle, weights.into_iter().map(|(c, w)| (c, 101 - w)).collect());
            }
            Strategy::CompositeMost | Strategy::CompositeOnly => {
                return self.draw(cycle, self.by_composite(cycle, &candidates));
            }
        }
        let weight = |blend: f64| {
            let good = if self.strategy == Strategy::Most { blend } else { 1.0 - blend };
            (good * 99.0) as u64 + 2
        };
        self.draw(cycle, weighted(&members, self.kept, weight))
    }

    fn choose_missed(&self, cycle: &Cycle<'_>, members: Vec<Predicted>) -> Option<u32> {
        let idle = |&(c, _): &Predicted| cycle.candidates[c as usize].in_flight_requests == 0;
        let members: Vec<Predicted> = match members.iter().any(idle) {
            true => members.into_iter().filter(idle).collect(),
            false => members,
        };
        let members = self.keep_to_cached(cycle, members, self.tau);
        let misses = |p: &PredictedLatency| (p.ttft_headroom < 0.0, p.tpot_headroom < 0.0);
        let mut weights = Vec::with_capacity(members.len());
        for which in [(true, true), (true, false), (false, true)] {
            let group: Vec<Predicted> =
                members.iter().copied().filter(|(_, p)| misses(p) == which).collect();
            let weight = |blend: f64| ((1.0 - blend) * 80.0) as u64 + 2;
            weights.extend(weighted(&group, self.missed, weight));
        }
        self.draw(cycle, weights)
    }

    /// Weights from 1 to 100 by what endpoints report.
    fn by_composite(&self, cycle: &Cycle<'_>, candidates: &[u32]) -> Vec<(u32, u64)> {
        let signals = |c: u32| &cycle.candidates[c as usize].signals;
        let waiting = || candidates.iter().map(|&c| f64::from(signals(c).waiting));
        let (least, most) =
            (waiting().fold(f64::INFINITY, f64::min), waiting().fold(0.0, f64::max));
        let Composite { kv, queue, prefix } = self.composite;
        let sum = kv + queue + prefix;
        let ratio = |c: u32| cycle.data.get(self.prefix).map_or(0.0, |p| p.ratio(c));
        let weight = |c: u32| {
            let q = f64::from(signals(c).waiting);
            let short = if most > least { (most - q) / (most - least) } else { 1.0 };
            let free = 1.0 - signals(c).kv_usage;
            let composite = if sum > 0.0 {
                (kv * free + queue * short + prefix * ratio(c)) / sum
            } else {
                free
            };
            (1.0 + 99.0 * composite.clamp(0.0, 1.0)).round() as u64
        };
        candidates.iter().map(|&c| (c, weight(c))).collect()
    }

    fn happens(&self, cycle: &Cycle<'_>, share: f64) -> bool {
        share > 0.0 && cycle.with_rng(|rng| rng.f64()) < share
    }

    /// One of the candidates, at random by weight, or the one of the largest.
    fn draw(&self, cycle: &Cycle<'_>, weights: Vec<(u32, u64)>) -> Option<u32> {
        if self.largest {
            return weights.iter().max_by_key(|(_, weight)| *weight).map(|&(c, _)| c);
        }
        let sum: u64 = weights.iter().map(|(_, weight)| weight).sum();
        if sum == 0 {
            return weights.first().map(|&(c, _)| c);
        }
        let mut left = cycle.with_rng(|rng| rng.u64(..sum));
        for &(c, weight) in &weights {
            if left < weight {
                return Some(c);
            }
            left -= weight;
        }
        None
    }
}

/// The weight of each member by the size of its headrooms among the group's.
fn weighted(members: &[Predicted], blend: Blend, weight: impl Fn(f64) -> u64) -> Vec<(u32, u64)> {
    let range = |of: fn(&PredictedLatency) -> f64| {
        let sizes = members.iter().map(|(_, p)| of(p).abs());
        sizes.fold((f64::INFINITY, 0.0_f64), |(min, max), size| (min.min(size), max.max(size)))
    };
    let place = |size: f64, (min, max): (f64, f64)| {
        if max - min > 1e-9 { (size - min) / (max - min) } else { 0.5 }
    };
    let (ttft, tpot) = (range(|p| p.ttft_headroom), range(|p| p.tpot_headroom));
    let sum = blend.ttft + blend.tpot;
    let (for_ttft, for_tpot) =
        if sum > 0.0 { (blend.ttft / sum, blend.tpot / sum) } else { (1.0, 0.0) };
    let of = |(c, p): &Predicted| {
        let combined = for_ttft * place(p.ttft_headroom.abs(), ttft)
            + for_tpot * place(p.tpot_headroom.abs(), tpot);
        (*c, weight(combined))
    };
    members.iter().map(of).collect()
}
