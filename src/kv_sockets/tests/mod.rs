//! Engines that publish, and subscriptions to them.

mod following;
mod publisher;
mod streams;

use std::time::Duration;

use crate::clock::{self, Timestamp};
use crate::scheduling::{BoxFuture, Runtime};
use publisher::{Layout, Publisher};

/// The runtime that a test runs on.
#[derive(Debug)]
pub(super) struct Tokio;

impl Runtime for Tokio {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        tokio::spawn(work);
    }
}
