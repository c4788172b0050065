//! Recordings of live traffic (`epp --record`): every request is a session of its own, at the time
//! it came. Its prompt's pieces say how far it begins like others; how many tokens a piece has is
//! what the endpoint reported of the prompt that it was first seen in.

use std::collections::HashMap;
use std::path::Path;

use super::lines::{TraceError, tokens};
use super::spans::{Span, combine, own};
use super::{Origin, Recorded, Session, Spans, Trace, TraceRequest};
use crate::recording::{self, BLOCK_TOKENS, Choice, Recording, Row};
use crate::sim::Nanos;

/// The streams of pieces, and of what is nobody else's.
const PIECES: u64 = 0x7069_6563;
const REST: u64 = 0x7265_7374;

/// # Errors
/// Where there is no recording, or several and none was chosen.
pub(super) fn read(path: &Path, choice: &Choice) -> Result<Trace, TraceError> {
    let recordings = recording::read(path, choice)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut trace = Trace { name: name.into_owned(), ..Default::default() };
    let mut origin = Origin::default();
    let first = recordings.first().and_then(started);
    for (number, recording) in recordings.iter().enumerate() {
        let later = started(recording).zip(first).map_or(0, |(at, first)| at - first);
        let mut reader = Reader::new(number as u64, u64::try_from(later).unwrap_or(0));
        for row in &recording.rows {
            let session = reader.request(row).map_err(|message| TraceError::Row {
                path: path.to_owned(),
                recording: recording.header.recording.clone(),
                at_us: row.at_us,
                message,
            })?;
            trace.sessions.extend(session);
        }
        if reader.passed_over > 0 {
            let note = "requests were never read or decided, or the endpoint refused them";
            origin.notes.push(format!("{} {note}: left out", reader.passed_over));
        }
        origin.endpoints = origin.endpoints.max(reader.endpoints);
        origin.notes.extend(recording.notes.iter().cloned());
        origin.configs.push(recording.header.config.clone());
    }
    if recordings.len() > 1 {
        let note = "recordings side by side: prompts of different ones share nothing here";
        origin.notes.push(format!("{} {note}", recordings.len()));
    }
    let mut trace = trace.sorted();
    let begin = trace.sessions.first().map_or(0, |session| session.starts);
    trace.sessions.iter_mut().for_each(|session| session.starts -= begin);
    trace.origin = Some(Box::new(origin));
    Ok(trace)
}

/// When it began, in nanoseconds of the wall clock.
fn started(recording: &Recording) -> Option<i128> {
    let started: jiff::Timestamp = recording.header.started.parse().ok()?;
    Some(started.as_nanosecond())
}

/// One recording being read.
struct Reader {
    number: u64,
    /// Where its clock stands on that of the trace.
    begin: Nanos,
    pieces: HashMap<u32, Piece>,
    rows: u64,
    endpoints: usize,
    passed_over: usize,
}

/// Where each of its blocks ends, in tokens.
#[derive(Default)]
struct Piece(Vec<u32>);

impl Piece {
    /// Tokens of its first `blocks` blocks, as far as it is known.
    fn tokens(&self, blocks: u32) -> u32 {
        let last = (blocks as usize).min(self.0.len()).checked_sub(1);
        last.and_then(|last| self.0.get(last)).copied().unwrap_or(0)
    }

    /// Makes it `blocks` long; the new ones have `tokens` together.
    fn grow(&mut self, blocks: u32, tokens: u32) {
        let (known, begin) = (self.0.len() as u32, self.0.last().copied().unwrap_or(0));
        let new = u64::from(blocks.saturating_sub(known));
        let end = |i: u64| begin.saturating_add((u64::from(tokens) * i / new.max(1)) as u32);
        self.0.extend((1..=new).map(end));
    }
}

/// The most blocks that are believed of a piece: those of the longest prompt there is.
const MAX_BLOCKS: u32 = 1 << 20;

impl Reader {
    fn new(number: u64, begin: Nanos) -> Self {
        Self { number, begin, pieces: HashMap::new(), rows: 0, endpoints: 0, passed_over: 0 }
    }

    /// `None` where no endpoint was to work for it.
    fn request(&mut self, row: &Row) -> Result<Option<Session>, String> {
        self.rows += 1;
        let endpoints = row.endpoint.max(row.pool_size).unwrap_or(0);
        self.endpoints = self.endpoints.max(endpoints as usize);
        let refused = row.refused.is_none() && row.status.is_some_and(|s| (400..500).contains(&s));
        if refused || row.estimated_tokens == 0 || row.end == "cut-before-decision" {
            self.passed_over += 1;
            return Ok(None);
        }
        let prompt_tokens = row.prompt_tokens.filter(|&n| n > 0);
        let prompt_tokens = tokens(prompt_tokens.unwrap_or(row.estimated_tokens))?;
        let micros = |us: u64| us.checked_mul(1000).ok_or("a time is out of range".to_owned());
        let starts = self.begin.saturating_add(micros(row.at_us)?);
        let request = TraceRequest {
            prompt: self.prompt(row, prompt_tokens)?,
            output_tokens: tokens(output_tokens(row))?.max(1),
            recorded: Some(Recorded {
                ttft: row.ttft_us.filter(|_| row.stream).map(micros).transpose()?,
                duration: micros(row.duration_us)?,
                prompt_tokens,
                cached_tokens: row.cached_tokens.map(tokens).transpose()?,
                predicted_tokens: row.predicted_tokens.map(tokens).transpose()?,
                endpoint: row.endpoint,
                is_answered: row.is_answered(),
            }),
            ..Default::default()
        };
        Ok(Some(Session { starts, requests: vec![request] }))
    }

    fn prompt(&mut self, row: &Row, length: u32) -> Result<Spans, String> {
        let mut spans = Spans::default();
        let block = u64::from(row.block_tokens.unwrap_or(BLOCK_TOKENS).max(1));
        let (mut left, mut estimate_left) = (length, row.estimated_tokens);
        for &(number, blocks) in &row.prompt {
            if blocks > MAX_BLOCKS {
                return Err(format!("{blocks} blocks are too many"));
            }
            let piece = self.pieces.entry(number).or_default();
            let new = u64::from(blocks).saturating_sub(piece.0.len() as u64) * block;
            if new > 0 {
                // What the endpoint counted is spread over what was estimated.
                let old = piece.tokens(blocks);
                let (rest, estimate) = (
                    left.saturating_sub(old),
                    estimate_left.saturating_sub((piece.0.len() as u64) * block),
                );
                let share = new.min(estimate) as f64 / estimate.max(1) as f64;
                piece.grow(blocks, (f64::from(rest) * share).round() as u32);
            }
            let found = piece.tokens(blocks);
            let stream = own(combine(combine(PIECES, self.number), u64::from(number)));
            spans.push(Span { stream, start: 0, tokens: found });
            left = left.saturating_sub(found);
            estimate_left = estimate_left.saturating_sub(u64::from(blocks) * block);
        }
        spans.push_stream(own(combine(combine(REST, self.number), self.rows)), left);
        Ok(spans)
    }
}

/// What the endpoint reported, else what can be guessed: a stream has a token in each piece, and
/// elsewhere a token has four bytes.
fn output_tokens(row: &Row) -> u64 {
    let guess = row.chunks.unwrap_or(row.answer_bytes / 4);
    row.output_tokens.unwrap_or(guess)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at_us: u64, prompt: &[(u32, u32)], estimated: u64, reported: Option<u64>) -> Row {
        Row {
            at_us,
            prompt: prompt.to_vec(),
            estimated_tokens: estimated,
            prompt_tokens: reported,
            output_tokens: Some(10),
            endpoint: Some(2),
            end: "complete".into(),
            ..Row::default()
        }
    }

    fn write(dir: &Path, id: &str, started: &str, rows: &[Row]) {
        let mut text = format!(
            "{{\"format\":\"epp-recording\",\"version\":1,\"recording\":\"{id}\",\"file\":1,\
             \"started\":\"{started}\",\"epp\":\"0.1.0\",\"config\":\"c\"}}\n"
        );
        rows.iter().for_each(|row| text += &(serde_json::to_string(row).unwrap() + "\n"));
        std::fs::write(dir.join(format!("{id}.jsonl")), text).unwrap();
    }

    const START: &str = "2026-11-25T03:49:00Z";

    fn trace_of(rows: &[Row]) -> Trace {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", START, rows);
        read(dir.path(), &Choice::Only).unwrap()
    }

    #[test]
    fn prompts_share_what_their_pieces_share() {
        let trace = trace_of(&[
            // 10 blocks of 64, the last one of 24: the endpoint counted half as many tokens.
            row(5_000_000, &[(0, 10)], 600, Some(300)),
            row(6_000_000, &[(0, 8), (1, 4)], 768, Some(384)),
            row(7_000_000, &[(0, 8), (1, 4)], 768, Some(384)),
            row(8_000_000, &[], 100, None),
        ]);
        let starts: Vec<u64> = trace.sessions.iter().map(|s| s.starts / 1_000_000_000).collect();
        assert_eq!(starts, [0, 1, 2, 3]);
        let lens: Vec<u64> = trace.requests().map(|r| r.prompt.tokens()).collect();
        assert_eq!(lens, [300, 384, 384, 100]);
        // 8 of 10 blocks of 300 tokens, in whole blocks of 16; then all of it.
        assert_eq!(trace.ceiling(16).cached_tokens, 240 + 384);
        let origin = trace.origin.as_ref().unwrap();
        assert_eq!((origin.endpoints, origin.configs.as_slice()), (2, &["c".to_owned()][..]));
    }

    #[test]
    fn what_no_endpoint_was_to_work_for_is_left_out() {
        let base = || row(1, &[(0, 1)], 64, None);
        let trace = trace_of(&[
            base(),
            Row { status: Some(404), ..base() },
            Row { end: "cut-before-decision".into(), ..base() },
            Row { estimated_tokens: 0, ..base() },
            Row { end: "refused".into(), refused: Some("ResourceExhausted".into()), ..base() },
            Row { status: Some(500), ..base() },
        ]);
        let answered: Vec<bool> =
            trace.requests().map(|r| r.recorded.as_ref().unwrap().is_answered).collect();
        assert_eq!(answered, [true, false, false]);
        assert!(trace.origin.unwrap().notes[0].starts_with("3 requests were never read"));
    }

    #[test]
    fn recordings_side_by_side_keep_their_distance_and_share_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [row(1_000_000, &[(0, 10)], 640, None)];
        write(dir.path(), "a", START, &rows);
        write(dir.path(), "b", "2026-11-25T03:50:00.5Z", &rows);
        let trace = read(dir.path(), &Choice::All).unwrap();
        let starts: Vec<u64> = trace.sessions.iter().map(|s| s.starts / 1_000_000).collect();
        assert_eq!((starts, trace.ceiling(16).cached_tokens), (vec![0, 60_500], 0));
        assert!(read(dir.path(), &Choice::Only).is_err());
    }

    #[test]
    fn numbers_out_of_range_are_errors_that_name_the_row() {
        for bad in [
            row(u64::MAX, &[], 1, None),
            row(1, &[(0, u32::MAX)], 1, None),
            row(1, &[], u64::MAX, None),
            Row { output_tokens: Some(1 << 40), ..row(1, &[], 1, None) },
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), "a", START, &[bad]);
            let error = read(dir.path(), &Choice::Only).unwrap_err().to_string();
            assert!(error.contains("recording a, at_us"), "{error}");
        }
    }
}
