use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::shares::{Gating, Shares, Weight, draw};
use crate::clock::Timestamp;
use crate::endpoints::Pool;
use crate::scheduling::{
    Candidate, Directions, InferenceRequest, Lifecycle, MetricFamily, MetricKind, MetricSample,
    MetricValue, PluginMetrics, ResponseHook, RoutedRequest, Runtime, Screener,
};

/// How long shares are believed before pods are counted again.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);

/// A request header that asks for endpoints with a label, and is given back with that of the
/// endpoint that served.
#[derive(Debug)]
pub(in crate::plugins) struct HeaderSelector {
    /// What it is called in metrics.
    pub name: String,
    /// In lower case.
    pub header: String,
    pub label: String,
    /// Endpoints with another value are out of the question.
    pub strict: bool,
    pub misses: AtomicU64,
}

/// Keeps a request on endpoints of one revision, of which every role is there.
#[derive(Debug)]
pub(in crate::plugins) struct RolloutScreener {
    pub name: String,
    pub plugin_type: &'static str,
    pub gating: Gating,
    pub selectors: Vec<HeaderSelector>,
    pub counted: Counted,
}

/// The pool whose pods are counted, and what they last came to.
#[derive(Debug, Default)]
pub(in crate::plugins) struct Counted {
    pool: OnceLock<Arc<Pool>>,
    last: Mutex<Option<(Timestamp, Arc<Shares>)>>,
}

impl RolloutScreener {
    /// The shares of now, nearly.
    fn shares(&self, now: Timestamp) -> Arc<Shares> {
        let mut last = self.counted.last.lock();
        if let Some((at, shares)) = &*last
            && now.since(*at) < COUNT_INTERVAL
        {
            return shares.clone();
        }
        let shares = Arc::new(self.count());
        *last = Some((now, shares.clone()));
        shares
    }

    fn count(&self) -> Shares {
        let Some(pool) = self.counted.pool.get() else { return Shares::new() };
        self.gating.shares(pool.snapshot().endpoints.iter().map(|endpoint| &**endpoint))
    }

    /// Keeps candidates of complete revisions; of one of them, unless the request says which.
    fn screen_revisions(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'_>],
        now: Timestamp,
        kept: &mut Vec<u32>,
    ) {
        let shares = self.shares(now);
        let label = &self.gating.revision_label;
        let revision = |c: u32| candidates.get(c as usize)?.endpoint.labels().get(label).cloned();
        let share = |r: &Option<String>| r.as_ref().and_then(|r| shares.get(r)).copied();
        let mut revisions: Vec<_> = kept.iter().map(|&c| revision(c)).collect();
        kept.retain(|&c| share(&revision(c)).is_some_and(|share| share > 0.0));
        let says_which = self.selectors.iter().any(|s| s.strict && s.wanted(request).is_some());
        if says_which {
            return;
        }
        revisions.sort_unstable();
        revisions.dedup();
        let there: Vec<(&str, f64)> =
            revisions.iter().filter_map(|r| Some((r.as_deref()?, share(r)?))).collect();
        let chosen = draw(&there, fastrand::f64());
        kept.retain(|&c| revision(c).as_deref() == chosen);
    }
}

impl HeaderSelector {
    /// The label's value that a request asks for.
    fn wanted<'r>(&self, request: &'r InferenceRequest) -> Option<&'r str> {
        request.headers.get(&self.header).filter(|value| !value.is_empty())
    }

    fn screen(&self, wanted: &str, candidates: &[Candidate<'_>], kept: &mut Vec<u32>) {
        let has_it = |&c: &u32| {
            let candidate = candidates.get(c as usize);
            candidate.is_some_and(|c| {
                c.endpoint.labels().get(&self.label).is_some_and(|value| value == wanted)
            })
        };
        kept.retain(has_it);
        if kept.is_empty() {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Screener for RolloutScreener {
    fn screen(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'_>],
        now: Timestamp,
        kept: &mut Vec<u32>,
    ) {
        if self.gating.weight.is_some() {
            self.screen_revisions(request, candidates, now, kept);
        }
        for selector in self.selectors.iter().filter(|selector| selector.strict) {
            match selector.wanted(request) {
                Some(wanted) if !kept.is_empty() => selector.screen(wanted, candidates, kept),
                _ => {}
            }
        }
    }
}

impl ResponseHook for RolloutScreener {
    /// Says of which revision the endpoint is that served, so that the next stage of the request
    /// can ask for the same.
    fn response_headers(
        &self,
        exchange: &RoutedRequest<'_>,
        _: Option<u16>,
        directions: &mut Directions,
    ) {
        let endpoints = exchange.decision.endpoints();
        let served = endpoints.iter().find(|e| exchange.served_by == Some(&*e.host_port));
        let Some(endpoint) = served.or_else(|| endpoints.first()) else { return };
        let labels = endpoint.labels();
        for selector in &self.selectors {
            if let Some(value) = labels.get(&selector.label).filter(|value| !value.is_empty()) {
                directions.set_header(selector.header.clone(), value.clone());
            }
        }
    }
}

impl Lifecycle for RolloutScreener {
    fn start(&self, pool: &Arc<Pool>, _: &Arc<dyn Runtime>) {
        // Started once.
        _ = self.counted.pool.set(pool.clone());
    }
}

impl PluginMetrics for RolloutScreener {
    fn families(&self) -> Vec<MetricFamily> {
        let sample = |more: Vec<(&'static str, String)>, value: f64| {
            let own =
                [("plugin_name", self.name.clone()), ("plugin_type", self.plugin_type.to_owned())];
            let labels = own.into_iter().chain(more).collect();
            MetricSample { labels, value: MetricValue::Number(value) }
        };
        let strict = self.selectors.iter().filter(|selector| selector.strict);
        let misses = strict.map(|selector| {
            let misses = selector.misses.load(Ordering::Relaxed) as f64;
            sample(vec![("selector", selector.name.clone())], misses)
        });
        let mode = match self.gating.weight {
            Some(Weight::Sum) => "sum",
            Some(Weight::LargestRole) => "max-role",
            None => "disabled",
        };
        let shares = if self.gating.weight.is_some() { self.count() } else { Shares::new() };
        let shares = shares.into_iter().map(|(revision, share)| {
            sample(vec![("mode", mode.to_owned()), ("revision", revision)], share)
        });
        vec![
            MetricFamily {
                name: "llm_d_epp_disaggregatedset_strict_header_no_match_total",
                help: "Requests that asked in a header for endpoints of which there was none.",
                kind: MetricKind::Counter,
                samples: misses.collect(),
            },
            MetricFamily {
                name: "llm_d_epp_disaggregatedset_revision_gating_share",
                help: "Share of requests that a revision gets, 0 to 1; 0 for an incomplete one.",
                kind: MetricKind::Gauge,
                samples: shares.collect(),
            },
        ]
    }
}
