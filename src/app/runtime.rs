use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{self, Timestamp};
use crate::scheduling::{BoxFuture, Runtime};

/// The process's clock, and tasks of tokio's that end with the pool.
#[derive(Debug, Default)]
pub(crate) struct TokioRuntime {
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Runtime for TokioRuntime {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = ended.cancelled() => {}
            }
        });
    }
}

impl Drop for TokioRuntime {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
