//! Which endpoints may be sent to, judged by what we see of them ourselves.
//!
//! A picker that goes by load loves what fails fast: a failed request is over at once, so the
//! endpoint that fails fastest looks idlest. Left alone, one of four endpoints that answers 500 at
//! once gets 97 % of the requests (`cargo test --lib health::tests::experiment -- --nocapture`).
//! So each exchange tells how it went, and [`Health`] keeps endpoints that fail out of the
//! candidates:
//!
//! | from | to | when |
//! |---|---|---|
//! | healthy | suspect | connections for its metrics are refused, which they were not before |
//! | suspect | healthy | a request came through, or its metrics are back |
//! | suspect | ejected | a request failed |
//! | healthy | ejected | it fails more than the others do, or answers nothing while they do |
//! | ejected | returning | a probe came through (after silence: any request) |
//! | returning | ejected | a request failed |
//! | returning | healthy | its share has grown to a full one |
//!
//! - A run or a share of failures counts if the others' failures do not explain it
//!   ([`failures`]). What befalls all alike ejects nobody; one endpoint alone is never left out;
//!   client errors and clients that go away count for nothing. Slow is not ill: the silence that
//!   counts ([`silence`]) is measured in the pool's own times to first byte ([`first_byte`]).
//! - An ejected endpoint is *probed* with single real requests, after a wait that doubles from
//!   [`HealthPolicy::base_ejection`] to [`HealthPolicy::max_ejection`], is spread by a quarter
//!   either way, and lasts until enough requests went elsewhere
//!   ([`HealthPolicy::probe_share`]). Where its metrics were refused, it waits until they are back.
//! - One that *returns* gets a share that grows from a tenth.
//! - Never more than [`HealthPolicy::max_ejected_share`] of the candidates are left out. Beyond
//!   it all are used: those in excess get what round robin would give them.
//!
//! Beside that: how fast an endpoint is ([`Health::speed_factor`]), and what to take for the
//! signals of one whose metrics are dead or lie ([`substitute`]).
//!
//! An exchange calls [`Health::screen`] with its candidates, [`Health::sent`] once one is picked,
//! and [`Health::observe`] at the first byte and at the end; the data layer calls
//! [`Health::scraped`]. Time and randomness are handed in.

mod endpoint;
mod failures;
mod first_byte;
mod machine;
mod observation;
mod policy;
mod pool;
mod silence;
mod speed;
mod stale;
#[cfg(test)]
mod tests;

pub use endpoint::EndpointHealth;
pub use observation::{Attempt, Change, Failure, Observation, Reason, Scrape, Standing};
pub use policy::HealthPolicy;
pub use pool::{Health, Screening, Selection};
pub use stale::{PoolLoad, substitute};
