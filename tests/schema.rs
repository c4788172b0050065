//! The JSON Schema that `epp schema` prints, held against the configurations that there are and
//! against the loader.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use epp::catalogue;
use epp::config::{Node, Value, parse};
use epp::endpoints::PoolIds;
use epp::loader::{KIND, LoadOptions, load};
use serde_json::{Map, Value as Json, json};

#[path = "support/material.rs"]
mod material;

use material::{files, root, shared};

fn marks(schema: &jsonschema::Validator, document: &Json) -> Vec<String> {
    schema.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

fn schema() -> jsonschema::Validator {
    jsonschema::draft7::new(&catalogue::schema()).expect("a JSON Schema")
}

/// The files in a folder that may hold configurations.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let ending = |path: &PathBuf| path.extension().and_then(|e| e.to_str()).map(str::to_owned);
    let is_text = |path: &PathBuf| matches!(ending(path).as_deref(), Some("yaml" | "yml" | "json"));
    files(folder).into_iter().filter(is_text).collect()
}

/// The configurations in a file, which may be manifests that hold some.
fn configurations(text: &str) -> Vec<Json> {
    let mut found = Vec::new();
    for document in text.split("\n---") {
        // Templates of a chart are no YAML.
        if let Ok(Some(node)) = parse(document) {
            search(&node, &mut found);
        }
    }
    found
}

fn search(node: &Node, found: &mut Vec<Json>) {
    match &node.value {
        Value::Map(_) if node.get("kind").and_then(Node::as_str) == Some(KIND) => {
            found.push(node.to_json());
        }
        Value::Map(entries) => entries.iter().for_each(|(_, value)| search(value, found)),
        Value::Seq(items) => items.iter().for_each(|item| search(item, found)),
        Value::Str(text) if text.contains(KIND) => {
            if let Ok(Some(node)) = parse(text) {
                search(&node, found);
            }
        }
        _ => {}
    }
}

#[test]
fn our_own_configurations_are_valid() {
    let paths = ["config", "deploy"].map(|folder| texts(&root().join(folder))).concat();
    let schema = schema();
    let mut seen = 0;
    for path in paths {
        for document in configurations(&fs::read_to_string(&path).expect("a text")) {
            let found = marks(&schema, &document);
            assert!(found.is_empty(), "{}: {found:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} configurations were found");
}

#[test]
fn configurations_of_others_are_valid() {
    let Some(corpus) = shared("reference-configs") else { return };
    let paths = texts(&corpus);
    let schema = schema();
    let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let (pipeline, _) = load("corpus", Some(&text), &options, &PoolIds::default());
        if pipeline.is_none() {
            continue;
        }
        let document = parse(&text).expect("loaded").expect("loaded").to_json();
        let found = marks(&schema, &document);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

/// The part of the schema that a mapping of the document has, by the way to it.
fn at<'s>(schema: &'s Json, way: &[&str]) -> &'s Json {
    way.iter().fold(schema, |schema, step| match *step {
        "[]" => &schema["items"],
        name => &schema["properties"][name],
    })
}

#[test]
fn the_document_around_plugins_is_as_the_loader_reads_it() {
    const STRANGE: &str = "zzqqxxjj";
    let schema = catalogue::schema();
    let ways: [&[&str]; 15] = [
        &[],
        &["plugins", "[]"],
        &["schedulingProfiles", "[]"],
        &["schedulingProfiles", "[]", "plugins", "[]"],
        &["dataLayer"],
        &["dataLayer", "sources", "[]"],
        &["dataLayer", "sources", "[]", "extractors", "[]"],
        &["dataLayer", "discovery"],
        &["dataLayer", "discovery", "endpoints"],
        &["flowControl"],
        &["flowControl", "defaultPriorityBand"],
        &["flowControl", "priorityBands", "[]"],
        &["requestHandler"],
        &["requestHandler", "parsers", "[]"],
        &["saturationDetector"],
    ];
    for way in ways {
        let mut document = json!({ STRANGE: 1 });
        for step in way.iter().rev() {
            document = match *step {
                "[]" => json!([document]),
                name => Json::Object(Map::from_iter([(name.to_owned(), document)])),
            };
        }
        document["kind"] = KIND.into();
        // So that the detector is read in its old form, which has more fields.
        if way.last() == Some(&"saturationDetector") {
            document["saturationDetector"]["queueDepthThreshold"] = json!(1);
        }
        let text = document.to_string();
        let (_, found) = load("f", Some(&text), &LoadOptions::default(), &PoolIds::default());
        let found = found.findings();
        let unknown = found.iter().find(|f| f.field.ends_with(STRANGE)).expect(&text);
        let (_, names) = unknown.message.split_once("known here: ").expect(&unknown.message);
        let known: BTreeSet<&str> = names.split(", ").collect();
        let written = at(&schema, way)["properties"].as_object().expect("properties");
        for name in written.keys() {
            assert!(known.contains(name.as_str()), "{way:?}: the loader does not know {name}");
        }
        // What it knows and the schema does not, it refuses.
        for name in known.iter().filter(|name| !written.contains_key(**name)) {
            let refused = ["peers", "peerDiscovery", "crossReplicaSyncerPluginRef"];
            assert!(refused.contains(name), "{way:?}: the schema does not know {name}");
        }
    }
}
