//! Flags that change nothing: each says so.

use super::flags::Flags;
use super::validate::Findings;

/// Header and metadata namespace of the destination; GIE v0.5.0 could use others.
const DESTINATION_KEY: &str = "x-gateway-destination-endpoint";
const DESTINATION_NAMESPACE: &str = "envoy.lb";

/// Flags of the reference that change nothing here. One that would change where requests go is a
/// mistake, as going on without it would be worse than not starting.
pub(super) fn report(
    flags: &Flags,
    environment: &impl Fn(&str) -> Option<String>,
    findings: &mut Findings,
) {
    for (flag, value, only) in [
        ("destination-endpoint-hint-key", &flags.destination_endpoint_hint_key, DESTINATION_KEY),
        (
            "destination-endpoint-hint-metadata-namespace",
            &flags.destination_endpoint_hint_metadata_namespace,
            DESTINATION_NAMESPACE,
        ),
    ] {
        match value.as_deref() {
            None => {}
            Some(value) if value == only => {
                findings.warn(format!("--{flag} is no longer needed; it is always {only}"));
            }
            Some(value) => findings
                .mistake(format!("--{flag}: '{value}' is no longer possible; it is always {only}")),
        }
    }
    without_kubernetes(flags, findings);
    without_tls(flags, findings);
    if flags.enable_pprof == Some(true) {
        findings.warn("--enable-pprof: there is no Go runtime to profile; /debug/pprof says so");
    }
    if flags.health_checking == Some(false) {
        findings.warn("--health-checking=false: the health service is on the ext_proc port too");
    }
    if flags.refresh_prometheus_metrics_interval.is_some() {
        findings.warn(
            "--refresh-prometheus-metrics-interval changes nothing: the pool's averages are worked \
             out whenever they are asked for",
        );
    }
    if flags.zap_devel.is_some() || flags.zap_stacktrace_level.is_some() {
        findings.warn("--zap-devel and --zap-stacktrace-level change nothing here");
    }
    for variable in
        ["SD_QUEUE_DEPTH_THRESHOLD", "SD_KV_CACHE_UTIL_THRESHOLD", "SD_METRICS_STALENESS_THRESHOLD"]
    {
        if environment(variable).is_some() {
            findings.warn(format!(
                "{variable} is not read; set saturationDetector in the configuration"
            ));
        }
    }
}

fn without_kubernetes(flags: &Flags, findings: &mut Findings) {
    if flags.endpoints.is_none() {
        return;
    }
    for (flag, given) in [
        ("ha-enable-leader-election", flags.ha_enable_leader_election),
        ("kubeconfig", flags.kubeconfig.is_some()),
        ("pool-group", flags.pool_group.is_some()),
    ] {
        if given {
            findings
                .warn(format!("--{flag} does nothing: with --endpoints there is no Kubernetes"));
        }
    }
}

fn without_tls(flags: &Flags, findings: &mut Findings) {
    if flags.secure_serving {
        return;
    }
    for (flag, given) in [
        ("cert-path", flags.cert_path.is_some()),
        ("enable-cert-reload", flags.enable_cert_reload),
        ("tls-min-version", flags.tls_min_version.is_some()),
        ("tls-cipher-suites", flags.tls_cipher_suites.iter().any(|s| !s.trim().is_empty())),
    ] {
        if given {
            findings.warn(format!("--{flag} does nothing: --secure-serving=false"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Options, parse};
    use crate::loader::LoadOptions;
    use crate::prefix::HashKey;

    fn options(arguments: &[&str]) -> Options {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        match parse(&arguments, |_| None) {
            Ok(Command::Serve(options)) => *options,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    /// What comes of a flag.
    enum Comes {
        /// It does what it says.
        Effect,
        /// It does so still, and this is said.
        Deprecated(&'static str),
        /// It does nothing, and this is said.
        Said(&'static str),
        /// What it asks for is so anyway.
        Already,
    }

    /// Every flag of the reference (llm-d-router main at ebab6879, and those of v0.2.0 to v0.9 that are
    /// gone): none is taken without effect and without a word.
    #[test]
    fn every_flag_of_the_reference_does_something_or_says_that_it_does_not() {
        use Comes::{Already, Deprecated, Effect, Said};
        let kubernetes = &["--pool-name=p"][..];
        let list = &["--endpoints=127.0.0.1:1"][..];
        let selector = &["--endpoint-selector=a=b", "--endpoint-target-ports=1"][..];
        let plain = &["--secure-serving=false"][..];
        for (base, flag, comes) in [
            (&[][..], "--pool-name=p", Effect),
            (kubernetes, "--pool-namespace=n", Effect),
            (kubernetes, "--pool-group=inference.networking.x-k8s.io", Effect),
            (list, "--pool-group=inference.networking.x-k8s.io", Said("no Kubernetes")),
            (selector, "--endpoint-selector=c=d", Effect),
            (selector, "--endpoint-target-ports=2", Effect),
            (&[], "--disable-endpoint-subset-filter", Effect),
            (&[], "--emit-endpoint-scores", Effect),
            (&[], "--refresh-metrics-interval=1s", Effect),
            (&[], "--refresh-metrics-interval=1ms", Said("is raised to")),
            (&[], "--refresh-prometheus-metrics-interval=1s", Said("changes nothing")),
            (&[], "--metrics-staleness-threshold=1s", Effect),
            (&[], "--total-queued-requests-metric=m", Deprecated("core-metrics-extractor")),
            (&[], "--total-running-requests-metric=m", Deprecated("core-metrics-extractor")),
            (&[], "--kv-cache-usage-percentage-metric=m", Deprecated("core-metrics-extractor")),
            (&[], "--lora-info-metric=m", Deprecated("core-metrics-extractor")),
            (&[], "--cache-info-metric=m", Deprecated("core-metrics-extractor")),
            (&[], "--model-server-metrics-scheme=https", Deprecated("metrics-data-source")),
            (&[], "--model-server-metrics-path=/m", Deprecated("metrics-data-source")),
            (&[], "--model-server-metrics-port=1", Deprecated("metrics-data-source")),
            (
                &[],
                "--model-server-metrics-https-insecure-skip-verify=false",
                Deprecated("metrics-data-source"),
            ),
            (kubernetes, "--ha-enable-leader-election", Effect),
            (list, "--ha-enable-leader-election", Said("no Kubernetes")),
            (list, "--kubeconfig=k", Said("no Kubernetes")),
            (&[], "--drain-timeout=1s", Effect),
            (&[], "--grpc-max-recv-msg-size=1Mi", Effect),
            (&[], "--grpc-max-send-msg-size=1Mi", Effect),
            (&[], "--grpc-port=1", Effect),
            (&[], "--grpc-health-port=1", Effect),
            (&[], "--metrics-port=1", Effect),
            (&[], "--tracing=true", Said("no exporter is set")),
            (&[], "--tracing=false", Already),
            (&[], "--health-checking", Already),
            (&[], "--health-checking=false", Said("is on the ext_proc port")),
            (&[], "--enable-pprof", Said("no Go runtime")),
            (&[], "--enable-pprof=false", Already),
            (&[], "--secure-serving=false", Effect),
            (&[], "--cert-path=d", Effect),
            (plain, "--cert-path=d", Said("--secure-serving=false")),
            (&["--cert-path=d"], "--enable-cert-reload", Effect),
            (&[], "--enable-cert-reload", Said("does nothing without --cert-path")),
            (plain, "--enable-cert-reload", Said("--secure-serving=false")),
            (&[], "--tls-min-version=VersionTLS13", Effect),
            (&[], "--tls-min-version=VersionTLS10", Said("TLS")),
            (plain, "--tls-min-version=VersionTLS13", Said("--secure-serving=false")),
            (&[], "--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Effect),
            (
                plain,
                "--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                Said("--secure-serving=false"),
            ),
            // Where there is nobody to ask it is said when that is known.
            (&[], "--metrics-endpoint-auth", Effect),
            (&[], "--metrics-cert-dir=d", Effect),
            (&["--metrics-cert-dir=d"], "--metrics-client-ca-file=c", Effect),
            (&[], "--enable-grpc-stream-metrics", Effect),
            (&[], "--config-file=f", Effect),
            (&[], "--config-text=t", Effect),
            (&[], "--allow-experimental-plugins", Effect),
            (&[], "-v=4", Effect),
            (&[], "--zap-log-level=error", Effect),
            (&["--zap-encoder=json"], "--zap-encoder=console", Effect),
            (&[], "--zap-time-encoding=epoch", Effect),
            (&[], "--zap-devel", Said("change nothing")),
            (&[], "--zap-stacktrace-level=error", Said("change nothing")),
            (
                &[],
                "--destination-endpoint-hint-key=x-gateway-destination-endpoint",
                Said("no longer needed"),
            ),
            (&[], "--DestinationEndpointHintMetadataNamespace=envoy.lb", Said("no longer needed")),
        ] {
            let shown = |o: Options| {
                let load = LoadOptions { hash_key: HashKey::PUBLIC, ..o.load };
                let warnings = o.warnings.clone();
                (format!("{:?}", Options { load, warnings: Vec::new(), ..o }), warnings)
            };
            let (without, _) = shown(options(base));
            let (with, warnings) = shown(options(&[base, &[flag]].concat()));
            let text = warnings.join(" ");
            let (changes, said) = match comes {
                Effect => (true, ""),
                Deprecated(said) => (true, said),
                Said(said) => (false, said),
                Already => (false, ""),
            };
            if !matches!(comes, Said(_)) {
                assert_eq!(with != without, changes, "{base:?} {flag}");
            }
            assert_eq!(warnings.is_empty(), said.is_empty(), "{base:?} {flag}: {text}");
            assert!(text.contains(said), "{base:?} {flag}: {text}");
        }
    }
}
