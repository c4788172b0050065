//! `epp-bench replay`: a workload through the real pipeline against simulated engines, in
//! virtual time.
//!
//! [`simulation`] is the loop of events, [`requests`] a request's way through it and [`trouble`]
//! what goes wrong; [`fleet`] holds the engines and shows the router what
//! workers would show it; [`policy`] decides where a request goes: the [`pipeline`] of a
//! configuration, or a baseline; those that wait for that are in [`waiting`]; [`outcome`] and
//! [`shares`] count, [`summary`] tells. Every pair of policy and
//! rate is a simulation of its own, so they run on all cores.

mod capacity;
mod contestant;
pub(crate) mod faults;
mod fleet;
mod in_progress;
mod measured;
mod outcome;
mod overload_summary;
mod pipeline;
mod policy;
mod requests;
mod routed;
mod shares;
mod simulation;
mod summary;
#[cfg(test)]
mod tests;
mod trouble;
mod waiting;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::args::{OutputArgs, duration};
use super::trace::{self, Trace, TraceArgs};
use super::{process, progress};
use crate::sim::{
    DEFAULT_GBPS, DEFAULT_LATENCY_MS, EngineConfig, EngineProfile, KvTransfer, PROFILES,
};
use capacity::Rate;
use contestant::{Contestant, contestants};
use faults::{Fault, Faults, Loss};
use fleet::{Fleet, Layout, Signalling};
use outcome::{Outcome, Slo};
use pipeline::Around;
use policy::Baseline;
use simulation::Simulation;

/// Replay a workload through the real pipeline against simulated workers, in virtual time.
///
/// Every configuration and baseline meets the same requests at every rate. The result does not
/// depend on this machine, only on the arguments and the seed.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub trace: TraceArgs,
    /// An EndpointPickerConfig, as FILE or NAME=FILE; repeatable. Without any, the default of a
    /// picker that is given none.
    #[arg(long, value_name = "[NAME=]FILE")]
    pub config: Vec<String>,
    /// Policies to compare with.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES",
          default_values_t = [Baseline::Random, Baseline::RoundRobin, Baseline::LeastRequests, Baseline::Oracle])]
    pub baselines: Vec<Baseline>,
    /// No baselines.
    #[arg(long)]
    pub no_baselines: bool,
    /// Rate factors: 2 means sessions start twice as often as in the trace.
    #[arg(long, value_delimiter = ',', value_name = "FACTORS", default_values_t = [1.0])]
    pub rate: Vec<f64>,
    /// Instead: how many times as many requests come as the workers can serve. What they can is
    /// measured first, with all of the workload there from the start.
    #[arg(long, value_delimiter = ',', value_name = "FACTORS", conflicts_with = "rate")]
    pub load: Vec<f64>,
    /// Whether the router judges endpoints by what comes of their requests, as it does by
    /// default: `both` replays every configuration with that and without. If not given, `both`
    /// where there is a fault, else `off`.
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub endpoint_health: Option<WithHealth>,
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub trouble: TroubleArgs,
    /// A request is good if its first token comes within this time ...
    #[arg(long, default_value = "2s", value_parser = duration, help_heading = "Goal")]
    pub slo_ttft: Duration,
    /// ... and its later tokens come within this time of each other on average.
    #[arg(long, default_value = "50ms", value_parser = duration, help_heading = "Goal")]
    pub slo_itl: Duration,
    /// Simulations at once; the number of cores if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Whether a configuration is replayed with endpoint health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WithHealth {
    On,
    Off,
    Both,
}

impl ReplayArgs {
    /// With endpoint health, without it, or one after the other.
    fn healths(&self) -> &'static [bool] {
        match self.endpoint_health {
            Some(WithHealth::On) => &[true],
            Some(WithHealth::Off) => &[false],
            Some(WithHealth::Both) => &[true, false],
            None if self.trouble.fault.is_empty() => &[false],
            None => &[true, false],
        }
    }

    fn signalling(&self) -> Signalling {
        Signalling {
            interval: nanos(self.fleet.metrics_interval).max(1),
            delay: nanos(self.trouble.metrics_delay),
            blind: usize::from(self.trouble.blind_workers),
        }
    }

    fn slo(&self) -> Slo {
        Slo { ttft: nanos(self.slo_ttft), itl: nanos(self.slo_itl) }
    }
}

/// The simulated workers.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workers")]
pub struct FleetArgs {
    /// Number of workers [default: as many as a recording had endpoints, else 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
    /// So many workers compute prompts alone, and hand their KV to one of the decode workers.
    /// Every configuration is replayed on these and on as many workers that do both; baselines
    /// likewise.
    #[arg(long, value_name = "N", requires = "decode_workers", conflicts_with = "workers",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub prefill_workers: Option<u16>,
    /// So many workers give answers, and have their prompts computed where the router says so.
    #[arg(long, value_name = "N", requires = "prefill_workers",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub decode_workers: Option<u16>,
    /// Bandwidth between workers for KV, in gigabits per second.
    #[arg(long, default_value_t = DEFAULT_GBPS, value_name = "GBPS")]
    pub kv_transfer_gbps: f64,
    /// From the start of a KV transfer to its first byte, in milliseconds.
    #[arg(long, default_value_t = DEFAULT_LATENCY_MS, value_name = "MS")]
    pub kv_transfer_latency: f64,
    /// The measured server they behave like: a built-in profile, or a file with one.
    #[arg(long, default_value = PROFILES[0], value_name = "NAME|FILE",
          long_help = format!("The measured server they behave like: {}, or a YAML or JSON file with a profile", PROFILES.join(", ")))]
    pub profile: String,
    /// How many times as fast as that they are.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub speed: f64,
    /// KV-cache blocks of each, instead of the profile's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub num_blocks: Option<u32>,
    /// Longest prompt and answer together, in tokens; what the KV cache holds if not given.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub max_model_len: Option<u32>,
    /// Requests that run at once on each, instead of the profile's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_num_seqs: Option<u32>,
    /// How often the router reads the workers' metrics.
    #[arg(long, default_value = "50ms", value_parser = duration)]
    pub metrics_interval: Duration,
}

/// Where nobody says how many there are.
const DEFAULT_WORKERS: u16 = 8;

impl FleetArgs {
    /// Prefill workers, then decode workers, where they are asked for.
    fn divided(&self) -> Option<Layout> {
        let (prefill, decode) = (self.prefill_workers?, self.decode_workers?);
        let workers = usize::from(prefill) + usize::from(decode);
        Some(Layout { workers, prefill: usize::from(prefill) })
    }

    /// As many workers that do both.
    fn undivided(&self) -> Layout {
        let workers = usize::from(self.workers.unwrap_or(DEFAULT_WORKERS));
        let workers = self.divided().map_or(workers, |d| d.workers);
        Layout { workers, prefill: 0 }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Trouble")]
pub struct TroubleArgs {
    /// Metrics reach the router so much late.
    #[arg(long, default_value = "0", value_parser = duration)]
    pub metrics_delay: Duration,
    /// So many workers never show metrics.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub blind_workers: u16,
    /// A worker dies at START and is back, empty, after DOWN; repeatable, each takes the next worker.
    #[arg(long, value_name = "START,DOWN", value_parser = faults::loss)]
    pub lose_worker: Vec<Loss>,
    /// A worker goes wrong, which discovery does not notice: KIND@START+DURATION, or KIND@START
    /// for the rest, with *N behind it for N workers; repeatable, each takes the next worker. KIND is dies, flaps=PERIOD, fails,
    /// fails=N (one in N), slow=FACTOR, hangs, metrics=idle, metrics=frozen, metrics=missing.
    #[arg(long, value_name = "FAULT", value_parser = faults::fault)]
    pub fault: Vec<Fault>,
    /// When a client gives up that gets no answer from a worker that hangs.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub patience: Duration,
    /// Sessions that start within this time of each other start at once.
    #[arg(long, default_value = "0", value_parser = duration, value_name = "TIME")]
    pub waves: Duration,
}

/// # Errors
/// With a text for the user.
pub fn run(args: &ReplayArgs) -> Result<(), String> {
    if let Some(bad) = args.load.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
        return Err(format!("--load {bad}: expected a number above 0"));
    }
    if let Some(bad) = args.rate.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
        return Err(format!("--rate {bad}: expected a number above 0"));
    }
    let engine = engine(&args.fleet)?;
    let contestants = contestants(args)?;
    let trace = trace::open(&args.trace)?;
    let origin = trace.origin.as_deref();
    let mut args = args.clone();
    if let Some(origin) = origin.filter(|origin| origin.endpoints > 0) {
        let recorded = u16::try_from(origin.endpoints).unwrap_or(u16::MAX);
        args.fleet.workers.get_or_insert(recorded);
    }
    let args = &args;
    let ceiling = trace.ceiling(engine.block_size);
    let rates = capacity::rates(args, &engine, &trace)?;
    let cells: Vec<(usize, Rate)> =
        rates.iter().flat_map(|&rate| (0..contestants.len()).map(move |c| (c, rate))).collect();

    let bar = progress::bar(
        (trace.len() * cells.len()) as u64,
        &format!("{}: {} simulations", trace.name, cells.len()),
        args.output.quiet,
    );
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let jobs = args.jobs.map_or_else(process::cores, usize::from).min(cells.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(&(contestant, rate)) =
                    cells.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome =
                        simulate(args, &engine, &trace, &contestants[contestant], rate, &bar);
                    let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
                    results.push((contestant, rate, outcome));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut outcomes = Vec::new();
    for (contestant, rate, outcome) in results.into_inner().unwrap_or_else(|e| e.into_inner()) {
        outcomes.push((contestant, rate, outcome?));
    }
    outcomes.sort_by(|a, b| a.1.factor.total_cmp(&b.1.factor).then(a.0.cmp(&b.0)));
    let outcomes: Vec<summary::Row> = outcomes
        .into_iter()
        .map(|(c, rate, outcome)| summary::Row {
            policy: contestants[c].name.clone(),
            rate: rate.factor,
            load: rate.load,
            outcome,
        })
        .collect();
    let slo = Slo { ttft: nanos(args.slo_ttft), itl: nanos(args.slo_itl) };
    let recorded = measured::outcome(&trace, slo).map(|outcome| {
        let mine = |c: &&Contestant| origin.is_some_and(|o| o.configs.contains(&c.mark));
        let same: Vec<&str> = contestants.iter().filter(mine).map(|c| c.name.as_str()).collect();
        summary::Recorded { outcome, same_config: same.first().map(|&name| name.to_owned()) }
    });
    summary::report(args, &trace, ceiling, &outcomes, recorded).emit(&args.output)
}

fn simulate(
    args: &ReplayArgs,
    engine: &EngineConfig,
    trace: &Trace,
    contestant: &Contestant,
    rate: Rate,
    bar: &indicatif::ProgressBar,
) -> Result<Outcome, String> {
    let simulation = Simulation {
        trace,
        rate: rate.factor,
        engine: engine.clone(),
        layout: match contestant.divided {
            true => args.fleet.divided().unwrap_or(args.fleet.undivided()),
            false => args.fleet.undivided(),
        },
        signalling: args.signalling(),
        faults: Faults {
            losses: args.trouble.lose_worker.clone(),
            faults: faults::by_worker(&args.trouble.fault),
            waves: nanos(args.trouble.waves),
            patience: nanos(args.trouble.patience),
        },
        slo: args.slo(),
    };
    let priorities = trace.priorities();
    let policy = |fleet: &Fleet| {
        contestant.policy(Around {
            pool: fleet.pool.clone(),
            seed: args.trace.seed,
            health: contestant.health,
            metrics_interval: args.fleet.metrics_interval,
            priorities: &priorities,
        })
    };
    simulation.run(policy, &mut |n| bar.inc(n))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn engine(args: &FleetArgs) -> Result<EngineConfig, String> {
    let profile = EngineProfile::load(&args.profile).map_err(|e| e.to_string())?;
    let mut config = profile.config().at_speed(args.speed).map_err(|e| e.to_string())?;
    config.transfer = KvTransfer::new(
        profile.kv_bytes_per_token,
        args.kv_transfer_gbps,
        args.kv_transfer_latency,
    );
    if let Some(n) = args.num_blocks {
        config.num_blocks = n;
    }
    if let Some(n) = args.max_num_seqs {
        config.max_num_seqs = n;
    }
    config.max_model_len =
        args.max_model_len.unwrap_or_else(|| config.num_blocks.saturating_mul(config.block_size));
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}
