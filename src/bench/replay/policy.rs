//! Who decides where a request goes.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::fleet::{Fleet, PREFILL_ROLE, ROLE_LABEL};
use super::pipeline::{Answer, Around, Routing, unplaced};
use super::routed::Held;
use crate::bench::trace::TraceRequest;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Reservation, ReservationTerms};
use crate::error::RequestError;
use crate::loader::Pipeline;
use crate::scheduling::{Decision, InferenceRequest, PromptBuilder};
use crate::sim::worker::PREFILLER_HEADER;
use crate::sim::{BYTES_PER_TOKEN, Nanos, Prompt};

/// Policies to compare with. Where prompts and answers are for different workers, each chooses
/// one of either kind in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Baseline {
    /// Any worker.
    Random,
    /// One after the other.
    RoundRobin,
    /// The worker with the fewest requests in progress.
    LeastRequests,
    /// The worker that has the least to compute, known from its true cache and queue.
    Oracle,
}

impl Baseline {
    pub fn name(self) -> &'static str {
        match self {
            Baseline::Random => "random",
            Baseline::RoundRobin => "round robin",
            Baseline::LeastRequests => "least requests",
            Baseline::Oracle => "oracle",
        }
    }
}

/// What the oracle counts a request in progress for, in prompt tokens. Each decoding sequence
/// slows the steps of all others; over an answer of 200 tokens on the measured H200 that is the
/// time of about 400 prompt tokens.
const REQUEST_TOKENS: u64 = 400;

/// The policy of one simulation, with what it has learnt so far.
#[derive(Debug)]
pub(super) struct Policy {
    kind: Kind,
    rng: RefCell<fastrand::Rng>,
}

#[derive(Debug)]
enum Kind {
    Baseline { baseline: Baseline, turn: usize },
    Pipeline(Box<Routing>),
}

/// A request on its way to a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub number: u64,
    pub request: &'a TraceRequest,
    /// Its prompt, as an engine names it.
    pub blocks: &'a Prompt,
    pub now: Nanos,
}

/// Where it goes.
#[derive(Debug)]
pub(super) struct Pick {
    pub endpoint: Arc<Endpoint>,
    /// The one that computes the prompt for it, where another does.
    pub prefill: Option<Arc<Endpoint>>,
    pub held: Held,
    /// Share of the prompt that the policy believes cached there, if it has a belief.
    pub believed_cached: Option<f64>,
}

impl Policy {
    pub(super) fn baseline(baseline: Baseline, seed: u64) -> Self {
        Self { kind: Kind::Baseline { baseline, turn: 0 }, rng: rng(seed) }
    }

    /// The pipeline of a configuration that was loaded for the fleet's pool.
    pub(super) fn pipeline(pipeline: Pipeline, around: Around<'_>) -> Self {
        let rng = rng(around.seed);
        Self { kind: Kind::Pipeline(Box::new(Routing::new(pipeline, around))), rng }
    }

    /// The configuration's pipeline, if it is one.
    pub(super) fn routing(&self) -> Option<&Routing> {
        match &self.kind {
            Kind::Pipeline(routing) => Some(routing),
            Kind::Baseline { .. } => None,
        }
    }

    /// Picks a worker. `pending` holds, by worker, the prompt tokens it has still to compute.
    pub(super) fn ask(&mut self, ask: Ask<'_>, fleet: &Fleet, pending: &[u64]) -> Answer {
        let (baseline, turn) = match &mut self.kind {
            Kind::Pipeline(routing) => return routing.ask(ask),
            Kind::Baseline { baseline, turn } => (*baseline, turn),
        };
        *turn += 1;
        let rng = &mut *self.rng.borrow_mut();
        let (for_prompts, for_answers): (Vec<_>, Vec<_>) =
            fleet.pool.snapshot().endpoints.iter().cloned().partition(|e| is_prefill_worker(e));
        let mut choose = |among: &[Arc<Endpoint>]| match baseline {
            Baseline::Random => rng.choice(among).cloned(),
            Baseline::RoundRobin => among.get((*turn - 1) % among.len().max(1)).cloned(),
            Baseline::LeastRequests => least(among, rng, |e| e.in_flight.requests().unsigned_abs()),
            Baseline::Oracle => least(among, rng, |e| true_cost(e, ask.blocks, fleet, pending)),
        };
        let Some(endpoint) = choose(&for_answers) else {
            return unplaced(&RequestError::no_candidates());
        };
        let prefill = choose(&for_prompts);
        let mut all = SmallVec::new();
        all.push(Reservation::new(endpoint.clone(), ReservationTerms::default()));
        let terms = ReservationTerms { until_answer: true, ..Default::default() };
        all.extend(prefill.iter().map(|e| Reservation::new(e.clone(), terms)));
        let held = Held::Reservations(all);
        Answer::Go(Pick { endpoint, prefill, held, believed_cached: None })
    }
}

/// Where the endpoint that a request goes to is told to have the prompt computed.
pub(super) fn prefill_of(
    decision: &Decision,
    endpoints: &[Arc<Endpoint>],
) -> Option<Arc<Endpoint>> {
    let headers = decision.directions.headers();
    let (_, address) = headers.iter().find(|(key, _)| key == PREFILLER_HEADER.as_str())?;
    endpoints.iter().find(|e| e.host_port.as_bytes() == &**address).cloned()
}

fn is_prefill_worker(endpoint: &Endpoint) -> bool {
    endpoint.labels().get(ROLE_LABEL).is_some_and(|role| role == PREFILL_ROLE)
}

fn rng(seed: u64) -> RefCell<fastrand::Rng> {
    RefCell::new(fastrand::Rng::with_seed(seed))
}

/// The endpoint with the least `cost`, any of several.
fn least(
    endpoints: &[Arc<Endpoint>],
    rng: &mut fastrand::Rng,
    cost: impl Fn(&Endpoint) -> u64,
) -> Option<Arc<Endpoint>> {
    endpoints.iter().min_by_key(|e| (cost(e), rng.u32(..))).cloned()
}

/// Prompt tokens until the request's first token would come, and the weight of those that run.
fn true_cost(endpoint: &Endpoint, blocks: &Prompt, fleet: &Fleet, pending: &[u64]) -> u64 {
    let Some(worker) = fleet.worker_of(endpoint) else { return u64::MAX };
    let cached = fleet.workers[worker].engine.cached_prefix_tokens(blocks);
    let uncached = u64::from(blocks.len_tokens.saturating_sub(cached));
    let requests = endpoint.in_flight.requests().unsigned_abs();
    uncached + pending[worker] + requests * REQUEST_TOKENS
}

impl Ask<'_> {
    /// As the pipeline sees it.
    pub(super) fn request(self, wants_prompt: bool) -> InferenceRequest {
        let mut request = InferenceRequest {
            id: self.number.to_string(),
            target_model: "model".into(),
            stream: true,
            max_output_tokens: Some(u64::from(self.request.output_tokens)),
            body_bytes: self.request.prompt.tokens() as usize * BYTES_PER_TOKEN,
            priority: self.request.priority,
            flow: self.request.tenant.as_deref().map(str::to_owned),
            received_at: Timestamp::from_nanos(self.now),
            ..Default::default()
        };
        if wants_prompt {
            let mut tokens = Vec::new();
            self.request.prompt.write_tokens(&mut tokens);
            let body = Bytes::from(tokens);
            let mut builder = PromptBuilder::new(body.clone());
            builder.text(&body);
            request.prompt = builder.finish();
        }
        request
    }
}
