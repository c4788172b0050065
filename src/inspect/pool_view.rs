use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::findings::{Finding, Rules, Seen, findings};
use super::history::{INTERVAL, ms_ago};
use super::tally::{EndpointTally, Tallies, Tally};
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;
use crate::exchange::{CurrentContext, HealthWatch};

/// Endpoints on a page at most: more than anybody looks at.
const MAX_ENDPOINTS: usize = 1000;

/// Makes one page of everything there is to see of a pool.
#[derive(Clone, Debug)]
pub struct PoolView {
    pub tallies: Arc<Tallies>,
    /// `None`: nobody watches the endpoints' health.
    pub health: Option<Arc<HealthWatch>>,
    /// Age at which an endpoint's metrics are stale.
    pub staleness: Duration,
    /// Endpoints are asked for their metrics.
    pub scrapes: bool,
    /// What exchanges are decided with; `None` where there are none.
    pub contexts: Option<Arc<CurrentContext>>,
}

impl PoolView {
    /// The endpoints, sums over all of them, and what is wrong; of the request, its prompt or its
    /// answer there is nothing in it.
    /// `others` are findings of somebody else.
    pub fn state(&self, now: Timestamp, not_ready: Option<String>, others: Vec<Finding>) -> Value {
        let pool = self.tallies.pool();
        let snapshot = pool.snapshot();
        let all: Vec<&EndpointTally> =
            snapshot.endpoints.iter().filter_map(|e| self.tallies.of(e)).collect();
        let (mut lately, mut span) = (Tally::default(), Duration::ZERO);
        for tally in &all {
            let (sum, time) = tally.lately();
            lately.add(&sum);
            span = span.max(time);
        }
        let shown = &snapshot.endpoints[..snapshot.endpoints.len().min(MAX_ENDPOINTS)];
        let seen: Vec<Seen<'_>> = shown.iter().map(|e| self.seen(e)).collect();
        let rules = Rules {
            now,
            staleness: self.staleness,
            scrapes: self.scrapes,
            synced: pool.is_synced(),
            not_ready: not_ready.clone(),
            unread: self.unread(),
        };
        let mut found = findings(&rules, &seen);
        found.extend(others);
        found.sort_by_key(|finding| finding.level);
        json!({
            "endpoints": seen.iter().map(|s| self.endpoint(s, &lately, now)).collect::<Vec<_>>(),
            "endpointsInAll": snapshot.endpoints.len(),
            "synced": pool.is_synced(),
            "notReady": not_ready,
            "lately": { "seconds": span.as_secs_f64(), "sum": tally(&lately, span) },
            "findings": found,
        })
    }

    /// How it went lately: a list of samples for each endpoint, the newest last.
    pub fn history(&self) -> Value {
        let snapshot = self.tallies.pool().snapshot();
        let of = |endpoint: &Arc<Endpoint>| {
            let history = self.tallies.of(endpoint)?.history.lock();
            let list = |f: &dyn Fn(&super::Sample) -> f64| -> Vec<f64> {
                history.samples.iter().map(f).collect()
            };
            let value = json!({
                "picks": list(&|s| s.tally.picks as f64),
                "queue": list(&|s| s.waiting.into()),
                "inFlight": list(&|s| s.in_flight.into()),
                "kv": list(&|s| (f64::from(s.kv_usage) * 1e3).round() / 1e3),
                "promptTokens": list(&|s| s.tally.prompt_tokens as f64),
                "predictedTokens": list(&|s| s.tally.predicted_tokens as f64),
                "indexedTokens": list(&|s| s.tally.indexed_tokens as f64),
                "deliveredTokens": list(&|s| s.tally.delivered_tokens as f64),
            });
            Some((endpoint.id.to_string(), value))
        };
        let endpoints = snapshot.endpoints.iter().take(MAX_ENDPOINTS).filter_map(of);
        let endpoints: serde_json::Map<String, Value> = endpoints.collect();
        json!({ "seconds": INTERVAL.as_secs_f64(), "endpoints": endpoints })
    }

    /// What goes by bodies of responses, where some were not seen.
    fn unread(&self) -> Option<String> {
        let context = self.contexts.as_ref()?.get();
        let bodies = &context.response_bodies;
        bodies.readers().filter(|_| bodies.unseen() > 0)
    }

    fn seen<'e>(&self, endpoint: &'e Endpoint) -> Seen<'e> {
        let out = self.health.as_ref().and_then(|watch| {
            let health = watch.of(endpoint);
            let reason = || health.last_change().map(|(change, _)| change.reason.to_string());
            health.is_out().then(|| reason().unwrap_or_else(|| "it failed".to_owned()))
        });
        Seen {
            endpoint,
            signals: endpoint.signals.load(),
            lately: self.tallies.of(endpoint).map(|t| t.lately().0).unwrap_or_default(),
            out,
        }
    }

    fn endpoint(&self, seen: &Seen<'_>, all: &Tally, now: Timestamp) -> Value {
        let Seen { endpoint, signals, .. } = seen;
        let (lately, span) =
            self.tallies.of(endpoint).map(EndpointTally::lately).unwrap_or_default();
        let standing = self.health.as_ref().map(|watch| watch.of(endpoint).standing().as_str());
        let share = (all.picks > 0).then(|| lately.picks as f64 / all.picks as f64);
        json!({
            "id": *endpoint.id,
            "address": *endpoint.host_port,
            "pod": endpoint.spec.pod_name,
            "standing": standing,
            "out": seen.out,
            "inFlight": endpoint.in_flight.requests(),
            "inFlightTokens": endpoint.in_flight.tokens(),
            "waiting": signals.waiting,
            "running": signals.running,
            "kv": signals.kv_usage,
            "blockSize": signals.block_size,
            "numBlocks": signals.num_blocks,
            "ageMs": ms_ago(signals.updated_at, now),
            "stale": self.scrapes && signals.is_stale(now, self.staleness),
            "pickShare": share,
            "lately": tally(&lately, span),
        })
    }
}

/// What came in a span of time.
fn tally(tally: &Tally, span: Duration) -> Value {
    let seconds = span.as_secs_f64();
    let per_second = (seconds > 0.0).then(|| tally.picks as f64 / seconds);
    json!({
        "picks": tally.picks,
        "picksPerSecond": per_second,
        "ended": tally.ended,
        "failed": tally.failed,
        "promptTokens": tally.prompt_tokens,
        "predicted": tally.share(tally.predicted_tokens),
        "indexed": (tally.indexed_block > 0).then(|| tally.share(tally.indexed_tokens)).flatten(),
        "delivered": (tally.with_cached > 0).then(|| tally.share(tally.delivered_tokens)).flatten(),
        "ttftMs": tally.ttft_ms(),
    })
}
