//! When a program that was asked to end has nothing more to wait for.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::AbortOnDropHandle;

use super::{OpenCalls, OpenConnections, Shutdown, Stage};

/// How often it is looked whether the last exchange has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Without an exchange for this long no more are expected; a sixth of a short drain.
const QUIET: Duration = Duration::from_secs(5);
const QUIET_SHARE: u32 = 6;

/// The time between being asked to end and taking no new exchange any more.
///
/// It is there for gateways that have not learned yet that we end. So it lasts for as long as it
/// may where exchanges go on coming; it ends when none was in progress for a while, and at once
/// where no gateway is connected to begin with.
#[derive(Debug)]
pub struct Drain {
    halfway: CancellationToken,
    over: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Drain {
    /// Waits for `shutdown` in the background; must be called within a tokio runtime.
    pub fn start(
        shutdown: Shutdown,
        timeout: Duration,
        connections: OpenConnections,
        calls: OpenCalls,
    ) -> Self {
        let (halfway, over) = (CancellationToken::new(), CancellationToken::new());
        let (at_half, at_end) = (halfway.clone(), over.clone());
        let task = tokio::spawn(async move {
            shutdown.reached(Stage::Draining).await;
            let is_used = connections.count() > 0 || calls.open() > 0;
            if is_used {
                let in_two_turns = async {
                    sleep(timeout / 2).await;
                    at_half.cancel();
                    sleep(timeout / 2).await;
                };
                tokio::select! {
                    () = in_two_turns => {}
                    () = quiet(&calls, QUIET.min(timeout / QUIET_SHARE)) => {}
                    () = shutdown.reached(Stage::Now) => {}
                }
            }
            at_half.cancel();
            at_end.cancel();
        });
        Self { halfway, over, _task: AbortOnDropHandle::new(task) }
    }

    /// Ready when gateways should be asked to connect anew.
    pub fn halfway(&self) -> WaitForCancellationFutureOwned {
        self.halfway.clone().cancelled_owned()
    }

    /// Ready when no new exchange is to be taken any more.
    pub fn over(&self) -> WaitForCancellationFutureOwned {
        self.over.clone().cancelled_owned()
    }
}

/// Ready when no call was open for `time`.
async fn quiet(calls: &OpenCalls, time: Duration) {
    let mut begun = calls.begun();
    let mut since = Instant::now();
    loop {
        let now = calls.begun();
        if calls.open() > 0 || now != begun {
            (begun, since) = (now, Instant::now());
        }
        if since.elapsed() >= time {
            return;
        }
        sleep(LOOK.min(time)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn where_no_gateway_is_connected_it_is_over_at_once() {
        let shutdown = Shutdown::new();
        let (connections, calls) = (OpenConnections::default(), OpenCalls::default());
        let drain = Drain::start(shutdown.clone(), HOUR, connections, calls);
        let too_early = timeout(Duration::from_millis(50), drain.over()).await;
        assert!(too_early.is_err(), "nobody has asked yet");
        shutdown.request();
        timeout(PATIENCE, drain.halfway()).await.unwrap();
        timeout(PATIENCE, drain.over()).await.unwrap();
    }

    #[tokio::test]
    async fn exchanges_that_go_on_coming_do_not_prolong_it() {
        let shutdown = Shutdown::new();
        let (connections, calls) = (OpenConnections::default(), OpenCalls::default());
        let _connection = connections.take(1);
        let time = Duration::from_millis(200);
        let drain = Drain::start(shutdown.clone(), time, connections, calls.clone());
        let _endless = calls.begin();
        shutdown.request();
        timeout(PATIENCE, drain.halfway()).await.unwrap();
        timeout(PATIENCE, drain.over()).await.unwrap();
    }

    #[tokio::test]
    async fn an_open_call_is_never_quiet_and_its_end_is() {
        let calls = OpenCalls::default();
        let call = calls.begin();
        let time = Duration::from_millis(10);
        assert!(timeout(10 * time, quiet(&calls, time)).await.is_err());
        drop(call);
        timeout(PATIENCE, quiet(&calls, time)).await.unwrap();
        assert_eq!((calls.open(), calls.begun()), (0, 1));
    }
}
