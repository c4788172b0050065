use proptest::prelude::*;
use serde_json::json;

use super::*;

const STANDALONE: &str = include_str!("../../../deploy/envoy/standalone.yaml");
const SIDECAR: &str =
    include_str!("../../../deploy/kustomize/overlays/standalone-sidecar/envoy.yaml");
const SERVICE: &str =
    include_str!("../../../deploy/kustomize/overlays/standalone-service/envoy.yaml");

fn queue(seconds: u64) -> Needs {
    Needs { waits: Some(Duration::from_secs(seconds)), ..NEEDS }
}

const NEEDS: Needs = Needs { waits: None, body: 32 << 20, tls: Some(true) };

fn found(text: &str, needs: &Needs) -> Vec<Finding> {
    examine(&parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")), needs)
}

/// Those that are no good, as `severity check what`.
fn bad(text: &str, needs: &Needs) -> Vec<String> {
    let is_bad = |finding: &Finding| finding.severity != Severity::Ok;
    let line = |f: Finding| format!("{:?} {} {}", f.severity, f.check, f.what);
    found(text, needs).into_iter().filter(is_bad).map(line).collect()
}

#[test]
fn what_we_ship_is_well() {
    for (name, text) in [("standalone", STANDALONE), ("sidecar", SIDECAR), ("service", SERVICE)] {
        let found = found(text, &queue(20));
        let problems: Vec<_> = found.iter().filter(|f| f.severity == Severity::Problem).collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}");
        let well = found.iter().filter(|f| f.severity == Severity::Ok).count();
        assert!(well >= 2, "{name}: {found:#?}");
    }
}

/// One change to what we ship, and what has to be said of it: severity and check, a part of what,
/// and a part of the line to change.
#[test]
fn each_fault_is_found_with_the_line_to_change() {
    let both = "request_body_mode: FULL_DUPLEX_STREAMED\n                response_body_mode: \
                FULL_DUPLEX_STREAMED";
    type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 27] = [
        (
            "ext_proc.v3.ExternalProcessor",
            "x.v3.Other",
            "Problem ext-proc",
            "no ext_proc filter",
            "http_filters",
        ),
        (
            "request_header_mode: SEND",
            "request_header_mode: SKIP",
            "Problem request-headers",
            "SKIP",
            "request_header_mode: SEND",
        ),
        (
            "request_body_mode: FULL_DUPLEX_STREAMED",
            "request_body_mode: NONE",
            "Problem request-body",
            "NONE",
            "FULL_DUPLEX_STREAMED",
        ),
        (
            "request_body_mode: FULL_DUPLEX_STREAMED",
            "request_body_mode: STREAMED",
            "Problem request-body",
            "STREAMED",
            "FULL_DUPLEX_STREAMED",
        ),
        (
            "request_body_mode: FULL_DUPLEX_STREAMED",
            "request_body_mode: BUFFERED_PARTIAL",
            "Problem request-body",
            "BUFFERED_PARTIAL",
            "FULL_DUPLEX_STREAMED",
        ),
        (
            "request_body_mode: FULL_DUPLEX_STREAMED",
            "request_body_mode: BUFFERED",
            "Note buffer",
            "1048576",
            "per_connection_buffer_limit_bytes",
        ),
        (
            "request_trailer_mode: SEND",
            "request_trailer_mode: SKIP",
            "Problem request-trailers",
            "request_trailer_mode",
            "request_trailer_mode: SEND",
        ),
        (
            "response_trailer_mode: SEND",
            "response_trailer_mode: DEFAULT",
            "Problem response-trailers",
            "response_trailer_mode",
            "response_trailer_mode: SEND",
        ),
        (
            "response_header_mode: SEND",
            "response_header_mode: SKIP",
            "Note response-headers",
            "SKIP",
            "response_header_mode: SEND",
        ),
        (
            "response_body_mode: FULL_DUPLEX_STREAMED",
            "response_body_mode: BUFFERED",
            "Problem response-body",
            "BUFFERED",
            "FULL_DUPLEX_STREAMED",
        ),
        (
            "response_body_mode: FULL_DUPLEX_STREAMED",
            "response_body_mode: NONE",
            "Note response-body",
            "NONE",
            "FULL_DUPLEX_STREAMED",
        ),
        (
            both,
            "request_body_mode: BUFFERED\n                response_body_mode: BUFFERED",
            "Problem response-body",
            "BUFFERED",
            "FULL_DUPLEX_STREAMED",
        ),
        (
            "message_timeout: 30s",
            "message_timeout: 5s",
            "Problem message-timeout",
            "may wait 20s",
            "message_timeout: 30s",
        ),
        (
            "message_timeout: 30s",
            "message_timeout: 0.2s",
            "Problem message-timeout",
            "200ms",
            "message_timeout",
        ),
        (
            "stream_idle_timeout: 300s",
            "stream_idle_timeout: 10s",
            "Problem stream-idle-timeout",
            "10s",
            "stream_idle_timeout",
        ),
        (
            "failure_mode_allow: false",
            "failure_mode_allow: true",
            "Note failure-mode",
            "true",
            "failure_mode_allow: false",
        ),
        (
            "failure_mode_allow: false",
            "mutation_rules: {disallow_all: true}",
            "Problem mutation-rules",
            "refuse",
            "disallow_all",
        ),
        (
            "failure_mode_allow: false",
            "forward_rules: {allowed_headers: {patterns: [{exact: content-type}]}}",
            "Problem forward-rules",
            ":path",
            "allowed_headers",
        ),
        (
            "timeout: 0s\n",
            "auto_host_rewrite: false\n",
            "Problem route-timeout",
            "15s",
            "timeout: 0s",
        ),
        (
            "idle_timeout: 300s\n                  retry",
            "idle_timeout: 15s\n                  retry",
            "Problem route-idle-timeout",
            "15s",
            "idle_timeout",
        ),
        (
            "retry_on: connect-failure,refused-stream,reset",
            "retry_on: 5xx",
            "Note retry-on-status",
            "5xx",
            "reset",
        ),
        ("idle_timeout: 4s", "idle_timeout: 60s", "Note idle-timeout", "60s", "idle_timeout: 4s"),
        (
            "http_header_name: x-gateway-destination-endpoint",
            "http_header_name: x-other",
            "Problem destination",
            "x-other",
            "x-gateway-destination-endpoint",
        ),
        (
            "type: ORIGINAL_DST",
            "type: STRICT_DNS",
            "Problem destination",
            "balances",
            "override_host",
        ),
        ("max_requests: 40000,", "", "Problem circuit-breaker", "max_requests 1024", "40000"),
        (
            "http2_protocol_options: {}",
            "http_protocol_options: {}",
            "Problem picker-http2",
            "HTTP/1.1",
            "http2_protocol_options",
        ),
        ("UpstreamTlsContext", "Other", "Problem picker-tls", "without TLS", "transport_socket"),
    ];
    let before = bad(STANDALONE, &queue(20));
    for (from, to, check, what, change) in cases {
        assert!(STANDALONE.contains(from), "{from}");
        let edited = STANDALONE.replacen(from, to, 1);
        let told = found(&edited, &queue(20));
        let hit = told.iter().find(|f| {
            format!("{:?} {}", f.severity, f.check) == check
                && f.what.contains(what)
                && f.change.contains(change)
                && !f.why.is_empty()
        });
        assert!(hit.is_some(), "{from} -> {to}: wanted {check}: {told:#?}");
        let line = format!("{check} {}", hit.map_or("", |f| &f.what));
        assert!(!before.contains(&line), "found before the change: {line}");
    }
}

#[test]
fn buffers_and_tls_are_held_against_the_flags() {
    let buffered = STANDALONE
        .replace("request_body_mode: FULL_DUPLEX_STREAMED", "request_body_mode: BUFFERED");
    let small = buffered.replace(
        "  - name: gateway\n",
        "  - name: gateway\n    per_connection_buffer_limit_bytes: 32768\n",
    );
    let has = |text: &str, needs: &Needs, line: &str| {
        bad(text, needs).iter().any(|found| found.starts_with(line))
    };
    assert!(has(&small, &NEEDS, "Problem buffer"), "{:?}", bad(&small, &NEEDS));
    assert!(!has(&small, &Needs { body: 32768, ..NEEDS }, "Problem buffer"));
    // Nothing is buffered where bodies stream.
    assert!(!has(SERVICE, &NEEDS, "Problem buffer"));
    assert!(has(STANDALONE, &Needs { tls: Some(false), ..NEEDS }, "Problem picker-tls"));
    assert!(!has(STANDALONE, &Needs { tls: None, ..NEEDS }, "Problem picker-tls"));
    assert!(has(STANDALONE, &queue(0), "Note message-timeout"));
    assert!(has(STANDALONE, &queue(30), "Problem message-timeout"));
    assert!(has(STANDALONE, &queue(400), "Problem stream-idle-timeout"));
}

/// A listener with routes elsewhere, as control planes make them.
fn dump(route: Value, filter: Value) -> Value {
    let bootstrap = parse(STANDALONE).expect("YAML");
    let listener = &bootstrap["static_resources"]["listeners"][0];
    let mut listener = listener.clone();
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["route_config"] = Value::Null;
    manager["rds"] = json!({"route_config_name": "r"});
    if let (Some(to), Some(more)) = (manager["http_filters"][0].as_object_mut(), filter.as_object())
    {
        to.extend(more.clone());
    }
    let clusters = bootstrap["static_resources"]["clusters"].as_array().expect("a list").clone();
    let clusters: Vec<Value> = clusters.into_iter().map(|c| json!({"cluster": c})).collect();
    json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": bootstrap},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
         "dynamic_listeners": [{"name": "l", "active_state": {"listener": listener}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
         "dynamic_active_clusters": clusters},
        {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
         "dynamic_route_configs": [{"route_config": {"name": "r", "virtual_hosts": [
            {"name": "v", "routes": [route]}]}}]},
    ]})
}

#[test]
fn dumps_are_followed_to_their_routes() {
    let checks = |route: Value, filter: Value| -> Vec<&'static str> {
        let found = examine(&dump(route, filter), &NEEDS);
        let problems = found.iter().filter(|f| f.severity == Severity::Problem);
        problems.map(|f| f.check).collect()
    };
    let good = json!({"route": {"cluster": "picked_worker", "timeout": "0s"}});
    let slow = json!({"route": {"cluster": "picked_worker", "timeout": "10s"}});
    let off = json!({"@type": "x.ExtProcPerRoute", "disabled": true});
    let on = json!({"@type": "x.ExtProcPerRoute", "overrides": {}});
    let with = |route: &Value, per_route: &Value| {
        let mut route = route.clone();
        route["typed_per_filter_config"] = json!({"envoy.filters.http.ext_proc": per_route});
        route
    };
    assert_eq!(checks(good.clone(), json!({})), [""; 0]);
    assert_eq!(checks(slow.clone(), json!({})), ["route-timeout"]);
    // A route without the picker is none of ours.
    assert_eq!(checks(with(&slow, &off), json!({})), [""; 0]);
    assert_eq!(checks(slow.clone(), json!({"disabled": true})), [""; 0]);
    assert_eq!(checks(with(&slow, &on), json!({"disabled": true})), ["route-timeout"]);
    let weighted = json!({"route": {"timeout": "0s", "weighted_clusters": {"clusters": [
        {"name": "picked_worker"}, {"name": "epp"}]}}});
    assert_eq!(checks(weighted, json!({})), ["destination", "idle-timeout"]);
}

#[test]
fn endpoints_in_metadata_need_the_filter_to_let_them_in() {
    let of_metadata = STANDALONE.replace("      use_http_header: true\n", "").replace(
        "http_header_name: x-gateway-destination-endpoint",
        "metadata_key: {key: envoy.lb, path: [{key: x-gateway-destination-endpoint}]}",
    );
    let let_in = of_metadata.replace(
        "failure_mode_allow: false",
        "metadata_options: {receiving_namespaces: {untyped: [envoy.lb]}}",
    );
    let told = |text: &str| bad(text, &NEEDS).iter().any(|f| f.starts_with("Problem metadata"));
    assert!(told(&of_metadata));
    assert!(!told(&let_in), "{:?}", bad(&let_in, &NEEDS));
    let policy = |source: &str| {
        STANDALONE.replace("type: ORIGINAL_DST", "type: STATIC").replace(
            "lb_policy: CLUSTER_PROVIDED",
            &format!(
                "load_balancing_policy: {{policies: [{{typed_extension_config: {{typed_config: \
                 {{\"@type\": x.v3.OverrideHost, override_host_sources: [{source}]}}}}}}]}}"
            ),
        )
    };
    let metadata = "{metadata: {key: envoy.lb, path: [{key: x-gateway-destination-endpoint}]}}";
    let header = "{header: x-gateway-destination-endpoint}";
    assert!(told(&policy(metadata)));
    assert!(!bad(&policy(header), &NEEDS).iter().any(|f| f.starts_with("Problem")));
    let elsewhere = bad(&policy("{header: x-other}"), &NEEDS);
    assert!(elsewhere.iter().any(|f| f.starts_with("Problem destination")), "{elsewhere:?}");
}

#[test]
fn other_services_behind_ext_proc_are_not_taken_for_pickers() {
    let router = "          - name: envoy.filters.http.ext_proc/router\n            typed_config:\n              \
                  \"@type\": x.v3.ExternalProcessor\n              processing_mode: {request_body_mode: \
                  BUFFERED}\n              grpc_service: {envoy_grpc: {cluster_name: other}}\n";
    let two = STANDALONE.replacen(
        "          http_filters:\n",
        &format!("          http_filters:\n{router}"),
        1,
    );
    assert_eq!(bad(&two, &NEEDS), bad(STANDALONE, &NEEDS));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9.:/ -]{0,12}".prop_map(Value::from),
        Just(Value::from("-1s")),
        Just(Value::from("1e300s")),
        Just(Value::from("FULL_DUPLEX_STREAMED")),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_@]{1,8}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Puts `with` in the place of the value that comes after `steps` others.
fn replace(value: &mut Value, steps: &mut usize, with: &Value) {
    if *steps == 0 {
        *value = with.clone();
        *steps = usize::MAX;
        return;
    }
    *steps -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(entries) => entries.iter_mut().map(|(_, value)| value).collect(),
        _ => return,
    };
    for child in children {
        replace(child, steps, with);
        if *steps == usize::MAX {
            return;
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}|[-{}\\[\\]:,&*a \n\"]{0,60}") {
        if let Ok(document) = parse(&text) {
            examine(&document, &NEEDS);
        }
    }

    #[test]
    fn any_document_is_survived(value in any_json()) {
        examine(&value, &NEEDS);
        examine(&json!({"static_resources": value}), &NEEDS);
        examine(&json!({"configs": [value]}), &NEEDS);
    }

    #[test]
    fn a_true_document_with_anything_in_any_place_is_survived(
        steps in 0_usize..400,
        with in any_json(),
        in_dump in any::<bool>(),
    ) {
        let mut document = match in_dump {
            true => dump(json!({"route": {"cluster": "picked_worker"}}), json!({})),
            false => parse(STANDALONE).expect("YAML"),
        };
        replace(&mut document, &mut { steps }, &with);
        for finding in examine(&document, &queue(20)) {
            prop_assert!(!finding.what.is_empty());
        }
    }
}
