//! HTTP headers as slices of the message they came in, and the names that steer picking.

use bytes::Bytes;

/// Request headers: keys in lower case, in the order received, slices of the message they came
/// in. Of a repeated header the last value counts, as in the reference.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(Bytes, Bytes)>);

impl Headers {
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// Adds a header, replacing an earlier one of the same name.
    pub fn set(&mut self, key: Bytes, value: Bytes) {
        let key = if key.iter().any(u8::is_ascii_uppercase) {
            key.to_ascii_lowercase().into()
        } else {
            key
        };
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(slot) => slot.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// The value of a header by its lower-case name; `None` where it is not UTF-8.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_raw(key).and_then(|v| std::str::from_utf8(v).ok())
    }

    pub fn get_raw(&self, key: &str) -> Option<&Bytes> {
        self.0.iter().find(|(k, _)| k == key.as_bytes()).map(|(_, v)| v)
    }

    /// The value of a control header by either of its names; the new name wins, an empty value
    /// counts as none.
    pub fn named(&self, names: Named) -> Option<&str> {
        names.iter().find_map(|name| self.get(name)).filter(|v| !v.is_empty())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where the request goes: `ip:port`, or a comma list in order of preference.
pub const DESTINATION: &str = "x-gateway-destination-endpoint";
/// The endpoints that a gateway allows for a request.
pub const DESTINATION_SUBSET: &str = "x-gateway-destination-endpoint-subset";
/// Present on a request whose decision is to be taken down step by step, whatever share is.
pub const EXPLAIN: &str = "x-epp-explain";
/// The endpoint that served, as the gateway reports it with the response.
pub const DESTINATION_SERVED: &str = "x-gateway-destination-endpoint-served";
/// The scores of the endpoints, where they are wanted.
pub const DESTINATION_SCORES: &str = "x-gateway-destination-endpoint-scores";
/// Why a request was dropped, on the response.
pub const DROPPED_REASON: &str = "x-llm-d-request-dropped-reason";
/// When a refused request is worth trying again, on the response.
pub const RETRY_AFTER: &str = "retry-after";
/// Which span of another program a request belongs to (W3C Trace Context).
pub const TRACE_PARENT: &str = "traceparent";
pub const CONTENT_TYPE: &str = "content-type";
pub const REQUEST_ID: &str = "x-request-id";

/// The names that steer a worker's sidecar: which endpoint computes the prompt, which ones encode
/// media, which rank serves, which endpoint has the prefix in its cache.
pub const PREFILLER: &str = "x-prefiller-host-port";
pub const ENCODERS: &str = "x-encoder-hosts-ports";
pub const DATA_PARALLEL: &str = "x-data-parallel-host-port";
pub const KV_CACHE_SOURCE: &str = "x-kv-cache-source-host-port";
/// The reference leaves a client's copy on the request when it writes none itself; we remove it,
/// since it would let a client choose the host that a sidecar connects to.
pub const STEERING: [&str; 4] = [PREFILLER, ENCODERS, DATA_PARALLEL, KV_CACHE_SOURCE];

/// A control header: its name since llm-d v0.9, and the older alias that still counts.
pub type Named = [&'static str; 2];
pub const OBJECTIVE: Named = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];
pub const FAIRNESS_ID: Named = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];
pub const MODEL_REWRITE: Named = ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"];
pub const SLO_TTFT: Named = ["x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"];
pub const SLO_TPOT: Named = ["x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"];
/// How long a request is willing to wait in the queue, as `1500ms` (llm-d-router v0.11.0).
pub const QUEUE_TTL: &str = "x-llm-d-inference-ttl";
/// What a client says of its videos; it has one name each.
pub const VIDEO: [&str; 3] =
    ["x-llm-d-video-fps", "x-llm-d-video-duration-seconds", "x-llm-d-video-resolution"];

/// The request prefers an error to an answer that is not `if-available`: computed from nothing in
/// the endpoint's cache. `prefer` is a list whose elements may have parameters (RFC 7240).
pub fn prefers_if_available(headers: &Headers) -> bool {
    headers.get("prefer").is_some_and(|preferences| {
        preferences.split(',').any(|preference| {
            let name = preference.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("if-available")
        })
    })
}

/// Compares lengths first, which tells nearly every pair of names apart.
pub fn is_named(key: &[u8], name: &str) -> bool {
    key.len() == name.len() && key.eq_ignore_ascii_case(name.as_bytes())
}
