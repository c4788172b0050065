use std::sync::Arc;

use super::instances::{Instance, Instances};
use super::scheduling::ProfilePlan;
use crate::scheduling::{
    Admitter, Clock, Filter, PickObserver, Picker, PluginTimes, Producer, ProfileHandler,
    ProfileTimers, RequestHook, RequestProcessor, ResponseHook, ScheduleTimers, Scorer, Screener,
    StepTimer, Timed, TimedResponseHook, point,
};

/// Has the calls of plugins measured, where that is wanted.
#[derive(Debug)]
pub(super) struct Measured(Option<Arc<PluginTimes>>);

/// A part of a plugin whose calls can be measured.
pub(super) trait TimedPart: Send + Sync + 'static {
    fn timed(part: Arc<Self>, timer: Arc<StepTimer>, clock: Clock) -> Arc<Self>;
}

macro_rules! timed {
    ($($part:ident),*) => {$(
        impl TimedPart for dyn $part {
            fn timed(part: Arc<Self>, timer: Arc<StepTimer>, clock: Clock) -> Arc<Self> {
                Arc::new(Timed::new(part, timer, clock))
            }
        }
    )*};
}

timed!(RequestProcessor, Producer, Screener, Admitter, PickObserver, RequestHook);

impl Measured {
    /// Measures by `clock`; `None`: not at all.
    pub(super) fn by(clock: Option<Clock>) -> Self {
        Self(clock.map(|clock| Arc::new(PluginTimes::new(clock))))
    }

    pub(super) fn times(&self) -> Option<Arc<PluginTimes>> {
        self.0.clone()
    }

    /// The part `P` of a plugin, measured.
    pub(super) fn part<P: TimedPart + ?Sized>(
        &self,
        instance: &Instance,
        point: &'static str,
    ) -> Option<Arc<P>> {
        let part = instance.capabilities.get::<P>().cloned()?;
        Some(match &self.0 {
            None => part,
            Some(times) => P::timed(part, timer(times, instance, point), times.clock()),
        })
    }

    /// The part `P` of every plugin that plays it, in the order of the configuration.
    pub(super) fn all<P: TimedPart + ?Sized>(
        &self,
        instances: &Instances<'_>,
        point: &'static str,
    ) -> Vec<Arc<P>> {
        instances.list.iter().filter_map(|instance| self.part(instance, point)).collect()
    }

    pub(super) fn response_hooks(&self, instances: &Instances<'_>) -> Vec<Arc<dyn ResponseHook>> {
        let hook = |instance: &Instance| -> Option<Arc<dyn ResponseHook>> {
            let plugin = instance.capabilities.get::<dyn ResponseHook>().cloned()?;
            let Some(times) = &self.0 else { return Some(plugin) };
            Some(Arc::new(TimedResponseHook {
                plugin,
                received: timer(times, instance, point::RESPONSE_RECEIVED),
                streaming: timer(times, instance, point::RESPONSE_STREAMING),
                complete: timer(times, instance, point::RESPONSE_COMPLETE),
                clock: times.clock(),
            }))
        };
        instances.list.iter().filter_map(hook).collect()
    }

    /// The timers of a scheduler's own steps; they lie as the parts do that `plans` name.
    pub(super) fn of_schedule(
        &self,
        plans: &[ProfilePlan],
        instances: &Instances<'_>,
    ) -> Option<ScheduleTimers> {
        let times = self.0.as_ref()?;
        let is_handler = |i: &&Instance| i.capabilities.has::<dyn ProfileHandler>();
        let handler = instances.list.iter().find(is_handler)?;
        let profile = |plan: &ProfilePlan| -> Option<ProfileTimers> {
            let plugins = || plan.plugins.iter().map(|(index, _)| &instances.list[*index]);
            let filters = plugins().filter(|i| i.capabilities.has::<dyn Filter>());
            let scorers = plugins().filter(|i| i.capabilities.has::<dyn Scorer>());
            let picker = plugins().find(|i| i.capabilities.has::<dyn Picker>())?;
            Some(ProfileTimers {
                filters: filters.map(|i| timer(times, i, point::FILTER)).collect(),
                scorers: scorers.map(|i| timer(times, i, point::SCORER)).collect(),
                picker: timer(times, picker, point::PICKER),
            })
        };
        Some(ScheduleTimers {
            clock: times.clock(),
            picks_profiles: timer(times, handler, point::PROFILE_PICKER),
            concludes: timer(times, handler, point::PROCESS_PROFILES_RESULTS),
            profiles: plans.iter().map(profile).collect::<Option<_>>()?,
        })
    }
}

fn timer(times: &PluginTimes, instance: &Instance, point: &'static str) -> Arc<StepTimer> {
    times.of(point, instance.plugin_type, &instance.name)
}
