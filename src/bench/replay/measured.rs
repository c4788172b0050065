//! What a recording measured itself, in the figures of a simulation.

use super::outcome::{Counts, Finished, Outcome, Slo};
use crate::bench::trace::Trace;

/// `None` where the trace is no recording. The hit rate is of the requests whose endpoint told of
/// its cache, and not a number where none did.
pub(super) fn outcome(trace: &Trace, slo: Slo) -> Option<Outcome> {
    let origin = trace.origin.as_deref()?;
    let mut counts = Counts::new(origin.endpoints.max(1), trace);
    let (mut told, mut cached) = (0_u64, 0_u64);
    let (mut believed_of, mut believed) = (0_u64, 0_u64);
    for session in &trace.sessions {
        for request in &session.requests {
            let Some(recorded) = &request.recorded else { continue };
            if !recorded.is_answered {
                counts.failed("not answered", false, request);
                continue;
            }
            let prompt = u64::from(recorded.prompt_tokens);
            if let Some(tokens) = recorded.cached_tokens {
                told += prompt;
                cached += u64::from(tokens);
            }
            if let Some(tokens) = recorded.predicted_tokens {
                believed_of += prompt;
                believed += u64::from(tokens).min(prompt);
            }
            // Endpoints are numbered from 1 on; 0 is all of those that came too late for one.
            let worker = recorded.endpoint.unwrap_or(0).saturating_sub(1) as usize;
            let asked_at = session.starts;
            counts.finished(
                Finished {
                    worker,
                    computed_by: worker,
                    asked_at,
                    first_token_at: recorded.ttft.map(|ttft| asked_at.saturating_add(ttft)),
                    at: asked_at.saturating_add(recorded.duration),
                    prompt_tokens: recorded.prompt_tokens,
                    cached_tokens: recorded.cached_tokens.unwrap_or(0),
                    received_tokens: 0,
                    output_tokens: request.output_tokens,
                    preemptions: 0,
                },
                slo,
                request,
            );
        }
    }
    let share = |part: u64, of: u64| if of == 0 { f64::NAN } else { part as f64 / of as f64 };
    Some(Outcome {
        hit_rate: share(cached, told),
        believed_hit_rate: (believed_of > 0).then(|| share(believed, believed_of)),
        ..counts.outcome()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::{Origin, Recorded, Session, TraceRequest};

    const MS: u64 = 1_000_000;

    #[test]
    fn what_was_measured_is_told_in_the_same_figures() {
        let request = |ttft: Option<u64>, duration, cached_tokens, is_answered| TraceRequest {
            output_tokens: 11,
            recorded: Some(Recorded {
                ttft: ttft.map(|ms| ms * MS),
                duration: duration * MS,
                prompt_tokens: 100,
                cached_tokens,
                predicted_tokens: Some(20),
                endpoint: Some(1),
                is_answered,
            }),
            ..Default::default()
        };
        let requests = [
            request(Some(100), 300, Some(50), true),
            request(Some(500), 600, Some(0), true),
            // In one piece: 10 later tokens may take 200 ms beside the 400.
            request(None, 600, None, true),
            request(None, 601, None, true),
            request(Some(1), 2, None, false),
        ];
        let sessions =
            requests.into_iter().map(|r| Session { starts: MS, requests: vec![r] }).collect();
        let origin = Some(Box::new(Origin { endpoints: 2, ..Origin::default() }));
        let trace = Trace { name: "r".into(), sessions, origin };
        let o = outcome(&trace, Slo { ttft: 400 * MS, itl: 20 * MS }).unwrap();
        assert_eq!((o.finished, o.failed, o.ttft.count), (4, 1, 2));
        assert_eq!((o.hit_rate, o.believed_hit_rate), (0.25, Some(0.2)));
        assert_eq!(o.good_share, 2.0 / 5.0);
        assert_eq!(o.request_imbalance, 2.0);
        assert!(outcome(&Trace::default(), Slo { ttft: 1, itl: 1 }).is_none());
    }
}
