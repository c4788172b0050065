use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tally::{EndpointTally, Tallies, Tally};
use crate::scheduling::{MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics};

/// Fewer answers than this say nothing.
const ENOUGH: u64 = 20;
/// Shares of the prompts that may part by this much: what is cut into blocks and what is evicted
/// in between is never quite the same.
const TOLERANCE: f64 = 0.2;

/// Where predicted and delivered cache hits part, of one endpoint or of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Shares of the prompts' tokens, 0 to 1.
    pub believed: f64,
    pub delivered: f64,
    /// None of the answers said how many tokens were cached.
    pub untold: bool,
}

impl Drift {
    /// The drift of what was counted; `None` where there is too little or they agree.
    pub fn of(tally: &Tally) -> Option<Self> {
        if tally.with_usage < ENOUGH {
            return None;
        }
        // What engines tell is the better belief where there is one.
        let tokens = match tally.indexed_tokens {
            0 => tally.predicted_tokens,
            tokens => tokens,
        };
        let drift = Self {
            believed: tally.share(tokens)?,
            delivered: tally.share(tally.delivered_tokens)?,
            untold: tally.with_cached == 0,
        };
        (drift.gap().abs() > TOLERANCE).then_some(drift)
    }

    /// Positive where less was delivered than was believed.
    pub fn gap(&self) -> f64 {
        self.believed - self.delivered
    }

    /// What it is likely to come from, and the line to change.
    pub fn cause(&self) -> (&'static str, &'static str) {
        match (self.untold, self.gap() > 0.0) {
            (true, _) => (
                "the engine does not report cached tokens, or caches nothing",
                "start the engine with --enable-prompt-tokens-details and --enable-prefix-caching",
            ),
            (false, true) => (
                "the engine evicts earlier than we think, caches less than it told, or hashes \
                 prompts in other blocks",
                "compare blockSizeTokens and lruCapacityPerServer of the prefix producer with the \
                 engine's --block-size and cache size",
            ),
            (false, false) => (
                "requests reach the engine past this picker, or another replica of it",
                "send all traffic of the pool through one picker, or use \
                 precise-prefix-cache-producer, which asks the engines",
            ),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| (share * 100.0).round();
        let (believed, delivered) = (percent(self.believed), percent(self.delivered));
        write!(f, "{believed} % of the prompts were believed cached, {delivered} % were")
    }
}

/// Watches a pool for drift: one line in the log when it begins and one when it is over, and a
/// metric.
#[derive(Debug)]
pub struct DriftWatch {
    tallies: Arc<Tallies>,
    drifts: AtomicBool,
}

impl DriftWatch {
    pub fn new(tallies: Arc<Tallies>) -> Self {
        Self { tallies, drifts: AtomicBool::new(false) }
    }

    /// What came to all endpoints lately.
    fn lately(&self) -> Tally {
        let mut sum = Tally::default();
        for endpoint in &self.tallies.pool().snapshot().endpoints {
            if let Some(tally) = self.tallies.of(endpoint) {
                sum.add(&tally.lately().0);
            }
        }
        sum
    }

    /// Looks whether predicted and delivered hits part now; called after every sample.
    pub fn look(&self) {
        let drift = Drift::of(&self.lately());
        let did = self.drifts.swap(drift.is_some(), Ordering::Relaxed);
        match drift {
            Some(drift) if !did => {
                let (cause, change) = drift.cause();
                tracing::warn!(%drift, cause, change, "Predicted and delivered cache hits part");
            }
            None if did => tracing::info!("Predicted and delivered cache hits agree again"),
            _ => {}
        }
    }
}

impl PluginMetrics for DriftWatch {
    fn families(&self) -> Vec<MetricFamily> {
        let snapshot = self.tallies.pool().snapshot();
        let gap = |tally: &Tally| Drift::of(tally).map_or(0.0, |drift| drift.gap());
        let of_endpoint = |endpoint: &Arc<crate::endpoints::Endpoint>| {
            let tally = self.tallies.of(endpoint).map(EndpointTally::lately)?.0;
            let labels = vec![
                ("endpoint_name", endpoint.spec.name.clone()),
                ("namespace", endpoint.spec.namespace.clone()),
            ];
            Some(MetricSample { labels, value: MetricValue::Number(gap(&tally)) })
        };
        let family =
            |name, help, samples| MetricFamily { name, help, kind: MetricKind::Gauge, samples };
        let all =
            MetricSample { labels: Vec::new(), value: MetricValue::Number(gap(&self.lately())) };
        vec![
            family(
                "llm_d_epp_prefix_drift",
                "Share of prompt tokens believed cached less the share delivered, over the last \
                 five minutes; 0 where they agree or little came.",
                vec![all],
            ),
            family(
                "llm_d_epp_endpoint_prefix_drift",
                "The same for each endpoint.",
                snapshot.endpoints.iter().filter_map(of_endpoint).collect(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_parts_enough_drifts() {
        let tally = |with_usage, believed, delivered, told| Tally {
            with_usage,
            with_cached: if told { with_usage } else { 0 },
            prompt_tokens: 1000,
            predicted_tokens: believed,
            delivered_tokens: delivered,
            ..Tally::default()
        };
        let gap = |tally: Tally| Drift::of(&tally).map(|d| (d.gap() * 100.0).round());
        for (tally, expected) in [
            (Tally::default(), None),
            (tally(19, 900, 0, false), None),
            (tally(20, 900, 0, false), Some(90.0)),
            (tally(20, 900, 750, true), None),
            (tally(20, 900, 600, true), Some(30.0)),
            (tally(20, 0, 600, true), Some(-60.0)),
            (tally(20, 0, 0, true), None),
            (Tally { indexed_tokens: 500, ..tally(20, 900, 480, true) }, None),
        ] {
            assert_eq!(gap(tally), expected, "{tally:?}");
        }
        let cause = |tally: Tally| Drift::of(&tally).unwrap().cause().1;
        assert!(cause(tally(20, 900, 0, false)).contains("--enable-prefix-caching"));
        assert!(cause(tally(20, 900, 600, true)).contains("blockSizeTokens"));
        assert!(cause(tally(20, 0, 600, true)).contains("one picker"));
    }
}
