use std::collections::BTreeSet;
use std::sync::Arc;

use super::{BandFairness, FairnessPolicy, FlowKey, Head};
use crate::clock::Timestamp;

/// `global-strict-fairness-policy`: the first by the ordering policy over all flows. It does not
/// share at all: who sends more gets more.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalStrict;

impl FairnessPolicy for GlobalStrict {
    fn band(&self) -> Box<dyn BandFairness> {
        Box::<Heads>::default()
    }
}

#[derive(Debug, Default)]
struct Heads(BTreeSet<(Head, FlowKey)>);

impl BandFairness for Heads {
    fn head_changed(
        &mut self,
        flow: FlowKey,
        _: &Arc<str>,
        before: Option<Head>,
        now: Option<Head>,
    ) {
        if let Some(before) = before {
            self.0.remove(&(before, flow));
        }
        self.0.extend(now.map(|head| (head, flow)));
    }

    fn next(&mut self, _: Timestamp) -> Option<FlowKey> {
        self.0.first().map(|(_, flow)| *flow)
    }
}
