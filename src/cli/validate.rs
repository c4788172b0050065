//! From flags that could be read to options that make sense together.

use std::io::IsTerminal;
use std::time::Duration;

use clap::CommandFactory;

use super::doctor;
use super::flags::{Access, Command as SubCommand, Flags, Format};
use super::spelling::with_bare_booleans;
use super::unused;
use super::{
    AdminOptions, CheckOptions, Command, ConfigSource, Listen, MigrateOptions, Options, TlsOptions,
    WorkerSource,
};
use crate::catalogue;
use crate::clock;
use crate::config::did_you_mean;
use crate::console::{AdminAccess, ExplainOptions, TopOptions};
use crate::datalayer::MIN_TICK;
use crate::discovery::parse_endpoint_list;
use crate::health::HealthPolicy;
use crate::loader::LoadOptions;
use crate::plugins;
use crate::prefix::HashKey;
use crate::recording::{MIN_FILE_BYTES, RecordOptions};
use crate::scrape_config::Scheme;
use crate::server::TlsPolicy;
use crate::telemetry::TracingOptions;
use crate::telemetry::logging::{Encoder, LogOptions};

/// The API groups that have an InferencePool.
const POOL_GROUPS: [&str; 2] = ["inference.networking.k8s.io", "inference.networking.x-k8s.io"];
/// Ports an InferencePool, or a selector, may name.
const MAX_TARGET_PORTS: usize = 8;
/// What a message needs besides the body that it carries.
const MESSAGE_OVERHEAD: usize = 1024 * 1024;

/// Nobody sees more than ten pictures a second.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Collects what is wrong, and what the operator should know.
pub(super) struct Findings {
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    pub(super) fn mistake(&mut self, text: impl Into<String>) {
        self.mistakes.push(text.into());
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

pub(super) fn command(
    mut flags: Flags,
    environment: impl Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
) -> Result<Command, Vec<String>> {
    let mut findings = Findings { mistakes, warnings: Vec::new() };
    let command = flags.command.take();
    let load = load_options(&mut flags, &mut findings);
    let command = match command {
        Some(SubCommand::Check { effective, files }) => {
            let load = LoadOptions { only_checked: true, ..load };
            Command::Check(CheckOptions { files, effective, load })
        }
        Some(SubCommand::Completions { shell }) => Command::Print(completions(shell)),
        Some(SubCommand::Migrate { in_place, files }) => {
            Command::Migrate(MigrateOptions { files, in_place })
        }
        Some(SubCommand::Plugins { plugin_type, output }) => {
            Command::Print(plugin_types(plugin_type.as_deref(), output, &mut findings))
        }
        Some(SubCommand::Schema) => Command::Print(pretty(&catalogue::schema())),
        Some(SubCommand::Man) => Command::Print(manual(&mut findings)),
        Some(SubCommand::Explain { access: of, json, id }) => {
            Command::Explain(ExplainOptions { access: access(of), id, json })
        }
        Some(SubCommand::Top { access: of, once, interval, sort }) => {
            let interval = interval.max(MIN_INTERVAL);
            Command::Top(TopOptions { access: access(of), once, interval, sort })
        }
        Some(SubCommand::Doctor(of)) => {
            let serve = options(flags, load, environment, &mut findings);
            match doctor::options(of, serve) {
                Ok(options) => Command::Doctor(Box::new(options)),
                Err(mistake) => return Err([findings.mistakes, vec![mistake]].concat()),
            }
        }
        None => Command::Serve(Box::new(options(flags, load, environment, &mut findings))),
    };
    if findings.mistakes.is_empty() { Ok(command) } else { Err(findings.mistakes) }
}

fn access(access: Access) -> AdminAccess {
    AdminAccess {
        address: access.admin,
        token_file: access.admin_token_file,
        insecure: access.admin_insecure_skip_verify,
    }
}

fn plugin_types(name: Option<&str>, output: Format, findings: &mut Findings) -> String {
    let Some(name) = name else {
        return match output {
            Format::Text => catalogue::list(),
            Format::Json => pretty(&catalogue::list_json()),
        };
    };
    let Some(found) = plugins::find(name) else {
        let near = did_you_mean(name, plugins::type_names());
        findings.mistake(format!("no plugin type is called '{name}'{near}"));
        return String::new();
    };
    match output {
        Format::Text => catalogue::page(found),
        Format::Json => pretty(&catalogue::page_json(found)),
    }
}

fn pretty(json: &serde_json::Value) -> String {
    format!("{json:#}\n")
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    let mut command = with_bare_booleans(Flags::command());
    clap_complete::generate(shell, &mut command, "epp", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn manual(findings: &mut Findings) -> String {
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(with_bare_booleans(Flags::command()));
    if let Err(e) = page.render(&mut text) {
        findings.mistake(format!("the manual page cannot be written: {e}"));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn load_options(flags: &mut Flags, findings: &mut Findings) -> LoadOptions {
    let scheme = flags.model_server_metrics_scheme.take();
    let moved = [
        ("model-server-metrics-scheme", scheme.is_some()),
        ("model-server-metrics-path", flags.model_server_metrics_path.is_some()),
        ("model-server-metrics-port", flags.model_server_metrics_port.is_some()),
        (
            "model-server-metrics-https-insecure-skip-verify",
            flags.model_server_metrics_https_insecure_skip_verify.is_some(),
        ),
        ("total-queued-requests-metric", flags.total_queued_requests_metric.is_some()),
        ("total-running-requests-metric", flags.total_running_requests_metric.is_some()),
        ("kv-cache-usage-percentage-metric", flags.kv_cache_usage_percentage_metric.is_some()),
        ("lora-info-metric", flags.lora_info_metric.is_some()),
        ("cache-info-metric", flags.cache_info_metric.is_some()),
    ];
    for (flag, _) in moved.iter().filter(|(_, given)| *given) {
        let plugin = match flag.starts_with("model-server") {
            true => "metrics-data-source",
            false => "core-metrics-extractor",
        };
        findings.warn(format!("--{flag} is deprecated; set it as a parameter of {plugin}"));
    }
    let model_server_metrics_scheme = scheme.and_then(|text| {
        let scheme = Scheme::parse(&text);
        if scheme.is_none() {
            findings.mistake(format!("--model-server-metrics-scheme: '{text}': http or https"));
        }
        scheme
    });
    LoadOptions {
        allow_experimental_plugins: flags.allow_experimental_plugins,
        only_checked: false,
        clock: Some(clock::now),
        hash_key: HashKey::random(),
        model_server_metrics_scheme,
        model_server_metrics_path: flags.model_server_metrics_path.take(),
        model_server_metrics_port: flags.model_server_metrics_port,
        model_server_metrics_https_insecure_skip_verify: flags
            .model_server_metrics_https_insecure_skip_verify,
        total_queued_requests_metric: flags.total_queued_requests_metric.take(),
        total_running_requests_metric: flags.total_running_requests_metric.take(),
        kv_cache_usage_percentage_metric: flags.kv_cache_usage_percentage_metric.take(),
        lora_info_metric: flags.lora_info_metric.take(),
        cache_info_metric: flags.cache_info_metric.take(),
    }
}

fn options(
    mut flags: Flags,
    load: LoadOptions,
    environment: impl Fn(&str) -> Option<String>,
    findings: &mut Findings,
) -> Options {
    unused::report(&flags, &environment, findings);
    let config = match (flags.config_file.take(), flags.config_text.take()) {
        (None, None) => ConfigSource::BuiltIn,
        (Some(file), None) => ConfigSource::File(file),
        (None, Some(text)) => ConfigSource::Text(text),
        (Some(_), Some(_)) => {
            findings.mistake("--config-file and --config-text exclude each other");
            ConfigSource::BuiltIn
        }
    };
    let workers = workers(&mut flags, findings);
    let listen = Listen {
        address: flags.bind_address,
        grpc: flags.grpc_port,
        health: flags.grpc_health_port,
        admin: flags.metrics_port,
    };
    let ports = [
        ("grpc-port", listen.grpc),
        ("grpc-health-port", listen.health),
        ("metrics-port", listen.admin),
    ];
    for (i, (a, port)) in ports.iter().enumerate() {
        for (b, other) in &ports[i + 1..] {
            if port == other && *port != 0 {
                findings.mistake(format!("--{a} and --{b} are both {port}"));
            }
        }
    }
    let zap_encoder = flags.zap_encoder.unwrap_or_else(|| {
        if std::io::stderr().is_terminal() { Encoder::Text } else { Encoder::Json }
    });
    Options {
        config,
        config_reload: flags.config_reload,
        load,
        workers,
        namespace: flags
            .pool_namespace
            .take()
            .or_else(|| environment("NAMESPACE").filter(|name| !name.is_empty()))
            .unwrap_or_else(|| "default".to_owned()),
        kubeconfig: flags.kubeconfig.take(),
        leader_election: flags.ha_enable_leader_election,
        ignore_subset: flags.disable_endpoint_subset_filter,
        emit_scores: flags.emit_endpoint_scores,
        listen,
        tls: tls(&mut flags, findings),
        max_recv: flags
            .grpc_max_recv_msg_size
            .unwrap_or(flags.max_request_body_bytes.saturating_add(MESSAGE_OVERHEAD)),
        max_send: flags.grpc_max_send_msg_size,
        max_request_body: flags.max_request_body_bytes,
        max_held_bodies: flags.max_held_body_bytes,
        error_format: flags.error_format,
        request_body_timeout: flags.request_body_timeout,
        response_body: flags.response_body,
        drain_timeout: flags.drain_timeout,
        scrape_interval: scrape_interval(flags.refresh_metrics_interval, findings),
        staleness: flags.metrics_staleness_threshold,
        health: flags.endpoint_health.then(|| health(&flags)),
        admin: admin(&mut flags, findings),
        stream_metrics: flags.enable_grpc_stream_metrics,
        explain_decisions: flags.explain_decisions,
        explain_share: flags.explain_share,
        record: record(&mut flags, findings),
        admin_page: flags.admin_page,
        tracing: tracing(flags.tracing, &environment, findings),
        log: LogOptions::new(
            flags.v,
            flags.zap_log_level,
            flags.access_log,
            zap_encoder,
            flags.zap_time_encoding,
        ),
        warnings: std::mem::take(&mut findings.warnings),
    }
}

fn record(flags: &mut Flags, findings: &mut Findings) -> Option<RecordOptions> {
    let dir = flags.record.take()?;
    let max_file_bytes = flags.record_max_file_bytes as u64;
    let max_bytes = flags.record_max_bytes as u64;
    if max_file_bytes < MIN_FILE_BYTES {
        let least = MIN_FILE_BYTES / 1024;
        findings.mistake(format!("--record-max-file-bytes: must be at least {least}Ki"));
    }
    if max_bytes < max_file_bytes.saturating_mul(2) {
        findings.mistake("--record-max-bytes: must be at least twice --record-max-file-bytes");
    }
    Some(RecordOptions { dir, max_file_bytes, max_file_age: flags.record_max_file_age, max_bytes })
}

fn health(flags: &Flags) -> HealthPolicy {
    // A scrape or two may be late.
    let stale_after =
        flags.metrics_staleness_threshold.max(flags.refresh_metrics_interval.saturating_mul(4));
    HealthPolicy {
        failures_in_a_row: flags.endpoint_health_failures,
        max_ejected_share: flags.endpoint_health_max_ejected,
        base_ejection: flags.endpoint_health_base_ejection,
        max_ejection: flags.endpoint_health_max_ejection,
        return_time: flags.endpoint_health_return_time,
        hang_factor: flags.endpoint_health_hang_factor,
        stale_after,
        ..HealthPolicy::default()
    }
}

fn workers(flags: &mut Flags, findings: &mut Findings) -> WorkerSource {
    let name = flags.pool_name.take();
    let selector = flags.endpoint_selector.take();
    let list = flags.endpoints.take();
    let group = flags.pool_group.take();
    if let Some(group) = &group
        && !POOL_GROUPS.contains(&group.as_str())
    {
        let [ga, alpha] = POOL_GROUPS;
        findings.mistake(format!("--pool-group: '{group}': expected {ga} or {alpha}"));
    }
    let ports = target_ports(&flags.endpoint_target_ports, findings);
    if selector.is_none() && !ports.is_empty() {
        findings.mistake("--endpoint-target-ports belongs to --endpoint-selector");
    }
    match (name, selector, list) {
        (None, None, None) => WorkerSource::Configured,
        (Some(name), None, None) => WorkerSource::Pool { name, group },
        (None, Some(selector), None) => {
            if !(1..=MAX_TARGET_PORTS).contains(&ports.len()) {
                findings.mistake(format!(
                    "--endpoint-target-ports: --endpoint-selector needs 1 to {MAX_TARGET_PORTS} \
                     ports, not {}",
                    ports.len()
                ));
            }
            WorkerSource::Selector { selector, ports }
        }
        (None, None, Some(list)) => match parse_endpoint_list(&list) {
            Ok(specs) => WorkerSource::List(specs),
            Err(mistakes) => {
                for mistake in mistakes {
                    findings.mistake(format!("--endpoints: {mistake}"));
                }
                WorkerSource::Configured
            }
        },
        _ => {
            findings.mistake("--pool-name, --endpoint-selector and --endpoints exclude each other");
            WorkerSource::Configured
        }
    }
}

/// The ports in the order given, each once.
fn target_ports(given: &[String], findings: &mut Findings) -> Vec<u16> {
    let mut ports = Vec::new();
    for text in given.iter().map(|t| t.trim()).filter(|t| !t.is_empty()) {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => {
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            _ => findings.mistake(format!("--endpoint-target-ports: '{text}' is not a port")),
        }
    }
    ports
}

fn tls(flags: &mut Flags, findings: &mut Findings) -> Option<TlsOptions> {
    let cert_path = flags.cert_path.take();
    let suites: Vec<&str> =
        flags.tls_cipher_suites.iter().map(|s| s.trim()).filter(|s| !s.is_empty()).collect();
    let version = flags.tls_min_version.take();
    let policy = TlsPolicy::parse(version.as_deref(), &suites).map(|(policy, warnings)| {
        findings.warnings.extend(warnings);
        policy
    });
    let policy = policy.unwrap_or_else(|mistakes| {
        findings.mistakes.extend(mistakes);
        TlsPolicy::default()
    });
    if !flags.secure_serving {
        return None;
    }
    if flags.enable_cert_reload && cert_path.is_none() {
        findings.warn("--enable-cert-reload does nothing without --cert-path");
    }
    Some(TlsOptions { cert_path, reload: flags.enable_cert_reload, policy })
}

fn admin(flags: &mut Flags, findings: &mut Findings) -> AdminOptions {
    let admin = AdminOptions {
        auth: flags.metrics_endpoint_auth,
        address: flags.metrics_bind_address,
        token_file: flags.metrics_token_file.take(),
        cert_dir: flags.metrics_cert_dir.take(),
        client_ca: flags.metrics_client_ca_file.take(),
    };
    if admin.client_ca.is_some() && admin.cert_dir.is_none() {
        findings.mistake("--metrics-client-ca-file needs --metrics-cert-dir");
    }
    let asks_somebody = admin.client_ca.is_some() || admin.token_file.is_some();
    if admin.cert_dir.is_some() && !asks_somebody && admin.auth == Some(false) {
        findings.mistake(
            "--metrics-cert-dir needs --metrics-client-ca-file, --metrics-token-file or \
             --metrics-endpoint-auth: encryption alone keeps nobody out",
        );
    }
    if admin.auth == Some(true) && admin.token_file.is_some() {
        findings.mistake("--metrics-endpoint-auth and --metrics-token-file exclude each other");
    }
    admin
}

fn tracing(
    wanted: Option<bool>,
    environment: &impl Fn(&str) -> Option<String>,
    findings: &mut Findings,
) -> Option<TracingOptions> {
    if wanted == Some(false) {
        return None;
    }
    let before = findings.warnings.len();
    let options = TracingOptions::read(environment, &mut findings.warnings);
    let options = options.unwrap_or_else(|mistake| {
        findings.mistake(mistake);
        None
    });
    if wanted == Some(true) && options.is_none() && findings.warnings.len() == before {
        findings.warn(
            "--tracing: no exporter is set, so no spans are sent; OTEL_TRACES_EXPORTER=otlp or \
             OTEL_EXPORTER_OTLP_ENDPOINT sets one",
        );
    }
    options
}

fn scrape_interval(asked: Duration, findings: &mut Findings) -> Duration {
    if asked < MIN_TICK {
        findings.warn(format!("--refresh-metrics-interval: {asked:?} is raised to {MIN_TICK:?}"));
    }
    asked.max(MIN_TICK)
}
