//! Where a trace comes from, as the command line says it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::generator::{Generator, Kind};
use super::lines::{Lines, TraceError};
use super::{Trace, agentic, azure, mooncake, recording, text};
use crate::bench::args::duration;
use crate::clock::nanos;
use crate::recording::{Choice, FORMAT};
use crate::sim::Nanos;

/// Which workload, and how much of it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workload")]
pub struct TraceArgs {
    /// A trace file (plain or .gz), a folder with a recording (epp --record), or one of the built-in
    /// workloads: shared, chat, rag, bursts, documents, overload, mix.
    #[arg(value_name = "TRACE")]
    pub trace: String,
    /// Format of the file, if it cannot be told from its first line.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Which recording of a folder with several: its id, or all of them side by side.
    #[arg(long, value_name = "ID|all", value_parser = choice)]
    pub recording: Option<Choice>,
    /// Leave out what begins before this time of the trace ...
    #[arg(long, default_value = "0", value_parser = duration, value_name = "TIME")]
    pub from: Duration,
    /// ... and what begins at this time or later.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub until: Option<Duration>,
    /// Stop after so many requests; a built-in workload makes so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Replay the trace so many times in a row, with prompts of their own each time.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Mean requests per second of a built-in workload at rate factor 1.
    #[arg(long, default_value_t = 20.0, value_name = "PER_SECOND")]
    pub base_rate: f64,
    /// Mean time between conversations where the trace does not tell (agentic), at rate factor 1.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub session_interval: Duration,
    /// Seed of everything random: the same seed gives the same results.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

/// Formats of trace files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Mooncake's JSON lines: timestamps, lengths, ids of 512-token blocks.
    Mooncake,
    /// Conversations of coding agents, one a line, with block ids and think times.
    Agentic,
    /// Azure's CSV: timestamps and lengths.
    Azure,
    /// JSON lines with the prompts' text and session ids.
    Text,
    /// A recording of live traffic: a folder, or one file of it.
    Recording,
}

fn choice(text: &str) -> Result<Choice, String> {
    Ok(match text {
        "all" => Choice::All,
        id => Choice::One(id.to_owned()),
    })
}

/// What a built-in workload makes if nothing else is asked for.
const DEFAULT_REQUESTS: u64 = 10_000;

/// Reads or makes the trace.
///
/// # Errors
/// With a text for the user.
pub fn open(args: &TraceArgs) -> Result<Trace, String> {
    if !(args.base_rate.is_finite() && args.base_rate > 0.0) {
        return Err("--base-rate must be above 0".into());
    }
    let trace = match Kind::from_str(&args.trace, true) {
        Ok(kind) => {
            let requests = args.requests.unwrap_or(DEFAULT_REQUESTS) as usize;
            Generator { kind, requests, rate: args.base_rate, seed: args.seed }.make()
        }
        Err(_) => file(args).map_err(|e| e.to_string())?,
    };
    let until = args.until.map_or(Nanos::MAX, nanos);
    let all = trace.len();
    let trace = trace.within(nanos(args.from), until);
    if trace.is_empty() && all > 0 {
        return Err(format!("{}: no request begins between --from and --until", args.trace));
    }
    let trace = trace.repeated(args.repeat);
    let trace = match args.requests {
        Some(n) => trace.truncated(n as usize),
        None => trace,
    };
    if trace.is_empty() {
        return Err(format!("{}: the trace has no requests", args.trace));
    }
    Ok(trace)
}

fn file(args: &TraceArgs) -> Result<Trace, TraceError> {
    let path = Path::new(&args.trace);
    let format = match args.format {
        Some(format) => format,
        None => detect(path)?,
    };
    let lines = || Lines::open(path);
    match format {
        Format::Mooncake => mooncake::read(lines()?),
        Format::Agentic => {
            agentic::read(lines()?, args.session_interval.as_nanos() as u64, args.seed)
        }
        Format::Azure => azure::read(lines()?),
        Format::Text => text::read(lines()?),
        Format::Recording => {
            recording::read(path, args.recording.as_ref().unwrap_or(&Choice::Only))
        }
    }
}

/// The fields that tell the formats apart.
#[derive(Deserialize)]
struct Marks {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    hash_ids: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    requests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    input: Option<serde::de::IgnoredAny>,
}

fn detect(path: &Path) -> Result<Format, TraceError> {
    if path.is_dir() || is_zstd(path)? {
        return Ok(Format::Recording);
    }
    let first = Lines::open(path)?.next_line()?.unwrap_or_default();
    let format = if first.trim_start_matches('\u{feff}').starts_with("TIMESTAMP,") {
        Some(Format::Azure)
    } else {
        match serde_json::from_str::<Marks>(&first) {
            Ok(Marks { format: Some(format), .. }) if format == FORMAT => Some(Format::Recording),
            Ok(Marks { requests: Some(_), .. }) => Some(Format::Agentic),
            Ok(Marks { hash_ids: Some(_), .. }) => Some(Format::Mooncake),
            Ok(Marks { input: Some(_), .. }) => Some(Format::Text),
            _ => None,
        }
    };
    format.ok_or_else(|| TraceError::Format {
        path: path.to_owned(),
        expected: vec!["mooncake", "agentic", "azure", "text", "recording"],
    })
}

/// Of the formats here only recordings are packed that way.
fn is_zstd(path: &Path) -> Result<bool, TraceError> {
    let io = |source| TraceError::Io { path: path.to_owned(), source };
    let mut head = Vec::new();
    File::open(path).map_err(io)?.take(4).read_to_end(&mut head).map_err(io)?;
    Ok(head == [0x28, 0xb5, 0x2f, 0xfd])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(trace: &str) -> TraceArgs {
        TraceArgs {
            trace: trace.into(),
            format: None,
            recording: None,
            from: Duration::ZERO,
            until: None,
            requests: None,
            repeat: 1,
            base_rate: 20.0,
            session_interval: Duration::from_secs(1),
            seed: 1,
        }
    }

    #[test]
    fn formats_are_told_from_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [
            (r#"{"timestamp":1,"input_length":9,"output_length":1,"hash_ids":[]}"#, 9),
            (r#"{"requests":[{"in":8,"out":1}]}"#, 8),
            ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,7,1", 7),
            (r#"{"timestamp":1,"input":"abcdefgh","output":"","session_id":1}"#, 2),
        ];
        for (i, (text, tokens)) in cases.into_iter().enumerate() {
            let path = dir.path().join(i.to_string());
            std::fs::write(&path, text).unwrap();
            let trace = open(&args(path.to_str().unwrap())).unwrap();
            assert_eq!((trace.len(), trace.input_tokens()), (1, tokens), "{text}");
        }
    }

    #[test]
    fn what_is_no_trace_is_an_error_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, want) in [
            (
                "other",
                "hello",
                "unknown format; expected one of mooncake, agentic, azure, text, recording",
            ),
            ("empty", "", "unknown format"),
            ("none", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let e = open(&args(path.to_str().unwrap())).unwrap_err();
            assert!(e.contains(want), "{e}");
        }
        assert!(open(&args("/no/such/trace")).is_err());
        assert!(open(&TraceArgs { base_rate: f64::NAN, ..args("chat") }).is_err());
    }

    #[test]
    fn size_and_repetition_are_as_asked() {
        let of =
            |requests, repeat| open(&TraceArgs { requests, repeat, ..args("chat") }).unwrap().len();
        assert_eq!((of(Some(70), 1), of(Some(70), 3)), (70, 70));
        assert_eq!(of(None, 1), DEFAULT_REQUESTS as usize);
    }

    /// The recorded traces themselves are no part of the repository.
    #[test]
    fn recorded_traces_have_the_sharing_known_of_them() {
        let folder = Path::new("../shared/traces");
        if !folder.exists() {
            eprintln!("skipped: {} is absent", folder.display());
            return;
        }
        for (file, requests, ceiling) in [
            ("mooncake-conversation.jsonl.gz", 5719, 0.1..0.2),
            ("agentic-coding.jsonl.gz", 3878, 0.5..1.0),
            ("azure-llm-2023-conv.csv.gz", 19_366, 0.0..0.001),
            ("agent-miniswe-text.jsonl.gz", 402, 0.5..1.0),
        ] {
            let trace = open(&args(folder.join(file).to_str().unwrap())).unwrap();
            assert_eq!(trace.len(), requests, "{file}");
            let rate = trace.truncated(400).ceiling(64).hit_rate();
            assert!(ceiling.contains(&rate), "the head of {file}: {rate}");
        }
    }
}
