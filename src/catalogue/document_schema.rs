use serde_json::{Value, json};

use super::schema::DURATION;
use crate::loader::{API_VERSIONS, FEATURE_GATES, KIND};
use crate::plugins::Part;

/// The document around the plugins, each of which is a `plugin`. The loader's reader of it is
/// written by hand, and so is this; a test holds one against the other.
pub(super) fn document(plugin: Value) -> Value {
    let mut versions = API_VERSIONS.to_vec();
    // What is missing or empty is taken for its own.
    versions.push("");
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": KIND,
        "type": "object",
        "additionalProperties": false,
        "not": { "required": ["data", "dataLayer"] },
        "properties": {
            "apiVersion": { "enum": versions },
            "kind": { "enum": [KIND, ""] },
            "featureGates": {
                "description": "Gates, each `name` or `name=true`.",
                "type": ["array", "null"],
                "items": { "type": "string", "pattern": gates(), "examples": FEATURE_GATES },
            },
            "plugins": list("The plugins, in any order.", plugin),
            "schedulingProfiles": list(
                "Filters, scorers and a picker; without profiles one of all plugins.",
                profile(),
            ),
            "dataLayer": data_layer(),
            "data": old(data_layer(), "dataLayer"),
            "flowControl": flow_control(),
            "requestHandler": section("How requests are read.", json!({
                "parsers": list("Parsers; of two that fit the first.", reference(Part::Parser)),
            })),
            "parser": old(optional_reference(Part::Parser), "requestHandler.parsers"),
            "saturationDetector": old(json!({
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "pluginRef": name("saturation detector"),
                    "queueDepthThreshold": { "type": ["integer", "null"] },
                    "kvCacheUtilThreshold": { "type": ["number", "null"] },
                    "metricsStalenessThreshold": duration("age at which metrics do not count"),
                },
            }), "flowControl.saturationDetector"),
        },
    })
}

fn gates() -> String {
    format!(
        "^({})(=[ ]*([tTfF01]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])[ ]*)?$",
        FEATURE_GATES.join("|")
    )
}

fn section(description: &str, properties: Value) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn list(description: &str, items: Value) -> Value {
    json!({ "description": description, "type": ["array", "null"], "items": items })
}

/// The same, and what to write instead.
fn old(mut schema: Value, instead: &str) -> Value {
    schema["deprecated"] = true.into();
    schema["description"] = format!("Of older versions; write {instead}.").into();
    schema
}

fn name(role: &str) -> Value {
    json!({ "type": ["string", "null"], "description": format!("The name of a {role}.") })
}

fn duration(description: &str) -> Value {
    json!({ "type": ["string", "null"], "pattern": DURATION, "description": description })
}

/// A mapping that names a plugin.
fn reference(part: Part) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["pluginRef"],
        "properties": { "pluginRef": reference_name(part.name()) },
    })
}

fn reference_name(role: &str) -> Value {
    let description = format!("The name of a {role}.");
    json!({ "type": "string", "minLength": 1, "description": description })
}

fn optional_reference(part: Part) -> Value {
    let mut schema = reference(part);
    schema["type"] = json!(["object", "null"]);
    schema
}

fn profile() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
            "name": { "type": "string", "minLength": 1 },
            "plugins": list("Its steps, in this order.", json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["pluginRef"],
                "properties": {
                    "pluginRef": reference_name("filter, scorer or picker"),
                    "weight": {
                        "type": ["number", "null"],
                        "default": 1,
                        "description": "By what a scorer's scores are multiplied.",
                    },
                },
            })),
        },
    })
}

fn data_layer() -> Value {
    section(
        "What endpoints are asked, and where they come from.",
        json!({
            "injectDefaults": {
                "type": ["boolean", "null"],
                "default": true,
                "description": "Add a source of metrics where none is named.",
            },
            "sources": list("Sources of what is known of endpoints.", json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["pluginRef"],
                "properties": {
                    "pluginRef": reference_name("data source"),
                    "extractors": list("What reads it.", reference(Part::Extractor)),
                },
            })),
            "discovery": section("Where endpoints come from, if not from Kubernetes.", json!({
                "pluginRef": name("discovery plugin"),
                "endpoints": optional_reference(Part::Discovery),
            })),
            "crossReplicaSyncInterval": duration("has no effect: replicas exchange no state"),
        }),
    )
}

fn flow_control() -> Value {
    section(
        "Who waits while the pool is saturated; the feature gate flowControl turns it on.",
        json!({
            "maxBytes": quantity("bytes of all waiting requests"),
            "maxRequests": quantity("waiting requests"),
            "defaultRequestTTL": duration("how long a request waits; 0s: for ever; 60s without it"),
            "noEndpointRequestTTL": duration("the same while there is no endpoint"),
            "defaultPriorityBand": band(false),
            "defaultNegativePriorityBand": band(false),
            "priorityBands": list("Bands of priorities.", band(true)),
            "usageLimitPolicyPluginRef": name("usage limit policy"),
            "enableEviction": {
                "type": ["boolean", "null"],
                "default": false,
                "description": "End running requests of negative priority for the sake of others.",
            },
            "saturationDetector": section("What says that the pool is full.", json!({
                "pluginRef": name("saturation detector"),
            })),
        }),
    )
}

fn band(is_listed: bool) -> Value {
    let kinds = if is_listed { json!("object") } else { json!(["object", "null"]) };
    json!({
        "type": kinds,
        "additionalProperties": false,
        "properties": {
            "priority": { "type": ["integer", "null"] },
            "maxBytes": quantity("bytes of its waiting requests; 1e9 without it"),
            "maxRequests": quantity("its waiting requests; 5000 without it"),
            "defaultRequestTTL": duration("how long its requests wait"),
            "fairnessPolicyRef": name("fairness policy"),
            "orderingPolicyRef": name("ordering policy"),
        },
    })
}

fn quantity(description: &str) -> Value {
    json!({
        "anyOf": [
            { "type": "null" },
            { "type": "number", "minimum": 0 },
            {
                "type": "string",
                "pattern": r"^([0-9]+\.?[0-9]*|\.[0-9]+)(k|M|G|T|Ki|Mi|Gi|Ti|[eE][0-9]+)?[bB]?$",
            },
        ],
        "description": description,
    })
}
