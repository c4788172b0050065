//! Quotas that several processes share, in Redis: one script a request to let it in, one to settle
//! for it, each within a deadline.
//!
//! What a request took is a lease that ends by itself should its process die. What it used is told
//! until Redis has heard it, and counts once: the first settlement of a request marks it as ended.

mod client;
mod messages;
mod settlements;

pub use client::RedisCounters;
