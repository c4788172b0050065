//! Every flag there is, with its help. Names are the reference's of today; the older spellings
//! are brought to them by [`super::spelling`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::ConfigReload;
use super::doctor::DoctorFlags;
use crate::config::{parse_duration, parse_quantity};
use crate::console::Column;
use crate::error::ErrorFormat;
use crate::exchange::ResponseBodyChoice;
use crate::telemetry::logging::{Encoder, TimeEncoding, ZapLevel};

/// Picks the worker that serves a request: Envoy asks over ext_proc, epp answers.
///
/// Flags may be written as the reference picker's, of any version: --pool-name, --poolName,
/// -poolName. A flag that is on or off takes its value after an equals sign only:
/// --secure-serving=false. Every flag can be given by the environment too: EPP_POOL_NAME for
/// --pool-name; the command line wins.
#[derive(Debug, Parser)]
#[command(name = "epp", version = super::version::version())]
#[command(args_override_self = true)]
pub(super) struct Flags {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// File with the EndpointPickerConfig; without one, built-in defaults pick by queue depth,
    /// KV-cache usage and cached prefix
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config_file: Option<PathBuf>,
    /// The EndpointPickerConfig itself
    #[arg(long, value_name = "YAML", help_heading = "Configuration")]
    pub config_text: Option<String>,
    /// When a changed configuration file is put to work: off, signal (on SIGHUP), or watch (on
    /// SIGHUP, and when the file changes)
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "watch",
        hide_possible_values = true,
        help_heading = "Configuration"
    )]
    pub config_reload: ConfigReload,
    /// Accept plugin types that are marked experimental
    #[arg(long, default_value_t = false, help_heading = "Configuration")]
    pub allow_experimental_plugins: bool,

    /// InferencePool to serve [env: POOL_NAME]
    #[arg(long, value_name = "NAME", help_heading = "Where the workers are")]
    pub pool_name: Option<String>,
    /// Its namespace [env: POOL_NAMESPACE, NAMESPACE] [default: default]
    #[arg(long, value_name = "NAMESPACE", help_heading = "Where the workers are")]
    pub pool_namespace: Option<String>,
    /// API group of the InferencePool: inference.networking.k8s.io or
    /// inference.networking.x-k8s.io [default: whichever the cluster has]
    #[arg(long, value_name = "GROUP", help_heading = "Where the workers are")]
    pub pool_group: Option<String>,
    /// Label selector of the workers, where there is no InferencePool
    #[arg(long, value_name = "SELECTOR", help_heading = "Where the workers are")]
    pub endpoint_selector: Option<String>,
    /// Ports of the workers that the selector finds, 1 to 8
    #[arg(
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        help_heading = "Where the workers are"
    )]
    pub endpoint_target_ports: Vec<String>,
    /// The workers themselves, as host:port,host:port; no Kubernetes. Names are looked up again and
    /// again, and may stand for several workers
    #[arg(long, value_name = "LIST", help_heading = "Where the workers are")]
    pub endpoints: Option<String>,
    /// Use all workers whatever subset the gateway allows
    #[arg(long, default_value_t = false, help_heading = "Where the workers are")]
    pub disable_endpoint_subset_filter: bool,
    /// Configuration of the Kubernetes client [default: the pod's own, else ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = "Where the workers are")]
    pub kubeconfig: Option<PathBuf>,
    /// One replica serves, the others wait: only the leader is ready
    #[arg(long, default_value_t = false, help_heading = "Where the workers are")]
    pub ha_enable_leader_election: bool,

    /// Address to listen on [default: all, IPv6 and IPv4; the metrics port differs]
    #[arg(long, value_name = "IP", help_heading = "Listening")]
    pub bind_address: Option<IpAddr>,
    /// Port of the ext_proc service and of the health service [env: GRPC_PORT]
    #[arg(long, value_name = "PORT", value_parser = port, default_value_t = 9002,
        help_heading = "Listening")]
    pub grpc_port: u16,
    /// Port of the health service alone, without TLS [env: GRPC_HEALTH_PORT]
    #[arg(long, value_name = "PORT", value_parser = port, default_value_t = 9003,
        help_heading = "Listening")]
    pub grpc_health_port: u16,
    /// Port of metrics and debug pages, HTTP
    #[arg(long, value_name = "PORT", value_parser = port, default_value_t = 9090,
        help_heading = "Listening")]
    pub metrics_port: u16,
    /// Largest gRPC message taken, as 4Mi [default: what a request body may need]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Listening")]
    pub grpc_max_recv_msg_size: Option<usize>,
    /// Largest gRPC message sent [default: unlimited]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Listening")]
    pub grpc_max_send_msg_size: Option<usize>,
    /// Largest request body; more is answered with 413
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "32Mi",
        help_heading = "Listening")]
    pub max_request_body_bytes: usize,
    /// Largest sum of the bodies of all requests that are not decided yet; more is answered with
    /// 429 [default: a quarter of the memory there is]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Listening")]
    pub max_held_body_bytes: Option<usize>,
    /// How clients are told of errors: json, as the API that they ask has errors; text, as the
    /// reference picker does
    #[arg(long, value_name = "FORMAT", value_parser = error_format, default_value = "json",
        help_heading = "Listening")]
    pub error_format: ErrorFormat,
    /// How long nothing may come of a request's body; then it is answered with 408
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1m",
        help_heading = "Listening")]
    pub request_body_timeout: Duration,
    /// Which bodies of responses the gateway is asked for: always, all; auto, no streams of events
    /// that nothing reads; never, none. Without them counts of tokens and times of first tokens are
    /// not known
    #[arg(long, value_name = "CHOICE", value_parser = response_body, default_value = "always",
        help_heading = "Listening")]
    pub response_body: ResponseBodyChoice,
    /// How long to go on serving after SIGTERM, while the gateway learns of it; then requests in
    /// progress may finish
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s",
        help_heading = "Listening")]
    pub drain_timeout: Duration,
    /// Accepted; the health service is always on the ext_proc port too
    #[arg(long, help_heading = "Listening")]
    pub health_checking: Option<bool>,

    /// TLS on the ext_proc port [env: SECURE_SERVING]
    #[arg(long, default_value_t = true, help_heading = "TLS")]
    pub secure_serving: bool,
    /// Directory with tls.crt and tls.key [default: a self-signed certificate]
    #[arg(long, value_name = "DIR", help_heading = "TLS")]
    pub cert_path: Option<PathBuf>,
    /// Follow changes of the certificate
    #[arg(long, default_value_t = false, help_heading = "TLS")]
    pub enable_cert_reload: bool,
    /// VersionTLS12 or VersionTLS13
    #[arg(long, value_name = "VERSION", help_heading = "TLS")]
    pub tls_min_version: Option<String>,
    /// TLS 1.2 cipher suites by their IANA names
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "TLS")]
    pub tls_cipher_suites: Vec<String>,

    /// Time between two scrapes of a worker, 50ms at least [env: REFRESH_METRICS_INTERVAL]
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "50ms",
        help_heading = "Metrics of the workers")]
    pub refresh_metrics_interval: Duration,
    /// Age at which a worker's metrics no longer count in the pool's averages
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s",
        help_heading = "Metrics of the workers")]
    pub metrics_staleness_threshold: Duration,
    /// Accepted; the pool's averages are worked out whenever they are asked for
    #[arg(long, value_name = "DURATION", value_parser = duration,
        help_heading = "Metrics of the workers")]
    pub refresh_prometheus_metrics_interval: Option<Duration>,
    /// Before v0.10, now a parameter of metrics-data-source: http or https
    #[arg(long, value_name = "SCHEME", help_heading = "Metrics of the workers")]
    pub model_server_metrics_scheme: Option<String>,
    /// Before v0.10, likewise: the path [env: MODEL_SERVER_METRICS_PATH]
    #[arg(long, value_name = "PATH", help_heading = "Metrics of the workers")]
    pub model_server_metrics_path: Option<String>,
    /// Before v0.10, likewise: the port, 0 for the serving port [env: MODEL_SERVER_METRICS_PORT]
    #[arg(long, value_name = "PORT", value_parser = port,
        help_heading = "Metrics of the workers")]
    pub model_server_metrics_port: Option<u16>,
    /// Before v0.10, likewise: accept any certificate
    #[arg(long, help_heading = "Metrics of the workers")]
    pub model_server_metrics_https_insecure_skip_verify: Option<bool>,
    /// Before v0.10, now a parameter of core-metrics-extractor: requests waiting
    #[arg(long, value_name = "METRIC", help_heading = "Metrics of the workers")]
    pub total_queued_requests_metric: Option<String>,
    /// Before v0.10, likewise: requests running
    #[arg(long, value_name = "METRIC", help_heading = "Metrics of the workers")]
    pub total_running_requests_metric: Option<String>,
    /// Before v0.10, likewise: KV-cache usage
    #[arg(long, value_name = "METRIC", help_heading = "Metrics of the workers")]
    pub kv_cache_usage_percentage_metric: Option<String>,
    /// Before v0.10, likewise: LoRA adapters
    #[arg(long, value_name = "METRIC", help_heading = "Metrics of the workers")]
    pub lora_info_metric: Option<String>,
    /// Before v0.10, likewise: geometry of the KV cache
    #[arg(long, value_name = "METRIC", help_heading = "Metrics of the workers")]
    pub cache_info_metric: Option<String>,

    /// Keep requests away from workers that fail or hang, as epp sees it itself
    #[arg(long, default_value_t = true, help_heading = "Health of the workers")]
    pub endpoint_health: bool,
    /// Failures in a row after which a worker is ejected, at least; more where others fail too
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Health of the workers")]
    pub endpoint_health_failures: u32,
    /// Share of the workers, at most, that are left out; beyond it all are used
    #[arg(long, value_name = "SHARE", value_parser = share, default_value_t = 0.5,
        help_heading = "Health of the workers")]
    pub endpoint_health_max_ejected: f64,
    /// Wait until an ejected worker is tried with a request; it doubles when that fails
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s",
        help_heading = "Health of the workers")]
    pub endpoint_health_base_ejection: Duration,
    /// Longest such wait, as long as there are enough requests to spare one
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s",
        help_heading = "Health of the workers")]
    pub endpoint_health_max_ejection: Duration,
    /// Time in which the share of a worker that is back grows to a full one
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3s",
        help_heading = "Health of the workers")]
    pub endpoint_health_return_time: Duration,
    /// A worker hangs when it answers nothing for so many times as long as 99 % of the pool's
    /// first bytes take
    #[arg(long, value_name = "FACTOR", value_parser = factor, default_value_t = 3.0,
        help_heading = "Health of the workers")]
    pub endpoint_health_hang_factor: f64,

    /// Verbosity: 1 without a line per request, 2 or 3 with one, 4 debug, 5 trace
    #[arg(
        short,
        long,
        value_name = "N",
        value_parser = verbosity,
        default_value_t = 2,
        help_heading = "Telling what goes on"
    )]
    pub v: u8,
    /// json or console [default: console on a terminal, else json]
    #[arg(long, value_name = "ENCODER", value_parser = encoder,
        help_heading = "Telling what goes on")]
    pub zap_encoder: Option<Encoder>,
    /// debug, info, error, panic or a verbosity; overrides -v
    #[arg(long, value_name = "LEVEL", help_heading = "Telling what goes on")]
    pub zap_log_level: Option<ZapLevel>,
    /// epoch, millis, nano, iso8601, rfc3339 or rfc3339nano
    #[arg(
        long,
        value_name = "ENCODING",
        default_value = "rfc3339",
        help_heading = "Telling what goes on"
    )]
    pub zap_time_encoding: TimeEncoding,
    /// A line per request [default: on from -v 2]
    #[arg(long, help_heading = "Telling what goes on")]
    pub access_log: Option<bool>,
    /// Keep the last N decisions with every step, for /debug/decisions and epp explain; 0 keeps
    /// none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = kept_decisions,
        help_heading = "Telling what goes on")]
    pub explain_decisions: usize,
    /// Share of the requests whose every step is kept, from 0 to 1; a request with the header
    /// x-epp-explain always is
    #[arg(long, value_name = "SHARE", value_parser = share, default_value_t = 1.0,
        help_heading = "Telling what goes on")]
    pub explain_share: f64,
    /// Send spans to an OpenTelemetry collector, where OTEL_TRACES_EXPORTER=otlp or
    /// OTEL_EXPORTER_OTLP_ENDPOINT is set [default: true]
    #[arg(long, help_heading = "Telling what goes on")]
    pub tracing: Option<bool>,
    /// Record the traffic in files in this folder, for epp-bench replay: sizes, times and how far
    /// prompts begin alike; no text, name or id
    #[arg(long, value_name = "DIR", help_heading = "Telling what goes on")]
    pub record: Option<PathBuf>,
    /// Largest file of a recording, compressed
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64Mi",
        help_heading = "Telling what goes on")]
    pub record_max_file_bytes: usize,
    /// Age at which the next file is begun
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h",
        help_heading = "Telling what goes on")]
    pub record_max_file_age: Duration,
    /// Largest sum of all recordings in the folder; the oldest files are removed
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1Gi",
        help_heading = "Telling what goes on")]
    pub record_max_bytes: usize,
    /// Show the page for people at / of the metrics port
    #[arg(long, default_value_t = true, help_heading = "Telling what goes on")]
    pub admin_page: bool,
    /// Tell the gateway the scores of all workers in dynamic metadata
    #[arg(long, default_value_t = false, help_heading = "Telling what goes on")]
    pub emit_endpoint_scores: bool,
    /// Ask Kubernetes who may read the metrics port [default: where the workers come from there]
    #[arg(long, help_heading = "Telling what goes on")]
    pub metrics_endpoint_auth: Option<bool>,
    /// Address of the metrics port [default: --bind-address where Kubernetes gives the workers, or
    /// a token or client certificates are asked for; else this machine alone, 127.0.0.1]
    #[arg(long, value_name = "IP", help_heading = "Telling what goes on")]
    pub metrics_bind_address: Option<IpAddr>,
    /// File with the bearer token that readers of the metrics port must have; Kubernetes is not
    /// asked then
    #[arg(long, value_name = "FILE", help_heading = "Telling what goes on")]
    pub metrics_token_file: Option<PathBuf>,
    /// Directory with tls.crt and tls.key of the metrics port [default: no TLS there]
    #[arg(long, value_name = "DIR", help_heading = "Telling what goes on")]
    pub metrics_cert_dir: Option<PathBuf>,
    /// Certificates of the authority that clients of the metrics port must be signed by
    #[arg(long, value_name = "FILE", help_heading = "Telling what goes on")]
    pub metrics_client_ca_file: Option<PathBuf>,
    /// Metrics of ext_proc streams
    #[arg(long, default_value_t = false, help_heading = "Telling what goes on")]
    pub enable_grpc_stream_metrics: bool,

    // What follows means something to the reference and nothing here: see `Options`.
    #[arg(long, hide = true)]
    pub enable_pprof: Option<bool>,
    #[arg(long, hide = true)]
    pub zap_devel: Option<bool>,
    #[arg(long, hide = true)]
    pub zap_stacktrace_level: Option<String>,
    #[arg(long, hide = true)]
    pub destination_endpoint_hint_key: Option<String>,
    #[arg(long, hide = true)]
    pub destination_endpoint_hint_metadata_namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Says whether configurations are right, without starting anything
    Check {
        /// Print each configuration as it is after all defaults
        #[arg(long, default_value_t = false)]
        effective: bool,
        /// EndpointPickerConfigs, or manifests and Helm values that hold some; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Rewrites configurations of any version in today's form, and says what changed and why
    Migrate {
        /// Write the files anew, instead of printing the results
        #[arg(short, long, default_value_t = false)]
        in_place: bool,
        /// EndpointPickerConfigs, or manifests and Helm values that hold some; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Lists the plugin types, or tells all about one: its parameters with their defaults
    Plugins {
        /// A plugin type, by its name of today or an old one
        #[arg(value_name = "TYPE")]
        plugin_type: Option<String>,
        /// text or json
        #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Prints a JSON Schema of the configuration, with which an editor completes and marks mistakes
    Schema,
    /// Prints the completions of a shell: bash, elvish, fish, powershell or zsh
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, for man(1)
    Man,
    /// Says how a running epp decided about one request, step by step
    Explain {
        #[command(flatten)]
        access: Access,
        /// Print JSON
        #[arg(long, default_value_t = false)]
        json: bool,
        /// The request's x-request-id
        #[arg(required = true, value_name = "ID")]
        id: String,
    },
    /// Shows the pool of a running epp in the terminal, kept up to date
    Top {
        #[command(flatten)]
        access: Access,
        /// Print a plain table and end
        #[arg(long, default_value_t = false)]
        once: bool,
        /// Time between two looks
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
        interval: Duration,
        /// endpoint, state, queue, running, in-flight, kv, hits, share, picks-s or ttft
        #[arg(long, value_name = "COLUMN", value_parser = column, default_value = "endpoint")]
        sort: Column,
    },
    /// Looks for what is wrong with a set-up: endpoints, caches, events, the Envoy in front, objects
    /// in Kubernetes. Takes the flags that epp is started with, or asks a running one. Status 1
    /// where something is wrong
    Doctor(DoctorFlags),
}

/// Where the running epp is.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// Its metrics port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    pub admin: String,
    /// File with the bearer token, where one is asked for
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, default_value_t = false)]
    pub admin_insecure_skip_verify: bool,
}

fn column(text: &str) -> Result<Column, String> {
    Column::named(text).ok_or_else(|| "expected the name of a column, such as queue".into())
}

/// How something is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "expected a port from 0 to 65535".into())
}

/// Any integer, as in the reference: beyond the levels there are it is the nearest one.
fn verbosity(text: &str) -> Result<u8, String> {
    let level: i64 = text.parse().map_err(|_| "expected a number such as 2")?;
    Ok(level.clamp(0, u8::MAX.into()) as u8)
}

fn size(text: &str) -> Result<usize, String> {
    parse_quantity(text)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| "expected a size such as 4194304, 4Mi or 4MiB".into())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 50ms, 2s or 1m30s".into())
}

fn kept_decisions(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count <= 100_000);
    count.ok_or_else(|| "expected a number from 0 to 100000".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.5".into())
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|f: &f64| f.is_finite() && *f >= 1.0);
    factor.ok_or_else(|| "expected a number from 1 on, such as 3".into())
}

fn error_format(text: &str) -> Result<ErrorFormat, String> {
    match text {
        "json" => Ok(ErrorFormat::Json),
        "text" => Ok(ErrorFormat::Text),
        _ => Err("expected json or text".into()),
    }
}

fn response_body(text: &str) -> Result<ResponseBodyChoice, String> {
    match text {
        "always" => Ok(ResponseBodyChoice::Always),
        "auto" => Ok(ResponseBodyChoice::Auto),
        "never" => Ok(ResponseBodyChoice::Never),
        _ => Err("expected always, auto or never".into()),
    }
}

fn encoder(text: &str) -> Result<Encoder, String> {
    match text {
        "json" => Ok(Encoder::Json),
        "console" => Ok(Encoder::Text),
        _ => Err("expected json or console".into()),
    }
}
