//! What engines say of the blocks in their KV caches, from a payload into [`crate::kv_index`].
//!
//! Engines publish batches of events over ZeroMQ: a topic, a number that rises by one, and a
//! payload in MessagePack. [`Decoder`] reads a payload, [`Feed`] writes it into the index,
//! [`Line`] puts batches in order and notices what is missing. [`Tracked`] is what is known of one
//! endpoint, and [`Trust`] says whether that is to be believed. Sockets are somebody else's
//! ([`FollowEvents`]).

mod counters;
pub mod decode;
mod event;
mod feed;
mod follow;
mod line;
mod message;
pub mod msgpack;
mod sequence;
#[cfg(test)]
pub(crate) mod tests;
mod topic;
mod tracked;
mod trust;

pub use counters::{Counter, Counters};
pub use decode::Decoder;
pub use event::{Batch, Event, GroupKind, Removed, Stored, tier};
pub use feed::Feed;
pub use follow::{Follow, FollowEvents, FollowPlan, Publishers, Track};
pub use line::{Line, StreamState, StreamStatus, Taken};
pub use message::{Numbered, Parts, Replayed, numbered, replayed};
pub use sequence::{Sequence, Verdict};
pub use topic::Topic;
pub use tracked::Tracked;
pub use trust::{Hit, Trouble, Trust};
