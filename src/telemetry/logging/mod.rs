//! Logs: one line per event, in zap's JSON shape or as readable text, through a buffer that a
//! thread of its own writes out.
//!
//! The shape is the reference's (llm-d v0.2.0 with `--zap-encoder json`): `level`, `ts`,
//! `caller`, `msg`, then the event's own keys. Bodies are never logged.

mod encode;
mod sink;

use std::cell::RefCell;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;

pub use encode::{Encoder, TimeEncoding};
use encode::{Line, Scratch};
pub use sink::Sink;

/// The `-v` of the first level that logs every request, as in v0.2.0.
const ACCESS_VERBOSITY: u8 = 2;

/// How much is logged, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub level: LevelFilter,
    /// Write a line per request.
    pub access: bool,
    pub encoder: Encoder,
    pub time: TimeEncoding,
}

impl LogOptions {
    /// From the flags: `-v` 0 to 3 is info, 4 debug, 5 and more trace; `--zap-log-level` overrides
    /// the level, `--access-log` whether each request has a line.
    pub fn new(
        verbosity: u8,
        zap_level: Option<ZapLevel>,
        access: Option<bool>,
        encoder: Encoder,
        time: TimeEncoding,
    ) -> Self {
        let (level, verbosity) =
            zap_level.map_or((level_of(verbosity), verbosity), |zap| (zap.level, zap.verbosity));
        let access = access.unwrap_or(verbosity >= ACCESS_VERBOSITY);
        Self { level, access, encoder, time }
    }

    fn targets(&self) -> Targets {
        // Libraries speak up when something is wrong; what they do otherwise is for `-v 5`.
        let libraries = match self.level {
            LevelFilter::TRACE => LevelFilter::DEBUG,
            level => level.min(LevelFilter::WARN),
        };
        let access = if self.access { self.level } else { self.level.min(LevelFilter::WARN) };
        Targets::new()
            .with_default(libraries)
            .with_target("epp", self.level)
            .with_target(super::access_log::TARGET, access)
    }
}

fn level_of(verbosity: u8) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// A value of `--zap-log-level`: `debug`, `info`, `error`, `panic`, or a verbosity above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZapLevel {
    level: LevelFilter,
    verbosity: u8,
}

impl FromStr for ZapLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let quiet = |level| Ok(Self { level, verbosity: 0 });
        match text.to_ascii_lowercase().as_str() {
            // In zap debug is verbosity 1, but whoever says debug wants our debug lines.
            "debug" => Ok(Self { level: LevelFilter::DEBUG, verbosity: 4 }),
            "info" => quiet(LevelFilter::INFO),
            "warn" => quiet(LevelFilter::WARN),
            "error" | "panic" => quiet(LevelFilter::ERROR),
            number => match number.parse() {
                Ok(verbosity @ 1..) => Ok(Self { level: level_of(verbosity), verbosity }),
                _ => Err("expected debug, info, warn, error, panic or a number above 0".into()),
            },
        }
    }
}

/// Keeps the log going; what was logged has been written when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    sink: Arc<Sink>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.sink.close();
    }
}

/// Logs to standard error from now on. Fails where the process already has a log.
pub fn init(options: LogOptions) -> Result<LogGuard, tracing::subscriber::SetGlobalDefaultError> {
    let sink = Sink::start(Box::new(std::io::stderr()));
    tracing::subscriber::set_global_default(Logger::new(options, sink.clone()))?;
    let earlier = std::panic::take_hook();
    let at_panic = sink.clone();
    std::panic::set_hook(Box::new(move |info| {
        at_panic.flush_if_free();
        earlier(info);
    }));
    Ok(LogGuard { sink })
}

/// Turns events into lines. Spans are accepted and ignored.
#[derive(Debug)]
pub struct Logger {
    targets: Targets,
    max_level: LevelFilter,
    encoder: Encoder,
    time: TimeEncoding,
    sink: Arc<Sink>,
}

impl Logger {
    pub fn new(options: LogOptions, sink: Arc<Sink>) -> Self {
        let max_level = options.level;
        let LogOptions { encoder, time, .. } = options;
        Self { targets: options.targets(), max_level, encoder, time, sink }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.targets.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level)
    }

    fn event(&self, event: &Event<'_>) {
        SCRATCH.with(|scratch| {
            // A value that logs while it is being logged gets a scratch space of its own.
            let write = |scratch: &mut Scratch| {
                let line = Line::encode(event, self.encoder, self.time, scratch);
                self.sink.write(line);
            };
            match scratch.try_borrow_mut() {
                Ok(mut scratch) => write(&mut scratch),
                Err(_) => write(&mut Scratch::default()),
            }
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A writer into memory, for tests and benchmarks of the log.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Captured {
    /// What was written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(level: LevelFilter, access: bool, encoder: Encoder) -> LogOptions {
        LogOptions { level, access, encoder, time: TimeEncoding::Rfc3339 }
    }

    /// What `log` writes under these options.
    fn logged(options: LogOptions, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let sink = Sink::start(Box::new(captured.clone()));
        tracing::subscriber::with_default(Logger::new(options, sink.clone()), log);
        sink.close();
        captured.text()
    }

    #[test]
    fn json_lines_have_zaps_keys_in_zaps_order() {
        let text = logged(options(LevelFilter::INFO, true, Encoder::Json), || {
            tracing::info!(
                target: "epp::x",
                port = 9002,
                tls = true,
                share = 0.5,
                name = "a\"b\n\u{1}é",
                list = ?["x"],
                "Request handled",
            );
        });
        let (head, rest) = text.split_once(",\"ts\":").unwrap();
        assert_eq!(head, r#"{"level":"info""#);
        let (ts, rest) = rest.split_once(",\"caller\":\"telemetry/logging/mod.rs:").unwrap();
        assert!(ts.len() == 22 && ts.ends_with("Z\""), "{ts}");
        let (_, rest) = rest.split_once("\",").unwrap();
        let expected = concat!(
            r#""msg":"Request handled","port":9002,"tls":true,"share":0.5,"#,
            r#""name":"a\"b\n\u0001é","list":"[\"x\"]"}"#,
            "\n"
        );
        assert_eq!(rest, expected);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn text_lines_stay_one_line_each() {
        let text = logged(options(LevelFilter::INFO, true, Encoder::Text), || {
            tracing::warn!(target: "epp::x", model = "a b\n{\"level\"", plain = "ok", "odd");
        });
        let (_, rest) = text.split_once(" WARN  ").unwrap();
        let (_, rest) = rest.split_once(' ').unwrap();
        assert_eq!(rest, "odd model=\"a b\\n{\\\"level\\\"\" plain=ok\n");
    }

    #[test]
    fn what_is_logged_at_which_verbosity() {
        let all = || {
            tracing::error!(target: "epp::x", "E");
            tracing::info!(target: "epp::x", "I");
            tracing::debug!(target: "epp::x", "D");
            tracing::trace!(target: "epp::x", "T");
            tracing::info!(target: "epp::access", "A");
            tracing::warn!(target: "epp::access", "a");
            tracing::info!(target: "h2::server", "L");
            tracing::debug!(target: "h2::server", "l");
            tracing::warn!(target: "h2::server", "W");
        };
        // (-v, --zap-log-level, --access-log) and what appears.
        for (v, zap, access, expected) in [
            (0, None, None, "EIaW"),
            (1, None, None, "EIaW"),
            (2, None, None, "EIAaW"),
            (2, None, Some(false), "EIaW"),
            (0, None, Some(true), "EIAaW"),
            (3, None, None, "EIAaW"),
            (4, None, None, "EIDAaW"),
            (5, None, None, "EIDTAaLlW"),
            (9, None, None, "EIDTAaLlW"),
            (5, Some("info"), None, "EIaW"),
            (0, Some("debug"), None, "EIDAaW"),
            (0, Some("3"), None, "EIAaW"),
            (0, Some("error"), None, "E"),
        ] {
            let zap = zap.map(|text: &str| text.parse().unwrap());
            let options = LogOptions::new(v, zap, access, Encoder::Json, TimeEncoding::Rfc3339);
            let text = logged(options, all);
            let seen: String = text
                .lines()
                .map(|l| l.split("\"msg\":\"").nth(1).unwrap().chars().next().unwrap())
                .collect();
            assert_eq!(seen, expected, "-v {v} {zap:?} {access:?}");
        }
        for bad in ["", "0", "-1", "loud", "999"] {
            assert!(bad.parse::<ZapLevel>().is_err(), "{bad}");
        }
    }
}
