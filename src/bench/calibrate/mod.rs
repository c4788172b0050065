//! `epp-bench calibrate`: measures a running engine and writes the profile with which `epp-sim`,
//! `replay` and `cluster` behave like it.
//!
//! [`measure`] asks the engine over HTTP ([`client`]), [`measurements`] is what comes of it,
//! [`mod@fit`] finds the costs with which a simulated engine takes the same times.

mod client;
mod fit;
mod measure;
mod measurements;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::OutputArgs;
use super::report::{Report, Table, count, millis, percent};
use crate::sim::{CostModel, EngineProfile};
use fit::{Comparison, compare, fit};
use measure::Plan;
use measurements::Measurements;

/// Measure a running engine (OpenAI's API, as vLLM serves it) and write its profile.
///
/// Nothing else may ask the engine meanwhile. It is sent prompts of made-up tokens: cold ones of
/// growing length, ones whose beginning it has in its cache, and many short ones at once. That
/// takes a few minutes and leaves its cache full of what nobody needs.
#[derive(Clone, Debug, clap::Args)]
pub struct CalibrateArgs {
    /// The engine, such as http://127.0.0.1:8000.
    #[arg(value_name = "URL", required_unless_present = "from")]
    pub url: Option<String>,
    /// The model to ask for; the first one that the engine lists if not given.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Where the profile goes.
    #[arg(long, value_name = "FILE")]
    pub profile: PathBuf,
    /// Take what was measured earlier from FILE, and ask no engine.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub from: Option<PathBuf>,
    /// Write what was measured to FILE too, for --from.
    #[arg(long, value_name = "FILE")]
    pub measurements: Option<PathBuf>,
    /// Requests for each figure; the median counts.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: u16,
    /// Lengths of cold prompts, tokens; those that the model does not take are left out.
    #[arg(long, value_delimiter = ',', value_name = "TOKENS",
          default_values_t = [128, 512, 1024, 2048, 4096, 8192, 16_384, 30_000])]
    pub lengths: Vec<u32>,
    /// Requests at once for the time between tokens.
    #[arg(long, value_delimiter = ',', value_name = "N",
          default_values_t = [1, 4, 16, 32, 64, 128, 256])]
    pub concurrency: Vec<u32>,
    /// Send words in the place of token ids: for engines that take text alone.
    #[arg(long)]
    pub words: bool,
    #[command(flatten)]
    pub sizes: SizeArgs,
    /// What was measured: model, engine, GPU. Stands in the profile.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub description: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What an engine is started with, and does not tell by its speed.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sizes, where the engine does not tell them")]
pub struct SizeArgs {
    /// Tokens of a KV-cache block [default: what the engine says in its metrics, else 16].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub block_size: Option<u32>,
    /// KV-cache blocks [default: what the engine says in its metrics].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub num_blocks: Option<u32>,
    /// Prompt and answer together at most, tokens [default: what the engine says of its model].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub max_model_len: Option<u32>,
    /// Sequences that run at once at most: vLLM's --max-num-seqs.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_num_seqs: u32,
    /// Tokens of one step at most: vLLM's --max-num-batched-tokens.
    #[arg(long, default_value_t = 8192, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_num_batched_tokens: u32,
    /// The largest step that is replayed from a CUDA graph, tokens.
    #[arg(long, default_value_t = 256, value_name = "TOKENS")]
    pub graph_tokens: u32,
    /// A step is put together when the one before it is launched, as vLLM does since 0.14.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub async_scheduling: bool,
    /// KV of one token over all layers, bytes: what a transfer between engines moves.
    #[arg(long, default_value_t = 0.0, value_name = "BYTES")]
    pub kv_bytes_per_token: f64,
}

#[derive(Serialize)]
struct Data<'a> {
    profile: &'a EngineProfile,
    measured: &'a Measurements,
    comparison: &'a [Comparison],
}

/// # Errors
/// With a text for the user.
pub fn run(args: &CalibrateArgs) -> Result<(), String> {
    let measured = match (&args.from, &args.url) {
        (Some(file), _) => Measurements::read(file)?,
        (None, Some(url)) => {
            let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
            runtime.block_on(measure::run(&Plan::of(args, url)))?
        }
        (None, None) => return Err("no engine: name its URL".into()),
    };
    if let Some(file) = &args.measurements {
        write(file, &measured)?;
    }
    let profile = fit(&measured, blank(args, &measured)?)?;
    write(&args.profile, &profile)?;
    let comparison = compare(&profile, &measured)?;
    report(args, &profile, &measured, &comparison).emit(&args.output)
}

fn write(file: &Path, value: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|e| e.to_string())?;
    std::fs::write(file, text + "\n").map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// The profile before its costs are known.
fn blank(args: &CalibrateArgs, measured: &Measurements) -> Result<EngineProfile, String> {
    let sizes = &args.sizes;
    let block_size = sizes.block_size.or(measured.block_size).unwrap_or(16);
    let num_blocks = sizes.num_blocks.or(measured.num_blocks).ok_or(
        "the engine does not tell how many KV-cache blocks it has: give --num-blocks (vLLM logs it \
         as GPU KV cache size, in tokens)",
    )?;
    let capacity = block_size.saturating_mul(num_blocks);
    let max_model_len = sizes.max_model_len.or(measured.max_model_len).unwrap_or(capacity);
    let model = measured.model.as_deref().unwrap_or("unknown model");
    let description = match args.description.as_str() {
        "" => format!("measured by epp-bench calibrate: {model}"),
        given => given.to_owned(),
    };
    Ok(EngineProfile {
        description,
        block_size,
        num_blocks,
        max_num_seqs: sizes.max_num_seqs.min(sizes.max_num_batched_tokens),
        max_num_batched_tokens: sizes.max_num_batched_tokens,
        max_model_len: max_model_len.min(capacity),
        async_scheduling: sizes.async_scheduling,
        kv_bytes_per_token: sizes.kv_bytes_per_token,
        cost: CostModel { graph_tokens: sizes.graph_tokens, ..CostModel::instant() },
    })
}

fn report(
    args: &CalibrateArgs,
    profile: &EngineProfile,
    measured: &Measurements,
    comparison: &[Comparison],
) -> Report {
    let worst = comparison.iter().map(|c| c.off().abs()).fold(0.0, f64::max);
    let verdict = format!(
        "{}: the simulated engine is within {} of each of {} measured times.",
        args.profile.display(),
        percent(worst),
        comparison.len()
    );
    let data = Data { profile, measured, comparison };
    let json = serde_json::to_value(&data).unwrap_or_default();
    let mut report = Report::new("Calibration of an engine", verdict, json);
    let columns = ["what", "measured ms", "simulated ms", "off"];
    let mut table = Table::new("Measured, and the same of the profile", &columns);
    for c in comparison {
        let off = format!("{:+.1} %", c.off() * 100.0);
        table.rows.push(vec![c.what.clone(), millis(c.measured_ms), millis(c.simulated_ms), off]);
    }
    report.tables.push(table);
    let mut sizes = Table::new("Sizes", &["block", "blocks", "tokens of KV cache", "longest"]);
    sizes.rows.push(vec![
        profile.block_size.to_string(),
        count(f64::from(profile.num_blocks)),
        count(f64::from(profile.block_size) * f64::from(profile.num_blocks)),
        count(f64::from(profile.max_model_len)),
    ]);
    report.tables.push(sizes);
    report
}
