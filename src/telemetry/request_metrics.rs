use std::sync::Arc;

use super::{Completion, Metrics, RequestSeries};
use crate::exchange::{Ending, Outcome, OutcomeListener};

/// A response with this status or a higher one is the endpoint's error.
pub(super) const FIRST_ERROR_STATUS: u16 = 400;

impl Metrics {
    fn series_of(&self, outcome: &Outcome<'_>) -> Arc<RequestSeries> {
        let request = outcome.request;
        outcome.kept.get_or_make(|| {
            let (model, target) = (&request.incoming_model, &request.target_model);
            self.request_series(model, target, request.fairness_id(), request.priority)
        })
    }

    /// What is known of a request that was scheduled, or was to be.
    fn scheduled(&self, outcome: &Outcome<'_>) {
        if let Some(took) = outcome.times.scheduling {
            let endpoint = outcome.endpoint.map(|e| &e.spec);
            self.scheduler(took.as_secs_f64(), &outcome.request.target_model, endpoint);
        }
    }
}

/// Requests without a body (`GET /v1/models`) are no inference requests: only their errors and
/// endings are counted, as in the reference.
impl OutcomeListener for Metrics {
    fn routed(&self, so_far: &Outcome<'_>) {
        if !so_far.has_body {
            return;
        }
        self.scheduled(so_far);
        let series = self.series_of(so_far);
        series.accepted(so_far.request.body_bytes);
        series.running_inc();
        if let Some(rule) = so_far.rewritten_by {
            let request = so_far.request;
            self.model_rewritten(rule, &request.incoming_model, &request.target_model);
        }
        if let Some(decided) = so_far.times.decided {
            self.request_processing(decided.since(so_far.times.received).as_secs_f64());
        }
    }

    fn answer_begins(&self, so_far: &Outcome<'_>) {
        if let (true, Some(ttft)) = (so_far.has_body, so_far.times.ttft()) {
            self.series_of(so_far).first_token(ttft.as_secs_f64(), so_far.response.streaming);
        }
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        self.ended(outcome.ending);
        if let (Ending::Evicted, Some(refusal)) = (outcome.ending, outcome.refusal) {
            let series = self.series_of(outcome);
            series.running_dec();
            series.error(refusal.error.code.as_str());
            return;
        }
        if let Some(refusal) = outcome.refusal {
            self.scheduled(outcome);
            let request = outcome.request;
            let (model, target) = (&request.incoming_model, &request.target_model);
            let series = self.request_series(model, target, request.fairness_id(), 0);
            series.error(refusal.error.code.as_str());
            return;
        }
        if outcome.ending == Ending::CutBeforeDecision || !outcome.has_body {
            return;
        }
        let series = self.series_of(outcome);
        series.running_dec();
        let response = outcome.response;
        if response.status.is_some_and(|status| status >= FIRST_ERROR_STATUS) {
            series.error("ModelServerError");
        } else if matches!(outcome.ending, Ending::Complete | Ending::Unobserved) {
            let request = outcome.request;
            self.models_are_real(&request.incoming_model, &request.target_model);
        }
        series.chunk_intervals(&response.intervals);
        if outcome.ending == Ending::Complete
            && let Some(took) = outcome.times.response_work(response.streaming)
        {
            self.response_processing(took.as_secs_f64());
        }
        let usage = response.usage.unwrap_or_default();
        let completion = Completion {
            duration_s: outcome.times.duration().as_secs_f64(),
            ttft_s: outcome.times.ttft().map(|ttft| ttft.as_secs_f64()),
            streaming: response.streaming,
            response_bytes: response.bytes,
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            cached_tokens: usage.cached,
        };
        match outcome.ending {
            Ending::Complete => series.completed(&completion),
            // What was delivered before the end is counted all the same.
            Ending::CutInResponse => series.tokens(&completion),
            // How long it took is known, but nothing of what it said.
            Ending::Unobserved => series.went_unseen(completion.duration_s),
            _ => {}
        }
    }
}
