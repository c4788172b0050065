//! `no-hit-lru-scorer`: sends prompts that no worker has cached to the workers that got such a
//! prompt least recently, so that new prefixes spread over the pool.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, PickObserver, Picked, PrefixMatch, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "no-hit-lru-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "llm-d v0.4",
    summary: "a prompt that is cached nowhere goes to the endpoint that got such a prompt longest ago",
    formula: "cached somewhere: 0.5 for all; else 1 for the longest ago, evenly down to 0",
    parameters: Parameters::Listed(&[
        Parameter::integer("lruSize", "endpoints remembered; 0 and less is the default")
            .unit("endpoints")
            .default("1024"),
        Parameter::prefix_producer(),
        Parameter::text("prefixPluginType", "where prefixes were looked up")
            .dropped("the producer is named by prefixMatchInfoProducerName"),
        Parameter::text("prefixPluginName", "where prefixes were looked up")
            .dropped("the producer is named by prefixMatchInfoProducerName"),
    ]),
};

const DEFAULT_LRU_SIZE: u64 = 1024;
/// What every worker scores where the prompt is cached somewhere.
const NEUTRAL: f64 = 0.5;

#[derive(Debug)]
struct NoHitLruScorer {
    prefix: DataKey<PrefixMatch>,
    /// Workers remembered at most.
    size: usize,
    used: Mutex<Used>,
}

/// Workers by their last cold request. By instance, so that a worker that returns is a new one.
/// Only cold requests take the lock around it.
#[derive(Debug)]
struct Used {
    /// Endpoint instance to the number of its last cold request. Bounded by us: a cache made
    /// with a bound allocates all of it at once.
    last: LruCache<u64, u64>,
    cold_requests: u64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let size = parameters::positive(&mut p, "lruSize", DEFAULT_LRU_SIZE);
    let prefix = build.dependencies.read(parameters::prefix_producer(&mut p));
    for old in ["prefixPluginType", "prefixPluginName"] {
        let why = "the prefix producer is named by 'prefixMatchInfoProducerName'";
        parameters::without_effect(&mut p, old, why);
    }
    p.finish();
    let used = Used { last: LruCache::unbounded(), cold_requests: 0 };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let plugin = Arc::new(NoHitLruScorer { prefix, size, used: Mutex::new(used) });
    Capabilities::default().with::<dyn Scorer>(plugin.clone()).with::<dyn PickObserver>(plugin)
}

impl NoHitLruScorer {
    /// True where none of `candidates` holds a part of the prompt, as far as is known.
    fn is_cold(&self, cycle: &Cycle<'_>, mut candidates: impl Iterator<Item = u32>) -> bool {
        let prefix = cycle.data.get(self.prefix);
        prefix.is_none_or(|prefix| candidates.all(|c| prefix.blocks(c) == 0))
    }
}

impl Scorer for NoHitLruScorer {
    /// Where the request is cold: the n candidates rank from 1 down to 0 in steps of `1/(n-1)`,
    /// first those never used, in their order, then the used ones by their position in the whole
    /// memory, oldest first (so with workers in it that are no candidates a rank may be beyond
    /// n, and is 0 then). Otherwise 0.5 for all. (llm-d-router main at ebab6879.)
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        if !self.is_cold(cycle, candidates.iter().copied()) {
            scores.fill(NEUTRAL);
            return;
        }
        if candidates.len() < 2 {
            scores.fill(1.0);
            return;
        }
        let steps = (candidates.len() - 1) as f64;
        let used = self.used.lock();
        let last = |c: u32| used.last.peek(&cycle.candidates[c as usize].endpoint.instance);
        let mut unused = 0;
        for (score, &c) in scores.iter_mut().zip(candidates) {
            if last(c).is_none() {
                *score = 1.0 - unused as f64 / steps;
                unused += 1;
            }
        }
        if unused == candidates.len() {
            return;
        }
        // The numbers grow from the oldest to the newest, so a position is found by bisection.
        let oldest_first: SmallVec<[u64; 64]> = used.last.iter().rev().map(|(_, &n)| n).collect();
        for (score, &c) in scores.iter_mut().zip(candidates) {
            if let Some(number) = last(c) {
                let position = oldest_first.partition_point(|n| n < number);
                *score = (1.0 - (unused + position) as f64 / steps).max(0.0);
            }
        }
    }
}

impl PickObserver for NoHitLruScorer {
    /// A cold request makes its targets the most recently used. Cold is judged over all
    /// candidates of the request, also those that a filter kept from the scorer.
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        if !self.is_cold(cycle, 0..cycle.candidates.len() as u32) {
            return;
        }
        let mut used = self.used.lock();
        for target in picked.holders() {
            used.cold_requests += 1;
            let number = used.cold_requests;
            used.last.put(cycle.candidates[target as usize].endpoint.instance, number);
            if used.last.len() > self.size {
                used.last.pop_lru();
            }
        }
    }
}
