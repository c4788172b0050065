//! `endpoint-attribute-scorer`: rates endpoints by a number that is told of them.

use super::endpoint_attributes::{self, AttributeReader, value_of};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::scheduling::{Cycle, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "endpoint-attribute-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "rates endpoints by an attribute",
    formula: "the place of the attribute between min and max, or between the least and the largest of the candidates; turned round where the lower is the better; without the attribute 0; all others equal: 1",
    parameters: Parameters::Listed(&[
        Parameter::text("attributeKey", "the attribute").required().example("GPUUtilization"),
        endpoint_attributes::PRODUCER,
        Parameter::fields("algorithm", &ALGORITHM, "how it is rated").required(),
    ]),
};

const ALGORITHM: [Parameter; 2] = [
    Parameter::one_of(
        "type",
        &["linear_lower_is_better", "linear_higher_is_better"],
        "which end is the better",
    )
    .required(),
    Parameter::fields("normalization", &NORMALIZATION, "the range that scores span"),
];

const NORMALIZATION: [Parameter; 2] = [
    Parameter::fields("fixedRange", &RANGE, "this one; either this")
        .example("{min: 0.0, max: 100.0}"),
    Parameter::fields("adaptiveRange", &[], "or that of the candidates").default("{}"),
];

const RANGE: [Parameter; 2] = [
    Parameter::number("min", "the lower end").default("0.0").beside("{max: 100.0}"),
    Parameter::number("max", "the upper end, above min").default("0.0").beside("{min: -1.0}"),
];

#[derive(Debug)]
struct EndpointAttributeScorer {
    attribute: AttributeReader,
    lower_is_better: bool,
    /// The range that scores span; `None`: that of the candidates.
    fixed: Option<Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    min: f64,
    max: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let attribute = AttributeReader::read(&mut p, "attributeKey", build.dependencies);
    let (lower_is_better, fixed) = read_algorithm(p.nested("algorithm"));
    p.finish();
    Capabilities::scorer(EndpointAttributeScorer { attribute, lower_is_better, fixed })
}

/// Whether the lower is the better, and the range. Without one it is the candidates', as in
/// llm-d-router main at ebab6879.
fn read_algorithm(mut p: Fields<'_>) -> (bool, Option<Range>) {
    let kind = p.string("type").unwrap_or_default();
    if !["linear_lower_is_better", "linear_higher_is_better"].contains(&kind) {
        p.error("type", "must be linear_lower_is_better or linear_higher_is_better");
    }
    let mut normalization = p.nested("normalization");
    let is_fixed = normalization.node("fixedRange").is_some();
    let is_adaptive = normalization.node("adaptiveRange").is_some();
    if is_fixed && is_adaptive {
        normalization.error("fixedRange", "cannot stand together with adaptiveRange");
    }
    let fixed = is_fixed.then(|| read_range(normalization.nested("fixedRange")));
    normalization.nested("adaptiveRange").finish();
    normalization.finish();
    p.finish();
    (kind == "linear_lower_is_better", fixed)
}

fn read_range(mut p: Fields<'_>) -> Range {
    let (min, max) = (p.float("min").unwrap_or(0.0), p.float("max").unwrap_or(0.0));
    if min >= max {
        p.error("max", format!("must be above min, found {max} and {min}"));
    }
    p.finish();
    Range { min, max }
}

impl Scorer for EndpointAttributeScorer {
    /// The attribute's place in the range, from 0 to 1, turned round where the lower is the
    /// better. Endpoints without the attribute get 0; where all others are equal, those get 1
    /// (llm-d-router main at ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let slot = self.attribute.slot();
        let value = |c: u32| value_of(cycle.candidates[c as usize].endpoint, slot);
        let range = self.fixed.unwrap_or_else(|| {
            let values = candidates.iter().filter_map(|&c| value(c));
            let none = Range { min: f64::INFINITY, max: f64::NEG_INFINITY };
            values.fold(none, |r, v| Range { min: r.min.min(v), max: r.max.max(v) })
        });
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let Some(value) = value(c) else { continue };
            let place = ((value - range.min) / (range.max - range.min)).clamp(0.0, 1.0);
            *score = match self.lower_is_better {
                _ if range.min == range.max => 1.0,
                true => 1.0 - place,
                false => place,
            };
        }
    }
}
