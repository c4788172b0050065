//! The pages of the metrics port, and who may read them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use epp::endpoints::{EndpointSpec, Pool, Reservation, ReservationTerms, SignalValues};
use epp::error::RequestError;
use epp::exchange::{Ending, Kept, Outcome, OutcomeListener, Response, Times};
use epp::inspect::{ConfigInForce, ConfigView, PoolView, ShownConfig, Tallies};
use epp::scheduling::{DebugState, InferenceRequest, Refusal};
use epp::server::{Admin, MetricsAuth, Readiness};
use epp::telemetry::{DecisionLog, Metrics};
use parking_lot::Mutex;
use serde_json::Value;

use crate::client::listen;

struct Pages {
    address: SocketAddr,
    pool: Arc<Pool>,
    readiness: Arc<Readiness>,
    decisions: Arc<DecisionLog>,
}

/// A plugin that shows its state.
#[derive(Debug)]
struct Telling;

impl DebugState for Telling {
    fn debug_state(&self) -> Value {
        serde_json::json!({ "ready": true })
    }
}

impl Pages {
    async fn serve(auth: Option<Arc<dyn MetricsAuth>>, explained: usize) -> Self {
        let pool = Arc::new(Pool::new());
        let readiness = Arc::new(Readiness::new(pool.clone(), None));
        let decisions = Arc::new(DecisionLog::new(explained));
        let admin = Admin {
            metrics: Arc::new(Metrics::new().unwrap()),
            decisions: decisions.clone(),
            pool: pool.clone(),
            queue: None,
            readiness: readiness.clone(),
            staleness: Duration::from_secs(2),
            health: None,
            view: PoolView {
                tallies: Arc::new(Tallies::new(pool.clone())),
                health: None,
                staleness: Duration::from_secs(2),
                scrapes: true,
                contexts: None,
            },
            config: Arc::new(ConfigInForce::new(ShownConfig {
                view: ConfigView::new("c.yaml", None, "{kind: EndpointPickerConfig}"),
                plugins: vec![("my-plugin".into(), Arc::new(Telling))],
                plugin_types: vec![("my-plugin".into(), "telling"), ("quiet".into(), "other")],
                ..ShownConfig::default()
            })),
            page: true,
            auth,
        };
        let incoming = listen(None).await;
        let address = incoming.local_addr();
        tokio::spawn(admin.serve(incoming, std::future::pending()));
        Self { address, pool, readiness, decisions }
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = reqwest::get(format!("http://{}{path}", self.address)).await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.1).unwrap()
    }
}

fn worker() -> EndpointSpec {
    EndpointSpec {
        placement: Default::default(),
        namespace: "ns".into(),
        name: "w-rank-0".into(),
        pod_name: "w".into(),
        ip: [10, 0, 0, 1].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: [("role".to_owned(), "decode".to_owned())].into(),
    }
}

#[tokio::test]
async fn what_plugins_know_is_shown_under_their_names() {
    let page = Pages::serve(None, 0).await.json("/debug/plugins").await;
    assert_eq!(page, serde_json::json!({ "my-plugin": { "ready": true } }));
}

/// As the reference shows it.
#[tokio::test]
async fn every_plugin_is_listed_with_its_state_or_that_it_shows_none() {
    let pages = Pages::serve(None, 0).await;
    let page = pages.json("/debug/plugins/state").await;
    let expected = serde_json::json!({
        "my-plugin": { "name": "my-plugin", "type": "telling", "state": { "ready": true } },
        "quiet": {
            "name": "quiet",
            "type": "other",
            "message": "plugin does not support state collection",
        },
    });
    assert_eq!(page["plugins"], expected);
    assert!(page["timestamp"].as_str().unwrap().ends_with('Z'), "{page}");
    let url = format!("http://{}/debug/plugins/state", pages.address);
    let posted = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(posted.headers()["allow"].to_str().unwrap().contains("GET"));
}

#[tokio::test]
async fn every_page_says_what_it_is_for() {
    let pages = Pages::serve(None, 0).await;
    pages.pool.set_synced(true);
    for (path, status, part) in [
        ("/", StatusCode::OK, "href=\"/debug/endpoints\""),
        ("/debug/state", StatusCode::OK, "\"what\":\"the pool has no endpoints\""),
        ("/debug/history", StatusCode::OK, "\"endpoints\":{}"),
        (
            "/debug/config",
            StatusCode::OK,
            "{\"default\":true,\"text\":\"kind: EndpointPickerConfig\"}",
        ),
        ("/debug/decisions?lsat=3", StatusCode::BAD_REQUEST, "unknown parameter"),
        ("/debug/decisions?last=99999999999999999999", StatusCode::OK, "\"decisions\":[]"),
        ("/debug/decisions?format=text", StatusCode::OK, "--explain-decisions"),
        ("/debug/decisions?request_id=%ff%00", StatusCode::OK, "\"decisions\":[]"),
        ("/metrics", StatusCode::OK, "# TYPE llm_d_epp_info gauge"),
        ("/healthz", StatusCode::OK, "ok"),
        ("/readyz", StatusCode::OK, "ok"),
        ("/debug/decisions", StatusCode::OK, "--explain-decisions"),
        ("/debug/endpoints", StatusCode::OK, "\"endpoints\":[]"),
        ("/debug/pprof/heap", StatusCode::NOT_FOUND, "no Go runtime"),
        ("/debug/pprof/", StatusCode::NOT_FOUND, "no Go runtime"),
        ("/nothing", StatusCode::NOT_FOUND, ""),
    ] {
        let (got, text) = pages.get(path).await;
        assert_eq!(got, status, "{path}");
        assert!(text.contains(part), "{path}: {text}");
    }
    let response = reqwest::get(format!("http://{}/metrics", pages.address)).await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
}

#[tokio::test]
async fn readiness_gives_its_reason() {
    let pages = Pages::serve(None, 0).await;
    let (status, text) = pages.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("not been listed"), "{text}");
    pages.pool.set_synced(true);
    assert_eq!(pages.get("/readyz").await.0, StatusCode::OK);
    pages.readiness.drain();
    let (status, text) = pages.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("shutting down"), "{text}");
    assert_eq!(pages.get("/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_pool_is_shown_as_it_is() {
    let pages = Pages::serve(None, 0).await;
    pages.pool.replace(vec![worker()]);
    let endpoint = pages.pool.snapshot().endpoints[0].clone();
    let page = pages.json("/debug/endpoints").await;
    assert_eq!(page["synced"], false);
    assert_eq!(page["endpoints"][0]["metrics"]["ageMs"], Value::Null);
    assert_eq!(page["endpoints"][0]["metrics"]["stale"], true);

    endpoint.signals.store(SignalValues {
        waiting: 3,
        running: 5,
        kv_usage: 0.25,
        block_size: 16,
        num_blocks: 1000,
        updated_at: Some(epp::clock::now()),
    });
    let _in_flight =
        Reservation::new(endpoint, ReservationTerms { tokens: 700, ..ReservationTerms::default() });
    let page = pages.json("/debug/endpoints").await;
    let shown = &page["endpoints"][0];
    assert_eq!(shown["id"], "ns/w-rank-0");
    assert_eq!(shown["address"], "10.0.0.1:8000");
    assert_eq!(shown["labels"]["role"], "decode");
    assert_eq!(shown["inFlight"]["requests"], 1);
    assert_eq!(shown["inFlight"]["tokens"], 700);
    assert_eq!(shown["metrics"]["waiting"], 3);
    assert_eq!(shown["metrics"]["running"], 5);
    assert_eq!(shown["metrics"]["kvCacheUsage"], 0.25);
    assert!(shown["metrics"]["ageMs"].as_f64().unwrap() >= 0.0);
}

#[tokio::test]
async fn explained_decisions_come_newest_first() {
    let pages = Pages::serve(None, 8).await;
    for id in ["first", "second"] {
        let request = InferenceRequest { id: id.to_owned(), ..Default::default() };
        let refusal = Refusal::from(RequestError::no_endpoint_left());
        pages.decisions.ended(&Outcome {
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
    let page = pages.json("/debug/decisions").await;
    assert_eq!(page["decisions"][0]["request_id"], "second");
    assert_eq!(page["decisions"][1]["request_id"], "first");
    assert_eq!(page["note"], Value::Null);
    // The query narrows them.
    for (query, expected) in [
        ("last=1", &["second"][..]),
        ("last=0", &[]),
        ("request_id=first", &["first"]),
        ("refused=true", &["second", "first"]),
        ("refused=false", &[]),
        ("model=other", &[]),
        ("model=&last=5", &["second", "first"]),
        ("endpoint=default%2Fw0", &[]),
    ] {
        let page = pages.json(&format!("/debug/decisions?{query}")).await;
        let listed = page["decisions"].as_array().unwrap();
        let ids: Vec<&str> = listed.iter().map(|d| d["request_id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    for query in ["last=x", "unknown=1"] {
        let (status, _) = pages.get(&format!("/debug/decisions?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
    }
}

/// Lets in who has the right token, and remembers who asked for what.
#[derive(Debug, Default)]
struct Doorman {
    asked: Mutex<Vec<String>>,
}

#[tonic::async_trait]
impl MetricsAuth for Doorman {
    async fn check(&self, token: Option<&str>, path: &str, method: &str) -> Result<(), StatusCode> {
        self.asked.lock().push(format!("{method} {path}"));
        match token {
            Some("right") => Ok(()),
            Some(_) => Err(StatusCode::FORBIDDEN),
            None => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

#[tokio::test]
async fn every_page_but_the_probes_is_guarded() {
    let doorman = Arc::new(Doorman::default());
    let pages = Pages::serve(Some(doorman.clone()), 0).await;
    let client = reqwest::Client::new();
    let debug = ["decisions", "endpoints", "state", "history", "config", "pprof/heap"];
    let debug = debug.map(|page| format!("/debug/{page}"));
    for path in ["/", "/metrics"].into_iter().chain(debug.iter().map(String::as_str)) {
        for (authorization, refused) in [
            (None, Some(StatusCode::UNAUTHORIZED)),
            (Some("Basic right"), Some(StatusCode::UNAUTHORIZED)),
            (Some("Bearer wrong"), Some(StatusCode::FORBIDDEN)),
            (Some("Bearer right"), None),
            // Schemes have no case, and API servers take them so.
            (Some("bearer  right"), None),
            // What a browser sends where somebody types the token as a password.
            (Some("Basic YW55Ym9keTpyaWdodA=="), None),
            (Some("Basic YW55Ym9keTp3cm9uZw=="), Some(StatusCode::FORBIDDEN)),
        ] {
            let mut request = client.get(format!("http://{}{path}", pages.address));
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.send().await.unwrap();
            let status = response.status();
            match refused {
                Some(expected) => assert_eq!(status, expected, "{path} {authorization:?}"),
                None => assert!(
                    ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status),
                    "{path}"
                ),
            }
            let asks_for_token = response.headers().contains_key("www-authenticate");
            assert_eq!(asks_for_token, status == StatusCode::UNAUTHORIZED);
        }
    }
    assert_eq!(doorman.asked.lock()[7], "GET /metrics");
    for path in ["/healthz", "/readyz"] {
        let (status, _) = pages.get(path).await;
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}
