use std::collections::{BTreeMap, BTreeSet};

use super::super::label_selector::LabelSelector;
use crate::endpoints::Endpoint;

/// What a revision's share of requests goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugins) enum Weight {
    /// Its pods of all required roles.
    Sum,
    /// Its pods of the role that has most pods over all complete revisions.
    LargestRole,
}

/// How revisions are told apart and which of them are complete.
#[derive(Clone, Debug)]
pub(in crate::plugins) struct Gating {
    /// The pods that count.
    pub scope: LabelSelector,
    /// `None`: any revision will do.
    pub weight: Option<Weight>,
    /// A revision without a ready pod in one of these is not complete.
    pub roles: Vec<String>,
    pub revision_label: String,
    pub role_label: String,
}

/// Each revision's share of requests, 0 to 1; 0 for one that is not complete.
pub(super) type Shares = BTreeMap<String, f64>;

impl Gating {
    /// The shares by the ready pods of a pool. A pod with several ranks is one pod.
    pub(crate) fn shares<'a>(&self, endpoints: impl Iterator<Item = &'a Endpoint>) -> Shares {
        let mut pods: BTreeMap<String, Vec<BTreeSet<(&str, &str)>>> = BTreeMap::new();
        for endpoint in endpoints {
            let labels = endpoint.labels();
            let Some(revision) = labels.get(&self.revision_label).filter(|r| !r.is_empty()) else {
                continue;
            };
            if !self.scope.matches(&labels) {
                continue;
            }
            let by_role = pods.entry(revision.clone()).or_default();
            by_role.resize_with(self.roles.len(), BTreeSet::new);
            let role = labels.get(&self.role_label);
            let role = self.roles.iter().position(|required| Some(required) == role);
            if let Some(role) = role.and_then(|role| by_role.get_mut(role)) {
                role.insert((&endpoint.spec.namespace, &endpoint.spec.pod_name));
            }
        }
        let count = |by_role: Vec<BTreeSet<_>>| by_role.iter().map(BTreeSet::len).collect();
        self.shares_of(pods.into_iter().map(|(revision, roles)| (revision, count(roles))).collect())
    }

    /// The same by the number of pods of each revision in each role (llm-d-router main at
    /// ebab6879).
    fn shares_of(&self, pods: BTreeMap<String, Vec<usize>>) -> Shares {
        let is_complete = |counts: &Vec<usize>| counts.iter().all(|&count| count > 0);
        let in_role = |role: usize| -> usize {
            let complete = pods.values().filter(|counts| is_complete(counts));
            complete.filter_map(|counts| counts.get(role)).sum()
        };
        // Of equally large roles the first counts.
        let largest = (0..self.roles.len()).rev().max_by_key(|&role| in_role(role));
        let weight = |counts: &Vec<usize>| match self.weight {
            _ if !is_complete(counts) => 0,
            Some(Weight::LargestRole) => {
                largest.and_then(|role| counts.get(role)).copied().unwrap_or(0)
            }
            Some(Weight::Sum) | None => counts.iter().sum(),
        };
        let total: usize = pods.values().map(weight).sum();
        let share = |weight: usize| if total == 0 { 0.0 } else { weight as f64 / total as f64 };
        pods.iter().map(|(revision, counts)| (revision.clone(), share(weight(counts)))).collect()
    }
}

/// The revision at `draw` (0 to 1) where all are laid side by side by their shares, in the order
/// of their names; `None` where none has a share.
pub(super) fn draw<'a>(shares: &[(&'a str, f64)], draw: f64) -> Option<&'a str> {
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut left = draw * total;
    for &(revision, share) in shares {
        if left < share {
            return Some(revision);
        }
        left -= share;
    }
    shares.iter().rev().find(|(_, share)| *share > 0.0).map(|(revision, _)| *revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_revisions() {
        use Weight::{LargestRole, Sum};
        type Case<'a> = (&'a str, Weight, &'a [(&'a str, [usize; 2])], &'a [(&'a str, f64)]);
        // Pods in the roles prefill and decode.
        let cases: [Case<'_>; 7] = [
            ("no pods", Sum, &[], &[]),
            ("one revision", Sum, &[("a", [2, 9])], &[("a", 1.0)]),
            (
                "by all pods",
                Sum,
                &[("a", [2, 9]), ("b", [1, 1])],
                &[("a", 11.0 / 13.0), ("b", 2.0 / 13.0)],
            ),
            (
                "by the largest role",
                LargestRole,
                &[("a", [2, 9]), ("b", [1, 1])],
                &[("a", 0.9), ("b", 0.1)],
            ),
            (
                "one lacks a role",
                LargestRole,
                &[("a", [2, 9]), ("b", [0, 90])],
                &[("a", 1.0), ("b", 0.0)],
            ),
            ("none is complete", Sum, &[("a", [2, 0]), ("b", [0, 2])], &[("a", 0.0), ("b", 0.0)]),
            (
                "the first of equal roles",
                LargestRole,
                &[("a", [3, 1]), ("b", [1, 3])],
                &[("a", 0.75), ("b", 0.25)],
            ),
        ];
        for (what, weight, pods, expected) in cases {
            let gating = Gating {
                scope: LabelSelector::default(),
                weight: Some(weight),
                roles: vec!["prefill".into(), "decode".into()],
                revision_label: String::new(),
                role_label: String::new(),
            };
            let pods = pods.iter().map(|(r, counts)| ((*r).to_owned(), counts.to_vec()));
            let shares = gating.shares_of(pods.collect());
            let shares: Vec<_> = shares.iter().map(|(r, share)| (r.as_str(), *share)).collect();
            assert_eq!(shares, expected, "{what}");
        }
    }

    #[test]
    fn draws() {
        let shares = [("a", 0.5), ("b", 0.0), ("c", 0.25), ("d", 0.0)];
        let cases = [(0.0, "a"), (0.6, "a"), (0.67, "c"), (0.999, "c"), (1.0, "c")];
        for (at, expected) in cases {
            assert_eq!(draw(&shares, at), Some(expected), "{at}");
        }
        assert_eq!(draw(&[("a", 0.0)], 0.5), None);
        assert_eq!(draw(&[], 0.5), None);
    }
}
