//! Requests with one prompt that come in a burst.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use epp::clock::Timestamp;
use epp::endpoints::Pool;
use epp::scheduling::{
    Ask, BoxFuture, DecisionOptions, InferenceRequest, Put, RequestData, Runtime,
};
use parking_lot::Mutex;

use crate::rig::*;

/// A clock that a test sets, on which waiting is over at once.
#[derive(Debug)]
struct Clock(Mutex<Timestamp>);

impl Runtime for Clock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    fn spawn(&self, _: BoxFuture<()>) {}
}

/// A rig whose window is 100 ms, and its clock.
fn rig(parameters: &str) -> (Rig, Arc<Clock>) {
    let rig = Rig::from_yaml(&format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: burst-prefix-cache-producer
  parameters: {{{parameters}}}
- type: prefix-cache-scorer
  parameters: {{prefixMatchInfoProducerName: burst-prefix-cache-producer}}
schedulingProfiles: [{{name: default, plugins: [{{pluginRef: prefix-cache-scorer}}]}}]
"
    ));
    let clock = Arc::new(Clock(Mutex::new(Timestamp::START)));
    let runtime: Arc<dyn Runtime> = clock.clone();
    rig.hooks.lifecycles.iter().for_each(|l| l.start(&Arc::new(Pool::new()), &runtime));
    (rig, clock)
}

/// What a request has when its wait is over.
struct Waited {
    request: Arc<InferenceRequest>,
    put: Option<Put>,
}

fn wait(rig: &Rig, text: &str) -> Waited {
    let request = Arc::new(prompt(text));
    let [producer] = &rig.hooks.awaiting[..] else { panic!("one producer waits") };
    let put = producer.begin(&request).and_then(|mut wait| {
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(put) => put,
            Poll::Pending => panic!("the window is over"),
        }
    });
    Waited { request, put }
}

/// The score of each of two workers.
fn scores(rig: &Rig, waited: Waited) -> [f64; 2] {
    let all = workers(2);
    let all = WORKERS.get_or_init(|| all);
    let mut data = RequestData::default();
    if let Some(put) = waited.put {
        put(&mut data);
    }
    let options = DecisionOptions { scores: true, ..DecisionOptions::default() };
    let ask = Ask {
        request: &waited.request,
        candidates: &candidates(all),
        data,
        now: Timestamp::START,
        rng: &rig.rng,
        options,
    };
    let decision = rig.scheduler.schedule(ask).unwrap();
    [decision.scores[0].1, decision.scores[1].1]
}

static WORKERS: std::sync::OnceLock<Vec<Arc<epp::endpoints::Endpoint>>> =
    std::sync::OnceLock::new();

#[test]
fn a_burst_goes_to_one_endpoint() {
    let (rig, _) = rig("");
    let [one, other] = [tokens(1, 256), tokens(2, 256)];
    let burst: Vec<Waited> =
        [&one, &other, &one, &other, &one, "short"].iter().map(|text| wait(&rig, text)).collect();
    let scores: Vec<_> = burst.into_iter().map(|waited| scores(&rig, waited)).collect();
    let ([first, second], nowhere) = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]);
    assert_eq!(scores, [first, second, first, second, first, nowhere]);
}

#[test]
fn what_comes_later_is_another_burst() {
    let (rig, clock) = rig("");
    let text = tokens(1, 256);
    let alone = wait(&rig, &text);
    *clock.0.lock() = Timestamp::START + Duration::from_millis(100);
    let later = [wait(&rig, &text), wait(&rig, &text)];
    assert_eq!(scores(&rig, alone), [0.0, 0.0], "it was alone in its window");
    for waited in later {
        assert_eq!(scores(&rig, waited), [1.0, 0.0]);
    }
    // Once it is placed nobody joins a burst, though its window may not be over.
    let (rig, _) = rig_of_two(&text);
    assert_eq!(scores(&rig, wait(&rig, &text)), [0.0, 0.0]);
}

/// A rig that has placed a burst of two.
fn rig_of_two(text: &str) -> (Rig, Arc<Clock>) {
    let (rig, clock) = rig("");
    let two = [wait(&rig, text), wait(&rig, text)];
    for waited in two {
        assert_eq!(scores(&rig, waited), [1.0, 0.0]);
    }
    (rig, clock)
}

#[test]
fn who_is_not_held_up() {
    let (rig, _) = rig("maxBatchSize: 2");
    let text = tokens(1, 256);
    let [one, two, three] = [(); 3].map(|()| wait(&rig, &text));
    assert!(wait(&rig, "").put.is_none(), "a request without a prompt");
    assert!(three.put.is_none(), "one too many");
    assert_eq!([scores(&rig, one), scores(&rig, two)], [[1.0, 0.0]; 2]);
    assert_eq!(scores(&rig, three), [0.0, 0.0]);
}

#[test]
fn mistakes() {
    let cases = [
        ("windowDurationMs: 0", "Error windowDurationMs: must be from 1 to 10000, found 0"),
        ("windowDurationMs: 10001", "Error windowDurationMs: must be from 1 to 10000, found 10001"),
        (
            "maxPerReplica: 0",
            "Error maxPerReplica: must be at least 1, or -1 for no limit, found 0",
        ),
        (
            "maxBatchSize: -2",
            "Error maxBatchSize: must be at least 1, or -1 for no limit, found -2",
        ),
        ("balanceBy: pods", "Error balanceBy: must be requests or tokens"),
        (
            "minColocateBlocks: -1",
            "Error minColocateBlocks: must be from 0 to 4294967295, found -1",
        ),
    ];
    for (parameters, expected) in cases {
        assert_eq!(build("burst-prefix-cache-producer", parameters).findings, [expected]);
    }
}
