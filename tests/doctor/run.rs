//! Runs `epp doctor` and reads what it found.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What one run found.
pub struct Found {
    pub code: Option<i32>,
    pub report: Value,
}

impl Found {
    /// The findings of this severity, as `check about what`.
    pub fn of(&self, severity: &str) -> Vec<String> {
        let findings = self.report["findings"].as_array().expect("a list");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        findings
            .iter()
            .filter(|finding| finding["severity"] == severity)
            .map(|f| format!("{} {} {}", text(&f["check"]), text(&f["about"]), text(&f["what"])))
            .collect()
    }

    /// The finding of this check about an endpoint, with part of what it says and of the line to
    /// change.
    pub fn has(&self, severity: &str, check: &str, about: &str, what: &str, change: &str) -> bool {
        let findings = self.report["findings"].as_array().expect("a list");
        let says = |finding: &Value, key: &str, part: &str| {
            part.is_empty() || finding[key].as_str().is_some_and(|text| text.contains(part))
        };
        findings.iter().any(|finding| {
            finding["severity"] == severity
                && finding["check"] == check
                && says(finding, "about", about)
                && says(finding, "what", what)
                && says(finding, "change", change)
        })
    }

    #[track_caller]
    pub fn must_have(&self, severity: &str, check: &str, about: &str, what: &str, change: &str) {
        let wanted = format!("{severity} {check} {about} '{what}' -> '{change}'");
        assert!(self.has(severity, check, about, what, change), "{wanted}: {:#}", self.report);
    }

    #[track_caller]
    pub fn is_well(&self) {
        assert_eq!(self.of("problem"), [""; 0], "{:#}", self.report);
        assert_eq!(self.code, Some(0));
    }
}

/// Runs it with these arguments, and with what it says as it comes.
pub async fn doctor_text(arguments: &[String]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    command.arg("doctor").args(arguments).env_remove("KUBECONFIG").env_remove("NO_COLOR");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("epp can be started");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("UTF-8"))
}

/// Runs it with these arguments and reads its JSON.
pub async fn doctor(arguments: &[String]) -> Found {
    let mut arguments = arguments.to_vec();
    arguments.extend(["-o".to_owned(), "json".to_owned()]);
    let (code, text) = doctor_text(&arguments).await;
    let report = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    Found { code, report }
}

/// A file of a test.
pub fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// Texts from anything that is shown.
pub fn arguments<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}
