use super::rows::{Row, rows};
use crate::plugins::{Part, PluginType, Stability, Status, types};

/// The tables of `docs/plugins.md` for the types that are listed under one of these parts, those of
/// older versions alone, or without them: what each does, then all their parameters.
pub fn tables(parts: &[Part], removed: bool) -> String {
    let is_here = |plugin: &&PluginType| {
        let first = plugin.about.parts.first();
        let is_removed = matches!(plugin.about.stability, Stability::Removed(_));
        first.is_some_and(|part| parts.contains(part)) && is_removed == removed
    };
    let here: Vec<&PluginType> = types().iter().filter(is_here).collect();
    let mut text = String::from("\n| type | since | what it does |\n|---|---|---|\n");
    for plugin in &here {
        let about = &plugin.about;
        let old = plugin.aliases.iter().map(|name| format!(" (`{name}`)")).collect::<String>();
        let mut what = vec![about.summary.to_owned()];
        if !about.formula.is_empty() {
            what.push(about.formula.to_owned());
        }
        match (about.stability, about.stability.successor()) {
            (Stability::Experimental, _) => what.push("experimental".into()),
            (_, Some(successor)) => what.push(format!("use {successor} instead")),
            _ => {}
        }
        let since = if about.since.is_empty() { "ours" } else { about.since };
        let what = cell(&what.join(". "));
        text.push_str(&format!("| `{}`{old} | {since} | {what} |\n", plugin.name));
    }
    let mut parameters = String::new();
    for plugin in &here {
        let mut name = format!("`{}`", plugin.name);
        let all = rows(plugin.about.parameters.listed());
        for row in all.iter().filter(|row| !is_noise(row)) {
            let default = match row.default() {
                "" => String::new(),
                "required" => "required".to_owned(),
                default => format!("`{default}`"),
            };
            let [value, meaning] = [row.value(), row.meaning()].map(|text| cell(&text));
            let path = &row.path;
            parameters
                .push_str(&format!("| {name} | `{path}` | {value} | {default} | {meaning} |\n"));
            name.clear();
        }
    }
    if !parameters.is_empty() {
        text.push_str(
            "\n| type | parameter | value | default | meaning |\n|---|---|---|---|---|\n",
        );
        text.push_str(&parameters);
    }
    text.push('\n');
    text
}

/// What lies in something of older versions, or without effect: `epp plugins TYPE` has it.
fn is_noise(row: &Row<'_>) -> bool {
    row.status != Status::Current && row.path.contains('.')
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
