//! `single-profile-handler`: runs the one profile there is.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::error::RequestError;
use crate::scheduling::{Cycle, Directions, ProfileHandler, ProfileMistake, ProfilesToRun};

pub(super) const TYPE: PluginType =
    PluginType { name: "single-profile-handler", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ProfileHandler],
    stability: Stability::Beta,
    since: "GIE v0.5",
    summary: "runs the one profile there is; added where none is configured",
    formula: "",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct SingleProfileHandler;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn ProfileHandler>(Arc::new(SingleProfileHandler))
}

impl ProfileHandler for SingleProfileHandler {
    fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>> {
        match profiles.len() {
            1 => Ok(()),
            count => Err(vec![ProfileMistake::of_handler(format!(
                "single-profile-handler runs one scheduling profile, this configuration has {count}"
            ))]),
        }
    }

    fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun {
        if cycle.results.is_empty() {
            (0..cycle.results.len()).collect()
        } else {
            ProfilesToRun::new()
        }
    }

    fn conclude(&self, _: &Cycle<'_>, _: &mut Directions) -> Result<usize, RequestError> {
        Ok(0)
    }
}
