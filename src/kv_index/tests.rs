use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

const BLOCK: u32 = 2;
const NOW: Timestamp = Timestamp::START;

fn index(bytes: usize, blocks_per_holder: usize) -> KvIndex {
    KvIndex::new(Limits { bytes, blocks_per_holder }, 42)
}

fn roomy() -> KvIndex {
    index(1 << 30, 1 << 20)
}

/// A prompt is named by one number per block: block `b` has the tokens `b, b`.
fn tokens(blocks: &[u32]) -> Vec<u32> {
    blocks.iter().flat_map(|&b| [b, b]).collect()
}

/// What an honest engine calls the last block of this prompt.
fn name(blocks: &[u32]) -> u64 {
    let bytes: Vec<u8> = blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// The engine stores the blocks of `prompt` from number `from` on.
fn store(holder: &Holder, prompt: &[u32], from: usize, tier: Tier) -> StoreOutcome {
    let names: Vec<u64> = (from..prompt.len()).map(|i| name(&prompt[..=i])).collect();
    let run = Run {
        names: &names,
        parent: (from > 0).then(|| name(&prompt[..from])),
        tokens: &tokens(&prompt[from..]),
        block_size: BLOCK,
        adapter: "",
        tier,
    };
    holder.store(run, [])
}

fn remove(holder: &Holder, prompt: &[u32], tier: Tier) -> usize {
    holder.remove(&[name(prompt)], tier)
}

fn held(index: &KvIndex, holder: &Holder, prompt: &[u32]) -> u32 {
    holder.matched(&index.keys("", &tokens(prompt), BLOCK, []), NOW).held
}

#[test]
fn the_longest_prefix_that_is_held() {
    let index = roomy();
    let holder = index.holder();
    assert_eq!(store(&holder, &[1, 2, 3], 0, Tier::Gpu).added, 3);
    assert_eq!(store(&holder, &[1, 2, 3, 4], 3, Tier::Gpu).added, 1);
    let cases: [(&[u32], u32); 6] = [
        (&[1, 2, 3, 4, 5], 4),
        (&[1, 2, 3, 4], 4),
        (&[1, 2, 9, 4], 2),
        (&[2, 3], 0),
        (&[1], 1),
        (&[], 0),
    ];
    for (prompt, blocks) in cases {
        assert_eq!(held(&index, &holder, prompt), blocks, "{prompt:?}");
    }
}

#[test]
fn a_block_behind_an_unknown_one_is_counted_and_left_out() {
    let index = roomy();
    let holder = index.holder();
    let outcome = store(&holder, &[1, 2, 3], 1, Tier::Gpu);
    assert_eq!(outcome, StoreOutcome { detached: 2, ..Default::default() });
    assert!(holder.is_empty());
}

#[test]
fn a_run_whose_tokens_do_not_fill_its_blocks_is_counted_and_left_out() {
    let holder = roomy().holder();
    let run = Run {
        names: &[1, 2],
        parent: None,
        tokens: &[1, 2, 3],
        block_size: 2,
        adapter: "",
        tier: Tier::Gpu,
    };
    assert_eq!(holder.store(run, []).mismatched, 2);
    let zero = Run { block_size: 0, ..run };
    assert_eq!(holder.store(zero, []).mismatched, 2);
    assert!(holder.is_empty() && holder.block_size().is_none());
}

#[test]
fn copies_are_counted_tier_by_tier() {
    let index = roomy();
    let holder = index.holder();
    store(&holder, &[1, 2], 0, Tier::Gpu);
    assert_eq!(store(&holder, &[1, 2], 0, Tier::Gpu).known, 2);
    assert_eq!(remove(&holder, &[1], Tier::Cpu), 1, "never stored there");
    assert_eq!(remove(&holder, &[1], Tier::Gpu), 0);
    assert_eq!(held(&index, &holder, &[1, 2]), 2);
    assert_eq!(remove(&holder, &[1], Tier::Gpu), 0);
    assert_eq!(held(&index, &holder, &[1, 2]), 0);
    assert_eq!(remove(&holder, &[1], Tier::Gpu), 1, "no copy is left");
}

#[test]
fn blocks_are_counted_on_their_first_tier() {
    let index = roomy();
    let holder = index.holder();
    store(&holder, &[1, 2, 3], 0, Tier::Cpu);
    store(&holder, &[1], 0, Tier::Gpu);
    store(&holder, &[1, 2, 3], 0, Tier::Disk);
    remove(&holder, &[1, 2, 3], Tier::Cpu);
    let keys = index.keys("", &tokens(&[1, 2, 3, 4]), BLOCK, []);
    let found = holder.matched(&keys, NOW);
    assert_eq!(found, Match { held: 3, tiers: [1, 1, 1, 0], on_cpu: 2, expected: 3 });
}

#[test]
fn a_connector_names_blocks_it_copied_without_their_tokens() {
    let index = roomy();
    let holder = index.holder();
    store(&holder, &[1, 2], 0, Tier::Gpu);
    let copied = |names| Run {
        names,
        parent: None,
        tokens: &[],
        block_size: 0,
        adapter: "",
        tier: Tier::Cpu,
    };
    let names = [name(&[1]), name(&[1, 2]), 77];
    let outcome = holder.store(copied(&names), []);
    assert_eq!((outcome.known, outcome.detached), (2, 1));
    remove(&holder, &[1], Tier::Gpu);
    assert_eq!(held(&index, &holder, &[1, 2]), 2);
}

#[test]
fn a_hole_in_the_middle_hides_what_is_behind_it_until_it_is_filled() {
    let index = roomy();
    let holder = index.holder();
    store(&holder, &[1, 2, 3, 4], 0, Tier::Gpu);
    remove(&holder, &[1, 2], Tier::Gpu);
    assert_eq!(held(&index, &holder, &[1, 2, 3, 4]), 1);
    assert_eq!(store(&holder, &[1, 2, 3, 5], 3, Tier::Gpu).added, 1, "behind a held one");
    assert_eq!(store(&holder, &[1, 2], 1, Tier::Gpu).added, 1);
    assert_eq!(held(&index, &holder, &[1, 2, 3, 4]), 4);
    assert_eq!(held(&index, &holder, &[1, 2, 3, 5]), 4);
}

#[test]
fn adapters_salts_and_images_are_told_apart() {
    let index = roomy();
    let holder = index.holder();
    let run = |adapter, names| Run {
        names,
        parent: None,
        tokens: &[1, 1],
        block_size: BLOCK,
        adapter,
        tier: Tier::Gpu,
    };
    holder.store(run("", &[1]), []);
    holder.store(run("sql", &[2]), []);
    holder.store(run("", &[3]), [(0, &b"tenant"[..])]);
    index.note_adapter("sql");
    let blocks = |model: &str, extras: &[Extra<'_>]| {
        let keys = index.keys(model, &[1, 1], BLOCK, extras.iter().copied());
        holder.matched(&keys, NOW).held
    };
    holder.remove(&[1], Tier::Gpu);
    assert_eq!(blocks("base", &[]), 0);
    assert_eq!(blocks("sql", &[]), 1);
    assert_eq!(blocks("base", &[(0, b"tenant")]), 1);
    assert_eq!(blocks("another-name-of-base", &[(0, b"tenant")]), 1);
    assert_eq!(blocks("base", &[(0, b"other")]), 0);
}

#[test]
fn an_engine_that_restarted_unnoticed_calls_its_blocks_otherwise() {
    let index = roomy();
    let holder = index.holder();
    store(&holder, &[1, 2], 0, Tier::Gpu);
    let run = Run {
        names: &[100, 200],
        parent: None,
        tokens: &tokens(&[1, 2]),
        block_size: BLOCK,
        adapter: "",
        tier: Tier::Gpu,
    };
    assert_eq!(holder.store(run, []).renamed, 2);
    // Both copies are counted, and both go by the new name.
    assert_eq!(holder.remove(&[200, 200, name(&[1, 2])], Tier::Gpu), 1);
    assert_eq!(held(&index, &holder, &[1, 2]), 1);
    // A name that stood for one block now stands for another.
    let other = Run { names: &[100], tokens: &tokens(&[7]), ..run };
    assert_eq!(holder.store(other, []).renamed, 1);
    assert_eq!((held(&index, &holder, &[1]), held(&index, &holder, &[7])), (0, 1));
}

#[test]
fn blocks_that_are_all_called_the_same_do_no_harm() {
    let index = roomy();
    let holder = index.holder();
    let run = Run {
        names: &[5, 5, 5, 5],
        parent: None,
        tokens: &tokens(&[1, 2, 3, 4]),
        block_size: BLOCK,
        adapter: "",
        tier: Tier::Gpu,
    };
    for _ in 0..3 {
        holder.store(run, []);
        assert_eq!(holder.len(), 1, "one name, one block");
    }
    assert_eq!(holder.remove(&[5, 5, 5, 5], Tier::Gpu), 3);
    assert!(holder.is_empty());
}

#[test]
fn what_was_sent_is_expected_for_a_while() {
    let index = roomy();
    let holder = index.holder();
    store(&holder, &[1], 0, Tier::Gpu);
    let sent: Arc<[u64]> = index.keys("", &tokens(&[1, 2, 3]), BLOCK, []).into();
    let until = NOW + Duration::from_secs(2);
    holder.expect(sent, NOW, until);
    let keys = index.keys("", &tokens(&[1, 2, 4]), BLOCK, []);
    let found = |now| {
        let found = holder.matched(&keys, now);
        (found.held, found.expected)
    };
    assert_eq!(found(NOW), (1, 2));
    assert_eq!(found(until), (1, 1));
    holder.expect(keys.as_slice().into(), NOW, until);
    holder.clear();
    assert_eq!(found(NOW), (0, 0));
}

#[test]
fn a_holder_keeps_to_its_capacity_by_dropping_ends_of_old_prompts() {
    let index = index(1 << 30, 100);
    let holder = index.holder();
    let mut evicted = 0;
    for prompt in 0..1000u32 {
        let outcome = store(&holder, &[prompt, 1, 2, 3, 4], 0, Tier::Gpu);
        assert_eq!((outcome.added, outcome.refused), (5, 0));
        evicted += outcome.evicted;
        assert!(holder.len() <= 100);
        assert_eq!(held(&index, &holder, &[prompt, 1, 2, 3, 4]), 5, "the newest is there");
    }
    assert_eq!(evicted, 5000 - holder.len());
}

#[test]
fn one_prompt_longer_than_the_capacity_is_kept_from_its_beginning() {
    let index = index(1 << 30, 100);
    let holder = index.holder();
    let prompt: Vec<u32> = (0..1000).collect();
    let outcome = store(&holder, &prompt, 0, Tier::Gpu);
    assert_eq!((outcome.added, outcome.refused), (100, 900));
    assert_eq!(held(&index, &holder, &prompt), 100);
}

#[test]
fn holders_share_a_budget_and_give_back_what_they_took() {
    let index = index(300 * BYTES_PER_BLOCK, 1 << 20);
    let prompt: Vec<u32> = (0..300).collect();
    let (one, other) = (index.holder(), index.holder());
    assert_eq!(store(&one, &prompt, 0, Tier::Gpu).added, 300);
    assert_eq!(store(&other, &prompt, 0, Tier::Gpu).refused, 300);
    drop(one);
    assert_eq!(store(&other, &prompt, 0, Tier::Gpu).added, 300);
    other.clear();
    assert_eq!(store(&index.holder(), &prompt, 0, Tier::Gpu).added, 300);
}

/// What an engine says, in numbers small enough that things meet.
#[derive(Clone, Debug)]
enum Said {
    Store { prompt: Vec<u32>, from: prop::sample::Index, tier: Tier },
    Remove { prompt: Vec<u32>, tier: Tier },
    Clear,
}

fn prompt() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0u32..3, 1..7)
}

fn tier() -> impl Strategy<Value = Tier> {
    prop_oneof![4 => Just(Tier::Gpu), 1 => Just(Tier::Cpu)]
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => (prompt(), any::<prop::sample::Index>(), tier())
            .prop_map(|(prompt, from, tier)| Said::Store { prompt, from, tier }),
        6 => (prompt(), tier()).prop_map(|(prompt, tier)| Said::Remove { prompt, tier }),
        1 => Just(Said::Clear),
    ]
}

/// The same by the book: copies per prompt and tier.
#[derive(Default)]
struct Naive(HashMap<Vec<u32>, [u32; TIERS]>);

impl Naive {
    fn holds(&self, prompt: &[u32]) -> bool {
        self.0.get(prompt).is_some_and(|copies| copies.iter().any(|&copies| copies > 0))
    }

    /// A block is known while it or anything behind it is held.
    fn knows(&self, prompt: &[u32]) -> bool {
        self.0.keys().any(|other| other.starts_with(prompt) && self.holds(other))
    }

    fn longest(&self, prompt: &[u32]) -> usize {
        (1..=prompt.len()).take_while(|&len| self.holds(&prompt[..len])).count()
    }

    fn apply(&mut self, said: &Said) {
        match said {
            Said::Store { prompt, from, tier } => {
                let from = from.index(prompt.len());
                if from == 0 || self.knows(&prompt[..from]) {
                    for len in from + 1..=prompt.len() {
                        let copies = self.0.entry(prompt[..len].to_vec()).or_default();
                        let copies = &mut copies[*tier as usize];
                        *copies = if *tier == Tier::Gpu { *copies + 1 } else { 1 };
                    }
                }
            }
            Said::Remove { prompt, tier } => {
                if let Some(copies) = self.0.get_mut(prompt) {
                    copies[*tier as usize] = copies[*tier as usize].saturating_sub(1);
                }
            }
            Said::Clear => self.0.clear(),
        }
    }
}

proptest! {
    /// In any order, with duplicates, holes and clears, the index is what the book says.
    #[test]
    fn as_by_the_book(script in proptest::collection::vec(said(), 0..80)) {
        let index = roomy();
        let holder = index.holder();
        let mut naive = Naive::default();
        for said in &script {
            match said {
                Said::Store { prompt, from, tier } => {
                    store(&holder, prompt, from.index(prompt.len()), *tier);
                }
                Said::Remove { prompt, tier } => {
                    remove(&holder, prompt, *tier);
                }
                Said::Clear => holder.clear(),
            }
            naive.apply(said);
            if let Said::Store { prompt, .. } | Said::Remove { prompt, .. } = said {
                prop_assert_eq!(held(&index, &holder, prompt) as usize, naive.longest(prompt));
            }
        }
        prop_assert_eq!(holder.len(), naive.0.keys().filter(|p| naive.holds(p)).count());
        for prompt in naive.0.keys() {
            let keys = index.keys("", &tokens(prompt), BLOCK, []);
            let found = holder.matched(&keys, NOW);
            prop_assert_eq!(found.held as usize, naive.longest(prompt));
            for guess in 0..=prompt.len() as u32 + 1 {
                prop_assert_eq!(holder.matched_near(&keys, guess, NOW), found, "guess {}", guess);
            }
            let on_gpu = (1..=found.held as usize).filter(|&len| naive.0[&prompt[..len]][0] > 0);
            prop_assert_eq!(found.tiers[0] as usize, on_gpu.count());
            prop_assert_eq!(found.tiers.iter().sum::<u32>(), found.held);
        }
        // All taken back, nothing stays behind.
        for (prompt, copies) in &naive.0 {
            for tier in [Tier::Gpu, Tier::Cpu] {
                (0..copies[tier as usize]).for_each(|_| { remove(&holder, prompt, tier); });
            }
        }
        prop_assert!(holder.is_empty());
        prop_assert!(!naive.0.keys().any(|prompt| store(&holder, &[&prompt[..], &[1]].concat(),
            prompt.len(), Tier::Gpu).detached == 0), "nothing is known any more");
    }

    /// Whatever names a publisher makes up, in little room, nothing breaks, and what is found is
    /// a prefix of something that was said.
    #[test]
    fn made_up_names_in_little_room(
        script in proptest::collection::vec(
            (prompt(), any::<prop::sample::Index>(), proptest::collection::vec(0u64..6, 7), any::<bool>()),
            0..80,
        ),
        capacity in 1usize..12,
    ) {
        let index = index(1 << 30, capacity);
        let holder = index.holder();
        for (prompt, from, names, is_store) in script {
            let from = from.index(prompt.len());
            if is_store {
                let run = Run {
                    names: &names[from..prompt.len()],
                    parent: from.checked_sub(1).map(|before| names[before]),
                    tokens: &tokens(&prompt[from..]),
                    block_size: BLOCK,
                    adapter: "",
                    tier: Tier::Gpu,
                };
                let outcome = holder.store(run, []);
                let counted = outcome.added + outcome.known + outcome.detached + outcome.refused;
                prop_assert_eq!(counted, prompt.len() - from);
            } else {
                holder.remove(&names[from..], Tier::Gpu);
            }
            prop_assert!(holder.len() <= capacity);
            prop_assert!(held(&index, &holder, &prompt) as usize <= capacity);
        }
    }
}
