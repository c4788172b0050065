//! The spans of a decision: each profile with its filters, its scorers and its picker.

use std::time::Duration;

use opentelemetry::{Array, Context, KeyValue, StringValue, Value};

use super::outcome::{Within, count, text};
use crate::clock::Timestamp;
use crate::scheduling::{Explanation, InferenceRequest, ProfileExplanation, ScorerStep, StepTimes};

/// Endpoints whose total a span names, the best first, as in the reference.
const TOP: usize = 5;

/// Spans of `decision`, which was made in this time. A step whose time nobody measured has all of
/// it.
pub(super) fn spans(
    within: &Within<'_>,
    parent: &Context,
    request: &InferenceRequest,
    decision: &Explanation,
    (begun, decided): (Timestamp, Timestamp),
) {
    for profile in &decision.profiles {
        let times = Ends::of(profile.times.as_ref(), begun, decided);
        let name = KeyValue::new("llm_d.epp.scheduling.profile.name", profile.name.clone());
        let span = (times.began, times.picked);
        let parent = &within.span("run_scheduler_profile", parent, span, vec![name]);
        Steps { within, parent, request, decision, profile, times }.spans();
    }
}

/// When the steps of a profile ended.
struct Ends {
    began: Timestamp,
    filtered: Timestamp,
    scored: Vec<Timestamp>,
    picked: Timestamp,
}

impl Ends {
    fn of(times: Option<&StepTimes>, begun: Timestamp, decided: Timestamp) -> Self {
        let Some(times) = times else {
            return Self { began: begun, filtered: decided, scored: Vec::new(), picked: decided };
        };
        let at = |after: Duration| begun + after;
        Self {
            began: at(times.began),
            filtered: at(times.filtered),
            scored: times.scored.iter().copied().map(at).collect(),
            picked: at(times.picked),
        }
    }
}

struct Steps<'a> {
    within: &'a Within<'a>,
    parent: &'a Context,
    request: &'a InferenceRequest,
    decision: &'a Explanation,
    profile: &'a ProfileExplanation,
    times: Ends,
}

impl Steps<'_> {
    fn spans(&self) {
        let all = self.decision.candidates.len();
        let left = self.profile.filters.last().map_or(all, |filter| filter.kept.len());
        self.filters(all, left);
        if left == 0 {
            return;
        }
        let scored = self.times.scored.last().copied().unwrap_or(self.times.filtered);
        self.scorers(left, scored);
        self.picker(left, scored);
    }

    fn filters(&self, all: usize, left: usize) {
        let mut attributes = self.of_request();
        attributes.push(number("llm_d.epp.filter.candidate_endpoints", all));
        attributes.push(number("llm_d.epp.filter.filtered_endpoints", left));
        let span = (self.times.began, self.times.filtered);
        self.within.span("filter_endpoints", self.parent, span, attributes);
    }

    fn scorers(&self, left: usize, scored: Timestamp) {
        if self.profile.scorers.is_empty() {
            return;
        }
        let mut attributes = self.of_request();
        attributes.push(number("llm_d.epp.scorer.count", self.profile.scorers.len()));
        attributes.push(number("llm_d.epp.scoring.candidate_endpoints", left));
        let span = (self.times.filtered, scored);
        let parent = &self.within.span("llm_d.epp.scoring", self.parent, span, attributes);
        let mut from = self.times.filtered;
        for (at, scorer) in self.profile.scorers.iter().enumerate() {
            let to = self.times.scored.get(at).copied().unwrap_or(scored);
            let name = format!("llm_d.epp.scorer.{}", scorer.plugin_type);
            self.within.span(name, parent, (from, to), of_scorer(scorer, left));
            from = to;
        }
    }

    fn picker(&self, left: usize, scored: Timestamp) {
        let totals = self.profile.totals.iter().zip(&self.decision.candidates);
        let mut best: Vec<(f64, &str)> =
            totals.filter_map(|(total, name)| Some(((*total)?, name.as_str()))).collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        best.truncate(TOP);
        let names = best.iter().map(|(_, name)| StringValue::from((*name).to_owned()));
        let names = Value::Array(Array::String(names.collect()));
        let totals = Value::Array(Array::F64(best.iter().map(|(total, _)| *total).collect()));
        let mut attributes = self.of_request();
        attributes.extend([
            number("llm_d.epp.picker.candidate_endpoints", left),
            KeyValue::new("llm_d.epp.picker.top_endpoints", names),
            KeyValue::new("llm_d.epp.picker.top_scores", totals),
        ]);
        let span = (scored, self.times.picked);
        self.within.span("pick_endpoints", self.parent, span, attributes);
    }

    fn of_request(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("gen_ai.request.model", text(&self.request.target_model)),
            KeyValue::new("gen_ai.request.id", text(&self.request.id)),
        ]
    }
}

fn of_scorer(scorer: &ScorerStep, left: usize) -> Vec<KeyValue> {
    let scores = || scorer.scores.iter().copied().flatten();
    let scored = scores().count();
    let max = scores().fold(0.0, f64::max);
    let average = if scored == 0 { 0.0 } else { scores().sum::<f64>() / scored as f64 };
    vec![
        KeyValue::new("llm_d.epp.scorer.type", scorer.plugin_type.clone()),
        KeyValue::new("llm_d.epp.scorer.name", scorer.plugin.clone()),
        KeyValue::new("llm_d.epp.scorer.weight", scorer.weight),
        number("llm_d.epp.scorer.candidate_endpoints", left),
        KeyValue::new("llm_d.epp.scorer.score.max", max),
        KeyValue::new("llm_d.epp.scorer.score.avg", average),
        number("llm_d.epp.scorer.endpoints_scored", scored),
    ]
}

fn number(key: &'static str, number: usize) -> KeyValue {
    KeyValue::new(key, count(number as u64))
}
