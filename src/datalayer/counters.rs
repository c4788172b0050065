//! How scraping goes, in numbers: over all workers, and for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::endpoints::Endpoint;

/// Endpoints that are counted apart; more are counted together.
const MAX_ENDPOINTS: usize = 4_096;
/// What those are called that are counted together; no endpoint is, for it has no namespace.
const OTHER: &str = "other";

/// How scraping went since the start.
#[derive(Debug, Default)]
pub struct ScrapeCounters {
    /// Requests for metrics begun.
    pub scrapes: AtomicU64,
    /// Requests that brought no answer, or one that is not 200, not HTTP, cut or too late.
    pub poll_errors: AtomicU64,
    /// Signals that an answer did not hold, or not in a usable form.
    pub extract_errors: AtomicU64,
    endpoints: Mutex<BTreeMap<String, Arc<EndpointErrors>>>,
}

/// What failed at one endpoint since it came into the pool.
#[derive(Debug)]
pub struct EndpointErrors {
    /// Empty where `name` is `other`: endpoints counted together.
    pub namespace: String,
    pub name: String,
    poll: AtomicU64,
    extract: AtomicU64,
}

impl EndpointErrors {
    fn new(namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { namespace, name, poll: AtomicU64::new(0), extract: AtomicU64::new(0) }
    }

    /// As [`ScrapeCounters::poll_errors`].
    pub fn poll(&self) -> u64 {
        self.poll.load(Ordering::Relaxed)
    }

    /// As [`ScrapeCounters::extract_errors`].
    pub fn extract(&self) -> u64 {
        self.extract.load(Ordering::Relaxed)
    }
}

impl ScrapeCounters {
    /// What failed at each endpoint that is scraped now, by namespace and name. One that left and
    /// came back begins at 0.
    pub fn by_endpoint(&self) -> Vec<Arc<EndpointErrors>> {
        self.endpoints.lock().values().cloned().collect()
    }

    /// Begins to count for `endpoint`.
    pub(super) fn add(&self, endpoint: &Endpoint) -> Arc<EndpointErrors> {
        let mut endpoints = self.endpoints.lock();
        let spec = &endpoint.spec;
        let (id, fresh) = match endpoints.len() < MAX_ENDPOINTS {
            true => (&*endpoint.id, EndpointErrors::new(&spec.namespace, &spec.name)),
            false => (OTHER, EndpointErrors::new("", OTHER)),
        };
        endpoints.entry(id.to_owned()).or_insert_with(|| Arc::new(fresh)).clone()
    }

    /// Forgets `endpoint`, which is scraped no more.
    pub(super) fn remove(&self, endpoint: &Endpoint) {
        self.endpoints.lock().remove(&*endpoint.id);
    }

    pub(super) fn poll_failed(&self, at: &EndpointErrors) {
        self.poll_errors.fetch_add(1, Ordering::Relaxed);
        at.poll.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn extract_failed(&self, at: &EndpointErrors, signals: u64) {
        self.extract_errors.fetch_add(signals, Ordering::Relaxed);
        at.extract.fetch_add(signals, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::{EndpointSpec, Pool};

    fn pool(endpoints: u32) -> Pool {
        let spec = |i: u32| EndpointSpec {
            placement: Default::default(),
            namespace: "ns".into(),
            name: format!("w{i:05}"),
            pod_name: format!("w{i:05}"),
            ip: std::net::Ipv4Addr::from(0x0a00_0000 + i).into(),
            port: 80,
            rank: 0,
            uid: String::new(),
            labels: Default::default(),
        };
        let pool = Pool::new();
        pool.replace((0..endpoints).map(spec).collect());
        pool
    }

    #[test]
    fn errors_are_counted_for_all_and_for_each_that_is_there() {
        let counters = ScrapeCounters::default();
        let snapshot = pool(2).snapshot();
        let [first, second] = &snapshot.endpoints[..] else { panic!() };
        let (a, b) = (counters.add(first), counters.add(second));
        counters.poll_failed(&a);
        counters.poll_failed(&b);
        counters.extract_failed(&b, 3);
        let numbers = |e: &Arc<EndpointErrors>| (e.name.clone(), e.poll(), e.extract());
        let all: Vec<_> = counters.by_endpoint().iter().map(numbers).collect();
        assert_eq!(all, [("w00000".into(), 1, 0), ("w00001".into(), 1, 3)]);
        counters.remove(first);
        assert_eq!(counters.by_endpoint().len(), 1);
        assert_eq!(counters.add(first).poll(), 0, "one that comes back begins anew");
        assert_eq!(counters.poll_errors.load(Ordering::Relaxed), 2);
        assert_eq!(counters.extract_errors.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn beyond_the_bound_endpoints_are_counted_together() {
        let counters = ScrapeCounters::default();
        let snapshot = pool(MAX_ENDPOINTS as u32 + 2).snapshot();
        for endpoint in snapshot.endpoints.iter() {
            let errors = counters.add(endpoint);
            counters.poll_failed(&errors);
        }
        let all = counters.by_endpoint();
        assert_eq!(all.len(), MAX_ENDPOINTS + 1);
        let other = all.iter().find(|e| e.name == OTHER).unwrap();
        assert_eq!((other.poll(), other.namespace.as_str()), (2, ""));
    }
}
