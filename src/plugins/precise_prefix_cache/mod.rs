//! What `precise-prefix-cache-producer` and the scorers that come with one of their own share: how
//! much of a prompt endpoints say they hold, by the events of their engines.

mod cache;
mod expectation;
mod parameters;
mod settings;

pub(super) use cache::{PRODUCER_KIND, PreciseCache};
pub(super) use parameters::{PRODUCER_PARAMETERS, SCORER_PARAMETERS};
pub(super) use settings::{Generation, PreciseSettings};
