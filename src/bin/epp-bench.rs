//! `epp-bench`, the benchmark harness.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use epp::bench::{extproc, floor};

/// Measures endpoint pickers: what a decision costs, and what it is worth.
#[derive(Debug, Parser)]
#[command(name = "epp-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Extproc(extproc::ExtProcArgs),
    Floor(floor::FloorArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Extproc(args) => extproc::run(&args),
        Command::Floor(args) => floor::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("epp-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
