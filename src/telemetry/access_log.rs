use crate::exchange::{Ending, Outcome, OutcomeListener};

/// Where the lines written per request come from; `--access-log` switches them apart from the
/// others.
pub(super) const TARGET: &str = "epp::access";

/// Writes a line per request: where it was sent, or why it was not. A line names the request and
/// what was decided, never its content.
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
            model = request.incoming_model,
            "x-request-id" = request.id,
            resolvedTargetModel = request.target_model,
            criticality,
            objective = request.objective().unwrap_or_default(),
            targetModel = request.target_model,
            endpoint = endpoint.description().as_str(),
            cachedBlocks = cached,
            promptBlocks = blocks,
            "Request handled"
        );
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        if let Some(refusal) = outcome.refusal {
            tracing::info!(
                target: TARGET,
                code = refusal.error.code.as_str(),
                "x-request-id" = outcome.request.id,
                reason = %refusal.error.message,
                "{}",
                if outcome.ending == Ending::Evicted { "Request evicted" } else { "Request refused" }
            );
        }
    }
}
