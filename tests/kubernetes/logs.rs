use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What this test logged, by any crate, at the level of warnings. Tests run on one thread each,
/// so nothing of another test is in it.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Warnings {
    pub fn capture() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(warnings.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (warnings, guard)
    }

    /// The lines that contain `part`.
    pub fn with(&self, part: &str) -> Vec<String> {
        let text = self.0.lock().expect("not poisoned");
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl<'a> MakeWriter<'a> for Warnings {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
