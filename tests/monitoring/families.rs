//! Every family of the reference (llm-d-router main at ebab6879), with its labels, type and buckets,
//! and what of them is not here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;

use crate::support::client::{Gateway, response_body, response_headers};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::program::Program;

const DIFFERENCES: &str = include_str!("../../docs/differences.md");

const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- {type: decode-filter}
- {type: prefill-filter}
- {type: prefix-cache-scorer}
- {type: queue-scorer}
- {type: predicted-latency-producer}
- {type: always-disagg-pd-decider}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
- {type: inflight-load-producer, name: loads}
- {type: program-aware-fairness}
- {type: utilization-detector}
flowControl:
  maxRequests: 100
  maxBytes: 1000000
  defaultPriorityBand: {fairnessPolicyRef: program-aware-fairness}
schedulingProfiles:
- name: prefill
  plugins: [{pluginRef: prefill-filter}, {pluginRef: prefix-cache-scorer}]
- name: decode
  plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer}, {pluginRef: queue-scorer}]
";

/// Upper bounds by the names that the table has for them.
const BUCKETS: &[(&str, &str)] = &[
    (
        "GL",
        "0.005 0.025 0.05 0.1 0.2 0.4 0.6 0.8 1 1.25 1.5 2 3 4 5 6 8 10 15 20 30 45 60 120 180 240 300 360 480 600 900 1200 1800 2700 3600",
    ),
    ("TTFT", "0.005 0.025 0.05 0.1 0.2 0.4 0.6 0.8 1 1.25 1.5 2 3 4 5 6 8 10 15 20 30 45 60 120"),
    (
        "SIZE",
        "64 128 256 512 1024 2048 4096 8192 16384 32768 65536 131072 262144 524288 1.048576e+06 2.097152e+06 4.194304e+06 8.388608e+06 1.6777216e+07 3.3554432e+07 6.7108864e+07 1.34217728e+08 2.68435456e+08 5.36870912e+08 1.073741824e+09",
    ),
    ("RESP", "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32778 65536"),
    (
        "TOKIN",
        "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32778 65536 131072 262144 524288 1.048576e+06",
    ),
    ("TOKOUT", "1 8 16 32 64 128 256 512 1024 2048 4096 8192"),
    ("FAST", "0.0001 0.0002 0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1"),
    ("NTPOT", "0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1 2 5 10"),
    (
        "STPOT",
        "0.0005 0.00205 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.125 0.15 0.2 0.3 0.4 0.5 0.6 0.8 1 2",
    ),
    ("ITL", "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.15 0.2 0.3 0.5 0.75 1 2"),
    ("QDUR", "0.0001 0.0005 0.001 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60"),
    ("REQP", "0.0005 0.001 0.002 0.005 0.01 0.015 0.025 0.04 0.06 0.1 0.25 0.5 1 2.5 5 10"),
    ("RSPP", "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5"),
    ("RATIO", "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1"),
    ("BYTES", "0 16 32 64 128 256 512 1024 2048 4096 8192 16384 32768 65536"),
    ("STREAM", "0.001 0.005 0.01 0.05 0.1 0.5 1 5 10 30 60 120 300 600"),
];

/// Name, older names, kind, labels, buckets. `L` stands for the labels of a request.
const TABLE: &str = "
request_total                             counter   L                                   -
request_error_total                       counter   L,error_code                        -
request_duration_seconds                  histogram L                                   GL
request_size_bytes                        histogram L                                   SIZE
response_size_bytes                       histogram L                                   RESP
request_input_tokens                      histogram L                                   TOKIN
request_output_tokens                     histogram L                                   TOKOUT
request_cached_tokens                     histogram L                                   TOKIN
request_running                           gauge     L                                   -
request_ntpot_seconds                     histogram L                                   NTPOT
request_ttft_seconds                      histogram L,streaming                         TTFT
request_streaming_tpot_seconds            histogram L                                   STPOT
request_streaming_itl_seconds             histogram L                                   ITL
request_processing_duration_seconds       histogram -                                   REQP
response_processing_duration_seconds      histogram -                                   RSPP
average_kv_cache_utilization              gauge     name                                -
average_queue_size                        gauge     name                                -
average_running_requests                  gauge     name                                -
std_dev_kv_cache_utilization              gauge     name                                -
std_dev_queue_size                        gauge     name                                -
std_dev_running_requests                  gauge     name                                -
ready_endpoints                           gauge     name                                -
per_endpoint_queue_size                   gauge     model_server_endpoint,name          -
scheduler_e2e_duration_seconds            histogram -                                   FAST
scheduler_attempts_total                  counter   endpoint_name,namespace,port,status,target_model_name -
plugin_duration_seconds                   histogram extension_point,plugin_name,plugin_type FAST
info                                      gauge     build_ref,commit                    -
datalayer_poll_errors_total               counter   source_type                         -
datalayer_extract_errors_total            counter   extractor_type,source_type          -
flow_control_request_queue_duration_seconds histogram fairness_id,inference_pool,model_name,outcome,priority,target_model_name QDUR
flow_control_request_enqueue_duration_seconds histogram fairness_id,outcome,priority    FAST
flow_control_queue_size                   gauge     fairness_id,inference_pool,model_name,priority,target_model_name -
flow_control_queue_bytes                  gauge     fairness_id,inference_pool,model_name,priority,target_model_name -
flow_control_pool_saturation              gauge     inference_pool,stage                -
flow_control_stale_endpoints              gauge     detector                            -
flow_control_capacity_utilization_requests gauge    inference_pool,priority             -
flow_control_capacity_utilization_bytes   gauge     inference_pool,priority             -
flow_control_global_capacity_utilization_requests gauge inference_pool                  -
flow_control_global_capacity_utilization_bytes gauge inference_pool                     -
flow_control_requests_total               counter   inference_pool,outcome,priority     -
flow_control_revocations_total            counter   inference_pool,outcome              -
flow_control_reclaim_target               gauge     inference_pool                      -
flow_control_pending_reclaim              gauge     inference_pool                      -
extproc_streams_inflight                  gauge     -                                   -
extproc_stream_duration_seconds           histogram -                                   STREAM
extproc_streams_total                     counter   code                                -
disagg_decision_total                     counter   decision_type,model_name,plugin_name,plugin_type -
prefix_indexer_size                       gauge     plugin_name,plugin_type             -
prefix_indexer_hit_ratio                  histogram plugin_name,plugin_type             RATIO
prefix_indexer_hit_bytes                  histogram plugin_name,plugin_type             BYTES
inflight_requests                         gauge     endpoint_name,fairness_id,namespace,priority,producer_name -
inflight_tokens                           gauge     endpoint_name,fairness_id,namespace,priority,producer_name -
program_aware_jains_fairness_index        gauge     -                                   -
program_aware_avg_wait_time_milliseconds  gauge     program_id                          -
program_aware_attained_service_tokens     gauge     program_id                          -
inference_objective_request_total         counter   model_name,priority,target_model_name -
inference_objective_request_error_total   counter   error_code,model_name,target_model_name -
inference_objective_request_duration_seconds histogram model_name,target_model_name     GL
inference_objective_request_sizes         histogram model_name,target_model_name        SIZE
inference_objective_response_sizes        histogram model_name,target_model_name        RESP
inference_objective_input_tokens          histogram model_name,target_model_name        TOKIN
inference_objective_output_tokens         histogram model_name,target_model_name        TOKOUT
inference_objective_prompt_cached_tokens  histogram model_name,target_model_name        TOKIN
inference_objective_running_requests      gauge     model_name                          -
inference_objective_normalized_time_per_output_token_seconds histogram model_name,target_model_name NTPOT
inference_pool_average_kv_cache_utilization gauge   name                                -
inference_pool_average_queue_size         gauge     name                                -
inference_pool_average_running_requests   gauge     name                                -
inference_pool_ready_pods                 gauge     name                                -
inference_pool_per_pod_queue_size         gauge     model_server_pod,name               -
inference_extension_scheduler_e2e_duration_seconds histogram -                          FAST
inference_extension_scheduler_attempts_total counter namespace,pod_name,port,status,target_model_name -
inference_extension_plugin_duration_seconds histogram extension_point,plugin_name,plugin_type FAST
inference_extension_info                  gauge     build_ref,commit                    -
inference_extension_prefix_indexer_size   gauge     -                                   -
inference_extension_prefix_indexer_hit_ratio histogram -                                RATIO
inference_extension_prefix_indexer_hit_bytes histogram -                                BYTES
inference_extension_flow_control_queue_size gauge   fairness_id,inference_pool,model_name,priority,target_model_name -
inference_extension_flow_control_requests_total counter inference_pool,outcome,priority -
llm_d_inference_scheduler_datalayer_poll_errors_total counter source_type               -
llm_d_inference_scheduler_datalayer_extract_errors_total counter extractor_type,source_type -
llm_d_inference_scheduler_disagg_decision_total counter decision_type,model_name        -
process_cpu_seconds_total                 counter   -                                   -
process_resident_memory_bytes             gauge     -                                   -
process_virtual_memory_bytes              gauge     -                                   -
process_open_fds                          gauge     -                                   -
process_max_fds                           gauge     -                                   -
process_start_time_seconds                gauge     -                                   -
";

/// What is published once it has happened, which takes more than one request: a queue that is left,
/// a running request that is ended for another, a rewrite, the older profile handler, a rollout.
const IN_TIME: &[&str] = &[
    "flow_control_dispatch_cycle_duration_seconds",
    "flow_control_revocations_issued_total",
    "flow_control_revocation_confirmation_seconds",
    "model_rewrite_decisions_total",
    "pd_decision_total",
    "disaggregatedset_strict_header_no_match_total",
    "disaggregatedset_revision_gating_share",
];

/// What the reference publishes and `epp` does not. Each is named in docs/differences.md, with the
/// reason.
const NOT_HERE: &[&str] = &[
    "plugin_data_scope_violations_total",
    "encoder_cache_queries_total",
    "encoder_cache_hits_total",
    "encoder_cache_hit_ratio",
    "inference_request_metric",
    "request_predicted_ttft_seconds",
    "request_predicted_tpot_seconds",
    "request_ttft_prediction_duration_seconds",
    "request_tpot_prediction_duration_seconds",
    "request_slo_violation_total",
    "kv_cache_index_",
    "kv_cache_events_",
    "go_",
    "controller_runtime_",
    "workqueue_",
    "rest_client_",
];

/// What a page says of a family.
#[derive(Debug, Default, PartialEq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    bounds: Vec<String>,
}

fn families(page: &str) -> BTreeMap<String, Family> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            current = name.to_owned();
            all.entry(current.clone()).or_default().kind = kind.to_owned();
        }
        let Some(family) = all.get_mut(&current).filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        for pair in inside.map_or("", |(inside, _)| inside).split("\",") {
            let Some((label, value)) = pair.split_once("=\"") else { continue };
            if label != "le" {
                family.labels.insert(label.to_owned());
            } else if !family.bounds.iter().any(|bound| bound == value.trim_end_matches('"')) {
                family.bounds.push(value.trim_end_matches('"').to_owned());
            }
        }
    }
    all
}

fn full(name: &str) -> String {
    let is_full =
        ["inference_", "llm_d_", "process_"].iter().any(|prefix| name.starts_with(prefix));
    if is_full && name != "inference_request_metric" {
        name.to_owned()
    } else {
        format!("llm_d_epp_{name}")
    }
}

fn expected(kind: &str, labels: &str, buckets: &str) -> Family {
    let labels = labels.replace('L', "fairness_id,model_name,priority,target_model_name");
    let labels = labels.split(',').filter(|label| *label != "-").map(str::to_owned).collect();
    let bounds = BUCKETS.iter().find(|(name, _)| *name == buckets);
    assert_eq!(bounds.is_none(), buckets == "-", "{buckets}");
    let mut bounds: Vec<String> =
        bounds.map_or("", |(_, bounds)| bounds).split_whitespace().map(str::to_owned).collect();
    if !bounds.is_empty() {
        bounds.push("+Inf".to_owned());
    }
    Family { kind: kind.to_owned(), labels, bounds }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_of_the_reference_is_here_or_named_among_the_differences() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
    let engine = Process::start("epp-sim", command.args(["--port", "0"]));
    let address: SocketAddr = engine.wait_for("its address", |line| {
        line.split_once("http://")?.1.split([' ', '/']).next()?.parse().ok()
    });
    let epp = Program::start(CONFIG, &[address], &["--enable-grpc-stream-metrics"]);
    let gateway = Gateway::connect(epp.grpc_port).await;
    let url = format!("http://127.0.0.1:{}/metrics", epp.metrics_port);
    let scrape = async || reqwest::get(&url).await.ok()?.text().await.ok();
    eventually("the engine's metrics", async || {
        scrape().await?.contains("llm_d_epp_per_endpoint_queue_size{").then_some(())
    })
    .await;
    let prompt = "word ".repeat(200);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let mut replies = gateway.post("/v1/chat/completions", &[], body.as_bytes()).await;
    replies.destination();
    let exchange = &mut replies.exchange;
    let head = [(":status", "200"), ("content-type", "text/event-stream")];
    exchange.send(response_headers(&head, false)).await;
    let event = br#"data: {"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}}

"#;
    exchange.send(response_body(event, false)).await;
    exchange.send(response_body(event, true)).await;
    exchange.half_close();
    exchange.rest().await;
    assert_eq!(gateway.post("/v1/chat/completions", &[], b"{").await.error().0, 400);

    let page = eventually("a stream that was counted", async || {
        let page = scrape().await?;
        page.contains("llm_d_epp_extproc_streams_total{").then_some(page)
    })
    .await;
    let found = families(&page);
    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let [name, kind, labels, buckets] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let name = full(name);
        let expected = expected(kind, labels, buckets);
        if found.get(&name) != Some(&expected) {
            wrong.push(format!("{name}: {:?}, expected {expected:?}", found.get(&name)));
        }
    }
    for name in IN_TIME {
        if found.contains_key(&full(name)) {
            wrong.push(format!("{name} is published at once: it belongs into the table"));
        }
    }
    for name in NOT_HERE {
        if !DIFFERENCES.contains(&format!("`{name}")) {
            wrong.push(format!("{name} is not named in docs/differences.md"));
        }
        let full = full(name);
        if found.keys().any(|known| known.starts_with(&full) || known.starts_with(name)) {
            wrong.push(format!("{name} is here by now"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(page.contains("producer_name=\"loads\""));
}
