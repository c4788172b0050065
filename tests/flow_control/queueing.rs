use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::rig::*;
use crate::support::client::Gateway;
use crate::support::program::Program;

/// Addresses nobody listens at: what is in flight there is known all the same.
fn endpoints(n: u8) -> Vec<SocketAddr> {
    (1..=n).map(|i| SocketAddr::from(([127, 0, 0, i], 29_500 + u16::from(i)))).collect()
}

async fn start(config: &str, n: u8, arguments: &[&str]) -> (Program, Gateway) {
    let program = Program::start(config, &endpoints(n), arguments);
    let gateway = Gateway::connect(program.grpc_port).await;
    (program, gateway)
}

/// One that is routed at once.
async fn running(gateway: &Gateway, tenant: &str) -> Asked {
    let mut asked = Asked::of(gateway, tenant).await;
    asked.routed().await;
    asked
}

#[tokio::test]
async fn a_greedy_tenant_waits_longer_than_modest_ones() {
    let (program, gateway) = start(&config("", "", ""), 1, &[]).await;
    let port = program.metrics_port;
    let mut last = running(&gateway, "first").await;
    let mut waiting = Vec::new();
    for tenant in ["greedy", "greedy", "greedy", "greedy", "modest", "other"] {
        waiting.push(Asked::of(&gateway, tenant).await);
        until_waiting(port, waiting.len() as u64).await;
    }
    let shown = page(port).await;
    let band = &shown["bands"][0];
    assert_eq!((&band["priority"], &band["requests"]), (&0.into(), &6.into()));
    assert_eq!(band["bytes"], 6 * HELLO.len());
    assert_eq!(band["flows"][0]["fairnessId"], "greedy");
    assert_eq!(band["flows"][0]["requests"], 4);
    assert_eq!(shown["saturation"]["effective"], 1.0);
    let held = metric(port, "llm_d_epp_flow_control_queue_bytes", &["greedy"]).await;
    assert_eq!(held, (4 * HELLO.len()) as f64);

    let mut order = Vec::new();
    while !waiting.is_empty() {
        last.finish().await;
        let (next, answer) = next_of(&mut waiting).await;
        assert!(matches!(answer, Answer::Routed(_)), "{answer:?}");
        order.push(next.name.clone());
        last = next;
    }
    assert_eq!(order, ["greedy", "modest", "other", "greedy", "greedy", "greedy"]);
    let queue = "llm_d_epp_flow_control_request_queue_duration_seconds_count";
    assert_eq!(metric(port, queue, &["outcome=\"Dispatched\"", "greedy"]).await, 4.0);
    let total = "inference_extension_flow_control_requests_total";
    assert_eq!(metric(port, total, &["outcome=\"Dispatched\"", "priority=\"0\""]).await, 7.0);
    assert_eq!(metric(port, "llm_d_epp_flow_control_queue_size", &[]).await, 0.0);
    let pool_saturation = "llm_d_epp_flow_control_pool_saturation";
    assert_eq!(metric(port, pool_saturation, &["stage=\"effective\""]).await, 1.0);
}

#[tokio::test]
async fn what_cannot_wait_is_told_why_and_when_to_come_back() {
    let limits = "  maxRequests: 2\n  defaultRequestTTL: 30s";
    let (program, gateway) = start(&config("", limits, ""), 1, &[]).await;
    let first = running(&gateway, "a").await;
    let mut second = Asked::of(&gateway, "a").await;
    until_waiting(program.metrics_port, 1).await;
    let hurried = [("x-llm-d-inference-ttl", "300ms")];
    let mut hurried = Asked::send(&gateway, "hurried", &hurried).await;
    until_waiting(program.metrics_port, 2).await;
    let mut third = Asked::of(&gateway, "a").await;
    assert_eq!(third.answer().await.reason(), (429, "rejected-saturated".into()));
    assert_eq!(hurried.answer().await.reason(), (429, "rejected-ttl-expired".into()));
    first.finish().await;
    second.routed().await;

    let _waiting = [Asked::of(&gateway, "a").await, Asked::of(&gateway, "b").await];
    until_waiting(program.metrics_port, 2).await;
    match Asked::of(&gateway, "a").await.answer().await {
        Answer::Refused(429, _, Some(seconds)) => assert!((1..=300).contains(&seconds)),
        other => panic!("{other:?}"),
    }
    let outcomes = "llm_d_epp_flow_control_requests_total";
    let port = program.metrics_port;
    assert_eq!(metric(port, outcomes, &["outcome=\"RejectedCapacity\""]).await, 2.0);
    assert_eq!(metric(port, outcomes, &["outcome=\"EvictedTTL\""]).await, 1.0);
    let used = "llm_d_epp_flow_control_global_capacity_utilization_requests";
    assert_eq!(metric(port, used, &[]).await, 1.0);
}

#[tokio::test]
async fn clients_that_give_up_leave_nothing_behind() {
    let (program, gateway) = start(&config("", "", ""), 2, &[]).await;
    let port = program.metrics_port;
    let (first, second) = (running(&gateway, "a").await, running(&gateway, "a").await);
    let mut waiting = Vec::new();
    for n in 0..40 {
        waiting.push(Asked::of(&gateway, &format!("tenant {}", n % 7)).await);
    }
    until_waiting(port, 40).await;
    let mut stays = waiting.remove(20);
    drop(waiting);
    until_waiting(port, 1).await;
    // One that runs is cut instead of finished: its place is free all the same.
    drop(first);
    stays.routed().await;
    second.finish().await;
    drop(stays);
    crate::support::eventually("an idle pool", || async {
        let shown = page(port).await;
        (shown["saturation"]["effective"] == 0.0).then_some(())
    })
    .await;
    let shown = page(port).await;
    assert_eq!((&shown["requests"], &shown["bytes"]), (&0.into(), &0.into()));
    let outcomes = "llm_d_epp_flow_control_requests_total";
    assert_eq!(metric(port, outcomes, &["outcome=\"EvictedContextCancelled\""]).await, 39.0);
    assert_eq!(metric(port, "llm_d_epp_flow_control_queue_bytes", &[]).await, 0.0);
}

/// An endpoints file with so many endpoints.
fn write(file: &Path, n: u8) {
    let entry = |(i, e): (usize, SocketAddr)| {
        format!("- {{name: w{i}, address: {}, port: {}}}\n", e.ip(), e.port())
    };
    let list: String = endpoints(n).into_iter().enumerate().map(entry).collect();
    let text = if n == 0 { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{list}") };
    std::fs::write(file, text).unwrap();
}

fn from_file(file: &Path, flow_control: &str) -> (Program, String) {
    let plugins = format!("- type: file-discovery\n  parameters: {{path: {}}}", file.display());
    let discovery = ", discovery: {pluginRef: file-discovery}";
    let config = config(&plugins, flow_control, discovery);
    // On one thread: two that are let through at one moment see each other's picks.
    (Program::start_in(&config, &[], &[("TOKIO_WORKER_THREADS", "1")]), config)
}

#[tokio::test]
async fn requests_wait_for_a_pool_to_come_from_zero() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("endpoints.yaml");
    write(&file, 0);
    let (program, _) = from_file(&file, "  defaultRequestTTL: 1s\n  noEndpointRequestTTL: 60s");
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut first = Asked::of(&gateway, "a").await;
    let mut second = Asked::of(&gateway, "a").await;
    until_waiting(program.metrics_port, 2).await;
    assert_eq!(page(program.metrics_port).await["saturation"]["poolIsEmpty"], true);
    write(&file, 2);
    let (one, other) = (first.routed().await, second.routed().await);
    assert_ne!(one, other);

    // An endpoint goes, and with it its place; what waits goes where there is one.
    let mut third = Asked::of(&gateway, "a").await;
    until_waiting(program.metrics_port, 1).await;
    write(&file, 1);
    until_endpoints(program.metrics_port, 1).await;
    let kept = endpoints(1)[0].to_string();
    let (on_kept, on_gone) = if one == kept { (first, second) } else { (second, first) };
    drop(on_gone);
    assert!(third.answer_within(Duration::from_millis(200)).await.is_none());
    on_kept.finish().await;
    assert_eq!(third.routed().await, kept);
}

#[tokio::test]
async fn a_pool_that_stays_empty_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("endpoints.yaml");
    write(&file, 0);
    let (program, _) = from_file(&file, "  noEndpointRequestTTL: 200ms");
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut asked = Asked::of(&gateway, "a").await;
    assert_eq!(asked.answer().await.reason(), (503, "rejected-no-endpoints".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_serves_what_waits_and_refuses_the_rest_at_its_end() {
    let (mut program, gateway) = start(&config("", "", ""), 1, &["--drain-timeout=2s"]).await;
    let first = running(&gateway, "a").await;
    let mut waiting = vec![Asked::of(&gateway, "a").await];
    until_waiting(program.metrics_port, 1).await;
    waiting.push(Asked::of(&gateway, "b").await);
    until_waiting(program.metrics_port, 2).await;
    program.process.signal("TERM");
    first.finish().await;
    let (second, answer) = next_of(&mut waiting).await;
    assert!(matches!(answer, Answer::Routed(_)), "{answer:?}");
    let refused = waiting[0].answer().await;
    assert_eq!(refused.reason(), (503, "rejected-shutting-down".into()));
    second.finish().await;
    drop((waiting, gateway));
    let (code, output) = program.process.wait();
    assert_eq!(code, Some(0), "{output}");
}
