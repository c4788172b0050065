//! Flags and environment, in every spelling that deployments pass, read into plain [`Options`].

mod check;
mod doctor;
mod embedded;
mod environment;
mod flags;
mod migrate;
mod spelling;
mod unused;
mod validate;
mod version;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::console::{ExplainOptions, TopOptions};
use crate::discovery::ListedEndpoint;
use crate::error::ErrorFormat;
use crate::exchange::ResponseBodyChoice;
use crate::health::HealthPolicy;
use crate::loader::LoadOptions;
use crate::recording::RecordOptions;
use crate::server::TlsPolicy;
use crate::telemetry::TracingOptions;
use crate::telemetry::logging::LogOptions;
pub use check::check;
pub use doctor::{DoctorOptions, EnvoySource, Subject};
use flags::Flags;
pub use migrate::{MigrateOptions, Migration, migrate};
use spelling::{Known, with_bare_booleans};

/// A larger configuration file is refused, bytes: no ConfigMap can hold more.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Serve(Box<Options>),
    Check(CheckOptions),
    Migrate(MigrateOptions),
    /// Completions or a manual page, for standard output.
    Print(String),
    Explain(ExplainOptions),
    Top(TopOptions),
    Doctor(Box<DoctorOptions>),
}

/// `epp check`.
#[derive(Debug)]
pub struct CheckOptions {
    /// `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Print the configuration after all defaults.
    pub effective: bool,
    pub load: LoadOptions,
}

/// Where the `EndpointPickerConfig` comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigSource {
    /// The built-in one.
    #[default]
    BuiltIn,
    File(PathBuf),
    Text(String),
}

/// When a changed configuration is put to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ConfigReload {
    /// Never: it takes a restart.
    Off,
    /// On SIGHUP.
    Signal,
    /// On SIGHUP, and when the file changes.
    #[default]
    Watch,
}

/// Where the workers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerSource {
    /// From the configuration's discovery plugin, or nowhere: then it is an error.
    Configured,
    /// An InferencePool; `group` as asked for, else whichever the cluster has.
    Pool { name: String, group: Option<String> },
    /// Pods by a label selector.
    Selector { selector: String, ports: Vec<u16> },
    /// Given as such.
    List(Vec<ListedEndpoint>),
}

/// The ports to listen on; 0 means any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: all addresses.
    pub address: Option<IpAddr>,
    /// ext_proc and health.
    pub grpc: u16,
    /// Health alone, never with TLS.
    pub health: u16,
    /// Metrics and debug pages.
    pub admin: u16,
}

/// TLS of the ext_proc port.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Directory with `tls.crt` and `tls.key`; `None`: a self-signed certificate.
    pub cert_path: Option<PathBuf>,
    /// Follow changes of the files.
    pub reload: bool,
    pub policy: TlsPolicy,
}

/// The metrics port.
#[derive(Clone, Debug, Default)]
pub struct AdminOptions {
    /// Ask Kubernetes who may read; `None`: where there is a Kubernetes to ask.
    pub auth: Option<bool>,
    /// Address to listen on, where it was given.
    pub address: Option<IpAddr>,
    /// File with the token that readers must have.
    pub token_file: Option<PathBuf>,
    /// Directory with `tls.crt` and `tls.key`; `None`: plain HTTP.
    pub cert_dir: Option<PathBuf>,
    /// Authority that clients must be signed by.
    pub client_ca: Option<PathBuf>,
}

impl AdminOptions {
    /// The address to listen on. Where neither Kubernetes nor a token nor a client certificate
    /// says who may read, that is this machine alone, unless the operator wants it otherwise.
    pub fn bind_address(&self, others: Option<IpAddr>, in_kubernetes: bool) -> Option<IpAddr> {
        let is_guarded = in_kubernetes || self.token_file.is_some() || self.client_ca.is_some();
        match self.address {
            Some(address) => Some(address),
            None if is_guarded => others,
            None => Some(Ipv4Addr::LOCALHOST.into()),
        }
    }
}

/// Everything a serving `epp` is told by its flags.
#[derive(Debug)]
pub struct Options {
    pub config: ConfigSource,
    pub config_reload: ConfigReload,
    pub load: LoadOptions,
    pub workers: WorkerSource,
    /// Namespace of the pool.
    pub namespace: String,
    pub kubeconfig: Option<PathBuf>,
    pub leader_election: bool,
    /// Use all workers whatever subset the gateway allows.
    pub ignore_subset: bool,
    pub emit_scores: bool,
    pub listen: Listen,
    /// `None`: plain TCP.
    pub tls: Option<TlsOptions>,
    /// Largest gRPC message, bytes.
    pub max_recv: usize,
    /// `None`: unlimited.
    pub max_send: Option<usize>,
    /// Largest request body, bytes.
    pub max_request_body: usize,
    /// Largest sum of all bodies held, bytes; `None`: a share of the memory.
    pub max_held_bodies: Option<usize>,
    /// How errors are written to clients.
    pub error_format: ErrorFormat,
    /// How long nothing may come of a request's body.
    pub request_body_timeout: Duration,
    /// Which bodies of responses the gateway is asked for.
    pub response_body: ResponseBodyChoice,
    /// How long to go on accepting after the first signal.
    pub drain_timeout: Duration,
    pub scrape_interval: Duration,
    pub staleness: Duration,
    /// `None`: nobody is taken to be ill.
    pub health: Option<HealthPolicy>,
    pub admin: AdminOptions,
    pub stream_metrics: bool,
    /// Decisions kept; 0 = none.
    pub explain_decisions: usize,
    /// Share of them kept with every step.
    pub explain_share: f64,
    /// `None`: nothing is recorded.
    pub record: Option<RecordOptions>,
    /// Show the page for people.
    pub admin_page: bool,
    /// Where spans go; `None`: nowhere.
    pub tracing: Option<TracingOptions>,
    pub log: LogOptions,
    /// What the operator should know about the flags given, for the log.
    pub warnings: Vec<String>,
}

/// Why there is nothing to run: a text for the user and the exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    pub text: String,
    /// 0 for help and version, 2 for mistakes.
    pub code: u8,
}

impl Exit {
    fn mistakes(mistakes: &[String]) -> Self {
        let mut text = String::new();
        for mistake in mistakes {
            text.push_str(&format!("epp: {mistake}\n"));
        }
        text.push_str("epp: see epp --help\n");
        Self { text, code: 2 }
    }
}

/// Reads arguments, without the program's name, and environment variables.
///
/// # Errors
/// Every mistake found, or the help text where that is what was asked for.
pub fn parse(
    arguments: &[String],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Command, Exit> {
    let mut command = with_bare_booleans(Flags::command());
    let known = Known::of(&mut command);
    let (mut given, mut mistakes) = known.read(arguments);
    mistakes.extend(environment::add(&mut given, &known, &environment));

    // clap stops at the first value it cannot read; what it names is set aside until it is happy,
    // so that all such values are told at once.
    let mut bad = BTreeSet::new();
    let flags = loop {
        let parsed = command
            .try_get_matches_from_mut(given.to_list(&bad))
            .and_then(|mut matches| Flags::from_arg_matches_mut(&mut matches));
        match parsed {
            Ok(flags) => break flags,
            Err(error) => match (error.kind(), flag_in(&error)) {
                (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
                    return Err(Exit { text: error.to_string(), code: 0 });
                }
                (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(flag))
                    if bad.insert(flag.clone()) =>
                {
                    mistakes.push(bad_value(&flag, &error));
                }
                _ => {
                    mistakes.push(in_one_line(&error));
                    return Err(Exit::mistakes(&mistakes));
                }
            },
        }
    };
    validate::command(flags, environment, mistakes).map_err(|m| Exit::mistakes(&m))
}

/// The flag an error is about.
fn flag_in(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => {
            let name = arg.trim_start_matches('-');
            Some(name.split([' ', '=']).next().unwrap_or(name).to_owned())
        }
        _ => None,
    }
}

fn bad_value(flag: &str, error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    match std::error::Error::source(error) {
        Some(reason) => format!("--{flag}: '{value}': {reason}"),
        None => format!("--{flag}: '{value}' is no value for it"),
    }
}

/// What is wrong, without the usage that clap adds.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let wrong = text.split("\n\n").next().unwrap_or_default();
    let wrong = wrong.strip_prefix("error: ").unwrap_or(wrong);
    wrong.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
