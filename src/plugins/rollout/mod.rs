//! Rollouts of deployments whose roles have to be of one revision: which revisions are complete
//! ([`shares`]), and to which a request goes ([`screener`]).

mod screener;
mod shares;

pub(super) use screener::{HeaderSelector, RolloutScreener};
pub(super) use shares::{Gating, Weight};
