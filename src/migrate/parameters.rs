use serde_json::json;

use super::Step;
use super::edit::{Edit, remove_entry};
use super::pipeline::{Pipeline, Plugin};
use super::source::{Source, Tree};
use crate::plugins::{Parameter, Status};

/// A mapping of parameters, those that are declared for it, and how to take it away whole: the
/// mapping around it and its place there.
struct Level<'s> {
    tree: &'s Tree,
    declared: &'static [Parameter],
    around: (&'s Tree, usize),
    path: String,
}

/// The parameters of all plugins and what lies in them, the innermost first.
fn levels<'s>(pipeline: &Pipeline<'s>) -> Vec<Level<'s>> {
    let mut found = Vec::new();
    for plugin in &pipeline.plugins {
        let declared = plugin.plugin_type.map(|t| t.about.parameters.listed());
        let entry = plugin.tree.entry("parameters");
        if let (Some(declared), Some((index, entry))) = (declared, entry) {
            let path = format!("{}.parameters", plugin.place());
            let around = (plugin.tree, index);
            add(Level { tree: &entry.value, declared, around, path }, &mut found);
        }
    }
    found
}

fn add<'s>(level: Level<'s>, found: &mut Vec<Level<'s>>) {
    for (index, entry) in level.tree.entries().iter().enumerate() {
        let Some(parameter) = declared(level.declared, &entry.name) else { continue };
        let fields = parameter.kind.fields();
        if !fields.is_empty() {
            let path = format!("{}.{}", level.path, entry.name);
            let around = (level.tree, index);
            add(Level { tree: &entry.value, declared: fields, around, path }, found);
        }
    }
    found.push(level);
}

fn declared<'p>(declared: &'p [Parameter], name: &str) -> Option<&'p Parameter> {
    declared.iter().find(|p| p.name.eq_ignore_ascii_case(name))
}

/// Takes a parameter away, and what lies around it if nothing is left.
pub(super) fn without(
    source: &Source<'_>,
    tree: &Tree,
    index: usize,
    (around, place): (&Tree, usize),
) -> Option<Edit> {
    match tree.entries().len() {
        1 => remove_entry(source.text, around, place),
        _ => remove_entry(source.text, tree, index),
    }
}

/// A name in the case in which it is written.
pub(super) fn spelling(_: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    levels(pipeline).into_iter().find_map(|level| {
        level.tree.entries().iter().find_map(|entry| {
            let parameter = declared(level.declared, &entry.name)?;
            // Of several spellings the last counts: they are left to their owner.
            let same =
                |other: &&super::source::Entry| other.name.eq_ignore_ascii_case(parameter.name);
            if entry.name == parameter.name || level.tree.entries().iter().filter(same).count() > 1
            {
                return None;
            }
            let edit = Edit { at: entry.key.clone(), with: parameter.name.into() };
            Step::new(format!("{}.{}: as it is spelt", level.path, parameter.name), [Some(edit)])
        })
    })
}

/// A parameter without effect that no version takes any more.
pub(super) fn dropped(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    levels(pipeline).into_iter().find_map(|level| {
        level.tree.entries().iter().enumerate().find_map(|(index, entry)| {
            let Status::Dropped(why) = declared(level.declared, &entry.name)?.status else {
                return None;
            };
            let edit = without(source, level.tree, index, level.around);
            Step::new(format!("{}.{}: removed: {why}", level.path, entry.name), [edit])
        })
    })
}

/// `blockSize` where it is called `blockSizeTokens` today.
pub(super) fn renamed(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    const OLD: &str = "blockSize";
    const NEW: &str = "blockSizeTokens";
    levels(pipeline).into_iter().find_map(|level| {
        let of_tokens = declared(level.declared, OLD)?.unit == "tokens";
        if !of_tokens || declared(level.declared, NEW).is_none() {
            return None;
        }
        let (index, entry) = level.tree.parameter(OLD)?;
        let has_new = level.tree.given(NEW).is_some_and(|given| *given != json!(16));
        let counts = entry.value.json.as_i64().is_some_and(|size| size > 0);
        let path = &level.path;
        if has_new || !counts {
            let edit = without(source, level.tree, index, level.around);
            return Step::new(format!("{path}.{OLD}: removed: {NEW} counts"), [edit]);
        }
        let mut edits = vec![Some(Edit { at: entry.key.clone(), with: NEW.into() })];
        if let Some((old, _)) = level.tree.parameter(NEW) {
            edits.push(remove_entry(source.text, level.tree, old));
        }
        Step::new(format!("{path}.{NEW}: the name of {OLD} since llm-d v0.9"), edits)
    })
}

/// `mode` of llm-d v0.2's `prefix-cache-scorer`, and what belongs to the other mode.
pub(super) fn mode(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let estimates = |p: &&Plugin<'_>| p.given("mode").is_none_or(|mode| *mode != "cache_tracking");
    pipeline.of_type("prefix-cache-scorer").filter(estimates).find_map(|plugin| {
        let names = ["mode", "tokenProcessorConfig", "indexerConfig", "kvEventsConfig"];
        let parameters = plugin.parameters?;
        let (index, entry) = names.into_iter().find_map(|name| parameters.parameter(name))?;
        let (place, _) = plugin.tree.entry("parameters")?;
        let edit = without(source, parameters, index, (plugin.tree, place));
        let what = format!("{}.parameters.{}: removed", plugin.place(), entry.name);
        Step::new(format!("{what}: the estimate is what this type does"), [edit])
    })
}
