//! `single-profile-handler`: runs the one profile there is.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Build, PluginType, Roles, parameters};
use crate::scheduling::{Cycle, ProfileHandler, ProfileResult};

pub(super) const TYPE: PluginType =
    PluginType { name: "single-profile-handler", aliases: &[], build };

#[derive(Debug)]
struct SingleProfileHandler;

fn build(build: Build<'_, '_>) -> Roles {
    parameters::none(build.parameters);
    Roles { profile_handler: Some(Arc::new(SingleProfileHandler)), ..Roles::default() }
}

impl ProfileHandler for SingleProfileHandler {
    fn next(&self, _: &Cycle<'_>, results: &[Option<ProfileResult>]) -> SmallVec<[usize; 2]> {
        if results.iter().all(Option::is_none) {
            (0..results.len()).collect()
        } else {
            SmallVec::new()
        }
    }

    fn primary(&self, results: &[Option<ProfileResult>]) -> Option<usize> {
        results.iter().position(Option::is_some)
    }

    fn check_profiles(&self, count: usize) -> Result<(), String> {
        match count {
            1 => Ok(()),
            _ => Err(format!(
                "single-profile-handler runs one scheduling profile, this configuration has {count}"
            )),
        }
    }
}
