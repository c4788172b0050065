//! `session-affinity-filter`: keeps the endpoint that the request's session has been at, if it is
//! there; else all.

use std::sync::Arc;

use super::session_affinity::{self, SessionAffinity};
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "session-affinity-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Experimental,
    since: "llm-d v0.9",
    summary: "the endpoint that the request's session has been at, if it is there; else all",
    formula: "encoded_endpoint_header: a header names it, and responses set that; session_id: the first source that has one names the session, which stays where it is",
    parameters: Parameters::Listed(&session_affinity::PARAMETERS),
};

#[derive(Debug)]
struct SessionAffinityFilter(Arc<SessionAffinity>);

fn build(build: Build<'_, '_>) -> Capabilities {
    let affinity = Arc::new(SessionAffinity::read(build));
    SessionAffinity::capabilities(&affinity)
        .with::<dyn Filter>(Arc::new(SessionAffinityFilter(affinity)))
}

impl Filter for SessionAffinityFilter {
    fn wants(&self) -> String {
        "the endpoint that the session is pinned to".to_owned()
    }

    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        if let Some(pinned) = self.0.pinned(cycle, candidates) {
            candidates.retain(|&c| c == pinned);
        }
    }
}
