//! `data-parallel-profile-handler`: the gateway connects to one port of a worker, whose sidecar
//! hands the request on to the rank that was picked (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::error::RequestError;
use crate::headers::DATA_PARALLEL;
use crate::scheduling::{Cycle, Directions, ProfileHandler, ProfileMistake, ProfilesToRun};

pub(super) const TYPE: PluginType =
    PluginType { name: "data-parallel-profile-handler", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ProfileHandler],
    stability: Stability::Beta,
    since: "llm-d v0.4",
    summary: "one profile; the gateway connects to one port and a header names the rank",
    formula: "the target has primaryPort, and its own stands in x-data-parallel-host-port",
    parameters: Parameters::Listed(&[Parameter::integer(
        "primaryPort",
        "the port that the gateway connects to",
    )
    .default("8000")
    .at_least(1.0)
    .at_most(65535.0)]),
};

const DEFAULT_PRIMARY_PORT: u16 = 8000;

#[derive(Debug)]
struct DataParallelProfileHandler {
    primary_port: u16,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let port = p.int_in("primaryPort", 1..=65535).and_then(|port| u16::try_from(port).ok());
    p.finish();
    let handler = DataParallelProfileHandler { primary_port: port.unwrap_or(DEFAULT_PRIMARY_PORT) };
    Capabilities::default().with::<dyn ProfileHandler>(Arc::new(handler))
}

/// Has the gateway connect to `port` of what the profile picked, and names the picked rank in
/// `x-data-parallel-host-port`.
pub(super) fn route_to_primary(
    cycle: &Cycle<'_>,
    profile: usize,
    port: u16,
    directions: &mut Directions,
) {
    if let Some(rank) = cycle.results.target(profile) {
        let rank = &cycle.candidates[rank as usize].endpoint.host_port;
        directions.set_header(DATA_PARALLEL, rank.to_string());
        directions.set_port(port);
    }
}

impl ProfileHandler for DataParallelProfileHandler {
    fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>> {
        match profiles.len() {
            1 => Ok(()),
            count => Err(vec![ProfileMistake::of_handler(format!(
                "data-parallel-profile-handler runs one scheduling profile, this configuration has \
                 {count}"
            ))]),
        }
    }

    fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun {
        if cycle.results.is_empty() {
            (0..cycle.results.len()).collect()
        } else {
            Default::default()
        }
    }

    fn conclude(
        &self,
        cycle: &Cycle<'_>,
        directions: &mut Directions,
    ) -> Result<usize, RequestError> {
        route_to_primary(cycle, 0, self.primary_port, directions);
        Ok(0)
    }
}
