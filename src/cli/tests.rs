use std::collections::HashMap;

use tracing::level_filters::LevelFilter;

use super::*;

fn parse_with(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Command, Exit> {
    let environment: HashMap<String, String> =
        environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    parse(&arguments, |name| environment.get(name).cloned())
}

fn options_with(environment: &[(&str, &str)], arguments: &[&str]) -> Options {
    match parse_with(environment, arguments) {
        Ok(Command::Serve(options)) => *options,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn options(arguments: &[&str]) -> Options {
    options_with(&[], arguments)
}

fn mistakes(arguments: &[&str]) -> String {
    let exit = parse_with(&[], arguments).unwrap_err();
    assert_eq!(exit.code, 2, "{arguments:?}");
    exit.text
}

#[test]
fn defaults_are_the_references() {
    let o = options(&[]);
    assert_eq!(o.config, ConfigSource::BuiltIn);
    assert_eq!(o.workers, WorkerSource::Configured);
    assert_eq!(o.namespace, "default");
    assert_eq!(o.listen, Listen { address: None, grpc: 9002, health: 9003, admin: 9090 });
    assert!(o.tls.is_some_and(|tls| tls.cert_path.is_none() && !tls.reload));
    assert_eq!(o.drain_timeout, Duration::from_secs(30));
    assert_eq!(o.scrape_interval, Duration::from_millis(50));
    assert_eq!(o.staleness, Duration::from_secs(2));
    assert_eq!(o.admin.auth, None);
    assert!(!o.leader_election && !o.ignore_subset && !o.emit_scores && !o.stream_metrics);
    assert_eq!((o.log.level, o.log.access), (LevelFilter::INFO, true));
    assert_eq!(o.warnings, Vec::<String>::new());
    // Ours: a body up to the limit fits into one message, where the reference stops at 4 MiB.
    assert_eq!((o.max_request_body, o.max_recv, o.max_send), (32 << 20, 33 << 20, None));
    assert_eq!((o.explain_decisions, o.explain_share, o.admin_page), (1000, 1.0, true));
    assert_eq!(o.error_format, ErrorFormat::Json);
    assert_eq!(o.response_body, ResponseBodyChoice::Always);
}

#[test]
fn block_hashes_of_no_two_processes_agree() {
    assert_ne!(options(&[]).load.hash_key, options(&[]).load.hash_key);
}

#[test]
fn health_is_on_and_can_be_tuned() {
    let seconds = Duration::from_secs;
    assert_eq!(options(&[]).health, Some(HealthPolicy::default()));
    assert_eq!(options(&["--endpoint-health=false"]).health, None);
    let tuned = options(&[
        "--endpoint-health-failures=5",
        "--endpoint-health-max-ejected=0.25",
        "--endpoint-health-base-ejection=2s",
        "--endpoint-health-max-ejection=30s",
        "--endpoint-health-return-time=10s",
        "--endpoint-health-hang-factor=4",
        "--metrics-staleness-threshold=1s",
        "--refresh-metrics-interval=1s",
    ]);
    let expected = HealthPolicy {
        failures_in_a_row: 5,
        max_ejected_share: 0.25,
        base_ejection: seconds(2),
        max_ejection: seconds(30),
        return_time: seconds(10),
        hang_factor: 4.0,
        // Four scrapes.
        stale_after: seconds(4),
        ..HealthPolicy::default()
    };
    assert_eq!(tuned.health, Some(expected));
    for (flag, value) in [
        ("endpoint-health-failures", "0"),
        ("endpoint-health-max-ejected", "1.5"),
        ("endpoint-health-max-ejected", "NaN"),
        ("endpoint-health-hang-factor", "0.5"),
        ("endpoint-health-hang-factor", "inf"),
        ("endpoint-health-return-time", "soon"),
    ] {
        let text = mistakes(&[&format!("--{flag}={value}")]);
        assert!(text.contains(&format!("--{flag}: '{value}'")), "{text}");
    }
}

#[test]
fn the_kserve_tutorial_starts() {
    let o = options(&[
        "--poolName",
        "p",
        "--poolNamespace",
        "ns",
        "--zap-encoder",
        "json",
        "--grpcPort",
        "9002",
        "--grpcHealthPort",
        "9003",
        "--secureServing",
        "--certPath",
        "/etc/ssl/certs",
        "--configFile",
        "/etc/config/endpoint-picker-config.yaml",
    ]);
    assert_eq!(o.workers, WorkerSource::Pool { name: "p".into(), group: None });
    assert_eq!(o.namespace, "ns");
    assert_eq!(o.config, ConfigSource::File("/etc/config/endpoint-picker-config.yaml".into()));
    assert_eq!(o.tls.unwrap().cert_path, Some("/etc/ssl/certs".into()));
    assert_eq!(o.log.encoder, crate::telemetry::logging::Encoder::Json);
    assert_eq!(o.warnings, Vec::<String>::new());
}

#[test]
fn empty_values_mean_not_set() {
    let o = options(&["--cert-path", "", "--config-file=", "--pool-group", "", "--pool-name", "p"]);
    assert_eq!(o.config, ConfigSource::BuiltIn);
    assert_eq!(o.workers, WorkerSource::Pool { name: "p".into(), group: None });
    assert!(o.tls.unwrap().cert_path.is_none());
}

#[test]
fn numbers_as_the_reference_takes_them() {
    assert_eq!(options(&["-v=-1", "--pool-name=p"]).log.level, LevelFilter::INFO);
    assert_eq!(options(&["-v", "300", "--pool-name=p"]).log.level, LevelFilter::TRACE);
    let o = options(&["--grpc-max-send-msg-size=1e6", "--max-request-body-bytes=4Mi"]);
    assert_eq!((o.max_send, o.max_request_body), (Some(1_000_000), 4 << 20));
}

#[test]
fn the_last_of_a_repeated_flag_counts_and_lists_grow() {
    let o = options(&[
        "-v",
        "1",
        "-v=5",
        "--secure-serving",
        "--secure-serving=false",
        "--endpoint-selector",
        "app=x",
        "--endpoint-target-ports",
        "8000,8001",
        "--endpoint-target-ports=8001",
        "--endpoint-target-ports=8002",
    ]);
    assert_eq!(o.log.level, LevelFilter::TRACE);
    assert!(o.tls.is_none());
    let ports = vec![8000, 8001, 8002];
    assert_eq!(o.workers, WorkerSource::Selector { selector: "app=x".into(), ports });
}

#[test]
fn the_environment_stands_in_for_flags_that_are_not_given() {
    let environment = [
        ("GRPC_PORT", "1"),
        ("GRPC_HEALTH_PORT", "2"),
        ("POOL_NAME", "p"),
        ("POOL_NAMESPACE", ""),
        ("NAMESPACE", "of-the-pod"),
        ("SECURE_SERVING", "false"),
        ("REFRESH_METRICS_INTERVAL", "1s"),
        ("MODEL_SERVER_METRICS_PORT", "8080"),
        ("MODEL_SERVER_METRICS_PATH", "/m"),
    ];
    let o = options_with(&environment, &["--grpcPort", "3"]);
    assert_eq!((o.listen.grpc, o.listen.health), (3, 2));
    assert_eq!(o.workers, WorkerSource::Pool { name: "p".into(), group: None });
    assert_eq!(o.namespace, "of-the-pod");
    assert!(o.tls.is_none());
    assert_eq!(o.scrape_interval, Duration::from_secs(1));
    assert_eq!(o.load.model_server_metrics_port, Some(8080));
    assert_eq!(o.load.model_server_metrics_path.as_deref(), Some("/m"));

    let exit = parse_with(&[("SECURE_SERVING", "maybe"), ("GRPC_PORT", "x")], &[]).unwrap_err();
    assert!(
        exit.text.contains("SECURE_SERVING='maybe' is no value for --secure-serving"),
        "{exit:?}"
    );
    assert!(exit.text.contains("--grpc-port: 'x'"), "{exit:?}");
}

#[test]
fn flags_that_moved_into_the_configuration_still_work_and_say_so() {
    let o = options(&[
        "--totalQueuedRequestsMetric",
        "q",
        "--kvCacheUsagePercentageMetric",
        "",
        "--modelServerMetricsScheme",
        "https",
        "--modelServerMetricsHttpsInsecureSkipVerify=false",
    ]);
    assert_eq!(o.load.total_queued_requests_metric.as_deref(), Some("q"));
    assert_eq!(o.load.kv_cache_usage_percentage_metric, None);
    assert_eq!(o.load.model_server_metrics_scheme, Some(crate::scrape_config::Scheme::Https));
    assert_eq!(o.load.model_server_metrics_https_insecure_skip_verify, Some(false));
    assert!(
        o.warnings.iter().any(|w| w
            == "--total-queued-requests-metric is deprecated; set it as a parameter of \
                core-metrics-extractor"),
        "{:?}",
        o.warnings
    );
}

#[test]
fn flags_without_effect_are_accepted_with_a_word_where_it_matters() {
    for (arguments, warnings) in [
        (&["--enable-pprof=false", "--tracing=false", "--health-checking"][..], 0),
        (&["--enablePprof"], 1),
        (&["--tracing"], 1),
        (&["--refresh-metrics-interval", "20ms"], 1),
        (&["--refreshPrometheusMetricsInterval", "5s"], 1),
        (&["--zap-devel=false", "--zap-stacktrace-level", "error"], 1),
        (&["--destinationEndpointHintKey", "x-gateway-destination-endpoint"], 1),
        (&["--DestinationEndpointHintMetadataNamespace=envoy.lb"], 1),
        (&["--tls-min-version", "VersionTLS10"], 1),
        (&["--enable-cert-reload"], 1),
    ] {
        let o = options(arguments);
        assert_eq!(o.warnings.len(), warnings, "{arguments:?}: {:?}", o.warnings);
    }
    assert_eq!(
        options(&["--refresh-metrics-interval=1ms"]).scrape_interval,
        Duration::from_millis(50)
    );
}

#[test]
fn sizes_and_durations() {
    let o = options(&[
        "--grpc-max-recv-msg-size",
        "10MiB",
        "--grpc-max-send-msg-size=25MB",
        "--max-request-body-bytes",
        "1Gi",
        "--drain-timeout",
        "1m30s",
    ]);
    assert_eq!(o.max_recv, 10 << 20);
    assert_eq!(o.max_send, Some(25_000_000));
    assert_eq!(o.max_request_body, 1 << 30);
    assert_eq!(o.drain_timeout, Duration::from_secs(90));
    assert_eq!(options(&["--drain-timeout=0"]).drain_timeout, Duration::ZERO);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = mistakes(&[
        "--pool-nam",
        "p",
        "--grpc-port",
        "70000",
        "--drain-timeout=soon",
        "--zap-encoder",
        "xml",
        "--pool-group",
        "example.com",
        "--config-file",
        "a",
        "--config-text",
        "b",
    ]);
    for part in [
        "unknown flag '--pool-nam'; did you mean '--pool-name'?",
        "--grpc-port: '70000': expected a port from 0 to 65535",
        "--drain-timeout: 'soon': expected a duration such as 50ms, 2s or 1m30s",
        "--zap-encoder: 'xml': expected json or console",
        "--pool-group: 'example.com': expected inference.networking.k8s.io or",
        "--config-file and --config-text exclude each other",
        "see epp --help",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(text.lines().count(), 7, "{text}");
}

#[test]
fn what_does_not_go_together() {
    for (arguments, expected) in [
        (&["--pool-nam", "p"][..], "unknown flag '--pool-nam'; did you mean '--pool-name'?"),
        (&["chekc", "f.yaml"], "unexpected argument 'chekc'; did you mean 'check'?"),
        (&["--pool-name=p", "--endpoint-selector=a=b"], "exclude each other"),
        (&["--pool-name=p", "--endpoints=127.0.0.1:1"], "exclude each other"),
        (&["--endpoint-selector=a=b"], "needs 1 to 8 ports, not 0"),
        (
            &["--endpoint-selector=a=b", "--endpoint-target-ports=1,2,3,4,5,6,7,8,9"],
            "needs 1 to 8 ports, not 9",
        ),
        (&["--endpoint-selector=a=b", "--endpoint-target-ports=0"], "'0' is not a port"),
        (&["--endpoint-target-ports=1"], "belongs to --endpoint-selector"),
        (&["--endpoints=127.0.0.1"], "--endpoints: "),
        (&["--grpc-port=9003"], "--grpc-port and --grpc-health-port are both 9003"),
        (&["--metrics-client-ca-file=ca"], "needs --metrics-cert-dir"),
        (&["--metrics-cert-dir=d", "--metrics-endpoint-auth=false"], "encryption alone"),
        (&["--tls-cipher-suites=x"], "unknown suite 'x'"),
        (&["--model-server-metrics-scheme=ftp"], "http or https"),
        (&["--destination-endpoint-hint-key=x"], "is no longer possible"),
        (&["--zap-log-level=loud"], "expected debug, info"),
        (&["-v", "many"], "--v: 'many': expected a number"),
        (&["check"], "<FILE>"),
        (&["completions", "tcsh"], "'tcsh'"),
        (&["--metrics-endpoint-auth", "--metrics-token-file=t"], "exclude each other"),
    ] {
        let text = mistakes(arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    // Any port, several times over.
    options(&["--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"]);
}

#[test]
fn endpoints_are_read_where_they_stand() {
    let o = options(&["--endpoints", "127.0.0.1:8000,[::1]:8001,worker:8002"]);
    let WorkerSource::List(list) = o.workers else { panic!("{:?}", o.workers) };
    let names: Vec<&str> = list.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:8000", "[::1]:8001", "worker:8002"]);
}

#[test]
fn checking_a_file() {
    let arguments = ["--allowExperimentalPlugins", "check", "--effective", "f.yaml"];
    let Ok(Command::Check(check)) = parse_with(&[], &arguments) else { panic!() };
    assert_eq!(check.files, [PathBuf::from("f.yaml")]);
    assert!(check.effective && check.load.allow_experimental_plugins);
    let arguments = ["check", "f.yaml", "-"];
    let Ok(Command::Check(check)) = parse_with(&[], &arguments) else { panic!() };
    assert_eq!(check.files, [PathBuf::from("f.yaml"), PathBuf::from("-")]);
    assert!(!check.effective && !check.load.allow_experimental_plugins);
}

#[test]
fn help_is_for_people() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["-help"],
        &["check", "--help"],
        &["help"],
        &["help", "check"],
        &["--version"],
    ] {
        let exit = parse_with(&[], arguments).unwrap_err();
        assert_eq!(exit.code, 0, "{arguments:?}");
        assert!(exit.text.contains("epp"), "{arguments:?}: {}", exit.text);
    }
    let help = parse_with(&[], &["--help"]).unwrap_err().text;
    for part in ["Where the workers are:", "TLS:", "--secure-serving", "check"] {
        assert!(help.contains(part), "{part}");
    }
    assert!(!help.contains("--zap-devel"), "flags without effect are not shown");
}

#[test]
fn every_flag_has_a_variable_and_the_command_line_wins() {
    let environment = [
        ("EPP_ENDPOINTS", "127.0.0.1:1"),
        ("EPP_GRPC_PORT", "1"),
        ("GRPC_PORT", "2"),
        ("EPP_SECURE_SERVING", "false"),
        ("EPP_V", "4"),
        ("EPP_DRAIN_TIMEOUT", "7s"),
        ("EPP_METRICS_BIND_ADDRESS", ""),
        // Set by Kubernetes for a Service called epp.
        ("EPP_PORT", "tcp://10.0.0.1:9002"),
        ("EPP_SERVICE_HOST", "10.0.0.1"),
    ];
    let o = options_with(&environment, &[]);
    assert!(matches!(&o.workers, WorkerSource::List(list) if list.len() == 1));
    assert_eq!((o.listen.grpc, o.tls.is_none()), (1, true));
    assert_eq!((o.log.level, o.drain_timeout), (LevelFilter::DEBUG, Duration::from_secs(7)));
    assert_eq!(o.admin.address, None);
    // What is given in its place on the command line wins too.
    let o = options_with(&environment, &["--grpc-port=3", "--pool-name=p"]);
    assert_eq!(o.listen.grpc, 3);
    assert_eq!(o.workers, WorkerSource::Pool { name: "p".into(), group: None });
    let exit = parse_with(&[("EPP_SECURE_SERVING", "perhaps")], &[]).unwrap_err();
    assert!(exit.text.contains("EPP_SECURE_SERVING='perhaps' is no value"), "{}", exit.text);
}

#[test]
fn the_metrics_port_is_open_to_others_only_where_somebody_guards_it_or_it_was_said() {
    let all: Option<IpAddr> = Some([10, 0, 0, 1].into());
    let here: Option<IpAddr> = Some(Ipv4Addr::LOCALHOST.into());
    for (arguments, in_kubernetes, expected) in [
        (&[][..], true, all),
        (&[], false, here),
        (&["--metrics-endpoint-auth=false"], true, all),
        (&["--metrics-endpoint-auth=false"], false, here),
        (&["--metrics-token-file=t"], false, all),
        (&["--metrics-cert-dir=d", "--metrics-client-ca-file=c"], false, all),
        (&["--metrics-bind-address=0.0.0.0"], false, Some([0, 0, 0, 0].into())),
        (&["--metrics-bind-address=127.0.0.1"], true, here),
    ] {
        let o = options(&[&["--bind-address=10.0.0.1"], arguments].concat());
        let address = o.admin.bind_address(o.listen.address, in_kubernetes);
        assert_eq!(address, expected, "{arguments:?} {in_kubernetes}");
    }
}

#[test]
fn completions_and_the_manual_name_the_flags() {
    for (arguments, part) in [
        (&["completions", "bash"][..], "--secure-serving"),
        (&["completions", "zsh"], "--secure-serving"),
        (&["completions", "fish"], "secure-serving"),
        (&["man"], "secure\\-serving"),
    ] {
        let Ok(Command::Print(text)) = parse_with(&[], arguments) else { panic!("{arguments:?}") };
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn doctor_takes_the_flags_of_the_set_up_and_its_own() {
    let doctor = |environment: &[(&str, &str)], arguments: &[&str]| match parse_with(
        environment,
        &[&["doctor"], arguments].concat(),
    ) {
        Ok(Command::Doctor(options)) => *options,
        other => panic!("{arguments:?}: {other:?}"),
    };
    let o = doctor(&[], &["--endpoints", "10.0.0.1:8000", "--only=cache,envoy", "--model=a"]);
    assert!(matches!(o.serve.workers, WorkerSource::List(_)));
    assert!(o.has_setup() && o.running.is_none() && !o.probe && !o.json);
    assert!(o.wants(Subject::Cache) && o.wants(Subject::Envoy) && !o.wants(Subject::Events));
    assert_eq!((o.models, o.probe_tokens), (vec!["a".to_owned()], 512));
    let o = doctor(&[], &["--admin=http://a:1", "--probe", "--skip", "kubernetes", "-o", "json"]);
    assert!(o.has_setup() && o.running.is_some() && o.probe && o.json);
    assert!(o.wants(Subject::Events) && !o.wants(Subject::Kubernetes));
    let o = doctor(&[], &["--envoy-admin=http://a:1", "--envoy-config=f"]);
    assert_eq!((o.envoy.len(), o.has_setup()), (2, false));
    // In a pod of epp's the environment says what it is set up with.
    let o = doctor(&[("POOL_NAME", "p"), ("NAMESPACE", "n")], &[]);
    assert_eq!(o.serve.workers, WorkerSource::Pool { name: "p".into(), group: None });
    assert!(mistakes(&["doctor"]).contains("nothing to look at"));
    assert!(mistakes(&["doctor", "--admin=http://a:1", "--only=x"]).contains("--only"));
}
