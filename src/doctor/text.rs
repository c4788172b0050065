//! The report for people.

use std::fmt::Write as _;

use super::{Finding, Severity, Subject};

/// Lines that a terminal shows without wrapping, mostly.
const WIDTH: usize = 100;
/// What is well is said so many times of one kind.
const WELL_OF_A_KIND: usize = 3;
/// And what is not.
const BAD_OF_A_KIND: usize = 10;
/// Where texts begin.
const INDENT: usize = 10;

pub(super) fn write(
    findings: &[Finding],
    [problems, notes, well]: [usize; 3],
    coloured: bool,
) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut out = format!(
        "{}, {}, {well} ok\n",
        match problems {
            0 => "nothing is wrong".to_owned(),
            n => paint(&count(n, "problem"), "31;1", coloured),
        },
        count(notes, "note"),
    );
    let mut subject = None;
    let mut rest = findings;
    while let Some(first) = rest.first() {
        if subject != Some(first.subject) {
            subject = Some(first.subject);
            // Writing to a string cannot fail.
            let _ = write!(out, "\n{}\n", paint(name(first.subject), "1", coloured));
        }
        let is_same = |f: &&Finding| {
            (f.subject, f.severity, f.check) == (first.subject, first.severity, first.check)
        };
        let of_kind = rest.iter().take_while(is_same).count();
        let (kind, others) = rest.split_at(of_kind);
        rest = others;
        let most = if first.severity == Severity::Ok { WELL_OF_A_KIND } else { BAD_OF_A_KIND };
        // One more takes no more room than to say so.
        let shown = if of_kind <= most + 1 { of_kind } else { most };
        for finding in &kind[..shown] {
            one(finding, coloured, &mut out);
        }
        if of_kind > shown {
            let more = of_kind - shown;
            let _ = writeln!(out, "{:INDENT$}and {more} more of this kind ({})", "", first.check);
        }
    }
    out
}

fn one(finding: &Finding, coloured: bool, out: &mut String) {
    let (mark, colour) = match finding.severity {
        Severity::Problem => ("PROBLEM", "31;1"),
        Severity::Note => ("note", "33"),
        Severity::Ok => ("ok", "32"),
    };
    let what = match &finding.about {
        Some(about) => format!("{about} {}", finding.what),
        None => finding.what.clone(),
    };
    let lead = format!("  {}{:2$}", paint(mark, colour, coloured), "", INDENT - 2 - mark.len());
    wrap(&lead, INDENT, &what, out);
    for (label, text) in [("why", &finding.why), ("change", &finding.change)] {
        if !text.is_empty() {
            let indent = INDENT + 8;
            wrap(&format!("{:INDENT$}{label:8}", ""), indent, text, out);
        }
    }
}

/// `text` behind `lead`, which takes `indent` columns, in lines that are not too long.
fn wrap(lead: &str, indent: usize, text: &str, out: &mut String) {
    out.push_str(lead);
    let mut column = indent;
    for (i, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        // What peers say may hold anything; a terminal is not to obey it.
        out.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        column += length;
    }
    out.push('\n');
}

fn paint(text: &str, colour: &str, coloured: bool) -> String {
    if coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

fn name(subject: Subject) -> &'static str {
    match subject {
        Subject::Configuration => "configuration",
        Subject::Running => "running epp",
        Subject::Endpoints => "endpoints",
        Subject::Cache => "cache",
        Subject::Probe => "probe",
        Subject::Events => "KV events",
        Subject::Envoy => "Envoy",
        Subject::Kubernetes => "Kubernetes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_with_the_line_to_change_and_many_are_counted() {
        let mut findings = vec![
            Finding::problem(Subject::Endpoints, "reachable", "does \x1b[31mnot answer")
                .about("w1")
                .why("because")
                .change("--host"),
        ];
        for n in 0..20 {
            findings.push(Finding::ok(Subject::Endpoints, "models", format!("serves {n}")));
        }
        findings.push(Finding::note(Subject::Envoy, "buffer", "long ".repeat(40)));
        let text = write(&findings, [1, 1, 20], false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..8],
            [
                "1 problem, 1 note, 20 ok",
                "",
                "endpoints",
                "  PROBLEM w1 does \u{fffd}[31mnot answer",
                "          why     because",
                "          change  --host",
                "  ok      serves 0",
                "  ok      serves 1",
            ]
        );
        assert!(text.contains("and 17 more of this kind (models)"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(write(&findings, [1, 1, 20], true).contains("\x1b[31;1mPROBLEM\x1b[0m"));
        assert!(write(&[], [0, 0, 0], false).starts_with("nothing is wrong, 0 notes"));
    }
}
