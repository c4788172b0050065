use clap::CommandFactory;
use proptest::prelude::*;

use super::*;
use crate::cli::flags::Flags;

fn known() -> Known {
    Known::of(&mut with_bare_booleans(Flags::command()))
}

/// The flags read from arguments that have no mistake, as `name=value`, then the rest.
fn read(arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    let (read, mistakes) = known().read(&arguments);
    assert_eq!(mistakes, Vec::<String>::new(), "{arguments:?}");
    let flags = read.flags.iter().map(|(name, value)| format!("{name}={value}"));
    read.switches.iter().cloned().chain(flags).chain(read.rest.iter().cloned()).collect()
}

fn mistakes(arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    known().read(&arguments).1
}

#[test]
fn every_spelling_of_a_flag_is_understood() {
    for (arguments, expected) in [
        (&["--pool-name", "p"][..], &["pool-name=p"][..]),
        (&["--pool-name=p"], &["pool-name=p"]),
        (&["-pool-name", "p"], &["pool-name=p"]),
        (&["-pool-name=p"], &["pool-name=p"]),
        (&["--poolName", "p"], &["pool-name=p"]),
        (&["--poolName=p"], &["pool-name=p"]),
        (&["-poolName", "p"], &["pool-name=p"]),
        (&["-poolName=a=b"], &["pool-name=a=b"]),
        (&["-v", "4"], &["v=4"]),
        (&["-v=4"], &["v=4"]),
        (&["-v4"], &["v=4"]),
        (&["--v", "4"], &["v=4"]),
        (&["--v=4"], &["v=4"]),
        // Booleans take no separate value, whatever follows.
        (&["--secureServing", "--certPath", "/c"], &["secure-serving=true", "cert-path=/c"]),
        (&["--secure-serving=false"], &["secure-serving=false"]),
        (&["-secureServing=0", "-enablePprof=F"], &["secure-serving=false", "enable-pprof=false"]),
        (&["--healthChecking=TRUE"], &["health-checking=true"]),
        (&["--secureServing", "check", "f"], &["secure-serving=true", "check", "f"]),
        // A subcommand's own flags, and the program's behind it.
        (
            &["doctor", "-o", "json", "--endpoints", "a:1", "--probe"],
            &["endpoints=a:1", "doctor", "--probe=true", "--output=json"],
        ),
        (&["plugins", "-o=json"], &["plugins", "--output=json"]),
        // Names with capitals in odd places.
        (
            &["--DestinationEndpointHintMetadataNamespace", "envoy.lb"],
            &["destination-endpoint-hint-metadata-namespace=envoy.lb"],
        ),
        (
            &["--modelServerMetricsHttpsInsecureSkipVerify=false"],
            &["model-server-metrics-https-insecure-skip-verify=false"],
        ),
        // Empty arguments are values where a value is due, and nothing elsewhere.
        (&["", "--poolName", "p", "", ""], &["pool-name=p"]),
        (
            &["--cert-path", "", "--secure-serving=false", ""],
            &["cert-path=", "secure-serving=false"],
        ),
        (&["--config-text", "-\nx: 1"], &["config-text=-\nx: 1"]),
        (&["--config-text=--pool-name"], &["config-text=--pool-name"]),
        (&["--", ""], &[]),
        (&["-h"], &["-h"]),
        (&["-help"], &["--help"]),
        (&["-V"], &["--version"]),
        // The subcommand, with flags before, after and in between.
        (&["check", "f"], &["check", "f"]),
        (&["--effective", "check", "f"], &["check", "--effective=true", "f"]),
        (&["check", "f", "-effective=false"], &["check", "--effective=false", "f"]),
        (&["check", "--", "-f"], &["check", "-f"]),
        (&["check", "--help"], &["check", "--help"]),
        (
            &["--poolName", "p", "check", "--allow-experimental-plugins", "f"],
            &["pool-name=p", "allow-experimental-plugins=true", "check", "f"],
        ),
    ] {
        assert_eq!(read(arguments), expected, "{arguments:?}");
    }
}

/// Names of GIE v0.5.0 (llm-d v0.2.0) and v0.5.1, as they were written there.
const V0_2_0: &str = "grpcPort grpcHealthPort metricsPort enablePprof poolName poolNamespace \
    destinationEndpointHintKey DestinationEndpointHintMetadataNamespace \
    refreshMetricsInterval refreshPrometheusMetricsInterval v secureServing healthChecking \
    certPath totalQueuedRequestsMetric kvCacheUsagePercentageMetric loraInfoMetric \
    configFile configText modelServerMetricsPort modelServerMetricsPath \
    modelServerMetricsScheme modelServerMetricsHttpsInsecureSkipVerify zap-devel \
    zap-encoder zap-log-level zap-stacktrace-level zap-time-encoding kubeconfig";
/// Names of GIE v1.0 to llm-d-router main at ebab6879.
const SINCE_V1: &str = "grpc-port grpc-health-port grpc-max-recv-msg-size \
    grpc-max-send-msg-size metrics-port metrics-endpoint-auth metrics-cert-dir \
    metrics-client-ca-file enable-pprof enable-grpc-stream-metrics pool-group pool-name \
    pool-namespace endpoint-selector endpoint-target-ports disable-endpoint-subset-filter \
    emit-endpoint-scores refresh-metrics-interval refresh-prometheus-metrics-interval \
    metrics-staleness-threshold secure-serving cert-path enable-cert-reload \
    tls-min-version tls-cipher-suites health-checking ha-enable-leader-election \
    drain-timeout tracing config-file config-text allow-experimental-plugins v zap-devel \
    zap-encoder zap-log-level zap-stacktrace-level zap-time-encoding \
    total-queued-requests-metric total-running-requests-metric \
    kv-cache-usage-percentage-metric lora-info-metric cache-info-metric \
    model-server-metrics-scheme model-server-metrics-path model-server-metrics-port \
    model-server-metrics-https-insecure-skip-verify kubeconfig";

#[test]
fn every_flag_of_every_version_is_known() {
    let known = known();
    for name in [V0_2_0, SINCE_V1].iter().flat_map(|names| names.split_whitespace()) {
        for dashes in ["-", "--"] {
            let written = format!("{dashes}{name}");
            assert!(known.find(&written).is_some(), "{written}");
        }
    }
}

#[test]
fn the_arguments_of_the_kserve_tutorial() {
    let arguments = [
        "--poolName",
        "llm-inference-pool",
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
    ];
    assert_eq!(
        read(&arguments),
        [
            "pool-name=llm-inference-pool",
            "pool-namespace=ns",
            "zap-encoder=json",
            "grpc-port=9002",
            "grpc-health-port=9003",
            "secure-serving=true",
            "cert-path=/etc/ssl/certs",
            "config-file=/etc/config/endpoint-picker-config.yaml",
        ]
    );
}

#[test]
fn all_mistakes_are_told() {
    for (arguments, expected) in [
        (&["--pool-nam", "p"][..], &["unknown flag '--pool-nam'; did you mean '--pool-name'?"][..]),
        (&["-zzz"], &["unknown flag '-zzz'"]),
        (&["---v"], &["unknown flag '---v'; did you mean '--v'?"]),
        (&["--pool-name"], &["--pool-name needs a value"]),
        (
            &["--poolName", "--grpcPort=1"],
            &["--pool-name needs a value, but '--grpcPort=1' follows"],
        ),
        (&["--secure-serving=yes"], &["--secure-serving: 'yes' is neither true nor false"]),
        (
            &["--secure-serving", "false"],
            &["unexpected argument 'false'; write --secure-serving=false"],
        ),
        (&["--help=1"], &["--help takes no value"]),
        (&["serve"], &["unexpected argument 'serve'"]),
        (&["-"], &["unexpected argument '-'"]),
        (&["--effective"], &["unknown flag '--effective'"]),
    ] {
        assert_eq!(mistakes(arguments), expected, "{arguments:?}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(arguments in prop::collection::vec("-{0,3}[a-zA-Z=é]{0,12}", 0..8)) {
        let (read, mistakes) = known().read(&arguments);
        let told = read.flags.len() + read.switches.len() + read.rest.len() + mistakes.len();
        let said = arguments.iter().filter(|a| !a.is_empty()).count();
        // Every argument is a flag, its value, a word, a mistake, or the one `--` before words.
        prop_assert!(told <= said && (said <= 1 || told > 0));
    }

    /// Whatever mix of spellings a deployment uses, the same flags come out.
    #[test]
    fn spellings_are_equal(
        picks in prop::collection::vec((0..6usize, any::<bool>(), any::<bool>(), any::<bool>()), 0..10),
    ) {
        let all = [
            ("pool-name", "poolName", "a b"),
            ("grpc-port", "grpcPort", "1"),
            ("secure-serving", "secureServing", "false"),
            ("enable-pprof", "enablePprof", "true"),
            ("config-text", "configText", "{a: --v}"),
            ("kv-cache-usage-percentage-metric", "kvCacheUsagePercentageMetric", ""),
        ];
        let mut written = Vec::new();
        let mut expected = Vec::new();
        for (i, camel, single, joined) in picks {
            let (kebab, camel_name, value) = all[i];
            let dashes = if single { "-" } else { "--" };
            let name = format!("{dashes}{}", if camel { camel_name } else { kebab });
            let is_bool = ["true", "false"].contains(&value);
            if joined || value == "false" {
                written.push(format!("{name}={value}"));
            } else {
                written.push(name);
                if !is_bool {
                    written.push(value.to_owned());
                }
            }
            expected.push((kebab.to_owned(), value.to_owned()));
        }
        prop_assert_eq!(known().read(&written).0.flags, expected);
    }
}
