//! `label-selector-filter`: keeps workers that a Kubernetes label selector matches.

use super::{Build, Capabilities, PluginType};
use crate::config::{Fields, nearest};
use crate::endpoints::Labels;
use crate::scheduling::{Cycle, Filter};

/// The alias is the type's name up to llm-d-router v0.8.
pub(super) const TYPE: PluginType =
    PluginType { name: "label-selector-filter", aliases: &["by-label-selector"], build };

/// A worker must meet all requirements; with none, every worker passes.
#[derive(Debug)]
struct LabelSelectorFilter {
    requirements: Vec<Requirement>,
}

#[derive(Debug)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

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
    Capabilities::filter(LabelSelectorFilter { requirements })
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

/// A label's key: a name of up to 63 characters, before it maybe a DNS name and a slash.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_label_text(name, 63, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!(
            "'{key}' is no label key: its name must be 1 to 63 letters, digits, '-', '_' or '.', \
             beginning and ending with a letter or digit"
        ));
    }
    let is_dns = |p: &str| {
        p.len() <= 253
            && p.split('.').all(|part| {
                is_label_text(part, 253, |c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
                })
            })
    };
    match prefix {
        Some(p) if !is_dns(p) => {
            Err(format!("'{key}' is no label key: what stands before '/' must be a DNS name"))
        }
        _ => Ok(()),
    }
}

/// A label's value: empty, or like a key's name.
fn check_value(value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if value.is_empty() || is_label_text(value, 63, allowed) {
        return Ok(());
    }
    Err(format!(
        "'{value}' is no label value: it must be up to 63 letters, digits, '-', '_' or '.', \
         beginning and ending with a letter or digit"
    ))
}

fn is_label_text(text: &str, max: usize, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

impl Requirement {
    /// As in Kubernetes, a worker without the label meets `NotIn`.
    fn is_met(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Filter for LabelSelectorFilter {
    fn depends_on_load(&self) -> bool {
        false
    }

    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        candidates.retain(|&c| {
            let labels = cycle.candidates[c as usize].endpoint.labels();
            self.requirements.iter().all(|r| r.is_met(&labels))
        });
    }
}
