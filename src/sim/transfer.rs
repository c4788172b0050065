//! What it costs to fetch a prompt's KV from another engine.

use super::config_error::ConfigError;
use crate::sim::Nanos;

/// The time of a transfer: a latency and a time by size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvTransfer {
    /// From the start of a transfer to its first byte, in nanoseconds.
    pub latency_ns: f64,
    /// For each token whose KV is fetched, in nanoseconds.
    pub token_ns: f64,
}

/// Bandwidth assumed between two engines, in gigabits per second: one NDR InfiniBand port
/// (NVIDIA ConnectX-7, 400 Gb/s), of which H100 and H200 servers have one for each GPU.
pub const DEFAULT_GBPS: f64 = 400.0;

/// Latency assumed of a transfer, in milliseconds. Not measured: a round trip between the two
/// engines and the start of the read are well below it, so it is on the careful side.
pub const DEFAULT_LATENCY_MS: f64 = 1.0;

impl KvTransfer {
    /// A transfer of `kv_bytes` per token at `gbps` gigabits per second after `latency_ms`.
    pub fn new(kv_bytes: f64, gbps: f64, latency_ms: f64) -> Self {
        Self { latency_ns: latency_ms * 1e6, token_ns: kv_bytes * 8.0 / gbps }
    }

    /// How long it takes to fetch the KV of so many tokens; nothing takes no time.
    pub(super) fn time(&self, tokens: u32) -> Nanos {
        match tokens {
            0 => 0,
            _ => (self.latency_ns + self.token_ns * f64::from(tokens)).round() as Nanos,
        }
    }

    /// # Errors
    /// Where a time is negative or not a number, as a bandwidth of 0 makes it.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let sane = |ns: f64| ns.is_finite() && ns >= 0.0;
        match (sane(self.latency_ns), sane(self.token_ns)) {
            (false, _) => Err(ConfigError::Duration("the latency of a KV transfer")),
            (_, false) => Err(ConfigError::Duration("the time of a KV transfer per token")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_takes_its_latency_and_time_by_size() {
        // 56 KiB a token at 400 Gb/s, which is 50 GB/s.
        let transfer = KvTransfer::new(57_344.0, 400.0, 1.0);
        for (tokens, ns) in [(0, 0), (1, 1_001_147), (10_000, 12_468_800)] {
            assert_eq!(transfer.time(tokens), ns, "{tokens}");
        }
    }

    #[test]
    fn impossible_links_are_refused() {
        for (bytes, gbps, latency) in [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, f64::NAN)] {
            assert!(KvTransfer::new(bytes, gbps, latency).validate().is_err());
        }
    }
}
