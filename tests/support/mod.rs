//! The real program, real Envoy and real workers, for tests that talk to them over sockets.

#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod client;
pub mod envoy;
pub mod needs;
pub mod process;
pub mod program;
pub mod redis;
pub mod runtime;

use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything that happens in milliseconds when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `check` gives something; panics with `what` when it does not.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
