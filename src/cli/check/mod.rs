//! `epp check`: says what is found in configurations without starting anything.

mod suspicious;

use std::io::Read;
use std::path::Path;

use super::embedded::{self, Found};
use super::{CheckOptions, Exit};
use crate::discovery::read_endpoints;
use crate::endpoints::PoolIds;
use crate::files::{self, FileError};
use crate::loader::{LoadOptions, load};

/// The largest file that is looked through, bytes: all manifests of a release may stand in one.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Stands for standard input.
pub(super) const STDIN: &str = "-";

/// What was found in one file.
#[derive(Debug, Default)]
struct Report {
    /// Every finding on a line of its own, then the verdicts.
    text: String,
    is_wrong: bool,
    /// The configurations after defaulting, as YAML.
    effective: Vec<String>,
}

/// Checks files, and the endpoints files that they name if those are here: a configuration may be
/// checked far from where it will run. Status 2 where one of them cannot be used.
pub fn check(options: &CheckOptions, stdin: &mut dyn Read) -> Exit {
    let mut text = String::new();
    let mut is_wrong = false;
    let mut effective = Vec::new();
    for file in &options.files {
        let name =
            if file == Path::new(STDIN) { "stdin".into() } else { file.display().to_string() };
        let read = match file == Path::new(STDIN) {
            true => read_all(stdin),
            false => files::read_text(file, MAX_BYTES),
        };
        let report = match read {
            Ok(text) => check_text(&name, &text, &options.load),
            Err(e) => {
                Report { text: format!("{name}: {e}\n"), is_wrong: true, ..Report::default() }
            }
        };
        text.push_str(&report.text);
        is_wrong |= report.is_wrong;
        effective.extend(report.effective);
    }
    if options.effective {
        text.push_str(&effective.join("---\n"));
    }
    Exit { text, code: if is_wrong { 2 } else { 0 } }
}

pub(super) fn read_all(stdin: &mut dyn Read) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    stdin.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge(MAX_BYTES));
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

fn check_text(name: &str, text: &str, options: &LoadOptions) -> Report {
    let mut report = Report::default();
    if text.trim().is_empty() {
        report.text.push_str(&format!(
            "{name}: warning: the file is empty: the built-in configuration would be used\n"
        ));
        check_one(name, &Found::built_in(), options, &mut report);
        return report;
    }
    match embedded::find(name, text) {
        Err(diagnostics) => {
            report.text.push_str(&diagnostics.to_string());
            report.is_wrong = true;
        }
        Ok(found) => {
            for found in &found {
                check_one(name, found, options, &mut report);
            }
        }
    }
    report
}

fn check_one(file: &str, found: &Found, options: &LoadOptions, report: &mut Report) {
    let (pipeline, diagnostics) =
        load(&found.name(file), Some(&found.text), options, &PoolIds::default());
    suspicious::warn(&found.text, &diagnostics);
    report.text.push_str(&diagnostics.to_string());
    let Some(pipeline) = pipeline else {
        report.is_wrong = true;
        return;
    };
    let name = found.title(file);
    let mut is_wrong = false;
    if let Some(discovery) = &pipeline.discovery {
        if !discovery.path.exists() {
            let path = discovery.path.display();
            report.text.push_str(&format!("{name}: warning: endpoints file {path} is not here\n"));
        } else if let Err(diagnostics) = read_endpoints(&discovery.path) {
            report.text.push_str(&diagnostics.to_string());
            is_wrong = true;
        }
    }
    match pipeline.effective.to_yaml() {
        Ok(effective) => report.effective.push(effective),
        Err(e) => {
            report.text.push_str(&format!("{name}: cannot be written out: {e}\n"));
            is_wrong = true;
        }
    }
    if !is_wrong {
        report.text.push_str(&format!("{name}: ok: {}\n", pipeline.summary));
    }
    report.is_wrong |= is_wrong;
}

#[cfg(test)]
mod tests;
