//! What an index of prefixes publishes: how large it is, and how much of prompts it believes to be
//! where they are sent.

use crate::prefix::PrefixIndex;
use crate::scheduling::{
    Histogram, MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics,
};

/// Buckets (llm-d-router main at ebab6879): shares, and bytes.
const SHARES: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const BYTES: &[f64] = &[
    0.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0,
    65536.0,
];
/// Shares are summed up in millionths.
const MILLIONTHS: f64 = 1e6;

/// The numbers of one index.
#[derive(Debug)]
pub(super) struct PrefixHits {
    index: PrefixIndex,
    plugin: String,
    plugin_type: &'static str,
    ratio: Histogram,
    bytes: Histogram,
}

impl PrefixHits {
    pub(super) fn of(index: PrefixIndex, plugin: &str, plugin_type: &'static str) -> Self {
        Self {
            index,
            plugin: plugin.to_owned(),
            plugin_type,
            ratio: Histogram::with_scale(SHARES, MILLIONTHS),
            bytes: Histogram::whole(BYTES),
        }
    }

    /// A prompt of `total` blocks goes where `matched` of them are believed to be.
    pub(super) fn observe(&self, matched: u32, total: u32, block_bytes: u32) {
        if total > 0 {
            self.ratio.observe(f64::from(matched) / f64::from(total));
        }
        self.bytes.observe(f64::from(matched) * f64::from(block_bytes));
    }
}

impl PluginMetrics for PrefixHits {
    /// Under today's names, and under the older ones, which have no labels.
    fn families(&self) -> Vec<MetricFamily> {
        let labels = || {
            let (name, kind) = (self.plugin.clone(), self.plugin_type.to_owned());
            vec![("plugin_name", name), ("plugin_type", kind)]
        };
        let size = MetricValue::Number(self.index.size() as f64);
        let (ratio, bytes) = (self.ratio.tally().into_value(), self.bytes.tally().into_value());
        let family = |name, help, kind, labels, value| MetricFamily {
            name,
            help,
            kind,
            samples: vec![MetricSample { labels, value }],
        };
        use MetricKind::{Gauge, Histogram};
        vec![
            family(
                "llm_d_epp_prefix_indexer_size",
                "Blocks that are remembered, of all endpoints together.",
                Gauge,
                labels(),
                size.clone(),
            ),
            family(
                "inference_extension_prefix_indexer_size",
                "[Deprecated: use llm_d_epp_prefix_indexer_size] Blocks that are remembered.",
                Gauge,
                Vec::new(),
                size,
            ),
            family(
                "llm_d_epp_prefix_indexer_hit_ratio",
                "Share of a prompt's blocks that are believed to be where it is sent.",
                Histogram,
                labels(),
                ratio.clone(),
            ),
            family(
                "inference_extension_prefix_indexer_hit_ratio",
                "[Deprecated: use llm_d_epp_prefix_indexer_hit_ratio] Share of a prompt's blocks.",
                Histogram,
                Vec::new(),
                ratio,
            ),
            family(
                "llm_d_epp_prefix_indexer_hit_bytes",
                "Bytes of a prompt that are believed to be where it is sent.",
                Histogram,
                labels(),
                bytes.clone(),
            ),
            family(
                "inference_extension_prefix_indexer_hit_bytes",
                "[Deprecated: use llm_d_epp_prefix_indexer_hit_bytes] Bytes of a prompt.",
                Histogram,
                Vec::new(),
                bytes,
            ),
        ]
    }
}
