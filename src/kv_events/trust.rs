use parking_lot::Mutex;

use super::line::{StreamState, StreamStatus};
use crate::clock::Timestamp;
use std::time::Duration;

/// How long a stream may be away before what it said is no longer relied upon.
const GRACE: Duration = Duration::from_secs(10);
/// Requests that must have made an engine say something, before its silence means anything.
const UNHEARD: u32 = 5;
/// Requests after which sums are compared.
const ENOUGH: f64 = 10.0;
/// What a request counts after the next one: sums are over the last fifty, roughly.
const FADE: f64 = 0.98;
/// Of the larger sum, how much may be missing in the smaller.
const TOLERATED: f64 = 0.3;
/// Tokens per request that sums must be apart for it to matter.
const NOTICEABLE: f64 = 64.0;

/// Why an endpoint's events are not relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trouble {
    /// There is no connection to its publisher.
    NotConnected,
    /// It computed prompts and said nothing of it.
    Silent,
    /// Its events do not name as many tokens as blocks take.
    BlockSize,
    /// Most of what it says goes on from blocks it never spoke of.
    Detached,
    /// Its answers show hits that its events did not promise.
    Understated,
    /// Its events promise hits that its answers do not show.
    Overstated,
}

impl Trouble {
    /// Short name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Silent => "silent",
            Self::BlockSize => "block_size",
            Self::Detached => "detached",
            Self::Understated => "understated",
            Self::Overstated => "overstated",
        }
    }

    /// What most likely is the cause, for people who can change it.
    pub fn likely_cause(self) -> &'static str {
        match self {
            Self::NotConnected => {
                "nobody publishes at the address: check the engine's --kv-events-config (endpoint \
                 tcp://*:PORT makes it listen), the configured socketPort, and network policies"
            }
            Self::Silent => {
                "the engine publishes nothing: check enable_kv_cache_events, that prefix caching \
                 is on, and that this port belongs to this engine and data-parallel rank"
            }
            Self::BlockSize => {
                "the engine's events state a block size that their tokens do not fill"
            }
            Self::Detached => {
                "events began in the middle: set replay_endpoint at the engine and replaySocketPort \
                 here, or wait until the engine has recomputed its cache"
            }
            Self::Understated => {
                "prompts are not the engine's tokens: check the model and chat template of the \
                 token producer, LoRA names and cache salts"
            }
            Self::Overstated => {
                "the engine dropped blocks without saying so or reports no cached tokens: check \
                 --enable-prompt-tokens-details, and that the port is this engine's"
            }
        }
    }
}

/// How one request went, as far as the index is concerned. In tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hit {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Those that the index said the endpoint holds.
    pub indexed: u32,
    /// Those that the engine's answer says were cached, where it says.
    pub delivered: Option<u32>,
    /// Tokens per block.
    pub block_size: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    requests: f64,
    indexed: f64,
    delivered: f64,
    /// Requests since the publisher was last heard that must have made it say something.
    unheard: u32,
    /// The last moment the publisher had been heard when a request ended.
    heard: Option<Timestamp>,
    away_since: Option<Timestamp>,
}

/// Compares what an endpoint's events promise with what its answers show.
#[derive(Debug, Default)]
pub struct Trust(Mutex<Sums>);

impl Trust {
    /// A request to the endpoint ended well.
    pub fn ended(&self, hit: Hit, status: &StreamStatus) {
        let mut sums = self.0.lock();
        let heard = status.last_heard();
        if heard != sums.heard {
            sums.heard = heard;
            sums.unheard = 0;
        } else if hit.prompt
            >= hit.delivered.unwrap_or(hit.indexed).saturating_add(2 * hit.block_size)
        {
            sums.unheard += 1;
        }
        if let Some(delivered) = hit.delivered {
            sums.requests = sums.requests * FADE + 1.0;
            sums.indexed = sums.indexed * FADE + f64::from(hit.indexed);
            sums.delivered = sums.delivered * FADE + f64::from(delivered);
        }
    }

    /// The sums it goes by, for debug pages.
    pub fn debug_state(&self) -> serde_json::Value {
        let Sums { requests, indexed, delivered, unheard, .. } = *self.0.lock();
        serde_json::json!({
            "requests": requests,
            "indexedTokens": indexed,
            "deliveredTokens": delivered,
            "requestsNotHeardOf": unheard,
        })
    }

    /// What is wrong, if anything is.
    pub fn trouble(&self, status: &StreamStatus, now: Timestamp) -> Option<Trouble> {
        let mut sums = self.0.lock();
        if status.state() == StreamState::Connecting {
            let since = *sums.away_since.get_or_insert(now);
            return (now.since(since) >= GRACE).then_some(Trouble::NotConnected);
        }
        sums.away_since = None;
        if status.last_heard() == sums.heard && sums.unheard >= UNHEARD {
            return Some(Trouble::Silent);
        }
        let counters = &status.counters;
        let taken = counters.blocks_added.get() + counters.blocks_known.get();
        if counters.blocks_mismatched.get() > taken {
            return Some(Trouble::BlockSize);
        }
        if counters.blocks_detached.get() > taken {
            return Some(Trouble::Detached);
        }
        compared(&sums)
    }
}

fn compared(sums: &Sums) -> Option<Trouble> {
    let Sums { requests, indexed, delivered, .. } = *sums;
    let apart = (indexed - delivered).abs();
    if requests < ENOUGH
        || apart < NOTICEABLE * requests
        || apart < TOLERATED * indexed.max(delivered)
    {
        return None;
    }
    Some(if indexed < delivered { Trouble::Understated } else { Trouble::Overstated })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kv_events::{Counters, Numbered};

    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn status(state: StreamState) -> StreamStatus {
        let status = StreamStatus::new(Arc::new(Counters::default()));
        status.set_state(state);
        status
    }

    fn hit(indexed: u32, delivered: Option<u32>) -> Hit {
        Hit { prompt: 1000, indexed, delivered, block_size: 16 }
    }

    fn hear(status: &StreamStatus, at: u64) {
        let batch = Numbered { topic: Default::default(), number: 0, payload: Default::default() };
        status.note(&batch, "", Timestamp::from_nanos(at));
    }

    #[test]
    fn a_stream_that_is_away_for_a_moment_is_still_relied_upon() {
        let (trust, away) = (Trust::default(), status(StreamState::Connecting));
        assert_eq!(trust.trouble(&away, NOW), None);
        assert_eq!(trust.trouble(&away, NOW + GRACE), Some(Trouble::NotConnected));
        assert_eq!(trust.trouble(&status(StreamState::Live), NOW + GRACE), None);
        assert_eq!(trust.trouble(&away, NOW + GRACE), None, "the grace begins anew");
    }

    #[test]
    fn silence_is_noticed_when_there_was_something_to_say() {
        let (trust, live) = (Trust::default(), status(StreamState::Live));
        // All cached: nothing new was computed.
        (0..20).for_each(|_| trust.ended(hit(1000, Some(1000)), &live));
        assert_eq!(trust.trouble(&live, NOW), None);
        (0..UNHEARD).for_each(|_| trust.ended(hit(0, None), &live));
        assert_eq!(trust.trouble(&live, NOW), Some(Trouble::Silent));
        hear(&live, 5);
        assert_eq!(trust.trouble(&live, NOW), None);
        (0..UNHEARD).for_each(|_| trust.ended(hit(0, None), &live));
        assert_eq!(trust.trouble(&live, NOW), None, "the first of them was heard of");
        trust.ended(hit(0, None), &live);
        assert_eq!(trust.trouble(&live, NOW), Some(Trouble::Silent));
    }

    #[test]
    fn events_that_do_not_fit() {
        let cases: [(usize, usize, usize, Option<Trouble>); 4] = [
            (10, 0, 0, None),
            (10, 9, 9, None),
            (10, 11, 0, Some(Trouble::BlockSize)),
            (10, 0, 11, Some(Trouble::Detached)),
        ];
        for (added, mismatched, detached, trouble) in cases {
            let live = status(StreamState::Live);
            live.counters.blocks_added.add(added);
            live.counters.blocks_mismatched.add(mismatched);
            live.counters.blocks_detached.add(detached);
            assert_eq!(Trust::default().trouble(&live, NOW), trouble);
        }
    }

    #[test]
    fn promised_and_delivered_hits() {
        // (indexed, delivered, trouble) of every request
        let cases = [
            (500, Some(500), None),
            (500, Some(400), None),
            (500, Some(300), Some(Trouble::Overstated)),
            (500, Some(0), Some(Trouble::Overstated)),
            (0, Some(500), Some(Trouble::Understated)),
            (0, Some(60), None),
            (500, None, None),
        ];
        for (indexed, delivered, trouble) in cases {
            let (trust, live) = (Trust::default(), status(StreamState::Live));
            for request in 0..40 {
                hear(&live, request);
                trust.ended(hit(indexed, delivered), &live);
                let expected = trouble.filter(|_| request >= 12);
                if !(8..12).contains(&request) {
                    assert_eq!(
                        trust.trouble(&live, NOW),
                        expected,
                        "{indexed} {delivered:?} {request}"
                    );
                }
            }
            // What is put right is forgiven in time.
            for request in 0..200 {
                hear(&live, 100 + request);
                trust.ended(hit(500, Some(500)), &live);
            }
            assert_eq!(trust.trouble(&live, NOW), None);
        }
    }
}
