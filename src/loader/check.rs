use std::path::Path;

use super::{LoadOptions, load};
use crate::discovery::read_endpoints;
use crate::endpoints::PoolIds;

/// What `epp check` says of a configuration file.
#[derive(Debug)]
pub struct CheckReport {
    /// Every finding on a line of its own, then the verdict.
    pub text: String,
    /// The configuration can be used.
    pub ok: bool,
    /// The configuration after defaulting, as YAML, where it can be used.
    pub effective: Option<String>,
}

/// Checks a configuration file without starting anything. The endpoints file that it names is
/// checked as well, if it is here: a configuration may be checked far from where it will run.
pub fn check(file: &Path, options: &LoadOptions) -> CheckReport {
    let name = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) => {
            let text = format!("{name}: cannot be read: {e}\n");
            return CheckReport { text, ok: false, effective: None };
        }
    };
    let (pipeline, diagnostics) = load(&name, Some(&text), options, &PoolIds::default());
    let mut report = diagnostics.to_string();
    let Some(pipeline) = pipeline else {
        return CheckReport { text: report, ok: false, effective: None };
    };
    let mut ok = true;
    if let Some(discovery) = &pipeline.discovery {
        if !discovery.path.exists() {
            let path = discovery.path.display();
            report.push_str(&format!("{name}: warning: endpoints file {path} is not here\n"));
        } else if let Err(diagnostics) = read_endpoints(&discovery.path) {
            report.push_str(&diagnostics.to_string());
            ok = false;
        }
    }
    let effective = match pipeline.effective.to_yaml() {
        Ok(effective) => Some(effective),
        Err(e) => {
            report.push_str(&format!("{name}: cannot be written out: {e}\n"));
            ok = false;
            None
        }
    };
    if ok {
        report.push_str(&format!("{name}: ok: {}\n", pipeline.summary));
    }
    CheckReport { text: report, ok, effective }
}
