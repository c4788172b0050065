//! Priorities come from objects in a cluster; here they are handed to the same parts that the
//! program is made of.

use std::sync::Arc;

use epp::api::Parsers;
use epp::clock;
use epp::endpoints::{EndpointSpec, Pool, PoolIds};
use epp::error::ErrorFormat;
use epp::exchange::{Director, ExchangeContext, QueuedAdmission, RequestLimits, keep_queue_time};
use epp::ext_proc::ExternalProcessorServer;
use epp::flow_control::{FlowControlConfig, FlowController, PoolLoad};
use epp::loader::{self, LoadOptions};
use epp::objectives::Objectives;
use epp::scheduling::Runtime;
use epp::server::{Incoming, ListenerOptions, bind, serve_grpc};
use epp::telemetry::Metrics;
use tonic::service::Routes;

use crate::rig::*;
use crate::support::client::Gateway;
use crate::support::eventually;
use crate::support::runtime::Tokio;

fn spec(n: u8) -> EndpointSpec {
    EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: format!("w{n}"),
        pod_name: format!("w{n}"),
        ip: [127, 0, 0, n].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
    }
}

struct Picker {
    gateway: Gateway,
    controller: Arc<FlowController>,
    _runtime: Arc<dyn Runtime>,
}

/// A picker for so many endpoints, with objectives named `p<priority>`.
async fn picker(flow_control: &str, endpoints: u8, priorities: &[i32]) -> Picker {
    let pool = Arc::new(Pool::new());
    pool.replace((1..=endpoints).map(spec).collect());
    let text = config("", flow_control, "");
    let ids: &PoolIds = pool.ids();
    let (pipeline, diagnostics) = loader::load("f", Some(&text), &LoadOptions::default(), ids);
    let pipeline = pipeline.unwrap_or_else(|| panic!("{diagnostics}"));
    let objectives = Arc::new(Objectives::default());
    objectives.set_priorities(priorities.iter().map(|p| (format!("p{p}"), *p)).collect());

    let metrics = Arc::new(Metrics::new().unwrap());
    let config = FlowControlConfig {
        observer: Some(metrics.clone()),
        ..pipeline.flow_control.clone().expect("the gate is on")
    };
    let load = Box::new(PoolLoad::new(pool.clone(), pipeline.saturation.clone()));
    let controller = FlowController::new(config, load, Arc::new(clock::now));
    let bands = Arc::downgrade(&controller);
    objectives.on_priorities(move |priorities| {
        if let Some(controller) = bands.upgrade() {
            controller.provision(priorities, clock::now());
        }
    });
    let runtime: Arc<dyn Runtime> = Arc::new(Tokio);
    keep_queue_time(&controller, &runtime);
    let admission = Arc::new(QueuedAdmission {
        controller: controller.clone(),
        detector: pipeline.saturation.clone(),
        listener: metrics.clone(),
        clock: Arc::new(clock::now),
    });
    let context = Arc::new(ExchangeContext {
        director: Director { objectives, ..Director::new(pool, pipeline.scheduler, admission) },
        parsers: Parsers::new(pipeline.parsers),
        processors: Vec::new(),
        awaiting: Vec::new(),
        response_hooks: Vec::new(),
        listeners: vec![metrics],
        tracer: None,
        runtime: runtime.clone(),
        limits: RequestLimits::new(1 << 20, 1 << 30),
        errors: ErrorFormat::default(),
        wants_prompt: pipeline.wants_prompt,
        counts_tokens: pipeline.counts_tokens,
        asks_for_usage: pipeline.asks_for_usage,
        until_over: Default::default(),
        response_bodies: Arc::default(),
    });
    let localhost = [127, 0, 0, 1].into();
    let incoming =
        Incoming::start(bind(Some(localhost), 0).await.unwrap(), None, ListenerOptions::EXT_PROC)
            .unwrap();
    let port = incoming.local_addr().port();
    let service = ExternalProcessorServer::new(Arc::new(context.into()), 64 << 20, None);
    tokio::spawn(serve_grpc(incoming, Routes::new(service), std::future::pending()));
    Picker { gateway: Gateway::connect(port).await, controller, _runtime: runtime }
}

impl Picker {
    async fn ask(&self, priority: i32) -> Asked {
        let objective = format!("p{priority}");
        let headers = [("x-llm-d-inference-objective", objective.as_str())];
        Asked::send(&self.gateway, &objective, &headers).await
    }

    async fn until_waiting(&self, requests: u64) {
        eventually("requests in the queue", || async {
            (self.controller.snapshot(clock::now()).requests == requests).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn higher_priorities_go_first() {
    let picker = picker("", 1, &[100, 0, -10]).await;
    let mut last = picker.ask(0).await;
    last.routed().await;
    let mut waiting = Vec::new();
    for priority in [-10, 0, 100, 0, -10, 100] {
        waiting.push(picker.ask(priority).await);
        picker.until_waiting(waiting.len() as u64).await;
    }
    let mut order = Vec::new();
    while !waiting.is_empty() {
        last.finish().await;
        let (next, _) = next_of(&mut waiting).await;
        order.push(next.name.clone());
        last = next;
    }
    assert_eq!(order, ["p100", "p100", "p0", "p0", "p-10", "p-10"]);
}

#[tokio::test]
async fn a_sheddable_request_ends_for_one_that_matters() {
    let picker = picker("  enableEviction: true", 2, &[0, -1, -5]).await;
    let mut stays = picker.ask(-1).await;
    stays.routed().await;
    let mut goes = picker.ask(-5).await;
    goes.routed().await;
    let mut urgent = picker.ask(0).await;
    assert_eq!(goes.evicted().await.reason(), (429, "evicted".into()));
    urgent.routed().await;
    stays.finish().await;
    let snapshot = picker.controller.snapshot(clock::now());
    assert_eq!(snapshot.revocations_issued, [(-5, 1)]);
    assert_eq!(snapshot.revocations_confirmed, 1);
    urgent.finish().await;
    assert_eq!(picker.controller.pending().requests, 0);
}

#[tokio::test]
async fn each_band_has_its_own_time() {
    let bands = "  defaultRequestTTL: 60s\n  priorityBands:\n  \
                 - {priority: -10, defaultRequestTTL: 100ms}\n  - {priority: 0}";
    let picker = picker(bands, 1, &[0, -10]).await;
    let mut first = picker.ask(0).await;
    first.routed().await;
    let mut patient = picker.ask(0).await;
    picker.until_waiting(1).await;
    let mut hurried = picker.ask(-10).await;
    assert_eq!(hurried.answer().await.reason(), (429, "rejected-ttl-expired".into()));
    first.finish().await;
    patient.routed().await;
}
