//! `slo-headroom-tier-filter`: keeps the endpoints that are predicted to keep the request's
//! limits, if there are any.

use super::latency_prediction::{LatencyPredictions, predictions};
use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "slo-headroom-tier-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "endpoints that are predicted to keep the request's limits; all where nothing is predicted",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::number("epsilonExploreNeg", "share of requests that go to those that miss one")
            .default("0.01")
            .at_least(0.0)
            .at_most(1.0),
        Parameter::latency_producer(),
    ]),
};

const DEFAULT_EXPLORATION: f64 = 0.01;

#[derive(Debug)]
struct SloHeadroomTierFilter {
    predictions: DataKey<LatencyPredictions>,
    /// Share of requests that go to the endpoints that miss a limit though others do not.
    exploration: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let Build { parameters: mut p, dependencies, .. } = build;
    let exploration = parameters::share(&mut p, "epsilonExploreNeg", DEFAULT_EXPLORATION);
    let predictions = predictions(&mut p, dependencies);
    p.finish();
    Capabilities::filter(SloHeadroomTierFilter { predictions, exploration })
}

impl Filter for SloHeadroomTierFilter {
    fn wants(&self) -> String {
        "predicted latencies within the limits of the request, where some endpoint has".to_owned()
    }

    /// As in llm-d-router main at ebab6879. Endpoints of which nothing is predicted count as
    /// missing a limit, unless that is so of all.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let Some(predictions) = cycle.data.get(self.predictions) else { return };
        let keeps = |c: u32| predictions.get(c).is_some_and(|p| p.has_headroom());
        let good = candidates.iter().filter(|&&c| keeps(c)).count();
        if good == 0 || good == candidates.len() {
            return;
        }
        let explores = self.exploration > 0.0 && cycle.with_rng(|rng| rng.f64()) < self.exploration;
        candidates.retain(|&c| keeps(c) != explores);
    }
}
