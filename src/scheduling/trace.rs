use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::explain::{
    Explanation, FilterStep, HealthStep, PickerStep, PrefixStep, ProfileExplanation, ScorerStep,
    SeenStep, StepTimes,
};
use super::plugin::Picks;
use super::plugin_times::ScheduleTimers;
use super::{Candidate, PrefixMatch, PrefixSource, Profile, RequestData};

/// What happened while one request was decided, as it is taken down: numbers alone, in a few
/// allocations, because every request pays for it. [`DecisionTrace::explanation`] makes something
/// readable of it when somebody asks.
#[derive(Debug)]
pub struct DecisionTrace {
    plan: Arc<Plan>,
    candidates: Arc<[Arc<str>]>,
    seen: Vec<Seen>,
    prefixes: SmallVec<[Prefix; 1]>,
    profiles: SmallVec<[ProfileTrace; 1]>,
    /// `ip:port` of those that a screener took out before anything else.
    screened_out: Vec<Arc<str>>,
    /// Endpoints of the pool; 0 where that is not known.
    pub(crate) pool_size: usize,
    pub(crate) health: Option<Box<HealthStep>>,
}

/// What a candidate looked like when the request was looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    in_flight: u32,
    in_flight_tokens: u32,
    waiting: u32,
    running: u32,
    kv_usage: f32,
}

/// What one producer believed of the prompt.
#[derive(Debug)]
struct Prefix {
    source: PrefixSource,
    matched: Vec<u32>,
    total: u32,
    block_tokens: u32,
}

/// One profile's run.
#[derive(Debug, Default)]
pub(super) struct ProfileTrace {
    pub profile: usize,
    pub filters_run: usize,
    /// By candidate, the filter that dropped it, or [`KEPT`]; empty where none was dropped.
    dropped_by: Vec<u16>,
    /// Candidates that were scored.
    pub kept: Vec<u32>,
    /// One row of scores for each scorer, by the order of `kept`.
    pub scores: Vec<f64>,
    /// By the order of `kept`.
    pub totals: Vec<f64>,
    pub picks: Picks,
    /// Nanoseconds since the cycle began at which the first step began, filters had run, each
    /// scorer had and the picker had; empty where nobody measures.
    pub laps: SmallVec<[u32; 8]>,
}

const KEPT: u16 = u16::MAX;

impl ProfileTrace {
    /// Of the profile with this index.
    pub(super) fn of(profile: usize) -> Self {
        Self { profile, ..Self::default() }
    }

    /// Notes that of `candidates` only `kept` passed the filter at this place.
    pub(super) fn filtered(&mut self, filter: usize, candidates: usize, kept: &[u32]) {
        if self.dropped_by.is_empty() {
            self.dropped_by.resize(candidates, KEPT);
        }
        let before = self.dropped_by.clone();
        let filter = u16::try_from(filter).unwrap_or(KEPT - 1);
        self.dropped_by.iter_mut().filter(|by| **by == KEPT).for_each(|by| *by = filter);
        for &candidate in kept {
            let candidate = candidate as usize;
            if let (Some(by), Some(before)) =
                (self.dropped_by.get_mut(candidate), before.get(candidate))
            {
                *by = *before;
            }
        }
    }
}

/// What the steps of a configuration are called. Made once.
#[derive(Debug)]
pub(super) struct Plan(Vec<PlannedProfile>);

#[derive(Debug)]
struct PlannedProfile {
    name: Arc<str>,
    /// With what each says of those it drops.
    filters: Vec<(String, String)>,
    /// Each with its type, where that is known, and its weight.
    scorers: Vec<PlannedScorer>,
    picker: String,
    tie_rule: &'static str,
}

#[derive(Debug)]
struct PlannedScorer {
    name: String,
    plugin_type: Option<&'static str>,
    weight: f64,
}

impl Plan {
    pub(super) fn of(profiles: &[Profile], timers: Option<&ScheduleTimers>) -> Self {
        let type_of = |profile: usize, scorer: usize| {
            let timers = timers?.profiles.get(profile)?;
            Some(timers.scorers.get(scorer)?.plugin_type())
        };
        let planned = |(at, profile): (usize, &Profile)| PlannedProfile {
            name: profile.name.clone(),
            filters: profile.filters.iter().map(|(n, f)| (n.clone(), f.wants())).collect(),
            scorers: (profile.scorers.iter().enumerate())
                .map(|(i, s)| PlannedScorer {
                    name: s.name.clone(),
                    plugin_type: type_of(at, i),
                    weight: s.weight,
                })
                .collect(),
            picker: profile.picker_name.clone(),
            tie_rule: profile.picker.tie_rule(),
        };
        Self(profiles.iter().enumerate().map(planned).collect())
    }
}

thread_local! {
    /// The names of the last request's candidates: mostly the next one's too, and then sharing
    /// them costs one count instead of one for each endpoint.
    static LAST: RefCell<Arc<[Arc<str>]>> = RefCell::new(Arc::from([]));
}

fn names(candidates: &[Candidate<'_>]) -> Arc<[Arc<str>]> {
    LAST.with_borrow_mut(|last| {
        let same = last.len() == candidates.len()
            && last.iter().zip(candidates).all(|(a, b)| Arc::ptr_eq(a, &b.endpoint.host_port));
        if !same {
            *last = candidates.iter().map(|c| c.endpoint.host_port.clone()).collect();
        }
        last.clone()
    })
}

/// A count for display; it is never negative, nor anywhere near the limit.
fn count(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

impl DecisionTrace {
    pub(super) fn begin(
        plan: Arc<Plan>,
        candidates: &[Candidate<'_>],
        screened_out: Vec<Arc<str>>,
        data: &RequestData,
    ) -> Self {
        let seen = candidates.iter().map(|c| Seen {
            in_flight: count(c.in_flight_requests),
            in_flight_tokens: count(c.in_flight_tokens),
            waiting: c.signals.waiting,
            running: c.signals.running,
            kv_usage: c.signals.kv_usage as f32,
        });
        let prefix = |p: &PrefixMatch| Prefix {
            source: p.source,
            matched: p.matched.clone(),
            total: p.total,
            block_tokens: p.block_tokens(),
        };
        Self {
            plan,
            candidates: names(candidates),
            seen: seen.collect(),
            prefixes: data.all::<PrefixMatch>().map(prefix).collect(),
            profiles: SmallVec::new(),
            screened_out,
            pool_size: 0,
            health: None,
        }
    }

    pub(super) fn ran(&mut self, profile: ProfileTrace) {
        self.profiles.push(profile);
    }

    /// What the target got from each scorer of the profile that ran first and picked: the
    /// scorer's name, its weight and its score before weighting.
    pub fn target_scores(&self) -> Vec<(&str, f64, f64)> {
        let picked = self.profiles.iter().find(|p| !p.picks.is_empty());
        let scores = picked.and_then(|profile| {
            let plan = self.plan.0.get(profile.profile)?;
            let target = profile.picks.first()?;
            let at = profile.kept.iter().position(|kept| kept == target)?;
            let rows = profile.scores.chunks(profile.kept.len().max(1));
            let scores = plan.scorers.iter().zip(rows);
            let of_target =
                scores.filter_map(|(s, row)| Some((s.name.as_str(), s.weight, *row.get(at)?)));
            Some(of_target.collect())
        });
        scores.unwrap_or_default()
    }

    /// What its endpoints' health had to do with the decision, if anything.
    pub fn health(&self) -> Option<&HealthStep> {
        self.health.as_deref()
    }

    /// Roughly what it takes in memory, bytes.
    pub fn size(&self) -> usize {
        let profile = |p: &ProfileTrace| {
            2 * p.dropped_by.capacity()
                + 4 * p.kept.capacity()
                + 8 * (p.scores.capacity() + p.totals.capacity())
                + if p.laps.spilled() { 4 * p.laps.capacity() } else { 0 }
        };
        size_of::<Self>()
            + size_of::<Seen>() * self.seen.capacity()
            + self.prefixes.iter().map(|p| 4 * p.matched.capacity()).sum::<usize>()
            + self.profiles.iter().map(profile).sum::<usize>()
    }

    /// The same in words.
    pub fn explanation(&self) -> Explanation {
        let by = |f: fn(&Seen) -> u64| self.seen.iter().map(f).collect();
        let prefix = |p: &Prefix| PrefixStep {
            source: p.source.as_str(),
            blocks: p.matched.clone(),
            prompt_blocks: p.total,
            block_tokens: p.block_tokens,
        };
        Explanation {
            candidates: self.candidates.iter().map(ToString::to_string).collect(),
            in_flight: self.seen.iter().map(|s| i64::from(s.in_flight)).collect(),
            seen: SeenStep {
                in_flight_tokens: by(|s| s.in_flight_tokens.into()),
                waiting: by(|s| s.waiting.into()),
                running: by(|s| s.running.into()),
                kv_cache_usage: self.seen.iter().map(|s| s.kv_usage.into()).collect(),
            },
            prefixes: self.prefixes.iter().map(prefix).collect(),
            pool_size: self.pool_size,
            screened_out: self.screened_out.iter().map(ToString::to_string).collect(),
            profiles: self.profiles.iter().filter_map(|p| self.profile(p)).collect(),
            health: self.health.as_deref().cloned(),
        }
    }

    fn profile(&self, trace: &ProfileTrace) -> Option<ProfileExplanation> {
        let plan = self.plan.0.get(trace.profile)?;
        let n = self.candidates.len();
        let dropped = |at: usize| -> Vec<u32> {
            let by = trace.dropped_by.iter().enumerate();
            by.filter(|(_, by)| usize::from(**by) == at).map(|(i, _)| i as u32).collect()
        };
        let mut left: Vec<u32> = (0..n as u32).collect();
        let filters = plan.filters.iter().take(trace.filters_run).enumerate();
        let filters = filters.map(|(at, (plugin, wants))| {
            let dropped = dropped(at);
            left.retain(|candidate| !dropped.contains(candidate));
            FilterStep { plugin: plugin.clone(), kept: left.clone(), dropped, wants: wants.clone() }
        });
        let filters = filters.collect();
        let width = trace.kept.len();
        // Without anything to score there are no rows to show.
        let rows = trace.scores.chunks(width.max(1));
        let scorers = plan.scorers.iter().zip(rows).map(|(scorer, row)| ScorerStep {
            plugin: scorer.name.clone(),
            plugin_type: scorer.plugin_type.unwrap_or(&scorer.name).to_owned(),
            weight: scorer.weight,
            scores: spread(n, &trace.kept, row),
        });
        let picker =
            PickerStep { plugin: plan.picker.clone(), tied: tied(trace), tie_rule: plan.tie_rule };
        Some(ProfileExplanation {
            name: plan.name.to_string(),
            filters,
            scorers: scorers.collect(),
            totals: if width == 0 { Vec::new() } else { spread(n, &trace.kept, &trace.totals) },
            picks: trace.picks.to_vec(),
            picker,
            times: step_times(&trace.laps),
        })
    }
}

/// `None` where the profile did not come to its end, or nobody measured.
fn step_times(laps: &[u32]) -> Option<StepTimes> {
    let at = |nanos: &u32| Duration::from_nanos((*nanos).into());
    let [began, filtered, scored @ .., picked] = laps else { return None };
    Some(StepTimes {
        began: at(began),
        filtered: at(filtered),
        scored: scored.iter().map(at).collect(),
        picked: at(picked),
    })
}

/// Those whose total is the target's, where there are several.
fn tied(trace: &ProfileTrace) -> Vec<u32> {
    let scored = || trace.kept.iter().zip(&trace.totals);
    let of = |target: u32| scored().find(|(c, _)| **c == target).map(|(_, total)| *total);
    let Some(best) = trace.picks.first().and_then(|&target| of(target)) else { return Vec::new() };
    let equal: Vec<u32> = scored().filter(|(_, t)| **t == best).map(|(c, _)| *c).collect();
    if equal.len() > 1 { equal } else { Vec::new() }
}

fn spread(n: usize, kept: &[u32], values: &[f64]) -> Vec<Option<f64>> {
    let mut all = vec![None; n];
    for (&i, &v) in kept.iter().zip(values) {
        if let Some(place) = all.get_mut(i as usize) {
            *place = Some(v);
        }
    }
    all
}
