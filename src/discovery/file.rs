//! Endpoints from a file, and from then on as the file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::host_names::HostNames;
use super::{ListedEndpoint, MAX_FILE_BYTES, parse_endpoints};
use crate::config::Diagnostics;
use crate::endpoints::{EndpointSpec, Pool, PoolChange};
use crate::files::{self, Follower, Noted, Timing};
use crate::plugins::FileDiscoveryConfig;

const TIMING: Timing = Timing {
    debounce: Duration::from_millis(50),
    longest_debounce: Duration::from_secs(1),
    recheck: Duration::from_secs(5),
};

/// Keeps the pool as an endpoints file says, until dropped.
///
/// A change of the file is taken up as it happens, whichever way it is made: written in place,
/// renamed over, or by the symbolic links of a Kubernetes ConfigMap. A file that is broken or
/// gone changes nothing and is logged once. Host names in it are looked up again and again.
#[derive(Debug)]
pub struct FileDiscovery {
    /// `None` where the file is not followed.
    _follower: Option<Follower>,
}

impl FileDiscovery {
    /// Fills the pool from the file, marks it synced, and follows the file from then on where
    /// the configuration says so.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not right: all its mistakes. The pool is left alone.
    pub fn start(config: &FileDiscoveryConfig, pool: Arc<Pool>) -> Result<Self, Diagnostics> {
        let note = config.watch.then(|| Follower::note(&config.path));
        Self::start_with(config, pool, note, TIMING)
    }

    fn start_with(
        config: &FileDiscoveryConfig,
        pool: Arc<Pool>,
        noted: Option<Noted>,
        timing: Timing,
    ) -> Result<Self, Diagnostics> {
        let text = read_text(&config.path).map_err(|message| refused(&config.path, message))?;
        let listed = read(&config.path, &text)?;
        let mut names = HostNames::default();
        let specs = names.resolve(&listed);
        pool.replace(specs.clone());
        pool.set_synced(true);
        let Some(noted) = noted else { return Ok(Self { _follower: None }) };
        let path = config.path.clone();
        let mut state = Followed { path, pool, last: Ok(text), listed, names, specs };
        let follower = noted
            .follow("endpoints-file", timing, move || state.look_and_tell())
            .map_err(|e| refused(&config.path, format!("cannot be watched: {e}")))?;
        Ok(Self { _follower: Some(follower) })
    }
}

/// Reads an endpoints file without following it; warnings are logged.
///
/// # Errors
///
/// The file cannot be read or is not right: all its mistakes.
pub fn read_endpoints(path: &Path) -> Result<Vec<ListedEndpoint>, Diagnostics> {
    let text = read_text(path).map_err(|message| refused(path, message))?;
    read(path, &text)
}

fn read(path: &Path, text: &str) -> Result<Vec<ListedEndpoint>, Diagnostics> {
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
    files::read_text(path, MAX_FILE_BYTES).map_err(|e| e.to_string())
}

/// The state of a file that is followed.
struct Followed {
    path: PathBuf,
    pool: Arc<Pool>,
    /// The file as read last, or why it could not be read: what is no news is not worked on.
    last: Result<String, String>,
    /// What the last good file lists.
    listed: Vec<ListedEndpoint>,
    names: HostNames,
    /// What the pool was last made to hold.
    specs: Vec<EndpointSpec>,
}

/// What one look at the file came to.
#[derive(Debug)]
enum Look {
    Unchanged,
    Applied(PoolChange),
    /// The file is no good, for this reason; the pool stays as it was.
    Refused(Diagnostics),
}

impl Followed {
    fn look_and_tell(&mut self) {
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

    fn look(&mut self) -> Look {
        let now = read_text(&self.path);
        let mut refusal = None;
        if now != self.last {
            let outcome = match &now {
                Ok(text) => read(&self.path, text),
                Err(message) => Err(refused(&self.path, message.clone())),
            };
            self.last = now;
            match outcome {
                Ok(listed) => self.listed = listed,
                Err(diagnostics) => refusal = Some(diagnostics),
            }
        }
        // Names go on being looked up while the file is no good.
        let specs = self.names.resolve(&self.listed);
        let change = (specs != self.specs).then(|| self.pool.replace(specs.clone()));
        self.specs = specs;
        match (refusal, change) {
            (Some(diagnostics), _) => Look::Refused(diagnostics),
            (None, Some(change)) => Look::Applied(change),
            (None, None) => Look::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

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
        let (noted, timing) = (Follower::note(path), Timing { recheck: NEVER, ..TIMING });
        FileDiscovery::start_with(&config, pool.clone(), Some(noted), timing).expect("a good file")
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
        let config = FileDiscoveryConfig { path: path.clone(), watch: true };
        let timing = Timing { recheck: Duration::from_millis(1), ..TIMING };
        let noted = Some(Follower::note_nothing());
        let _discovery = FileDiscovery::start_with(&config, pool.clone(), noted, timing).unwrap();
        assert_eq!(names(&pool), ["a"]);
        fs::write(&path, endpoints(&["b"])).unwrap();
        wait_for(&pool, &["b"]);
    }

    #[test]
    fn a_file_that_is_no_good_changes_nothing_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        let pool = Arc::new(Pool::new());
        let mut file = Followed {
            path: path.clone(),
            pool: pool.clone(),
            last: Ok(String::new()),
            listed: Vec::new(),
            names: HostNames::default(),
            specs: Vec::new(),
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
            let look = file.look();
            assert_eq!(matches!(look, Look::Refused(_)), *is_refused, "{look:?}");
            assert_eq!(names(&pool), *expected);
            assert!(matches!(file.look(), Look::Unchanged), "told twice: {look:?}");
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
        assert!(discovery._follower.is_none());
    }
}
