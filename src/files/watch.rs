//! Being told of changes to a file, wherever its links lead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// What the following thread is woken for.
pub(super) enum Wake {
    Changed,
    Stop,
}

/// Tells of changes to one file.
///
/// Directories are watched, not the file: a file that is renamed over is another one. Besides
/// the file's own directory that is the one where its links end.
pub(super) struct Watch {
    path: PathBuf,
    /// `None` where the system gives no watcher: then changes are found by looking again.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Sends [`Wake::Changed`] on every change from now on.
    pub(super) fn new(path: &Path, wake: Sender<Wake>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let changed = event.map_or(true, |event| may_have_changed(&event.kind));
            if changed {
                // Nobody listens any more: the watcher is about to go, too.
                let _ = wake.send(Wake::Changed);
            }
        });
        let watcher = watcher
            .inspect_err(|e| {
                tracing::warn!(file = %path.display(), error = %e, "Cannot watch; looking now and then");
            })
            .ok();
        let mut watch = Self { path: path.to_owned(), watcher, watched: BTreeSet::new() };
        watch.renew();
        watch
    }

    /// Watches the directories that the file's name leads through now. Watching one again that
    /// is watched already does no harm, and is needed where it was removed and made anew.
    pub(super) fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let now = directories(&self.path);
        for gone in self.watched.difference(&now) {
            // A directory that was removed is no longer watched; that is all we want.
            let _ = watcher.unwatch(gone);
        }
        for directory in &now {
            if let Err(e) = watcher.watch(directory, RecursiveMode::NonRecursive)
                && !self.watched.contains(directory)
            {
                tracing::warn!(directory = %directory.display(), error = %e, "Cannot watch; looking now and then");
            }
        }
        self.watched = now;
    }

    /// Never tells of anything.
    pub(super) fn blind() -> Self {
        Self { path: PathBuf::new(), watcher: None, watched: BTreeSet::new() }
    }
}

fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let target = path.canonicalize().ok();
    parent(path).into_iter().chain(target.as_deref().and_then(parent)).collect()
}

/// Reading is no change; without this, our own reading would wake us.
fn may_have_changed(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
