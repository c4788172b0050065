use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a line may wait before it is written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// Pending bytes that are written at once.
const FLUSH_BYTES: usize = 64 * 1024;
/// Pending bytes at which those who log write themselves, so that nothing is dropped and memory
/// stays bounded when the reader of the log is slow.
const FULL_BYTES: usize = 1024 * 1024;
/// How long a panicking thread waits for the log before it goes on without.
const PANIC_PATIENCE: Duration = Duration::from_millis(200);

/// Collects lines and writes them from a thread of its own. That thread sleeps while nothing is
/// logged.
pub struct Sink {
    pending: Mutex<Pending>,
    /// Told when `pending` is no longer empty, is large, or is closed.
    news: Condvar,
    /// Held while writing, taken before `pending`, so that lines keep their order.
    out: Mutex<Out>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    closed: bool,
}

struct Out {
    target: Box<dyn Write + Send>,
    /// The buffer that is not `pending`.
    spare: Vec<u8>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl Sink {
    /// Starts writing to `target`. Where no thread can be started every line is written at once.
    pub fn start(target: Box<dyn Write + Send>) -> Arc<Self> {
        let sink = Arc::new(Self {
            pending: Mutex::default(),
            news: Condvar::new(),
            out: Mutex::new(Out { target, spare: Vec::new() }),
            writer: Mutex::default(),
        });
        let of_thread = sink.clone();
        match std::thread::Builder::new().name("log".into()).spawn(move || of_thread.run()) {
            Ok(handle) => *sink.writer.lock() = Some(handle),
            Err(_) => sink.pending.lock().closed = true,
        }
        sink
    }

    /// Adds a line. It is written within 20 ms, or before this returns once the sink is closed.
    pub fn write(&self, line: &[u8]) {
        let mut pending = self.pending.lock();
        let before = pending.lines.len();
        pending.lines.extend_from_slice(line);
        let now = pending.lines.len();
        let by_us = pending.closed || now >= FULL_BYTES;
        drop(pending);
        if by_us {
            self.flush();
        } else if before == 0 || (before < FLUSH_BYTES && now >= FLUSH_BYTES) {
            self.news.notify_one();
        }
    }

    /// Writes all lines added so far.
    pub fn flush(&self) {
        self.flush_to(&mut self.out.lock());
    }

    /// Like [`Sink::flush`], but gives up where another thread keeps the output busy.
    pub fn flush_if_free(&self) {
        if let Some(mut out) = self.out.try_lock_for(PANIC_PATIENCE) {
            self.flush_to(&mut out);
        }
    }

    fn flush_to(&self, out: &mut Out) {
        let Out { target, spare } = out;
        std::mem::swap(&mut self.pending.lock().lines, spare);
        // There is nowhere to report that the log cannot be written.
        _ = target.write_all(spare).and_then(|()| target.flush());
        spare.clear();
        // A burst should not keep its memory for ever.
        spare.shrink_to(2 * FLUSH_BYTES);
    }

    /// Writes what there is and ends the thread; later lines are written at once.
    pub fn close(&self) {
        self.pending.lock().closed = true;
        self.news.notify_one();
        if let Some(writer) = self.writer.lock().take() {
            // It panicked, if at all, in the target's `write`; what is left is written below.
            _ = writer.join();
        }
        self.flush();
    }

    fn run(&self) {
        loop {
            let mut pending = self.pending.lock();
            self.news.wait_while(&mut pending, |p| p.lines.is_empty() && !p.closed);
            if pending.closed {
                return;
            }
            let small = |p: &mut Pending| p.lines.len() < FLUSH_BYTES && !p.closed;
            self.news.wait_while_for(&mut pending, small, FLUSH_INTERVAL);
            drop(pending);
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Captured;
    use super::*;

    #[test]
    fn lines_of_many_threads_arrive_whole_and_in_their_threads_order() {
        let captured = Captured::default();
        let sink = Sink::start(Box::new(captured.clone()));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sink = &sink;
                scope.spawn(move || {
                    for i in 0..20_000 {
                        sink.write(format!("{thread} {i}\n").as_bytes());
                    }
                });
            }
        });
        sink.close();
        let mut next = [0; 4];
        for line in captured.text().lines() {
            let (thread, i) = line.split_once(' ').unwrap();
            let thread: usize = thread.parse().unwrap();
            assert_eq!(i.parse::<usize>().unwrap(), next[thread]);
            next[thread] += 1;
        }
        assert_eq!(next, [20_000; 4]);
    }

    #[test]
    fn a_line_is_written_without_anybody_asking() {
        let captured = Captured::default();
        let sink = Sink::start(Box::new(captured.clone()));
        sink.write(b"one\n");
        while captured.text().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(captured.text(), "one\n");
        sink.close();
    }

    #[test]
    fn lines_after_the_end_are_written_at_once() {
        let captured = Captured::default();
        let sink = Sink::start(Box::new(captured.clone()));
        sink.close();
        sink.write(b"late\n");
        assert_eq!(captured.text(), "late\n");
    }
}
