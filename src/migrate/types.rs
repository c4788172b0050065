use serde_json::{Value as Json, json};

use super::Step;
use super::edit::{add_entry, replace, replace_entry};
use super::pipeline::Pipeline;
use super::source::{Source, Tree};

/// A type under its name of today. A plugin that was called as its type goes by that name too,
/// unless another one has it.
pub(super) fn renamed(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let is_old = |p: &&super::pipeline::Plugin<'_>| {
        p.plugin_type.is_some_and(|found| found.name != p.type_name)
    };
    let plugin = pipeline.plugins.iter().find(is_old)?;
    let today = plugin.plugin_type?.name;
    let mut edits = vec![Some(replace(plugin.tree.get("type")?, today))];
    if plugin.is_unnamed {
        if pipeline.named(today).is_some() {
            edits.push(add_entry(source.text, plugin.tree, "name", &json!(plugin.name)));
        } else {
            edits.extend(pipeline.rename(plugin.name, today, &[]));
        }
    }
    let old = plugin.type_name;
    Step::new(format!("{}.type: {today}, the name of {old} today", plugin.place()), edits)
}

/// `by-label` as a label selector, where that keeps the same endpoints.
pub(super) fn by_label(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let plugin = pipeline.of_type("by-label").find(|p| selector(p.parameters).is_some())?;
    let selector = selector(plugin.parameters)?;
    let today = "label-selector-filter";
    let (index, _) = plugin.tree.entry("parameters")?;
    let mut edits = vec![
        Some(replace(plugin.tree.get("type")?, today)),
        replace_entry(source.text, plugin.tree, index, "parameters", &selector),
    ];
    if plugin.is_unnamed {
        edits.push(add_entry(source.text, plugin.tree, "name", &json!(plugin.name)));
    }
    Step::new(format!("{}: {today} in place of by-label", plugin.place()), edits)
}

/// The selector that keeps what a `by-label` keeps. None keeps endpoints with some values and
/// those without the label.
fn selector(parameters: Option<&Tree>) -> Option<Json> {
    let parameters = parameters?;
    let label = parameters.given("label")?.as_str()?;
    let values = parameters.given("validValues")?.as_array()?;
    let unlabelled = parameters.given("allowsNoLabel").is_some_and(|given| *given != json!(false));
    let is_usable = |value: &Json| {
        value.as_str().is_some_and(|value| {
            // What a label's value may be, but for the empty one.
            let ends = |c: char| c.is_ascii_alphanumeric();
            value.len() <= 63
                && value.starts_with(ends)
                && value.ends_with(ends)
                && value.chars().all(|c| ends(c) || "-_.".contains(c))
        })
    };
    if unlabelled || values.is_empty() || !values.iter().all(is_usable) {
        return None;
    }
    let expression = json!({ "key": label, "operator": "In", "values": values });
    Some(json!({ "matchExpressions": [expression] }))
}
