use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::exchange::{Outcome, OutcomeListener};
use crate::scheduling::Explanation;

/// One request, every step of how its endpoint was chosen, or why none was, and what came of it.
#[derive(Debug, Serialize)]
pub struct DecisionRecord {
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    pub request_id: String,
    /// The model as the endpoint is asked for it.
    pub model: String,
    /// `namespace/name` of the endpoint chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its `ip:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why the request was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// `None` where it was refused before candidates were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// How the exchange ended; empty while it goes on.
    #[serde(serialize_with = "what_came")]
    pub ended: OnceLock<Ended>,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub code: &'static str,
    pub message: String,
}

/// How an exchange ended, and what its endpoint reported.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    pub ending: &'static str,
    pub duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

fn as_text<S: serde::Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(time)
}

fn what_came<S: serde::Serializer>(ended: &OnceLock<Ended>, s: S) -> Result<S::Ok, S::Error> {
    ended.get().serialize(s)
}

/// The last decisions with their explanations, for the admin page. Off unless it was given a
/// size: an explanation costs time and memory on every request.
#[derive(Debug)]
pub struct DecisionLog {
    capacity: usize,
    records: Mutex<VecDeque<Arc<DecisionRecord>>>,
}

impl DecisionLog {
    /// Keeps the last `capacity` decisions; 0 keeps none.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, records: Mutex::default() }
    }

    /// True where explanations are wanted at all.
    pub fn is_on(&self) -> bool {
        self.capacity > 0
    }

    /// Adds a decision, forgetting the oldest one where the log is full.
    fn push(&self, outcome: &Outcome<'_>) {
        if !self.is_on() {
            return;
        }
        let explanation = match (outcome.decision, outcome.refusal) {
            (Some(decision), _) => decision.explanation.as_deref(),
            (_, Some(refusal)) => refusal.explanation.as_deref(),
            _ => None,
        };
        let record = Arc::new(DecisionRecord {
            time: Timestamp::now(),
            request_id: outcome.request.id.clone(),
            model: outcome.request.target_model.clone(),
            endpoint: outcome.endpoint.map(|e| e.id.to_string()),
            address: outcome.endpoint.map(|e| e.host_port.to_string()),
            refused: outcome.refusal.map(|refusal| Refused {
                code: refusal.error.code.as_str(),
                message: refusal.error.message.to_string(),
            }),
            explanation: explanation.cloned(),
            ended: OnceLock::new(),
        });
        let mut records = self.records.lock();
        let oldest = if records.len() == self.capacity { records.pop_front() } else { None };
        records.push_back(record);
        drop(records);
        // An explanation is many small allocations; they are given back outside the lock.
        drop(oldest);
    }

    /// What is kept, newest first.
    pub fn recent(&self) -> Vec<Arc<DecisionRecord>> {
        self.records.lock().iter().rev().cloned().collect()
    }
}

impl OutcomeListener for DecisionLog {
    fn routed(&self, so_far: &Outcome<'_>) {
        if so_far.decision.is_some() {
            self.push(so_far);
        }
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        if outcome.refusal.is_some() {
            self.push(outcome);
        }
        let is_this = |record: &&Arc<DecisionRecord>| {
            record.request_id == outcome.request.id && record.ended.get().is_none()
        };
        let record = self.records.lock().iter().rev().find(is_this).cloned();
        let Some(record) = record else { return };
        let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let usage = outcome.response.usage;
        // Set by nobody else: the record is one of this exchange.
        _ = record.ended.set(Ended {
            ending: outcome.ending.as_str(),
            duration_ms: ms(outcome.times.duration()),
            ttft_ms: outcome.times.ttft().map(ms),
            status: outcome.response.status,
            prompt_tokens: usage.map(|u| u.prompt),
            completion_tokens: usage.map(|u| u.completion),
            cached_tokens: usage.and_then(|u| u.cached),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RequestError;
    use crate::exchange::{Ending, Kept, Response, Times};
    use crate::scheduling::{InferenceRequest, Refusal};

    /// A request that was refused after two candidates were looked at.
    fn refuse(log: &DecisionLog, id: &str) {
        let request = InferenceRequest {
            id: id.to_owned(),
            target_model: "m".to_owned(),
            ..InferenceRequest::default()
        };
        let explanation = Explanation {
            candidates: vec!["127.0.0.1:8000".into()],
            in_flight: vec![3],
            ..Explanation::default()
        };
        let error = RequestError::no_endpoint_left();
        let refusal = Refusal { error, explanation: Some(Box::new(explanation)) };
        log.ended(&Outcome {
            request: &request,
            has_body: true,
            endpoint: None,
            decision: None,
            refusal: Some(&refusal),
            rewritten_by: None,
            times: Times::default(),
            response: &Response::default(),
            ending: Ending::Refused,
            kept: &Kept::default(),
        });
    }

    #[test]
    fn the_newest_are_kept() {
        let log = DecisionLog::new(2);
        for id in ["1", "2", "3"] {
            refuse(&log, id);
        }
        let ids: Vec<String> = log.recent().iter().map(|r| r.request_id.clone()).collect();
        assert_eq!(ids, ["3", "2"]);
    }

    #[test]
    fn a_log_without_size_keeps_nothing() {
        let log = DecisionLog::new(0);
        refuse(&log, "1");
        assert!(!log.is_on() && log.recent().is_empty());
    }

    #[test]
    fn a_refused_request_is_explained_as_json() {
        let log = DecisionLog::new(1);
        refuse(&log, "id");
        let json = serde_json::to_value(&*log.recent()[0]).unwrap();
        assert_eq!(json["request_id"], "id");
        assert_eq!(json["model"], "m");
        assert_eq!(json["refused"]["code"], "ResourceExhausted");
        assert_eq!(json["explanation"]["candidates"][0], "127.0.0.1:8000");
        assert_eq!(json["explanation"]["in_flight"][0], 3);
        assert_eq!(json["ended"]["ending"], "refused");
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
        assert!(json.get("endpoint").is_none());
    }
}
