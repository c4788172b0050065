//! `epp-bench cluster`: engines behind Envoy with one picker or another, driven over HTTP in real
//! time, and what Envoy's clients saw.

mod client;
mod comparison;
mod contender;
mod engines;
mod kept;
mod picker;
mod tally;
mod trouble;
mod turn;
mod worker_program;

use std::path::PathBuf;
use std::time::Duration;

use super::args::{OutputArgs, duration};
use super::latency::Percentiles;
use super::programs::Folder;
use super::progress;
use super::replay::faults::{self, Fault};
use super::trace::{self, TraceArgs};
use crate::sim::PROFILES;
pub use client::PromptForm;
use comparison::{Comparison, Turns};
pub use contender::{Balancing, OtherPicker};
use contender::{Contender, contenders, other_picker};
use engines::Engines;
use kept::Kept;
use turn::{Binaries, Figures};

/// Drive engines over HTTP in real time, through Envoy, and compare who chooses among them.
///
/// The engines are simulated, or some that exist (--endpoints). The workload is the same as for
/// "replay", sent as streamed completions; a chat's later prompts quote made-up answers, not the
/// ones the engines gave. Everything compared takes turns with a fresh picker and a fresh Envoy.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    pub trace: TraceArgs,
    /// Rate factor: 2 means sessions start twice as often as in the trace.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub rate: f64,
    /// Start no request after this time.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// After which a request counts as failed.
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub timeout: Duration,
    /// What prompts are sent as.
    #[arg(long, value_enum, default_value_t = PromptForm::Text, value_name = "FORM")]
    pub prompts: PromptForm,
    /// Token ids are below this.
    #[arg(long, default_value_t = 32_000, value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    pub vocabulary: u32,

    /// EndpointPickerConfigs to compare; epp's own default if there is none.
    #[arg(long, value_name = "FILE", help_heading = "What is compared")]
    pub config: Vec<PathBuf>,
    /// Another picker that takes the flags of the reference, to be run with each --picker-config.
    #[arg(long, value_name = "NAME=BINARY", value_parser = other_picker, help_heading = "What is compared")]
    pub picker: Vec<OtherPicker>,
    /// What other pickers run with, where they do not know all types of --config; if not given,
    /// each --config.
    #[arg(long, value_name = "FILE", requires = "picker", help_heading = "What is compared")]
    pub picker_config: Vec<PathBuf>,
    /// Envoy's own load balancing, without a picker.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "NAMES",
        help_heading = "What is compared"
    )]
    pub baselines: Vec<Balancing>,
    /// How many turns each has. A built-in workload is made with another seed each turn.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "What is compared")]
    pub turns: u32,
    /// Keep each turn's figures in DIR, and do not play again what is there.
    #[arg(long, value_name = "DIR", help_heading = "What is compared")]
    pub keep: Option<PathBuf>,

    /// Have epp record what goes through it in this folder, for replay.
    #[arg(long, value_name = "DIR", help_heading = "What is compared")]
    pub record: Option<PathBuf>,

    /// Engines that exist, as host:port,host:port.
    #[arg(long, value_delimiter = ',', value_name = "LIST", help_heading = "Engines")]
    pub endpoints: Vec<String>,
    /// What the engines are asked for; the first model that one of them lists if not given.
    #[arg(long, value_name = "NAME", requires = "endpoints", help_heading = "Engines")]
    pub model: Option<String>,
    /// Empty the engines' prefix caches before each turn (POST /reset_prefix_cache); simulated
    /// engines always do.
    #[arg(long, requires = "endpoints", help_heading = "Engines")]
    pub reset_caches: bool,
    /// Number of simulated engines.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Engines")]
    pub workers: u16,
    /// The measured server that simulated engines behave like: a built-in profile, or a file with
    /// one.
    #[arg(long, default_value = PROFILES[0], value_name = "NAME|FILE", help_heading = "Engines")]
    pub profile: String,
    /// How many times as fast as the measured server simulated engines are.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", help_heading = "Engines")]
    pub speed: f64,

    /// A worker goes wrong in each turn, as in "replay": KIND@START+DURATION, with *N behind it for
    /// N workers; repeatable, each takes the next worker. One that dies is killed and started again.
    #[arg(long, value_name = "FAULT", value_parser = faults::fault, conflicts_with = "endpoints", help_heading = "Engines")]
    pub fault: Vec<Fault>,
    /// Whether epp judges endpoints by what comes of their requests.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL", help_heading = "What is compared")]
    pub endpoint_health: bool,

    /// A request is good if its first token comes within this time ...
    #[arg(long, default_value = "2s", value_parser = duration, help_heading = "Goal")]
    pub slo_ttft: Duration,
    /// ... and its later tokens come within this time of each other on average.
    #[arg(long, default_value = "50ms", value_parser = duration, help_heading = "Goal")]
    pub slo_itl: Duration,

    /// The Envoy binary; one in .tools/ or in the search path if not given.
    #[arg(long, env = "ENVOY", value_name = "FILE", help_heading = "Programs")]
    pub envoy: Option<PathBuf>,
    /// Threads that Envoy serves with.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Programs")]
    pub envoy_threads: u16,
    /// The epp binary; the one beside this program if not given.
    #[arg(long, value_name = "FILE", help_heading = "Programs")]
    pub epp: Option<PathBuf>,
    /// The epp-sim binary; the one beside this program if not given.
    #[arg(long, value_name = "FILE", help_heading = "Programs")]
    pub epp_sim: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl ClusterArgs {
    /// Simulated engines are ours, so they always begin with empty caches.
    fn resets_caches(&self) -> bool {
        self.reset_caches || self.endpoints.is_empty()
    }

    fn picker_configs(&self) -> &[PathBuf] {
        if self.picker_config.is_empty() { &self.config } else { &self.picker_config }
    }

    /// The workload of a turn, counted from 1.
    fn workload(&self, turn: u32) -> TraceArgs {
        let seed = self.trace.seed + u64::from(turn - 1);
        TraceArgs { seed, ..self.trace.clone() }
    }

    /// Everything but contender and turn that a turn's figures depend on.
    fn conditions(&self, engines: &Engines) -> String {
        // Simulated engines are at other ports each time.
        let engines = match self.endpoints.is_empty() {
            true => {
                let Self { workers, profile, speed, .. } = self;
                format!("{workers} simulated engines, {profile}, speed {speed}")
            }
            false => format!("{} with {}", engines.model, engines.addresses.join(",")),
        };
        let loads = format!("rate {} for {:?}, {:?}", self.rate, self.duration, self.trace);
        let asks = format!("{:?} of {}, timeout {:?}", self.prompts, self.vocabulary, self.timeout);
        let goal = format!("goal {:?} {:?}", self.slo_ttft, self.slo_itl);
        let reset = self.resets_caches();
        let health = self.endpoint_health;
        let goal = format!("{goal}; faults {:?}, health {health}", self.fault);
        format!("{engines}; {loads}; {asks}; {goal}; {} threads; reset {reset}", self.envoy_threads)
    }
}

/// # Errors
/// With a text for the user.
pub fn run(args: &ClusterArgs) -> Result<(), String> {
    if !(args.rate.is_finite() && args.rate > 0.0) {
        return Err("--rate must be above 0".into());
    }
    let contenders =
        contenders(&args.config, (&args.picker, args.picker_configs()), &args.baselines)?;
    let binaries = Binaries::find(args, &contenders)?;
    // A workload that cannot be read is told before anything is started.
    let name = trace::open(&args.workload(1))?.name;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let folder = Folder::make()?;
    let comparison = runtime.block_on(async {
        let engines = Engines::find(args, &folder).await?;
        let contenders = play_all(args, &contenders, &binaries, &engines).await?;
        let (model, endpoints) = (engines.model.clone(), engines.addresses.clone());
        Ok::<_, String>(Comparison { trace: name, model, endpoints, contenders })
    })?;
    comparison.report().emit(&args.output)?;
    match comparison.answered() {
        0 => Err("no request was answered".into()),
        _ => Ok(()),
    }
}

/// Plays every turn of every contender that is not kept from before.
async fn play_all(
    args: &ClusterArgs,
    contenders: &[Contender],
    binaries: &Binaries,
    engines: &Engines,
) -> Result<Vec<Turns>, String> {
    let conditions = args.conditions(engines);
    let kept = args.keep.as_deref().map(|folder| Kept::open(folder, conditions)).transpose()?;
    let mut played: Vec<Turns> = contenders
        .iter()
        .map(|contender| Turns { name: contender.name.clone(), turns: Vec::new() })
        .collect();
    for turn in 1..=args.turns {
        let trace = trace::open(&args.workload(turn))?;
        // Who begins changes: what drifts meanwhile is not always to the same one's cost.
        let first = (turn as usize - 1) % contenders.len();
        for i in (first..contenders.len()).chain(0..first) {
            let contender = &contenders[i];
            let before = match &kept {
                Some(kept) => kept.find(&contender.name, turn)?,
                None => None,
            };
            let figures: Figures = match before {
                Some(figures) => figures,
                None => {
                    let title = format!("{}, {} of {}", contender.name, turn, args.turns);
                    let bar = progress::bar(trace.len() as u64, &title, args.output.quiet);
                    let whose = (contender, turn);
                    let figures = turn::play(binaries, whose, engines, &trace, args, &bar).await?;
                    bar.finish_and_clear();
                    if let Some(kept) = &kept {
                        kept.put(&figures)?;
                    }
                    figures
                }
            };
            played[i].turns.push(figures);
        }
    }
    Ok(played)
}
