//! What each tenant may use in a window of time, and what it has used.
//!
//! A request takes what it may come to use before it is sent ([`Counters::take`]), and settles for
//! what it has used when it has ended: so requests that run side by side cannot all slip under the
//! last token. Windows follow the calendar, in UTC, as those of `envoyproxy/ratelimit` do but for
//! months, which are real ones here.

mod counter;
mod counters;
mod limit;
mod shared;
mod window;

pub use counter::{Overdrawn, Standing};
pub use counters::{Counters, Hold, Take};
pub use limit::{Limit, Measure};
pub use shared::{
    Backlog, OpenSharedCounters, SharedCounters, SharedSettings, SharedSettle, SharedTake,
    SharedUse, Tenant, TenantUse, Unavailable,
};
pub use window::{Unit, Window};
