//! The life of one HTTP exchange, from its request headers to the end of its response, with no
//! word of protobuf: `ext_proc` translates the gateway's messages into calls on [`Exchange`] and
//! its answers into replies, and any other caller (the harness, a test) uses it the same way.
//!
//! An exchange collects headers and body ([`PendingRequest`]), is decided ([`Director`]: priority,
//! admission, candidates, scheduling; it may have to wait), follows the response, and ends. However
//! it ends, it tells its listeners exactly one [`Outcome`], from which metrics, the access log and
//! everything else that is kept of it are made.
//!
//! Read `exchange.rs` first, then `director.rs`, `ending.rs` and `outcome.rs`.

mod admission;
mod context;
mod deciding;
mod director;
mod ending;
#[allow(clippy::module_inception, reason = "the room's noun is its main file's")]
mod exchange;
mod health_watch;
mod intervals;
mod limits;
mod outcome;
mod pending_request;
mod queue_timer;
mod queued_admission;
mod response;
mod response_bodies;
mod subset;
mod tracer;

pub use admission::{Admission, Admitted, Arrival, Permit, ShedWhenSaturated, Stay};
pub use context::{CurrentContext, ExchangeContext, Randomness, UntilOver};
pub use director::Director;
pub use exchange::{BodyKnown, Exchange, Forward};
pub use health_watch::{HealthListener, HealthWatch};
pub use intervals::{CHUNK_INTERVAL_BUCKETS, ChunkIntervals};
pub use limits::{BodyBudget, RequestLimits};
pub use outcome::{BodySight, Ending, Kept, Outcome, OutcomeListener, Response, Times};
pub use pending_request::PendingRequest;
pub use queue_timer::keep_queue_time;
pub use queued_admission::{QueueListener, QueuedAdmission};
pub use response::ResponseHead;
pub use response_bodies::{AnswerReader, ResponseBodies, ResponseBodyChoice};
pub use subset::EndpointSubset;
pub use tracer::{ExchangeTracer, Traced};
