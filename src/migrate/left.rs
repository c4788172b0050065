use super::disaggregation::why_not;
use super::pipeline::{Pipeline, Plugin};
use super::source::Tree;
use crate::plugins::{Parameter, Stability, Status};

/// What is still of an older version, and why it was left.
pub(super) fn left(pipeline: &Pipeline<'_>) -> Vec<String> {
    let mut left = Vec::new();
    for plugin in &pipeline.plugins {
        let place = plugin.place();
        let Some(found) = plugin.plugin_type else {
            left.push(format!(
                "{place}: no version that is read here has type {}",
                plugin.type_name
            ));
            continue;
        };
        if let Stability::Deprecated(_) | Stability::Removed(_) = found.about.stability {
            let why = of_type(plugin, pipeline);
            left.push(format!("{place}: {} is left: {why}", found.name));
            continue;
        }
        let mut older = Vec::new();
        if let Some(parameters) = plugin.parameters {
            collect(parameters, found.about.parameters.listed(), &mut older);
        }
        if !older.is_empty() {
            let names = older.join(", ");
            left.push(format!("{place}: {names}: left: {}", of_parameters(found.name)));
        }
    }
    left
}

/// Parameters that only older versions have.
fn collect(tree: &Tree, declared: &[Parameter], older: &mut Vec<&'static str>) {
    for entry in tree.entries() {
        let parameter = declared.iter().find(|p| p.name.eq_ignore_ascii_case(&entry.name));
        let Some(parameter) = parameter else { continue };
        if matches!(parameter.status, Status::Older(_)) {
            older.push(parameter.name);
        }
        collect(&entry.value, parameter.kind.fields(), older);
    }
}

fn of_type(plugin: &Plugin<'_>, pipeline: &Pipeline<'_>) -> &'static str {
    match plugin.plugin_type.map_or("", |found| found.name) {
        "by-label" => {
            "no selector keeps endpoints with some values and those without the label; \
             decode-filter, prefill-filter and encode-filter know the roles"
        }
        "decision-tree-filter" => "filters in a row cannot say what follows where nothing is kept",
        "disagg-headers-handler" => "the profile handler beside it does not write the headers",
        "least-kv-cache-filter" | "least-queue-filter" => "no type of today keeps the same",
        "lora-affinity-filter" => "lora-affinity-scorer prefers, and keeps all",
        "low-queue-filter" => {
            "a utilization-filter on waiting-queue keeps the same, and is experimental"
        }
        "pd-profile-handler" => why_not(plugin, pipeline).unwrap_or("its parameters are mistaken"),
        "precise-prefix-cache-scorer" => "there is more than one precise-prefix-cache-producer",
        "predicted-latency-scorer" => {
            "it chooses one endpoint itself; the types that it became score all of them"
        }
        _ => "nothing of today does the same",
    }
}

fn of_parameters(plugin_type: &str) -> &'static str {
    match plugin_type {
        "prefix-cache-scorer" => {
            "with them it cuts and remembers prompts itself. An approx-prefix-cache-producer cuts \
             larger blocks and remembers what is left over, so that it decides otherwise; to go on \
             to it, take them out"
        }
        "token-producer" => "here endpoints are asked for the tokens; the reference has vllm",
        "session-affinity-scorer" | "session-affinity-filter" => {
            "write encodedEndpointHeaderConfig.header"
        }
        _ => "they have no place in today's form",
    }
}
