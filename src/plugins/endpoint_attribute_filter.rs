//! `endpoint-attribute-filter`: keeps endpoints by a number that is told of them.

use super::endpoint_attributes::{self, AttributeReader, value_of};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "endpoint-attribute-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "endpoints of which an attribute compares true with a number",
    formula: "those without the attribute pass or fail as onMissing says; with the fallback all pass where none is left",
    parameters: Parameters::Listed(&[
        Parameter::text("attribute", "the attribute").required().example("GPUUtilization"),
        endpoint_attributes::PRODUCER,
        Parameter::one_of("onMissing", &["Pass", "Fail"], "what endpoints without it do")
            .default("Pass"),
        Parameter::boolean("fallbackOnEmpty", "keep all where none is left").default("false"),
        Parameter::fields("algorithm", &ALGORITHM, "how it is compared").required(),
    ]),
};

const ALGORITHM: [Parameter; 2] = [
    Parameter::one_of("type", &["threshold"], "with a number").required(),
    Parameter::fields("threshold", &THRESHOLD, "the comparison").required(),
];

const THRESHOLD: [Parameter; 2] = [
    Parameter::one_of(
        "operator",
        &["LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual", "Equal", "NotEqual"],
        "what the attribute has to be to the number",
    )
    .required(),
    Parameter::number("value", "the number").default("0.0"),
];

#[derive(Debug)]
struct EndpointAttributeFilter {
    attribute: AttributeReader,
    /// Endpoints without the attribute pass.
    passes_missing: bool,
    /// Where no endpoint passes, all are kept.
    fallback: bool,
    operator: Operator,
    value: f64,
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    LessThan,
    LessThanOrEqual,
    GreaterThan,
    GreaterThanOrEqual,
    Equal,
    NotEqual,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("LessThan", Operator::LessThan),
    ("LessThanOrEqual", Operator::LessThanOrEqual),
    ("GreaterThan", Operator::GreaterThan),
    ("GreaterThanOrEqual", Operator::GreaterThanOrEqual),
    ("Equal", Operator::Equal),
    ("NotEqual", Operator::NotEqual),
];

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let attribute = AttributeReader::read(&mut p, "attribute", build.dependencies);
    let on_missing = p.string("onMissing").unwrap_or_default();
    if !["", "Pass", "Fail"].contains(&on_missing) {
        p.error("onMissing", "must be Pass or Fail");
    }
    let fallback = p.bool("fallbackOnEmpty").unwrap_or(false);
    let (operator, value) = read_algorithm(p.nested("algorithm"));
    let passes_missing = on_missing != "Fail";
    p.finish();
    let filter = EndpointAttributeFilter { attribute, passes_missing, fallback, operator, value };
    Capabilities::filter(filter)
}

fn read_algorithm(mut p: Fields<'_>) -> (Operator, f64) {
    if p.string("type") != Some("threshold") {
        p.error("type", "must be threshold");
    }
    let mut threshold = p.nested("threshold");
    let given = threshold.string("operator");
    let operator = OPERATORS.iter().find(|(name, _)| given == Some(name));
    if operator.is_none() {
        let names = OPERATORS.map(|(name, _)| name).join(", ");
        threshold.error("operator", format!("must be one of {names}"));
    }
    // Left out it is 0, as any number that the reference reads.
    let value = threshold.float("value").unwrap_or(0.0);
    threshold.finish();
    p.finish();
    (operator.map_or(Operator::Equal, |(_, operator)| *operator), value)
}

impl EndpointAttributeFilter {
    fn passes(&self, attribute: Option<f64>) -> bool {
        let Some(attribute) = attribute else { return self.passes_missing };
        match self.operator {
            Operator::LessThan => attribute < self.value,
            Operator::LessThanOrEqual => attribute <= self.value,
            Operator::GreaterThan => attribute > self.value,
            Operator::GreaterThanOrEqual => attribute >= self.value,
            // What is compared was written by people or is a count.
            Operator::Equal => attribute == self.value,
            Operator::NotEqual => attribute != self.value,
        }
    }
}

impl Filter for EndpointAttributeFilter {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let slot = self.attribute.slot();
        let passes = |c: u32| self.passes(value_of(cycle.candidates[c as usize].endpoint, slot));
        if self.fallback && !candidates.iter().any(|&c| passes(c)) {
            return;
        }
        candidates.retain(|&c| passes(c));
    }
}
