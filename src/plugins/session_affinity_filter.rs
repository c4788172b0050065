//! `session-affinity-filter`: keeps the endpoint that the request's session has been at, if it is
//! there; else all.

use std::sync::Arc;

use super::session_affinity::SessionAffinity;
use super::{Build, Capabilities, PluginType};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "session-affinity-filter", aliases: &[], build };

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
