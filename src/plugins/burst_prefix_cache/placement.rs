//! Where the requests of a burst go (llm-d-router main at ebab6879).
//!
//! Requests with one prompt are a group. Groups come first, those with the longest prompt before
//! others, and go to the replica with the least of the burst; then single requests that share
//! enough of their beginning with another one. A group that shares enough with what a replica was
//! given already goes there, as long as that has no more than its fair share.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::prefix::HashedPrompt;

/// What a replica's share of a burst is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugins) enum BalanceBy {
    Requests,
    /// Tokens of their prompts, in blocks.
    Tokens,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::plugins) struct Rules {
    /// Requests of one group that a replica gets before others do.
    pub max_per_replica: usize,
    /// Blocks that different prompts have to share to be brought together; 0: they never are.
    pub min_colocate: usize,
    pub balance_by: BalanceBy,
}

/// An endpoint as it is placed on.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub name: std::sync::Arc<str>,
    /// Requests it runs.
    pub running: u32,
}

/// The replica of each prompt, by index; `None` for one that has nothing in common with another.
pub(super) fn place(
    prompts: &[HashedPrompt],
    replicas: &[Replica],
    rules: Rules,
) -> Vec<Option<usize>> {
    let mut placed = vec![None; prompts.len()];
    if replicas.is_empty() {
        return placed;
    }
    let groups = groups(prompts);
    let shared = sharing(&groups, prompts, rules.min_colocate);
    let is_group = |group: &&Vec<usize>| group.len() > 1;
    let mut units: Vec<&Vec<usize>> = groups.iter().filter(is_group).collect();
    let mut singles: Vec<&Vec<usize>> =
        groups.iter().filter(|group| group.len() == 1 && shared.contains(&group[0])).collect();
    for tier in [&mut units, &mut singles] {
        tier.sort_by_key(|group| std::cmp::Reverse(prompts[group[0]].hashes.len()));
    }
    units.append(&mut singles);
    let weight = |group: &[usize]| match rules.balance_by {
        BalanceBy::Requests => 1,
        BalanceBy::Tokens => prompts[group[0]].hashes.len(),
    };
    let total: usize = units.iter().map(|group| group.len() * weight(group)).sum();
    let mut board = Board {
        replicas,
        rules,
        fair_share: total.div_ceil(replicas.len()),
        load: vec![0; replicas.len()],
        holders: HashMap::new(),
    };
    for group in units {
        board.place(group, &prompts[group[0]].hashes, weight(group), &mut placed);
    }
    placed
}

/// Prompts that are the same, by index, in the order in which they came; those that are too short
/// to have a block are in none.
fn groups(prompts: &[HashedPrompt]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<(&[u64], &[u32]), usize> = HashMap::new();
    for (i, prompt) in prompts.iter().enumerate().filter(|(_, p)| !p.hashes.is_empty()) {
        let group = *known.entry((&prompt.hashes, &prompt.breaks)).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(members) => members.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// The first members of those groups that share their first `blocks` with another group.
fn sharing(groups: &[Vec<usize>], prompts: &[HashedPrompt], blocks: usize) -> HashSet<usize> {
    if blocks == 0 {
        return HashSet::new();
    }
    // Hashes are chained, so the last one of a beginning stands for all of it; where one prompt
    // ends and the next begins, the chain begins anew.
    let mut by_beginning: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
    for group in groups {
        let prompt = &prompts[group[0]];
        if let Some(beginning) = prompt.hashes.get(..blocks) {
            let breaks = prompt.breaks.iter().map(|&b| b as usize).filter(|&b| b < blocks);
            let ends = breaks.chain([blocks]).filter_map(|end| beginning.get(end.checked_sub(1)?));
            by_beginning.entry(ends.copied().collect()).or_default().push(group[0]);
        }
    }
    by_beginning.into_values().filter(|firsts| firsts.len() > 1).flatten().collect()
}

/// What is placed so far.
struct Board<'a> {
    replicas: &'a [Replica],
    rules: Rules,
    fair_share: usize,
    /// What each replica was given of this burst.
    load: Vec<usize>,
    /// The replicas that were given a block, by its hash.
    holders: HashMap<u64, Vec<usize>>,
}

impl Board<'_> {
    /// Places a group of like prompts, each of which weighs `weight`.
    fn place(
        &mut self,
        group: &[usize],
        hashes: &[u64],
        weight: usize,
        placed: &mut [Option<usize>],
    ) {
        let mut given = vec![0; self.replicas.len()];
        let mut near = self.nearest(hashes);
        let mut rest = group;
        while !rest.is_empty() {
            // Only the first run of a group looks for company.
            let target = near.take().unwrap_or_else(|| self.least_loaded(&given));
            // Where all have had their most, one at a time goes to the least loaded.
            let room = self.rules.max_per_replica.saturating_sub(given[target]).max(1);
            let (run, later) = rest.split_at(room.min(rest.len()));
            for &member in run {
                placed[member] = Some(target);
            }
            given[target] += run.len();
            self.load[target] += run.len() * weight;
            rest = later;
        }
        for replica in (0..given.len()).filter(|&replica| given[replica] > 0) {
            for hash in hashes {
                let holders = self.holders.entry(*hash).or_default();
                if !holders.contains(&replica) {
                    holders.push(replica);
                }
            }
        }
    }

    /// The replica that was given most of the beginning, at least as much as is asked for, and not
    /// yet its fair share.
    fn nearest(&self, hashes: &[u64]) -> Option<usize> {
        if self.rules.min_colocate == 0 {
            return None;
        }
        let mut matched = vec![0; self.replicas.len()];
        for holders in hashes.iter().map_while(|hash| self.holders.get(hash)) {
            holders.iter().for_each(|&replica| matched[replica] += 1);
        }
        let is_candidate = |&replica: &usize| {
            matched[replica] >= self.rules.min_colocate && self.load[replica] < self.fair_share
        };
        let candidates = (0..self.replicas.len()).filter(is_candidate);
        candidates.min_by_key(|&r| (std::cmp::Reverse(matched[r]), self.rank(r)))
    }

    /// The replica with the least load among those that may have more of the group, else of all.
    fn least_loaded(&self, given: &[usize]) -> usize {
        let has_room = |&replica: &usize| given[replica] < self.rules.max_per_replica;
        let all = 0..self.replicas.len();
        let with_room = all.clone().filter(has_room).min_by_key(|&r| self.rank(r));
        with_room.or_else(|| all.min_by_key(|&r| self.rank(r))).unwrap_or_default()
    }

    /// Fewer of this burst come first, then fewer that run, then the name.
    fn rank(&self, replica: usize) -> (usize, u32, &str) {
        let Replica { name, running } = &self.replicas[replica];
        (self.load[replica], *running, name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A prompt of the blocks that the letters stand for, each chained to those before.
    fn prompt(blocks: &str) -> HashedPrompt {
        let chain = |hash: u64, block: char| hash.wrapping_mul(31).wrapping_add(block as u64);
        let hashes = blocks.chars().scan(7, |hash, block| {
            *hash = chain(*hash, block);
            Some(*hash)
        });
        HashedPrompt { hashes: hashes.collect(), ..HashedPrompt::default() }
    }

    fn replicas(running: &[u32]) -> Vec<Replica> {
        let replica =
            |(i, &running): (usize, &u32)| Replica { name: format!("r{i}").into(), running };
        running.iter().enumerate().map(replica).collect()
    }

    const PLAIN: Rules =
        Rules { max_per_replica: usize::MAX, min_colocate: 0, balance_by: BalanceBy::Requests };

    #[test]
    fn bursts() {
        let near = Rules { min_colocate: 2, ..PLAIN };
        let by_tokens = Rules { balance_by: BalanceBy::Tokens, ..PLAIN };
        // What each prompt is, and the replica it goes to: `-` for none.
        type Case = (&'static str, &'static [&'static str], Rules, &'static [u32], &'static str);
        let cases: [Case; 15] = [
            ("nothing", &[], PLAIN, &[0, 0], ""),
            ("no replica", &["a", "a"], PLAIN, &[], "--"),
            ("all differ", &["a", "b", "c"], PLAIN, &[0, 0], "---"),
            ("no whole block", &["", ""], PLAIN, &[0, 0], "--"),
            ("a group stays together", &["a", "b", "a", "a"], PLAIN, &[0, 0], "0-00"),
            ("groups spread", &["a", "a", "b", "b", "c", "c"], PLAIN, &[0, 0], "001100"),
            ("to the idlest", &["a", "a"], PLAIN, &[5, 3, 9], "11"),
            ("the longest first", &["a", "a", "bcd", "bcd"], PLAIN, &[0, 1], "1100"),
            (
                "no more than so many to one",
                &["a"; 5],
                Rules { max_per_replica: 2, ..PLAIN },
                &[0, 0],
                "00110",
            ),
            ("alike but not the same: alone", &["abc", "abd"], PLAIN, &[0, 0, 0], "--"),
            ("enough alike", &["abc", "abd", "x"], near, &[0], "00-"),
            ("too little alike", &["abc", "acd"], near, &[0, 0], "--"),
            // Four requests on two replicas: two are a fair share.
            ("alike up to a fair share", &["abc", "abd", "abe", "abf"], near, &[0, 0], "0011"),
            (
                "a group has company before a single one",
                &["abx", "abc", "abc", "z"],
                near,
                &[0, 0],
                "100-",
            ),
            // The long group weighs six blocks, so the two short ones go to the other replica.
            ("by tokens", &["abc", "abc", "d", "d", "e", "e"], by_tokens, &[0, 0], "001111"),
        ];
        for (what, prompts, rules, running, expected) in cases {
            let prompts: Vec<_> = prompts.iter().map(|blocks| prompt(blocks)).collect();
            let placed = place(&prompts, &replicas(running), rules);
            let mark = |replica: &Option<usize>| replica.map_or("-".to_owned(), |r| r.to_string());
            assert_eq!(placed.iter().map(mark).collect::<String>(), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn like_prompts_are_placed_and_lone_ones_are_not(
            prompts in proptest::collection::vec("[ab]{0,3}", 0..20),
            replicas_there in 1..4_usize,
            max_per_replica in 1..5_usize,
        ) {
            let hashed: Vec<_> = prompts.iter().map(|blocks| prompt(blocks)).collect();
            let rules = Rules { max_per_replica, ..PLAIN };
            let placed = place(&hashed, &replicas(&vec![0; replicas_there]), rules);
            for (blocks, replica) in prompts.iter().zip(&placed) {
                let like = prompts.iter().filter(|other| *other == blocks).count();
                prop_assert_eq!(replica.is_some(), like > 1 && !blocks.is_empty());
                prop_assert!(replica.is_none_or(|replica| replica < replicas_there));
            }
        }
    }
}
