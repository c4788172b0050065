//! Numbers of endpoints that one plugin gives and another reads, by names that the configuration
//! chooses.

use super::{Dependencies, Parameter, PluginPart};
use crate::config::{Fields, Placed};
use crate::endpoints::{Endpoint, PoolIds, Scalar, StateSlot};

/// The producer of attributes where none is named (llm-d-router main at ebab6879).
const DEFAULT_PRODUCER: &str = "core-metrics-extractor";

/// Whose attribute is meant, as a parameter.
pub(super) const PRODUCER: Parameter =
    Parameter::plugin("producer", "giver of attributes", "the plugin that gives it")
        .default("core-metrics-extractor");

/// The attributes that one plugin gives, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct EndpointAttributes(Vec<(String, StateSlot<Scalar>)>);

impl EndpointAttributes {
    /// The place of the attribute of this name, a new one where it has none.
    pub(super) fn claim(&mut self, name: &str, ids: &PoolIds) -> StateSlot<Scalar> {
        if let Some(slot) = self.find(name) {
            return slot;
        }
        let slot = ids.claim_slot();
        self.0.push((name.to_owned(), slot));
        slot
    }

    fn find(&self, name: &str) -> Option<StateSlot<Scalar>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, slot)| *slot)
    }
}

/// An attribute of another plugin.
#[derive(Debug)]
pub(super) struct AttributeReader {
    name: String,
    producer: PluginPart<EndpointAttributes>,
}

impl AttributeReader {
    /// Reads which attribute is meant: its name in the parameter `name`, whose it is in
    /// `producer`. Reports a name that is missing, or that has its producer's in it.
    pub(super) fn read(
        p: &mut Fields<'_>,
        name: &'static str,
        dependencies: &mut Dependencies,
    ) -> Self {
        let attribute = p.string(name).unwrap_or_default().to_owned();
        let producer = p.placed_string("producer").filter(|producer| !producer.value.is_empty());
        if attribute.is_empty() {
            p.error(name, "is required: the name of the attribute");
        } else if attribute.contains('/') && producer.is_none() {
            let message = "has a '/', but the attribute's name and its producer's stand apart: \
                           name the plugin in 'producer'";
            p.error(name, message);
        }
        let default = || Placed {
            value: DEFAULT_PRODUCER.to_owned(),
            at: p.at(),
            field: p.field("producer"),
        };
        let producer = producer.map_or_else(default, |given| given.map(str::to_owned));
        let gives = {
            let attribute = attribute.clone();
            move |attributes: &EndpointAttributes| attributes.find(&attribute).is_some()
        };
        let role = "giver of this attribute: no endpoint will have it";
        Self { name: attribute, producer: dependencies.plugin_that(producer, role, gives) }
    }

    /// Where the attribute is kept of each endpoint; `None` where no plugin gives it.
    pub(super) fn slot(&self) -> Option<StateSlot<Scalar>> {
        self.producer.get()?.find(&self.name)
    }
}

/// The attribute at `slot` of an endpoint; `None` where it has none.
pub(super) fn value_of(endpoint: &Endpoint, slot: Option<StateSlot<Scalar>>) -> Option<f64> {
    endpoint.state.get(slot?)?.get()
}
