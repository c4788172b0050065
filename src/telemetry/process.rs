//! `process_*`: what the operating system says about this process, from `/proc`.

use std::fs;

use prometheus::proto::MetricFamily;

use super::exposition::{Info, LazyCollector};

/// Clock ticks per second in `/proc/*/stat`; fixed by the kernel's interface (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

const CPU: Info = Info::counter("process_cpu_seconds_total", "User and system CPU time, seconds.");
const RESIDENT: Info = Info::gauge("process_resident_memory_bytes", "Resident memory, bytes.");
const VIRTUAL: Info = Info::gauge("process_virtual_memory_bytes", "Virtual memory, bytes.");
const THREADS: Info = Info::gauge("process_threads", "Threads of the operating system.");
const OPEN_FDS: Info = Info::gauge("process_open_fds", "Open file descriptors.");
const MAX_FDS: Info = Info::gauge("process_max_fds", "File descriptors that may be open at once.");
const START: Info = Info::gauge("process_start_time_seconds", "Start of the process, Unix time.");

pub(super) fn collector() -> prometheus::Result<impl prometheus::core::Collector> {
    LazyCollector::new(&[CPU, RESIDENT, VIRTUAL, THREADS, OPEN_FDS, MAX_FDS, START], collect)
}

/// Whatever can be read; a value that cannot is left out.
fn collect() -> Vec<MetricFamily> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    let status = read("/proc/self/status");
    let limits = read("/proc/self/limits");
    let system = read("/proc/stat");
    let kib = |key| column(&status, key, 1).map(|k| k * 1024.0);
    let start = stat_field(&stat, 22).and_then(|ticks| since_epoch(&system, ticks));
    let cpu = stat_field(&stat, 14).zip(stat_field(&stat, 15)).map(|(user, system)| user + system);
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    [
        (CPU, cpu.map(|ticks| ticks / TICKS_PER_SECOND)),
        (RESIDENT, kib("VmRSS:")),
        (VIRTUAL, kib("VmSize:")),
        (THREADS, column(&status, "Threads:", 1)),
        (OPEN_FDS, open),
        (MAX_FDS, column(&limits, "Max open files", 3)),
        (START, start),
    ]
    .into_iter()
    .filter_map(|(info, value)| Some(info.family(vec![info.sample(&[], value?)])))
    .collect()
}

/// A field of `/proc/self/stat` by its number in proc(5). The second one, the program's name in
/// parentheses, may contain anything.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// The `n`th word (from 0) of the line that begins with `key`.
fn column(text: &str, key: &str, n: usize) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_ascii_whitespace().nth(n)?.parse().ok()
}

/// Seconds since 1970 of a moment given in ticks since boot.
fn since_epoch(system: &str, ticks: f64) -> Option<f64> {
    Some(column(system, "btime", 1)? + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 4200 1 2";
        assert_eq!(stat_field(stat, 14), Some(150.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 22), Some(4200.0));
        assert_eq!(stat_field("garbage", 14), None);
        assert_eq!(since_epoch("cpu 1 2\nbtime 1000\n", 4200.0), Some(1042.0));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let names: Vec<String> = collect().iter().map(|f| f.name().to_owned()).collect();
        for info in [CPU, RESIDENT, VIRTUAL, THREADS, OPEN_FDS, MAX_FDS, START] {
            assert!(names.iter().any(|n| n == info.name), "{} of {names:?}", info.name);
        }
    }
}
