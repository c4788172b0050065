use std::time::Duration;

use super::reference::{Reference, reference};
use crate::config::{Fields, Value, parse_quantity};

/// What the `flowControl` section says, before defaulting (llm-d-router main at ebab6879; the
/// time of each band as in v0.11.0).
#[derive(Debug, Default)]
pub(super) struct FlowControlSection {
    /// `None`, or 0: without limit.
    pub max_bytes: Option<u64>,
    pub max_requests: Option<u64>,
    pub default_ttl: Option<Duration>,
    pub no_endpoint_ttl: Option<Duration>,
    pub bands: Vec<(i32, BandSection)>,
    pub default_band: Option<BandSection>,
    pub default_negative_band: Option<BandSection>,
    pub usage_limit: Option<Reference>,
    pub eviction: bool,
    /// All that counts while the feature gate is off.
    pub detector: Option<Reference>,
}

/// One band, or the template for some.
#[derive(Debug, Default)]
pub(super) struct BandSection {
    /// `None`, or 0: the default.
    pub max_bytes: Option<u64>,
    pub max_requests: Option<u64>,
    pub ttl: Option<Duration>,
    pub fairness: Option<Reference>,
    pub ordering: Option<Reference>,
}

/// Reads the section as strictly as the reference. While the gate is off, what would be out of
/// range were it on is no more than a warning.
pub(super) fn read(mut section: Fields<'_>, is_on: bool) -> FlowControlSection {
    let reader = Reader { is_on };
    let mut found = FlowControlSection::default();
    if section.is_absent() {
        section.finish();
        return found;
    }
    let queueing = [
        "maxBytes",
        "maxRequests",
        "defaultRequestTTL",
        "noEndpointRequestTTL",
        "defaultPriorityBand",
        "defaultNegativePriorityBand",
        "priorityBands",
        "usageLimitPolicyPluginRef",
        "enableEviction",
    ];
    // Every one is asked for: what is not would count as unknown.
    let given = queueing.map(|name| section.node(name).is_some()).contains(&true);
    found.max_bytes = reader.quantity(&mut section, "maxBytes");
    found.max_requests = reader.quantity(&mut section, "maxRequests");
    found.default_ttl = section.duration("defaultRequestTTL");
    found.no_endpoint_ttl = section.duration("noEndpointRequestTTL");
    found.default_band = reader.template(&mut section, "defaultPriorityBand");
    found.default_negative_band = reader.template(&mut section, "defaultNegativePriorityBand");
    found.bands = reader.bands(&mut section);
    found.usage_limit = plugin_name(&mut section, "usageLimitPolicyPluginRef");
    found.eviction = section.bool("enableEviction").unwrap_or(false);
    if given && !is_on {
        section.diagnostics().warning(
            section.at(),
            section.path(),
            "has no effect, apart from saturationDetector: the feature gate flowControl is off",
        );
    }
    let mut detector = section.nested("saturationDetector");
    // An empty name, or none, asks for the default.
    let is_named = detector.node("pluginRef").is_some_and(|n| n.as_str() != Some(""));
    found.detector = is_named.then(|| reference(&mut detector)).flatten();
    detector.finish();
    section.finish();
    found
}

struct Reader {
    is_on: bool,
}

impl Reader {
    /// Out of range: a mistake if it counts.
    fn complain(&self, fields: &Fields<'_>, name: &str, message: impl Into<String>) {
        if self.is_on {
            fields.error(name, message);
        } else {
            fields.warning(name, message);
        }
    }

    fn bands(&self, section: &mut Fields<'_>) -> Vec<(i32, BandSection)> {
        let mut bands: Vec<(i32, BandSection)> = Vec::new();
        for mut fields in section.each("priorityBands") {
            let given = fields.int("priority").unwrap_or_default();
            let priority = i32::try_from(given).unwrap_or_else(|_| {
                self.complain(&fields, "priority", "must be a number of 32 bits");
                0
            });
            if bands.iter().any(|(known, _)| *known == priority) {
                self.complain(&fields, "priority", format!("priority {priority} has two bands"));
            }
            bands.push((priority, self.band(fields)));
        }
        bands
    }

    fn template(&self, section: &mut Fields<'_>, name: &'static str) -> Option<BandSection> {
        let mut fields = section.nested(name);
        if fields.is_absent() {
            fields.finish();
            return None;
        }
        // Allowed, and without a meaning for a template.
        fields.int("priority");
        Some(self.band(fields))
    }

    fn band(&self, mut fields: Fields<'_>) -> BandSection {
        let band = BandSection {
            max_bytes: self.quantity(&mut fields, "maxBytes"),
            max_requests: self.quantity(&mut fields, "maxRequests"),
            ttl: fields.duration("defaultRequestTTL"),
            fairness: plugin_name(&mut fields, "fairnessPolicyRef"),
            ordering: plugin_name(&mut fields, "orderingPolicyRef"),
        };
        fields.finish();
        band
    }

    /// A quantity such as `500` or `1Gi`; `None` also where it is 0, which stands for the
    /// default everywhere.
    fn quantity(&self, fields: &mut Fields<'_>, name: &'static str) -> Option<u64> {
        let node = fields.node(name)?;
        let (size, is_negative) = match &node.value {
            Value::Int(i) => (Some(i.unsigned_abs()), *i < 0),
            Value::Float(f) => (Some(f.abs() as u64), *f < 0.0),
            Value::Str(text) => match text.strip_prefix('-') {
                Some(size) => (parse_quantity(size), true),
                None => (parse_quantity(text), false),
            },
            _ => (None, false),
        };
        if size.is_none() {
            fields.error(name, "must be a quantity such as 500 or 1Gi");
        } else if is_negative {
            self.complain(fields, name, "must not be negative");
        }
        size.filter(|size| *size > 0 && !is_negative)
    }
}

/// A plugin's name as a plain string; an empty one asks for the default.
fn plugin_name(fields: &mut Fields<'_>, name: &'static str) -> Option<Reference> {
    let at = fields.node(name).map(|node| node.at);
    let path = fields.field(name);
    let name = fields.string(name).filter(|name| !name.is_empty())?;
    Some(Reference { name: name.to_owned(), at, path })
}
