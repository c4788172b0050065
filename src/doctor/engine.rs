//! What one engine says of itself.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::datalayer::exposition::FamilyName;
use crate::endpoints::Endpoint;
use crate::scrape_config::EngineMap;

/// A model that an endpoint serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Model {
    pub id: String,
    /// The base model of an adapter.
    #[serde(default)]
    pub parent: Option<String>,
    #[serde(default)]
    pub max_model_len: Option<u64>,
}

impl Model {
    /// The models of an answer to `/v1/models`.
    pub(super) fn list(answer: &[u8]) -> Option<Vec<Self>> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        serde_json::from_slice(answer).ok().map(|list: List| list.data)
    }

    pub(super) fn is_adapter(&self) -> bool {
        self.parent.as_deref().is_some_and(|parent| !parent.is_empty())
    }
}

/// What an engine says of its KV cache. `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cache {
    /// Tokens.
    pub block_size: Option<u32>,
    pub num_blocks: Option<u32>,
    /// Prefixes are kept.
    pub prefix_caching: Option<bool>,
}

impl Cache {
    /// Tokens that it holds.
    pub(super) fn tokens(self) -> Option<u64> {
        Some(u64::from(self.block_size?) * u64::from(self.num_blocks?))
    }
}

/// Whether prefixes are kept, by the info metric of the cache.
pub(super) fn prefix_caching(map: &EngineMap, page: &[u8]) -> Option<bool> {
    let spec = map.cache_info.as_ref()?;
    let family = FamilyName::new(&spec.name).find(page, 0)?;
    let sample = family.samples().find_map(Result::ok)?;
    match &*sample.labels.get("enable_prefix_caching")? {
        "True" | "true" | "1" => Some(true),
        "False" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// The counters of tokens looked up in the cache and found there, in the names of vLLM since 0.9
/// and before.
const HITS: [&str; 2] = ["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"];

/// Prompt tokens found in the cache so far, of all models.
pub(super) fn cache_hits(page: &[u8]) -> Option<f64> {
    let family = HITS.iter().find_map(|name| FamilyName::new(name).find(page, 0))?;
    Some(family.samples().filter_map(Result::ok).map(|sample| sample.value).sum())
}

/// What was seen of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub endpoint: Arc<Endpoint>,
    pub at: SocketAddr,
    /// `None`: it did not say.
    pub models: Option<Vec<Model>>,
    pub cache: Cache,
    /// It takes connections.
    pub answers: bool,
}

impl Seen {
    /// What it is called in findings.
    pub(super) fn name(&self) -> String {
        name(&self.endpoint)
    }
}

/// `namespace/name (address)`, or the address alone where that is its name.
pub(super) fn name(endpoint: &Endpoint) -> String {
    match endpoint.id.ends_with(&*endpoint.host_port) {
        true => endpoint.host_port.to_string(),
        false => format!("{} ({})", endpoint.id, endpoint.host_port),
    }
}
