//! The clusters: of the picker, and of the workers that it picks.

use std::time::Duration;

use serde_json::Value;

use super::document::Connection;
use super::path::{duration, get, is_type, list, number, text, truth};
use super::{Finding, Needs, SUBJECT};

/// The header and the metadata that name the endpoint picked.
const DESTINATION: &str = "x-gateway-destination-endpoint";
const NAMESPACE: &str = "envoy.lb";
/// The header that ORIGINAL_DST reads where none is named.
const DEFAULT_HEADER: &str = "x-envoy-original-dst-host";
/// Envoy's default of everything that a circuit breaker counts.
const DEFAULT_LIMIT: u64 = 1024;
/// Envoy's default of how long a connection is kept that nothing is sent on.
const DEFAULT_IDLE: Duration = Duration::from_secs(3600);
/// uvicorn, which serves vLLM and SGLang, closes a connection after so long without a request
/// (vLLM: `VLLM_HTTP_TIMEOUT_KEEP_ALIVE`).
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The options of upstream connections.
fn options(cluster: &Value) -> Option<&Value> {
    get(cluster, &["typed_extension_protocol_options"])?
        .as_object()?
        .values()
        .find(|options| is_type(options, "HttpProtocolOptions"))
}

/// What a circuit breaker of ordinary requests allows of these.
fn limits<'n>(cluster: &Value, names: &[&'n str]) -> Vec<(&'n str, u64)> {
    let thresholds = list(cluster, &["circuit_breakers", "thresholds"]).iter();
    let ordinary = |t: &&Value| matches!(text(t, &["priority"]), None | Some("DEFAULT"));
    let ordinary = thresholds.into_iter().find(ordinary);
    let limit = |name: &'n str| {
        let given = ordinary.and_then(|threshold| number(threshold, &[name]));
        (name, given.unwrap_or(DEFAULT_LIMIT))
    };
    names.iter().map(|name| limit(name)).filter(|(_, limit)| *limit <= DEFAULT_LIMIT).collect()
}

/// The cluster that is asked for the pick.
pub(super) fn of_picker(
    name: Option<&str>,
    cluster: Option<&Value>,
    needs: &Needs,
) -> Vec<Finding> {
    // Without a name it is asked by Google's client, which has no cluster.
    let Some(name) = name else { return Vec::new() };
    let about = format!("cluster {name}");
    let Some(cluster) = cluster else {
        return vec![
            Finding::note(SUBJECT, "picker-cluster", "is not in this configuration")
                .about(about)
                .why("how the picker is reached is not looked at"),
        ];
    };
    let mut found = Vec::new();
    let http2 = options(cluster).is_some_and(|options| {
        ["explicit_http_config", "auto_config", "use_downstream_protocol_config"]
            .iter()
            .any(|kind| get(options, &[*kind, "http2_protocol_options"]).is_some())
    });
    if !http2 && get(cluster, &["http2_protocol_options"]).is_none() {
        found.push(
            Finding::problem(SUBJECT, "picker-http2", "is spoken to in HTTP/1.1")
                .why("the picker speaks gRPC: no stream opens, every request fails")
                .change("explicit_http_config: {http2_protocol_options: {}}"),
        );
    }
    let speaks_tls = get(cluster, &["transport_socket"])
        .and_then(|socket| get(socket, &["typed_config"]))
        .is_some_and(|config| is_type(config, "UpstreamTlsContext"));
    if let Some(tls) = needs.tls.filter(|tls| *tls != speaks_tls) {
        let (what, change) = match tls {
            true => (
                "is spoken to without TLS, and the picker's port speaks TLS",
                "transport_socket: envoy.transport_sockets.tls, or --secure-serving=false",
            ),
            false => (
                "is spoken to over TLS, and the picker's port does not speak it",
                "no transport_socket, or --secure-serving",
            ),
        };
        found.push(
            Finding::problem(SUBJECT, "picker-tls", what)
                .why("no stream opens, every request fails")
                .change(change),
        );
    }
    if needs.tls.is_none() && !speaks_tls {
        found.push(
            Finding::note(SUBJECT, "picker-tls", "is spoken to without TLS")
                .why("the picker's port speaks TLS unless it has --secure-serving=false"),
        );
    }
    if let [(_, limit), ..] = limits(cluster, &["max_requests"])[..] {
        let what = format!("takes {limit} streams at a time (circuit_breakers max_requests)");
        found.push(
            Finding::note(SUBJECT, "picker-circuit-breaker", what)
                .why("every request in progress has one, answers too: more get an error")
                .change("circuit_breakers: {thresholds: [{max_requests: 40000}]}"),
        );
    }
    found.into_iter().map(|finding| finding.about(about.as_str())).collect()
}

/// A cluster behind the picker; requests to it may be repeated where their connection was reset.
pub(super) fn of_workers(
    name: &str,
    cluster: Option<&Value>,
    connection: &Connection<'_>,
    is_repeated: bool,
) -> Vec<Finding> {
    let about = format!("cluster {name}");
    let Some(cluster) = cluster else {
        return vec![
            Finding::note(SUBJECT, "cluster", "is not in this configuration")
                .about(about)
                .why("where requests go is not looked at"),
        ];
    };
    let mut found = Vec::new();
    destination(cluster, connection, &mut found);
    let names = ["max_connections", "max_pending_requests", "max_requests"];
    let low = limits(cluster, &names);
    if !low.is_empty() {
        let low: Vec<String> = low.iter().map(|(name, limit)| format!("{name} {limit}")).collect();
        found.push(
            Finding::problem(
                SUBJECT,
                "circuit-breaker",
                format!("circuit_breakers: {}, of all workers together", low.join(", ")),
            )
            .why("what is above it gets 503 at once, with flag UO, whatever the workers could take")
            .change(
                "circuit_breakers: {thresholds: [{max_connections: 40000, max_pending_requests: \
                 40000, max_requests: 40000}]}",
            ),
        );
    }
    let idle = options(cluster)
        .and_then(|o| duration(o, &["common_http_protocol_options", "idle_timeout"]))
        .or_else(|| duration(cluster, &["common_http_protocol_options", "idle_timeout"]))
        .unwrap_or(DEFAULT_IDLE);
    if idle >= KEEP_ALIVE || idle.is_zero() {
        let what = format!("keeps idle connections for {idle:?}");
        let finding = match is_repeated {
            true => Finding::note(SUBJECT, "idle-timeout", what).why(
                "vLLM and SGLang (uvicorn) close theirs after 5 s: requests that meet that are sent \
                 again by the retry policy",
            ),
            false => Finding::problem(SUBJECT, "idle-timeout", what).why(
                "vLLM and SGLang (uvicorn) close theirs after 5 s: a request that goes out just \
                 then gets 503",
            ),
        };
        found.push(finding.change(
            "HttpProtocolOptions: {common_http_protocol_options: {idle_timeout: 4s}}, and \
             retry_on: connect-failure,refused-stream,reset",
        ));
    }
    let is_well = found.iter().all(|finding| finding.severity != super::Severity::Problem);
    if is_well {
        found.push(Finding::ok(SUBJECT, "cluster", "goes to the endpoint that was picked"));
    }
    found.into_iter().map(|finding| finding.about(about.as_str())).collect()
}

/// Whether requests go to the endpoint that was picked.
fn destination(cluster: &Value, connection: &Connection<'_>, found: &mut Vec<Finding>) {
    if text(cluster, &["type"]) == Some("ORIGINAL_DST") {
        return original_dst(cluster, connection, found);
    }
    let Some(sources) = override_host(cluster) else {
        found.push(
            Finding::problem(SUBJECT, "destination", "balances requests by itself")
                .why("the endpoint that was picked is not looked at")
                .change(format!(
                    "type: ORIGINAL_DST with original_dst_lb_config: {{use_http_header: true, \
                     http_header_name: {DESTINATION}}}, or the override_host policy"
                )),
        );
        return;
    };
    let by_header = sources.iter().any(|source| is_header(text(source, &["header"])));
    let by_metadata = sources.iter().any(|source| names_metadata(source, &["metadata"]));
    match (by_header, by_metadata) {
        (true, _) => {}
        (false, true) => received(connection, found),
        (false, false) => found.push(
            Finding::problem(
                SUBJECT,
                "destination",
                "override_host looks elsewhere for the endpoint",
            )
            .why("the fallback policy picks, silently")
            .change(format!("override_host_sources: [{{header: {DESTINATION}}}]")),
        ),
    }
}

fn original_dst(cluster: &Value, connection: &Connection<'_>, found: &mut Vec<Finding>) {
    let config = get(cluster, &["original_dst_lb_config"]).unwrap_or(&Value::Null);
    if names_metadata(config, &["metadata_key"]) {
        return received(connection, found);
    }
    let header = text(config, &["http_header_name"]).unwrap_or(DEFAULT_HEADER);
    let uses = truth(config, &["use_http_header"]);
    if !uses || !is_header(Some(header)) {
        let what = match uses {
            true => format!("goes by the header {header}"),
            false => "goes where the client's connection was to, not by a header".to_owned(),
        };
        found.push(
            Finding::problem(SUBJECT, "destination", what)
                .why(format!("the picker writes the endpoint into {DESTINATION}"))
                .change(format!(
                    "original_dst_lb_config: {{use_http_header: true, http_header_name: \
                     {DESTINATION}}}"
                )),
        );
    }
}

/// The sources of the override_host policy, if the cluster has it.
fn override_host(cluster: &Value) -> Option<&[Value]> {
    let policies = list(cluster, &["load_balancing_policy", "policies"]).iter();
    let mut configs = policies.filter_map(|p| get(p, &["typed_extension_config", "typed_config"]));
    let policy = configs.find(|config| is_type(config, "OverrideHost"))?;
    Some(list(policy, &["override_host_sources"]))
}

fn is_header(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.eq_ignore_ascii_case(DESTINATION))
}

/// Whether a metadata key at `path` is that of the endpoint picked.
fn names_metadata(value: &Value, path: &[&str]) -> bool {
    let Some(key) = get(value, path) else { return false };
    let mut segments = list(key, &["path"]).iter().filter_map(|segment| text(segment, &["key"]));
    text(key, &["key"]) == Some(NAMESPACE) && segments.any(|key| key == DESTINATION)
}

/// Where the endpoint is read out of metadata, the filter has to let the picker set it.
fn received(connection: &Connection<'_>, found: &mut Vec<Finding>) {
    let lets = |config: &Value| {
        let namespaces = &["metadata_options", "receiving_namespaces", "untyped"];
        list(config, namespaces).iter().any(|name| name.as_str() == Some(NAMESPACE))
    };
    if connection.pickers.iter().any(|picker| lets(picker.config)) {
        return;
    }
    found.push(
        Finding::problem(
            SUBJECT,
            "metadata",
            "reads the endpoint out of metadata that the ext_proc filter does not let in",
        )
        .why("the fallback policy picks, silently")
        .change(format!(
            "ext_proc: metadata_options: {{receiving_namespaces: {{untyped: [{NAMESPACE}]}}}}"
        )),
    );
}
