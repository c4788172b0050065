use std::time::Duration;

/// Upper bounds of the times between two chunks of a streamed response, seconds (llm-d-router
/// main at ebab6879, `request_streaming_itl_seconds`).
pub const CHUNK_INTERVAL_BUCKETS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0];

/// The times between the chunks of one response, counted by [`CHUNK_INTERVAL_BUCKETS`]. Kept by
/// the exchange itself, so that a stream of a thousand chunks touches what all exchanges share
/// once, at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkIntervals {
    counts: [u32; CHUNK_INTERVAL_BUCKETS.len() + 1],
    sum: Duration,
}

impl ChunkIntervals {
    pub(super) fn observe(&mut self, interval: Duration) {
        let seconds = interval.as_secs_f64();
        let bucket = CHUNK_INTERVAL_BUCKETS.partition_point(|&bound| bound < seconds);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.sum = self.sum.saturating_add(interval);
    }

    /// Intervals per bucket; the last one is above all bounds.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// All intervals together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// True where the response had fewer than two chunks.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&n| n == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_falls_into_the_first_bucket_that_holds_it() {
        let mut intervals = ChunkIntervals::default();
        assert!(intervals.is_empty());
        for ms in [0, 1, 2, 20, 2000, 2001, 60_000] {
            intervals.observe(Duration::from_millis(ms));
        }
        let mut expected = [0; 16];
        (expected[0], expected[1], expected[3]) = (2, 1, 1);
        (expected[14], expected[15]) = (1, 2);
        assert_eq!(intervals.counts(), expected);
        assert_eq!(intervals.sum(), Duration::from_millis(64_024));
    }
}
