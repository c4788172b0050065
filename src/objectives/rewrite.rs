use std::collections::HashMap;

/// An `InferenceModelRewrite`, or the target models of an `InferenceModel`: rules of one age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRewrite {
    /// The object's name; settles which of two equally old objects comes first.
    pub name: String,
    /// When the object was made, in seconds since the Unix epoch. Older objects come first.
    pub created: i64,
    pub rules: Vec<RewriteRule>,
}

/// Which models are rewritten, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteRule {
    /// The model names the rule is for; empty means every model, and requests that name none.
    pub models: Vec<String>,
    pub targets: Vec<RewriteTarget>,
}

/// One of the models a rule draws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteTarget {
    pub model: String,
    pub weight: Option<u32>,
}

/// What a rule made of a model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    pub model: String,
    /// Name of the object that the rule stands in.
    pub by: String,
}

/// All rewrite rules in force, arranged for one look-up per request.
///
/// Precedence as in llm-d-router main at ebab6879: a rule for the exact model wins over a rule
/// for all models; among equals the oldest object wins, then the order within the object.
#[derive(Debug, Default)]
pub(super) struct RewriteTable {
    exact: HashMap<String, Draw>,
    generic: Option<Draw>,
}

impl RewriteTable {
    /// `None` where there is nothing to rewrite. Objects in `preferred` win over those in
    /// `others`, whatever their age.
    pub(super) fn new(preferred: Vec<ModelRewrite>, others: Vec<ModelRewrite>) -> Option<Self> {
        let mut table = Self::default();
        for mut objects in [preferred, others] {
            objects.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
            for object in objects {
                for rule in object.rules {
                    table.add(rule, &object.name);
                }
            }
        }
        (!table.exact.is_empty() || table.generic.is_some()).then_some(table)
    }

    fn add(&mut self, rule: RewriteRule, by: &str) {
        let Some(draw) = Draw::new(&rule.targets, by) else { return };
        if rule.models.is_empty() {
            self.generic.get_or_insert(draw);
            return;
        }
        for model in rule.models {
            self.exact.entry(model).or_insert_with(|| draw.clone());
        }
    }

    pub(super) fn rewrite(&self, incoming: &str, rng: &mut fastrand::Rng) -> Option<Rewritten> {
        let draw = self.exact.get(incoming).or(self.generic.as_ref())?;
        Some(Rewritten { model: draw.pick(rng).to_owned(), by: draw.by.clone() })
    }
}

/// A weighted draw among models.
#[derive(Clone, Debug)]
struct Draw {
    /// Each model with the sum of the weights up to and with its own.
    cumulative: Vec<(u64, String)>,
    first: String,
    total: u64,
    /// Name of the object that the rule stands in.
    by: String,
}

impl Draw {
    /// `None` without targets. Without any weight all targets are equally likely; where some
    /// have a weight, those without are never drawn.
    fn new(targets: &[RewriteTarget], by: &str) -> Option<Self> {
        let first = targets.first()?.model.clone();
        let unweighted = targets.iter().all(|t| t.weight.unwrap_or(0) == 0);
        let mut total = 0;
        let cumulative = targets
            .iter()
            .map(|target| {
                total += if unweighted { 1 } else { u64::from(target.weight.unwrap_or(0)) };
                (total, target.model.clone())
            })
            .collect();
        Some(Self { cumulative, first, total, by: by.to_owned() })
    }

    fn pick(&self, rng: &mut fastrand::Rng) -> &str {
        let drawn = rng.u64(0..self.total);
        let at = self.cumulative.partition_point(|(upto, _)| *upto <= drawn);
        self.cumulative.get(at).map_or(&self.first, |(_, model)| model)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn object(name: &str, created: i64, rules: Vec<RewriteRule>) -> ModelRewrite {
        ModelRewrite { name: name.into(), created, rules }
    }

    fn rule(models: &[&str], targets: &[(&str, Option<u32>)]) -> RewriteRule {
        RewriteRule {
            models: models.iter().map(ToString::to_string).collect(),
            targets: targets
                .iter()
                .map(|(model, weight)| RewriteTarget { model: model.to_string(), weight: *weight })
                .collect(),
        }
    }

    fn drawn(table: &RewriteTable, model: &str) -> BTreeMap<String, u32> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = BTreeMap::new();
        for _ in 0..4000 {
            let to = table.rewrite(model, &mut rng).expect("a rule matches");
            *counts.entry(to.model).or_default() += 1;
        }
        counts
    }

    #[test]
    fn precedence() {
        let table = RewriteTable::new(
            vec![
                object("generic-old", 1, vec![rule(&[], &[("from-generic", None)])]),
                object("young", 30, vec![rule(&["m"], &[("from-young", None)])]),
                object(
                    "old",
                    20,
                    vec![
                        rule(&["m", "n"], &[("from-old", None)]),
                        rule(&["n"], &[("from-second-rule", None)]),
                    ],
                ),
                object("also-20", 20, vec![rule(&["n"], &[("from-first-by-name", None)])]),
                object("empty", 0, vec![rule(&["m"], &[])]),
            ],
            vec![object("ancient", 0, vec![rule(&["m"], &[("of-lesser-rank", None)])])],
        )
        .expect("there are rules");
        let mut rng = fastrand::Rng::with_seed(1);
        for (incoming, model, by) in [
            ("m", "from-old", "old"),
            ("n", "from-first-by-name", "also-20"),
            ("anything", "from-generic", "generic-old"),
            ("", "from-generic", "generic-old"),
        ] {
            let expected = Rewritten { model: model.into(), by: by.into() };
            assert_eq!(table.rewrite(incoming, &mut rng), Some(expected), "{incoming}");
        }
    }

    #[test]
    fn weights() {
        type Case<'a> = (&'a [(&'a str, Option<u32>)], &'a [(&'a str, f64)]);
        let cases: &[Case] = &[
            (&[("a", None), ("b", None)], &[("a", 0.5), ("b", 0.5)]),
            (&[("a", Some(1)), ("b", Some(3))], &[("a", 0.25), ("b", 0.75)]),
            (&[("a", None), ("b", Some(5)), ("c", None)], &[("b", 1.0)]),
            (&[("a", Some(0)), ("b", Some(0))], &[("a", 0.5), ("b", 0.5)]),
            (&[("a", Some(1_000_000)), ("b", Some(1))], &[("a", 1.0)]),
        ];
        for (targets, shares) in cases {
            let table = RewriteTable::new(vec![object("o", 0, vec![rule(&[], targets)])], vec![])
                .expect("there is a rule");
            let counts = drawn(&table, "x");
            for (model, share) in *shares {
                let got = f64::from(counts.get(*model).copied().unwrap_or(0)) / 4000.0;
                assert!((got - share).abs() < 0.03, "{targets:?}: {model} drawn {got}");
            }
        }
    }

    #[test]
    fn nothing_to_rewrite_is_no_table() {
        assert!(RewriteTable::new(vec![], vec![]).is_none());
        assert!(RewriteTable::new(vec![object("o", 0, vec![])], vec![]).is_none());
        let only_exact =
            RewriteTable::new(vec![object("o", 0, vec![rule(&["m"], &[("t", None)])])], vec![])
                .expect("there is a rule");
        assert_eq!(only_exact.rewrite("other", &mut fastrand::Rng::with_seed(1)), None);
    }
}
