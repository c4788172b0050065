//! The chart: what values render to, and which are refused. Values are our own under
//! `deploy/helm/epp/ci`, and those that llm-d's guides pass to the reference's charts, where they
//! lie beside the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use epp::cli;
use serde_json::{Value, json};

use crate::manifests::{arguments, containers, documents, kind, root, tool};

/// What `helm template` makes of values files, later ones on top, and of single values.
fn render(helm: &Path, values: &[PathBuf], set: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = Command::new(helm);
    command.args(["template", "vllm"]).arg(root().join("deploy/helm/epp")).arg("--namespace=prod");
    for file in values {
        command.arg("--values").arg(file);
    }
    for value in set {
        command.args(["--set", value]);
    }
    let output = command.stdin(Stdio::null()).output().expect("started");
    match output.status.success() {
        true => Ok(documents(&String::from_utf8(output.stdout).expect("text"))),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn ours(name: &str) -> PathBuf {
    root().join("deploy/helm/epp/ci").join(format!("{name}-values.yaml"))
}

/// A place in what was rendered, and what stands there: `null` where nothing does.
/// `Kind/name` and a JSON pointer.
type Fact<'a> = (&'a str, &'a str, Value);

fn object<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    let (of_kind, name) = name.split_once('/').expect("Kind/name");
    objects.iter().find(|o| kind(o) == of_kind && o["metadata"]["name"] == name)
}

fn check(set: &str, objects: &[Value], facts: &[Fact<'_>]) {
    for (name, pointer, expected) in facts {
        let found = object(objects, name).and_then(|o| o.pointer(pointer)).unwrap_or(&Value::Null);
        assert_eq!(found, expected, "{set}: {name}{pointer}");
    }
}

/// The arguments of the container of this name in the Deployment of this name.
fn arguments_of(objects: &[Value], deployment: &str, container: &str) -> Vec<String> {
    let deployment = object(objects, &format!("Deployment/{deployment}")).expect("a Deployment");
    let found = containers(deployment).find(|c| c["name"] == container).expect("the container");
    arguments(found)
}

/// The rendered endpoint picker configuration.
fn configuration<'a>(objects: &'a [Value], file: &str) -> &'a str {
    let map = object(objects, "ConfigMap/vllm-epp").expect("a ConfigMap");
    map["data"][file].as_str().expect("the file that the flag names")
}

const POD: &str = "/spec/template/spec";

#[test]
fn values_mean_what_they_mean_to_the_reference() {
    let Some(helm) = tool("helm") else { return };
    let sidecar = json!("/etc/envoy/envoy.yaml");
    let table: &[(&str, &[Fact<'_>])] = &[
        (
            "llm-d-guide",
            &[
                (
                    "InferencePool/vllm",
                    "/spec/targetPorts",
                    json!([{"number": 8000}, {"number": 8001}]),
                ),
                (
                    "InferencePool/vllm",
                    "/spec/selector/matchLabels/llm-d.ai~1guide",
                    json!("example"),
                ),
                ("InferencePool/vllm", "/spec/endpointPickerRef/failureMode", json!("FailOpen")),
                (
                    "Deployment/vllm-epp",
                    &format!("{POD}/containers/0/env/2"),
                    json!({"name": "EXAMPLE", "value": "true"}),
                ),
                ("Deployment/vllm-epp", &format!("{POD}/containers/1/args/7"), sidecar),
                ("Deployment/vllm-epp", &format!("{POD}/containers/1/args/8"), Value::Null),
                (
                    "Deployment/vllm-epp",
                    &format!("{POD}/containers/1/env/0/name"),
                    json!("EXAMPLE"),
                ),
                (
                    "Service/vllm-epp",
                    "/spec/ports/2",
                    json!({"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8081}),
                ),
                // 9090 is there already: twice the same port would be refused by the API server.
                ("Service/vllm-epp", "/spec/ports/1/port", json!(9090)),
                ("Service/vllm-epp", "/spec/ports/3", Value::Null),
            ],
        ),
        (
            "leader-flag",
            &[
                ("Deployment/vllm-epp", "/spec/replicas", json!(2)),
                ("Deployment/vllm-proxy", "/spec/replicas", json!(3)),
                ("PodDisruptionBudget/vllm-epp", "/spec/minAvailable", json!(1)),
                // Envoy is not in the picker's pod.
                ("Service/vllm-proxy", "/spec/ports/1/port", json!(80)),
                ("Service/vllm-proxy", "/spec/ports/1/name", json!("http")),
                ("Service/vllm-proxy", "/spec/ports/0/name", json!("http-8081")),
                ("Service/vllm-epp", "/spec/ports/2", Value::Null),
            ],
        ),
        (
            "istio",
            &[
                (
                    "DestinationRule/vllm-epp",
                    "/spec/host",
                    json!("vllm-epp.prod.svc.example.internal"),
                ),
                ("DestinationRule/vllm-epp", "/spec/trafficPolicy/tls/mode", json!("SIMPLE")),
                (
                    "DestinationRule/vllm-epp",
                    "/spec/trafficPolicy/connectionPool/http/maxRequestsPerConnection",
                    json!(256_000),
                ),
                (
                    "HTTPRoute/vllm",
                    "/spec/parentRefs/0",
                    json!({"name": "gateway", "namespace": "gateways"}),
                ),
                ("HTTPRoute/vllm", "/spec/rules/0/timeouts/request", json!("600s")),
                (
                    "HTTPRoute/vllm",
                    "/spec/rules/0/matches/0/headers",
                    json!([{"name": "x-model", "value": "llama"}]),
                ),
                ("InferencePool/vllm", "/spec/endpointPickerRef/failureMode", json!("FailClose")),
            ],
        ),
        (
            "gke",
            &[
                ("HTTPRoute/vllm", "/spec/rules/0/timeouts", Value::Null),
                ("GCPBackendPolicy/vllm", "/spec/default/timeoutSec", json!(300)),
                (
                    "HealthCheckPolicy/vllm",
                    "/spec/default/config/httpHealthCheck/port",
                    json!(8000),
                ),
            ],
        ),
        (
            "monitoring-open",
            &[
                ("ServiceMonitor/vllm-epp", "/metadata/labels/release", json!("prometheus")),
                ("ServiceMonitor/vllm-epp", "/spec/endpoints/0/interval", json!("30s")),
                ("ServiceMonitor/vllm-epp", "/spec/endpoints/0/authorization", Value::Null),
            ],
        ),
        (
            "active-active",
            &[("InferencePool/vllm", "/spec/appProtocol", json!("kubernetes.io/h2c"))],
        ),
    ];
    for (name, facts) in table {
        let objects = render(&helm, &[ours(name)], &[]).expect("rendered");
        check(name, &objects, facts);
    }
}

#[test]
fn a_configuration_is_passed_on_word_for_word() {
    let Some(helm) = tool("helm") else { return };
    let values: Value =
        serde_yaml::from_str(&std::fs::read_to_string(ours("llm-d-guide")).expect("readable"))
            .expect("YAML");
    let given = values.pointer("/router/epp/pluginsCustomConfig/guide.yaml").expect("a text");
    let objects = render(&helm, &[ours("llm-d-guide")], &[]).expect("rendered");
    let rendered = configuration(&objects, "guide.yaml");
    assert_eq!(rendered.trim_end(), given.as_str().expect("a text").trim_end());
}

#[test]
fn how_metrics_are_read_is_put_into_a_configuration_that_does_not_say_it() {
    let Some(helm) = tool("helm") else { return };
    let objects = render(&helm, &[ours("trtllm")], &[]).expect("rendered");
    let configuration = configuration(&objects, "by-load.yaml");
    let configuration: Value = serde_yaml::from_str(configuration).expect("YAML");
    let plugins = configuration["plugins"].as_array().expect("a list");
    assert_eq!(plugins.len(), 4);
    assert_eq!(plugins[0]["parameters"]["path"], "/prometheus/metrics");
    assert_eq!(plugins[1]["parameters"]["defaultEngine"], "trtllm-serve");
}

/// `epp` takes up a changed configuration by itself; where it is told not to, pods are replaced.
#[test]
fn a_changed_configuration_replaces_pods_only_where_epp_does_not_take_it_up() {
    let Some(helm) = tool("helm") else { return };
    let checksum = |set: &[&str]| {
        let objects = render(&helm, &[ours("llm-d-guide")], set).expect("rendered");
        let deployment = object(&objects, "Deployment/vllm-epp").expect("a Deployment").clone();
        !deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"].is_null()
    };
    let flag = |value: &str| format!("router.epp.flags.config-reload={value}");
    assert!(!checksum(&[]) && !checksum(&[&flag("watch")]));
    assert!(checksum(&[&flag("off")]) && checksum(&[&flag("signal")]));
}

#[test]
fn the_flag_for_leader_election_is_not_given_twice() {
    let Some(helm) = tool("helm") else { return };
    for (set, elected) in [
        (&["router.epp.replicas=2"][..], true),
        (&["router.epp.replicas=2", "router.epp.leaderElection=false"], false),
        (&["router.epp.replicas=2", "router.epp.flags.ha-enable-leader-election=false"], false),
        (&["router.epp.flags.ha-enable-leader-election=true"], true),
        (&[], false),
    ] {
        let objects = render(&helm, &[ours("gateway")], set).expect("rendered");
        let arguments = arguments_of(&objects, "vllm-epp", "epp");
        let said = arguments.iter().filter(|a| a.starts_with("--ha-enable-leader-election"));
        assert_eq!(said.collect::<Vec<_>>(), vec!["--ha-enable-leader-election"; elected.into()]);
    }
}

/// Values that would render, and then not be what was asked for.
#[test]
fn the_chart_refuses_what_it_cannot_do() {
    let Some(helm) = tool("helm") else { return };
    for (set, reason) in [
        ("router.epp.replicas=2", "cannot go with leader election"),
        ("router.epp.flags.secure-serving=false", "speaks TLS to the picker"),
        ("router.epp.pluginsCustomConfig.other=x", "pluginsConfigFile"),
        ("router.epp.replica=2", "replica"),
        ("router.tokenizer.enabled=true", "router.tokenizer.enabled"),
        ("router.monitoring.provider.name=gmp", "router.monitoring.provider.name gmp"),
        ("router.proxy.proxyType=agentgateway", "router.proxy.proxyType agentgateway"),
        ("router.proxy.presets.envoy.image=x", "router.proxy.presets"),
        ("router.proxy.args={--log-level,warn}", "router.proxy.args"),
        ("router.proxy.name=envoy", "router.proxy.name"),
        ("router.modelServers.targetPorts={8000,8000}", "targetPorts"),
        ("router.extraServicePorts[0].port=9002", "port 9002 is taken"),
        ("provider.gke.preferredBackends.enabled=true", "provider.gke.preferredBackends"),
        ("provider.name=eks", "provider"),
        ("router.provider.name=istio", "provider"),
        ("httproute.create=true", "httproute"),
    ] {
        // 9002 on 9002 would be the picker's own port, said twice.
        let more = match set.starts_with("router.extraServicePorts") {
            true => &[set, "router.extraServicePorts[0].targetPort=8081"][..],
            false => &[set],
        };
        let errors = render(&helm, &[ours("standalone-sidecar")], more).expect_err(set);
        assert!(errors.contains(reason), "{set}: {errors}");
    }
    for (name, set, reason) in [
        ("trtllm", "router.epp.parsers={openai-parser}", "router.epp.parsers"),
        (
            "leader-flag",
            "router.epp.leaderElection=true",
            "router.epp.leaderElection and router.epp.flags",
        ),
        (
            "gateway",
            "router.latencyPredictor.enabled=true,router.latencyPredictor.eppEnv.A=b",
            "router.latencyPredictor.eppEnv",
        ),
    ] {
        let errors = render(&helm, &[ours(name)], &[set]).expect_err(set);
        assert!(errors.contains(reason), "{set}: {errors}");
    }
}

/// Several mistakes are told at once.
#[test]
fn every_refusal_is_named() {
    let Some(helm) = tool("helm") else { return };
    let set = ["router.monitoring.provider.name=gmp", "router.tokenizer.enabled=true"];
    let errors = render(&helm, &[ours("gateway")], &set).expect_err("refused");
    assert!(errors.contains("gmp") && errors.contains("router.tokenizer"), "{errors}");
}

#[test]
fn tracing_is_told_to_the_picker() {
    let Some(helm) = tool("helm") else { return };
    let set =
        ["router.tracing.enabled=true", "router.tracing.otelExporterEndpoint=http://otel:4317"];
    let objects = render(&helm, &[ours("gateway")], &set).expect("rendered");
    let text = serde_json::to_string(&objects).expect("JSON");
    for (name, value) in [
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4317"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
    ] {
        let variable = format!(r#"{{"name":"{name}","value":"{value}"}}"#);
        assert!(text.contains(&variable), "{variable}: {text}");
    }
    let objects = render(&helm, &[ours("gateway")], &[]).expect("rendered");
    assert!(!serde_json::to_string(&objects).expect("JSON").contains("OTEL_"));
}

/// The values of llm-d's guides, where they lie beside the repository.
fn guides() -> Option<PathBuf> {
    let places = ["../shared", "../../shared"].map(|place| root().join(place));
    let folders = places.map(|place| place.join("reference-configs/llm-d-values"));
    let found = folders.into_iter().find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("skipped: the values of llm-d's guides are not beside the repository");
    }
    found
}

/// A guide's values on top of the base, as its instructions have it for the standalone chart.
#[test]
fn the_guides_of_llm_d_render_to_what_they_mean() {
    let Some(helm) = tool("helm") else { return };
    let Some(folder) = guides() else { return };
    let file = |name: &str| folder.join(format!("{name}.values.yaml"));
    // The guide, its configuration's file, replicas, target ports.
    let one = &[8000][..];
    for (guide, config, replicas, ports) in [
        ("agentic-serving", "agentic-serving-plugins.yaml", 1, one),
        ("agentic-serving-gpu", "agentic-serving-gpu-plugins.yaml", 1, one),
        ("aggregation", "multimodal-optimized-baseline-plugins.yaml", 1, one),
        ("e-p-d-disaggregation", "e-p-d-config.yaml", 1, one),
        ("e-pd-disaggregation", "e-pd-config.yaml", 1, one),
        ("flow-control", "custom-plugins.yaml", 1, one),
        ("optimized-baseline", "optimized-baseline-plugins.yaml", 1, one),
        ("optimized-baseline-trtllm", "optimized-baseline-plugins.yaml", 1, one),
        ("pd-disaggregation", "pd-config.yaml", 1, one),
        ("precise-prefix-cache-routing", "precise-prefix-cache-routing-plugins.yaml", 2, one),
        ("predicted-latency", "predicted-latency-plugins.yaml", 1, one),
        ("predicted-latency-slo", "predicted-latency-slo-plugins.yaml", 1, one),
        ("tiered-prefix-cache-cpu", "tiered-prefix-cache-plugins.yaml", 1, one),
        (
            "wide-ep-lws",
            "wide-ep-lws-config.yaml",
            1,
            &[8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007],
        ),
    ] {
        let values = [file("base"), file(guide)];
        let given: Value =
            serde_yaml::from_str(&std::fs::read_to_string(&values[1]).expect("readable"))
                .expect("YAML");
        let text = given["router"]["epp"]["pluginsCustomConfig"][config].as_str().expect("a text");
        for set in [&[][..], &["router.proxy.enabled=true"]] {
            let objects = render(&helm, &values, set).expect(guide);
            let arguments = arguments_of(&objects, "vllm-epp", "epp");
            assert!(arguments.contains(&format!("--config-file=/config/{config}")), "{guide}");
            assert!(!arguments.iter().any(|a| a == "--ha-enable-leader-election"), "{guide}");
            let parsed = cli::parse(&arguments, |_| None);
            assert!(parsed.is_ok(), "{guide}: {parsed:?}");
            let rendered = configuration(&objects, config);
            match guide {
                "optimized-baseline-trtllm" => assert!(rendered.contains("/prometheus/metrics")),
                _ => assert_eq!(rendered.trim_end(), text.trim_end(), "{guide}"),
            }
            let numbers: Vec<_> = ports.iter().map(|p| json!({"number": p})).collect();
            let labels = given["router"]["modelServers"]["matchLabels"].clone();
            check(
                guide,
                &objects,
                &[
                    ("Deployment/vllm-epp", "/spec/replicas", json!(replicas)),
                    ("InferencePool/vllm", "/spec/targetPorts", json!(numbers)),
                    ("InferencePool/vllm", "/spec/selector/matchLabels", labels),
                    ("Service/vllm-epp", "/spec/ports/2/port", json!(80)),
                ],
            );
            if !set.is_empty() {
                let envoy = arguments_of(&objects, "vllm-epp", "envoy");
                assert_eq!(envoy[..2], ["--service-node", "envoy-sidecar"], "{guide}");
            }
        }
    }
}

/// Values that go on top of a guide's, and the defaults of the reference's own charts.
#[test]
fn what_goes_on_top_of_a_guide_and_the_charts_own_defaults() {
    let Some(helm) = tool("helm") else { return };
    let Some(folder) = guides() else { return };
    let file = |name: &str| folder.join(format!("{name}.values.yaml"));
    let guide = [file("base"), file("optimized-baseline")];

    let monitoring = [&guide[..], &[file("monitoring")]].concat();
    let objects = render(&helm, &monitoring, &[]).expect("rendered");
    let monitor = ("ServiceMonitor/vllm-epp", "/spec/endpoints/0/interval", json!("10s"));
    check("monitoring", &objects, &[monitor]);

    let tracing = [&guide[..], &[file("tracing")]].concat();
    let objects = render(&helm, &tracing, &[]).expect("rendered");
    let text = serde_json::to_string(&objects).expect("JSON");
    for part in ["http://otel-collector:4317", "parentbased_traceidratio", "0.05"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // Both charts want labels, which the file on top gives.
    let gateway = [file("chart-llm-d-router-gateway"), ours("gateway")];
    let objects = render(&helm, &gateway, &[]).expect("rendered");
    check("gateway", &objects, &[("HTTPRoute/vllm", "/spec/rules/0/matches", Value::Null)]);

    let standalone = [file("chart-llm-d-router-standalone"), ours("gateway")];
    let errors = render(&helm, &standalone, &[]).expect_err("refused");
    assert!(errors.contains("router.proxy.presets"), "{errors}");

    // The library of both says what goes under `router`.
    let text = std::fs::read_to_string(file("chart-routerlib")).expect("readable");
    let under: String = text.lines().map(|line| format!("  {line}\n")).collect();
    let library = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    std::fs::write(library.path(), format!("router:\n{under}")).expect("written");
    let library = [library.path().to_owned(), ours("gateway")];
    let objects = render(&helm, &library, &[]).expect("rendered");
    let pool = ("InferencePool/vllm", "/spec/targetPorts", json!([{"number": 8000}]));
    let cpu = format!("{POD}/containers/0/resources/requests/cpu");
    check("library", &objects, &[pool, ("Deployment/vllm-epp", &cpu, json!("8"))]);
}
