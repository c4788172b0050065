//! The order of steps between a parsed request and its endpoint: priority, admission, the
//! candidates that the gateway allows, scheduling. The reference calls this the director.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::error::{Code, RequestError};
use crate::flow_control::SaturationConfig;
use crate::objectives::Objectives;
use crate::scheduling::{Candidate, Decision, DecisionOptions, InferenceRequest, Scheduler};

/// Endpoints that a gateway allows for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    entries: Vec<(IpAddr, Option<u16>)>,
}

impl Subset {
    /// Allows what `text` names: `ip`, `ip:port`, several with commas. What is no address allows
    /// nothing; what is no port does not matter.
    pub fn allow(&mut self, text: &str) {
        let ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        for item in text.split(',').map(str::trim) {
            if let Ok(address) = item.parse::<SocketAddr>() {
                self.entries.push((address.ip(), Some(address.port())));
            } else if let Some(ip) = ip(item).or_else(|| ip(item.rsplit_once(':')?.0)) {
                self.entries.push((ip, None));
            }
        }
    }

    /// The endpoints of `all` that are allowed. An entry with a port means exactly that endpoint
    /// if the pool has it; otherwise, as in the reference (llm-d-router main at ebab6879), the
    /// port does not matter and every endpoint of the address is allowed.
    fn of<'e>(&self, all: &'e [Arc<Endpoint>]) -> Vec<&'e Arc<Endpoint>> {
        let has = |ip, port| all.iter().any(|e| e.spec.ip == ip && e.spec.port == port);
        let entries: Vec<(IpAddr, Option<u16>)> =
            self.entries.iter().map(|&(ip, port)| (ip, port.filter(|&p| has(ip, p)))).collect();
        all.iter()
            .filter(|e| {
                entries
                    .iter()
                    .any(|&(ip, port)| e.spec.ip == ip && port.is_none_or(|p| p == e.spec.port))
            })
            .collect()
    }
}

/// What the director is put together from.
#[derive(Debug)]
pub struct Director {
    pub pool: Arc<Pool>,
    pub scheduler: Arc<Scheduler>,
    pub objectives: Arc<Objectives>,
    pub saturation: SaturationConfig,
    /// `--disable-endpoint-subset-filter`: whatever the gateway allows, use the whole pool.
    pub ignore_subset: bool,
    /// What every decision is to tell.
    pub wants: DecisionOptions,
}

thread_local! {
    static RNG: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::new());
}

impl Director {
    /// The model a request is to be sent on with: what rewriting rules say, else what the
    /// rewrite header says, else what the client asked for.
    pub fn target_model(&self, incoming: Option<&str>, header: Option<&str>) -> Option<String> {
        let ruled = RNG.with_borrow_mut(|rng| self.objectives.rewrite(incoming.unwrap_or(""), rng));
        ruled.or_else(|| header.or(incoming).map(str::to_owned)).filter(|m| !m.is_empty())
    }

    /// Picks the endpoint of a request and reserves it.
    ///
    /// # Errors
    /// 429 for a sheddable request while the pool is saturated, or where filters leave nothing;
    /// 503 where there is no endpoint to pick from.
    pub fn route(
        &self,
        request: &InferenceRequest,
        subset: Option<&Subset>,
        now: Timestamp,
    ) -> Result<Decision, RequestError> {
        let snapshot = self.pool.snapshot();
        let candidates: Vec<Candidate<'_>> = match subset.filter(|_| !self.ignore_subset) {
            None => snapshot.endpoints.iter().map(Candidate::new).collect(),
            Some(subset) => {
                subset.of(&snapshot.endpoints).into_iter().map(Candidate::new).collect()
            }
        };
        // The reference's admission without flow control: only sheddable requests are refused.
        if request.priority < 0 && self.saturation.saturation(&candidates, now) >= 1.0 {
            return Err(RequestError::new(
                Code::ResourceExhausted,
                "system saturated, sheddable request dropped",
            ));
        }
        RNG.with(|rng| self.scheduler.schedule(request, &candidates, now, rng, self.wants))
    }

    /// Any allowed endpoint, for requests without a body (`GET /v1/models`).
    ///
    /// # Errors
    /// 503 where there is none. The reference answers 500 here and ignores the subset.
    pub fn any_endpoint(&self, subset: Option<&Subset>) -> Result<Arc<Endpoint>, RequestError> {
        let snapshot = self.pool.snapshot();
        let allowed: Vec<&Arc<Endpoint>> = match subset.filter(|_| !self.ignore_subset) {
            None => snapshot.endpoints.iter().collect(),
            Some(subset) => subset.of(&snapshot.endpoints),
        };
        let pick = RNG.with_borrow_mut(|rng| rng.choice(&allowed).map(|e| Arc::clone(e)));
        pick.ok_or_else(RequestError::no_candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::test_support::spec;

    #[test]
    fn a_subset_names_endpoints_in_every_form() {
        let mut rank1 = spec("b-rank-1", 2);
        rank1.port = 8001;
        let all: Vec<Arc<Endpoint>> =
            [spec("a", 1), spec("b", 2), rank1].map(|s| Arc::new(Endpoint::new(s))).into();
        for (texts, expected) in [
            (&["127.0.0.1:8000"][..], &["a"][..]),
            (&["127.0.0.1"], &["a"]),
            (&["127.0.0.2:8001"], &["b-rank-1"]),
            // The address is known, the port is not: the port does not matter.
            (&["127.0.0.2:9999"], &["b", "b-rank-1"]),
            (&["127.0.0.2:8000, 127.0.0.1"], &["a", "b"]),
            (&["127.0.0.1:99999"], &["a"]),
            (&["127.0.0.1:http"], &["a"]),
            (&["127.0.0.1:"], &["a"]),
            (&["127.0.0.1:1:2", ":", ":8000"], &[]),
            (&["10.1.2.3:8000"], &[]),
            (&["not an address", ""], &[]),
        ] {
            let mut subset = Subset::default();
            texts.iter().for_each(|t| subset.allow(t));
            let names: Vec<&str> = subset.of(&all).iter().map(|e| &*e.spec.name).collect();
            assert_eq!(names, expected, "{texts:?}");
        }
    }
}
