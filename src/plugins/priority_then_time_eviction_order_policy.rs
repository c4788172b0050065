//! `priority-then-time-eviction-order-policy`: the lowest priority is evicted first, of equals the newest.
//! With `enableEviction` that is always so; the type is there for those who write it down.

use super::{Build, Capabilities, PluginType, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "priority-then-time-eviction-order-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default()
}
