//! The plugins of a configuration in force, which the next one may go on with.

use super::instances::{Instance, Instances};
use crate::config::Node;
use crate::endpoints::{PoolIds, SlotClaims};
use crate::plugins::{Capabilities, DataPlaces};

/// The plugins of a configuration that is in force.
#[derive(Clone, Debug, Default)]
pub struct Residents {
    /// In the order of the configuration.
    pub plugins: Vec<Resident>,
    pub(super) places: DataPlaces,
    pub(super) profiles: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Resident {
    pub name: String,
    pub plugin_type: &'static str,
    pub capabilities: Capabilities,
    /// It was there before this configuration was.
    pub goes_on: bool,
    /// Its places in every endpoint, to be given back when nothing of it is left.
    pub claims: Vec<SlotClaims>,
    pub(super) parameters: Option<Node>,
}

impl Residents {
    pub(super) fn new(instances: &Instances<'_>, profiles: Vec<String>) -> Self {
        let resident = |instance: &Instance| Resident {
            name: instance.name.clone(),
            plugin_type: instance.plugin_type,
            capabilities: instance.capabilities.clone(),
            goes_on: instance.goes_on,
            claims: instance.claims.clone(),
            parameters: instance.parameters.clone(),
        };
        Self {
            plugins: instances.list.iter().map(resident).collect(),
            places: instances.dependencies.places(),
            profiles,
        }
    }

    /// The plugin of this name, if it is of this type.
    pub(super) fn find(&self, name: &str, plugin_type: &str) -> Option<&Resident> {
        self.plugins.iter().find(|r| r.name == name && r.plugin_type == plugin_type)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.plugins.iter().any(|resident| resident.name == name)
    }

    pub(super) fn has_profiles(&self, names: &[&str]) -> bool {
        self.profiles == names
    }

    /// Gives back what those claimed that were made for this configuration: it does not come into
    /// force.
    pub fn give_back(&self, ids: &PoolIds) {
        for resident in self.plugins.iter().filter(|resident| !resident.goes_on) {
            resident.claims.first().into_iter().for_each(|claims| ids.give_back(claims));
        }
    }
}

impl Resident {
    /// True where it was made with parameters that say the same.
    pub(super) fn has_parameters(&self, parameters: Option<&Node>) -> bool {
        match (&self.parameters, parameters) {
            (Some(ours), Some(theirs)) => ours.says_the_same(theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
    }
}
