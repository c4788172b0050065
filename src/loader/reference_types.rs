//! The plugin types of the reference, so that one which does not exist here is told from a
//! misspelt one. From llm-d-router main at ebab6879, and what older versions had besides.

/// Types that the reference calls stable or beta, or has deprecated.
const ESTABLISHED: &[&str] = &[
    "active-request-scorer",
    "always-disagg-multimodal-decider",
    "always-disagg-pd-decider",
    "anthropic-parser",
    "approx-prefix-cache-producer",
    "by-label",
    "by-label-selector",
    "concurrency-detector",
    "context-length-aware",
    "core-metrics-extractor",
    "data-parallel-profile-handler",
    "decode-filter",
    "destination-endpoint-served-verifier",
    "disagg-headers-handler",
    "disagg-profile-handler",
    "edf-ordering-policy",
    "encode-filter",
    "endpoint-notification-source",
    "fcfs-ordering-policy",
    "file-discovery",
    "global-strict-fairness-policy",
    "header-based-testing-filter",
    "inflight-load-producer",
    "k8s-notification-source",
    "kv-cache-utilization-scorer",
    "label-selector-filter",
    "latency-scorer",
    "latency-slo-admitter",
    "load-aware-scorer",
    "lora-affinity-scorer",
    "max-score-picker",
    "metrics-data-source",
    "mm-embeddings-cache-producer",
    "mm-embeddings-cache-scorer",
    "models-data-extractor",
    "models-data-source",
    "no-hit-lru-scorer",
    "openai-parser",
    "passthrough-parser",
    "pd-profile-handler",
    "precise-prefix-cache-producer",
    "precise-prefix-cache-scorer",
    "predicted-latency-producer",
    "prefill-filter",
    "prefill-header-handler",
    "prefix-based-pd-decider",
    "prefix-cache-affinity-filter",
    "prefix-cache-scorer",
    "probabilistic-admitter",
    "program-aware-fairness",
    "queue-scorer",
    "random-picker",
    "request-attribute-reporter",
    "round-robin-fairness-policy",
    "running-requests-size-scorer",
    "session-id-producer",
    "sglanghttp-parser",
    "single-profile-handler",
    "slo-deadline-ordering-policy",
    "slo-headroom-tier-filter",
    "static-usage-limit-policy",
    "token-load-scorer",
    "token-producer",
    "tokenizer",
    "utilization-detector",
    "vertexai-parser",
    "vllmgrpc-parser",
    "vllmhttp-parser",
    "weighted-random-picker",
    // Gone from the reference.
    "decision-tree-filter",
    "kv-cache-scorer",
    "least-kv-cache-filter",
    "least-queue-filter",
    "lora-affinity-filter",
    "low-queue-filter",
    "model-server-protocol-metrics",
    "predicted-latency-scorer",
];

/// Types that the reference calls alpha: they need `--allow-experimental-plugins`.
const EXPERIMENTAL: &[&str] = &[
    "agent-identity",
    "burst-prefix-cache-producer",
    "dcgm-data-source",
    "dcgm-extractor",
    "disaggregatedset-rollout-screener",
    "endpoint-attribute-filter",
    "endpoint-attribute-scorer",
    "header-label-affinity-scorer",
    "header-profile-handler",
    "multicluster-approx-prefix-cache-producer",
    "multicluster-file-discovery",
    "multicluster-kv-cache-utilization-scorer",
    "multicluster-metrics-data-source",
    "multicluster-metrics-extractor",
    "multicluster-prefix-cache-scorer",
    "multicluster-queue-scorer",
    "multicluster-session-affinity-filter",
    "p2p-source-producer",
    "priority-holdback-policy",
    "priority-then-time-eviction-order-policy",
    "session-affinity-filter",
    "session-affinity-scorer",
    "sheddable-eviction-filter",
    "soft-reflective-ceiling-policy",
    "topology-affinity-filter",
    "topology-affinity-scorer",
    "topology-extractor",
    "utilization-filter",
];

/// True where some version of the reference knows the type.
pub(super) fn is_known(name: &str) -> bool {
    ESTABLISHED.contains(&name) || is_experimental(name)
}

/// True where the reference wants `--allow-experimental-plugins` for the type.
pub(super) fn is_experimental(name: &str) -> bool {
    EXPERIMENTAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins;

    #[test]
    fn every_type_is_the_references_or_known_to_be_our_own() {
        let unknown: Vec<_> = plugins::type_names().filter(|name| !is_known(name)).collect();
        assert_eq!(
            unknown,
            [
                "expected-delay-scorer",
                "learned-saturation-detector",
                "lmetric-scorer",
                "token-metering",
                "token-quota",
            ]
        );
    }
}
