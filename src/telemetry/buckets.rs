//! Upper bounds of the histograms, as llm-d-router main at ebab6879 has them.

/// Durations of whole requests, seconds.
pub(super) const GENERAL: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0,
    1200.0, 1800.0, 2700.0, 3600.0,
];

/// Time to the first token, seconds: [`GENERAL`] up to two minutes.
pub(super) const FIRST_TOKEN: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0,
];

/// Request bodies, bytes: powers of two from 2^6 to 2^30.
pub(super) const REQUEST_BYTES: &[f64] = &[
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
    32768.0,
    65536.0,
    131072.0,
    262144.0,
    524288.0,
    1048576.0,
    2097152.0,
    4194304.0,
    8388608.0,
    16777216.0,
    33554432.0,
    67108864.0,
    134217728.0,
    268435456.0,
    536870912.0,
    1073741824.0,
];

/// Response bodies, bytes. 32778 is the reference's, misprint and all: dashboards match on it.
pub(super) const RESPONSE_BYTES: &[f64] = &[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
    32778.0, 65536.0,
];

/// Tokens of a prompt.
pub(super) const INPUT_TOKENS: &[f64] = &[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
    32778.0, 65536.0, 131072.0, 262144.0, 524288.0, 1048576.0,
];

/// Tokens of an answer.
pub(super) const OUTPUT_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];

/// One scheduling call, seconds.
pub(super) const SCHEDULING: &[f64] =
    &[0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

/// Duration of a request per output token, seconds.
pub(super) const PER_TOKEN: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Time per output token after the first, seconds.
pub(super) const STREAMING_PER_TOKEN: &[f64] = &[
    0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5,
    0.6, 0.8, 1.0, 2.0,
];

/// Gap between two chunks of a stream, seconds.
pub(super) const INTER_TOKEN: &[f64] = &crate::exchange::CHUNK_INTERVAL_BUCKETS;

/// Our own time on the request path, seconds.
pub(super) const REQUEST_PROCESSING: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// Our own time on the response path, seconds.
pub(super) const RESPONSE_PROCESSING: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Time in the queue, seconds.
pub(super) const QUEUED: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Until a running request that is to end has ended, seconds.
pub(super) const CONFIRMATION: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Life of an ext_proc stream, seconds.
pub(super) const STREAM: &[f64] =
    &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

#[cfg(test)]
mod tests {
    #[test]
    fn bounds_rise() {
        for bounds in [
            super::GENERAL,
            super::FIRST_TOKEN,
            super::REQUEST_BYTES,
            super::RESPONSE_BYTES,
            super::INPUT_TOKENS,
            super::OUTPUT_TOKENS,
            super::SCHEDULING,
            super::PER_TOKEN,
            super::STREAMING_PER_TOKEN,
            super::INTER_TOKEN,
            super::REQUEST_PROCESSING,
            super::RESPONSE_PROCESSING,
            super::STREAM,
            super::QUEUED,
            super::CONFIRMATION,
        ] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
