//! `disagg-headers-handler`: names the endpoints that compute the prompt and encode its media in
//! request headers, beside a profile handler that does not (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::disaggregation::set_stage_headers;
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Directions, Picked, RequestHook};

/// The alias is the type's name up to llm-d-inference-scheduler v0.6; it is deprecated, not gone.
pub(super) const TYPE: PluginType = PluginType {
    name: "disagg-headers-handler",
    aliases: &["prefill-header-handler"],
    about: ABOUT,
    build,
};

const ABOUT: About = About {
    parts: &[Part::HeaderHandler],
    stability: Stability::Deprecated("disagg-profile-handler"),
    since: "llm-d v0.7",
    summary: "names the endpoints of the other stages in request headers, beside a handler that does not",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("prefillProfile", "whose target goes to x-prefiller-host-port")
            .default("prefill"),
        Parameter::text("encodeProfile", "whose targets go to x-encoder-hosts-ports")
            .default("encode"),
    ]),
};

#[derive(Debug)]
struct DisaggHeadersHandler {
    prefill_profile: String,
    encode_profile: String,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut profile = |name, default: &str| {
        p.string(name).filter(|given| !given.is_empty()).unwrap_or(default).to_owned()
    };
    let prefill_profile = profile("prefillProfile", "prefill");
    let encode_profile = profile("encodeProfile", "encode");
    p.finish();
    let handler = DisaggHeadersHandler { prefill_profile, encode_profile };
    Capabilities::default().with::<dyn RequestHook>(Arc::new(handler))
}

impl RequestHook for DisaggHeadersHandler {
    fn before_request(&self, cycle: &Cycle<'_>, _: Picked<'_>, directions: &mut Directions) {
        let prefill = cycle.results.named(&self.prefill_profile);
        let encode = cycle.results.named(&self.encode_profile);
        set_stage_headers(cycle, prefill, encode, directions);
    }
}
