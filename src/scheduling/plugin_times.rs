use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Histogram, MetricFamily, MetricKind, MetricSample, PluginMetrics};
use crate::clock::Timestamp;

/// Tells the time to whoever measures; scheduling itself asks no clock.
pub type Clock = fn() -> Timestamp;

/// Buckets of what a plugin takes, seconds (llm-d-router main at ebab6879).
const BOUNDS: &[f64] = &[0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

/// Under which names it is published.
const NAMES: [(&str, &str); 2] = [
    ("llm_d_epp_plugin_duration_seconds", "What a call of a plugin took, by what it was for."),
    (
        "inference_extension_plugin_duration_seconds",
        "[Deprecated: use llm_d_epp_plugin_duration_seconds] What a call of a plugin took.",
    ),
];

/// Where a plugin is called from, by the reference's names (llm-d-router main at ebab6879).
pub mod point {
    pub const PRE_ADMISSION: &str = "PreAdmission";
    pub const DATA_PRODUCER: &str = "DataProducer";
    pub const ADMISSION: &str = "Admission";
    pub const PROFILE_PICKER: &str = "ProfilePicker";
    pub const FILTER: &str = "Filter";
    pub const SCORER: &str = "Scorer";
    pub const PICKER: &str = "Picker";
    pub const PROCESS_PROFILES_RESULTS: &str = "ProcessProfilesResults";
    pub const PRE_REQUEST: &str = "PreRequest";
    pub const RESPONSE_RECEIVED: &str = "ResponseReceived";
    pub const RESPONSE_STREAMING: &str = "ResponseStreaming";
    pub const RESPONSE_COMPLETE: &str = "ResponseComplete";
    /// Ours: screeners have no name there.
    pub const SCREENER: &str = "Screener";
}

/// What the calls of one plugin at one [`point`] took.
#[derive(Debug)]
pub struct StepTimer {
    point: &'static str,
    plugin_type: &'static str,
    plugin: String,
    took: Histogram,
}

impl StepTimer {
    /// The plugin's type, by its name of today.
    pub fn plugin_type(&self) -> &'static str {
        self.plugin_type
    }

    /// One call took so long.
    pub fn took(&self, duration: Duration) {
        self.took.observe(duration.as_secs_f64());
    }
}

/// What calls of plugins take, all of one configuration's.
#[derive(Debug)]
pub struct PluginTimes {
    clock: Clock,
    timers: Mutex<Vec<Arc<StepTimer>>>,
}

impl PluginTimes {
    /// Measures by this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, timers: Mutex::default() }
    }

    /// The clock that is measured by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The timer of a plugin at a [`point`], the same one for the same names.
    pub fn of(
        &self,
        point: &'static str,
        plugin_type: &'static str,
        plugin: &str,
    ) -> Arc<StepTimer> {
        let mut timers = self.timers.lock();
        if let Some(known) = timers.iter().find(|t| t.point == point && t.plugin == plugin) {
            return known.clone();
        }
        let took = Histogram::seconds(BOUNDS);
        let timer = Arc::new(StepTimer { point, plugin_type, plugin: plugin.to_owned(), took });
        timers.push(timer.clone());
        timer
    }
}

impl PluginMetrics for PluginTimes {
    /// What was never called is left out, as in the reference.
    fn families(&self) -> Vec<MetricFamily> {
        let timers = self.timers.lock();
        let sample = |timer: &Arc<StepTimer>| {
            let tally = timer.took.tally();
            (tally.total() > 0).then(|| MetricSample {
                labels: vec![
                    ("extension_point", timer.point.to_owned()),
                    ("plugin_name", timer.plugin.clone()),
                    ("plugin_type", timer.plugin_type.to_owned()),
                ],
                value: tally.into_value(),
            })
        };
        let samples: Vec<MetricSample> = timers.iter().filter_map(sample).collect();
        let family = |(name, help)| MetricFamily {
            name,
            help,
            kind: MetricKind::Histogram,
            samples: samples.clone(),
        };
        NAMES.map(family).into()
    }
}

/// The timers of a scheduler's own steps, by the order of its profiles and their parts.
#[derive(Debug)]
pub struct ScheduleTimers {
    pub clock: Clock,
    pub picks_profiles: Arc<StepTimer>,
    pub concludes: Arc<StepTimer>,
    pub profiles: Vec<ProfileTimers>,
}

/// The timers of one profile's steps.
#[derive(Debug)]
pub struct ProfileTimers {
    pub filters: Vec<Arc<StepTimer>>,
    pub scorers: Vec<Arc<StepTimer>>,
    pub picker: Arc<StepTimer>,
}

/// Measures steps that follow each other: one look at the clock ends one and begins the next.
/// Without timers it never looks.
pub(super) struct Laps<'a> {
    timers: Option<&'a ScheduleTimers>,
    /// When the cycle began, by the same clock.
    begun: Timestamp,
    last: Timestamp,
}

impl<'a> Laps<'a> {
    /// The first step begins now, in a cycle that began at `begun`.
    pub(super) fn begin(timers: Option<&'a ScheduleTimers>, begun: Timestamp) -> Self {
        let last = timers.map_or(begun, |timers| (timers.clock)());
        Self { timers, begun, last }
    }

    /// A step has ended, and the next one begins.
    pub(super) fn lap(
        &mut self,
        timer: impl FnOnce(&'a ScheduleTimers) -> Option<&'a Arc<StepTimer>>,
    ) {
        let Some(timers) = self.timers else { return };
        let now = (timers.clock)();
        if let Some(timer) = timer(timers) {
            timer.took(now.since(self.last));
        }
        self.last = now;
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.timers.is_some()
    }

    /// When the last step ended: nanoseconds since the cycle began, four seconds at most.
    pub(super) fn at(&self) -> u32 {
        let nanos = self.last.since(self.begun).as_nanos();
        u32::try_from(nanos).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MetricValue;
    use super::*;
    use crate::clock;

    #[test]
    fn one_plugin_at_one_point_has_one_timer() {
        let times = PluginTimes::new(clock::now);
        let a = times.of(point::SCORER, "queue-scorer", "a");
        assert!(Arc::ptr_eq(&a, &times.of(point::SCORER, "queue-scorer", "a")));
        assert!(!Arc::ptr_eq(&a, &times.of(point::FILTER, "queue-scorer", "a")));
        a.took(Duration::from_micros(150));
        for family in times.families() {
            assert_eq!(family.samples.len(), 1, "what was never called is left out");
            let [sample] = family.samples.as_slice() else { panic!("{family:?}") };
            let MetricValue::Histogram { counts, .. } = &sample.value else { panic!() };
            assert_eq!(counts[..3], [0, 1, 0]);
        }
    }
}
