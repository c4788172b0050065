//! `agent-identity`: requests of one agent's session are one flow, where they do not say whose
//! they are (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{InferenceRequest, RequestProcessor};

pub(super) const TYPE: PluginType =
    PluginType { name: "agent-identity", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::RequestProcessor],
    stability: Stability::Experimental,
    since: "llm-d v0.9",
    summary: "makes the requests of one session of a coding agent one flow, unless they have a fairness header",
    formula: "the first header that a request has: the additional ones, x-claude-code-session-id, x-session-affinity, session-id, session_id",
    parameters: Parameters::Listed(&[Parameter::texts(
        "additionalSessionHeaders",
        "headers that name a session, looked at before those that are known",
    )]),
};

/// The headers by which coding agents name their session, in this order.
const SESSION_HEADERS: [&str; 4] =
    ["x-claude-code-session-id", "x-session-affinity", "session-id", "session_id"];

#[derive(Debug)]
struct AgentIdentity {
    /// In lower case, in the order they are looked for.
    headers: Vec<String>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let more = p.strings("additionalSessionHeaders").unwrap_or_default();
    if more.iter().any(String::is_empty) {
        p.error("additionalSessionHeaders", "must name headers, found an empty name");
    }
    p.finish();
    let known = SESSION_HEADERS.map(str::to_owned);
    let headers = more.into_iter().chain(known).map(|name| name.to_ascii_lowercase()).collect();
    Capabilities::default().with::<dyn RequestProcessor>(Arc::new(AgentIdentity { headers }))
}

impl RequestProcessor for AgentIdentity {
    fn process(&self, request: &mut InferenceRequest) {
        let headers = &request.headers;
        let found =
            self.headers.iter().find_map(|name| headers.get(name).filter(|v| !v.is_empty()));
        request.flow = found.map(str::to_owned);
    }
}
