use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::{
    FairnessPolicy, FirstCome, GlobalStrict, OrderingPolicy, SaturationDetector, StaticUsageLimit,
    UsageLimit,
};

/// What a [`super::FlowController`] is made from. Defaults of llm-d-router main at ebab6879.
#[derive(Clone, Debug)]
pub struct FlowControlConfig {
    /// Bytes that may wait in all bands together; `None`: without limit.
    pub max_bytes: Option<u64>,
    /// Requests that may.
    pub max_requests: Option<u64>,
    /// How long a request may wait while there are endpoints; `None`: as long as it takes.
    pub default_ttl: Option<Duration>,
    /// How long it may wait while there is none.
    pub no_endpoint_ttl: Option<Duration>,
    /// Bands by priority. One of priority 0 is made in any case.
    pub bands: Vec<(i32, BandConfig)>,
    /// What other bands are made from.
    pub default_band: BandConfig,
    /// The same for negative priorities, if different.
    pub default_negative_band: Option<BandConfig>,
    pub usage_limit: Arc<dyn UsageLimit>,
    /// Whether running requests of negative priority are ended for the sake of others.
    pub eviction: Option<EvictionConfig>,
    /// Who is told how long things took.
    pub observer: Option<Arc<dyn FlowObserver>>,
}

impl Default for FlowControlConfig {
    fn default() -> Self {
        Self {
            max_bytes: None,
            max_requests: None,
            default_ttl: Some(Duration::from_secs(60)),
            no_endpoint_ttl: Some(Duration::from_secs(60)),
            bands: Vec::new(),
            default_band: BandConfig::default(),
            default_negative_band: None,
            usage_limit: Arc::new(StaticUsageLimit::default()),
            eviction: None,
            observer: None,
        }
    }
}

impl FlowControlConfig {
    /// What a band of this priority is made from.
    pub(super) fn band(&self, priority: i32) -> &BandConfig {
        if let Some((_, band)) = self.bands.iter().find(|(p, _)| *p == priority) {
            return band;
        }
        let negative = self.default_negative_band.as_ref().filter(|_| priority < 0);
        negative.unwrap_or(&self.default_band)
    }
}

/// One band.
#[derive(Clone, Debug)]
pub struct BandConfig {
    /// Bytes that may wait in it.
    pub max_bytes: u64,
    /// Requests that may.
    pub max_requests: u64,
    /// How long a request of it may wait. `None`: the queue's default; zero: as long as it takes.
    pub ttl: Option<Duration>,
    pub fairness: Arc<dyn FairnessPolicy>,
    pub ordering: Arc<dyn OrderingPolicy>,
}

impl Default for BandConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1_000_000_000,
            max_requests: 5000,
            ttl: None,
            fairness: Arc::new(GlobalStrict),
            ordering: Arc::new(FirstCome),
        }
    }
}

/// Told how long things took.
pub trait FlowObserver: Debug + Send + Sync {
    /// Letting go what may go, once.
    fn dispatch_cycle(&self, took: Duration);

    /// A running request ended so long after it was asked to.
    fn revocation_confirmed(&self, after: Duration);
}

/// How running requests are ended for the sake of waiting ones.
#[derive(Clone, Copy, Debug)]
pub struct EvictionConfig {
    /// How long after the last evicted one has ended until the detector shows it.
    pub grace: Duration,
}

/// How long a detector that goes by metrics may not show that a request has ended (llm-d-router
/// main at ebab6879).
const METRICS_GRACE: Duration = Duration::from_millis(250);

impl EvictionConfig {
    /// With the grace that a detector needs which sees metrics read every `interval` and believes
    /// them for `staleness`.
    pub fn of(detector: &dyn SaturationDetector, interval: Duration, staleness: Duration) -> Self {
        if detector.sees_at_once() {
            return Self::default();
        }
        Self { grace: interval + staleness + METRICS_GRACE }
    }
}

impl Default for EvictionConfig {
    /// The grace for a detector that sees at once what is in flight.
    fn default() -> Self {
        Self { grace: Duration::from_millis(10) }
    }
}
