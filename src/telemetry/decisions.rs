use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::decision_record::DecisionRecord;
use crate::exchange::{Outcome, OutcomeListener};

/// What all records together may take, bytes. With many endpoints fewer decisions are kept.
const MAX_BYTES: usize = 32 << 20;

/// The last decisions, for the debug pages: a ring of bounded size.
#[derive(Debug)]
pub struct DecisionLog {
    capacity: usize,
    max_bytes: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// With the size of each, which does not change.
    records: VecDeque<(usize, Arc<DecisionRecord>)>,
    bytes: usize,
}

impl DecisionLog {
    /// Keeps the last `capacity` decisions; 0 keeps none.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, max_bytes: MAX_BYTES, ring: Mutex::default() }
    }

    /// True where decisions are kept at all.
    pub fn is_on(&self) -> bool {
        self.capacity > 0
    }

    /// Adds a record, forgetting the oldest ones where there is no room.
    fn push(&self, record: Arc<DecisionRecord>) {
        let size = record.size();
        let mut forgotten: SmallVec<[_; 2]> = SmallVec::new();
        let mut ring = self.ring.lock();
        while ring.records.len() >= self.capacity || ring.bytes + size > self.max_bytes {
            let Some((size, oldest)) = ring.records.pop_front() else { break };
            ring.bytes -= size;
            forgotten.push(oldest);
        }
        ring.bytes += size;
        ring.records.push_back((size, record));
        drop(ring);
        // A record is several allocations; they are given back outside the lock.
        drop(forgotten);
    }

    /// What is kept, newest first.
    pub fn recent(&self) -> Vec<Arc<DecisionRecord>> {
        self.ring.lock().records.iter().rev().map(|(_, record)| record.clone()).collect()
    }
}

impl OutcomeListener for DecisionLog {
    fn routed(&self, so_far: &Outcome<'_>) {
        if self.is_on() && so_far.decision.is_some() {
            self.push(so_far.kept.get_or_make(|| Arc::new(DecisionRecord::of(so_far))));
        }
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        if !self.is_on() {
            return;
        }
        match outcome.kept.get::<DecisionRecord>() {
            Some(record) => record.end(outcome),
            None if outcome.refusal.is_some() => {
                let record = DecisionRecord::of(outcome);
                record.end(outcome);
                self.push(Arc::new(record));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RequestError;
    use crate::exchange::{Ending, Kept, Response, Times};
    use crate::scheduling::{InferenceRequest, Refusal};

    /// A request that was refused.
    fn refuse(log: &DecisionLog, id: &str) {
        let request = InferenceRequest {
            id: id.to_owned(),
            target_model: "m".to_owned(),
            ..InferenceRequest::default()
        };
        let refusal = Refusal::from(RequestError::no_endpoint_left());
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
        let ids: Vec<String> = log.recent().iter().map(|r| r.request_id().to_owned()).collect();
        assert_eq!(ids, ["3", "2"]);
    }

    #[test]
    fn a_log_without_size_keeps_nothing() {
        let log = DecisionLog::new(0);
        refuse(&log, "1");
        assert!(!log.is_on() && log.recent().is_empty());
    }

    #[test]
    fn the_oldest_go_where_records_take_too_much() {
        let log = DecisionLog { max_bytes: 3 * 400, ..DecisionLog::new(1000) };
        for id in 0..100 {
            refuse(&log, &id.to_string());
        }
        let ring = log.ring.lock();
        assert!(ring.bytes <= log.max_bytes && !ring.records.is_empty(), "{}", ring.bytes);
        assert_eq!(ring.bytes, ring.records.iter().map(|(size, _)| size).sum::<usize>());
        assert_eq!(ring.records.back().unwrap().1.request_id(), "99");
    }

    #[test]
    fn a_refused_request_is_shown_as_json() {
        let log = DecisionLog::new(1);
        refuse(&log, "id");
        let json = serde_json::to_value(log.recent()[0].view(true)).unwrap();
        assert_eq!(json["request_id"], "id");
        assert_eq!(json["model"], "m");
        assert_eq!(json["refused"]["code"], "ResourceExhausted");
        assert_eq!(json["ended"]["ending"], "refused");
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
        assert!(json.get("endpoint").is_none());
    }
}
