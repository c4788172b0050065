//! What types say of their parameters (`epp plugins`, the JSON Schema, docs/plugins.md), held
//! against what their readers do.

use std::collections::BTreeSet;

use epp::config::{Diagnostics, Fields, Severity, parse};
use epp::endpoints::PoolIds;
use epp::plugins::{
    Build, Capabilities, Dependencies, Kind, MetricsExtractor, MetricsSource, PageExtractor,
    PageSource, Parameter, Parameters, Part, PluginType, Stability, types,
};
use epp::prefix::HashKey;
use epp::scheduling::{
    Admitter, AwaitingProducer, Filter, Picker, Producer, ProfileHandler, RequestHook,
    RequestProcessor, ResponseHook, Scorer, Screener,
};
use epp::scrape_config::{EngineMaps, ScrapeConfig};
use serde_json::{Map, Value, json};

/// A plugin made of some parameters.
struct Made {
    capabilities: Capabilities,
    findings: Vec<(Severity, String, String)>,
    /// All that is known of it, but for places in the document.
    print: String,
}

impl Made {
    fn errors(&self) -> Vec<&str> {
        let errors = self.findings.iter().filter(|(severity, ..)| *severity == Severity::Error);
        errors.map(|(_, _, message)| message.as_str()).collect()
    }
}

fn make(plugin: &PluginType, parameters: &Value) -> Made {
    let text = parameters.to_string();
    let node = parse(&text).expect("JSON is YAML").expect("a document");
    let diagnostics = Diagnostics::new("f");
    let mut dependencies = Dependencies::default();
    let capabilities = (plugin.build)(Build {
        name: "made",
        parameters: Fields::new(Some(&node), "p", &diagnostics).any_case(),
        dependencies: &mut dependencies,
        ids: &PoolIds::default(),
        hash_key: HashKey::PUBLIC,
        predecessor: None,
    });
    let source = capabilities.get::<MetricsSource>().map(|s| s.over(ScrapeConfig::default()));
    let extractor = capabilities.get::<MetricsExtractor>().map(|e| e.over(EngineMaps::default()));
    let page = capabilities.get::<PageSource>().map(|s| (s.scrape(), s.is_at_node()));
    let print = match (source, extractor, page) {
        // What they leave open is filled in by flags, and then by these defaults.
        (Some(source), ..) => format!("{source:?}"),
        (_, Some(extractor), _) => format!("{extractor:?}"),
        (.., Some(page)) => format!("{page:?}"),
        _ => format!("{capabilities:?} {dependencies:?}"),
    };
    let findings = diagnostics.findings().into_iter();
    let findings = findings.map(|f| (f.severity, f.field, f.message)).collect();
    Made { capabilities, findings, print: without_places(&print) }
}

/// The text without positions and fields of the document, which a default has none of, and
/// without seeds, which are drawn.
fn without_places(print: &str) -> String {
    let mut text = String::new();
    let mut rest = print;
    loop {
        let places = [
            ("Some(Position { ", " })", "None"),
            ("field: \"", "\"", "field: "),
            ("keys: Keys { ", " }", "keys"),
            (", seed: ", ",", ","),
        ];
        let found = places.iter().filter_map(|p| Some((rest.find(p.0)?, p))).min_by_key(|f| f.0);
        let Some((at, (opening, closing, instead))) = found else { break };
        text.push_str(&rest[..at]);
        text.push_str(instead);
        let inside = &rest[at + opening.len()..];
        rest = &inside[inside.find(closing).expect("its end") + closing.len()..];
    }
    text + rest
}

fn yaml(text: &str) -> Value {
    parse(text).expect(text).map_or(Value::Null, |node| node.to_json())
}

/// The mapping with the entries of another; null takes an entry away.
fn with(mut mapping: Map<String, Value>, other: &Value) -> Map<String, Value> {
    for (key, value) in other.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(mapping.remove(key)),
            value => drop(mapping.insert(key.clone(), value.clone())),
        }
    }
    mapping
}

/// What has to be there.
fn required(parameters: &[Parameter]) -> Map<String, Value> {
    let given = parameters.iter().filter(|p| p.is_required);
    given.map(|p| (p.name.to_owned(), values(p)[0].clone())).collect()
}

/// Values that the parameter may have, one that is not the default first.
fn values(p: &Parameter) -> Vec<Value> {
    let default = p.default.map(yaml);
    let within = |n: &f64| {
        let above = p.range.min.is_none_or(|b| *n > b.value || (b.inclusive && *n == b.value));
        above && p.range.max.is_none_or(|b| *n < b.value || (b.inclusive && *n == b.value))
    };
    let mut values: Vec<Value> = match p.kind {
        _ if p.example.is_some() => vec![yaml(p.example.unwrap_or_default())],
        Kind::Integer => {
            [7.0, 1000.0, 1.0, 0.0].into_iter().filter(within).map(|n| json!(n as i64)).collect()
        }
        Kind::Number => [0.25, 7.5, 1.0].into_iter().filter(within).map(|n| json!(n)).collect(),
        Kind::Boolean => vec![json!(true), json!(false)],
        Kind::Duration => vec![json!("7s")],
        Kind::Text | Kind::Plugin(_) => vec![json!("some")],
        Kind::OneOf(names) => names.iter().map(|name| json!(name)).collect(),
        Kind::Texts => vec![json!(["some"])],
        Kind::TextMap => vec![json!({"some": "value"})],
        Kind::NumberMap => vec![json!({"1": 0.5})],
        Kind::Fields(fields) => vec![Value::Object(required(fields))],
        Kind::Each(fields) => vec![json!([required(fields)])],
        Kind::Itself => vec![json!({"current": {"pluginRef": "some"}})],
        Kind::Any => vec![json!({"whatever": 1})],
    };
    values.retain(|value| Some(value) != default.as_ref());
    values
}

/// Values of other kinds.
fn wrong_values(kind: Kind) -> Vec<Value> {
    match kind {
        Kind::Integer => vec![json!("x"), json!(1.5), json!(true), json!([])],
        Kind::Number => vec![json!("x"), json!(true), json!([])],
        Kind::Boolean => vec![json!(1), json!("true")],
        Kind::Duration => vec![json!(5), json!("5 parsecs")],
        Kind::Text | Kind::Plugin(_) => vec![json!(1), json!([])],
        Kind::OneOf(_) => vec![json!(1), json!("no-such-word")],
        Kind::Texts => vec![json!("x"), json!([1])],
        Kind::TextMap => vec![json!([]), json!({"a": 1})],
        Kind::NumberMap => vec![json!([]), json!({"1": "x"})],
        Kind::Fields(_) | Kind::Itself => vec![json!([]), json!("x")],
        Kind::Each(_) => vec![json!({}), json!([1])],
        Kind::Any => vec![],
    }
}

/// Parameters of one level, and how a mapping of them becomes the whole document.
struct Level<'a> {
    plugin: &'a PluginType,
    path: String,
    fields: &'a [Parameter],
    whole: &'a dyn Fn(Map<String, Value>) -> Value,
}

impl Level<'_> {
    fn make(&self, fields: Map<String, Value>) -> Made {
        make(self.plugin, &(self.whole)(fields))
    }

    /// Every mistake of the declarations on this level and below.
    fn check(&self, wrong: &mut Vec<String>) {
        self.check_names(wrong);
        for p in self.fields {
            let said = wrong.len();
            self.check_parameter(p, &mut |what| {
                wrong.push(format!("{} {}.{}: {what}", self.plugin.name, self.path, p.name));
            });
            if wrong.len() == said {
                self.check_below(p, wrong);
            }
        }
    }

    fn check_below(&self, p: &Parameter, wrong: &mut Vec<String>) {
        if p.kind.fields().is_empty() {
            return;
        }
        let base = with(required(self.fields), &yaml(p.beside));
        let whole = |fields: Map<String, Value>| {
            let mut base = base.clone();
            let value = match p.kind {
                Kind::Each(_) => json!([fields]),
                _ => Value::Object(fields),
            };
            base.insert(p.name.to_owned(), value);
            (self.whole)(base)
        };
        let path = format!("{}.{}", self.path, p.name);
        Level { plugin: self.plugin, path, fields: p.kind.fields(), whole: &whole }.check(wrong);
    }

    /// The reader names all that it knows when it meets what it does not.
    fn check_names(&self, wrong: &mut Vec<String>) {
        const STRANGE: &str = "zzqqxxjj";
        let mut fields = required(self.fields);
        fields.insert(STRANGE.to_owned(), json!(1));
        let made = self.make(fields);
        let refused = made.findings.iter().find(|(_, field, _)| field.ends_with(STRANGE));
        let known = refused.map(|(_, _, message)| {
            let names = message.split_once("known here: ").map_or("", |(_, names)| names);
            names.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
        });
        let declared: BTreeSet<String> = self.fields.iter().map(|p| p.name.to_owned()).collect();
        // It may know what it refuses.
        let known: Option<BTreeSet<String>> = known.map(|mut known: BTreeSet<String>| {
            known.retain(|name| {
                let given = with(required(self.fields), &json!({ name: {} }));
                declared.contains(name) || self.make(given).errors().is_empty()
            });
            known
        });
        if known.as_ref() != Some(&declared) {
            let at = format!("{} {}", self.plugin.name, self.path);
            wrong.push(format!("{at}: declared {declared:?}, the reader knows {known:?}"));
        }
    }

    fn check_parameter(&self, p: &Parameter, wrong: &mut impl FnMut(String)) {
        let base = with(required(self.fields), &yaml(p.beside));
        let given = |value: &Value| {
            let mut fields = base.clone();
            fields.insert(p.name.to_owned(), value.clone());
            self.make(fields)
        };
        let mut without = base.clone();
        without.remove(p.name);
        let without = self.make(without);
        match (p.is_required, without.errors().is_empty()) {
            (true, true) => wrong("is called required and may be left out".into()),
            // Where it stands beside others it may be one that they need.
            (false, false) if p.beside.is_empty() => {
                wrong(format!("what stands beside it: {:?}", without.errors()))
            }
            _ => {}
        }
        let mut has_effect = false;
        for value in values(p) {
            let made = given(&value);
            if !made.errors().is_empty() {
                wrong(format!("{value} is refused: {:?}", made.errors()));
            }
            let prints_the_same = made.print == without.print;
            if p.status.without_effect().is_some() && !prints_the_same {
                wrong(format!("{value} has an effect"));
            }
            has_effect |= !prints_the_same || made.findings != without.findings;
        }
        let is_group = !p.kind.fields().is_empty() && p.example.is_none();
        let may_be_idle = p.status.without_effect().is_some() || is_group;
        if !has_effect && !may_be_idle && !values(p).is_empty() {
            wrong(format!("none of {:?} has an effect: {}", values(p), without.print));
        }
        if let Some(default) = p.default {
            let made = given(&yaml(default));
            if made.print != without.print {
                let (made, without) = (made.print, &without.print);
                wrong(format!("{default} is not the default:\n    {made}\n    {without}"));
            }
        }
        let is_read = p.status.without_effect().is_none();
        for value in wrong_values(p.kind).into_iter().filter(|_| is_read) {
            if given(&value).errors().is_empty() {
                wrong(format!("{value} is accepted"));
            }
        }
        self.check_range(p, &given, wrong);
    }

    fn check_range(
        &self,
        p: &Parameter,
        given: &dyn Fn(&Value) -> Made,
        wrong: &mut impl FnMut(String),
    ) {
        let number = |n: f64| if n.fract() == 0.0 { json!(n as i64) } else { json!(n) };
        let step = if matches!(p.kind, Kind::Integer) { 1.0 } else { 1e-3 };
        for (bound, outwards) in [(p.range.min, -step), (p.range.max, step)] {
            let Some(bound) = bound else { continue };
            let at = number(bound.value);
            if given(&at).errors().is_empty() != bound.inclusive {
                wrong(format!("{at}: the bound is inclusive: {}", bound.inclusive));
            }
            let beyond = number(bound.value + outwards);
            if given(&beyond).errors().is_empty() {
                wrong(format!("{beyond} is beyond the range and accepted"));
            }
        }
    }
}

#[test]
fn declared_parameters_are_those_of_the_readers() {
    let mut wrong = Vec::new();
    for plugin in types() {
        match plugin.about.parameters {
            Parameters::Ignored => {
                let (given, plain) =
                    (make(plugin, &json!({"zzqqxxjj": 1})), make(plugin, &json!({})));
                assert!(given.errors().is_empty(), "{}: {:?}", plugin.name, given.findings);
                assert_eq!(given.print, plain.print, "{}", plugin.name);
            }
            Parameters::Listed(fields) => {
                let whole = |fields| Value::Object(fields);
                let level = Level { plugin, path: "parameters".into(), fields, whole: &whole };
                level.check(&mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{} mistakes:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn declared_parts_are_those_that_are_played() {
    use epp::flow_control::{FairnessPolicy, OrderingPolicy, SaturationDetector, UsageLimit};
    use epp::plugins::{FileDiscoveryConfig, NotificationSource, ParserKind};
    for plugin in types() {
        let parameters = plugin.about.parameters.listed();
        let c = make(plugin, &Value::Object(required(parameters))).capabilities;
        // What gives places of endpoints is a part that only its readers know.
        let extracts = c.has::<MetricsExtractor>()
            || c.has::<PageExtractor>()
            || plugin.name == "topology-extractor";
        // Parts that a configuration names it for: those that it says and no others.
        let named = [
            (Part::Scorer, c.has::<dyn Scorer>()),
            (Part::Filter, c.has::<dyn Filter>()),
            (Part::Picker, c.has::<dyn Picker>()),
            (Part::ProfileHandler, c.has::<dyn ProfileHandler>()),
            (Part::RequestProcessor, c.has::<dyn RequestProcessor>()),
            (Part::Screener, c.has::<dyn Screener>()),
            (Part::SaturationDetector, c.has::<dyn SaturationDetector>()),
            (Part::FairnessPolicy, c.has::<dyn FairnessPolicy>()),
            (Part::OrderingPolicy, c.has::<dyn OrderingPolicy>()),
            (Part::UsageLimitPolicy, c.has::<dyn UsageLimit>()),
            (Part::Extractor, extracts),
            (Part::Discovery, c.has::<FileDiscoveryConfig>()),
            (Part::Parser, c.has::<ParserKind>()),
        ];
        for (part, plays) in named {
            let says = plugin.about.parts.contains(&part);
            assert_eq!(says, plays, "{}: {}", plugin.name, part.name());
        }
        // Parts that others are made with too.
        let source =
            c.has::<MetricsSource>() || c.has::<PageSource>() || c.has::<NotificationSource>();
        let working = [
            (Part::Admitter, c.has::<dyn Admitter>()),
            (Part::HeaderHandler, c.has::<dyn RequestHook>()),
            (Part::ResponsePlugin, c.has::<dyn ResponseHook>()),
            (Part::DataSource, source),
        ];
        for (part, plays) in working {
            let says = plugin.about.parts.contains(&part);
            assert!(plays || !says, "{}: {}", plugin.name, part.name());
        }
        let produces = c.has::<dyn Producer>() || c.has::<dyn AwaitingProducer>();
        let says = plugin.about.parts.contains(&Part::Producer);
        assert!(produces || !says || plugin.name == "token-producer", "{}", plugin.name);
        assert!(!plugin.about.parts.is_empty(), "{}", plugin.name);
    }
}

#[test]
fn every_type_says_what_it_does_and_what_takes_its_place() {
    let names: BTreeSet<_> = types().iter().map(|t| t.name).collect();
    for plugin in types() {
        let about = &plugin.about;
        assert!(!about.summary.is_empty() && !about.summary.contains('\n'), "{}", plugin.name);
        assert!(!about.summary.ends_with('.'), "{}", plugin.name);
        assert_eq!(about.since.is_empty(), about.stability == Stability::Own, "{}", plugin.name);
        for successor in about.stability.successor().into_iter().flat_map(|s| s.split(" and ")) {
            assert!(names.contains(successor), "{}: {successor}", plugin.name);
        }
    }
}
