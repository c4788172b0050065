//! The scheduler written out one sequence and one token at a time, as a yardstick: nothing is
//! precomputed, skipped or arranged. It shares only the block cache and the costs.

use std::collections::VecDeque;

use super::*;
use crate::sim::blocks::BlockCache;
use crate::sim::cost::{PrefillWork, StepCost};
use crate::sim::prompt::chain;

struct Seq {
    index: usize,
    spec: RequestSpec,
    computed: u32,
    generated: u32,
    decoding: bool,
    blocks: Vec<u32>,
    named: usize,
    preemptions: u32,
}

impl Seq {
    fn tokens(&self) -> u32 {
        self.spec.prompt.len_tokens + self.generated
    }

    fn name(&self, block: usize) -> u64 {
        let own = chain(u64::MAX, self.index as u64, block as u64);
        self.spec.prompt.block_hashes.get(block).copied().unwrap_or(own)
    }
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) tokens_at: Vec<Nanos>,
    pub(super) finished_at: Nanos,
    pub(super) preemptions: u32,
}

/// Plays requests, each with its time of arrival, in that order.
pub(super) fn play(config: &EngineConfig, requests: &[(Nanos, RequestSpec)]) -> Vec<Outcome> {
    assert!(config.prefix_caching, "it knows no engine without");
    let bs = config.block_size;
    let cost = StepCost::new(config.cost.clone(), config.max_num_seqs);
    let mut cache = BlockCache::new(config.num_blocks);
    let mut outcome = vec![Outcome::default(); requests.len()];
    let mut waiting: VecDeque<Seq> = VecDeque::new();
    let mut running: Vec<Seq> = Vec::new();
    let (mut now, mut arrived) = (0, 0);
    // When the step before was launched, where there was one.
    let mut launched = None;
    loop {
        while arrived < requests.len() && requests[arrived].0 <= now {
            let spec = requests[arrived].1.clone();
            waiting.push_back(Seq {
                index: arrived,
                spec,
                computed: 0,
                generated: 0,
                decoding: false,
                blocks: Vec::new(),
                named: 0,
                preemptions: 0,
            });
            arrived += 1;
        }
        let mut budget = config.max_num_batched_tokens;
        let mut work = PrefillWork::default();
        let (mut decoding, mut kv_tokens) = (0, 0);
        // Tokens scheduled for each of the running, in their order.
        let mut scheduled: Vec<u32> = Vec::new();
        let mut preempted = false;
        let mut at = 0;
        'running: while at < running.len() && budget > 0 {
            let n = (running[at].tokens() - running[at].computed).min(budget);
            let need = (running[at].computed + n).div_ceil(bs) as usize;
            while need - running[at].blocks.len() > cache.free() as usize {
                let mut last = running.pop().expect("not empty");
                cache.release(&last.blocks);
                last.blocks.clear();
                (last.computed, last.named, last.decoding) = (0, 0, false);
                last.preemptions += 1;
                waiting.push_front(last);
                preempted = true;
                if at == running.len() {
                    break 'running;
                }
            }
            schedule(&mut running[at], &mut cache, n, bs);
            budget -= n;
            scheduled.push(n);
            if running[at].decoding {
                decoding += 1;
                kv_tokens += u64::from(running[at].tokens());
            } else {
                work.add(running[at].computed, n);
            }
            at += 1;
        }
        while !preempted && budget > 0 && running.len() < config.max_num_seqs as usize {
            let Some(mut seq) = waiting.pop_front() else { break };
            if seq.preemptions == 0 && launched.is_some_and(|at| requests[seq.index].0 > at) {
                waiting.push_front(seq);
                break;
            }
            let mut found = Vec::new();
            let names: Vec<u64> =
                (0..((seq.tokens() - 1) / bs) as usize).map(|i| seq.name(i)).collect();
            let found_free = cache.find_prefix(names.into_iter(), &mut found);
            if seq.tokens().div_ceil(bs) - found.len() as u32 + found_free > cache.free() {
                waiting.push_front(seq);
                break;
            }
            found.iter().for_each(|&block| cache.hold(block));
            seq.named = found.len();
            seq.computed = found.len() as u32 * bs;
            work.resumed |= !found.is_empty();
            seq.blocks = found;
            let n = (seq.tokens() - seq.computed).min(budget);
            schedule(&mut seq, &mut cache, n, bs);
            work.add(seq.computed, n);
            budget -= n;
            scheduled.push(n);
            running.push(seq);
        }
        if running.is_empty() {
            if launched.take().is_some() && !waiting.is_empty() {
                continue;
            }
            match requests.get(arrived) {
                Some(&(at, _)) => now = at,
                None => return outcome,
            }
            continue;
        }
        let ns = cost.step(&work, decoding, kv_tokens);
        launched = config.async_scheduling.then(|| now + cost.launch(&work, decoding).min(ns));
        now += ns;
        for (seq, n) in running.iter_mut().zip(scheduled) {
            seq.computed += n;
            if seq.computed == seq.tokens() {
                seq.generated += 1;
                seq.decoding = true;
                outcome[seq.index].tokens_at.push(now);
            }
        }
        running.retain(|seq| {
            let done = seq.generated == seq.spec.output_tokens;
            if done {
                cache.release(&seq.blocks);
                outcome[seq.index].finished_at = now;
                outcome[seq.index].preemptions = seq.preemptions;
            }
            !done
        });
    }
}

fn schedule(seq: &mut Seq, cache: &mut BlockCache, n: u32, bs: u32) {
    while seq.blocks.len() < (seq.computed + n).div_ceil(bs) as usize {
        seq.blocks.push(cache.take().expect("checked"));
    }
    while seq.named < ((seq.computed + n) / bs) as usize {
        cache.name(seq.blocks[seq.named], seq.name(seq.named));
        seq.named += 1;
    }
}
