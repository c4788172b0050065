//! What to scrape, and which of a worker's metrics mean what.
//!
//! Plain values, made by the pipeline from the configuration and the flags. The engine tables
//! are those of llm-d-router main at ebab6879 (`core-metrics-extractor`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoints::{Labels, Scalar, ServedModels, StateSlot};

/// Plain or encrypted scraping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    /// Reads `http` or `https`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

/// How workers are asked for their metrics. Defaults are those of `metrics-data-source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeConfig {
    pub scheme: Scheme,
    /// Begins with `/`; may carry a query.
    pub path: String,
    /// `None`: the port that serves requests.
    pub port: Option<u16>,
    /// Accept any certificate. On by default, as in the reference: workers have self-signed ones.
    pub insecure_skip_verify: bool,
    pub ca_cert_path: Option<PathBuf>,
    /// Given together with `client_key_path` or not at all.
    pub client_cert_path: Option<PathBuf>,
    pub client_key_path: Option<PathBuf>,
    /// Time between two scrapes of one worker; `None`: the process-wide refresh interval.
    pub interval: Option<Duration>,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            scheme: Scheme::Http,
            path: "/metrics".into(),
            port: None,
            insecure_skip_verify: true,
            ca_cert_path: None,
            client_cert_path: None,
            client_key_path: None,
            interval: None,
        }
    }
}

/// Which signals somebody reads; the others are neither looked for nor decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Requests waiting.
    pub queue: bool,
    /// Requests running.
    pub running: bool,
    /// KV-cache usage.
    pub kv: bool,
    /// LoRA adapters.
    pub lora: bool,
    /// KV-cache block size and count.
    pub cache: bool,
}

impl Needs {
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

impl std::ops::BitOrAssign for Needs {
    fn bitor_assign(&mut self, other: Self) {
        self.queue |= other.queue;
        self.running |= other.running;
        self.kv |= other.kv;
        self.lora |= other.lora;
        self.cache |= other.cache;
    }
}

/// A metric family and the labels a series of it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    pub name: String,
    pub labels: Vec<(String, String)>,
}

impl MetricSpec {
    /// Reads `name` or `name{label=value, label="value"}`. Quotes are optional; within them
    /// `\\`, `\"` and `\n` stand for themselves. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, rest) = match text.split_once('{') {
            Some((name, rest)) => (name.trim_end(), Some(rest)),
            None => (text, None),
        };
        if !is_metric_name(name) {
            return Err(format!("'{name}' is not a metric name"));
        }
        let labels = rest.map_or(Ok(Vec::new()), parse_matchers)?;
        Ok(Self { name: name.to_owned(), labels })
    }
}

/// The form that [`MetricSpec::parse`] reads.
impl fmt::Display for MetricSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (label, value)) in self.labels.iter().enumerate() {
            let before = if i == 0 { "{" } else { "," };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{before}{label}=\"{value}\"")?;
        }
        if self.labels.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

fn is_metric_name(name: &str) -> bool {
    is_label_name(&name.replace(':', "_"))
}

fn is_label_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads what follows the `{`.
fn parse_matchers(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return match after.trim() {
                "" => Ok(labels),
                more => Err(format!("'{more}' stands after the closing brace")),
            };
        }
        let Some((label, after)) = rest.split_once('=') else {
            return Err("a label matcher must be label=value, closed by '}'".into());
        };
        let label = label.trim();
        if !is_label_name(label) {
            return Err(format!("'{label}' is not a label name; only label=value is understood"));
        }
        let (value, after) = parse_value(after.trim_start())?;
        labels.push((label.to_owned(), value));
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
        } else if !rest.starts_with('}') {
            return Err(format!("expected ',' or '}}' after the value of label '{label}'"));
        }
    }
}

fn parse_value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '}']).unwrap_or(text.len());
        let value = text[..end].trim_end();
        if value.contains(['"', '{', '=', '~']) {
            return Err(format!("the label value '{value}' must be quoted"));
        }
        return Ok((value.to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[i + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                _ => return Err("a label value has an unknown escape".into()),
            },
            c => value.push(c),
        }
    }
    Err("a label value has no closing quote".into())
}

/// Which metrics of one inference engine carry the signals; `None` = not collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineMap {
    pub name: String,
    /// Requests waiting.
    pub queued: Option<MetricSpec>,
    /// Requests running.
    pub running: Option<MetricSpec>,
    /// KV-cache usage, 0 to 1.
    pub kv_usage: Option<MetricSpec>,
    /// Read where `kv_usage` is not there: the name older versions of the engine use.
    pub kv_usage_fallback: Option<MetricSpec>,
    /// LoRA adapters, in the labels of an info metric.
    pub lora: Option<MetricSpec>,
    /// The info metric whose labels carry the cache's geometry.
    pub cache_info: Option<MetricSpec>,
    /// Its label with the block size, tokens.
    pub block_size_label: Option<String>,
    /// Its label with the number of blocks.
    pub num_blocks_label: Option<String>,
    /// The block size as a value of its own.
    pub block_size: Option<MetricSpec>,
    /// The number of blocks as a value of its own.
    pub num_blocks: Option<MetricSpec>,
    /// Numbers that are read for whoever knows their names.
    pub custom: Vec<CustomMetric>,
}

/// A metric that is no signal, and where its value is kept of each endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomMetric {
    pub spec: MetricSpec,
    pub slot: StateSlot<Scalar>,
}

/// A page that is asked for beside the metrics: what it is of, and how it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageScrape {
    /// Type of the data source, and of what reads its pages; for counters and messages.
    pub source: &'static str,
    pub extractor: &'static str,
    pub scrape: ScrapeConfig,
    /// The node is asked, where its address is known, and not the worker.
    pub at_node: bool,
    pub content: PageContent,
}

/// What a page is read for, and where that is kept of each endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageContent {
    /// A DCGM exporter's metrics: how busy the worker's busiest GPU is, 0 to 1.
    GpuUtilization(StateSlot<Scalar>),
    /// The answer to `/v1/models`.
    Models(StateSlot<ServedModels>),
}

/// What a worker is taken for when nothing is known of its engine.
static UNKNOWN: EngineMap = EngineMap {
    name: String::new(),
    queued: None,
    running: None,
    kv_usage: None,
    kv_usage_fallback: None,
    lora: None,
    cache_info: None,
    block_size_label: None,
    num_blocks_label: None,
    block_size: None,
    num_blocks: None,
    custom: Vec::new(),
};

/// The engines known, and how a worker says which one it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineMaps {
    /// Labels that name the engine; the first one present counts.
    pub label_keys: Vec<String>,
    /// The engine of a worker without such a label, or with a value not known here.
    pub default_engine: String,
    pub engines: Vec<EngineMap>,
}

/// The label that names a worker's engine.
pub const ENGINE_LABEL: &str = "llm-d.ai/engine-type";
/// Its name before the project moved; read where the other is absent.
pub const LEGACY_ENGINE_LABEL: &str = "inference.networking.k8s.io/engine-type";

/// vLLM's KV-cache usage: today's name, and the one before vLLM 0.10.
pub const VLLM_KV_USAGE: [&str; 2] = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"];

impl Default for EngineMaps {
    fn default() -> Self {
        Self {
            label_keys: vec![ENGINE_LABEL.into(), LEGACY_ENGINE_LABEL.into()],
            default_engine: "vllm".into(),
            engines: built_in_engines(),
        }
    }
}

impl EngineMaps {
    /// The map of the engine that a worker with these labels runs.
    pub fn for_labels(&self, labels: &Labels) -> &EngineMap {
        let named = self.label_keys.iter().find_map(|key| labels.get(key));
        named
            .and_then(|name| self.find(name))
            .or_else(|| self.find(&self.default_engine))
            .unwrap_or(&UNKNOWN)
    }

    /// The map of this name.
    pub fn find(&self, name: &str) -> Option<&EngineMap> {
        self.engines.iter().find(|e| e.name == name)
    }

    /// Puts `map` in the place of the one of its name, or adds it.
    pub fn set(&mut self, map: EngineMap) {
        match self.engines.iter_mut().find(|e| e.name == map.name) {
            Some(slot) => *slot = map,
            None => self.engines.push(map),
        }
    }
}

fn built_in_engines() -> Vec<EngineMap> {
    let plain = |name: &str| Some(MetricSpec { name: name.into(), labels: Vec::new() });
    let with = |name: &str, label: &str, value: &str| {
        Some(MetricSpec { name: name.into(), labels: vec![(label.into(), value.into())] })
    };
    let [kv_usage, old_kv_usage] = VLLM_KV_USAGE;
    let trt_requests = |kind| with("nv_trt_llm_request_metrics", "request_type", kind);
    let trt_blocks = |kind| with("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", kind);
    vec![
        EngineMap {
            name: "vllm".into(),
            queued: plain("vllm:num_requests_waiting"),
            running: plain("vllm:num_requests_running"),
            kv_usage: plain(kv_usage),
            kv_usage_fallback: plain(old_kv_usage),
            lora: plain("vllm:lora_requests_info"),
            cache_info: plain("vllm:cache_config_info"),
            block_size_label: Some("block_size".into()),
            num_blocks_label: Some("num_gpu_blocks".into()),
            ..EngineMap::default()
        },
        EngineMap {
            name: "sglang".into(),
            queued: plain("sglang:num_queue_reqs"),
            running: plain("sglang:num_running_reqs"),
            kv_usage: plain("sglang:token_usage"),
            cache_info: plain("sglang:cache_config_info"),
            block_size_label: Some("page_size".into()),
            num_blocks_label: Some("num_pages".into()),
            ..EngineMap::default()
        },
        EngineMap {
            name: "trtllm-serve".into(),
            queued: plain("trtllm_num_requests_waiting"),
            running: plain("trtllm_num_requests_running"),
            kv_usage: plain("trtllm_kv_cache_utilization"),
            block_size: plain("trtllm_kv_cache_tokens_per_block"),
            num_blocks: plain("trtllm_kv_cache_max_blocks"),
            ..EngineMap::default()
        },
        EngineMap {
            name: "triton-tensorrt-llm".into(),
            queued: trt_requests("waiting"),
            running: trt_requests("scheduled"),
            kv_usage: trt_blocks("fraction"),
            block_size: trt_blocks("tokens_per"),
            num_blocks: trt_blocks("max"),
            ..EngineMap::default()
        },
        EngineMap {
            name: "triton".into(),
            queued: plain("nv_inference_pending_request_count"),
            running: plain("nv_inference_exec_count"),
            ..EngineMap::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metric_specs() {
        type Spec = (&'static str, &'static [(&'static str, &'static str)]);
        let cases: &[(&str, Result<Spec, &str>)] = &[
            ("vllm:num_requests_waiting", Ok(("vllm:num_requests_waiting", &[]))),
            ("  up  ", Ok(("up", &[]))),
            ("up{}", Ok(("up", &[]))),
            ("up{a=b}", Ok(("up", &[("a", "b")]))),
            ("up{ a = b , c=\"d, e}\" }", Ok(("up", &[("a", "b"), ("c", "d, e}")]))),
            ("up {a=\"\\\"\\\\\\n\",}", Ok(("up", &[("a", "\"\\\n")]))),
            ("up{a=}", Ok(("up", &[("a", "")]))),
            ("", Err("'' is not a metric name")),
            ("9up", Err("'9up' is not a metric name")),
            ("rate(up)", Err("'rate(up)' is not a metric name")),
            ("up{a", Err("a label matcher must be label=value, closed by '}'")),
            ("up{a=b", Err("expected ',' or '}' after the value of label 'a'")),
            ("up{a=\"b}", Err("a label value has no closing quote")),
            ("up{a=\"\\t\"}", Err("a label value has an unknown escape")),
            ("up{a!=b}", Err("'a!' is not a label name; only label=value is understood")),
            ("up{a=~b}", Err("the label value '~b' must be quoted")),
            ("up{a=b} > 1", Err("'> 1' stands after the closing brace")),
        ];
        for (text, expected) in cases {
            let got = MetricSpec::parse(text);
            let expected = expected.map_err(str::to_owned).map(|(name, labels)| MetricSpec {
                name: name.into(),
                labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            });
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn a_workers_labels_name_its_engine() {
        let maps = EngineMaps::default();
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "vllm"),
            (&[(ENGINE_LABEL, "sglang")], "sglang"),
            (&[(LEGACY_ENGINE_LABEL, "triton")], "triton"),
            (&[(LEGACY_ENGINE_LABEL, "triton"), (ENGINE_LABEL, "sglang")], "sglang"),
            (&[(ENGINE_LABEL, "something-else")], "vllm"),
            (&[("app", "sglang")], "vllm"),
        ];
        for (labels, engine) in cases {
            let labels: Labels =
                labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(maps.for_labels(&labels).name, *engine, "{labels:?}");
        }
        let nothing = EngineMaps { engines: Vec::new(), ..EngineMaps::default() };
        assert_eq!(*nothing.for_labels(&Labels::new()), EngineMap::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(spec) = MetricSpec::parse(&text) {
                prop_assert_eq!(MetricSpec::parse(&spec.to_string()), Ok(spec));
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,9}",
            labels in proptest::collection::vec(("[a-z_][a-z0-9_]{0,5}", "\\PC{0,9}|[\n\"\\\\]{1,3}"), 0..4),
        ) {
            let spec = MetricSpec { name, labels };
            prop_assert_eq!(MetricSpec::parse(&spec.to_string()), Ok(spec));
        }
    }
}
