//! Argument types that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use crate::config;

/// Reads `2s`, `1m30s`, `50ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "expected a duration such as 10s or 50ms".to_owned())
}

/// Reads `1024`, `16Ki`, `220k`.
pub fn bytes(text: &str) -> Result<usize, String> {
    config::parse_quantity(text)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| "expected a number of bytes such as 1024, 16Ki or 220k".to_owned())
}

/// Where results go besides the terminal.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Write all figures to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report with plots to FILE: one self-contained HTML page.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show no progress bars.
    #[arg(long)]
    pub quiet: bool,
}
