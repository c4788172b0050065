use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::batch::{Batch, Seen};
use super::files::Files;
use super::names::Names;
use super::pieces::Pieces;

/// Between two looks at what has come.
const PAUSE: Duration = Duration::from_millis(50);
/// What has come is on the disk so soon after, at the latest.
const FLUSH: Duration = Duration::from_secs(2);
/// Pauses after writing has failed, from the first to the longest.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What was written and what was not.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub written: AtomicU64,
    /// Exchanges lost since the disk did not take them.
    pub lost: AtomicU64,
    /// On the disk.
    pub bytes: AtomicU64,
}

/// Turns exchanges into lines and puts them away.
pub(super) struct Writer {
    batch: Arc<Batch>,
    counts: Arc<Counts>,
    files: Files,
    pieces: Pieces,
    models: Names,
    tenants: Names,
    objectives: Names,
    endpoints: Names,
    /// Lines that are not written yet, how many, and since when.
    lines: Vec<u8>,
    in_lines: u64,
    since: Option<Instant>,
    trouble: Option<Trouble>,
    has_turned_away: bool,
}

/// Writing has failed.
struct Trouble {
    retry_at: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(batch: Arc<Batch>, counts: Arc<Counts>, files: Files) -> Self {
        Self {
            batch,
            counts,
            files,
            pieces: Pieces::default(),
            models: Names::default(),
            tenants: Names::default(),
            objectives: Names::default(),
            endpoints: Names::default(),
            lines: Vec::new(),
            in_lines: 0,
            since: None,
            trouble: None,
            has_turned_away: false,
        }
    }

    /// Works until the batch is closed and empty.
    pub(super) fn run(mut self) {
        let mut seen = Vec::new();
        loop {
            let is_closed = self.batch.take(&mut seen, PAUSE);
            for one in seen.drain(..) {
                self.take(one);
            }
            if is_closed || self.since.is_some_and(|since| since.elapsed() >= FLUSH) {
                self.flush();
            }
            self.say_what_was_turned_away();
            if is_closed {
                return self.batch.over();
            }
        }
    }

    fn take(&mut self, seen: Seen) {
        let Seen { mut row, blocks, named } = seen;
        row.prompt = self.pieces.of(blocks.chains());
        row.model = named.model.map(|hash| self.models.number(hash));
        row.tenant = Some(self.tenants.number(named.tenant));
        row.objective = named.objective.map(|hash| self.objectives.number(hash));
        row.endpoint = named.endpoint.map(|hash| self.endpoints.number(hash));
        // Writing to memory does not fail, and a row has no map whose keys could not be written.
        if serde_json::to_writer(&mut self.lines, &row).is_err() {
            return;
        }
        self.lines.push(b'\n');
        self.in_lines += 1;
        self.since.get_or_insert_with(Instant::now);
        if self.lines.len() >= self.files.packet_bytes() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.in_lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.in_lines);
        self.since = None;
        let now = Instant::now();
        let written = match &self.trouble {
            Some(trouble) if now < trouble.retry_at => None,
            _ => Some(self.files.write(&self.lines)),
        };
        self.lines.clear();
        match written {
            Some(Ok(bytes)) => {
                self.counts.written.fetch_add(lines, Ordering::Relaxed);
                self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                if self.trouble.take().is_some() {
                    tracing::info!("Recording goes on");
                }
            }
            Some(Err(error)) => {
                self.counts.lost.fetch_add(lines, Ordering::Relaxed);
                let pause = match &self.trouble {
                    None => {
                        tracing::warn!(%error, "Recording fails; requests are served as before");
                        RETRY
                    }
                    Some(trouble) => (trouble.pause * 2).min(LONGEST_RETRY),
                };
                self.trouble = Some(Trouble { retry_at: now + pause, pause });
            }
            None => drop(self.counts.lost.fetch_add(lines, Ordering::Relaxed)),
        }
    }

    fn say_what_was_turned_away(&mut self) {
        let turned_away = self.batch.turned_away.load(Ordering::Relaxed);
        if turned_away > 0 && !self.has_turned_away {
            self.has_turned_away = true;
            tracing::warn!(
                "The recorder does not keep up: some requests are not recorded; see \
                 llm_d_epp_recording_dropped_total"
            );
        }
    }
}
