//! What a running `epp` says is wrong.

use serde_json::Value;

use super::setup::Setup;
use super::{Finding, Report, Subject};

const SUBJECT: Subject = Subject::Running;

pub(super) async fn look(setup: &Setup, report: &Report) {
    let Some((client, state)) = &setup.running else { return };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&state["version"]);
    match state["notReady"].as_str() {
        // The finding of it is among those below.
        Some(_) => {}
        None => report.add(Finding::ok(SUBJECT, "ready", format!("is ready; version {version}"))),
    }
    for found in state["findings"].as_array().into_iter().flatten() {
        let what = text(&found["what"]);
        let finding = match found["level"].as_str() {
            Some("broken") => Finding::problem(SUBJECT, "seen", what),
            _ => Finding::note(SUBJECT, "seen", what),
        };
        report.add(finding.why(text(&found["why"])).change(text(&found["change"])));
    }
    let stale = state["endpoints"].as_array().into_iter().flatten();
    let stale = stale.filter(|endpoint| endpoint["stale"] == true).count();
    if stale > 0 {
        report.add(
            Finding::note(SUBJECT, "stale", format!("goes by old metrics of {stale} endpoints"))
                .why("decisions rest on what they told last"),
        );
    }
    if let Ok(plugins) = client.json("/debug/plugins").await {
        troubles(&plugins, report);
    }
}

/// Endpoints whose KV events a plugin does not rely upon.
fn troubles(plugins: &Value, report: &Report) {
    for (plugin, state) in plugins.as_object().into_iter().flatten() {
        for (id, endpoint) in state["endpoints"].as_object().into_iter().flatten() {
            let Some(trouble) = endpoint["trouble"].as_str() else { continue };
            let mut what = format!("does not rely upon its KV events: {trouble}");
            for (key, lead) in [("connectionProblem", ""), ("topicThatDoesNotFit", "the topic is ")]
            {
                if let Some(more) = endpoint[key].as_str() {
                    what.push_str(&format!("; {lead}{more}"));
                }
            }
            report.add(
                Finding::problem(SUBJECT, "events", format!("{plugin} {what}"))
                    .about(id.clone())
                    .why("what it holds is estimated")
                    .change(endpoint["likelyCause"].as_str().unwrap_or_default()),
            );
        }
    }
}
