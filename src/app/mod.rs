//! The program put together: from flags to listeners, and down again.

mod configuration;
mod pool_runtime;
mod queueing;
mod runtime;
mod workers;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::cli::{AdminOptions, CheckOptions, Exit, Options, TlsOptions};
use crate::clock;
use crate::endpoints::Pool;
use crate::ext_proc::ExternalProcessorServer;
use crate::loader;
use crate::server::{
    Counted, HealthService, Incoming, KeyPairFollower, ServingKey, Shutdown, Stage, TlsPolicy,
    bind, serve_grpc, serve_grpc_in_two_turns, server_config,
};
use crate::telemetry::BuildInfo;
pub use pool_runtime::PoolRuntime;

/// Why the program could not start: exit status 2 where what it was told is wrong, 1 where the
/// machine refused.
fn refused(code: u8, text: impl std::fmt::Display) -> Exit {
    Exit { text: format!("epp: {text}\n"), code }
}

/// `epp check`: prints what is found in a configuration file; status 2 where it cannot be used.
pub fn check(options: &CheckOptions) -> Exit {
    let report = loader::check(&options.file, &options.load);
    let mut text = report.text;
    if let (true, Some(effective)) = (options.effective, &report.effective) {
        text.push_str(effective);
    }
    Exit { text, code: if report.ok { 0 } else { 2 } }
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
            runtime.context().clone(),
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
        let ext_proc = listener("ext_proc", &options, listen.grpc, ext_proc_tls).await?;
        let health = listener("health", &options, listen.health, None).await?;
        let admin = listener("metrics", &options, listen.admin, admin_tls).await?;
        let addresses = [ext_proc.local_addr(), health.local_addr(), admin.local_addr()];

        let streams = match options.stream_metrics {
            true => Some(runtime.metrics().add_streams().map_err(|e| refused(1, e))?),
            false => None,
        };
        let pages = runtime.pages(&options);
        let health_service = || HealthService::server(runtime.readiness().clone());
        let both = Routes::new(health_service()).add_service(Counted::new(processor, streams));
        let after = |time| drained(shutdown.clone(), time);
        let (halfway, drained) = (after(options.drain_timeout / 2), after(options.drain_timeout));
        let exchanges = serve_grpc_in_two_turns(ext_proc, both, halfway, drained);
        // Probes and scrapes are answered for as long as an exchange is in progress.
        let served = CancellationToken::new();
        let stop = || served.clone().cancelled_owned();
        let servers = Servers {
            ext_proc: serve("ext_proc", exchanges),
            health: serve("health", serve_grpc(health, Routes::new(health_service()), stop())),
            metrics: serve("metrics", pages.serve(admin, stop())),
            served,
        };
        if let Some(queue) = runtime.queue().cloned() {
            let over = after(options.drain_timeout);
            tokio::spawn(async move {
                over.await;
                // What waits would end with the process: better now, and with a reason.
                queue.close(clock::now());
            });
        }
        let [ext_proc, health, metrics] = addresses;
        Ok(Self {
            ext_proc,
            health,
            metrics,
            runtime,
            options,
            shutdown,
            servers,
            _certificates: certificates,
        })
    }

    /// The pool that is served.
    pub fn pool(&self) -> &Arc<Pool> {
        self.runtime.pool()
    }

    /// Serves until it is asked to end, then drains: not ready at once, serving for the drain
    /// timeout while gateways learn of it, halfway through asking them to connect anew; then no
    /// new exchange is taken and those in progress may finish. Asked a second time, it ends at
    /// once.
    pub async fn run(mut self) {
        self.shutdown.reached(Stage::Draining).await;
        tracing::info!(timeout = ?self.options.drain_timeout, "Draining");
        self.runtime.drain().await;
        tokio::select! {
            () = self.servers.finish() => tracing::info!("Every exchange has ended"),
            () = self.shutdown.reached(Stage::Now) => tracing::warn!("Ending at once"),
        }
        self.runtime.stop();
    }
}

/// Ready when no new exchange is to be taken any more.
async fn drained(shutdown: Shutdown, timeout: std::time::Duration) {
    shutdown.reached(Stage::Draining).await;
    tokio::select! {
        () = tokio::time::sleep(timeout) => {}
        () = shutdown.reached(Stage::Now) => {}
    }
}

/// Runs one server beside the others; its failure is logged, for nobody waits for it.
fn serve<E: std::fmt::Display>(
    name: &'static str,
    server: impl Future<Output = Result<(), E>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(listener = name, %error, "A listener failed");
        }
    })
}

async fn listener(
    name: &'static str,
    options: &Options,
    port: u16,
    tls: Option<Arc<ServerConfig>>,
) -> Result<Incoming, Exit> {
    let secure = tls.is_some();
    let listener = bind(options.listen.address, port).await.map_err(|e| refused(1, e))?;
    let incoming = Incoming::start(listener, tls).map_err(|e| refused(1, e))?;
    let address = incoming.local_addr();
    tracing::info!(listener = name, %address, tls = secure, "Listening");
    Ok(incoming)
}

fn serving_key(
    directory: Option<&Path>,
    reload: bool,
    followers: &mut Vec<KeyPairFollower>,
) -> Result<Arc<ServingKey>, Exit> {
    let key = match directory {
        Some(directory) => ServingKey::read(directory).map_err(|e| refused(2, e))?,
        None => ServingKey::self_signed().map_err(|e| refused(1, e))?,
    };
    let key = Arc::new(key);
    if let (Some(directory), true) = (directory, reload) {
        followers.push(KeyPairFollower::start(directory.to_owned(), key.clone()));
    }
    Ok(key)
}

fn ext_proc_tls(
    tls: &TlsOptions,
    followers: &mut Vec<KeyPairFollower>,
) -> Result<Arc<ServerConfig>, Exit> {
    let key = serving_key(tls.cert_path.as_deref(), tls.reload, followers)?;
    let config = server_config(&tls.policy, key, None, &[b"h2"]).map_err(|e| refused(2, e))?;
    Ok(Arc::new(config))
}

/// TLS of the metrics port, where it is asked for; certificates there are always followed.
fn admin_tls(
    admin: &AdminOptions,
    followers: &mut Vec<KeyPairFollower>,
) -> Result<Option<Arc<ServerConfig>>, Exit> {
    let Some(directory) = &admin.cert_dir else { return Ok(None) };
    let key = serving_key(Some(directory), true, followers)?;
    let client_ca = admin.client_ca.as_deref();
    let config = server_config(&TlsPolicy::default(), key, client_ca, &[b"http/1.1"])
        .map_err(|e| refused(2, e))?;
    Ok(Some(Arc::new(config)))
}
