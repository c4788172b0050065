//! A request's way through a simulation: picked, submitted, answered or lost.
//!
//! Where another worker computes the prompt, the one that answers has the request first, hands it
//! on for one token, and takes it up when that is there, as llm-d's sidecar does.

use super::in_progress::{Asked, InProgress, Placed, Prefilled, Stage};
use super::outcome::Finished;
use super::policy::{Ask, Pick};
use super::routed::End;
use super::simulation::{Due, Run};
use crate::bench::trace::TraceRequest;
use crate::scheduling::TokenUsage;
use crate::sim::{
    Event, EventKind, Nanos, PrefillState, Prompt, RequestId, RequestSpec, SubmitError, Summary,
};

impl<'a> Run<'a> {
    pub(super) fn event(&mut self, worker: usize, event: &Event) {
        match event.kind {
            EventKind::FirstToken { .. } => {
                if let Some(request) = self.in_progress[worker].get_mut(&event.id) {
                    self.pending[worker] -= std::mem::take(&mut request.pending);
                    if let Stage::Answer { begun, .. } = &mut request.stage {
                        *begun = true;
                        request.placed.held.answer_begins(event.at);
                    }
                }
            }
            EventKind::Token => {}
            EventKind::Finished(summary) => {
                let Some(request) = self.in_progress[worker].remove(&event.id) else { return };
                match request.stage {
                    Stage::Prompt { decode, next } => {
                        let cached_tokens = summary.cached_tokens;
                        let prefilled = Some(Prefilled { worker, cached_tokens });
                        self.submit(event.at, decode, next, request.placed, prefilled);
                    }
                    Stage::Answer { prefilled, .. } => {
                        self.answered(event.at, worker, summary, prefilled, request.placed);
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        now: Nanos,
        worker: usize,
        summary: Summary,
        prefilled: Option<Prefilled>,
        placed: Placed,
    ) {
        let cached_tokens = prefilled.map_or(summary.cached_tokens, |p| p.cached_tokens);
        let finished = Finished {
            worker,
            computed_by: prefilled.map_or(worker, |p| p.worker),
            asked_at: placed.asked.at,
            first_token_at: Some(summary.first_token_at),
            at: now,
            prompt_tokens: summary.prompt_tokens,
            cached_tokens,
            received_tokens: summary.received_tokens,
            output_tokens: summary.output_tokens,
            preemptions: summary.preemptions,
        };
        self.counts.finished(finished, self.simulation.slo, self.requested(&placed.asked));
        let usage = TokenUsage {
            prompt: u64::from(summary.prompt_tokens),
            completion: u64::from(summary.output_tokens),
            cached: Some(u64::from(cached_tokens)),
        };
        placed.held.end(now, End::Complete(usage));
        self.ended(now, &placed.asked);
    }

    pub(super) fn request(&mut self, now: Nanos, session: usize, index: usize) {
        let in_fault = self.simulation.faults.in_force(now);
        self.number += 1;
        let asked = Asked { number: self.number, session, index, at: now, in_fault };
        let request = self.requested(&asked);
        self.counts.asked(in_fault, request);
        let answer = request.answer.map(|stream| (stream, request.output_tokens));
        let block_size = self.simulation.engine.block_size;
        let blocks = Prompt {
            len_tokens: u32::try_from(request.prompt.tokens()).unwrap_or(u32::MAX),
            block_hashes: request.prompt.block_hashes(answer, block_size),
        };
        let ask = Ask { number: self.number, request, blocks: &blocks, now };
        let answer = self.policy.ask(ask, &self.fleet, &self.pending);
        let spec = RequestSpec {
            prompt: blocks,
            output_tokens: request.output_tokens,
            ..Default::default()
        };
        self.answer(now, answer, spec, asked);
    }

    /// What the trace says of a request.
    fn requested(&self, asked: &Asked) -> &'a TraceRequest {
        &self.simulation.trace.sessions[asked.session].requests[asked.index]
    }

    /// Sends a request where it was picked to go.
    pub(super) fn place(&mut self, now: Nanos, pick: Pick, spec: RequestSpec, asked: Asked) {
        if let Some(share) = pick.believed_cached {
            self.counts.has_belief = true;
            self.counts.believed_tokens += share * f64::from(spec.prompt.len_tokens);
        }
        let placed = Placed { asked, held: pick.held };
        let Some(worker) = self.fleet.worker_of(&pick.endpoint) else {
            return self.lost(now, placed, "picked a worker that is gone", End::Error(503));
        };
        let Some(prefill) = &pick.prefill else {
            return self.submit(now, worker, spec, placed, None);
        };
        let Some(prefill) = self.fleet.worker_of(prefill) else {
            return self.lost(now, placed, "picked a worker that is gone", End::Error(502));
        };
        let Some(placed) = self.pass_trouble(now, worker, placed, "worker") else { return };
        let Some(placed) = self.pass_trouble(now, prefill, placed, "prefill worker") else {
            return;
        };
        let next = RequestSpec { prefill: PrefillState::Remote { ready_at: now }, ..spec.clone() };
        let leg = RequestSpec { output_tokens: 1, ..spec };
        self.hand_in(now, prefill, leg, placed, Stage::Prompt { decode: worker, next });
    }

    /// Sends a request to the worker that is to answer it. Where its prompt was computed by
    /// another, it has had it from the start.
    fn submit(
        &mut self,
        now: Nanos,
        worker: usize,
        spec: RequestSpec,
        placed: Placed,
        prefilled: Option<Prefilled>,
    ) {
        let placed = match prefilled {
            Some(_) => placed,
            None => match self.pass_trouble(now, worker, placed, "worker") {
                Some(placed) => placed,
                None => return,
            },
        };
        self.hand_in(now, worker, spec, placed, Stage::Answer { prefilled, begun: false });
    }

    /// Lets a request through to a worker's engine, or does to it what is wrong with the worker.
    fn pass_trouble(
        &mut self,
        now: Nanos,
        worker: usize,
        placed: Placed,
        what: &str,
    ) -> Option<Placed> {
        self.note_pick(now, worker);
        let trouble = &mut self.fleet.workers[worker].trouble;
        if trouble.down {
            self.lost(now, placed, &format!("{what} down"), End::Error(503));
        } else if trouble.hangs {
            let given_up_at = now.saturating_add(self.simulation.faults.patience);
            trouble.hung += 1;
            let number = placed.asked.number;
            self.hung.insert(number, (worker, placed));
            self.at(given_up_at, Due::GiveUp(number));
        } else if trouble.fails_now() {
            self.lost(now, placed, &format!("{what}: error 500"), End::Error(500));
        } else {
            return Some(placed);
        }
        None
    }

    fn hand_in(
        &mut self,
        now: Nanos,
        worker: usize,
        spec: RequestSpec,
        placed: Placed,
        stage: Stage,
    ) {
        let engine = &mut self.fleet.workers[worker].engine;
        let pending = match spec.prefill {
            PrefillState::Remote { .. } => 0,
            PrefillState::Local => {
                let cached = engine.cached_prefix_tokens(&spec.prompt);
                u64::from(spec.prompt.len_tokens.saturating_sub(cached))
            }
        };
        match engine.submit(now, spec) {
            Ok(id) => {
                self.pending[worker] += pending;
                let number = placed.asked.number;
                self.in_progress[worker].insert(id, InProgress { placed, pending, stage });
                self.schedule(now, worker);
                if self.policy.routing().is_some_and(|routing| routing.evicts()) {
                    // From now on it is woken when it has to end, which may be at once.
                    self.woken.push(number);
                }
            }
            Err(e) => {
                let kind = match e {
                    SubmitError::EmptyPrompt => "worker: empty prompt",
                    SubmitError::TooLong { .. } => "worker: prompt too long",
                };
                self.lost(now, placed, kind, End::Error(400));
            }
        }
    }

    /// A worker died with this request.
    pub(super) fn lost_with_worker(&mut self, now: Nanos, request: InProgress) {
        let (kind, end) = match request.stage {
            Stage::Answer { begun: true, .. } => ("worker lost", End::Cut),
            Stage::Answer { begun: false, .. } => ("worker lost", End::Error(503)),
            Stage::Prompt { .. } => ("prefill worker lost", End::Error(502)),
        };
        self.lost(now, request.placed, kind, end);
    }

    /// The prompts that are computed for a worker, with the workers that compute them.
    pub(super) fn computed_for(&self, decode: usize) -> Vec<(usize, RequestId)> {
        let mut found = Vec::new();
        for (worker, requests) in self.in_progress.iter().enumerate() {
            for (&id, request) in requests {
                if matches!(request.stage, Stage::Prompt { decode: d, .. } if d == decode) {
                    found.push((worker, id));
                }
            }
        }
        // A hash map's order differs from run to run.
        found.sort_unstable();
        found
    }

    /// The worker that a prompt is computed for is gone, and with it its own worker's caller.
    pub(super) fn orphaned(&mut self, now: Nanos, worker: usize, id: RequestId) {
        if let Some(request) = self.drop_request(now, worker, id) {
            self.lost(now, request.placed, "worker lost", End::Error(503));
        }
    }

    /// Takes a request away from the worker that has it.
    pub(super) fn drop_request(
        &mut self,
        now: Nanos,
        worker: usize,
        id: RequestId,
    ) -> Option<InProgress> {
        let request = self.in_progress[worker].remove(&id)?;
        self.fleet.workers[worker].engine.cancel(id);
        self.pending[worker] -= request.pending;
        self.schedule(now, worker);
        Some(request)
    }

    /// The client of a request that a worker left hanging has had enough.
    pub(super) fn give_up(&mut self, now: Nanos, number: u64) {
        if let Some((worker, placed)) = self.hung.remove(&number) {
            self.fleet.workers[worker].trouble.hung -= 1;
            self.lost(now, placed, "no answer", End::GivenUp);
        }
    }

    pub(super) fn lost(&mut self, now: Nanos, placed: Placed, kind: &str, end: End) {
        placed.held.end(now, end);
        self.failed(now, &placed.asked, kind);
    }

    pub(super) fn failed(&mut self, now: Nanos, asked: &Asked, kind: &str) {
        self.counts.failed(kind, asked.in_fault, self.requested(asked));
        self.ended(now, asked);
    }

    /// A request is over; the session goes on.
    fn ended(&mut self, now: Nanos, asked: &Asked) {
        self.left -= 1;
        let session = &self.simulation.trace.sessions[asked.session];
        if let Some(next) = session.requests.get(asked.index + 1) {
            let earliest = self.simulation.starts(asked.session) + next.earliest;
            let at = earliest.max(now + next.think);
            self.at(at, Due::Request { session: asked.session, index: asked.index + 1 });
        }
    }
}
