use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{BandFairness, FairnessPolicy, FlowKey, Head};
use crate::clock::Timestamp;

/// `round-robin-fairness-policy`: the flows take turns, in the order of their ids.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl FairnessPolicy for RoundRobin {
    fn band(&self) -> Box<dyn BandFairness> {
        Box::<Turns>::default()
    }
}

#[derive(Debug, Default)]
struct Turns {
    waiting: BTreeMap<Arc<str>, FlowKey>,
    /// Whose turn was last; none since nothing waited.
    last: Option<Arc<str>>,
}

impl BandFairness for Turns {
    fn head_changed(
        &mut self,
        flow: FlowKey,
        fairness_id: &Arc<str>,
        _: Option<Head>,
        now: Option<Head>,
    ) {
        if now.is_some() {
            self.waiting.entry(fairness_id.clone()).or_insert(flow);
        } else {
            self.waiting.remove(fairness_id);
            if self.waiting.is_empty() {
                self.last = None;
            }
        }
    }

    fn next(&mut self, _: Timestamp) -> Option<FlowKey> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.waiting.range::<Arc<str>, _>((after, Bound::Unbounded)).next();
        let (id, flow) = later.or_else(|| self.waiting.first_key_value())?;
        let flow = *flow;
        self.last = Some(id.clone());
        Some(flow)
    }
}
