//! Looking at a file again whenever it may have changed.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::watch::{Wake, Watch};

/// When to look.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Changes that come within this time of each other are taken up together: a writer may need
    /// several steps.
    pub debounce: Duration,
    /// A file that never rests is looked at all the same after this time.
    pub longest_debounce: Duration,
    /// The file is looked at again after this time even if nothing was noticed: network file
    /// systems tell nothing of changes made elsewhere.
    pub recheck: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(250),
            longest_debounce: Duration::from_secs(2),
            recheck: Duration::from_secs(60),
        }
    }
}

/// Follows one file until dropped, on a thread of its own.
#[derive(Debug)]
pub struct Follower {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

/// A file whose changes are noted from now on, to be told later.
pub struct Noted {
    wake: Sender<Wake>,
    woken: Receiver<Wake>,
    watch: Watch,
}

impl Follower {
    /// Begins to note changes of `path`: to be called before it is read for the first time, so
    /// that none falls between the two.
    pub fn note(path: &Path) -> Noted {
        let (wake, woken) = channel();
        let watch = Watch::new(path, wake.clone());
        Noted { wake, woken, watch }
    }

    /// Notes no change at all, so that only time makes it look.
    pub fn note_nothing() -> Noted {
        let (wake, woken) = channel();
        Noted { wake, woken, watch: Watch::blind() }
    }
}

impl Noted {
    /// Calls `look` after every change, on a thread called `name`.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn follow(
        self,
        name: &str,
        timing: Timing,
        look: impl FnMut() + Send + 'static,
    ) -> io::Result<Follower> {
        let Self { wake, woken, watch } = self;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&woken, watch, timing, look))?;
        Ok(Follower { wake, thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that is gone already needs no telling, and its panic was reported.
            _ = self.wake.send(Wake::Stop);
            _ = thread.join();
        }
    }
}

fn run(woken: &Receiver<Wake>, mut watch: Watch, timing: Timing, mut look: impl FnMut()) {
    loop {
        match woken.recv_timeout(timing.recheck) {
            Ok(Wake::Changed) => {
                if !settle(woken, timing) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        // The file may stand behind other directories now.
        watch.renew();
        look();
    }
}

/// Waits until changes cease for a moment; false where it is time to stop.
fn settle(woken: &Receiver<Wake>, timing: Timing) -> bool {
    let deadline = Instant::now() + timing.longest_debounce;
    loop {
        match woken.recv_timeout(timing.debounce) {
            Ok(Wake::Changed) if Instant::now() < deadline => {}
            Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}
