//! `disagg-profile-handler`: an endpoint to answer, and where it is worth it others that compute
//! the prompt and encode its media. Rules and parameters of llm-d-router main at ebab6879.

use std::sync::Arc;

use super::disaggregation::{DecisionCounts, DisaggregationDecider, Order, Stages};
use super::{
    About, Build, Capabilities, Dependencies, Parameter, Parameters, Part, PluginPart, PluginType,
    Stability,
};
use crate::config::{Fields, Placed};
use crate::endpoints::ReservationTerms;
use crate::error::RequestError;
use crate::scheduling::{
    Cycle, Directions, MetricFamily, PluginMetrics, PrefixMatch, ProfileHandler, ProfileMistake,
    ProfilesToRun, ReadsAnswers,
};

pub(super) const TYPE: PluginType =
    PluginType { name: "disagg-profile-handler", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ProfileHandler],
    stability: Stability::Beta,
    since: "llm-d v0.7",
    summary: "an endpoint to answer, and where it is worth it others that compute the prompt and encode its media",
    formula: "a stage runs where its decider says yes, and not without one; with prefill-first prefill always runs. Headers: x-prefiller-host-port, x-encoder-hosts-ports",
    parameters: Parameters::Listed(&[
        Parameter::one_of(
            "stageOrder",
            &["decode-first", "prefill-first"],
            "which endpoint is picked first",
        )
        .default("decode-first"),
        Parameter::fields("profiles", &PROFILES, "the profile of each stage"),
        Parameter::fields("deciders", &DECIDERS, "the plugin that decides whether a stage runs"),
        Parameter::text("decodeProfile", "profiles.decode")
            .default("decode")
            .older("llm-d v0.7 and v0.8"),
        Parameter::text("prefillProfile", "profiles.prefill")
            .default("prefill")
            .older("llm-d v0.7 and v0.8"),
        Parameter::text("encodeProfile", "profiles.encode")
            .default("encode")
            .older("llm-d v0.7 and v0.8"),
        Parameter::plugin("prefillDeciderPluginName", "disaggregation decider", "deciders.prefill")
            .older("llm-d v0.7 and v0.8"),
        Parameter::plugin("deciderPluginName", "disaggregation decider", "deciders.prefill")
            .older("llm-d v0.7 and v0.8"),
        Parameter::plugin("encodeDeciderPluginName", "disaggregation decider", "deciders.encode")
            .older("llm-d v0.7 and v0.8"),
    ]),
};

const PROFILES: [Parameter; 3] = [
    Parameter::text("decode", "answers").default("decode"),
    Parameter::text("prefill", "computes the prompt").default("prefill"),
    Parameter::text("encode", "encodes media").default("encode"),
];

const DECIDERS: [Parameter; 2] = [
    Parameter::plugin("prefill", "disaggregation decider", "decides about prefill"),
    Parameter::plugin("encode", "disaggregation decider", "decides about encoding"),
];

#[derive(Debug)]
struct DisaggProfileHandler {
    stages: Stages,
    decisions: DecisionCounts,
}

type Decider = Option<PluginPart<dyn DisaggregationDecider>>;

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let order = read_order(&mut p);
    let mut profiles = p.nested("profiles");
    let nested = ["decode", "prefill", "encode"].map(|stage| profiles.placed_string(stage));
    let mut deciders = p.nested("deciders");
    let [prefill, encode] = ["prefill", "encode"].map(|stage| deciders.placed_string(stage));
    let is_nested = !profiles.is_absent() || !deciders.is_absent() || order.is_some();
    profiles.finish();
    deciders.finish();
    let flat = read_flat(&mut p, is_nested);
    let (profiles, prefill, encode) = match is_nested {
        true => (nested, prefill, encode),
        false => (flat.profiles, flat.prefill, flat.encode),
    };
    let order = order.unwrap_or_default();
    if let (Order::PrefillFirst, Some(decider)) = (order, &prefill) {
        p.diagnostics().error(
            decider.at,
            &decider.field,
            "has no place with stageOrder prefill-first: prefill always runs then",
        );
    }
    p.finish();
    // Deciders look at what is cached; the reference requires it in any case.
    build.dependencies.read::<PrefixMatch>(None);
    let prefill = decider(build.dependencies, prefill);
    let encode = decider(build.dependencies, encode);
    let handler = Arc::new(DisaggProfileHandler {
        stages: Stages::new(order, profiles, prefill, encode),
        decisions: DecisionCounts::new(build.name, TYPE.name),
    });
    Capabilities::default()
        .with::<dyn ProfileHandler>(handler.clone())
        .with::<dyn PluginMetrics>(handler)
        // What is held where the prompt is computed is let go of when the answer begins.
        .reading_answers(ReadsAnswers::FirstToken)
}

/// The order of stages; matching is lenient, as in the reference.
fn read_order(p: &mut Fields<'_>) -> Option<Order> {
    let text = p.string("stageOrder").filter(|text| !text.is_empty())?;
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.to_ascii_lowercase().as_str() {
        "decodefirst" => Some(Order::DecodeFirst),
        "prefillfirst" => Some(Order::PrefillFirst),
        _ => {
            p.error("stageOrder", "must be decode-first or prefill-first");
            None
        }
    }
}

/// The parameters of v0.7 and v0.8, which stood side by side.
struct Flat<'a> {
    profiles: [Option<Placed<&'a str>>; 3],
    prefill: Option<Placed<&'a str>>,
    encode: Option<Placed<&'a str>>,
}

fn read_flat<'a>(p: &mut Fields<'a>, is_nested: bool) -> Flat<'a> {
    let profiles =
        ["decodeProfile", "prefillProfile", "encodeProfile"].map(|name| p.placed_string(name));
    let [own, shared, encode] =
        ["prefillDeciderPluginName", "deciderPluginName", "encodeDeciderPluginName"]
            .map(|name| p.placed_string(name));
    if is_nested {
        let given = profiles.iter().chain([&own, &shared, &encode]).flatten();
        for value in given {
            let message = "cannot stand together with profiles, deciders or stageOrder";
            p.diagnostics().error(value.at, &value.field, message);
        }
    }
    Flat { profiles, prefill: own.or(shared), encode }
}

fn decider(dependencies: &mut Dependencies, name: Option<Placed<&str>>) -> Decider {
    let name = name?.map(str::to_owned);
    Some(dependencies.plugin(name, "disaggregation decider"))
}

impl ProfileHandler for DisaggProfileHandler {
    fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>> {
        self.stages.bind(profiles)
    }

    fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun {
        self.stages.next(cycle)
    }

    fn peer(&self, cycle: &Cycle<'_>) -> Option<u32> {
        self.stages.peer(cycle)
    }

    fn conclude(
        &self,
        cycle: &Cycle<'_>,
        directions: &mut Directions,
    ) -> Result<usize, RequestError> {
        let primary = self.stages.primary(cycle)?;
        let (encode, prefill) = self.stages.ran(cycle);
        self.decisions.count(&cycle.request.target_model, encode, prefill);
        self.stages.set_headers(cycle, directions);
        Ok(primary)
    }

    fn holds_prompt(&self, profile: usize) -> bool {
        self.stages.holds_prompt(profile)
    }

    fn reserve(
        &self,
        cycle: &Cycle<'_>,
        profile: usize,
        terms: ReservationTerms,
    ) -> ReservationTerms {
        self.stages.reserve(cycle, profile, terms)
    }
}

impl PluginMetrics for DisaggProfileHandler {
    fn families(&self) -> Vec<MetricFamily> {
        self.decisions.families([
            "llm_d_epp_disagg_decision_total",
            "llm_d_inference_scheduler_disagg_decision_total",
        ])
    }
}
