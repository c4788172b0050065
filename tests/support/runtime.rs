//! tokio as the runtime of a pool, for tests that put one together themselves.

use std::time::Duration;

use epp::clock::{self, Timestamp};
use epp::scheduling::{BoxFuture, Runtime};

#[derive(Debug)]
pub struct Tokio;

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
