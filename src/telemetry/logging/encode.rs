use std::error::Error;
use std::fmt::{self, Debug, Write as _};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tracing::Event;
use tracing::field::{Field, Visit};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// One JSON object, as zap writes it.
    Json,
    /// For people: time, level, place, message, `key=value`.
    Text,
}

/// The form of `ts`: the values of `--zap-time-encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeEncoding {
    /// `2025-09-19T08:52:53Z`
    #[default]
    Rfc3339,
    /// With the fraction of the second.
    Rfc3339Nano,
    /// Seconds since 1970, with a fraction.
    Epoch,
    /// Milliseconds since 1970, with a fraction.
    Millis,
    /// Nanoseconds since 1970.
    Nanos,
}

impl FromStr for TimeEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "rfc3339" | "iso8601" => Self::Rfc3339,
            "rfc3339nano" => Self::Rfc3339Nano,
            "epoch" => Self::Epoch,
            "millis" => Self::Millis,
            "nano" | "nanos" => Self::Nanos,
            _ => return Err("expected epoch, millis, nano, iso8601, rfc3339 or rfc3339nano".into()),
        })
    }
}

/// Memory that lines of one thread are put together in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    line: String,
    fields: String,
    second: u64,
    second_text: String,
}

/// A finished line, with its newline.
pub(super) struct Line;

impl Line {
    pub(super) fn encode<'s>(
        event: &Event<'_>,
        encoder: Encoder,
        time: TimeEncoding,
        scratch: &'s mut Scratch,
    ) -> &'s [u8] {
        let Scratch { line, fields, second, second_text } = scratch;
        line.clear();
        fields.clear();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if *second != now.as_secs() || second_text.is_empty() {
            *second = now.as_secs();
            second_text.clear();
            let seconds = i64::try_from(*second).unwrap_or(i64::MAX);
            // The clock would have to be thousands of years off for this to fail.
            let stamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
            _ = write!(second_text, "{stamp}");
        }
        let ts = |out: &mut String, quote: &str| {
            let date = second_text.strip_suffix('Z').unwrap_or(second_text);
            _ = match time {
                TimeEncoding::Rfc3339 => write!(out, "{quote}{date}Z{quote}"),
                TimeEncoding::Rfc3339Nano => {
                    write!(out, "{quote}{date}.{:09}Z{quote}", now.subsec_nanos())
                }
                TimeEncoding::Epoch => write!(out, "{}", now.as_secs_f64()),
                TimeEncoding::Millis => write!(out, "{}", now.as_secs_f64() * 1e3),
                TimeEncoding::Nanos => write!(out, "{}", now.as_nanos()),
            };
        };
        let metadata = event.metadata();
        let file = metadata.file().unwrap_or(metadata.target());
        // Paths of our own files, and of libraries, from their crate's root on.
        let file = file.rsplit_once("src/").map_or(file, |(_, inside)| inside);
        let number = metadata.line().unwrap_or(0);
        match encoder {
            Encoder::Json => {
                let level = match *metadata.level() {
                    tracing::Level::ERROR => "error",
                    tracing::Level::WARN => "warn",
                    tracing::Level::INFO => "info",
                    tracing::Level::DEBUG => "debug",
                    tracing::Level::TRACE => "trace",
                };
                _ = write!(line, "{{\"level\":\"{level}\",\"ts\":");
                ts(line, "\"");
                _ = write!(line, ",\"caller\":\"{file}:{number}\",\"msg\":\"");
                event.record(&mut JsonFields { message: line, fields });
                line.push('"');
                line.push_str(fields);
                line.push_str("}\n");
            }
            Encoder::Text => {
                ts(line, "");
                _ = write!(line, " {:<5} {file}:{number} ", metadata.level().as_str());
                event.record(&mut TextFields { message: line, fields });
                line.push_str(fields);
                line.push('\n');
            }
        }
        line.as_bytes()
    }
}

/// The name of the field in which `tracing` keeps an event's message.
const MESSAGE: &str = "message";

struct JsonFields<'a> {
    message: &'a mut String,
    fields: &'a mut String,
}

impl JsonFields<'_> {
    fn key(&mut self, field: &Field) -> &mut String {
        self.fields.push_str(",\"");
        _ = Escaped(self.fields).write_str(field.name());
        self.fields.push_str("\":");
        self.fields
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == MESSAGE {
            _ = Escaped(self.message).write_fmt(value);
        } else {
            let out = self.key(field);
            out.push('"');
            _ = Escaped(out).write_fmt(value);
            out.push('"');
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        _ = write!(self.key(field), "{value}");
    }
}

impl Visit for JsonFields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.text(field, format_args!("{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    /// Without `fmt`: most fields of a line are texts as they are.
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            _ = Escaped(self.message).write_str(value);
        } else {
            let out = self.key(field);
            out.push('"');
            _ = Escaped(out).write_str(value);
            out.push('"');
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }
}

/// Where the first byte stands that JSON wants escaped. Looks at the bytes of whole chunks
/// together, which compilers turn into vector instructions; few texts have one at all.
fn first_to_escape(text: &[u8]) -> Option<usize> {
    const CHUNK: usize = 16;
    let is_special = |b: u8| (b < b' ') | (b == b'"') | (b == b'\\');
    let clean = text
        .chunks_exact(CHUNK)
        .take_while(|chunk| !chunk.iter().fold(false, |found, &b| found | is_special(b)))
        .count()
        * CHUNK;
    text[clean..].iter().position(|&b| is_special(b)).map(|at| clean + at)
}

/// Writes into a JSON string.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = first_to_escape(rest.as_bytes()) {
            self.0.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                b'"' => self.0.push_str("\\\""),
                b'\\' => self.0.push_str("\\\\"),
                b'\n' => self.0.push_str("\\n"),
                b'\r' => self.0.push_str("\\r"),
                b'\t' => self.0.push_str("\\t"),
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

struct TextFields<'a> {
    message: &'a mut String,
    fields: &'a mut String,
}

impl TextFields<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            // A message is ours, but what it is made of may not be.
            if value.contains(char::is_control) {
                _ = write!(self.message, "{}", value.escape_debug());
            } else {
                self.message.push_str(value);
            }
            return;
        }
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
        _ = if !value.is_empty() && value.chars().all(plain) {
            write!(self.fields, " {}={value}", field.name())
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives_the_escaping(text in ".*", more in "[\\x00-\\x1f\"\\\\a]*") {
            let original = text + &more;
            let mut escaped = String::from("\"");
            Escaped(&mut escaped).write_str(&original).unwrap();
            escaped.push('"');
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), original);
            prop_assert!(!escaped.contains('\n'));
        }
    }

    #[test]
    fn time_encodings_have_zaps_names() {
        for (name, encoding) in [
            ("rfc3339", TimeEncoding::Rfc3339),
            ("ISO8601", TimeEncoding::Rfc3339),
            ("rfc3339nano", TimeEncoding::Rfc3339Nano),
            ("epoch", TimeEncoding::Epoch),
            ("millis", TimeEncoding::Millis),
            ("nano", TimeEncoding::Nanos),
        ] {
            assert_eq!(name.parse(), Ok(encoding));
        }
        assert!("noon".parse::<TimeEncoding>().is_err());
    }
}
