//! Being asked to end, by a signal or by whoever runs us.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// Asked to end: not ready any more, still serving.
    Draining,
    /// Asked again: end now, whatever is in progress.
    Now,
}

/// Whether the program was asked to end. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: watch::Sender<Stage>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { stage: watch::Sender::new(Stage::Running) }
    }
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to end: the first time after draining, the second time at once.
    pub fn request(&self) {
        self.stage.send_modify(|stage| {
            *stage = match stage {
                Stage::Running => Stage::Draining,
                Stage::Draining | Stage::Now => Stage::Now,
            };
        });
    }

    /// Returns when `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        // We hold a sender ourselves, so the channel cannot be closed.
        _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Asks on every SIGTERM and SIGINT, until the result is dropped.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn on_signals(&self) -> std::io::Result<AbortOnDropHandle<()>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                shutdown.request();
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_request_means_now() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert_eq!(*shutdown.stage.borrow(), Stage::Running);
        shutdown.request();
        other.reached(Stage::Draining).await;
        assert_eq!(*other.stage.borrow(), Stage::Draining);
        other.request();
        shutdown.reached(Stage::Now).await;
        shutdown.request();
        assert_eq!(*shutdown.stage.borrow(), Stage::Now);
    }
}
