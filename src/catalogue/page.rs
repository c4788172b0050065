use serde_json::{Map, Value, json};

use super::columns::columns;
use super::listing::{head_json, parts, remarks};
use super::rows::{Row, rows};
use crate::config::parse;
use crate::plugins::{Kind, Parameter, Parameters, PluginType, Status};

/// A heading, and which rows stand under it.
type Group = (&'static str, fn(&Row<'_>) -> bool);

/// All about one plugin type.
pub fn page(plugin: &PluginType) -> String {
    let about = &plugin.about;
    let mut text = format!("{}: {}{}\n", plugin.name, about.summary, remarks(plugin));
    let mut facts = parts(plugin);
    facts.push(about.stability.name());
    text.push_str(&format!("\n  {}", facts.join(", ")));
    if !about.since.is_empty() {
        text.push_str(&format!(", since {}", about.since));
    }
    text.push('\n');
    if !about.formula.is_empty() {
        text.push_str(&format!("  {}\n", about.formula));
    }
    let all = rows(about.parameters.listed());
    if all.is_empty() {
        text.push_str(match about.parameters {
            Parameters::Ignored => "\nNo parameters; those that it is given are ignored.\n",
            Parameters::Listed(_) => "\nNo parameters.\n",
        });
    }
    let groups: [Group; 3] = [
        ("PARAMETER", |row| row.status == Status::Current),
        ("OF OLDER VERSIONS", |row| matches!(row.status, Status::Older(_))),
        ("WITHOUT EFFECT", |row| row.status.without_effect().is_some()),
    ];
    for (heading, belongs) in groups {
        let mut lines = vec![[heading, "VALUE", "DEFAULT", "MEANING"].map(str::to_owned)];
        for row in all.iter().filter(|row| belongs(row)) {
            let default = row.default().to_owned();
            lines.push([row.path.clone(), row.value(), default, row.meaning()]);
        }
        if lines.len() > 1 {
            text.push('\n');
            text.push_str(&columns(&lines));
        }
    }
    text
}

/// All about one plugin type, as JSON.
pub fn page_json(plugin: &PluginType) -> Value {
    let mut page = head_json(plugin);
    let parameters: Vec<Value> =
        plugin.about.parameters.listed().iter().map(parameter_json).collect();
    if let Value::Object(page) = &mut page {
        page.insert("parameters".into(), parameters.into());
    }
    page
}

fn parameter_json(p: &Parameter) -> Value {
    let mut json = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            json.insert(name.to_owned(), value);
        }
    };
    add("name", p.name.into());
    add("value", p.kind.name().into());
    match p.kind {
        Kind::OneOf(names) => add("names", json!(names)),
        Kind::Plugin(role) => add("plugin", role.into()),
        _ => {}
    }
    let fields: Vec<Value> = p.kind.fields().iter().map(parameter_json).collect();
    if !fields.is_empty() {
        add("fields", fields.into());
    }
    add("unit", if p.unit.is_empty() { Value::Null } else { p.unit.into() });
    add("default", p.default.map_or(Value::Null, value));
    for (bound, closed, open) in
        [(p.range.min, "minimum", "above"), (p.range.max, "maximum", "below")]
    {
        if let Some(bound) = bound {
            add(if bound.inclusive { closed } else { open }, bound.value.into());
        }
    }
    add("required", p.is_required.into());
    add("meaning", p.meaning.into());
    match p.status {
        Status::Current => {}
        Status::Older(versions) => add("olderVersions", versions.into()),
        Status::WithoutEffect(why) | Status::Dropped(why) => add("withoutEffect", why.into()),
    }
    Value::Object(json)
}

/// A value that is declared in YAML.
pub(super) fn value(yaml: &str) -> Value {
    // A test reads every declared value.
    parse(yaml).ok().flatten().map_or(Value::Null, |node| node.to_json())
}
