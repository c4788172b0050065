use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::watch::{Wake, Watch};
use super::{FileDiscoveryConfig, MAX_FILE_BYTES, parse_endpoints};
use crate::config::Diagnostics;
use crate::endpoints::{EndpointSpec, Pool, PoolChange};

/// Changes that come within this time of each other are taken up together: a writer may need
/// several steps.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A file that never rests is read all the same after this time.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(1);
/// The file is looked at again after this time even if nothing was noticed: network file systems
/// tell nothing of changes made elsewhere.
const RECHECK: Duration = Duration::from_secs(10);

/// Keeps the pool as an endpoints file says, until dropped.
///
/// A change of the file is taken up as it happens, whichever way it is made: written in place,
/// renamed over, or by the symbolic links of a Kubernetes ConfigMap. A file that is broken or
/// gone changes nothing and is logged once.
#[derive(Debug)]
pub struct FileDiscovery {
    /// The thread that follows the file, and how to end it; `None` where it is not followed.
    follower: Option<(Sender<Wake>, JoinHandle<()>)>,
}

impl FileDiscovery {
    /// Fills the pool from the file, marks it synced, and follows the file from then on where
    /// the configuration says so.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not right: all its mistakes. The pool is left alone.
    pub fn start(config: &FileDiscoveryConfig, pool: Arc<Pool>) -> Result<Self, Diagnostics> {
        Self::start_with(config, pool, RECHECK)
    }

    fn start_with(
        config: &FileDiscoveryConfig,
        pool: Arc<Pool>,
        recheck: Duration,
    ) -> Result<Self, Diagnostics> {
        // Watching begins before reading, so that no change falls between the two.
        let (wake, woken) = channel();
        let watch = config.watch.then(|| Watch::new(&config.path, wake.clone()));
        let text = read_text(&config.path).map_err(|message| refused(&config.path, message))?;
        let specs = read(&config.path, &text)?;
        pool.replace(specs);
        pool.set_synced(true);
        let Some(watch) = watch else { return Ok(Self { follower: None }) };
        let mut follower = Follower { path: config.path.clone(), pool, last: Ok(text), watch };
        let thread = std::thread::Builder::new()
            .name("endpoints-file".into())
            .spawn(move || follower.run(&woken, recheck))
            .map_err(|e| refused(&config.path, format!("cannot be watched: {e}")))?;
        Ok(Self { follower: Some((wake, thread)) })
    }
}

impl Drop for FileDiscovery {
    fn drop(&mut self) {
        if let Some((wake, thread)) = self.follower.take() {
            // A thread that is gone already needs no telling, and its panic was reported.
            let _ = wake.send(Wake::Stop);
            let _ = thread.join();
        }
    }
}

/// Reads an endpoints file without following it; warnings are logged.
///
/// # Errors
///
/// The file cannot be read or is not right: all its mistakes.
pub fn read_endpoints(path: &Path) -> Result<Vec<EndpointSpec>, Diagnostics> {
    let text = read_text(path).map_err(|message| refused(path, message))?;
    read(path, &text)
}

fn read(path: &Path, text: &str) -> Result<Vec<EndpointSpec>, Diagnostics> {
    let diagnostics = Diagnostics::new(path.display().to_string());
    let specs = parse_endpoints(text, &diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    for warning in diagnostics.to_string().lines() {
        tracing::warn!("{warning}");
    }
    Ok(specs)
}

fn refused(path: &Path, message: String) -> Diagnostics {
    let diagnostics = Diagnostics::new(path.display().to_string());
    diagnostics.error(None, "", message);
    diagnostics
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {} KiB", MAX_FILE_BYTES / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

/// The state of a file that is followed.
struct Follower {
    path: PathBuf,
    pool: Arc<Pool>,
    /// The file as read last, or why it could not be read: what is no news is not worked on.
    last: Result<String, String>,
    watch: Watch,
}

/// What one look at the file came to.
#[derive(Debug)]
enum Look {
    Unchanged,
    Applied(PoolChange),
    /// The file is no good, for this reason; the pool stays as it was.
    Refused(Diagnostics),
}

impl Follower {
    fn run(&mut self, woken: &Receiver<Wake>, recheck: Duration) {
        loop {
            match woken.recv_timeout(recheck) {
                Ok(Wake::Changed) => {
                    if !settle(woken) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            // The file may stand behind other directories now.
            self.watch.renew();
            match self.look() {
                Look::Unchanged => {}
                Look::Applied(change) => tracing::info!(
                    file = %self.path.display(),
                    endpoints = self.pool.snapshot().endpoints.len(),
                    added = change.added.len(),
                    removed = change.removed.len(),
                    "Endpoints file taken up"
                ),
                Look::Refused(diagnostics) => tracing::error!(
                    errors = diagnostics.to_string().trim_end().replace('\n', "; "),
                    "Endpoints file refused, the endpoints stay as they were"
                ),
            }
        }
    }

    fn look(&mut self) -> Look {
        let now = read_text(&self.path);
        if now == self.last {
            return Look::Unchanged;
        }
        let outcome = match &now {
            Ok(text) => read(&self.path, text),
            Err(message) => Err(refused(&self.path, message.clone())),
        };
        self.last = now;
        match outcome {
            Ok(specs) => Look::Applied(self.pool.replace(specs)),
            Err(diagnostics) => Look::Refused(diagnostics),
        }
    }
}

/// Waits until changes cease for a moment; false where it is time to stop.
fn settle(woken: &Receiver<Wake>) -> bool {
    let deadline = Instant::now() + LONGEST_DEBOUNCE;
    loop {
        match woken.recv_timeout(DEBOUNCE) {
            Ok(Wake::Changed) if Instant::now() < deadline => {}
            Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Longer than any test: what is noticed, is noticed by watching.
    const NEVER: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(60);

    fn endpoints(names: &[&str]) -> String {
        let entry = |name: &&str| format!("- {{name: {name}, address: 10.0.0.1, port: 8000}}\n");
        format!("endpoints:\n{}", names.iter().map(entry).collect::<String>())
    }

    fn names(pool: &Pool) -> Vec<String> {
        pool.snapshot().endpoints.iter().map(|e| e.spec.name.clone()).collect()
    }

    fn wait_for(pool: &Pool, expected: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while names(pool) != expected {
            assert!(Instant::now() < deadline, "waited for {expected:?}, have {:?}", names(pool));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn start(path: &Path, pool: &Arc<Pool>) -> FileDiscovery {
        let config = FileDiscoveryConfig { path: path.to_owned(), watch: true };
        FileDiscovery::start_with(&config, pool.clone(), NEVER).expect("a good file")
    }

    #[test]
    fn a_change_in_place_or_by_renaming_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        fs::write(&path, endpoints(&["a"])).unwrap();
        let pool = Arc::new(Pool::new());
        let _discovery = start(&path, &pool);
        assert!(pool.is_synced());
        assert_eq!(names(&pool), ["a"]);

        let a = pool.snapshot().endpoints[0].instance;
        fs::write(&path, endpoints(&["a", "b"])).unwrap();
        wait_for(&pool, &["a", "b"]);
        assert_eq!(pool.snapshot().endpoints[0].instance, a, "the worker that stays is the same");

        let next = dir.path().join("endpoints.yaml.next");
        fs::write(&next, endpoints(&["c"])).unwrap();
        fs::rename(&next, &path).unwrap();
        wait_for(&pool, &["c"]);

        fs::remove_file(&path).unwrap();
        fs::write(&path, endpoints(&["d"])).unwrap();
        wait_for(&pool, &["d"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_config_map_swapped_again_and_again_is_taken_up() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("endpoints.yaml"), text).unwrap();
        };
        version("..1", &endpoints(&["a"]));
        symlink("..1", at("..data")).unwrap();
        symlink("..data/endpoints.yaml", at("endpoints.yaml")).unwrap();
        let pool = Arc::new(Pool::new());
        let _discovery = start(&at("endpoints.yaml"), &pool);
        assert_eq!(names(&pool), ["a"]);

        for (old, new, name) in [("..1", "..2", "b"), ("..2", "..3", "c"), ("..3", "..4", "d")] {
            version(new, &endpoints(&[name]));
            symlink(new, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at(old)).unwrap();
            wait_for(&pool, &[name]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_behind_a_link_is_followed_where_it_is() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let real = elsewhere.path().join("workers.yaml");
        let path = dir.path().join("endpoints.yaml");
        fs::write(&real, endpoints(&["a"])).unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let pool = Arc::new(Pool::new());
        let _discovery = start(&path, &pool);
        fs::write(&real, endpoints(&["b"])).unwrap();
        wait_for(&pool, &["b"]);
    }

    #[test]
    fn a_change_that_no_one_tells_of_is_found_by_looking_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        fs::write(&path, endpoints(&["a"])).unwrap();
        let pool = Arc::new(Pool::new());
        let (wake, woken) = channel();
        let mut follower = Follower {
            path: path.clone(),
            pool: pool.clone(),
            last: Ok(String::new()),
            watch: Watch::blind(),
        };
        let thread = std::thread::spawn(move || follower.run(&woken, Duration::from_millis(1)));
        wait_for(&pool, &["a"]);
        fs::write(&path, endpoints(&["b"])).unwrap();
        wait_for(&pool, &["b"]);
        wake.send(Wake::Stop).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_file_that_is_no_good_changes_nothing_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        let pool = Arc::new(Pool::new());
        let mut follower = Follower {
            path: path.clone(),
            pool: pool.clone(),
            last: Ok(String::new()),
            watch: Watch::blind(),
        };
        // What is written (`None`: the file is removed), whether it is refused, who is there.
        let good = endpoints(&["a"]);
        let too_large = format!("# {}\n{good}", "x".repeat(MAX_FILE_BYTES as usize));
        type Step<'a> = (Option<&'a [u8]>, bool, &'a [&'a str]);
        let steps: &[Step<'_>] = &[
            (None, true, &[]),
            (Some(good.as_bytes()), false, &["a"]),
            (Some(b"endpoints: ["), true, &["a"]),
            (Some(b""), true, &["a"]),
            (Some(b"\xff"), true, &["a"]),
            (Some(too_large.as_bytes()), true, &["a"]),
            (None, true, &["a"]),
            (Some(good.as_bytes()), false, &["a"]),
            (Some(b"endpoints: []"), false, &[]),
        ];
        for (content, is_refused, expected) in steps {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => drop(fs::remove_file(&path)),
            }
            let look = follower.look();
            assert_eq!(matches!(look, Look::Refused(_)), *is_refused, "{look:?}");
            assert_eq!(names(&pool), *expected);
            assert!(matches!(follower.look(), Look::Unchanged), "told twice: {look:?}");
        }
    }

    #[test]
    fn the_first_load_must_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        let config = FileDiscoveryConfig { path: path.clone(), watch: true };
        let pool = Arc::new(Pool::new());
        let refusal = FileDiscovery::start(&config, pool.clone()).unwrap_err().to_string();
        assert!(refusal.contains("endpoints.yaml: cannot be read: "), "{refusal}");
        fs::write(&path, "endpoints: [{name: a}, {name: b}]").unwrap();
        let refusal = FileDiscovery::start(&config, pool.clone()).unwrap_err().to_string();
        assert_eq!(refusal.matches("address: is missing").count(), 2, "{refusal}");
        assert!(!pool.is_synced());
    }

    #[test]
    fn a_file_that_is_not_watched_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        fs::write(&path, endpoints(&["a"])).unwrap();
        let pool = Arc::new(Pool::new());
        let config = FileDiscoveryConfig { path, watch: false };
        let discovery = FileDiscovery::start(&config, pool.clone()).unwrap();
        assert_eq!(names(&pool), ["a"]);
        assert!(discovery.follower.is_none());
    }
}
