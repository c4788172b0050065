//! The process's clock. Only the outermost layers read it; everything below is handed the time,
//! so that simulations can run on a clock of their own.

use std::sync::LazyLock;
use std::time::Instant;

use crate::endpoints::Nanos;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the process first asked for the time; monotonic.
pub fn now() -> Nanos {
    START.elapsed().as_nanos() as Nanos
}
