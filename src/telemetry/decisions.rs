use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::endpoints::Endpoint;
use crate::scheduling::{Explanation, InferenceRequest};

/// One request and every step of how its endpoint was chosen.
#[derive(Debug, Serialize)]
pub struct DecisionRecord {
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    pub request_id: String,
    /// The model as the worker is asked for it.
    pub model: String,
    /// `namespace/name` of the endpoint chosen.
    pub endpoint: String,
    /// Its `ip:port`.
    pub address: String,
    pub explanation: Explanation,
}

fn as_text<S: serde::Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(time)
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
    pub fn push(&self, request: &InferenceRequest, endpoint: &Endpoint, explanation: &Explanation) {
        if !self.is_on() {
            return;
        }
        let record = Arc::new(DecisionRecord {
            time: Timestamp::now(),
            request_id: request.id.clone(),
            model: request.target_model.clone(),
            endpoint: endpoint.id.to_string(),
            address: endpoint.host_port.to_string(),
            explanation: explanation.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::test_support::endpoint;

    fn push(log: &DecisionLog, id: &str) {
        let request = InferenceRequest {
            id: id.to_owned(),
            target_model: "m".to_owned(),
            ..InferenceRequest::default()
        };
        let explanation =
            Explanation { candidates: vec!["127.0.0.1:8000".into()], profiles: Vec::new() };
        log.push(&request, &endpoint("w", 1), &explanation);
    }

    #[test]
    fn the_newest_are_kept() {
        let log = DecisionLog::new(2);
        for id in ["1", "2", "3"] {
            push(&log, id);
        }
        let ids: Vec<String> = log.recent().iter().map(|r| r.request_id.clone()).collect();
        assert_eq!(ids, ["3", "2"]);
    }

    #[test]
    fn a_log_without_size_keeps_nothing() {
        let log = DecisionLog::new(0);
        push(&log, "1");
        assert!(!log.is_on() && log.recent().is_empty());
    }

    #[test]
    fn a_record_reads_as_json() {
        let log = DecisionLog::new(1);
        push(&log, "id");
        let json = serde_json::to_value(&*log.recent()[0]).unwrap();
        assert_eq!(json["request_id"], "id");
        assert_eq!(json["model"], "m");
        assert_eq!(json["endpoint"], "default/w");
        assert_eq!(json["address"], "127.0.0.1:8000");
        assert_eq!(json["explanation"]["candidates"][0], "127.0.0.1:8000");
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
    }
}
