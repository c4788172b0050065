use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use super::Subject;
use super::text;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not do what it is set up for.
    Problem,
    /// Somebody may have meant it.
    Note,
    /// Looked at, and well.
    Ok,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub subject: Subject,
    /// Short name of what was looked at, for scripts.
    pub check: &'static str,
    /// Which endpoint, listener or object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    pub what: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The line to change.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub change: String,
}

impl Finding {
    fn new(
        severity: Severity,
        subject: Subject,
        check: &'static str,
        what: impl Into<String>,
    ) -> Self {
        let (why, change) = (String::new(), String::new());
        Self { severity, subject, check, about: None, what: what.into(), why, change }
    }

    /// Something that is wrong.
    pub fn problem(subject: Subject, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Problem, subject, check, what)
    }

    /// Something to know.
    pub fn note(subject: Subject, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Note, subject, check, what)
    }

    /// Something that is well.
    pub fn ok(subject: Subject, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Ok, subject, check, what)
    }

    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }

    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub fn change(mut self, change: impl Into<String>) -> Self {
        self.change = change.into();
        self
    }
}

/// The check of what did not end in time: what was asked for may have hung on it.
pub(super) const NOT_FINISHED: &str = "not-finished";

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Report {
    findings: Mutex<Vec<Finding>>,
    /// Told whatever subjects were asked for.
    kept: Mutex<Vec<Finding>>,
}

impl Report {
    pub fn add(&self, finding: Finding) {
        self.findings.lock().push(finding);
    }

    /// Keeps the problems that were found so far whatever their subject.
    pub(super) fn keep_problems(&self) {
        let mut findings = self.findings.lock();
        let is_problem = |finding: &mut Finding| finding.severity == Severity::Problem;
        self.kept.lock().extend(findings.extract_if(.., is_problem));
    }

    /// Drops what is of other subjects.
    pub(super) fn keep(&self, wanted: impl Fn(Subject) -> bool) {
        let mut findings = self.findings.lock();
        findings.retain(|f| wanted(f.subject) || f.check == NOT_FINISHED);
        findings.append(&mut self.kept.lock());
    }

    /// By subject, in each the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut all = self.findings.lock().clone();
        all.sort_by(|a, b| {
            let key = |f: &Finding| (f.subject, f.severity);
            key(a).cmp(&key(b)).then_with(|| (a.check, &a.about).cmp(&(b.check, &b.about)))
        });
        all
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.lock().iter().filter(|finding| finding.severity == severity).count()
    }

    /// Nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.count(Severity::Problem) == 0
    }

    /// For scripts.
    pub fn json(&self) -> String {
        let value = json!({
            "problems": self.count(Severity::Problem),
            "notes": self.count(Severity::Note),
            "ok": self.count(Severity::Ok),
            "findings": self.findings(),
        });
        format!("{value:#}\n")
    }

    /// For people; with colours where `coloured`.
    pub fn text(&self, coloured: bool) -> String {
        let counts = [Severity::Problem, Severity::Note, Severity::Ok].map(|s| self.count(s));
        text::write(&self.findings(), counts, coloured)
    }
}
