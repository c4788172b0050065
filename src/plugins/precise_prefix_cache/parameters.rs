use crate::plugins::{Kind, Parameter};

const PODS: &str = "the endpoints of the pool are followed";
const INDEX: &str = "the index is of another kind here";
const SEED: &str = "engines' hashes are never recomputed, so no seed has to match";
const IN_PROCESS: &str =
    "the index lies in this process, and every replica follows the engines itself";
const SCORERS: &str = "llm-d v0.3 to v0.8";

/// The parameters of `precise-prefix-cache-producer`.
pub(in crate::plugins) const PRODUCER_PARAMETERS: [Parameter; 5] = [
    Parameter::fields("tokenProcessorConfig", &TOKENS, "how prompts are cut into blocks"),
    Parameter::fields("indexerConfig", &INDEXER, "what is kept of the engines' blocks"),
    EVENTS_PARAMETER,
    SPECULATE,
    SPECULATIVE_TTL,
];

/// Those of scorers that follow the engines themselves.
pub(in crate::plugins) const SCORER_PARAMETERS: [Parameter; 5] = [
    Parameter::fields("tokenProcessorConfig", &TOKENS, "how prompts are cut into blocks"),
    Parameter::fields("indexerConfig", &SCORER_INDEXER, "what is kept of the engines' blocks"),
    EVENTS_PARAMETER,
    SPECULATE,
    SPECULATIVE_TTL,
];

const EVENTS_PARAMETER: Parameter =
    Parameter::fields("kvEventsConfig", &EVENTS, "where the engines' events come from");

const SPECULATE: Parameter = Parameter::boolean(
    "speculativeIndexing",
    "believe for a while that an endpoint holds what it was sent",
)
.default("false");

const SPECULATIVE_TTL: Parameter = Parameter::duration("speculativeTTL", "for how long")
    .default("2s")
    .beside("{speculativeIndexing: true}");

const TOKENS: [Parameter; 4] = [
    Parameter::integer("blockSizeTokens", "block size while no engine has said its own")
        .unit("tokens")
        .default("16")
        .at_least(1.0)
        .at_most(65536.0),
    Parameter::integer("blockSize", "blockSizeTokens")
        .unit("tokens")
        .at_least(1.0)
        .at_most(65536.0)
        .older(SCORERS),
    Parameter::of_kind("hashSeed", Kind::Any, "the engines' seed").without_effect(SEED),
    Parameter::one_of("hashAlgorithm", &["", "cbor-fnv", "xxh64"], "the engines' hash")
        .without_effect(SEED),
];

const INDEXER: [Parameter; 2] = [BLOCK_INDEX, BACKENDS_PARAMETER];

const SCORER_INDEXER: [Parameter; 7] = [
    BLOCK_INDEX,
    BACKENDS_PARAMETER,
    Parameter::fields("tokenProcessorConfig", &TOKENS, "the tokenProcessorConfig above")
        .older(SCORERS),
    Parameter::boolean("speculativeIndexing", "the speculativeIndexing above").older(SCORERS),
    Parameter::of_kind("tokenizersPoolConfig", Kind::Any, "tokenizers inside the scorer")
        .dropped("where there is no token-producer, endpoints are asked for the tokens"),
    Parameter::of_kind("prefixStoreConfig", Kind::Any, "a cache of tokens").dropped(INDEX),
    Parameter::of_kind("kvBlockScorerConfig", Kind::Any, "how tiers count").dropped(INDEX),
];

const BLOCK_INDEX: Parameter =
    Parameter::fields("kvBlockIndexConfig", &BLOCKS, "how much is kept; one of the sizes");

const BACKENDS_PARAMETER: Parameter =
    Parameter::each("kvCacheBackendConfigs", &BACKENDS, "what a block counts, by its medium")
        .default("[{name: gpu, weight: 1.0}, {name: cpu, weight: 0.8}]");

const BACKENDS: [Parameter; 2] = [
    Parameter::text("name", "the medium, as engines call it").required().example("cpu"),
    Parameter::number("weight", "what a block on it counts").default("1.0").at_least(0.0),
];

const BLOCKS: [Parameter; 6] = [
    Parameter::fields("inMemoryConfig", &IN_MEMORY, "a number of blocks; either this"),
    Parameter::fields("costAwareMemoryConfig", &COST, "or a size"),
    Parameter::of_kind("redisConfig", Kind::Any, "an index elsewhere").without_effect(IN_PROCESS),
    Parameter::of_kind("valkeyConfig", Kind::Any, "an index elsewhere").without_effect(IN_PROCESS),
    Parameter::boolean("enableMetrics", "metrics of the index")
        .without_effect("they are always there"),
    Parameter::of_kind("metricsLoggingInterval", Kind::Any, "how often they are logged")
        .without_effect("they are not logged"),
];

const IN_MEMORY: [Parameter; 2] = [
    Parameter::integer("size", "blocks kept").unit("blocks").default("100000000").at_least(1.0),
    Parameter::integer("podCacheSize", "endpoints of a block")
        .at_least(1.0)
        .without_effect("all are kept"),
];

const COST: [Parameter; 1] =
    [Parameter::text("size", "memory for blocks").unit("bytes, as 2GiB").example("2GiB")];

const EVENTS: [Parameter; 6] = [
    Parameter::text(
        "zmqEndpoint",
        "wait here for engines that connect; else they are connected to",
    )
    .example("tcp://*:5557"),
    Parameter::text("topicFilter", "how the topics of events begin").default("kv@"),
    Parameter::fields("podDiscoveryConfig", &DISCOVERY, "the engines' sockets"),
    Parameter::boolean("discoverPods", "connect to the endpoints").default("true"),
    Parameter::integer("concurrency", "threads that take events in")
        .at_least(1.0)
        .without_effect("there is one"),
    Parameter::one_of("engineType", &["", "vllm", "sglang"], "the engines")
        .without_effect("it is told from the events"),
];

const DISCOVERY: [Parameter; 4] = [
    Parameter::integer("socketPort", "the port that an engine publishes at, of rank 0")
        .default("5557")
        .at_least(1.0)
        .at_most(65535.0),
    Parameter::integer("replaySocketPort", "the port at which it repeats; 0: none")
        .default("0")
        .at_least(0.0)
        .at_most(65535.0),
    Parameter::of_kind("podLabelSelector", Kind::Any, "which pods").without_effect(PODS),
    Parameter::of_kind("podNamespace", Kind::Any, "whose pods").without_effect(PODS),
];
