//! Real exchanges teach the latency model: what they told is predicted afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use epp::api::Parsers;
use epp::clock::Timestamp;
use epp::endpoints::{EndpointSpec, Pool};
use epp::error::ErrorFormat;
use epp::exchange::{
    BodyKnown, Director, Exchange, ExchangeContext, Randomness, RequestLimits, ResponseHead,
    ShedWhenSaturated,
};
use epp::loader::{LoadOptions, load};
use epp::scheduling::{BoxFuture, DebugState, MetricValue, PluginMetrics, Runtime};

/// A clock that only the test moves.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl Clock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Runtime for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: BoxFuture<()>) {}
}

const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: predicted-latency-producer
  parameters: {streamingMode: true}
- type: latency-scorer
schedulingProfiles:
- name: default
  plugins: [{pluginRef: latency-scorer}]
";

struct House {
    context: Arc<ExchangeContext>,
    clock: Arc<Clock>,
    state: Arc<dyn DebugState>,
    metrics: Arc<dyn PluginMetrics>,
}

fn house() -> House {
    let pool = Arc::new(Pool::new());
    let spec = |n: u16| EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: format!("w{n}"),
        pod_name: format!("w{n}"),
        ip: [127, 0, 0, 1].into(),
        port: 8000 + n,
        rank: 0,
        uid: String::new(),
        labels: BTreeMap::new(),
    };
    pool.replace((0..2).map(spec).collect());
    let (pipeline, found) = load("test", Some(CONFIG), &LoadOptions::default(), pool.ids());
    let pipeline = pipeline.unwrap_or_else(|| panic!("{found}"));
    let clock = Arc::new(Clock::default());
    let context = Arc::new(ExchangeContext {
        director: Director {
            randomness: Randomness::seeded(1),
            ..Director::new(
                pool,
                pipeline.scheduler,
                Arc::new(ShedWhenSaturated(pipeline.saturation)),
            )
        },
        parsers: Parsers::new(pipeline.parsers),
        processors: Vec::new(),
        awaiting: Vec::new(),
        response_hooks: Vec::new(),
        listeners: pipeline.hooks.outcomes,
        tracer: None,
        runtime: clock.clone(),
        limits: RequestLimits::new(10_000, 100_000),
        errors: ErrorFormat::default(),
        wants_prompt: pipeline.wants_prompt,
        counts_tokens: pipeline.counts_tokens,
        asks_for_usage: pipeline.asks_for_usage,
        until_over: Default::default(),
        response_bodies: Arc::default(),
    });
    let (_, state) = pipeline.hooks.debug_states[0].clone();
    House { context, clock, state, metrics: pipeline.hooks.metrics[0].clone() }
}

impl House {
    /// Sends a request; the endpoint ending in `1` takes four times as long as the other. True
    /// where the other got it.
    fn exchange(&self, number: usize) -> bool {
        let mut exchange = Exchange::new(self.context.clone());
        let path: (Bytes, Bytes) = (":path".into(), "/v1/completions".into());
        exchange.add_headers([path].into_iter()).unwrap();
        let prompt = format!("{number:04} ").repeat(20 + number % 50);
        let body = format!(r#"{{"model":"m","prompt":"{prompt}","stream":true}}"#);
        exchange.add_body(body.into()).unwrap();
        let Poll::Ready(Ok(forward)) = exchange.decide(BodyKnown::Whole) else {
            panic!("not decided")
        };
        let is_fast = forward.destination == "127.0.0.1:8000";
        let factor = if is_fast { 1 } else { 4 };
        self.clock.pass(Duration::from_millis(20) * factor);
        exchange.response_headers(ResponseHead {
            status: Some(200),
            events: true,
            streaming: true,
            end: false,
            unseen: false,
        });
        exchange.response_chunk(b"data: {\"choices\":[{\"text\":\"a\"}]}\n\n");
        self.clock.pass(Duration::from_millis(40) * factor);
        let usage = b"data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":11}}\n\n";
        exchange.response_chunk(usage);
        exchange.response_end();
        is_fast
    }
}

#[test]
fn exchanges_teach_where_answers_come_sooner() {
    let house = house();
    // While nothing is known, both are the same.
    let fast = (0..90).filter(|&n| house.exchange(n)).count();
    assert!((20..70).contains(&fast), "{fast}");
    assert_eq!(house.state.debug_state()["ready"], false);
    (90..200).for_each(|n| {
        house.exchange(n);
    });
    let state = house.state.debug_state();
    assert_eq!((&state["ready"], &state["requestsFollowed"]), (&true.into(), &0.into()), "{state}");
    (200..1200).for_each(|n| {
        house.exchange(n);
    });
    let fast = (1200..1300).filter(|&n| house.exchange(n)).count();
    assert!(fast > 95, "{fast}");
    let families = house.metrics.families();
    let judged = families.iter().find(|f| f.name.ends_with("judged_total")).expect("the counter");
    let numbers: Vec<&MetricValue> = judged.samples.iter().map(|s| &s.value).collect();
    let many = |value: &&MetricValue| matches!(value, MetricValue::Number(n) if *n > 500.0);
    assert_eq!(numbers.iter().filter(|v| many(v)).count(), 2, "TTFT and TPOT: {numbers:?}");
}
