//! Azure's LLM inference traces (Azure/AzurePublicDataset): `TIMESTAMP,ContextTokens,GeneratedTokens`.
//! They tell arrivals and sizes; every prompt is its own.

use jiff::civil::DateTime;
use serde::Deserialize;

use super::lines::{Lines, TraceError, error_at, tokens};
use super::spans::own;
use super::{Session, Spans, Trace, TraceRequest};
use crate::sim::Nanos;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "TIMESTAMP")]
    timestamp: String,
    context_tokens: u64,
    generated_tokens: u64,
}

/// # Errors
/// Where a line is not a request.
pub(super) fn read(lines: Lines) -> Result<Trace, TraceError> {
    let name = lines.name();
    let (path, reader) = lines.into_parts();
    let mut rows = Vec::new();
    let mut table = csv::Reader::from_reader(reader);
    for row in table.deserialize::<Row>() {
        let number = rows.len() as u64;
        // The heading is line 1.
        let line = rows.len() + 2;
        let row = row.map_err(|e| error_at(&path, line, e))?;
        rows.push(request(&row, number).map_err(|e| error_at(&path, line, e))?);
    }
    let first = rows.iter().map(|(at, _)| *at).min().unwrap_or_default();
    let sessions = rows
        .into_iter()
        .map(|(at, request)| Session { starts: between(first, at), requests: vec![request] })
        .collect();
    Ok(Trace { name, sessions, origin: None }.sorted())
}

fn request(row: &Row, number: u64) -> Result<(DateTime, TraceRequest), String> {
    let at = DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", row.timestamp.trim())
        .map_err(|e| format!("TIMESTAMP '{}': {e}", row.timestamp))?;
    let mut prompt = Spans::default();
    prompt.push_stream(own(number), tokens(row.context_tokens)?);
    let output_tokens = tokens(row.generated_tokens)?.max(1);
    Ok((at, TraceRequest { prompt, output_tokens, ..Default::default() }))
}

/// Both times are within the calendar's ten thousand years; a trace longer than the five
/// hundred that nanoseconds can count is cut to those.
fn between(first: DateTime, at: DateTime) -> Nanos {
    u64::try_from(at.duration_since(first).as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

    fn parse(rows: &str) -> Result<Trace, TraceError> {
        read(Lines::from_bytes(format!("{HEAD}{rows}").into_bytes()))
    }

    #[test]
    fn rows_become_requests_from_the_first_on() {
        let trace = parse(
            "2023-11-16 18:15:46.6805900,374,44\r\n\
             2023-11-16 18:15:46.5805900,10,0\r\n\
             2023-11-17 18:15:46.5805900,5,6\r\n",
        )
        .unwrap();
        let got: Vec<(u64, u64, u32)> = trace
            .sessions
            .iter()
            .map(|s| (s.starts, s.requests[0].prompt.tokens(), s.requests[0].output_tokens))
            .collect();
        assert_eq!(got, [(0, 10, 1), (100_000_000, 374, 44), (86_400_000_000_000, 5, 6)]);
        assert_eq!(trace.ceiling(16).cached_tokens, 0);
    }

    #[test]
    fn what_is_no_request_is_an_error_with_its_line() {
        for (bad, line) in [
            ("x,1,1", 2),
            ("2023-11-16 18:15:46,1,1\n2023-11-16 18:15:46,-1,1", 3),
            ("2023-11-16 18:15:46,1,1\n2023-13-16 18:15:46,1,1", 3),
            ("2023-11-16 18:15:46,99999999999,1", 2),
        ] {
            let e = parse(bad).unwrap_err();
            assert!(e.to_string().starts_with(&format!("test:{line}: ")), "{e}");
        }
        assert!(parse("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_tables_never_panic(text in "\\PC{0,200}", row in "[0-9: .,-]{0,60}") {
            let _ = read(Lines::from_bytes(text.into_bytes()));
            let _ = parse(&row);
        }
    }
}
