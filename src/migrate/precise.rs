use serde_json::{Map, Value as Json, json};

use super::Step;
use super::edit::{add_entry, add_item, remove_entry, replace, replace_entry};
use super::pipeline::{Pipeline, Plugin};
use super::source::Source;

const OLD: &str = "precise-prefix-cache-scorer";
const PRODUCER: &str = "precise-prefix-cache-producer";
const SCORER: &str = "prefix-cache-scorer";
const NAMES_PRODUCER: &str = "prefixMatchInfoProducerName";

/// A scorer that follows the engines itself: a producer that does, and a scorer that reads it.
pub(super) fn scorer(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let plugin = pipeline.of_type(OLD).next()?;
    let earlier: Vec<_> =
        pipeline.of_type(PRODUCER).filter(|producer| producer.index < plugin.index).collect();
    match earlier.as_slice() {
        [] => apart(source, pipeline, plugin),
        [producer] => reading(source, pipeline, plugin, producer.name),
        // The loader says that this is a mistake.
        _ => None,
    }
}

/// The scorer's name and the edits that have others call it by that.
type Called = (Option<String>, Vec<Option<super::Edit>>);

/// What the scorer is called: as its type, if it was called so and nothing else is.
fn called(pipeline: &Pipeline<'_>, plugin: &Plugin<'_>) -> Called {
    if plugin.is_unnamed && pipeline.named(SCORER).is_none() {
        let roles = [None, Some("prefix scorer")];
        return (None, pipeline.rename(plugin.name, SCORER, &roles));
    }
    (Some(plugin.name.to_owned()), Vec::new())
}

/// There is a producer: its own parameters did not count.
fn reading(
    source: &Source<'_>,
    pipeline: &Pipeline<'_>,
    plugin: &Plugin<'_>,
    producer: &str,
) -> Option<Step> {
    let value = json!({ NAMES_PRODUCER: producer });
    let (name, mut edits) = called(pipeline, plugin);
    edits.push(Some(replace(plugin.tree.get("type")?, SCORER)));
    edits.push(match plugin.tree.entry("parameters") {
        Some((index, _)) => replace_entry(source.text, plugin.tree, index, "parameters", &value),
        None => add_entry(source.text, plugin.tree, "parameters", &value),
    });
    if let Some(name) = name.filter(|_| plugin.is_unnamed) {
        edits.push(add_entry(source.text, plugin.tree, "name", &json!(name)));
    }
    let place = plugin.place();
    Step::new(format!("{place}: {SCORER} that reads {producer}, as {OLD} does since v0.9"), edits)
}

/// There is none: the plugin becomes one, and a scorer follows it.
fn apart(source: &Source<'_>, pipeline: &Pipeline<'_>, plugin: &Plugin<'_>) -> Option<Step> {
    let producer = pipeline.free_name(PRODUCER);
    let (name, mut edits) = called(pipeline, plugin);
    // Who named the scorer for what it found means the producer.
    edits.extend(pipeline.rename(plugin.name, &producer, &[Some("prefix producer")]));
    edits.push(Some(replace(plugin.tree.get("type")?, PRODUCER)));
    match (plugin.tree.entry("name"), producer == PRODUCER) {
        (Some((index, _)), true) => edits.push(remove_entry(source.text, plugin.tree, index)),
        (Some((_, entry)), false) => edits.push(Some(replace(&entry.value, &producer))),
        (None, true) => {}
        (None, false) => {
            edits.push(add_entry(source.text, plugin.tree, "name", &json!(producer)));
        }
    }
    if let Some(parameters) = todays(plugin) {
        let (index, _) = plugin.tree.entry("parameters")?;
        edits.push(replace_entry(source.text, plugin.tree, index, "parameters", &parameters));
    }
    let mut scorer = json!({ "type": SCORER, "parameters": { NAMES_PRODUCER: producer } });
    if let Some(name) = name {
        scorer["name"] = name.into();
    }
    edits.push(add_item(source.text, pipeline.list?, plugin.index, &scorer));
    let place = plugin.place();
    Step::new(format!("{place}: a {PRODUCER} and a {SCORER} that reads it since llm-d v0.9"), edits)
}

/// The parameters with those at their place of today that stood elsewhere; `None` where none did.
fn todays(plugin: &Plugin<'_>) -> Option<Json> {
    let all = plugin.parameters?.json.as_object()?;
    let take = |map: &mut Map<String, Json>, name: &str| {
        let key = map.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        key.and_then(|key| map.remove(&key)).filter(|value| !value.is_null())
    };
    let mut all = all.clone();
    let mut indexer = take(&mut all, "indexerConfig")?.as_object()?.clone();
    let tokens = take(&mut indexer, "tokenProcessorConfig");
    let speculates = take(&mut indexer, "speculativeIndexing");
    if tokens.is_none() && speculates.is_none() {
        return None;
    }
    if let Some(tokens) = tokens.and_then(|tokens| tokens.as_object().cloned()) {
        let own = take(&mut all, "tokenProcessorConfig");
        let own = own.and_then(|own| own.as_object().cloned()).unwrap_or_default();
        // A size at the place of today counts before the other.
        let mut both = own;
        for (name, value) in tokens {
            both.entry(name).or_insert(value);
        }
        all.insert("tokenProcessorConfig".into(), both.into());
    }
    if speculates == Some(json!(true)) {
        all.insert("speculativeIndexing".into(), true.into());
    }
    if !indexer.is_empty() {
        all.insert("indexerConfig".into(), indexer.into());
    }
    Some(all.into())
}
