//! Tokens used, by model and by whose requests they were of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::tokens_used::TokensUsed;
use crate::scheduling::{MetricFamily, MetricKind, MetricSample, MetricValue};

/// What stands for every name beyond the limit, as in all other metrics.
const OTHER: &str = "other";
/// Bytes of a name in labels; what is longer is cut.
const MAX_NAME: usize = 128;
/// Names of models with numbers of their own.
const MAX_MODELS: usize = 1000;

/// Sums of tokens that take bounded room, however many names clients think up: the first models
/// and tenants have numbers of their own, all others share one.
#[derive(Debug)]
pub(super) struct TokenCounts {
    max_tenants: usize,
    counts: RwLock<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_model: HashMap<String, HashMap<String, Arc<Count>>>,
    tenants: HashMap<String, ()>,
}

#[derive(Debug, Default)]
struct Count {
    reported: Tokens,
    counted: Tokens,
}

#[derive(Debug, Default)]
struct Tokens {
    input: AtomicU64,
    cached_input: AtomicU64,
    output: AtomicU64,
}

impl TokenCounts {
    pub(super) fn new(max_tenants: usize) -> Self {
        Self { max_tenants, counts: RwLock::default() }
    }

    /// Adds what an exchange used.
    pub(super) fn add(&self, model: &str, tenant: &str, used: &TokensUsed) {
        let count = self.of(cut(model), cut(tenant));
        let tokens = if used.counted { &count.counted } else { &count.reported };
        tokens.input.fetch_add(used.input, Ordering::Relaxed);
        tokens.cached_input.fetch_add(used.cached_input, Ordering::Relaxed);
        tokens.output.fetch_add(used.output, Ordering::Relaxed);
    }

    fn of(&self, model: &str, tenant: &str) -> Arc<Count> {
        let known = |counts: &Counts| counts.by_model.get(model)?.get(tenant).cloned();
        if let Some(count) = known(&self.counts.read()) {
            return count;
        }
        let mut counts = self.counts.write();
        let full = counts.by_model.len() >= MAX_MODELS && !counts.by_model.contains_key(model);
        let model = if full { OTHER } else { model };
        let full = counts.tenants.len() >= self.max_tenants && !counts.tenants.contains_key(tenant);
        // The one without a name is always there.
        let tenant = if full && !tenant.is_empty() { OTHER } else { tenant };
        if tenant != OTHER && !tenant.is_empty() {
            counts.tenants.insert(tenant.to_owned(), ());
        }
        let of_model = counts.by_model.entry(model.to_owned()).or_default();
        of_model.entry(tenant.to_owned()).or_default().clone()
    }

    /// All sums.
    pub(super) fn family(&self) -> MetricFamily {
        let counts = self.counts.read();
        let mut samples = Vec::new();
        for (model, of_model) in &counts.by_model {
            for (tenant, count) in of_model {
                for (source, tokens) in [("reported", &count.reported), ("counted", &count.counted)]
                {
                    for (kind, sum) in [
                        ("input", &tokens.input),
                        ("cached_input", &tokens.cached_input),
                        ("output", &tokens.output),
                    ] {
                        samples.push(MetricSample {
                            labels: vec![
                                ("target_model_name", model.clone()),
                                ("tenant", tenant.clone()),
                                ("kind", kind.to_owned()),
                                ("source", source.to_owned()),
                            ],
                            value: MetricValue::Number(sum.load(Ordering::Relaxed) as f64),
                        });
                    }
                }
            }
        }
        MetricFamily {
            name: "llm_d_epp_tokens_total",
            help: "Tokens that exchanges used, whether or not they came to their end.",
            kind: MetricKind::Counter,
            samples,
        }
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input: u64, output: u64) -> TokensUsed {
        TokensUsed { input, output, ..TokensUsed::default() }
    }

    /// `model/tenant` and its tokens of input, sorted.
    fn inputs(counts: &TokenCounts) -> Vec<(String, f64)> {
        let of = |sample: &MetricSample| {
            let labels: HashMap<_, _> = sample.labels.iter().cloned().collect();
            let MetricValue::Number(number) = sample.value else { return None };
            let wanted = labels["kind"] == "input" && labels["source"] == "reported";
            wanted
                .then(|| (format!("{}/{}", labels["target_model_name"], labels["tenant"]), number))
        };
        let mut inputs: Vec<_> = counts.family().samples.iter().filter_map(of).collect();
        inputs.sort_by(|a, b| a.0.cmp(&b.0));
        inputs
    }

    #[test]
    fn tenants_beyond_the_limit_share_one_number() {
        let counts = TokenCounts::new(2);
        for tenant in ["a", "b", "c", "d", "a", "", "b"] {
            counts.add("m", tenant, &used(1, 0));
        }
        counts.add("n", "d", &used(5, 0));
        counts.add("n", "b", &used(7, 0));
        let expected =
            [("m/", 1.), ("m/a", 2.), ("m/b", 2.), ("m/other", 2.), ("n/b", 7.), ("n/other", 5.)];
        assert_eq!(inputs(&counts), expected.map(|(name, sum)| (name.to_owned(), sum)));
    }

    #[test]
    fn models_and_long_names_are_bounded() {
        let counts = TokenCounts::new(usize::MAX);
        for model in 0..2 * MAX_MODELS {
            counts.add(&format!("m{model}"), "", &used(1, 0));
        }
        let sums = inputs(&counts);
        assert_eq!(sums.len(), MAX_MODELS + 1);
        assert!(sums.contains(&("other/".to_owned(), MAX_MODELS as f64)));
        let counts = TokenCounts::new(1);
        counts.add(&"x".repeat(10_000), &"ü".repeat(10_000), &used(1, 0));
        assert_eq!(inputs(&counts)[0].0.chars().count(), 128 + 1 + 64);
    }
}
