//! The program put together: from flags to listeners, and down again.

mod at_work;
mod configuration;
mod keeper;
mod memory;
mod pool_runtime;
mod queueing;
mod reload;
mod reload_triggers;
mod runtime;
mod saturation;
mod workers;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::cli::{AdminOptions, Exit, Options, TlsOptions};
use crate::clock;
use crate::endpoints::Pool;
use crate::ext_proc::ExternalProcessorServer;
use crate::server::{
    Counted, Dispatch, Drain, HealthService, Incoming, KeyPairFollower, ListenerOptions,
    MetricsAuth, OpenCalls, ServingKey, Shutdown, Stage, TlsPolicy, TokenAuth, bind, serve_grpc,
    serve_grpc_in_two_turns, server_config,
};
use crate::telemetry::BuildInfo;
pub use pool_runtime::PoolRuntime;
use reload_triggers::ReloadTriggers;
pub(crate) use runtime::TokioRuntime;
pub(crate) use workers::Workers;

/// How long the last spans may take to be delivered when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Why the program could not start: exit status 2 where what it was told is wrong, 1 where the
/// machine refused.
fn refused(code: u8, text: impl std::fmt::Display) -> Exit {
    Exit { text: format!("epp: {text}\n"), code }
}

/// The tasks of the listeners.
struct Servers {
    ext_proc: JoinHandle<()>,
    health: JoinHandle<()>,
    metrics: JoinHandle<()>,
    /// Tells the latter two to end.
    served: CancellationToken,
}

impl Servers {
    /// Returns when the ext_proc server has ended and then the others have. One that panicked
    /// has ended too.
    async fn finish(self) {
        _ = self.ext_proc.await;
        self.served.cancel();
        _ = self.health.await;
        _ = self.metrics.await;
    }
}

/// A running `epp`.
pub struct App {
    /// Addresses of the ext_proc, health and metrics listeners.
    pub ext_proc: SocketAddr,
    pub health: SocketAddr,
    pub metrics: SocketAddr,
    runtime: PoolRuntime,
    options: Options,
    shutdown: Shutdown,
    servers: Servers,
    _reload: ReloadTriggers,
    _drain: Drain,
    _certificates: Vec<KeyPairFollower>,
}

impl App {
    /// Starts everything; requests are served when it returns, except that the pool may still
    /// have to be listed by Kubernetes.
    ///
    /// # Errors
    /// A text for the user and the exit status.
    pub async fn start(options: Options, shutdown: Shutdown) -> Result<Self, Exit> {
        let build = BuildInfo::of_this_build();
        tracing::info!(commit = build.commit, version = build.build_ref, "Starting epp");
        for warning in &options.warnings {
            tracing::warn!("{warning}");
        }
        let runtime = PoolRuntime::start(&options).await?;
        let processor = ExternalProcessorServer::new(
            runtime.contexts().clone(),
            options.max_recv,
            options.max_send,
        );

        let mut certificates = Vec::new();
        let ext_proc_tls = match &options.tls {
            None => None,
            Some(tls) => Some(ext_proc_tls(tls, &mut certificates)?),
        };
        let admin_tls = admin_tls(&options.admin, &mut certificates)?;
        let listen = &options.listen;
        let (address, port) = (listen.address, (listen.grpc, "grpc-port"));
        let ext_proc = listener(ListenerOptions::EXT_PROC, address, port, ext_proc_tls).await?;
        let port = (listen.health, "grpc-health-port");
        let health = listener(ListenerOptions::HEALTH, address, port, None).await?;
        let port = (listen.admin, "metrics-port");
        let address = admin_address(&options, runtime.is_in_kubernetes());
        let admin = listener(ListenerOptions::METRICS, address, port, admin_tls).await?;
        let addresses = [ext_proc.local_addr(), health.local_addr(), admin.local_addr()];

        let streams = match options.stream_metrics {
            true => Some(runtime.metrics().add_streams().map_err(|e| refused(1, e))?),
            false => None,
        };
        let pages = runtime.pages(&options, token_auth(&options.admin)?);
        let calls = OpenCalls::default();
        let health_service = || HealthService::server(runtime.readiness().clone());
        let exchanges = Counted::new(processor, calls.clone(), streams);
        let both = Dispatch::new(exchanges, Routes::new(health_service()));
        let (timeout, connections) = (options.drain_timeout, ext_proc.open_connections());
        let drain = Drain::start(shutdown.clone(), timeout, connections, calls);
        let exchanges = serve_grpc_in_two_turns(ext_proc, both, drain.halfway(), drain.over());
        // Probes and scrapes are answered for as long as an exchange is in progress.
        let served = CancellationToken::new();
        let stop = || served.clone().cancelled_owned();
        let servers = Servers {
            ext_proc: tokio::spawn(exchanges),
            health: tokio::spawn(serve_grpc(health, Routes::new(health_service()), stop())),
            metrics: tokio::spawn(pages.serve(admin, stop())),
            served,
        };
        if let Some(queue) = runtime.queue().cloned() {
            let over = drain.over();
            tokio::spawn(async move {
                over.await;
                // What waits would end with the process: better now, and with a reason.
                queue.close(clock::now());
            });
        }
        let reload =
            ReloadTriggers::start(runtime.reloader(), options.config_reload, &options.config)
                .map_err(|e| refused(1, format_args!("{e}: --config-reload")))?;
        let [ext_proc, health, metrics] = addresses;
        Ok(Self {
            ext_proc,
            health,
            metrics,
            runtime,
            options,
            shutdown,
            servers,
            _reload: reload,
            _drain: drain,
            _certificates: certificates,
        })
    }

    /// The pool that is served.
    pub fn pool(&self) -> &Arc<Pool> {
        self.runtime.pool()
    }

    /// Serves until it is asked to end, then drains: not ready at once, serving while gateways
    /// learn of it, for the drain timeout at most and no longer than exchanges come, halfway
    /// through asking them to connect anew; then no new exchange is taken and those in progress
    /// may finish. Asked a second time, it ends at once.
    pub async fn run(mut self) {
        self.shutdown.reached(Stage::Draining).await;
        tracing::info!(timeout = ?self.options.drain_timeout, "Draining: a second signal ends it at once");
        self.runtime.drain().await;
        tokio::select! {
            () = self.servers.finish() => tracing::info!("Every exchange has ended"),
            () = self.shutdown.reached(Stage::Now) => tracing::warn!("Ending at once"),
        }
        self.runtime.finish_spans(LAST_SPANS).await;
        self.runtime.stop();
    }
}

async fn listener(
    options: ListenerOptions,
    address: Option<IpAddr>,
    (port, flag): (u16, &'static str),
    tls: Option<Arc<ServerConfig>>,
) -> Result<Incoming, Exit> {
    let (name, secure) = (options.name, tls.is_some());
    let failed = |e| refused(1, format_args!("{e}: --{flag}"));
    let listener = bind(address, port).await.map_err(failed)?;
    let incoming = Incoming::start(listener, tls, options).map_err(failed)?;
    let address = incoming.local_addr();
    tracing::info!(listener = name, %address, tls = secure, "Listening");
    Ok(incoming)
}

/// Where the metrics port listens; says so where it does not do what was asked for.
fn admin_address(options: &Options, in_kubernetes: bool) -> Option<IpAddr> {
    let address = options.admin.bind_address(options.listen.address, in_kubernetes);
    if options.admin.auth == Some(true) && !in_kubernetes {
        tracing::warn!(
            "--metrics-endpoint-auth: without Kubernetes there is nobody to ask who may read the \
             metrics port; use --metrics-token-file or --metrics-client-ca-file"
        );
    }
    if address != options.listen.address && options.admin.address.is_none() {
        tracing::info!(
            "The metrics port is open to this machine alone: --metrics-bind-address and \
             --metrics-token-file open it to others"
        );
    }
    address
}

fn token_auth(admin: &AdminOptions) -> Result<Option<Arc<dyn MetricsAuth>>, Exit> {
    let Some(file) = &admin.token_file else { return Ok(None) };
    let auth = TokenAuth::start(file)
        .map_err(|e| refused(2, format_args!("{e}: --metrics-token-file")))?;
    Ok(Some(Arc::new(auth)))
}

fn serving_key(
    directory: Option<&Path>,
    flag: &str,
    reload: bool,
    followers: &mut Vec<KeyPairFollower>,
) -> Result<Arc<ServingKey>, Exit> {
    let key = match directory {
        Some(directory) => {
            ServingKey::read(directory).map_err(|e| refused(2, format_args!("{e}: --{flag}")))?
        }
        None => ServingKey::self_signed().map_err(|e| refused(1, e))?,
    };
    let key = Arc::new(key);
    if let (Some(directory), true) = (directory, reload) {
        let follower = KeyPairFollower::start(directory.to_owned(), key.clone());
        followers.push(follower.map_err(|e| refused(1, e))?);
    }
    Ok(key)
}

fn ext_proc_tls(
    tls: &TlsOptions,
    followers: &mut Vec<KeyPairFollower>,
) -> Result<Arc<ServerConfig>, Exit> {
    let key = serving_key(tls.cert_path.as_deref(), "cert-path", tls.reload, followers)?;
    let config = server_config(&tls.policy, key, None, &[b"h2"]).map_err(|e| refused(2, e))?;
    Ok(Arc::new(config))
}

/// TLS of the metrics port, where it is asked for; certificates there are always followed.
fn admin_tls(
    admin: &AdminOptions,
    followers: &mut Vec<KeyPairFollower>,
) -> Result<Option<Arc<ServerConfig>>, Exit> {
    let Some(directory) = &admin.cert_dir else { return Ok(None) };
    let key = serving_key(Some(directory), "metrics-cert-dir", true, followers)?;
    let client_ca = admin.client_ca.as_deref();
    let config = server_config(&TlsPolicy::default(), key, client_ca, &[b"http/1.1"])
        .map_err(|e| refused(2, format_args!("{e}: --metrics-client-ca-file")))?;
    Ok(Some(Arc::new(config)))
}
