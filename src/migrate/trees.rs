use serde_json::{Value as Json, json};

use super::Step;
use super::edit::{add_item, remove_item, replace};
use super::pipeline::Pipeline;
use super::source::{Source, Tree};

const TREE: &str = "decision-tree-filter";
/// Filters that keep something of whatever they are given.
const NEVER_EMPTY: [&str; 3] =
    ["least-kv-cache-filter", "least-queue-filter", "utilization-detector"];

/// A tree that is a row of filters, as that row in the profiles that name it.
pub(super) fn chain(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    pipeline.of_type(TREE).find_map(|plugin| {
        let filters = row(&plugin.parameters?.json, pipeline)?;
        let (first, others) = filters.split_first()?;
        let mut uses = 0;
        let mut edits = Vec::new();
        for steps in pipeline.profiles.iter().filter_map(|profile| profile.get("plugins")) {
            for (index, step) in steps.items().iter().enumerate() {
                let Some(name) = step.get("pluginRef").filter(|n| n.str() == Some(plugin.name))
                else {
                    continue;
                };
                uses += 1;
                edits.push(Some(replace(name, first)));
                for other in others {
                    let step = json!({ "pluginRef": other });
                    edits.push(add_item(source.text, steps, index, &step));
                }
            }
        }
        // Named by another tree, or by nobody, it stays.
        let named = pipeline.references.iter().filter(|r| r.name == plugin.name).count();
        if uses == 0 || named != uses || pipeline.plugins.len() == 1 {
            return None;
        }
        edits.push(remove_item(source.text, pipeline.list?, plugin.index));
        let row = filters.join(", ");
        Step::new(
            format!("{}: its filters in a row, which keep the same: {row}", plugin.place()),
            edits,
        )
    })
}

/// The filters of a tree that keeps what they keep one after the other.
fn row(tree: &Json, pipeline: &Pipeline<'_>) -> Option<Vec<String>> {
    let part = |name: &str| {
        let map = tree.as_object()?;
        let found = map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    };
    let mut filters = node(part("current")?, pipeline)?;
    if part("nextOnFailure").is_some() {
        return None;
    }
    let keeps_some = |name: &String| {
        let plugin = pipeline.named(name).and_then(|plugin| plugin.plugin_type);
        plugin.is_some_and(|found| NEVER_EMPTY.contains(&found.name))
    };
    let next = match (part("nextOnSuccess"), part("nextOnSuccessOrFailure")) {
        (next, None) => next,
        // Where nothing is ever left there is no failure to go on from.
        (None, next) if filters.iter().all(keeps_some) => next,
        _ => return None,
    };
    if let Some(next) = next {
        filters.extend(node(next, pipeline)?);
    }
    Some(filters)
}

fn node(node: &Json, pipeline: &Pipeline<'_>) -> Option<Vec<String>> {
    let map = node.as_object()?;
    let find = |name: &str| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    match (find("pluginRef"), find("decisionTree")) {
        (Some((_, name)), None) => {
            let name = name.as_str()?;
            let plugin = pipeline.named(name)?;
            match plugin.plugin_type {
                Some(found) if found.name == TREE => {
                    row(&plugin.parameters.map(|p: &Tree| p.json.clone())?, pipeline)
                }
                _ => Some(vec![name.to_owned()]),
            }
        }
        (None, Some((_, tree))) => row(tree, pipeline),
        _ => None,
    }
}
