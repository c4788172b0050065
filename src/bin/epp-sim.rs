//! `epp-sim`: workers that speak vLLM's HTTP and need no GPU.

use std::process::ExitCode;

use clap::Parser;
use clap::ValueEnum;
use epp::sim::worker::{Fault, Role, Server, WorkerConfig};
use epp::sim::{
    CostModel, DEFAULT_GBPS, DEFAULT_LATENCY_MS, EngineConfig, EngineProfile, KvTransfer, PROFILES,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Simulated vLLM workers: the HTTP API, the metrics, the prefix cache and the timing of a real
/// server, without a GPU. Four bytes of text count as one token.
#[derive(Debug, Parser)]
#[command(name = "epp-sim", version)]
struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// Port of the first worker, the others take those that follow; 0 for any free ones.
    #[arg(long, default_value_t = 8000)]
    port: u16,

    /// How many workers to serve, each with an engine and a port of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,

    /// What workers call themselves in the x-sim-worker header of responses, followed by their
    /// number where there are several [default: the address they listen on].
    #[arg(long)]
    name: Option<String>,

    /// Name of the model; may be given several times for several names of it.
    #[arg(long = "model", default_value = "sim")]
    models: Vec<String>,

    /// LoRA adapters served beside the model, separated by commas.
    #[arg(long = "lora", value_delimiter = ',')]
    loras: Vec<String>,

    /// How many adapters run at once [default: 1].
    #[arg(long)]
    max_loras: Option<u32>,

    /// The measured server whose timing and sizes are taken: a built-in one (h200-qwen7b,
    /// h100-qwen3b), or a YAML or JSON file with a profile.
    #[arg(long, default_value = PROFILES[0], value_name = "NAME|FILE")]
    profile: String,

    /// How many times as fast as the measured server it is.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,

    /// Take no time at all.
    #[arg(long, conflicts_with = "speed")]
    instant: bool,

    /// Tokens per KV-cache block [default: the profile's].
    #[arg(long)]
    block_size: Option<u32>,

    /// KV-cache blocks [default: as many as hold the profile's tokens].
    #[arg(long)]
    num_blocks: Option<u32>,

    /// Sequences that run at once at most [default: the profile's].
    #[arg(long)]
    max_num_seqs: Option<u32>,

    /// Tokens computed in a step at most [default: the profile's].
    #[arg(long)]
    max_num_batched_tokens: Option<u32>,

    /// Tokens of a prompt and its answer at most [default: the profile's, or what the cache
    /// holds if that is less].
    #[arg(long)]
    max_model_len: Option<u32>,

    /// Compute every prompt in full, with no prefix cache.
    #[arg(long)]
    no_enable_prefix_caching: bool,

    /// What it does where prompts and answers are computed by different workers: a decode worker
    /// has its prompt computed by the one that the header x-prefiller-host-port names, and
    /// fetches the KV from there.
    #[arg(long, value_enum, default_value_t = RoleArg::Both)]
    role: RoleArg,

    /// Compute a prompt here where the prefill worker fails or cannot be reached. Without this
    /// its error is the answer, as with llm-d's sidecar.
    #[arg(long)]
    prefill_fallback: bool,

    /// Bandwidth between workers for KV, in gigabits per second.
    #[arg(long, default_value_t = DEFAULT_GBPS, value_name = "GBPS")]
    kv_transfer_gbps: f64,

    /// From the start of a KV transfer to its first byte, in milliseconds.
    #[arg(long, default_value_t = DEFAULT_LATENCY_MS, value_name = "MS")]
    kv_transfer_latency: f64,

    /// KV of one token in bytes [default: the profile's].
    #[arg(long, value_name = "BYTES")]
    kv_bytes_per_token: Option<f64>,

    /// What is wrong with the workers from the start, as JSON: {"hang":true},
    /// {"fail":{"status":500,"one_in":2}}, {"slow":3},
    /// {"metrics":"idle"} or "frozen", "missing", "hang". POST /sim/fault changes it at run time,
    /// and there {"die":true} ends the process.
    #[arg(long, value_name = "JSON")]
    fault: Option<Fault>,

    /// Fill the page of metrics up to this size in bytes; a real server's has about 107000.
    #[arg(long, default_value_t = 0)]
    metrics_padding: usize,

    /// What every answer says, unless its request asks for less or more tokens.
    #[arg(
        long,
        default_value = "This answer comes from a simulated worker. It has read the prompt, or \
                         at least it took the time, and it says the same to everyone. Its tokens \
                         are four bytes each, and they arrive at the pace of a real server."
    )]
    response_text: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    Prefill,
    Decode,
    Both,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Prefill => Role::Prefill,
            RoleArg::Decode => Role::Decode,
            RoleArg::Both => Role::Both,
        }
    }
}

type Error = Box<dyn std::error::Error>;

impl Args {
    fn engine(&self) -> Result<EngineConfig, Error> {
        let profile = EngineProfile::load(&self.profile)?;
        let mut engine = profile.config().at_speed(self.speed)?;
        let kv_bytes = self.kv_bytes_per_token.unwrap_or(profile.kv_bytes_per_token);
        engine.transfer =
            KvTransfer::new(kv_bytes, self.kv_transfer_gbps, self.kv_transfer_latency);
        if self.instant {
            engine.cost = CostModel::instant();
            engine.transfer = KvTransfer { latency_ns: 0.0, token_ns: 0.0 };
        }
        engine.prefix_caching = !self.no_enable_prefix_caching;
        let profile_tokens = engine.block_size.saturating_mul(engine.num_blocks);
        engine.block_size = self.block_size.unwrap_or(engine.block_size);
        let blocks = profile_tokens.checked_div(engine.block_size).unwrap_or_default();
        engine.num_blocks = self.num_blocks.unwrap_or(blocks);
        engine.max_num_seqs = self.max_num_seqs.unwrap_or(engine.max_num_seqs);
        engine.max_num_batched_tokens =
            self.max_num_batched_tokens.unwrap_or(engine.max_num_batched_tokens);
        engine.max_loras = self.max_loras.unwrap_or(engine.max_loras);
        let capacity = engine.block_size.saturating_mul(engine.num_blocks);
        engine.max_model_len = self.max_model_len.unwrap_or(engine.max_model_len.min(capacity));
        engine.validate()?;
        Ok(engine)
    }

    /// The port of worker `index`.
    fn port(&self, index: u16) -> Result<u16, Error> {
        match self.port {
            0 => Ok(0),
            first => first
                .checked_add(index)
                .ok_or_else(|| format!("there is no port for worker {index}").into()),
        }
    }
}

async fn run(args: Args) -> Result<(), Error> {
    let engine = args.engine()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let mut servers = JoinSet::new();
    for index in 0..args.workers {
        let port = args.port(index)?;
        let listener = TcpListener::bind((args.host.as_str(), port))
            .await
            .map_err(|error| format!("cannot listen on {}:{port}: {error}", args.host))?;
        let address = listener.local_addr()?;
        let name = match &args.name {
            None => address.to_string(),
            Some(name) if args.workers == 1 => name.clone(),
            Some(name) => format!("{name}-{index}"),
        };
        let server = Server::start(WorkerConfig {
            name,
            models: args.models.clone(),
            loras: args.loras.clone(),
            engine: engine.clone(),
            answer: args.response_text.clone(),
            metrics_padding: args.metrics_padding,
            role: args.role.into(),
            prefill_fallback: args.prefill_fallback,
            fault: args.fault.clone().unwrap_or_default(),
        })?;
        println!("listening on http://{address}");
        servers.spawn(server.serve(listener, shutdown.clone().cancelled_owned()));
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => shutdown.cancel(),
            _ = interrupt.recv() => shutdown.cancel(),
            ended = servers.join_next() => match ended {
                Some(result) => result??,
                None => return Ok(()),
            },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
