//! `context-length-aware`: endpoints say by a label for which lengths of prompts they are meant;
//! prompts go where they fit best.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, DataKey, Filter, Scorer, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "context-length-aware", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer, Part::Filter],
    stability: Stability::Beta,
    since: "llm-d v0.7",
    summary: "prompts go where a label says that their length fits",
    formula: "label `min-max`, in tokens; within: 0.3 + 0.7 · (0.7/(1 + width/10000) + 0.3 · (max - tokens)/width), 1 where the width is 0; outside: 0.3/(1 + distance/1000); no label: 0.5; no range: 0",
    parameters: Parameters::Listed(&[
        Parameter::text("label", "the label with the range")
            .default("llm-d.ai/context-length-range"),
        Parameter::boolean("enableFiltering", "leave out endpoints that the prompt does not fit")
            .default("false"),
    ]),
};

const DEFAULT_LABEL: &str = "llm-d.ai/context-length-range";
/// What an endpoint that says nothing scores.
const NEUTRAL: f64 = 0.5;

#[derive(Debug)]
struct ContextLengthAware {
    label: String,
    /// The filter lets everything pass.
    scores_only: bool,
    load: DataKey<TokenLoad>,
}

/// Prompt lengths, in tokens, that an endpoint is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LengthRange {
    min: u64,
    max: u64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let label = p.string("label").unwrap_or(DEFAULT_LABEL).to_owned();
    if label.is_empty() {
        p.error("label", "must not be empty: the label with the range of lengths");
    }
    let scores_only = !p.bool("enableFiltering").unwrap_or(false);
    p.finish();
    // The producer counts the prompt's tokens; without one nobody reads the prompt.
    let load = build.dependencies.read(None);
    let plugin = Arc::new(ContextLengthAware { label, scores_only, load });
    Capabilities::default().with::<dyn Filter>(plugin.clone()).with::<dyn Scorer>(plugin)
}

impl LengthRange {
    /// Reads `min-max`. `None` where it is something else.
    fn parse(text: &str) -> Option<Self> {
        let (min, max) = text.split_once('-')?;
        let range = Self { min: min.trim().parse().ok()?, max: max.trim().parse().ok()? };
        (range.min <= range.max).then_some(range)
    }

    fn contains(self, length: u64) -> bool {
        (self.min..=self.max).contains(&length)
    }

    /// How well the range fits a prompt: at least 0.3 within it, the more the narrower it is and
    /// the more room it leaves; less and less with the distance outside (llm-d-router main at
    /// ebab6879).
    fn score(self, length: u64) -> f64 {
        if !self.contains(length) {
            let distance = if length < self.min { self.min - length } else { length - self.max };
            return 0.3 / (1.0 + distance as f64 / 1000.0);
        }
        let width = (self.max - self.min) as f64;
        if width == 0.0 {
            return 1.0;
        }
        let narrow = 1.0 / (1.0 + width / 10_000.0);
        let room = (self.max - length) as f64 / width;
        0.3 + 0.7 * (0.7 * narrow + 0.3 * room)
    }
}

impl ContextLengthAware {
    fn length(&self, cycle: &Cycle<'_>) -> u64 {
        cycle.data.get(self.load).map_or(0, |load| load.prompt)
    }

    /// What `f` makes of the candidate's label.
    fn label<R>(&self, cycle: &Cycle<'_>, candidate: u32, f: impl FnOnce(Option<&str>) -> R) -> R {
        let labels = cycle.candidates[candidate as usize].endpoint.labels();
        f(labels.get(&self.label).map(String::as_str))
    }
}

impl Filter for ContextLengthAware {
    /// Keeps endpoints that say nothing and those whose range holds the prompt. One whose label
    /// cannot be read is left out.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        if self.scores_only {
            return;
        }
        let length = self.length(cycle);
        let fits = |label: Option<&str>| match label {
            None => true,
            Some(text) => LengthRange::parse(text).is_some_and(|range| range.contains(length)),
        };
        candidates.retain(|&c| self.label(cycle, c, fits));
    }
}

impl Scorer for ContextLengthAware {
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let length = self.length(cycle);
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = self.label(cycle, c, |label| match label {
                None => NEUTRAL,
                Some(text) => LengthRange::parse(text).map_or(0.0, |range| range.score(length)),
            });
        }
    }
}
