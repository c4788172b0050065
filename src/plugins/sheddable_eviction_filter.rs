//! `sheddable-eviction-filter`: evicted are only running requests of negative priority.
//! With `enableEviction` that is always so; the type is there for those who write it down.

use super::{Build, Capabilities, PluginType, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "sheddable-eviction-filter", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default()
}
