//! `epp doctor`: what is to be looked at, and what with.

use std::path::PathBuf;
use std::time::Duration;

use super::flags::{Format, duration};
use super::{ConfigSource, Options, WorkerSource};
use crate::console::AdminAccess;

/// What a check is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Flags and the `EndpointPickerConfig`.
    Configuration,
    /// What a running `epp` says itself.
    Running,
    /// Whether endpoints answer, what they serve, which metrics they have.
    Endpoints,
    /// Blocks and sizes of the engines' caches against the configuration.
    Cache,
    /// The same prompt sent twice.
    Probe,
    /// KV-cache events.
    Events,
    /// The Envoy in front.
    Envoy,
    /// InferencePool, pods, Service, rights.
    Kubernetes,
}

/// Where Envoy's configuration is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvoySource {
    /// Its admin address.
    Admin(String),
    /// A bootstrap configuration, or what `/config_dump` said.
    File(PathBuf),
}

/// What `epp doctor` looks at.
#[derive(Debug)]
pub struct DoctorOptions {
    /// The set-up as flags say it.
    pub serve: Options,
    /// A running `epp` whose configuration and endpoints are looked at; `None`: those of the flags.
    pub running: Option<AdminAccess>,
    /// Models that every endpoint has to serve; none: those that the first one serves.
    pub models: Vec<String>,
    /// Send a prompt twice to each endpoint.
    pub probe: bool,
    /// Its length, tokens.
    pub probe_tokens: u32,
    /// Give it to endpoints with this API key.
    pub api_key_file: Option<PathBuf>,
    pub envoy: Vec<EnvoySource>,
    pub only: Vec<Subject>,
    pub skip: Vec<Subject>,
    /// When all of it has to be over.
    pub timeout: Duration,
    /// Of one answer.
    pub patience: Duration,
    pub json: bool,
}

impl DoctorOptions {
    /// Flags that describe a set-up were given, or a running one is asked.
    pub fn has_setup(&self) -> bool {
        self.running.is_some() || describes(&self.serve)
    }

    /// Whether a subject is to be looked at.
    pub fn wants(&self, subject: Subject) -> bool {
        (self.only.is_empty() || self.only.contains(&subject)) && !self.skip.contains(&subject)
    }
}

/// The flags that only `epp doctor` has.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorFlags {
    /// Metrics port of a running epp, whose configuration and endpoints are looked at [default: the
    /// set-up that the flags of epp describe]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// File with the bearer token, where one is asked for
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Take any certificate of the metrics port
    #[arg(long, default_value_t = false)]
    pub admin_insecure_skip_verify: bool,
    /// A model that every endpoint has to serve, an adapter too; may be given several times
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// Send the same prompt twice to each endpoint, with max_tokens 1, and look whether the second
    /// one is served from the cache
    #[arg(long, default_value_t = false)]
    pub probe: bool,
    /// Length of that prompt in tokens
    #[arg(long, value_name = "N", default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(64..=8192))]
    pub probe_tokens: u32,
    /// File with the API key that the engines ask for
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Admin address of the Envoy in front
    #[arg(long, value_name = "URL")]
    pub envoy_admin: Option<String>,
    /// Configuration of the Envoy in front, YAML or JSON: a bootstrap or what /config_dump said
    #[arg(long, value_name = "FILE")]
    pub envoy_config: Option<PathBuf>,
    /// Look at these subjects alone
    #[arg(long, value_name = "SUBJECTS", value_delimiter = ',', value_enum)]
    pub only: Vec<Subject>,
    /// Leave these subjects out
    #[arg(long, value_name = "SUBJECTS", value_delimiter = ',', value_enum)]
    pub skip: Vec<Subject>,
    /// All of it ends in this time; what is not known then is said
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// How long one answer may take
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub patience: Duration,
    /// text or json
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// Whether flags say what `epp` is set up with.
fn describes(serve: &Options) -> bool {
    serve.config != ConfigSource::BuiltIn || serve.workers != WorkerSource::Configured
}

/// The options; an error where there is nothing to look at.
pub(super) fn options(flags: DoctorFlags, serve: Options) -> Result<DoctorOptions, String> {
    let running = flags.admin.map(|address| AdminAccess {
        address,
        token_file: flags.admin_token_file,
        insecure: flags.admin_insecure_skip_verify,
    });
    let file = flags.envoy_config.map(EnvoySource::File);
    let envoy: Vec<EnvoySource> =
        flags.envoy_admin.map(EnvoySource::Admin).into_iter().chain(file).collect();
    if running.is_none() && !describes(&serve) && envoy.is_empty() {
        return Err(
            "nothing to look at: give --admin URL of a running epp, or the flags that epp \
                    is started with (--config-file, --endpoints, --pool-name), or --envoy-config \
                    or --envoy-admin"
                .to_owned(),
        );
    }
    Ok(DoctorOptions {
        serve,
        running,
        models: flags.models,
        probe: flags.probe,
        probe_tokens: flags.probe_tokens,
        api_key_file: flags.api_key_file,
        envoy,
        only: flags.only,
        skip: flags.skip,
        timeout: flags.timeout,
        patience: flags.patience,
        json: flags.output == Format::Json,
    })
}
