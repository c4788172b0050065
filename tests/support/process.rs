//! A child process that dies with the test, and its output line by line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<(Mutex<Output>, Condvar)>,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    open_pipes: usize,
}

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        let output =
            Arc::new((Mutex::new(Output { open_pipes: 2, ..Output::default() }), Condvar::new()));
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let output = output.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(pipe);
                let mut line = Vec::new();
                while matches!(lines.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    output.0.lock().unwrap().lines.push(text);
                    output.1.notify_all();
                    line.clear();
                }
                output.0.lock().unwrap().open_pipes -= 1;
                output.1.notify_all();
            });
        }
        Self { name: name.to_owned(), child, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.0.lock().unwrap().lines.join("\n")
    }

    /// Waits for a line for which `find` gives something.
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut output = self.output.0.lock().unwrap();
        let mut seen = 0;
        loop {
            while seen < output.lines.len() {
                if let Some(found) = find(&output.lines[seen]) {
                    return found;
                }
                seen += 1;
            }
            let text = || output.lines.join("\n");
            assert!(
                output.open_pipes > 0,
                "{} ended without {what}; it said:\n{}",
                self.name,
                text()
            );
            let (next, timeout) = self.output.1.wait_timeout(output, PATIENCE).unwrap();
            output = next;
            let all = output.lines.join("\n");
            assert!(!timeout.timed_out(), "waited for {what} of {}; it said:\n{all}", self.name);
        }
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let status =
            Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "cannot signal {}", self.name);
    }

    /// Waits for the program to end by itself and gives its exit code and all it printed.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("the child was started");
        let output = self.output.0.lock().unwrap();
        let closed =
            self.output.1.wait_timeout_while(output, PATIENCE, |o| o.open_pipes > 0).unwrap().0;
        (status.code(), closed.lines.join("\n"))
    }
}

impl Process {
    /// The same, but panics where it does not end in time.
    pub fn wait_at_most(&mut self, limit: Duration) -> (Option<i32>, String) {
        let start = Instant::now();
        while self.child.try_wait().expect("the child was started").is_none() {
            let output = self.output();
            assert!(start.elapsed() < limit, "{} does not end; it said:\n{output}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
