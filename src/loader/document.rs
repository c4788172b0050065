use super::flow_control::FlowControlSection;
use super::reference::{Reference, optional_reference, reference};
use super::{feature_gates, flow_control};
use crate::config::{Diagnostics, Fields, Node, Position, Value, nearest};

/// The API group of llm-d-router since v0.9, which we write.
pub const API_VERSION: &str = "llm-d.ai/v1alpha1";
/// Every version that is read; all mean the same. The first is the one that is written, then the
/// group of every version before, and what llm-d-router v0.11 and its guides write.
pub const API_VERSIONS: [&str; 3] =
    [API_VERSION, "inference.networking.x-k8s.io/v1alpha1", "llm-d.ai/v1"];
/// The document's kind.
pub const KIND: &str = "EndpointPickerConfig";

/// An `EndpointPickerConfig` as it stands, before defaulting: the fields of all versions from
/// GIE v0.5.0 to llm-d-router main at ebab6879.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    /// Known feature gates that were set.
    pub gates: Vec<(&'static str, bool)>,
    pub plugins: Vec<PluginEntry<'a>>,
    pub profiles: Vec<ProfileEntry>,
    pub data_layer: DataLayer,
    /// `requestHandler.parsers`; empty means the default.
    pub parsers: Vec<Reference>,
    pub flow_control: FlowControlSection,
    pub detector: Option<Reference>,
    /// The thresholds that stood under `saturationDetector` in GIE v1.2 to v1.4.
    pub thresholds: Option<Node>,
}

/// One entry of `plugins`.
#[derive(Debug)]
pub(super) struct PluginEntry<'a> {
    /// The type where no name is given; empty where there is neither.
    pub name: String,
    pub name_at: Option<Position>,
    /// Empty where it is missing, which was reported.
    pub plugin_type: String,
    pub type_at: Option<Position>,
    pub parameters: Option<&'a Node>,
    /// `plugins[i]`.
    pub path: String,
}

/// One entry of `schedulingProfiles`.
#[derive(Debug)]
pub(super) struct ProfileEntry {
    pub name: String,
    pub at: Option<Position>,
    pub path: String,
    pub plugins: Vec<ProfilePlugin>,
}

#[derive(Debug)]
pub(super) struct ProfilePlugin {
    pub reference: Reference,
    pub weight: Option<f64>,
}

#[derive(Debug)]
pub(super) struct DataLayer {
    /// False keeps the default metrics source from being added.
    pub inject_defaults: bool,
    pub sources: Vec<Source>,
    pub discovery: Option<Reference>,
}

impl Default for DataLayer {
    fn default() -> Self {
        Self { inject_defaults: true, sources: Vec::new(), discovery: None }
    }
}

/// One entry of `dataLayer.sources`.
#[derive(Debug)]
pub(super) struct Source {
    pub reference: Reference,
    pub extractors: Vec<Reference>,
}

impl<'a> Document<'a> {
    /// Reads the document; `None` where it is something else altogether.
    pub(super) fn read(root: &'a Node, diagnostics: &'a Diagnostics) -> Option<Self> {
        let mut fields = Fields::new(Some(root), "", diagnostics);
        if fields.is_absent() {
            if root.value == Value::Null {
                diagnostics.error(Some(root.at), "", format!("must be an {KIND}, found null"));
            }
            return None;
        }
        if !has_right_kind(&mut fields) {
            return None;
        }
        let gates = fields.list("featureGates").unwrap_or_default();
        let mut document = Self {
            gates: feature_gates::read(gates, diagnostics),
            plugins: fields.each("plugins").into_iter().map(read_plugin).collect(),
            profiles: fields.each("schedulingProfiles").into_iter().map(read_profile).collect(),
            ..Self::default()
        };
        document.read_data_layer(&mut fields);
        document.flow_control =
            flow_control::read(fields.nested("flowControl"), document.has_flow_control());
        document.detector = document.flow_control.detector.clone();
        document.read_old_detector(&mut fields);
        document.read_parsers(&mut fields);
        fields.finish();
        Some(document)
    }

    /// The feature gate is on.
    pub(super) fn has_flow_control(&self) -> bool {
        self.gates.contains(&(feature_gates::FLOW_CONTROL, true))
    }

    fn read_data_layer(&mut self, fields: &mut Fields<'a>) {
        let mut section = fields.nested("dataLayer");
        let old = fields.nested("data");
        if !old.is_absent() {
            if section.is_absent() {
                fields.warning("data", "is the old name of dataLayer");
                section = old;
            } else {
                fields.error("data", "is the old name of dataLayer, which is given as well");
            }
        }
        self.data_layer = DataLayer {
            inject_defaults: section.bool("injectDefaults").unwrap_or(true),
            sources: section.each("sources").into_iter().filter_map(read_source).collect(),
            discovery: read_discovery(&mut section),
        };
        for name in ["peerDiscovery", "crossReplicaSyncerPluginRef"] {
            if section.node(name).is_some() {
                section.error(name, NO_PEERS);
            }
        }
        if section.duration("crossReplicaSyncInterval").is_some() {
            let message = "has no effect: replicas do not exchange state in this version";
            section.warning("crossReplicaSyncInterval", message);
        }
        section.finish();
    }

    /// The top-level `saturationDetector`: a reference (GIE v1.5) or thresholds (before).
    fn read_old_detector(&mut self, fields: &mut Fields<'a>) {
        let mut section = fields.nested("saturationDetector");
        if section.is_absent() {
            return;
        }
        let node = fields.node("saturationDetector").cloned();
        let has = |name: &str| node.as_ref().is_some_and(|n| n.get(name).is_some());
        if THRESHOLDS.iter().any(|name| has(name)) {
            if has("pluginRef") {
                section.error("pluginRef", "and thresholds exclude each other");
            }
            let message = "is deprecated: give the thresholds to a plugin of type \
                           utilization-detector";
            fields.warning("saturationDetector", message);
            self.thresholds = node.map(|node| usable_thresholds(node, &mut section));
        } else {
            let found = reference(&mut section);
            let message = "is deprecated: write flowControl.saturationDetector";
            fields.warning("saturationDetector", message);
            self.detector = self.detector.take().or(found);
        }
        section.finish();
    }

    fn read_parsers(&mut self, fields: &mut Fields<'a>) {
        let mut section = fields.nested("requestHandler");
        for mut parser in section.each("parsers") {
            self.parsers.extend(reference(&mut parser));
            parser.finish();
        }
        section.finish();
        if let Some(old) = optional_reference(fields, "parser") {
            fields.warning("parser", "is deprecated: write requestHandler.parsers");
            if self.parsers.is_empty() {
                self.parsers.push(old);
            }
        }
    }
}

const NO_PEERS: &str = "replicas do not exchange state in this version";

const THRESHOLDS: [&str; 3] =
    ["queueDepthThreshold", "kvCacheUtilThreshold", "metricsStalenessThreshold"];

/// The old thresholds without those that their reader passed over: none up to 0 counted, and no
/// KV-cache usage from 1 on.
fn usable_thresholds(mut node: Node, section: &mut Fields<'_>) -> Node {
    section.node("pluginRef");
    let queue = section.int("queueDepthThreshold").map(|depth| depth > 0);
    let kv = section.float("kvCacheUtilThreshold").map(|usage| usage > 0.0 && usage < 1.0);
    let age = section.duration("metricsStalenessThreshold").map(|age| !age.is_zero());
    let mut usable = Vec::new();
    for (name, in_range) in THRESHOLDS.into_iter().zip([queue, kv, age]) {
        match in_range {
            Some(true) => usable.push(name),
            Some(false) => section.warning(name, "is out of range; the default is used"),
            None => {}
        }
    }
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|(key, _)| usable.contains(&key.name.as_str()));
    }
    node
}

fn has_right_kind(fields: &mut Fields<'_>) -> bool {
    // The reference takes what is missing or empty for its own.
    let kind = fields.string("kind").filter(|kind| !kind.is_empty());
    let version = fields.string("apiVersion").filter(|version| !version.is_empty());
    match kind {
        Some(KIND) => {}
        Some(other) => {
            fields.error("kind", format!("must be {KIND}, found '{other}'"));
            return false;
        }
        None if fields.node("kind").is_none_or(|n| n.as_str().is_some()) => {
            fields.warning("kind", format!("is missing: taken for {KIND}"));
        }
        None => {}
    }
    match version {
        Some(known) if API_VERSIONS.contains(&known) => {}
        Some(other) => fields
            .error("apiVersion", format!("must be {}, found '{other}'", API_VERSIONS.join(" or "))),
        None if fields.node("apiVersion").is_none_or(|n| n.as_str().is_some()) => {
            fields.warning("apiVersion", format!("is missing: taken for {API_VERSION}"));
        }
        None => {}
    }
    true
}

fn read_plugin(mut fields: Fields<'_>) -> PluginEntry<'_> {
    let type_at = fields.node("type").map(|n| n.at).or(fields.at());
    let name_at = fields.node("name").map(|n| n.at).or(type_at);
    let plugin_type = fields.string("type").unwrap_or_default().to_owned();
    if plugin_type.is_empty() && fields.node("type").is_none_or(|n| n.as_str().is_some()) {
        fields.error("type", "is missing");
    }
    let name = fields.string("name").filter(|name| !name.is_empty());
    let name = name.unwrap_or(&plugin_type).to_owned();
    let parameters = fields.node("parameters");
    let path = fields.path().to_owned();
    fields.finish();
    PluginEntry { name, name_at, plugin_type, type_at, parameters, path }
}

fn read_profile(mut fields: Fields<'_>) -> ProfileEntry {
    let name = fields.string("name").unwrap_or_default().to_owned();
    if name.is_empty() && fields.node("name").is_none_or(|n| n.as_str().is_some()) {
        fields.error("name", "is missing");
    }
    let at = fields.node("name").map(|n| n.at).or(fields.at());
    let mut plugins = Vec::new();
    for mut plugin in fields.each("plugins") {
        let reference = reference(&mut plugin);
        let weight = plugin.float("weight");
        plugin.finish();
        plugins.extend(reference.map(|reference| ProfilePlugin { reference, weight }));
    }
    let path = fields.path().to_owned();
    fields.finish();
    ProfileEntry { name, at, path, plugins }
}

/// `discovery.pluginRef`, or `discovery.endpoints.pluginRef` as llm-d-router v0.11 has it.
fn read_discovery(section: &mut Fields<'_>) -> Option<Reference> {
    let mut discovery = section.nested("discovery");
    if discovery.is_absent() {
        return None;
    }
    if discovery.node("peers").is_some() {
        discovery.error("peers", NO_PEERS);
    }
    let found = match discovery.node("endpoints") {
        Some(_) => {
            let found = optional_reference(&mut discovery, "endpoints");
            if discovery.node("pluginRef").is_some() {
                discovery.error("pluginRef", "and endpoints exclude each other");
            }
            found
        }
        None if discovery.node("pluginRef").is_none() && discovery.node("peers").is_some() => None,
        None => reference(&mut discovery),
    };
    discovery.finish();
    found
}

fn read_source(mut fields: Fields<'_>) -> Option<Source> {
    let source = reference(&mut fields);
    let mut extractors = Vec::new();
    for mut extractor in fields.each("extractors") {
        extractors.extend(reference(&mut extractor));
        extractor.finish();
    }
    fields.finish();
    source.map(|reference| Source { reference, extractors })
}

/// `; did you mean 'x'?`, where some candidate is near enough.
pub(super) fn did_you_mean<'n>(
    name: &str,
    candidates: impl IntoIterator<Item = &'n str>,
) -> String {
    nearest(name, candidates).map_or(String::new(), |near| format!("; did you mean '{near}'?"))
}
