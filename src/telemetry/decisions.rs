use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::scheduling::Explanation;

/// One request and every step of how its endpoint was chosen.
#[derive(Debug, Serialize)]
pub struct DecisionRecord {
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    pub request_id: String,
    pub model: String,
    /// `ip:port` of the endpoint chosen; `None` where none was.
    pub endpoint: Option<String>,
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
    pub fn push(
        &self,
        request_id: &str,
        model: &str,
        endpoint: Option<&str>,
        explanation: Explanation,
    ) {
        if !self.is_on() {
            return;
        }
        let record = Arc::new(DecisionRecord {
            time: Timestamp::now(),
            request_id: request_id.to_owned(),
            model: model.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            explanation,
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

    #[test]
    fn the_newest_are_kept() {
        let log = DecisionLog::new(2);
        for id in ["1", "2", "3"] {
            log.push(id, "m", Some("127.0.0.1:8000"), Explanation::default());
        }
        let ids: Vec<String> = log.recent().iter().map(|r| r.request_id.clone()).collect();
        assert_eq!(ids, ["3", "2"]);
    }

    #[test]
    fn a_log_without_size_keeps_nothing() {
        let log = DecisionLog::new(0);
        log.push("1", "m", None, Explanation::default());
        assert!(!log.is_on() && log.recent().is_empty());
    }

    #[test]
    fn a_record_reads_as_json() {
        let log = DecisionLog::new(1);
        let explanation = Explanation { candidates: vec!["a:1".into()], profiles: Vec::new() };
        log.push("id", "m", None, explanation);
        let json = serde_json::to_value(&*log.recent()[0]).unwrap();
        assert_eq!(json["request_id"], "id");
        assert_eq!(json["endpoint"], serde_json::Value::Null);
        assert_eq!(json["explanation"]["candidates"][0], "a:1");
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
    }
}
