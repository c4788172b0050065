use serde_json::{Value as Json, json};

use super::Step;
use super::edit::{Edit, add_entry, add_item, remove_entry, remove_item, replace, replace_entry};
use super::pipeline::Pipeline;
use super::source::{Source, Tree};
use crate::loader::{API_VERSION, API_VERSIONS, KIND, REMOVED_GATES};

/// The group of all versions before llm-d v0.9.
const OLD_API_VERSION: &str = API_VERSIONS[1];

/// An entry before all others.
fn add_first(source: &Source<'_>, name: &str, value: &str) -> Option<Edit> {
    let first = source.root.entries().first()?;
    let at = first.key.start;
    let line = source.text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let before = source.text.get(line..at)?;
    before
        .trim()
        .is_empty()
        .then(|| Edit { at: at..at, with: format!("{name}: {value}\n{before}") })
}

pub(super) fn api_version(source: &Source<'_>, _: &Pipeline<'_>) -> Option<Step> {
    match source.root.entry("apiVersion") {
        Some((_, entry)) if entry.value.str() == Some(OLD_API_VERSION) => Step::new(
            format!("apiVersion: {API_VERSION} since llm-d v0.9"),
            [Some(replace(&entry.value, API_VERSION))],
        ),
        Some((index, entry)) if entry.value.json.is_null() || entry.value.str() == Some("") => {
            Step::new(
                format!("apiVersion: {API_VERSION}, which was meant"),
                [replace_entry(
                    source.text,
                    &source.root,
                    index,
                    "apiVersion",
                    &json!(API_VERSION),
                )],
            )
        }
        Some(_) => None,
        None => Step::new(
            format!("apiVersion: {API_VERSION}, which was missing"),
            [add_first(source, "apiVersion", API_VERSION)],
        ),
    }
}

pub(super) fn kind(source: &Source<'_>, _: &Pipeline<'_>) -> Option<Step> {
    let what = format!("kind: {KIND}, which was missing");
    match source.root.entry("kind") {
        Some((index, entry)) if entry.value.json.is_null() || entry.value.str() == Some("") => {
            Step::new(what, [replace_entry(source.text, &source.root, index, "kind", &json!(KIND))])
        }
        Some(_) => None,
        None => Step::new(what, [add_first(source, "kind", KIND)]),
    }
}

/// A gate that is no more: what it turned on always is.
pub(super) fn gate(source: &Source<'_>, _: &Pipeline<'_>) -> Option<Step> {
    let (index, gates) = source.root.entry("featureGates")?;
    let items = gates.value.items();
    let is_gone = |item: &Tree| {
        let gate = item.str().map(|gate| gate.split('=').next().unwrap_or(gate));
        gate.is_some_and(|gate| REMOVED_GATES.contains(&gate))
    };
    let gone = items.iter().position(is_gone)?;
    let edit = match items.len() {
        1 => remove_entry(source.text, &source.root, index),
        _ => remove_item(source.text, &gates.value, gone),
    };
    let name = items.get(gone)?.str()?;
    Step::new(format!("featureGates: {name} is gone, what it turned on is always there"), [edit])
}

/// `data` was the name of `dataLayer` up to GIE v1.4.
pub(super) fn data(source: &Source<'_>, _: &Pipeline<'_>) -> Option<Step> {
    let (_, data) = source.root.entry("data")?;
    if source.root.entry("dataLayer").is_some() {
        return None;
    }
    let edit = Edit { at: data.key.clone(), with: "dataLayer".into() };
    Step::new("dataLayer: the name of data since GIE v1.5", [Some(edit)])
}

/// Puts a value under a section, which may be there or not, in place of an old entry.
fn moved(
    source: &Source<'_>,
    old: usize,
    section: &str,
    name: &str,
    value: &Json,
) -> Option<Vec<Option<Edit>>> {
    let root = &source.root;
    match root.entry(section) {
        None => Some(vec![replace_entry(source.text, root, old, section, &json!({ name: value }))]),
        Some((index, there)) if there.value.json.is_null() => Some(vec![
            remove_entry(source.text, root, old),
            replace_entry(source.text, root, index, section, &json!({ name: value })),
        ]),
        Some((_, there)) => {
            let edit = match there.value.entry(name) {
                Some((index, _)) => replace_entry(source.text, &there.value, index, name, value),
                None => add_entry(source.text, &there.value, name, value),
            };
            Some(vec![remove_entry(source.text, root, old), edit])
        }
    }
}

/// The top-level `parser` of GIE v1.5.
pub(super) fn parser(source: &Source<'_>, _: &Pipeline<'_>) -> Option<Step> {
    let (old, parser) = source.root.entry("parser")?;
    let handler = source.root.get("requestHandler");
    let parsers = handler.and_then(|handler| handler.get("parsers"));
    if parser.value.json.is_null() || parsers.is_some_and(|parsers| !parsers.items().is_empty()) {
        return Step::new(
            "parser: removed, requestHandler.parsers counts",
            [remove_entry(source.text, &source.root, old)],
        );
    }
    let edits = moved(source, old, "requestHandler", "parsers", &json!([parser.value.json]))?;
    Step::new("parser: requestHandler.parsers since llm-d v0.9", edits)
}

/// The top-level `saturationDetector` of GIE v1.5, which names a plugin.
pub(super) fn detector(source: &Source<'_>, _: &Pipeline<'_>) -> Option<Step> {
    let (old, detector) = source.root.entry("saturationDetector")?;
    if detector.value.json.is_null() {
        let edit = remove_entry(source.text, &source.root, old);
        return Step::new("saturationDetector: removed, it says nothing", [edit]);
    }
    let name = detector.value.get("pluginRef")?;
    if detector.value.entries().len() != 1 {
        return None;
    }
    let there = source.root.get("flowControl").and_then(|f| f.get("saturationDetector"));
    let named = there.and_then(|there| there.get("pluginRef")).and_then(Tree::str);
    if named.is_some_and(|name| !name.is_empty()) {
        return Step::new(
            "saturationDetector: removed, flowControl.saturationDetector counts",
            [remove_entry(source.text, &source.root, old)],
        );
    }
    let value = json!({ "pluginRef": name.json });
    let edits = moved(source, old, "flowControl", "saturationDetector", &value)?;
    Step::new("saturationDetector: flowControl.saturationDetector since llm-d v0.9", edits)
}

/// The thresholds that stood there in GIE v1.2 to v1.4 make a plugin. Without profiles a detector
/// among the plugins is a filter too, and would decide.
pub(super) fn thresholds(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let (old, thresholds) = source.root.entry("saturationDetector")?;
    let list = pipeline.list?;
    let last = list.items().len().checked_sub(1)?;
    let is_free = pipeline.named("utilization-detector").is_none();
    if pipeline.profiles.is_empty() || !is_free || thresholds.value.entry("pluginRef").is_some() {
        return None;
    }
    let mut usable = thresholds.value.json.as_object()?.clone();
    usable.retain(|name, value| match name.as_str() {
        "queueDepthThreshold" => value.as_i64().is_some_and(|depth| depth > 0),
        "kvCacheUtilThreshold" => value.as_f64().is_some_and(|usage| usage > 0.0 && usage < 1.0),
        _ => value.as_str().is_some_and(|age| {
            crate::config::parse_duration(age).is_some_and(|age| !age.is_zero())
        }),
    });
    let plugin = match usable.is_empty() {
        true => json!({ "type": "utilization-detector" }),
        false => json!({ "type": "utilization-detector", "parameters": usable }),
    };
    Step::new(
        "saturationDetector: a plugin of type utilization-detector since GIE v1.5",
        [remove_entry(source.text, &source.root, old), add_item(source.text, list, last, &plugin)],
    )
}
