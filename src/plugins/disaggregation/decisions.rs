use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::scheduling::{MetricFamily, MetricKind, MetricSample, MetricValue};

/// Model names told apart before new ones are counted as [`OTHER`]: clients choose them.
const MAX_MODELS: usize = 1000;
/// Characters of a model's name in a label.
const MAX_NAME: usize = 256;
const OTHER: &str = "other";
/// What stands for no name (llm-d-router main at ebab6879).
const UNKNOWN: &str = "unknown";

/// Which stages requests were served in, by model.
#[derive(Debug)]
pub(in crate::plugins) struct DecisionCounts {
    plugin_name: String,
    plugin_type: &'static str,
    by_model: RwLock<HashMap<String, [AtomicU64; KINDS.len()]>>,
}

/// The stages beside decode: whether there was an encode and a prefill stage.
const KINDS: [(bool, bool, &str); 4] = [
    (false, false, "decode-only"),
    (false, true, "prefill-decode"),
    (true, false, "encode-decode"),
    (true, true, "encode-prefill-decode"),
];

impl DecisionCounts {
    pub(crate) fn new(plugin_name: &str, plugin_type: &'static str) -> Self {
        let plugin_name = plugin_name.to_owned();
        Self { plugin_name, plugin_type, by_model: RwLock::default() }
    }

    /// A request for `model` is served in these stages beside decode.
    pub(crate) fn count(&self, model: &str, encode: bool, prefill: bool) {
        let Some(kind) = KINDS.iter().position(|k| (k.0, k.1) == (encode, prefill)) else { return };
        let model = label(model);
        if let Some(counts) = self.by_model.read().get(model) {
            counts[kind].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut by_model = self.by_model.write();
        let model = if by_model.len() < MAX_MODELS { model } else { OTHER };
        let counts = by_model.entry(model.to_owned()).or_default();
        counts[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts under today's name and its older ones (llm-d-router main at ebab6879). `name`
    /// is `disagg` or `pd`.
    pub(crate) fn families(&self, names: [&'static str; 2]) -> Vec<MetricFamily> {
        let by_model = self.by_model.read();
        let mut with_plugin = Vec::new();
        let mut without = Vec::new();
        for (model, counts) in by_model.iter() {
            for ((.., kind), count) in KINDS.iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                if count == 0 {
                    continue;
                }
                let value = MetricValue::Number(count as f64);
                let labels =
                    vec![("decision_type", (*kind).to_owned()), ("model_name", model.clone())];
                let more = [
                    ("plugin_name", self.plugin_name.clone()),
                    ("plugin_type", self.plugin_type.to_owned()),
                ];
                let all = labels.iter().cloned().chain(more).collect();
                with_plugin.push(MetricSample { labels: all, value: value.clone() });
                without.push(MetricSample { labels, value });
            }
        }
        let help = "Requests by the stages that they were served in.";
        let old_help = "[Deprecated: use the llm_d_epp_ name] Requests by their stages.";
        let kind = MetricKind::Counter;
        vec![
            MetricFamily { name: names[0], help, kind, samples: with_plugin },
            MetricFamily { name: names[1], help: old_help, kind, samples: without },
        ]
    }
}

fn label(model: &str) -> &str {
    if model.is_empty() {
        return UNKNOWN;
    }
    let end = model.char_indices().nth(MAX_NAME).map_or(model.len(), |(at, _)| at);
    &model[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_counted_by_model_and_kind() {
        let counts = DecisionCounts::new("pd", "disagg-profile-handler");
        counts.count("m", false, true);
        counts.count("m", false, true);
        counts.count("", false, false);
        let families = counts.families(["new", "old"]);
        assert_eq!((families[0].name, families[1].name), ("new", "old"));
        let mut lines: Vec<String> =
            families.iter().flat_map(|f| &f.samples).map(|s| format!("{:?}", s)).collect();
        lines.sort();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("decode-only") && lines[0].contains("unknown"), "{lines:?}");
        assert!(lines[3].contains("prefill-decode") && lines[3].contains("2.0"), "{lines:?}");
    }

    #[test]
    fn names_that_clients_invent_are_bounded() {
        let counts = DecisionCounts::new("pd", "t");
        for n in 0..MAX_MODELS + 500 {
            counts.count(&format!("{}{n}", "x".repeat(10)), false, false);
        }
        counts.count(&"é".repeat(10_000), false, false);
        let by_model = counts.by_model.read();
        assert_eq!(by_model.len(), MAX_MODELS + 1);
        assert!(by_model.keys().all(|name| name.chars().count() <= MAX_NAME));
        assert_eq!(by_model[OTHER][0].load(Ordering::Relaxed), 501);
    }
}
