//! A decision for people to read.

use std::fmt::{self, Display, Formatter, Write};

use super::decision_record::{DecisionView, Ended};
use crate::scheduling::{Explanation, FilterStep, ProfileExplanation};

/// The decision in lines of text, the last one ended.
pub fn as_text(decision: &DecisionView<'_>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    _ = write(&mut text, decision);
    text
}

fn write(out: &mut String, d: &DecisionView<'_>) -> fmt::Result {
    write!(out, "{}  request {}  model {}", d.time, plain(d.request_id), plain(d.model))?;
    if let Some(asked) = d.incoming_model {
        write!(out, " (asked for as {})", plain(asked))?;
    }
    match (d.endpoint, d.address) {
        (Some(endpoint), Some(address)) => writeln!(out, "\n  sent to {endpoint} ({address})")?,
        _ => writeln!(out, "\n  sent nowhere")?,
    }
    if let Some(refused) = d.refused {
        let reason = refused.reason.map(|reason| format!(" [{reason}]")).unwrap_or_default();
        writeln!(out, "  refused: {}{reason}: {}", refused.code, refused.message)?;
    }
    write!(out, "  priority {}", d.priority)?;
    if let Some(queued) = d.queued_ms {
        write!(out, ", {queued} ms in the queue")?;
    }
    if let Some(took) = d.scheduling_us {
        write!(out, ", decided in {took:.0} us")?;
    }
    writeln!(out)?;
    for belief in &d.prefix {
        writeln!(
            out,
            "  {} to be cached there: {} of {} blocks of the prompt, {} tokens ({})",
            belief.source,
            belief.cached_blocks,
            belief.prompt_blocks,
            belief.cached_tokens,
            Share(belief.share)
        )?;
    }
    if let Some(explanation) = &d.explanation {
        explain(out, explanation)?;
    } else if d.refused.is_none() {
        writeln!(out, "  the steps were not kept: see --explain-share")?;
    }
    match d.ended {
        Some(ended) => end(out, ended),
        None => writeln!(out, "  goes on"),
    }
}

/// A name that a client chose, without what a terminal would obey.
fn plain(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if plain.is_empty() { "(none)".to_owned() } else { plain }
}

fn end(out: &mut String, e: &Ended) -> fmt::Result {
    write!(out, "  ended: {} after {} ms", e.ending, e.duration_ms)?;
    if let Some(status) = e.status {
        write!(out, ", status {status}")?;
    }
    if let Some(ttft) = e.ttft_ms {
        write!(out, ", first byte after {ttft} ms")?;
    }
    if let (Some(prompt), Some(completion)) = (e.prompt_tokens, e.completion_tokens) {
        write!(out, ", {prompt} prompt and {completion} completion tokens")?;
    }
    match (e.cached_tokens, e.prompt_tokens) {
        (Some(cached), Some(prompt)) if prompt > 0 => {
            write!(
                out,
                ", {cached} of the prompt cached ({})",
                Share(cached as f64 / prompt as f64)
            )?;
        }
        (None, Some(_)) => write!(out, ", the endpoint did not say how many were cached")?,
        _ => {}
    }
    writeln!(out)
}

fn explain(out: &mut String, e: &Explanation) -> fmt::Result {
    let name = |i: &u32| e.candidates.get(*i as usize).map_or("?", String::as_str);
    let names = |list: &[u32]| list.iter().map(name).collect::<Vec<_>>().join(", ");
    let count = e.candidates.len();
    if e.pool_size > 0 {
        writeln!(out, "  {count} candidates of {} endpoints", e.pool_size)?;
    } else {
        writeln!(out, "  {count} candidates")?;
    }
    if !e.screened_out.is_empty() {
        writeln!(out, "  screened out: {}", e.screened_out.join(", "))?;
    }
    if let Some(health) = &e.health {
        for left_out in &health.left_out {
            writeln!(out, "  left out: {} is {}", left_out.endpoint, left_out.standing)?;
        }
        if let Some(tried) = &health.tried {
            writeln!(out, "  {tried} is tried with this request, to see whether it is back")?;
        }
        if health.all_the_same {
            writeln!(out, "  the rest could not serve it, so those left out were candidates")?;
        }
    }
    for profile in &e.profiles {
        writeln!(out, "  profile {}", profile.name)?;
        for FilterStep { plugin, kept, dropped, wants } in &profile.filters {
            let wants = if wants.is_empty() { String::new() } else { format!(" (wants {wants})") };
            match dropped.is_empty() {
                true => writeln!(out, "    {plugin}{wants}: kept all {}", kept.len())?,
                false => writeln!(out, "    {plugin}{wants}: dropped {}", names(dropped))?,
            }
        }
        out.push_str(&table(e, profile));
        let picker = &profile.picker;
        match profile.picks.as_slice() {
            [] => writeln!(out, "    nothing was picked")?,
            picks => writeln!(out, "    {} picked {}", picker.plugin, names(picks))?,
        }
        if !picker.tied.is_empty() {
            let (tied, rule) = (names(&picker.tied), picker.tie_rule);
            writeln!(out, "    equally good: {tied}; decided by {rule}")?;
        }
    }
    Ok(())
}

/// The candidates that were scored, one a line, the target first.
fn table(e: &Explanation, profile: &ProfileExplanation) -> String {
    let mut head: Vec<String> =
        ["candidate", "in flight", "waiting", "running", "kv"].map(String::from).into();
    head.extend(e.prefixes.iter().map(|p| p.source.to_owned()));
    head.extend(profile.scorers.iter().map(|s| format!("{} x{}", s.plugin, s.weight)));
    head.push("total".to_owned());
    let mut scored: Vec<usize> = (0..e.candidates.len())
        .filter(|&i| profile.totals.get(i).is_some_and(Option::is_some))
        .collect();
    let place = |i: &usize| profile.picks.iter().position(|p| *p as usize == *i);
    let total = |i: &usize| profile.totals.get(*i).copied().flatten().unwrap_or_default();
    scored.sort_by(|a, b| {
        let places = place(a).unwrap_or(usize::MAX).cmp(&place(b).unwrap_or(usize::MAX));
        places.then(total(b).total_cmp(&total(a)))
    });
    let number = |list: &[u64], i: usize| list.get(i).map(u64::to_string).unwrap_or_default();
    let score = |value: Option<f64>| value.map(|v| format!("{v:.3}")).unwrap_or_default();
    let row = |&i: &usize| {
        let mut row = vec![
            e.candidates.get(i).cloned().unwrap_or_default(),
            e.in_flight.get(i).map(i64::to_string).unwrap_or_default(),
            number(&e.seen.waiting, i),
            number(&e.seen.running, i),
            e.seen.kv_cache_usage.get(i).map(|v| Share(*v).to_string()).unwrap_or_default(),
        ];
        row.extend(e.prefixes.iter().map(|p| {
            let blocks = p.blocks.get(i).copied().unwrap_or_default();
            format!("{blocks}/{}", p.prompt_blocks)
        }));
        row.extend(profile.scorers.iter().map(|s| score(s.scores.get(i).copied().flatten())));
        row.push(score(profile.totals.get(i).copied().flatten()));
        row
    };
    if scored.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = scored.iter().map(row).collect();
    columns(&head, &rows)
}

fn columns(head: &[String], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).chain(head.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
            if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("    {}\n", padded.collect::<Vec<_>>().join("  "))
    };
    std::iter::once(line(head)).chain(rows.iter().map(|row| line(row))).collect()
}

/// A share as people read it.
struct Share(f64);

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} %", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::{PickerStep, ScorerStep};

    #[test]
    fn a_decision_reads_like_a_report() {
        let explanation = Explanation {
            candidates: vec!["10.0.0.1:80".into(), "10.0.0.2:80".into(), "10.0.0.3:80".into()],
            in_flight: vec![1, 2, 3],
            pool_size: 4,
            profiles: vec![ProfileExplanation {
                name: "default".into(),
                filters: vec![FilterStep {
                    plugin: "decode-filter".into(),
                    kept: vec![0, 1],
                    dropped: vec![2],
                    wants: "label role of decode".into(),
                }],
                scorers: vec![ScorerStep {
                    plugin: "queue-scorer".into(),
                    plugin_type: "queue-scorer".into(),
                    weight: 2.0,
                    scores: vec![Some(0.5), Some(1.0), None],
                }],
                totals: vec![Some(1.0), Some(2.0), None],
                picks: vec![1],
                picker: PickerStep { plugin: "max-score-picker".into(), ..Default::default() },
                times: None,
            }],
            ..Explanation::default()
        };
        let ended = Ended {
            ending: "complete",
            duration_ms: 20.5,
            ttft_ms: Some(10.0),
            status: Some(200),
            prompt_tokens: Some(100),
            completion_tokens: Some(5),
            cached_tokens: Some(25),
        };
        let view = DecisionView {
            time: "2026-01-01T00:00:00Z".into(),
            request_id: "id\u{1b}[2J\nforged",
            incoming_model: None,
            model: "m",
            priority: 0,
            endpoint: Some("ns/b"),
            address: Some("10.0.0.2:80"),
            refused: None,
            queued_ms: Some(1.5),
            scheduling_us: Some(12.0),
            prefix: Vec::new(),
            scores: Vec::new(),
            explanation: Some(explanation),
            ended: Some(&ended),
        };
        let expected = "\
2026-01-01T00:00:00Z  request id\u{fffd}[2J\u{fffd}forged  model m
  sent to ns/b (10.0.0.2:80)
  priority 0, 1.5 ms in the queue, decided in 12 us
  3 candidates of 4 endpoints
  profile default
    decode-filter (wants label role of decode): dropped 10.0.0.3:80
    candidate    in flight  waiting  running  kv  queue-scorer x2  total
    10.0.0.2:80          2                                  1.000  2.000
    10.0.0.1:80          1                                  0.500  1.000
    max-score-picker picked 10.0.0.2:80
  ended: complete after 20.5 ms, status 200, first byte after 10 ms, 100 prompt and 5 completion tokens, 25 of the prompt cached (25 %)
";
        assert_eq!(as_text(&view), expected);
    }
}
