use serde_json::{Value, json};

use super::columns::columns;
use crate::plugins::{PluginType, types};

/// The plugin types, one a line.
pub fn list() -> String {
    let mut lines =
        vec![["TYPE", "PARTS", "STABILITY", "SINCE", "WHAT IT DOES"].map(str::to_owned)];
    for plugin in types() {
        let about = &plugin.about;
        lines.push([
            plugin.name.to_owned(),
            parts(plugin).join(", "),
            about.stability.name().to_owned(),
            about.since.to_owned(),
            format!("{}{}", about.summary, remarks(plugin)),
        ]);
    }
    columns(&lines)
}

/// The plugin types as a JSON list.
pub fn list_json() -> Value {
    types().iter().map(head_json).collect()
}

/// What a type is, without its parameters.
pub(super) fn head_json(plugin: &PluginType) -> Value {
    let about = &plugin.about;
    let or_null = |text: &'static str| (!text.is_empty()).then_some(text);
    json!({
        "type": plugin.name,
        "oldNames": plugin.aliases,
        "parts": parts(plugin),
        "stability": about.stability.name(),
        "successor": about.stability.successor(),
        "since": or_null(about.since),
        "summary": about.summary,
        "formula": or_null(about.formula),
    })
}

pub(super) fn parts(plugin: &PluginType) -> Vec<&'static str> {
    plugin.about.parts.iter().map(|part| part.name()).collect()
}

/// ` (once kv-cache-scorer; use x instead)`, where there is such a thing to say.
pub(super) fn remarks(plugin: &PluginType) -> String {
    let once = plugin.aliases.iter().map(|name| format!("once {name}"));
    let successor = plugin.about.stability.successor();
    let instead = successor.map(|name| format!("use {name} instead"));
    let remarks: Vec<String> = once.chain(instead).collect();
    if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join("; ")) }
}
