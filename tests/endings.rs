//! Every way an exchange can end: exactly one outcome, nothing left in flight, and everything
//! that was known by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use epp::api::Parsers;
use epp::clock::Timestamp;
use epp::endpoints::{EndpointSpec, Pool};
use epp::error::{Code, ErrorFormat, RequestError};
use epp::exchange::{
    Admission, Admitted, Arrival, BodyKnown, Director, Ending, Exchange, ExchangeContext, Outcome,
    OutcomeListener, Permit, Randomness, RequestLimits, ResponseHead, ShedWhenSaturated, Stay,
};
use epp::loader::{LoadOptions, load};
use epp::scheduling::{BoxFuture, Decision, DecisionOptions, Runtime, TokenUsage};
use parking_lot::Mutex;

/// What a listener was told of one exchange.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    ending: Ending,
    code: Option<Code>,
    status: Option<u16>,
    /// Tokens of the answer that were delivered.
    completion: Option<u64>,
    explained: bool,
    endpoint: bool,
}

#[derive(Debug, Default)]
struct Listener {
    ended: Mutex<Vec<Told>>,
    routed: Mutex<u32>,
}

impl OutcomeListener for Listener {
    fn routed(&self, _: &Outcome<'_>) {
        *self.routed.lock() += 1;
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        let decided = outcome.decision.map(|d| d.trace.is_some());
        let refused = outcome.refusal.map(|r| r.trace.is_some());
        self.ended.lock().push(Told {
            ending: outcome.ending,
            code: outcome.refusal.map(|r| r.error.code),
            status: outcome.response.status,
            completion: outcome.response.usage.map(|u| u.completion),
            explained: decided.or(refused).unwrap_or(false),
            endpoint: outcome.endpoint.is_some(),
        });
    }
}

#[derive(Debug)]
struct Now;

impl Runtime for Now {
    fn now(&self) -> Timestamp {
        epp::clock::now()
    }

    fn sleep(&self, _: std::time::Duration) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: BoxFuture<()>) {}
}

/// Lets requests in once somebody opens the door; refuses those that ask to be.
#[derive(Debug, Default)]
struct Door {
    open: Arc<Mutex<bool>>,
}

impl Admission for Door {
    fn admit(&self, arrival: Arrival<'_>) -> Admitted {
        if arrival.request.headers.get("x-shed").is_some() {
            return Admitted::Refused(RequestError::new(Code::ResourceExhausted, "full"));
        }
        let open = self.open.clone();
        Admitted::Later(Box::pin(std::future::poll_fn(move |_| match *open.lock() {
            true => Poll::Ready(Ok(Box::new(Pass) as Box<dyn Permit>)),
            false => Poll::Pending,
        })))
    }
}

/// Of requests that are let in and left alone.
struct Pass;

impl Permit for Pass {
    fn reserved(self: Box<Self>, _: &Decision, _: Timestamp) -> Box<dyn Stay> {
        self
    }
}

impl Stay for Pass {
    fn answer_begins(&mut self, _: bool, _: Timestamp) {}

    fn used(&mut self, _: &TokenUsage) {}

    fn poll_evicted(&mut self, _: &mut Context<'_>) -> Poll<RequestError> {
        Poll::Pending
    }
}

struct House {
    context: Arc<ExchangeContext>,
    listener: Arc<Listener>,
    pool: Arc<Pool>,
}

const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: by-label, parameters: {label: kind, validValues: [good]}}
- type: inflight-load-producer
schedulingProfiles:
- name: default
  plugins: [{pluginRef: by-label}]
";

/// A pool with one endpoint that the filter lets pass, if `good`.
fn house(endpoints: usize, good: bool, admission: Option<Arc<dyn Admission>>) -> House {
    let pool = Arc::new(Pool::new());
    let spec = |n: usize| EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: format!("w{n}"),
        pod_name: format!("w{n}"),
        ip: [127, 0, 0, 1].into(),
        port: 8000 + n as u16,
        rank: 0,
        uid: String::new(),
        labels: BTreeMap::from([("kind".into(), if good { "good" } else { "bad" }.into())]),
    };
    pool.replace((0..endpoints).map(spec).collect());
    let options = LoadOptions::default();
    let (pipeline, found) = load("test", Some(CONFIG), &options, pool.ids());
    let pipeline = pipeline.unwrap_or_else(|| panic!("{found}"));
    let listener = Arc::new(Listener::default());
    let context = Arc::new(ExchangeContext {
        director: Director {
            options: DecisionOptions { explanation: true, ..DecisionOptions::default() },
            randomness: Randomness::seeded(1),
            ..Director::new(
                pool.clone(),
                pipeline.scheduler,
                admission.unwrap_or(Arc::new(ShedWhenSaturated(pipeline.saturation))),
            )
        },
        parsers: Parsers::new(pipeline.parsers),
        processors: Vec::new(),
        awaiting: Vec::new(),
        response_hooks: Vec::new(),
        listeners: vec![listener.clone()],
        tracer: None,
        runtime: Arc::new(Now),
        limits: RequestLimits::new(1000, 10_000),
        errors: ErrorFormat::default(),
        wants_prompt: pipeline.wants_prompt,
        counts_tokens: pipeline.counts_tokens,
        asks_for_usage: pipeline.asks_for_usage,
        until_over: Default::default(),
        response_bodies: Arc::default(),
    });
    House { context, listener, pool }
}

impl House {
    fn begin(&self, headers: &[(&'static str, &'static str)]) -> Exchange {
        let mut exchange = Exchange::new(self.context.clone());
        let path: (Bytes, Bytes) = (":path".into(), "/v1/completions".into());
        let more = headers.iter().map(|&(k, v)| (Bytes::from(k), Bytes::from(v)));
        let all: Vec<_> = std::iter::once(path).chain(more).collect();
        exchange.add_headers(all.into_iter()).unwrap();
        exchange
    }

    fn ask(&self, body: &'static str) -> (Exchange, Poll<Result<(), Code>>) {
        let mut exchange = self.begin(&[]);
        exchange.add_body(body.into()).unwrap();
        let decided = exchange.decide(BodyKnown::Whole);
        (exchange, decided.map(|d| d.map(|_| ()).map_err(|e| e.code)))
    }

    /// Nothing is in flight, and exactly this was told, once.
    #[track_caller]
    fn ended(&self, expected: Told) {
        assert_eq!(*self.listener.ended.lock(), [expected]);
        assert_eq!(self.context.limits.held.held(), 0);
        for endpoint in &self.pool.snapshot().endpoints {
            let held = &endpoint.in_flight;
            assert_eq!((held.requests(), held.tokens(), held.unanswered()), (0, 0, 0));
        }
    }
}

const BODY: &str = r#"{"model":"m","prompt":"hello there"}"#;
const OK: ResponseHead =
    ResponseHead { status: Some(200), events: true, streaming: true, end: false, unseen: false };

fn refused(code: Code, explained: bool) -> Told {
    Told {
        ending: Ending::Refused,
        code: Some(code),
        status: None,
        completion: None,
        explained,
        endpoint: false,
    }
}

fn routed(ending: Ending, status: Option<u16>, completion: Option<u64>) -> Told {
    Told { ending, code: None, status, completion, explained: true, endpoint: true }
}

#[test]
fn a_response_that_comes_to_its_end() {
    let house = house(1, true, None);
    let (mut exchange, decided) = house.ask(BODY);
    assert_eq!(decided, Poll::Ready(Ok(())));
    exchange.response_headers(OK);
    exchange.response_chunk(b"data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n");
    exchange.response_end();
    house.ended(routed(Ending::Complete, Some(200), Some(9)));
    // What comes after the end changes nothing.
    exchange.response_chunk(b"more");
    exchange.response_end();
    drop(exchange);
    house.ended(routed(Ending::Complete, Some(200), Some(9)));
    assert_eq!(*house.listener.routed.lock(), 1);
}

#[test]
fn refusals() {
    // (endpoints, of the kind that passes, body, code, candidates were looked at)
    let large: &'static str = Box::leak("x".repeat(1001).into_boxed_str());
    for (endpoints, good, body, code, explained) in [
        (1, true, "not json", Code::BadRequest, false),
        (1, true, r#"{"prompt":"no model"}"#, Code::BadRequest, false),
        (1, false, BODY, Code::ResourceExhausted, true),
        (0, true, BODY, Code::ServiceUnavailable, false),
    ] {
        let house = house(endpoints, good, None);
        let (exchange, decided) = house.ask(body);
        assert_eq!(decided, Poll::Ready(Err(code)), "{body}");
        drop(exchange);
        house.ended(refused(code, explained));
    }
    let house = house(1, true, None);
    let mut exchange = house.begin(&[]);
    assert_eq!(exchange.add_body(large.into()).unwrap_err().code, Code::PayloadTooLarge);
    drop(exchange);
    house.ended(refused(Code::PayloadTooLarge, false));
}

#[test]
fn a_request_without_a_body() {
    for (endpoints, expected) in [
        (0, refused(Code::ServiceUnavailable, false)),
        (1, Told { explained: false, ..routed(Ending::Complete, Some(200), None) }),
    ] {
        let house = house(endpoints, true, None);
        let mut exchange = house.begin(&[]);
        if let Poll::Ready(Ok(_)) = exchange.decide(BodyKnown::None) {
            exchange.response_headers(ResponseHead { end: true, ..OK });
        }
        drop(exchange);
        house.ended(expected);
    }
}

#[test]
fn a_client_that_goes_away() {
    // Before anything, with half a body, before the response, within it.
    let house_of = || house(1, true, None);
    let cut =
        Told { endpoint: false, explained: false, ..routed(Ending::CutBeforeDecision, None, None) };
    let house = house_of();
    drop(Exchange::new(house.context.clone()));
    house.ended(cut.clone());

    let house = house_of();
    let mut exchange = house.begin(&[]);
    exchange.add_body("{\"mod".into()).unwrap();
    drop(exchange);
    house.ended(cut);

    let house = house_of();
    drop(house.ask(BODY));
    house.ended(routed(Ending::CutBeforeResponse, None, None));

    let house = house_of();
    let (mut exchange, _) = house.ask(BODY);
    exchange.response_headers(OK);
    drop(exchange);
    house.ended(routed(Ending::CutInResponse, Some(200), None));

    // Whether the answer was whole is not known where it goes by unseen.
    let unseen = ResponseHead { unseen: true, ..OK };
    let house = house_of();
    let (mut exchange, _) = house.ask(BODY);
    exchange.response_headers(unseen);
    drop(exchange);
    house.ended(routed(Ending::Unobserved, Some(200), None));
    assert_eq!(house.context.response_bodies.unseen(), 1);

    // Trailers end it all the same, and so does a body that is sent after all.
    let house = house_of();
    let (mut exchange, _) = house.ask(BODY);
    exchange.response_headers(unseen);
    exchange.response_end();
    house.ended(routed(Ending::Complete, Some(200), None));

    let house = house_of();
    let (mut exchange, _) = house.ask(BODY);
    exchange.response_headers(unseen);
    exchange.response_chunk(b"data: {}\n\n");
    drop(exchange);
    house.ended(routed(Ending::CutInResponse, Some(200), None));

    // What was delivered before is charged.
    let house = house_of();
    let (mut exchange, _) = house.ask(BODY);
    exchange.response_headers(OK);
    exchange
        .response_chunk(b"data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\nda");
    drop(exchange);
    house.ended(routed(Ending::CutInResponse, Some(200), Some(4)));
}

#[test]
fn an_endpoint_that_fails_or_goes() {
    let house = house(1, true, None);
    let (mut exchange, _) = house.ask(BODY);
    house.pool.replace(Vec::new());
    exchange.response_headers(ResponseHead { status: Some(503), events: false, ..OK });
    exchange.response_end();
    house.ended(routed(Ending::Complete, Some(503), None));
}

#[test]
fn requests_that_wait() {
    let door = Arc::new(Door::default());
    let cx = &mut Context::from_waker(Waker::noop());

    // Let in at last.
    let house1 = house(1, true, Some(door.clone()));
    let (mut exchange, decided) = house1.ask(BODY);
    assert_eq!(decided, Poll::Pending);
    assert!(exchange.is_deciding() && exchange.poll_decided(cx).is_pending());
    *door.open.lock() = true;
    assert!(matches!(exchange.poll_decided(cx), Poll::Ready(Ok(_))));
    exchange.response_headers(OK);
    exchange.response_end();
    house1.ended(routed(Ending::Complete, Some(200), None));
    *door.open.lock() = false;

    // Gone while waiting.
    let house2 = house(1, true, Some(door.clone()));
    drop(house2.ask(BODY));
    let gone = routed(Ending::CutBeforeDecision, None, None);
    house2.ended(Told { explained: false, endpoint: false, ..gone });

    // The pool has emptied meanwhile.
    let house3 = house(1, true, Some(door.clone()));
    let (mut exchange, _) = house3.ask(BODY);
    house3.pool.replace(Vec::new());
    *door.open.lock() = true;
    assert!(matches!(exchange.poll_decided(cx), Poll::Ready(Err(_))));
    house3.ended(refused(Code::ServiceUnavailable, false));

    // Not let in.
    let house4 = house(1, true, Some(door));
    let mut exchange = house4.begin(&[("x-shed", "1")]);
    exchange.add_body(BODY.into()).unwrap();
    assert!(matches!(exchange.decide(BodyKnown::Whole), Poll::Ready(Err(_))));
    house4.ended(refused(Code::ResourceExhausted, false));
}
