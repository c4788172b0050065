//! `label-selector-filter`: keeps workers that a Kubernetes label selector matches.

use super::label_selector::{LabelSelector, Operator, Requirement, check_key, check_value};
use super::{About, Build, Capabilities, Kind, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::{Fields, nearest};
use crate::scheduling::{Cycle, Filter};

/// The alias is the type's name up to llm-d-router v0.8.
pub(super) const TYPE: PluginType = PluginType {
    name: "label-selector-filter",
    aliases: &["by-label-selector"],
    about: ABOUT,
    build,
};

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "endpoints that a label selector matches, as in Kubernetes",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::of_kind(
            "matchLabels",
            Kind::TextMap,
            "labels with the values that they must have",
        ),
        Parameter::each("matchExpressions", &EXPRESSION, "conditions that must all hold"),
    ]),
};

const EXPRESSION: [Parameter; 3] = [
    Parameter::text("key", "the label").required().example("zone"),
    Parameter::one_of("operator", &["In", "NotIn", "Exists", "DoesNotExist"], "the condition")
        .required()
        .example("Exists"),
    Parameter::texts("values", "values, with In and NotIn").beside("{operator: In}"),
];

#[derive(Debug)]
struct LabelSelectorFilter(LabelSelector);

const OPERATORS: [(&str, Operator); 4] = [
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut requirements = Vec::new();
    for (key, value) in p.string_map("matchLabels").unwrap_or_default() {
        if let Err(wrong) = check_key(&key).and_then(|()| check_value(&value)) {
            p.error("matchLabels", wrong);
        }
        requirements.push(Requirement { key, operator: Operator::In, values: vec![value] });
    }
    for expression in p.each("matchExpressions") {
        requirements.extend(read_expression(expression));
    }
    p.finish();
    Capabilities::filter(LabelSelectorFilter(LabelSelector(requirements)))
}

fn read_expression(mut e: Fields<'_>) -> Option<Requirement> {
    let key = e.string("key").unwrap_or_default().to_owned();
    let name = e.string("operator").unwrap_or_default();
    let values = e.strings("values").unwrap_or_default();
    if let Err(wrong) = check_key(&key) {
        e.error("key", wrong);
    }
    let operator = OPERATORS.iter().find(|(n, _)| *n == name).map(|&(_, o)| o);
    match operator {
        None => {
            let near = nearest(name, OPERATORS.iter().map(|&(n, _)| n));
            let hint = near.map(|n| format!("; did you mean '{n}'?")).unwrap_or_default();
            e.error("operator", format!("must be In, NotIn, Exists or DoesNotExist{hint}"));
        }
        Some(Operator::In | Operator::NotIn) if values.is_empty() => {
            e.error("values", format!("must not be empty with the operator {name}"));
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            e.error("values", format!("must be empty with the operator {name}"));
        }
        Some(_) => {}
    }
    if let Some(wrong) = values.iter().find_map(|v| check_value(v).err()) {
        e.error("values", wrong);
    }
    e.finish();
    Some(Requirement { key, operator: operator?, values })
}

impl Filter for LabelSelectorFilter {
    fn wants(&self) -> String {
        let keys: Vec<&str> = self.0.0.iter().map(|r| r.key.as_str()).collect();
        format!("labels that fit the selector (on {})", keys.join(", "))
    }

    fn depends_on_load(&self) -> bool {
        false
    }

    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        candidates.retain(|&c| self.0.matches(&cycle.candidates[c as usize].endpoint.labels()));
    }
}
