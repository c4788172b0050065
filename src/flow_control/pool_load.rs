use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use smallvec::SmallVec;

use super::stage::Stage;
use super::{Pending, SaturationDetector};
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, EndpointMemory, Labels, Pool, SignalValues, StateSlot};
use crate::scheduling::Candidate;

/// How full the pool was at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReading {
    /// There is no endpoint at all.
    pub is_empty: bool,
    /// What counts: the fullest stage's saturation, or the pool's where no endpoint has a stage.
    pub effective: f64,
    /// Of the endpoints that prefill, where there are any.
    pub prefill: Option<f64>,
    /// Of those that decode.
    pub decode: Option<f64>,
    /// Requests in flight at all endpoints.
    pub in_flight: i64,
}

/// Tells how full the pool is.
pub trait LoadSource: Debug + Send + Sync {
    fn read(&self, pending: Pending, now: Timestamp) -> LoadReading;

    /// Endpoints whose metrics are too old to count.
    fn stale(&self, now: Timestamp) -> usize {
        let _ = now;
        0
    }

    /// A request was let through and has reserved `endpoint`.
    fn sent(&self, endpoint: &Endpoint) {
        let _ = endpoint;
    }
}

/// Reads a [`Pool`] with a [`SaturationDetector`], stage by stage where endpoints have roles
/// (llm-d-router main at ebab6879).
pub struct PoolLoad {
    pool: Arc<Pool>,
    detector: Arc<dyn SaturationDetector>,
    slot: StateSlot<Remembered>,
}

/// What is remembered of an endpoint from reading to reading.
#[derive(Debug, Default)]
struct Remembered {
    /// The stage that these labels mean.
    stage: ArcSwapOption<(Arc<Labels>, Stage)>,
    /// When the metrics came in that `sent` counts from, nanoseconds.
    scraped_at: AtomicU64,
    /// Requests sent since then.
    sent: AtomicU32,
}

impl EndpointMemory for Remembered {}

impl Remembered {
    fn stage(&self, endpoint: &Endpoint) -> Stage {
        let labels = endpoint.labels();
        let known = self.stage.load();
        if let Some((of, stage)) = known.as_deref().map(|known| (&known.0, known.1))
            && Arc::ptr_eq(of, &labels)
        {
            return stage;
        }
        let stage = Stage::of(&labels);
        self.stage.store(Some(Arc::new((Arc::clone(&labels), stage))));
        stage
    }

    fn sent_since(&self, signals: &SignalValues) -> u32 {
        if self.scraped_at.load(Ordering::Acquire) == moment(signals) {
            self.sent.load(Ordering::Acquire)
        } else {
            0
        }
    }

    /// Two that note a new scrape at the same moment may lose a count; the next scrape mends it.
    fn note_sent(&self, signals: &SignalValues) {
        let moment = moment(signals);
        if self.scraped_at.swap(moment, Ordering::AcqRel) != moment {
            self.sent.store(0, Ordering::Release);
        }
        self.sent.fetch_add(1, Ordering::AcqRel);
    }
}

fn moment(signals: &SignalValues) -> u64 {
    signals.updated_at.map_or(0, |at| at.as_nanos() + 1)
}

/// Candidates up to this many are held without allocating.
type Candidates<'a> = SmallVec<[Candidate<'a>; 64]>;

impl PoolLoad {
    pub fn new(pool: Arc<Pool>, detector: Arc<dyn SaturationDetector>) -> Self {
        Self { slot: pool.ids().claim_slot(), pool, detector }
    }

    /// The endpoint as it is, with requests in its queue that were sent since its metrics came
    /// in, as far as they are still unanswered.
    fn candidate<'a>(&self, endpoint: &'a Arc<Endpoint>) -> (Candidate<'a>, Stage) {
        let mut candidate = Candidate::new(endpoint);
        let Some(remembered) = endpoint.state.get_or_init(self.slot, Remembered::default) else {
            return (candidate, Stage::of(&endpoint.labels()));
        };
        let unanswered = u32::try_from(candidate.in_flight_unanswered.max(0)).unwrap_or(u32::MAX);
        let unseen = remembered.sent_since(&candidate.signals).min(unanswered);
        candidate.signals.waiting = candidate.signals.waiting.saturating_add(unseen);
        (candidate, remembered.stage(endpoint))
    }
}

impl Debug for PoolLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolLoad").field("detector", &self.detector).finish_non_exhaustive()
    }
}

impl LoadSource for PoolLoad {
    fn read(&self, pending: Pending, now: Timestamp) -> LoadReading {
        let snapshot = self.pool.snapshot();
        let mut candidates = Candidates::new();
        let mut stages: SmallVec<[Stage; 64]> = SmallVec::new();
        for endpoint in &snapshot.endpoints {
            let (candidate, stage) = self.candidate(endpoint);
            // Kept sorted by stage: each stage is then a slice.
            let at = match stages.last() {
                Some(last) if *last > stage => stages.partition_point(|s| *s <= stage),
                _ => stages.len(),
            };
            candidates.insert(at, candidate);
            stages.insert(at, stage);
        }
        let until = |stage| stages.partition_point(|s| *s <= stage);
        let prefill = candidates.get(..until(Stage::Both)).unwrap_or_default();
        let decode =
            candidates.get(until(Stage::Prefill)..until(Stage::Decode)).unwrap_or_default();
        let of = |stage: &[Candidate<'_>]| {
            (!stage.is_empty()).then(|| self.detector.saturation(stage, pending, now))
        };
        let (prefill, decode) = (of(prefill), of(decode));
        let effective = match (prefill, decode) {
            (Some(prefill), Some(decode)) => prefill.max(decode),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.detector.saturation(&candidates, pending, now),
        };
        LoadReading {
            is_empty: candidates.is_empty(),
            effective,
            prefill,
            decode,
            in_flight: candidates.iter().map(|c| c.in_flight_requests).sum(),
        }
    }

    fn stale(&self, now: Timestamp) -> usize {
        let snapshot = self.pool.snapshot();
        let candidates: Candidates<'_> = snapshot.endpoints.iter().map(Candidate::new).collect();
        self.detector.stale(&candidates, now)
    }

    fn sent(&self, endpoint: &Endpoint) {
        if let Some(remembered) = endpoint.state.get_or_init(self.slot, Remembered::default) {
            remembered.note_sent(&endpoint.signals.load());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::endpoints::test_support::spec;
    use crate::endpoints::{EndpointSpec, Reservation, ReservationTerms};
    use crate::flow_control::{ConcurrencyConfig, SaturationConfig};

    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000);

    fn role(name: &str, n: u8, role: Option<&str>) -> EndpointSpec {
        let mut spec = spec(name, n);
        spec.labels.extend(role.map(|role| ("llm-d.ai/role".to_owned(), role.to_owned())));
        spec
    }

    fn load(specs: Vec<EndpointSpec>, detector: impl SaturationDetector + 'static) -> PoolLoad {
        let pool = Arc::new(Pool::new());
        pool.replace(specs);
        PoolLoad::new(pool, Arc::new(detector))
    }

    fn ten_each() -> ConcurrencyConfig {
        ConcurrencyConfig { max_requests: 10, ..ConcurrencyConfig::default() }
    }

    #[test]
    fn the_fullest_stage_counts() {
        // Roles, requests in flight by endpoint; saturation of prefill, decode, and what counts.
        type Roles<'a> = &'a [(Option<&'a str>, usize)];
        type Expected = (Option<f64>, Option<f64>, f64);
        let cases: &[(Roles<'_>, Expected)] = &[
            (&[(None, 2), (None, 4)], (None, Some(0.3), 0.3)),
            (&[(Some("decode"), 1), (Some("prefill"), 5)], (Some(0.5), Some(0.1), 0.5)),
            (&[(None, 9), (Some("prefill"), 5)], (Some(0.5), Some(0.9), 0.9)),
            (
                &[(Some("decode"), 1), (Some("both"), 3), (Some("prefill"), 5)],
                (Some(0.4), Some(0.2), 0.4),
            ),
            (&[(Some("encode"), 9), (Some("decode"), 1)], (None, Some(0.1), 0.1)),
            (&[(Some("encode"), 9), (Some("what"), 1)], (None, None, 0.5)),
            (&[], (None, None, 1.0)),
        ];
        for (endpoints, (prefill, decode, effective)) in cases {
            let specs = endpoints.iter().zip(1..).map(|((r, _), n)| role(&format!("w{n}"), n, *r));
            let load = load(specs.collect(), ten_each());
            let all = load.pool.snapshot();
            let held: Vec<Reservation> = (all.endpoints.iter().zip(*endpoints))
                .flat_map(|(e, (_, n))| {
                    (0..*n).map(|_| Reservation::new(e.clone(), ReservationTerms::default()))
                })
                .collect();
            let reading = load.read(Pending::default(), NOW);
            assert_eq!(
                (reading.prefill, reading.decode, reading.effective),
                (*prefill, *decode, *effective),
                "{endpoints:?}"
            );
            assert_eq!(reading.in_flight, held.len() as i64);
            assert_eq!(reading.is_empty, endpoints.is_empty());
        }
    }

    #[test]
    fn a_label_that_changes_moves_its_endpoint() {
        let load = load(vec![role("a", 1, Some("prefill"))], ten_each());
        assert_eq!(load.read(Pending::default(), NOW).decode, None);
        load.pool.replace(vec![role("a", 1, Some("decode"))]);
        assert_eq!(load.read(Pending::default(), NOW).decode, Some(0.0));
    }

    #[test]
    fn what_was_sent_since_the_scrape_counts_as_waiting_until_it_is_answered() {
        let load = load(vec![role("a", 1, None)], SaturationConfig::default());
        let endpoint = load.pool.snapshot().endpoints[0].clone();
        let scrape = |waiting, at| {
            let updated_at = Some(at);
            endpoint.signals.store(SignalValues { waiting, updated_at, ..Default::default() });
        };
        let saturation = || load.read(Pending::default(), NOW).effective;
        scrape(1, NOW);
        assert_eq!(saturation(), 0.2);
        let mut first = Reservation::new(endpoint.clone(), ReservationTerms::default());
        load.sent(&endpoint);
        let second = Reservation::new(endpoint.clone(), ReservationTerms::default());
        load.sent(&endpoint);
        assert_eq!(saturation(), 0.6);
        first.answer_begins();
        assert_eq!(saturation(), 0.4);
        drop(second);
        assert_eq!(saturation(), 0.2);
        let _third = Reservation::new(endpoint.clone(), ReservationTerms::default());
        load.sent(&endpoint);
        scrape(2, NOW + Duration::from_nanos(1));
        assert_eq!(saturation(), 0.4);
        assert_eq!(load.read(Pending { requests: 3, tokens: 0 }, NOW).effective, 1.0);
    }
}
