//! What has the configuration looked at again: a signal, and changes of its file.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::reload::{Reloader, Why};
use crate::cli::{ConfigReload, ConfigSource};
use crate::files::{Follower, Timing};

/// Has the configuration looked at again, until dropped.
pub(super) struct ReloadTriggers {
    _looking: AbortOnDropHandle<()>,
    _follower: Option<Follower>,
}

impl ReloadTriggers {
    /// On SIGHUP, and whenever the file changes, as far as `mode` says so.
    ///
    /// # Errors
    /// Where the system gives no thread, or lets us handle no signal.
    pub(super) fn start(
        reloader: &Arc<Reloader>,
        mode: ConfigReload,
        source: &ConfigSource,
    ) -> io::Result<Self> {
        let changed = Arc::new(Notify::new());
        let follower = match (mode, source) {
            (ConfigReload::Watch, ConfigSource::File(file)) => {
                let noted = Follower::note(file);
                // It may have changed since it was read.
                changed.notify_one();
                let changed = changed.clone();
                Some(noted.follow("configuration", Timing::default(), move || {
                    changed.notify_one();
                })?)
            }
            _ => None,
        };
        let hangup = signal(SignalKind::hangup())?;
        let refusal = match (mode, source) {
            (ConfigReload::Off, _) => Some("--config-reload=off"),
            (_, ConfigSource::File(_)) => None,
            _ => Some("there is no --config-file"),
        };
        let looking = look(reloader.clone(), changed, hangup, refusal);
        Ok(Self { _looking: AbortOnDropHandle::new(tokio::spawn(looking)), _follower: follower })
    }
}

/// Looks whenever there is reason to, one time after the other.
async fn look(
    reloader: Arc<Reloader>,
    changed: Arc<Notify>,
    mut hangup: Signal,
    refusal: Option<&'static str>,
) {
    loop {
        let why = tokio::select! {
            _ = hangup.recv() => Why::Asked,
            () = changed.notified() => Why::Noticed,
        };
        if let (Why::Asked, Some(refusal)) = (why, refusal) {
            tracing::warn!(reason = refusal, "SIGHUP: no configuration is reloaded");
            continue;
        }
        let reloader = reloader.clone();
        // Files may be slow, and so may plugins that are stopped.
        if let Err(error) = tokio::task::spawn_blocking(move || reloader.look(why)).await {
            tracing::error!(%error, "Reloading the configuration failed");
        }
    }
}
