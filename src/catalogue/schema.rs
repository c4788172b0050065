use serde_json::{Map, Value, json};

use super::document_schema::document;
use super::page::value;
use crate::plugins::{Kind, Parameter, Parameters, PluginType, Status, types};

/// Durations in Go's notation.
pub(super) const DURATION: &str = r"^(0|\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// A JSON Schema (draft 7, which editors know) of an `EndpointPickerConfig` as it is read here:
/// those of all versions, and every plugin type with its parameters.
///
/// It knows names, kinds of values and ranges. What only all of a document tells, such as whether
/// a name that is referred to is there, `epp check` knows.
pub fn schema() -> Value {
    let mut schema = document(plugin());
    if let Value::Object(schema) = &mut schema {
        let of = |plugin: &PluginType| (plugin.name.to_owned(), parameters(plugin));
        schema.insert("definitions".into(), Value::Object(types().iter().map(of).collect()));
    }
    schema
}

/// One entry of `plugins`.
fn plugin() -> Value {
    let mut names = Vec::new();
    let mut descriptions = Vec::new();
    let mut cases = Vec::new();
    for plugin in types() {
        let about = &plugin.about;
        names.push(plugin.name);
        descriptions.push(about.summary.to_owned());
        for old in plugin.aliases {
            names.push(old);
            descriptions.push(format!("the old name of {}", plugin.name));
        }
        let all: Vec<&str> = plugin.aliases.iter().copied().chain([plugin.name]).collect();
        let required = required(about.parameters.listed());
        let mut then = json!({
            "properties": {
                "parameters": { "$ref": format!("#/definitions/{}", plugin.name) },
            },
        });
        if !required.is_empty() {
            then["required"] = json!(["parameters"]);
        }
        cases.push(json!({
            "if": { "properties": { "type": { "enum": all } }, "required": ["type"] },
            "then": then,
        }));
    }
    json!({
        "type": "object",
        "description": "A plugin.",
        "required": ["type"],
        "additionalProperties": false,
        "properties": {
            "type": { "enum": names, "enumDescriptions": descriptions },
            "name": {
                "type": ["string", "null"],
                "description": "What others call it; without one, its type.",
            },
            "parameters": { "type": ["object", "null"] },
        },
        "allOf": cases,
    })
}

/// The parameters of one type.
fn parameters(plugin: &PluginType) -> Value {
    let about = &plugin.about;
    let mut schema = match about.parameters {
        Parameters::Ignored => json!({ "type": ["object", "null"] }),
        Parameters::Listed(listed) => mapping(listed, plugin.name),
    };
    let mut description = about.summary.to_owned();
    if !about.formula.is_empty() {
        description.push_str(". ");
        description.push_str(about.formula);
    }
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".into(), description.into());
    }
    schema
}

fn mapping(parameters: &[Parameter], plugin_type: &str) -> Value {
    let properties: Map<String, Value> = parameters
        .iter()
        .map(|p| (p.name.to_owned(), described(p, kind(p, plugin_type))))
        .collect();
    let required = required(parameters);
    // Null is as good as absent, unless something has to be there.
    let kinds = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    json!({
        "type": kinds,
        "properties": properties,
        "additionalProperties": false,
        "required": required,
    })
}

/// What has to be there whatever stands beside it.
fn required(parameters: &[Parameter]) -> Vec<&'static str> {
    let has_alternative = |name: &str| {
        let instead = |p: &Parameter| value(p.beside).get(name).is_some_and(Value::is_null);
        parameters.iter().any(instead)
    };
    let required = parameters.iter().filter(|p| p.is_required && !has_alternative(p.name));
    required.map(|p| p.name).collect()
}

fn kind(p: &Parameter, plugin_type: &str) -> Value {
    if p.status.without_effect().is_some() {
        return json!({});
    }
    match p.kind {
        Kind::Integer => json!({ "type": ["integer", "null"] }),
        Kind::Number => json!({ "type": ["number", "null"] }),
        Kind::Boolean => json!({ "type": ["boolean", "null"] }),
        Kind::Duration => json!({ "type": ["string", "null"], "pattern": DURATION }),
        Kind::Text | Kind::Plugin(_) => json!({ "type": ["string", "null"] }),
        Kind::OneOf(names) => {
            let names = names.iter().map(|name| Value::from(*name)).chain([Value::Null]);
            json!({ "enum": names.collect::<Vec<_>>() })
        }
        Kind::Texts => json!({ "type": ["array", "null"], "items": { "type": "string" } }),
        Kind::TextMap => {
            json!({ "type": ["object", "null"], "additionalProperties": { "type": "string" } })
        }
        Kind::NumberMap => {
            json!({ "type": ["object", "null"], "additionalProperties": { "type": "number" } })
        }
        Kind::Fields(fields) => mapping(fields, plugin_type),
        Kind::Each(fields) => {
            let mut items = mapping(fields, plugin_type);
            items["type"] = json!("object");
            json!({ "type": ["array", "null"], "items": items })
        }
        Kind::Itself => json!({ "$ref": format!("#/definitions/{plugin_type}") }),
        Kind::Any => json!({}),
    }
}

/// The schema of a value with what is to be said of it.
fn described(p: &Parameter, mut schema: Value) -> Value {
    let Value::Object(fields) = &mut schema else { return schema };
    let mut description = p.meaning.to_owned();
    if !p.unit.is_empty() {
        description.push_str(&format!(" ({})", p.unit));
    }
    match p.status {
        Status::Current => {}
        Status::Older(versions) => {
            description.push_str(&format!("; of {versions}"));
            fields.insert("deprecated".into(), true.into());
        }
        Status::WithoutEffect(why) | Status::Dropped(why) => {
            description.push_str(&format!("; has no effect: {why}"));
            fields.insert("deprecated".into(), true.into());
        }
    }
    fields.insert("description".into(), description.into());
    if let Some(default) = p.default {
        fields.insert("default".into(), value(default));
    }
    let ends = [
        (p.range.min, "minimum", "exclusiveMinimum"),
        (p.range.max, "maximum", "exclusiveMaximum"),
    ];
    for (bound, closed, open) in ends {
        if let Some(bound) = bound {
            let name = if bound.inclusive { closed } else { open };
            fields.insert(name.into(), bound.value.into());
        }
    }
    schema
}
