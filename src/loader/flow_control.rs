use super::reference::{Reference, reference};
use crate::config::{Fields, Value, parse_quantity};

/// Checks the `flowControl` section as strictly as the reference (llm-d-router main at
/// ebab6879) and returns its saturation detector: all that counts while the gate is off. What
/// would be out of range were it on is no more than a warning.
pub(super) fn read(mut section: Fields<'_>) -> Option<Reference> {
    let only_detector = section.is_absent() || {
        let mut ignored = false;
        for name in ["maxBytes", "maxRequests"] {
            ignored |= quantity(&mut section, name);
        }
        for name in ["defaultRequestTTL", "noEndpointRequestTTL"] {
            ignored |= section.node(name).is_some();
            section.duration(name);
        }
        for name in ["defaultPriorityBand", "defaultNegativePriorityBand"] {
            ignored |= section.node(name).is_some();
            band(section.nested(name));
        }
        ignored |= section.node("priorityBands").is_some();
        bands(&mut section);
        ignored |= section.node("usageLimitPolicyPluginRef").is_some();
        section.string("usageLimitPolicyPluginRef");
        ignored |= section.node("enableEviction").is_some();
        section.bool("enableEviction");
        !ignored
    };
    if !only_detector {
        section.diagnostics().warning(
            section.at(),
            section.path(),
            "has no effect, apart from saturationDetector: the feature gate flowControl is off",
        );
    }
    let mut detector = section.nested("saturationDetector");
    // An empty name, or none, asks for the default.
    let is_named = detector.node("pluginRef").is_some_and(|n| n.as_str() != Some(""));
    let found = is_named.then(|| reference(&mut detector)).flatten();
    detector.finish();
    section.finish();
    found
}

fn bands(section: &mut Fields<'_>) {
    let mut priorities = Vec::new();
    for mut fields in section.each("priorityBands") {
        let priority = fields.int("priority").unwrap_or_default();
        if priorities.contains(&priority) {
            fields.warning("priority", format!("priority {priority} has two bands"));
        }
        priorities.push(priority);
        band(fields);
    }
}

fn band(mut fields: Fields<'_>) {
    fields.int("priority");
    quantity(&mut fields, "maxBytes");
    quantity(&mut fields, "maxRequests");
    fields.string("fairnessPolicyRef");
    fields.string("orderingPolicyRef");
    fields.finish();
}

/// Checks a quantity such as `500` or `1Gi`; true where it is given.
fn quantity(fields: &mut Fields<'_>, name: &'static str) -> bool {
    let Some(node) = fields.node(name) else { return false };
    let (is_quantity, is_negative) = match &node.value {
        Value::Int(i) => (true, *i < 0),
        Value::Float(f) => (true, *f < 0.0),
        Value::Str(text) => match text.strip_prefix('-') {
            Some(size) => (parse_quantity(size).is_some(), true),
            None => (parse_quantity(text).is_some(), false),
        },
        _ => (false, false),
    };
    if !is_quantity {
        fields.error(name, "must be a quantity such as 500 or 1Gi");
    } else if is_negative {
        fields.warning(name, "must not be negative");
    }
    true
}
