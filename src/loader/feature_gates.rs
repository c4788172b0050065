use crate::config::{Diagnostics, Node, nearest};

/// The gates of llm-d-router main at ebab6879, and whether each is on by default.
const GATES: [(&str, bool); 2] = [(FLOW_CONTROL, false), (NON_LEADER_DATASTORE, true)];
pub(super) const FLOW_CONTROL: &str = "flowControl";
const NON_LEADER_DATASTORE: &str = "haPopulateNonLeaderDatastore";

/// Gates of earlier versions; what they turned on is part of every configuration today.
pub const REMOVED_GATES: [&str; 3] = ["dataLayer", "prepareDataPlugins", "enableLegacyMetrics"];

/// Every gate that may be set.
pub const FEATURE_GATES: [&str; 5] =
    [FLOW_CONTROL, NON_LEADER_DATASTORE, REMOVED_GATES[0], REMOVED_GATES[1], REMOVED_GATES[2]];

/// Checks the entries of `featureGates`, each `name` or `name=<bool>`, and returns the known
/// ones that were set. Of several entries for one gate the last counts.
pub(super) fn read(entries: &[Node], diagnostics: &Diagnostics) -> Vec<(&'static str, bool)> {
    let mut set: Vec<(&'static str, bool)> = Vec::new();
    for (i, node) in entries.iter().enumerate() {
        let field = format!("featureGates[{i}]");
        let error = |message: String| diagnostics.error(Some(node.at), &field, message);
        let warning = |message: String| diagnostics.warning(Some(node.at), &field, message);
        let Some(entry) = node.as_str() else {
            error(format!("must be a string such as name=true, found {}", node.value.kind()));
            continue;
        };
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, parse_bool(value)),
            None => (entry, Some(true)),
        };
        let Some(value) = value else {
            error(format!("the value of gate '{name}' must be true or false, found '{entry}'"));
            continue;
        };
        if let Some((known, default)) = GATES.into_iter().find(|(gate, _)| *gate == name) {
            match known {
                NON_LEADER_DATASTORE if value != default => warning(format!(
                    "gate '{known}' has no effect: every replica keeps its endpoints up to date"
                )),
                _ => {}
            }
            set.retain(|(gate, _)| *gate != known);
            set.push((known, value));
        } else if REMOVED_GATES.contains(&name) {
            warning(format!("gate '{name}' has no effect: the reference removed it"));
        } else {
            let mut message = format!("feature gate '{name}' is unknown");
            if let Some(near) = nearest(name, GATES.map(|(gate, _)| gate)) {
                message.push_str(&format!("; did you mean '{near}'?"));
            }
            error(message);
        }
    }
    set
}

/// Go's spellings of a boolean, as the reference reads them here.
fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}
