use std::cell::RefCell;
use std::fmt;

use super::Position;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but the user should know.
    Warning,
}

/// One finding in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// 1-based; `None` where the finding has no place (a missing document).
    pub at: Option<Position>,
    /// Where in the document, like `plugins[2].parameters.threshold`; may be empty.
    pub field: String,
    pub message: String,
}

/// The findings in one document, in the order of their places.
#[derive(Debug)]
pub struct Diagnostics {
    /// The document's name in messages: a file's path, or the flag it came from.
    pub file: String,
    list: RefCell<Vec<Diagnostic>>,
}

impl Diagnostics {
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: RefCell::default() }
    }

    pub fn error(&self, at: Option<Position>, field: &str, message: impl Into<String>) {
        self.add(Severity::Error, at, field, message.into());
    }

    pub fn warning(&self, at: Option<Position>, field: &str, message: impl Into<String>) {
        self.add(Severity::Warning, at, field, message.into());
    }

    /// Adds a finding of either severity.
    pub fn add(&self, severity: Severity, at: Option<Position>, field: &str, message: String) {
        let finding = Diagnostic { severity, at, field: field.to_owned(), message };
        let mut list = self.list.borrow_mut();
        if !list.contains(&finding) {
            list.push(finding);
        }
    }

    pub fn has_errors(&self) -> bool {
        self.list.borrow().iter().any(|d| d.severity == Severity::Error)
    }

    /// All findings, sorted by place.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let mut all = self.list.borrow().clone();
        all.sort_by_key(|d| d.at);
        all
    }
}

/// One line a finding: `file:line:column: field: message`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in self.findings() {
            write!(f, "{}", self.file)?;
            if let Some(at) = d.at {
                write!(f, ":{}:{}", at.line, at.column)?;
            }
            f.write_str(": ")?;
            if d.severity == Severity::Warning {
                f.write_str("warning: ")?;
            }
            if !d.field.is_empty() {
                write!(f, "{}: ", d.field)?;
            }
            writeln!(f, "{}", d.message)?;
        }
        Ok(())
    }
}

/// `; did you mean 'x'?`, where some candidate is near enough; else nothing.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or(String::new(), |near| format!("; did you mean '{near}'?"))
}

/// The candidate most like `name`, if any is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&name.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}
