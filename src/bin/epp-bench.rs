//! `epp-bench`, the benchmark harness.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use epp::bench::allocations::Counting;
use epp::bench::{calibrate, cluster, extproc, floor, latency_model, picker, replay};

/// Counts allocations, which `picker` reports; costs a nanosecond each.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures endpoint pickers: what a decision costs, and what it is worth.
#[derive(Debug, Parser)]
#[command(name = "epp-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Calibrate(calibrate::CalibrateArgs),
    Cluster(cluster::ClusterArgs),
    Extproc(extproc::ExtProcArgs),
    Floor(floor::FloorArgs),
    LatencyModel(latency_model::LatencyModelArgs),
    Picker(picker::PickerArgs),
    Replay(replay::ReplayArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Extproc(args) => extproc::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::LatencyModel(args) => latency_model::run(&args),
        Command::Picker(args) => picker::run(&args),
        Command::Replay(args) => replay::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("epp-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
