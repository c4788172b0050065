//! How much memory there is for this process.

use std::fs;

/// Where neither a cgroup nor the system tells.
const ASSUMED: u64 = 4 << 30;

/// A quarter of it, bytes.
pub(super) fn quarter() -> usize {
    usize::try_from(limit() / 4).unwrap_or(usize::MAX)
}

/// The limit of the container, or what the machine has; bytes.
fn limit() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.into_iter().filter_map(|path| read(path).trim().parse().ok());
    let machine = total_kib(&read("/proc/meminfo")).map(|kib| kib.saturating_mul(1024));
    group.chain(machine).min().unwrap_or(ASSUMED)
}

/// `MemTotal` of `/proc/meminfo`.
fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total_kib("MemFree: 1 kB\nMemTotal:   123 kB\n"), Some(123));
        assert_eq!(total_kib("MemTotal: x kB"), None);
        assert!(limit() >= 64 << 20, "{}", limit());
    }
}
