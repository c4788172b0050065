//! Requests of a burst, placed together: a [`batch`] gathers them, [`placement`] says where each
//! goes, [`producer`] is the plugin.

mod batch;
mod placement;
mod producer;

pub(super) use placement::{BalanceBy, Rules};
pub(super) use producer::{BurstPrefixCache, BurstSettings};
