//! `pd-profile-handler`: an endpoint to answer, and where it is worth it another one that computes
//! the prompt. Its successor is `disagg-profile-handler`. The parameters of every version are
//! read: up to llm-d-inference-scheduler v0.5 it decided itself, by a threshold.

use std::sync::Arc;

use super::data_parallel_profile_handler::route_to_primary;
use super::disaggregation::{DecisionCounts, DisaggregationDecider, Order, Stages};
use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginPart, PluginType, Stability,
    parameters,
};
use crate::config::Placed;
use crate::endpoints::ReservationTerms;
use crate::error::RequestError;
use crate::scheduling::{
    Cycle, DataKey, Directions, MetricFamily, PluginMetrics, PrefixMatch, ProfileHandler,
    ProfileMistake, ProfilesToRun, ReadsAnswers,
};

pub(super) const TYPE: PluginType =
    PluginType { name: "pd-profile-handler", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ProfileHandler],
    stability: Stability::Deprecated("disagg-profile-handler"),
    since: "llm-d v0.2",
    summary: "an endpoint to answer, and where it is worth it another that computes the prompt; a disagg-headers-handler beside it writes the header",
    formula: "without threshold and decider a prefix-based-pd-decider that is there decides, else every request is split",
    parameters: Parameters::Listed(&[
Parameter::text("decodeProfile", "the profile of the endpoint that answers").default("decode"),
Parameter::text("prefillProfile", "the profile of the endpoint that computes the prompt").default("prefill"),
Parameter::plugin("deciderPluginName", "disaggregation decider", "decides whether a request is split"),
Parameter::integer("primaryPort", "the port that the gateway connects to; the target's own stands in x-data-parallel-host-port; 0: none").default("0").at_least(0.0).at_most(65535.0),
Parameter::prefix_producer(),
Parameter::integer("threshold", "split requests with at least so many bytes not cached; 0: all").unit("bytes").at_least(0.0).older("llm-d v0.2 to v0.5"),
Parameter::integer("hashBlockSize", "block size of the prefix plugin").unit("bytes").at_least(1.0).dropped("prompts are cut as the prefix producer cuts them"),
Parameter::plugin("prefixPluginName", "prefix scorer", "has to be there, and nothing more").older("llm-d v0.4 to v0.8"),
Parameter::text("prefixPluginType", "the prefix plugin's type").dropped("the producer is named by prefixMatchInfoProducerName"),
]),
};

/// The decider that counts where none is named and the configuration has it (llm-d-router main at
/// ebab6879); without it every request with a prefill endpoint is split, as in v0.2 and v0.6.
const DEFAULT_DECIDER: &str = "prefix-based-pd-decider";

#[derive(Debug)]
struct PdProfileHandler {
    stages: Stages,
    decisions: DecisionCounts,
    /// The port that the gateway connects to in place of the decode endpoint's own.
    primary_port: Option<u16>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let [decode, prefill] = ["decodeProfile", "prefillProfile"].map(|name| p.placed_string(name));
    let threshold = p.int_in("threshold", 0..=i64::MAX);
    // Prompts are cut as the prefix producer cuts them, whatever stands here.
    p.int_in("hashBlockSize", 1..=i64::MAX);
    let named = p.placed_string("deciderPluginName");
    if let (Some(_), Some(decider)) = (threshold, &named) {
        let message = "cannot stand together with threshold, which decides by itself";
        p.diagnostics().error(decider.at, &decider.field, message);
    }
    let primary_port = match p.int_in("primaryPort", 0..=65535) {
        None | Some(0) => None,
        Some(port) => u16::try_from(port).ok(),
    };
    let producer = parameters::prefix_producer(&mut p);
    if let Some(name) = p.placed_string("prefixPluginName") {
        // The reference looks at no more than its being there.
        build
            .dependencies
            .plugin::<dyn crate::scheduling::Scorer>(name.map(str::to_owned), "prefix scorer");
    }
    p.string("prefixPluginType");
    p.finish();
    let prefix = build.dependencies.read(producer);
    let decider: Arc<dyn DisaggregationDecider> = match (threshold, named) {
        (Some(bytes), _) => Arc::new(Threshold { prefix, bytes: bytes.unsigned_abs() }),
        (None, Some(name)) => Arc::new(Named(named_decider(build.dependencies, name))),
        (None, None) => {
            let found = build.dependencies.plugin_if_there(DEFAULT_DECIDER, "prefill decider");
            Arc::new(Default(found))
        }
    };
    let decider = PluginPart::bound(decider);
    let handler = Arc::new(PdProfileHandler {
        stages: Stages::new(Order::DecodeFirst, [decode, prefill, None], Some(decider), None),
        decisions: DecisionCounts::new(build.name, TYPE.name),
        primary_port,
    });
    Capabilities::default()
        .with::<dyn ProfileHandler>(handler.clone())
        .with::<dyn PluginMetrics>(handler)
        // What is held where the prompt is computed is let go of when the answer begins.
        .reading_answers(ReadsAnswers::FirstToken)
}

fn named_decider(
    dependencies: &mut super::Dependencies,
    name: Placed<&str>,
) -> PluginPart<dyn DisaggregationDecider> {
    dependencies.plugin(name.map(str::to_owned), "disaggregation decider")
}

/// Another plugin decides.
#[derive(Debug)]
struct Named(PluginPart<dyn DisaggregationDecider>);

impl DisaggregationDecider for Named {
    fn disaggregates(&self, cycle: &Cycle<'_>, decode: Option<u32>) -> bool {
        self.0.get().is_some_and(|decider| decider.disaggregates(cycle, decode))
    }
}

/// Another plugin decides if it is there; else every request is split.
#[derive(Debug)]
struct Default(PluginPart<dyn DisaggregationDecider>);

impl DisaggregationDecider for Default {
    fn disaggregates(&self, cycle: &Cycle<'_>, decode: Option<u32>) -> bool {
        self.0.get().is_none_or(|decider| decider.disaggregates(cycle, decode))
    }
}

/// A prompt of which at least `bytes` are not cached on the decode endpoint is computed elsewhere;
/// 0 splits every request.
///
/// In v0.2 to v0.5 `hit = max(matched - 1, 0) * hashBlockSize / length` and prefill ran unless
/// `(1 - hit) * length < threshold`. The one block that is taken off there is an entry for the
/// model, which this index does not have.
#[derive(Debug)]
struct Threshold {
    prefix: DataKey<PrefixMatch>,
    bytes: u64,
}

impl DisaggregationDecider for Threshold {
    fn disaggregates(&self, cycle: &Cycle<'_>, decode: Option<u32>) -> bool {
        let length = 4 * cycle.request.prompt.token_count();
        let cached = match (cycle.data.get(self.prefix), decode) {
            (Some(found), Some(decode)) => {
                u64::from(found.blocks(decode)) * u64::from(found.block_bytes)
            }
            _ => 0,
        };
        length.saturating_sub(cached) >= self.bytes
    }
}

impl ProfileHandler for PdProfileHandler {
    fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>> {
        self.stages.bind(profiles)
    }

    fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun {
        self.stages.next(cycle)
    }

    /// It does not say which endpoint computes the prompt: a header handler beside it does.
    fn peer(&self, cycle: &Cycle<'_>) -> Option<u32> {
        self.stages.peer(cycle)
    }

    fn conclude(
        &self,
        cycle: &Cycle<'_>,
        directions: &mut Directions,
    ) -> Result<usize, RequestError> {
        let primary = self.stages.primary(cycle)?;
        let (_, prefill) = self.stages.ran(cycle);
        self.decisions.count(&cycle.request.target_model, false, prefill);
        if let Some(port) = self.primary_port {
            route_to_primary(cycle, primary, port, directions);
        }
        Ok(primary)
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

impl PluginMetrics for PdProfileHandler {
    fn families(&self) -> Vec<MetricFamily> {
        self.decisions.families([
            "llm_d_epp_pd_decision_total",
            "llm_d_inference_scheduler_pd_decision_total",
        ])
    }
}
