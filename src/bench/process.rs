//! What another process on this machine uses: CPU time and memory, read from `/proc`.
//!
//! On other systems than Linux nothing is known, and reports leave those columns empty.

use std::net::SocketAddr;
use std::time::Duration;

/// One reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time since the process began, all threads.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
}

/// The process with this id as it is now; `None` where it cannot be read.
#[cfg(target_os = "linux")]
pub fn usage(pid: i32) -> Option<Usage> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    let ticks = procfs::ticks_per_second().max(1);
    Some(Usage {
        cpu: Duration::from_secs_f64((stat.utime + stat.stime) as f64 / ticks as f64),
        resident: stat.rss * procfs::page_size(),
    })
}

/// The process that listens on `addr`, if it is on this machine and we may look.
#[cfg(target_os = "linux")]
pub fn listening_on(addr: SocketAddr) -> Option<i32> {
    use procfs::net::TcpState;
    use procfs::process::FDTarget;

    let mut sockets = procfs::net::tcp().unwrap_or_default();
    sockets.extend(procfs::net::tcp6().unwrap_or_default());
    let inodes: Vec<u64> = sockets
        .into_iter()
        .filter(|s| s.state == TcpState::Listen && s.local_address.port() == addr.port())
        .filter(|s| s.local_address.ip() == addr.ip() || s.local_address.ip().is_unspecified())
        .map(|s| s.inode)
        .collect();
    procfs::process::all_processes().ok()?.flatten().find_map(|process| {
        let owns = process
            .fd()
            .ok()?
            .flatten()
            .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)));
        owns.then_some(process.pid)
    })
}

#[cfg(not(target_os = "linux"))]
pub fn usage(_pid: i32) -> Option<Usage> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn listening_on(_addr: SocketAddr) -> Option<i32> {
    None
}

/// Processors this process may run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor's name, where the system tells it.
pub fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn finds_itself_by_port_and_sees_its_own_use() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let me = std::process::id() as i32;
        assert_eq!(listening_on(listener.local_addr().unwrap()), Some(me));
        let usage = usage(me).unwrap();
        assert!(usage.resident > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_use() {
        assert!(usage(i32::MAX).is_none());
    }
}
