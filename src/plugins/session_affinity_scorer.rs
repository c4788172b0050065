//! `session-affinity-scorer`: prefers the endpoint that the request's session has been at.

use std::sync::Arc;

use super::session_affinity::{self, SessionAffinity};
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "session-affinity-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Experimental,
    since: "llm-d v0.2",
    summary: "prefers the endpoint that the request's session has been at",
    formula: "that endpoint: 1; else 0",
    parameters: Parameters::Listed(&session_affinity::PARAMETERS),
};

#[derive(Debug)]
struct SessionAffinityScorer(Arc<SessionAffinity>);

fn build(build: Build<'_, '_>) -> Capabilities {
    let affinity = Arc::new(SessionAffinity::read(build));
    SessionAffinity::capabilities(&affinity)
        .with::<dyn Scorer>(Arc::new(SessionAffinityScorer(affinity)))
}

impl Scorer for SessionAffinityScorer {
    /// 1 for that endpoint, 0 for all others.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let Some(pinned) = self.0.pinned(cycle, candidates) else { return };
        for (score, &c) in scores.iter_mut().zip(candidates) {
            if c == pinned {
                *score = 1.0;
            }
        }
    }
}
