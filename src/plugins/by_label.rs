//! `by-label`: keeps workers whose label has one of some values. Its successor is
//! `label-selector-filter`.

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "by-label", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Deprecated("label-selector-filter"),
    since: "llm-d v0.2",
    summary: "endpoints with one of the values of a label",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("label", "the label")
            .required()
            .example("llm-d.ai/role")
            .beside("{allowsNoLabel: true}"),
        Parameter::texts("validValues", "what its value may be").beside("{allowsNoLabel: true}"),
        Parameter::boolean(
            "allowsNoLabel",
            "endpoints without the label are kept too; needed where validValues is empty",
        )
        .default("false")
        .beside("{validValues: [a]}"),
    ]),
};

#[derive(Debug)]
struct ByLabel {
    label: String,
    values: Vec<String>,
    unlabelled: bool,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let label = p.string("label").unwrap_or_default().to_owned();
    let values = p.strings("validValues").unwrap_or_default();
    let unlabelled = p.bool("allowsNoLabel").unwrap_or(false);
    if label.is_empty() {
        p.error("label", "is required: the label to look at");
    }
    if values.is_empty() && !unlabelled {
        p.error("validValues", "must not be empty unless allowsNoLabel is true");
    }
    p.finish();
    Capabilities::filter(ByLabel { label, values, unlabelled })
}

impl Filter for ByLabel {
    fn wants(&self) -> String {
        let or = if self.unlabelled { ", or none" } else { "" };
        format!("label {} of {}{or}", self.label, self.values.join(" or "))
    }

    fn depends_on_load(&self) -> bool {
        false
    }

    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        candidates.retain(|&c| {
            match cycle.candidates[c as usize].endpoint.labels().get(&self.label) {
                Some(value) => self.values.contains(value),
                // As in the reference, a missing label also counts as one with an empty value.
                None => self.unlabelled || self.values.iter().any(String::is_empty),
            }
        });
    }
}
