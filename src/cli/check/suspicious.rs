//! What a configuration may say and hardly means.

use crate::config::{Diagnostics, Node, Value, parse};

/// Sections that are the same when left out.
const SECTIONS: [&str; 8] = [
    "plugins",
    "schedulingProfiles",
    "featureGates",
    "dataLayer",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
];

/// Adds warnings about the configuration in `text`, where the loader found nothing to say.
pub(super) fn warn(text: &str, diagnostics: &Diagnostics) {
    let Ok(Some(root)) = parse(text) else { return };
    for section in SECTIONS {
        if let Some(node) = root.get(section)
            && node.value == Value::Null
        {
            diagnostics.warning(
                Some(node.at),
                section,
                "is null, which says nothing: as if absent",
            );
        }
    }
    let said: Vec<_> = diagnostics.findings().iter().filter_map(|finding| finding.at).collect();
    negative_thresholds(&root, "", &mut |node, path| {
        if !said.contains(&node.at) {
            let message = "is negative: no measurement lies below it";
            diagnostics.warning(Some(node.at), path, message);
        }
    });
}

fn negative_thresholds(node: &Node, path: &str, tell: &mut impl FnMut(&Node, &str)) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", key.name);
                let is_threshold = key.name.to_ascii_lowercase().contains("threshold");
                let is_negative = match value.value {
                    Value::Int(n) => n < 0,
                    Value::Float(n) => n < 0.0,
                    _ => false,
                };
                if is_threshold && is_negative {
                    tell(value, &path);
                }
                negative_thresholds(value, &path, tell);
            }
        }
        Value::Seq(items) => {
            for (i, item) in items.iter().enumerate() {
                negative_thresholds(item, &format!("{path}[{i}]"), tell);
            }
        }
        _ => {}
    }
}
