use smallvec::smallvec;

use super::{Ceilings, UsageLimit};

/// `static-usage-limit-policy`: one ceiling for all bands.
#[derive(Clone, Copy, Debug)]
pub struct StaticUsageLimit {
    pub threshold: f64,
}

impl Default for StaticUsageLimit {
    fn default() -> Self {
        Self { threshold: 1.0 }
    }
}

impl UsageLimit for StaticUsageLimit {
    fn ceilings(&self, _: f64, priorities: &[i32]) -> Ceilings {
        smallvec![self.threshold; priorities.len()]
    }
}
