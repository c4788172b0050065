//! Programs that run beside this one, and end with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::engine_api;

/// How long a program may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Where a program lies: as it was named, or beside this one.
///
/// # Errors
/// Where it is not to be found, with a text that says how to name it.
pub(super) fn find_ours(given: Option<&Path>, name: &str) -> Result<PathBuf, String> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join(name));
    given
        .map(Path::to_owned)
        .or_else(beside)
        .filter(|p| p.is_file())
        .ok_or_else(|| format!("no {name} beside this program: build it, or name it with --{name}"))
}

/// Where Envoy lies.
///
/// # Errors
/// Where it is not to be found, with a text that says how to name it.
pub(super) fn find_envoy(given: Option<&Path>) -> Result<PathBuf, String> {
    given
        .map(Path::to_owned)
        .or_else(installed_envoy)
        .or_else(|| in_search_path("envoy"))
        .filter(|p| p.is_file())
        .ok_or_else(|| "no Envoy: run `make tools`, or name one with --envoy".to_owned())
}

/// The Envoy that `make tools` installs below the working directory.
fn installed_envoy() -> Option<PathBuf> {
    let tools = std::fs::read_dir(".tools").ok()?;
    let mut found: Vec<PathBuf> =
        tools.flatten().map(|e| e.path().join("bin/envoy")).filter(|p| p.is_file()).collect();
    found.sort();
    found.pop()
}

fn in_search_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(name)).find(|p| p.is_file())
}

/// A program that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Program {
    /// # Errors
    /// Where the system cannot start it.
    pub(super) fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null());
        command.spawn().map(Self).map_err(|e| format!("cannot start {name}: {e}"))
    }

    /// Starts it with what it writes in `NAME.log` of the folder, and waits until `url` is
    /// answered with 200.
    ///
    /// # Errors
    /// Where it does not serve, with the last lines that it wrote.
    pub(super) async fn serving(
        name: &str,
        command: &mut Command,
        folder: &Folder,
        url: &str,
    ) -> Result<Self, String> {
        let log = folder.log(name)?;
        let same = log.try_clone().map_err(|e| e.to_string())?;
        let mut program = Self::start(command.stdout(same).stderr(log))?;
        let end = Instant::now() + PATIENCE;
        loop {
            if engine_api::page_of(url).await.is_ok() {
                return Ok(program);
            }
            let ended = program.0.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > end {
                let why = ended.map_or("is not ready".to_owned(), |how| format!("ended: {how}"));
                return Err(format!("{name} {why}\n{}", folder.last_lines(name)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to end, and waits until it has, for a while.
    pub(super) fn end(&mut self) {
        // `epp` ends at once when it is asked twice.
        for _ in 0..2 {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        }
        let begin = Instant::now();
        while begin.elapsed() < ENDING && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn id(&self) -> i32 {
        self.0.id() as i32
    }

    /// What it writes to its standard output, where that was asked for.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of our own, gone when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// # Errors
    /// Where there is no room for temporary files.
    pub(super) fn make() -> Result<Self, String> {
        let name = format!("epp-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Self(path))
    }

    /// A file for what a program writes.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn log(&self, name: &str) -> Result<std::fs::File, String> {
        let path = self.0.join(format!("{name}.log"));
        std::fs::File::create(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))
    }

    /// # Errors
    /// Where it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(path)
    }

    /// The last that a program wrote to its log.
    pub(super) fn last_lines(&self, name: &str) -> String {
        let path = self.0.join(format!("{name}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ports that are free now, all different.
///
/// # Errors
/// Where the system has none.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
