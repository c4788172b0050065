//! What an API server may say that a healthy one of its own seldom does: wait, your version has
//! expired, here is a bookmark. One that says what a test has it say.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use epp::discovery::kubernetes::{KubernetesOptions, Source};
use epp::kubernetes::connect;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{Picker, eventually};
use crate::logs::Warnings;

#[derive(Default)]
struct Script {
    /// Every request is refused with this status, and told to come back in an hour.
    unwell: Option<StatusCode>,
    /// What each next list of pods says, the last one again and again: its version, and of each
    /// pod the name and the last part of the address.
    lists: VecDeque<(u32, Vec<(&'static str, u8)>)>,
    /// What each next watch of pods says; one that has nothing to say stays open.
    watches: VecDeque<Watch>,
    /// The versions that watches of pods began from.
    watched_from: Vec<String>,
}

enum Watch {
    Refused(StatusCode),
    /// Says this, and ends.
    Says(Vec<Value>),
}

type Shared = Arc<Mutex<Script>>;

struct Scripted {
    script: Shared,
    dir: tempfile::TempDir,
    _serving: AbortOnDropHandle<()>,
}

impl Scripted {
    async fn start() -> Self {
        let script = Shared::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("port");
        let address = listener.local_addr().expect("an address");
        let router = axum::Router::new().fallback(answer).with_state(script.clone());
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves");
        });
        let dir = tempfile::tempdir().expect("a folder");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(dir.path().join("kubeconfig"), config.to_string()).expect("written");
        Self { script, dir, _serving: AbortOnDropHandle::new(serving) }
    }

    fn set<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().expect("not poisoned"))
    }

    async fn follow(&self) -> Picker {
        let client = connect(Some(&self.dir.path().join("kubeconfig"))).await.expect("a client");
        let source = Source::Pool { name: "pool".into(), group: None };
        Picker::start(&client, KubernetesOptions::new(source, "ns")).await
    }
}

fn pod(name: &str, address: u8, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": format!("{name}-uid"),
            "resourceVersion": version.to_string()},
        "spec": {"containers": []},
        "status": {"podIP": format!("127.0.0.{address}"),
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn status(code: StatusCode, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason}, as scripted"), "reason": reason, "code": code.as_u16()})
}

fn refused(code: StatusCode) -> Response {
    let body = axum::Json(status(code, "Refused"));
    (code, [("retry-after", "3600")], body).into_response()
}

fn list(kind: &str, version: u32, items: &[Value]) -> Response {
    axum::Json(json!({"kind": kind, "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": version.to_string()}}))
    .into_response()
}

async fn answer(State(script): State<Shared>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let mut script = script.lock().expect("not poisoned");
    if let Some(code) = script.unwell {
        return refused(code);
    }
    let watches = parameter("watch").is_some();
    match request.uri().path() {
        "/apis/inference.networking.k8s.io/v1/namespaces/ns/inferencepools" if watches => open(&[]),
        "/apis/inference.networking.k8s.io/v1/namespaces/ns/inferencepools" => {
            let pool = json!({
                "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
                "metadata": {"name": "pool", "namespace": "ns", "resourceVersion": "1"},
                "spec": {"selector": {"matchLabels": {"app": "vllm"}},
                    "targetPorts": [{"number": 8000}]},
            });
            list("InferencePoolList", 1, &[pool])
        }
        "/api/v1/namespaces/ns/pods" if watches => {
            script.watched_from.push(parameter("resourceVersion").unwrap_or_default());
            match script.watches.pop_front() {
                None => open(&[]),
                Some(Watch::Refused(code)) => refused(code),
                Some(Watch::Says(events)) => {
                    let lines: String = events.iter().map(|e| format!("{e}\n")).collect();
                    lines.into_response()
                }
            }
        }
        "/api/v1/namespaces/ns/pods" => {
            // A look at one object is no list.
            let looks = parameter("limit").is_some_and(|limit| limit == "1");
            let next = match script.lists.len() > 1 && !looks {
                true => script.lists.pop_front(),
                false => script.lists.front().cloned(),
            };
            let (version, pods) = next.unwrap_or_default();
            let items: Vec<_> = pods.iter().map(|(name, at)| pod(name, *at, version)).collect();
            list("PodList", version, &items)
        }
        _ => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

/// A watch that says this and stays open.
fn open(events: &[Value]) -> Response {
    let lines: String = events.iter().map(|e| format!("{e}\n")).collect();
    let said = stream::iter([Ok::<_, std::io::Error>(Bytes::from(lines))]);
    Body::from_stream(said.chain(stream::pending())).into_response()
}

/// "Come back in an hour" is for those who can wait; whoever routes requests asks again soon.
#[tokio::test]
async fn an_api_server_that_is_unwell_is_asked_again_soon() {
    let server = Scripted::start().await;
    let (warnings, _guard) = Warnings::capture();
    server.set(|s| {
        s.unwell = Some(StatusCode::SERVICE_UNAVAILABLE);
        s.lists = [(5, vec![("a", 1)])].into();
    });
    let picker = server.follow().await;
    eventually("it is said", async || !warnings.with("inferencepools").is_empty()).await;
    assert!(warnings.with("inferencepools")[0].contains("503"), "{:?}", warnings.with("infer"));
    server.set(|s| s.unwell = Some(StatusCode::TOO_MANY_REQUESTS));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    server.set(|s| s.unwell = None);
    picker.has(&["a-rank-0=127.0.0.1:8000"]).await;
}

/// Versions expire in the middle of a watch, and before it begins. Each time there is a new list,
/// and who is in all of them is the same endpoint throughout.
#[tokio::test]
async fn an_expired_version_is_a_new_list() {
    let server = Scripted::start().await;
    let (warnings, _guard) = Warnings::capture();
    let expired = event("ERROR", &status(StatusCode::GONE, "Expired"));
    server.set(|s| {
        s.lists = [
            (5, vec![("a", 1), ("b", 2)]),
            (15, vec![("b", 2), ("c", 3)]),
            (25, vec![("b", 2)]),
            (35, vec![("d", 4), ("b", 2)]),
        ]
        .into();
        s.watches = [
            Watch::Says(vec![event("ADDED", &pod("c", 3, 6)), expired.clone()]),
            Watch::Refused(StatusCode::GONE),
            Watch::Says(vec![expired]),
        ]
        .into();
    });
    let picker = server.follow().await;
    let mut first = None;
    eventually("the worker that stays is there", async || {
        first = picker.endpoint("b-rank-0");
        first.is_some()
    })
    .await;
    picker.has(&["b-rank-0=127.0.0.2:8000", "d-rank-0=127.0.0.4:8000"]).await;
    let last = picker.endpoint("b-rank-0").expect("there");
    assert_eq!(last.instance, first.expect("was there").instance);
    eventually("the last list is watched", async || {
        server.set(|s| s.watched_from == ["5", "15", "25", "35"])
    })
    .await;
    assert_eq!(warnings.with("pods"), Vec::<String>::new());
}

/// A watch that ends in good order goes on where it was, without a list; a bookmark says where
/// that is when nothing else happened.
#[tokio::test]
async fn a_watch_that_ends_goes_on_from_its_bookmark() {
    let server = Scripted::start().await;
    let bookmark =
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "50"}});
    server.set(|s| {
        s.lists = [(5, vec![("a", 1)]), (99, vec![])].into();
        s.watches = [
            Watch::Says(vec![event("BOOKMARK", &bookmark)]),
            Watch::Says(vec![event("ADDED", &pod("b", 2, 60))]),
            Watch::Says(vec![event("DELETED", &pod("a", 1, 61))]),
        ]
        .into();
    });
    let picker = server.follow().await;
    picker.has(&["b-rank-0=127.0.0.2:8000"]).await;
    eventually("the last event is where it goes on", async || {
        server.set(|s| s.watched_from == ["5", "50", "60", "61"])
    })
    .await;
}

/// Something between us and the API server ends every watch before it says a word: we are down to
/// lists, and those must not follow each other without a pause.
#[tokio::test]
async fn watches_that_end_at_once_do_not_make_us_spin() {
    let server = Scripted::start().await;
    let (warnings, _guard) = Warnings::capture();
    server.set(|s| {
        s.lists = [(5, vec![("a", 1)]), (6, vec![("b", 2)])].into();
        s.watches = (0..10_000).map(|_| Watch::Says(vec![])).collect();
    });
    let picker = server.follow().await;
    picker.has(&["b-rank-0=127.0.0.2:8000"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let watches = server.set(|s| s.watched_from.len());
    assert!(watches < 20, "{watches} watches in two seconds");
    assert_eq!(warnings.with("pods").len(), 1, "{:?}", warnings.with("pods"));
}
