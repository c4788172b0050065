use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::rig::{Request, Rig, State};
use crate::clock::Timestamp;
use crate::flow_control::{
    Arrival, BandConfig, EvictionConfig, FairnessPolicy, FlowControlConfig, Outcome, ProgramAware,
    ProgramAwareConfig, RoundRobin,
};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Op {
    Ask {
        flow: u8,
        priority: i32,
        bytes: u64,
        ttl_ms: Option<u64>,
    },
    /// Its holder looks what became of the n-th request and takes its place if it may.
    Start(usize),
    /// The n-th request ends or is given up, wherever it is.
    End(usize),
    Pass {
        ms: u64,
    },
    /// The clock jumps to any time at all.
    Jump {
        ms: u64,
    },
    Capacity(i64),
    Empty(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let ttl_ms = prop_oneof![3 => Just(None), 1 => (0u64..3000).prop_map(Some)];
    let ask = (0u8..5, prop::sample::select(vec![-7, -1, 0, 3, 10]), 0u64..400, ttl_ms);
    prop_oneof![
        8 => ask.prop_map(|(flow, priority, bytes, ttl_ms)| Op::Ask { flow, priority, bytes, ttl_ms }),
        8 => (0usize..64).prop_map(Op::Start),
        6 => (0usize..64).prop_map(Op::End),
        3 => (0u64..2000).prop_map(|ms| Op::Pass { ms }),
        1 => (0u64..20_000).prop_map(|ms| Op::Jump { ms }),
        1 => (0i64..6).prop_map(Op::Capacity),
        1 => any::<bool>().prop_map(Op::Empty),
    ]
}

fn config(fairness: Arc<dyn FairnessPolicy>) -> FlowControlConfig {
    FlowControlConfig {
        max_bytes: Some(4000),
        max_requests: Some(30),
        default_ttl: Some(Duration::from_secs(2)),
        no_endpoint_ttl: Some(Duration::from_secs(3)),
        bands: vec![(3, BandConfig { max_requests: 6, ..BandConfig::default() })],
        default_band: BandConfig { fairness, ..BandConfig::default() },
        eviction: Some(EvictionConfig { grace: Duration::from_millis(10) }),
        ..FlowControlConfig::default()
    }
}

/// The requests there are, and what is known of those that wait.
struct Model {
    rig: Rig,
    requests: Vec<(Asked, Request)>,
    asked: u64,
    jumped: bool,
}

#[derive(Clone, Copy)]
struct Asked {
    flow: u8,
    priority: i32,
    bytes: u64,
    number: u64,
}

impl Model {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Ask { flow, priority, bytes, ttl_ms } => {
                let id = format!("flow {flow}");
                let ttl = ttl_ms.map(Duration::from_millis);
                let arrival = Arrival { bytes, ttl, ..self.rig.arrival(&id, priority) };
                let request = self.rig.ask_as(&arrival);
                let asked = Asked { flow, priority, bytes, number: self.asked };
                self.asked += 1;
                self.requests.push((asked, request));
            }
            Op::Start(n) => {
                if let Some(n) = self.pick(n) {
                    self.requests[n].1.start();
                }
            }
            Op::End(n) => {
                if let Some(n) = self.pick(n) {
                    self.requests.swap_remove(n);
                }
            }
            Op::Pass { ms } => self.rig.pass(Duration::from_millis(ms)),
            Op::Jump { ms } => {
                self.jumped = true;
                self.rig.set_time(Timestamp::START + Duration::from_millis(ms));
                self.rig.pass(Duration::ZERO);
            }
            Op::Capacity(capacity) => self.rig.set_capacity(capacity),
            Op::Empty(is_empty) => self.rig.set_empty(is_empty),
        }
    }

    fn pick(&self, n: usize) -> Option<usize> {
        (!self.requests.is_empty()).then(|| n % self.requests.len())
    }

    /// Looks at every request: the counts must be what is there, nothing may wait that could
    /// go, and of one flow nothing may have gone before what came earlier.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let mut waiting: Vec<Asked> = Vec::new();
        let mut permitted = 0;
        let mut gone: BTreeMap<(u8, i32), u64> = BTreeMap::new();
        for (asked, request) in &mut self.requests {
            let (was_waiting, flow) =
                (matches!(request.state, State::Waiting(_)), (asked.flow, asked.priority));
            request.poll();
            match &request.state {
                State::Waiting(_) => waiting.push(*asked),
                State::Permitted(_) => permitted += 1,
                State::Rejected(r) => prop_assert_ne!(r.outcome, Outcome::Dispatched),
                State::Running(_) | State::Ended => {}
            }
            if was_waiting && matches!(request.state, State::Permitted(_)) {
                let last = gone.entry(flow).or_default();
                *last = (*last).max(asked.number);
            }
        }
        let snapshot = self.rig.controller.snapshot(self.rig.now());
        prop_assert_eq!(snapshot.requests, waiting.len() as u64);
        prop_assert_eq!(snapshot.bytes, waiting.iter().map(|a| a.bytes).sum::<u64>());
        let by_band: u64 = snapshot.bands.iter().map(|b| b.requests).sum();
        let by_flow: u64 = snapshot.bands.iter().flat_map(|b| &b.flows).map(|f| f.requests).sum();
        prop_assert_eq!((by_band, by_flow), (snapshot.requests, snapshot.requests));
        prop_assert!(snapshot.requests <= 30 && snapshot.bytes <= 4000);
        prop_assert_eq!(self.rig.controller.pending().requests, permitted);
        prop_assert_eq!(self.rig.controller.pending().tokens, 10 * permitted);

        let load = snapshot.load.unwrap();
        let could_go = !load.is_empty && load.effective < 1.0;
        prop_assert!(waiting.is_empty() || !could_go, "{} wait beside a free place", waiting.len());
        // Each went before all that came later, unless the clock stepped between the two.
        if !self.jumped {
            for asked in &waiting {
                let last = gone.get(&(asked.flow, asked.priority)).copied();
                prop_assert!(last.is_none_or(|last| last < asked.number), "out of order");
            }
        }
        Ok(())
    }
}

fn run(fairness: Arc<dyn FairnessPolicy>, ops: &[Op]) -> Result<(), TestCaseError> {
    let rig = Rig::new(2, config(fairness));
    let mut model = Model { rig, requests: Vec::new(), asked: 0, jumped: false };
    for op in ops {
        model.apply(*op);
        model.check()?;
    }
    // Whatever is left ends, in an order of its own.
    while let Some((_, request)) = model.requests.pop() {
        drop(request);
        model.check()?;
        model.requests.reverse();
    }
    prop_assert!(model.rig.controller.is_tidy());
    let snapshot = model.rig.controller.snapshot(model.rig.now());
    prop_assert_eq!((snapshot.evictable, snapshot.pending_reclaim), (0, 0));
    prop_assert!(snapshot.bands.iter().all(|band| band.flows.is_empty()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No request is lost, none goes twice, none waits beside a free place, flows keep their
    /// order, and all counts return to zero, whatever happens in whichever order.
    #[test]
    fn whatever_happens_the_counts_are_right(ops in prop::collection::vec(op(), 1..150)) {
        run(Arc::new(RoundRobin), &ops)?;
    }

    #[test]
    fn the_same_with_a_policy_that_remembers(ops in prop::collection::vec(op(), 1..150)) {
        run(Arc::new(ProgramAware::new(ProgramAwareConfig::default())), &ops)?;
    }
}
