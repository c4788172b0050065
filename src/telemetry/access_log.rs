use super::cardinality::cut;
use crate::exchange::{Ending, Outcome, OutcomeListener};

/// Where the lines written per request come from; `--access-log` switches them apart from the
/// others.
pub(super) const TARGET: &str = "epp::access";

/// Writes a line when a request was sent to an endpoint and one when that has ended, or one that
/// says why it was refused. Lines name the request and what was decided, never its content.
#[derive(Debug)]
pub struct AccessLog;

impl OutcomeListener for AccessLog {
    /// The line that the KServe tutorial tells users to look for, with the fields it had at
    /// v0.2.0.
    fn routed(&self, so_far: &Outcome<'_>) {
        let (Some(decision), Some(endpoint)) = (so_far.decision, so_far.endpoint) else { return };
        let request = so_far.request;
        let criticality = match request.priority {
            p if p < 0 => "Sheddable",
            0 => "Standard",
            _ => "Critical",
        };
        let (cached, blocks) = decision.prefix_blocks.unwrap_or_default();
        tracing::info!(
            target: TARGET,
            model = cut(&request.incoming_model),
            "x-request-id" = cut(&request.id),
            resolvedTargetModel = cut(&request.target_model),
            criticality,
            objective = cut(request.objective().unwrap_or_default()),
            targetModel = cut(&request.target_model),
            endpoint = endpoint.description().as_str(),
            cachedBlocks = cached,
            promptBlocks = blocks,
            "Request handled"
        );
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        let id = cut(&outcome.request.id);
        match (outcome.refusal, outcome.endpoint) {
            (Some(refusal), _) => tracing::info!(
                target: TARGET,
                code = refusal.error.code.as_str(),
                "x-request-id" = id,
                reason = %refusal.error.message,
                "{}",
                if outcome.ending == Ending::Evicted { "Request evicted" } else { "Request refused" }
            ),
            (None, Some(endpoint)) => ended(outcome, id, &endpoint.host_port),
            (None, None) => {}
        }
    }
}

/// What became of a request that was sent to an endpoint: times in milliseconds, -1 where they are
/// unknown; 0 tokens where the endpoint did not tell.
fn ended(outcome: &Outcome<'_>, id: &str, endpoint: &str) {
    let ms = |duration: std::time::Duration| duration.as_micros() as f64 / 1e3;
    let response = outcome.response;
    let usage = response.usage.unwrap_or_default();
    tracing::info!(
        target: TARGET,
        endpoint,
        "x-request-id" = id,
        ending = outcome.ending.as_str(),
        status = response.status.unwrap_or_default(),
        durationMs = ms(outcome.times.duration()),
        ttftMs = outcome.times.ttft().map_or(-1.0, ms),
        promptTokens = usage.prompt,
        completionTokens = usage.completion,
        cachedTokens = usage.cached.unwrap_or_default(),
        "Request ended"
    );
}
