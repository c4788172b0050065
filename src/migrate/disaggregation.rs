use serde_json::{Map, Value as Json, json};

use super::Step;
use super::edit::{Edit, add_entry, add_item, remove_item, replace, replace_entry};
use super::pipeline::{Pipeline, Plugin};
use super::source::{Source, Tree};

const HANDLER: &str = "disagg-profile-handler";
const HEADERS: &str = "disagg-headers-handler";
const ALWAYS: &str = "always-disagg-pd-decider";
const BY_PREFIX: &str = "prefix-based-pd-decider";
/// Bytes that count as one token.
const BYTES_PER_TOKEN: i64 = 4;

/// The text under a parameter; an empty one is none.
fn text<'s>(plugin: &Plugin<'s>, name: &str) -> Option<&'s str> {
    plugin.given(name)?.as_str().filter(|text| !text.is_empty())
}

/// `{stage: name}` of those that are given.
fn stages(given: [(&str, Option<&str>); 3]) -> Map<String, Json> {
    let given =
        given.into_iter().filter_map(|(stage, name)| Some((stage.to_owned(), name?.into())));
    given.collect()
}

/// Other parameters in the place of a plugin's.
fn set_parameters(source: &Source<'_>, plugin: &Plugin<'_>, value: &Json) -> Option<Edit> {
    match plugin.tree.entry("parameters") {
        Some((index, _)) => replace_entry(source.text, plugin.tree, index, "parameters", value),
        None => add_entry(source.text, plugin.tree, "parameters", value),
    }
}

/// The parameters of v0.7 and v0.8, which stood side by side.
pub(super) fn flat(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let plugin = pipeline.of_type(HANDLER).next()?;
    let profiles = stages([
        ("decode", text(plugin, "decodeProfile")),
        ("prefill", text(plugin, "prefillProfile")),
        ("encode", text(plugin, "encodeProfile")),
    ]);
    let prefill =
        text(plugin, "prefillDeciderPluginName").or_else(|| text(plugin, "deciderPluginName"));
    let encode = text(plugin, "encodeDeciderPluginName");
    let deciders = stages([("prefill", prefill), ("encode", encode), ("", None)]);
    let is_nested =
        ["profiles", "deciders", "stageOrder"].iter().any(|n| plugin.given(n).is_some());
    if is_nested || (profiles.is_empty() && deciders.is_empty()) {
        return None;
    }
    let groups = [("profiles", profiles), ("deciders", deciders)];
    let groups = groups.into_iter().filter(|(_, group)| !group.is_empty());
    let value: Map<String, Json> =
        groups.map(|(name, group)| (name.to_owned(), Json::Object(group))).collect();
    Step::new(
        format!("{}.parameters: profiles and deciders since llm-d v0.9", plugin.place()),
        [set_parameters(source, plugin, &Json::Object(value))],
    )
}

/// Who decides about prefill: a plugin that is there, or one that is added.
enum Decider<'s> {
    There(&'s str),
    New(String, Json),
}

fn decider<'s>(plugin: &Plugin<'s>, pipeline: &Pipeline<'s>) -> Option<Decider<'s>> {
    if let Some(name) = text(plugin, "deciderPluginName") {
        return Some(Decider::There(name));
    }
    match plugin.given("threshold") {
        None => match pipeline.named(BY_PREFIX) {
            Some(decider) => Some(Decider::There(decider.name)),
            None => Some(always(pipeline)),
        },
        Some(bytes) => match bytes.as_i64()? {
            0 => Some(always(pipeline)),
            bytes if bytes > 0 => {
                let name = pipeline.free_name(BY_PREFIX);
                let tokens = (bytes - 1) / BYTES_PER_TOKEN + 1;
                let mut parameters = json!({ "nonCachedTokens": tokens });
                if let Some(producer) = text(plugin, "prefixMatchInfoProducerName") {
                    parameters["prefixMatchInfoProducerName"] = producer.into();
                }
                let mut new = json!({ "type": BY_PREFIX, "parameters": parameters });
                if name != BY_PREFIX {
                    new["name"] = name.as_str().into();
                }
                Some(Decider::New(name, new))
            }
            _ => None,
        },
    }
}

fn always<'s>(pipeline: &Pipeline<'s>) -> Decider<'s> {
    match pipeline.of_type(ALWAYS).next() {
        Some(decider) => Decider::There(decider.name),
        None => Decider::New(ALWAYS.to_owned(), json!({ "type": ALWAYS })),
    }
}

/// The profile whose target a headers handler writes.
fn prefill_of<'s>(handler: &Plugin<'s>) -> &'s str {
    text(handler, "prefillProfile").unwrap_or("prefill")
}

/// Whether today's handler does what this one does: `None`, or why not.
pub(super) fn why_not(plugin: &Plugin<'_>, pipeline: &Pipeline<'_>) -> Option<&'static str> {
    if plugin.given("primaryPort").is_some_and(|port| port.as_i64() != Some(0)) {
        return Some("disagg-profile-handler has no primaryPort");
    }
    let mut writers = pipeline.of_type(HEADERS);
    let writes = writers.next().is_some_and(|w| prefill_of(w) == prefill_of(plugin));
    if !writes || writers.next().is_some() {
        return Some(
            "disagg-profile-handler names the prefill endpoint in a header, \
             which nothing in this configuration does",
        );
    }
    None
}

/// `pd-profile-handler`, whose successor writes the header too.
pub(super) fn pd_handler(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let plugin = pipeline.of_type("pd-profile-handler").next()?;
    if why_not(plugin, pipeline).is_some() {
        return None;
    }
    let profiles = stages([
        ("decode", text(plugin, "decodeProfile").filter(|name| *name != "decode")),
        ("prefill", text(plugin, "prefillProfile").filter(|name| *name != "prefill")),
        ("", None),
    ]);
    let decider = decider(plugin, pipeline)?;
    let name = match &decider {
        Decider::There(name) => (*name).to_owned(),
        Decider::New(name, _) => name.clone(),
    };
    let mut value = json!({ "deciders": { "prefill": name } });
    if !profiles.is_empty() {
        value["profiles"] = Json::Object(profiles);
    }
    let mut edits = vec![
        Some(replace(plugin.tree.get("type")?, HANDLER)),
        set_parameters(source, plugin, &value),
    ];
    if let Decider::New(_, decider) = &decider {
        edits.push(add_item(source.text, pipeline.list?, plugin.index, decider));
    }
    if plugin.is_unnamed {
        edits.extend(pipeline.rename(plugin.name, HANDLER, &[]));
    }
    let place = plugin.place();
    Step::new(format!("{place}: {HANDLER} in place of pd-profile-handler; {name} decides"), edits)
}

/// A headers handler beside a profile handler that writes the headers itself.
pub(super) fn headers_handler(source: &Source<'_>, pipeline: &Pipeline<'_>) -> Option<Step> {
    let handler = pipeline.of_type(HANDLER).next()?;
    let of_handler = |stage: &'static str| {
        let profiles = handler.parameters.and_then(|p| p.parameter("profiles"));
        let name = profiles.and_then(|(_, profiles)| profiles.value.given(stage)?.as_str());
        name.filter(|name| !name.is_empty()).unwrap_or(stage)
    };
    let is_the_same = |p: &&Plugin<'_>| {
        let encode = text(p, "encodeProfile").unwrap_or("encode");
        prefill_of(p) == of_handler("prefill") && encode == of_handler("encode")
    };
    let writer = pipeline.of_type(HEADERS).find(is_the_same)?;
    let mut edits = vec![remove_item(source.text, pipeline.list?, writer.index)];
    for steps in pipeline.profiles.iter().filter_map(|profile| profile.get("plugins")) {
        let names = |item: &Tree| item.get("pluginRef").and_then(Tree::str) == Some(writer.name);
        let of_writer = steps.items().iter().enumerate().filter(|(_, item)| names(item));
        edits.extend(of_writer.map(|(index, _)| remove_item(source.text, steps, index)));
    }
    Step::new(format!("{}: removed: {HANDLER} writes the headers itself", writer.place()), edits)
}
