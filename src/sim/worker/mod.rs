//! An engine behind vLLM's HTTP interface, in real time.
//!
//! Everything a router or a client of a real server touches behaves alike: APIs, streaming,
//! errors, `/metrics`, queueing, prefix caching, cancellation when a client leaves. What is
//! generated is one fixed text, a token of four bytes after the other.

mod answer;
mod anthropic;
mod batch;
mod chat;
mod driver;
mod error;
mod fault;
mod generation;
mod media;
mod metrics;
mod openai;
mod other;
mod responses;
mod sidecar;

use std::future::Future;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use self::answer::AnswerText;
use self::driver::EngineHandle;
use self::error::ApiError;
use self::fault::Faults;
pub use self::fault::{Fail, Fault, FaultError, MetricsFault};
use self::metrics::Metrics;
use self::sidecar::Sidecar;
pub use self::sidecar::{PREFILL_HEADER, PREFILLER_HEADER, Role};
use super::{ConfigError, Engine, EngineConfig};

/// The header by which every response says who sent it.
pub const WORKER_HEADER: HeaderName = HeaderName::from_static("x-sim-worker");

/// What a worker serves.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name, in the [`WORKER_HEADER`] of every response.
    pub name: String,
    /// Names of the base model; the first is the one in metrics and the root of the adapters.
    pub models: Vec<String>,
    /// LoRA adapters, served as models.
    pub loras: Vec<String>,
    pub engine: EngineConfig,
    /// What every answer says.
    pub answer: String,
    /// Size in bytes up to which the page of metrics is filled; 0 for none.
    pub metrics_padding: usize,
    /// What it does where prompts and answers are computed by different workers.
    pub role: Role,
    /// Compute a prompt here where the prefill worker that should fails; otherwise its error is
    /// the answer, as llm-d's sidecar has it.
    pub prefill_fallback: bool,
    /// What is wrong with it from the start.
    pub fault: Fault,
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Engine(#[from] ConfigError),
    #[error("a worker needs the name of a model")]
    NoModel,
    #[error("{0:?} cannot stand in a header")]
    Name(String),
    #[error("the fault: {0}")]
    Fault(#[from] FaultError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What the handlers of a worker share.
#[derive(Debug)]
struct Worker {
    name: String,
    /// The address it listens on, for other workers.
    host: String,
    models: Vec<String>,
    loras: Vec<String>,
    engine: EngineConfig,
    text: AnswerText,
    metrics: Arc<Metrics>,
    handle: EngineHandle,
    faults: Faults,
    sidecar: Sidecar,
}

/// A worker whose engine runs, and which answers once it is given a socket.
#[derive(Debug)]
pub struct Server {
    name: HeaderValue,
    worker: Worker,
}

impl Server {
    /// Checks the configuration and starts the engine, on the tokio runtime this is called on.
    pub fn start(config: WorkerConfig) -> Result<Self, WorkerError> {
        config.fault.validate()?;
        let name = HeaderValue::from_str(&config.name)
            .map_err(|_| WorkerError::Name(config.name.clone()))?;
        let model = config.models.first().ok_or(WorkerError::NoModel)?;
        let engine_config = EngineConfig { token_events: true, ..config.engine };
        let engine = Engine::new(engine_config.clone())?;
        let metrics = Metrics::new(model, &config.loras, &engine_config, config.metrics_padding)?;
        metrics.update(&engine);
        let metrics = Arc::new(metrics);
        let worker = Worker {
            text: AnswerText::new(&config.answer),
            handle: EngineHandle::spawn(engine, metrics.clone()),
            engine: engine_config,
            models: config.models,
            loras: config.loras,
            metrics,
            name: config.name,
            host: String::new(),
            faults: Faults::default(),
            sidecar: Sidecar::new(config.role, config.prefill_fallback),
        };
        worker.set_fault(config.fault);
        Ok(Self { name, worker })
    }

    /// Serves on `listener` until `shutdown` completes; then lets what is in progress finish.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        self.worker.host = listener.local_addr()?.ip().to_string();
        let name = self.name;
        let sign = move |mut response: Response| {
            response.headers_mut().insert(WORKER_HEADER, name.clone());
            std::future::ready(response)
        };
        let app = router(self.worker).layer(axum::middleware::map_response(sign));
        // Tokens are small and must not wait for each other.
        let listener = listener.tap_io(|connection| {
            // Only a connection that is closed already refuses; its handler will notice.
            let _ = connection.set_nodelay(true);
        });
        axum::serve(listener, app).with_graceful_shutdown(shutdown).await
    }
}

fn router(worker: Worker) -> Router {
    let worker = Arc::new(worker);
    // What llm-d's sidecar intercepts; the last layer added sees a request first.
    let answers = Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/messages", post(anthropic::messages))
        .route_layer(from_fn_with_state(worker.clone(), sidecar::prefill_elsewhere));
    answers
        .route("/v1/embeddings", post(other::embeddings))
        .route_layer(from_fn_with_state(worker.clone(), fault::strike))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/reset_prefix_cache", post(other::reset_prefix_cache))
        .route("/sim/fault", get(fault::show).post(fault::set))
        .route("/v1/models", get(other::models))
        .route("/tokenize", post(other::tokenize))
        .route("/health", get(other::health))
        .route("/version", get(other::version))
        .route("/metrics", get(other::metrics))
        .fallback(other::not_found)
        // The model's length is the limit, as in vLLM.
        .layer(DefaultBodyLimit::disable())
        .with_state(worker)
}

impl Worker {
    /// The model's name and the number of its adapter, if it is one.
    fn resolve_model(&self, name: Option<&str>) -> Result<(String, Option<u32>), ApiError> {
        let name = name.or(self.models.first().map(String::as_str)).unwrap_or_default();
        if self.models.iter().any(|model| model == name) {
            return Ok((name.to_owned(), None));
        }
        match self.loras.iter().position(|lora| lora == name) {
            Some(index) => Ok((name.to_owned(), u32::try_from(index).ok())),
            None => Err(ApiError::unknown_model(name)),
        }
    }
}

/// Seconds since 1970.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
