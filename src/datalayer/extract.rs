//! From an exposition to signals: which families to look for, and where they were last time.
//!
//! The rules are those of `core-metrics-extractor` (llm-d-router main at ebab6879): a series must
//! have all listed labels; of several the one with the newest timestamp counts, else the first;
//! they are never summed; whatever could be read is used, whatever could not is an error.

use std::fmt;

use super::exposition::{Family, FamilyName, Labels, Sample};
use super::models;
use crate::clock::Timestamp;
use crate::endpoints::{
    Endpoint, LoraSignals, Scalar, ServedModel, ServedModels, Signals, StateSlot,
};
use crate::scrape_config::{EngineMap, MetricSpec, Needs};

/// What to read from the workers of one engine, or from one other page.
#[derive(Debug, Default)]
pub struct Plan {
    wants: Vec<Want>,
    /// The page is a list of models and no exposition.
    models: Option<StateSlot<ServedModels>>,
}

#[derive(Debug)]
struct Want {
    signal: Signal,
    /// The first of these that the worker exposes counts.
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    family: FamilyName,
    spec: MetricSpec,
}

#[derive(Debug)]
enum Signal {
    Waiting,
    Running,
    KvUsage,
    Lora,
    /// Block size and count in the labels of an info metric.
    CacheInfo {
        block_size_label: Option<String>,
        num_blocks_label: Option<String>,
    },
    BlockSize,
    NumBlocks,
    Custom(StateSlot<Scalar>),
    /// The largest value of all series that are this pod's, in percent.
    GpuUtilization {
        pod: String,
        slot: StateSlot<Scalar>,
    },
}

impl Signal {
    /// True for what changes from moment to moment, false for what a worker settles at start.
    fn is_live(&self) -> bool {
        !matches!(self, Signal::CacheInfo { .. } | Signal::BlockSize | Signal::NumBlocks)
    }

    /// True for what a worker may leave out: engines without adapters expose none.
    fn is_optional(&self) -> bool {
        matches!(self, Signal::Lora)
    }
}

/// The family of a DCGM exporter that is read, and the label that says whose GPU a series is of
/// (`dcgm-extractor` of llm-d-router main at ebab6879).
const GPU_UTILIZATION: &str = "DCGM_FI_DEV_GPU_UTIL";
const POD_LABEL: &str = "pod";

/// Where one worker's families were found last; makes the next reading short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// By want: the source that was there and the offset of its first sample.
    places: Vec<Option<Place>>,
    /// How much of the text holds all live families that were there; 0 where nothing is known.
    prefix: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    source: usize,
    offset: usize,
}

/// Families move by some bytes as the values above them gain digits; the search starts this much
/// earlier than last time, and this much more of the text is awaited.
const SLACK: usize = 512;

impl Layout {
    /// Bytes of the text that are worth a try with [`Plan::read_prefix`]; 0 where nothing is
    /// known of the worker yet, or nothing live was found.
    pub fn prefix(&self) -> usize {
        self.prefix
    }
}

/// What one exposition said. `None` = nothing usable, so the last value stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub waiting: Option<u32>,
    pub running: Option<u32>,
    /// 0 to 1; an engine that says more is taken for full.
    pub kv_usage: Option<f64>,
    pub lora: Option<LoraSignals>,
    pub block_size: Option<u32>,
    pub num_blocks: Option<u32>,
    /// Numbers that are no signals, and where they are kept.
    pub scalars: Vec<(StateSlot<Scalar>, f64)>,
    pub models: Option<(StateSlot<ServedModels>, Vec<ServedModel>)>,
    pub problems: Vec<Problem>,
}

/// Why one signal could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    want: usize,
    pub kind: ProblemKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The family is not there.
    Missing,
    /// The family is there, but no series has the labels asked for.
    NoMatchingSeries,
    /// A histogram or summary.
    NotAGauge,
    /// A line that is not of the text format.
    Malformed,
    /// Not a number, infinite or negative.
    BadValue,
    /// A label that must be a count is something else.
    BadLabel,
    /// Not the answer to `/v1/models`.
    NotModels,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProblemKind::Missing => "is not exposed",
            ProblemKind::NoMatchingSeries => "has no series with these labels",
            ProblemKind::NotAGauge => "is neither gauge nor counter",
            ProblemKind::Malformed => "has a malformed line",
            ProblemKind::BadValue => "has a value that is not a number from 0 up",
            ProblemKind::BadLabel => "has a cache label that is not a count",
            ProblemKind::NotModels => "is no list of models",
        })
    }
}

impl Plan {
    /// What `map` says of the signals that somebody needs.
    pub fn new(map: &EngineMap, needs: Needs) -> Self {
        let EngineMap {
            name: _,
            queued,
            running,
            kv_usage,
            kv_usage_fallback,
            lora,
            cache_info,
            block_size_label,
            num_blocks_label,
            block_size,
            num_blocks,
            custom,
        } = map;
        let info = Signal::CacheInfo {
            block_size_label: block_size_label.clone(),
            num_blocks_label: num_blocks_label.clone(),
        };
        let wants = [
            (needs.queue, Signal::Waiting, [queued, &None]),
            (needs.running, Signal::Running, [running, &None]),
            (needs.kv, Signal::KvUsage, [kv_usage, kv_usage_fallback]),
            (needs.lora, Signal::Lora, [lora, &None]),
            (needs.cache, info, [cache_info, &None]),
            (needs.cache, Signal::BlockSize, [block_size, &None]),
            (needs.cache, Signal::NumBlocks, [num_blocks, &None]),
        ];
        let wants = wants.into_iter().filter(|(needed, ..)| *needed);
        let wants = wants.map(|(_, signal, specs)| Want {
            signal,
            sources: specs.into_iter().flatten().map(Source::new).collect(),
        });
        let custom = custom.iter().map(|metric| Want {
            signal: Signal::Custom(metric.slot),
            sources: vec![Source::new(&metric.spec)],
        });
        let wants = wants.filter(|want| !want.sources.is_empty()).chain(custom).collect();
        Self { wants, models: None }
    }

    /// How busy the GPUs of `pod` are, from a DCGM exporter's page.
    pub fn gpu_utilization(pod: &str, slot: StateSlot<Scalar>) -> Self {
        let spec = MetricSpec { name: GPU_UTILIZATION.to_owned(), labels: Vec::new() };
        let signal = Signal::GpuUtilization { pod: pod.to_owned(), slot };
        Self { wants: vec![Want { signal, sources: vec![Source::new(&spec)] }], models: None }
    }

    /// The models that the answer to `/v1/models` lists.
    pub fn models(slot: StateSlot<ServedModels>) -> Self {
        Self { wants: Vec::new(), models: Some(slot) }
    }

    /// True where there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty() && self.models.is_none()
    }

    /// Reads the whole text and notes in `layout` where things are.
    pub fn read(&self, text: &[u8], layout: &mut Layout) -> Reading {
        let mut reading = Reading::default();
        layout.places.resize(self.wants.len(), None);
        layout.prefix = 0;
        if let Some(slot) = self.models {
            match models::read(text) {
                Some(models) => reading.models = Some((slot, models)),
                None => reading.problems.push(Problem { want: 0, kind: ProblemKind::NotModels }),
            }
            return reading;
        }
        for (index, want) in self.wants.iter().enumerate() {
            let place = &mut layout.places[index];
            let found = want.find(text, *place);
            *place = found.map(|(source, family)| Place { source, offset: family.start });
            if let (true, Some((_, family))) = (want.signal.is_live(), found) {
                layout.prefix = layout.prefix.max(family.closed_at.unwrap_or(text.len()) + SLACK);
            }
            self.extract(index, found, &mut reading);
        }
        reading
    }

    /// Reads the live signals from the beginning of a text, without waiting for its end. `None`
    /// where it takes the whole text, and [`Plan::read`], to tell.
    ///
    /// What was not there when the whole text was read last is taken to be missing still.
    pub fn read_prefix(&self, text: &[u8], layout: &mut Layout) -> Option<Reading> {
        if layout.prefix == 0 {
            return None;
        }
        let mut reading = Reading::default();
        for (index, (want, place)) in self.wants.iter().zip(&mut layout.places).enumerate() {
            if !want.signal.is_live() {
                continue;
            }
            let mut found = None;
            if let Some(place) = place {
                let family = want.sources[place.source].find_near(text, place.offset)?;
                // More series may follow.
                family.closed_at?;
                place.offset = family.start;
                found = Some((place.source, family));
            }
            self.extract(index, found, &mut reading);
        }
        Some(reading)
    }

    /// What could not be read, for a person.
    pub fn describe(&self, reading: &Reading) -> String {
        let problems = reading.problems.iter().map(|p| match self.wants.get(p.want) {
            Some(want) => format!("{} {}", want.sources[0].spec, p.kind),
            None => format!("the answer {}", p.kind),
        });
        problems.collect::<Vec<_>>().join("; ")
    }

    fn extract(&self, index: usize, found: Option<(usize, Family<'_>)>, reading: &mut Reading) {
        let want = &self.wants[index];
        let result = match found {
            Some((source, family)) => want.extract(source, &family, reading),
            None if want.signal.is_optional() => Ok(()),
            None => Err(ProblemKind::Missing),
        };
        reading.problems.extend(result.err().map(|kind| Problem { want: index, kind }));
    }
}

impl Source {
    fn new(spec: &MetricSpec) -> Self {
        Self { family: FamilyName::new(&spec.name), spec: spec.clone() }
    }

    /// The family, if it stands about `offset` or later.
    fn find_near<'a>(&self, text: &'a [u8], offset: usize) -> Option<Family<'a>> {
        self.family.find(text, offset.saturating_sub(SLACK))
    }

    /// The series that counts: the newest of those with the labels, else the first.
    fn newest<'a>(&self, family: &Family<'a>) -> Result<Sample<'a>, ProblemKind> {
        best_by(self.matching(family), |sample| sample.timestamp)
    }

    fn matching<'a>(
        &self,
        family: &Family<'a>,
    ) -> impl Iterator<Item = Result<Sample<'a>, ProblemKind>> {
        family.samples().filter_map(|sample| match sample {
            Ok(sample) if sample.labels.matches(&self.spec.labels) => Some(Ok(sample)),
            Ok(_) => None,
            Err(_) => Some(Err(ProblemKind::Malformed)),
        })
    }
}

/// The sample with the largest key; of equals the first. Malformed lines do not hide others, but
/// count where nothing else is left.
fn best_by<'a, K: PartialOrd>(
    samples: impl Iterator<Item = Result<Sample<'a>, ProblemKind>>,
    key: impl Fn(&Sample<'a>) -> K,
) -> Result<Sample<'a>, ProblemKind> {
    let mut best = Err(ProblemKind::NoMatchingSeries);
    for sample in samples {
        match (&best, sample) {
            (Ok(before), Ok(sample)) if key(&sample) > key(before) => best = Ok(sample),
            (Err(_), sample) => best = sample,
            _ => {}
        }
    }
    best
}

impl Want {
    fn find<'a>(&self, text: &'a [u8], last: Option<Place>) -> Option<(usize, Family<'a>)> {
        self.sources.iter().enumerate().find_map(|(index, source)| {
            let last = last.filter(|place| place.source == index && place.offset > SLACK);
            let nearby = last.and_then(|place| source.find_near(text, place.offset));
            Some((index, nearby.or_else(|| source.family.find(text, 0))?))
        })
    }

    fn extract(
        &self,
        source: usize,
        family: &Family<'_>,
        reading: &mut Reading,
    ) -> Result<(), ProblemKind> {
        if family.is_distribution {
            return Err(ProblemKind::NotAGauge);
        }
        let source = &self.sources[source];
        match &self.signal {
            Signal::Waiting => reading.waiting = Some(count(source.newest(family)?.value)?),
            Signal::Running => reading.running = Some(count(source.newest(family)?.value)?),
            Signal::KvUsage => {
                reading.kv_usage = Some(valid(source.newest(family)?.value)?.min(1.0))
            }
            Signal::Custom(slot) => {
                let value = source.newest(family)?.value;
                let value = Some(value).filter(|v| v.is_finite()).ok_or(ProblemKind::BadValue)?;
                reading.scalars.push((*slot, value));
            }
            Signal::GpuUtilization { pod, slot } => {
                // A series without the label is of an exporter that serves this pod alone.
                let is_ours =
                    |s: &Sample<'_>| s.labels.get(POD_LABEL).is_none_or(|label| label == *pod);
                let ours = source.matching(family).filter(|s| s.as_ref().map_or(true, is_ours));
                let busiest = valid(best_by(ours, |sample| sample.value)?.value)?;
                reading.scalars.push((*slot, busiest / 100.0));
            }
            Signal::BlockSize => reading.block_size = Some(count(source.newest(family)?.value)?),
            Signal::NumBlocks => reading.num_blocks = Some(count(source.newest(family)?.value)?),
            Signal::Lora => {
                // The value is the time of the last change, so the largest is the newest. What can
                // be no time is passed over, as in the reference.
                let is_time =
                    |s: &Result<Sample<'_>, _>| s.as_ref().map_or(true, |s| s.value > -1.0);
                let newest = best_by(source.matching(family).filter(is_time), |s| s.value)?;
                reading.lora = Some(adapters(newest.labels));
            }
            Signal::CacheInfo { block_size_label, num_blocks_label } => {
                let labels = source.newest(family)?.labels;
                let block_size = label_count(labels, block_size_label.as_deref());
                let num_blocks = label_count(labels, num_blocks_label.as_deref());
                reading.block_size = block_size.or(reading.block_size);
                reading.num_blocks = num_blocks.or(reading.num_blocks);
                block_size.and(num_blocks).ok_or(ProblemKind::BadLabel)?;
            }
        }
        Ok(())
    }
}

fn valid(value: f64) -> Result<f64, ProblemKind> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(ProblemKind::BadValue) }
}

/// A count exposed as a floating-point number: truncated, and held at the largest `u32`.
fn count(value: f64) -> Result<u32, ProblemKind> {
    Ok(valid(value)? as u32)
}

/// The count in a label: 0 where the worker does not have the label, `None` where it is none.
fn label_count(labels: Labels<'_>, name: Option<&str>) -> Option<u32> {
    match name.and_then(|name| labels.get(name)) {
        Some(text) => text.trim().parse().ok(),
        None => Some(0),
    }
}

fn adapters(labels: Labels<'_>) -> LoraSignals {
    // Each name once: what counts is how many adapters there are.
    let list = |name| -> Vec<String> {
        let csv = labels.get(name).unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        for adapter in csv.split(',').map(str::trim) {
            if !adapter.is_empty() && !names.iter().any(|n| n == adapter) {
                names.push(adapter.to_owned());
            }
        }
        names
    };
    LoraSignals {
        running: list("running_lora_adapters"),
        waiting: list("waiting_lora_adapters"),
        max: labels.get("max_lora").and_then(|max| max.trim().parse().ok()).unwrap_or(0),
    }
}

impl Reading {
    /// True where something was asked for and nothing of it was there in a usable form. A worker
    /// that exposes no adapters, asked for nothing else, has not failed.
    pub fn is_failure(&self) -> bool {
        let has_nothing = self.waiting.is_none()
            && self.running.is_none()
            && self.kv_usage.is_none()
            && self.lora.is_none()
            && self.block_size.is_none()
            && self.num_blocks.is_none()
            && self.scalars.is_empty()
            && self.models.is_none();
        has_nothing && !self.problems.is_empty()
    }

    /// Stores what could be read, and starts the signals' age anew, unless nothing could be.
    pub fn store(self, signals: &Signals, now: Timestamp) {
        if self.is_failure() {
            return;
        }
        let mut values = signals.load();
        values.waiting = self.waiting.unwrap_or(values.waiting);
        values.running = self.running.unwrap_or(values.running);
        values.kv_usage = self.kv_usage.unwrap_or(values.kv_usage);
        values.block_size = self.block_size.unwrap_or(values.block_size);
        values.num_blocks = self.num_blocks.unwrap_or(values.num_blocks);
        values.updated_at = Some(now);
        signals.store(values);
        if self.lora.is_some() {
            signals.store_lora(self.lora);
        }
    }

    /// Stores what is no signal, each where it is kept.
    pub fn store_beside(&mut self, endpoint: &Endpoint) {
        for (slot, value) in self.scalars.drain(..) {
            if let Some(scalar) = endpoint.state.get_or_init(slot, Scalar::default) {
                scalar.set(value);
            }
        }
        if let Some((slot, models)) = self.models.take()
            && let Some(served) = endpoint.state.get_or_init(slot, ServedModels::default)
        {
            served.store(models);
        }
    }
}

#[cfg(test)]
mod tests;
