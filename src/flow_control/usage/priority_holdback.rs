use super::{Ceilings, UsageLimit};

/// `priority-holdback-policy`: the lower a band, the earlier it is held back. Formulas of
/// llm-d-router main at ebab6879; `Explicit` came after it.
#[derive(Clone, Debug)]
pub struct PriorityHoldback {
    /// The lowest band's ceiling.
    pub min_ceiling: f64,
    /// The highest band's.
    pub max_ceiling: f64,
    pub domain: HoldbackDomain,
}

/// How bands lie between the two ceilings.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldbackDomain {
    /// In equal steps.
    Rank,
    /// As their priorities lie between the highest and the lowest.
    Value,
    /// As given, by priority; a band that is not listed is held back altogether.
    Explicit(Vec<(i32, f64)>),
}

impl PriorityHoldback {
    fn span(&self) -> f64 {
        self.max_ceiling - self.min_ceiling
    }

    fn by_rank(&self, rank: usize, bands: usize) -> f64 {
        if bands < 2 {
            return self.max_ceiling;
        }
        self.max_ceiling - rank as f64 * self.span() / (bands - 1) as f64
    }

    fn by_value(&self, priority: i32, priorities: &[i32]) -> f64 {
        let (Some(&high), Some(&low)) = (priorities.first(), priorities.last()) else {
            return self.max_ceiling;
        };
        if high == low {
            return self.max_ceiling;
        }
        let above = f64::from(priority) - f64::from(low);
        self.min_ceiling + above / (f64::from(high) - f64::from(low)) * self.span()
    }
}

impl UsageLimit for PriorityHoldback {
    fn ceilings(&self, _: f64, priorities: &[i32]) -> Ceilings {
        let ceiling = |(rank, &priority): (usize, &i32)| match &self.domain {
            HoldbackDomain::Rank => self.by_rank(rank, priorities.len()),
            HoldbackDomain::Value => self.by_value(priority, priorities),
            HoldbackDomain::Explicit(ceilings) => {
                ceilings.iter().find(|(p, _)| *p == priority).map_or(0.0, |(_, ceiling)| *ceiling)
            }
        };
        priorities.iter().enumerate().map(ceiling).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_by_domain() {
        let explicit = || HoldbackDomain::Explicit(vec![(100, 0.95), (0, 0.3)]);
        for (domain, priorities, expected) in [
            (HoldbackDomain::Rank, &[100, 0, -10][..], &[0.9, 0.65, 0.4][..]),
            (HoldbackDomain::Rank, &[7], &[0.9]),
            (HoldbackDomain::Rank, &[], &[]),
            (HoldbackDomain::Value, &[100, 75, 0], &[0.9, 0.775, 0.4]),
            (HoldbackDomain::Value, &[7], &[0.9]),
            (HoldbackDomain::Value, &[i32::MAX, i32::MIN], &[0.9, 0.4]),
            (explicit(), &[100, 50, 0], &[0.95, 0.0, 0.3]),
        ] {
            let policy = PriorityHoldback { min_ceiling: 0.4, max_ceiling: 0.9, domain };
            let got = policy.ceilings(0.5, priorities);
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-12, "{policy:?} {priorities:?}: {got}");
            }
        }
    }
}
