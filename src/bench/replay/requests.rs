//! A request's way through a simulation: picked, submitted, answered or lost.

use super::outcome::Finished;
use super::policy::{Ask, Held, Pick};
use super::simulation::{Due, Run};
use crate::sim::{Event, EventKind, Nanos, Prompt, RequestSpec, SubmitError};

/// A request from when it is asked on.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) session: usize,
    pub(super) index: usize,
    at: Nanos,
    /// It was asked while a fault was in force that the router had time to notice.
    in_fault: bool,
}

/// A request that a worker holds.
#[derive(Debug)]
pub(super) struct InProgress {
    pub(super) asked: Asked,
    /// Prompt tokens that the worker has to compute for it, until its first token.
    pending: u64,
    held: Held,
}

impl Run<'_> {
    pub(super) fn event(&mut self, worker: usize, event: &Event) {
        match event.kind {
            EventKind::FirstToken { .. } => {
                if let Some(request) = self.in_progress[worker].get_mut(&event.id) {
                    self.pending[worker] -= std::mem::take(&mut request.pending);
                    request.held.answer_begins();
                }
            }
            EventKind::Token => {}
            EventKind::Finished(summary) => {
                let Some(request) = self.in_progress[worker].remove(&event.id) else { return };
                let finished = Finished {
                    worker,
                    asked_at: request.asked.at,
                    first_token_at: summary.first_token_at,
                    at: event.at,
                    prompt_tokens: summary.prompt_tokens,
                    cached_tokens: summary.cached_tokens,
                    output_tokens: summary.output_tokens,
                    preemptions: summary.preemptions,
                };
                self.counts.finished(finished, self.simulation.slo);
                self.ended(event.at, &request.asked);
            }
        }
    }

    pub(super) fn request(&mut self, now: Nanos, session: usize, index: usize) {
        let in_fault = self.simulation.faults.in_force(now);
        self.counts.asked(in_fault);
        let asked = Asked { session, index, at: now, in_fault };
        let request = &self.simulation.trace.sessions[session].requests[index];
        let answer = request.answer.map(|stream| (stream, request.output_tokens));
        let block_size = self.simulation.engine.block_size;
        let blocks = Prompt {
            len_tokens: u32::try_from(request.prompt.tokens()).unwrap_or(u32::MAX),
            block_hashes: request.prompt.block_hashes(answer, block_size),
        };
        self.number += 1;
        let ask = Ask {
            number: self.number,
            prompt: &request.prompt,
            blocks: &blocks,
            output_tokens: request.output_tokens,
            now,
        };
        let pick = match self.policy.pick(ask, &self.fleet, &self.pending) {
            Ok(pick) => pick,
            Err(e) => return self.failed(now, &asked, &format!("router: {}", e.code.as_str())),
        };
        let Some(worker) = self.fleet.worker_of(&pick.endpoint) else {
            return self.failed(now, &asked, "picked a worker that is gone");
        };
        if let Some(share) = pick.believed_cached {
            self.counts.has_belief = true;
            self.counts.believed_tokens += share * f64::from(blocks.len_tokens);
        }
        let spec = RequestSpec {
            prompt: blocks,
            output_tokens: request.output_tokens,
            ..Default::default()
        };
        self.submit(now, worker, spec, asked, pick);
    }

    /// Sends a request to a worker, whatever state that is in.
    fn submit(&mut self, now: Nanos, worker: usize, spec: RequestSpec, asked: Asked, pick: Pick) {
        self.note_return(now, worker);
        let state = &mut self.fleet.workers[worker];
        if state.trouble.down {
            return self.failed(now, &asked, "worker down");
        }
        if state.trouble.hangs {
            let given_up_at = now.saturating_add(self.simulation.faults.patience);
            self.hung.insert(self.number, (asked, pick.held));
            return self.at(given_up_at, Due::GiveUp(self.number));
        }
        if state.trouble.fails_now() {
            return self.failed(now, &asked, "worker: error 500");
        }
        let cached = state.engine.cached_prefix_tokens(&spec.prompt);
        let pending = u64::from(spec.prompt.len_tokens.saturating_sub(cached));
        match state.engine.submit(now, spec) {
            Ok(id) => {
                self.pending[worker] += pending;
                let request = InProgress { asked, pending, held: pick.held };
                self.in_progress[worker].insert(id, request);
                self.schedule(now, worker);
            }
            Err(SubmitError::EmptyPrompt) => self.failed(now, &asked, "worker: empty prompt"),
            Err(SubmitError::TooLong { .. }) => {
                self.failed(now, &asked, "worker: prompt too long");
            }
        }
    }

    /// The client of a request that a worker left hanging has had enough.
    pub(super) fn give_up(&mut self, now: Nanos, number: u64) {
        if let Some((asked, _)) = self.hung.remove(&number) {
            self.failed(now, &asked, "no answer");
        }
    }

    pub(super) fn failed(&mut self, now: Nanos, asked: &Asked, kind: &str) {
        self.counts.failed(kind, asked.in_fault);
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
