use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::{Fields, parse_quantity};
use crate::kv_events::Publishers;
use crate::kv_index::{BYTES_PER_BLOCK, Limits, MAX_BLOCKS_PER_HOLDER, TIERS, Tier};
use crate::plugins::parameters;

/// Defaults of llm-d-router main at ebab6879.
const DEFAULT_BLOCK_TOKENS: u32 = 16;
const DEFAULT_TOPIC_FILTER: &str = "kv@";
const DEFAULT_SOCKET_PORT: u16 = 5557;
const DEFAULT_INDEX_SIZE: u64 = 100_000_000;
const DEFAULT_SPECULATIVE_TTL: Duration = Duration::from_secs(2);
const DEFAULT_WEIGHTS: [f64; TIERS] = [1.0, 0.8, 1.0, 1.0];
/// Blocks of one endpoint: no engine we know of has more.
const BLOCKS_PER_ENDPOINT: usize = 4 << 20;
const MAX_BLOCK_TOKENS: i64 = 1 << 16;

/// Whose parameters they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugins) enum Generation {
    /// The producer of llm-d-router v0.9 and later: strict.
    Producer,
    /// Scorers that track caches themselves, which also made the tokens themselves and had some
    /// parameters at other places.
    Scorer,
}

/// How endpoints' events are followed and what is made of them.
#[derive(Clone, Debug)]
pub(in crate::plugins) struct PreciseSettings {
    /// Tokens per block while no engine has said how many it has.
    pub block_tokens: u32,
    /// What a block is worth, by the tier it lies on.
    pub weights: [f64; TIERS],
    pub limits: Limits,
    pub publishers: Publishers,
    pub topic_filter: String,
    /// How long it is believed that a prompt that was sent will be held; `None`: not at all.
    pub speculative_ttl: Option<Duration>,
}

impl PreciseSettings {
    /// Reads the parameters of this kind from `p`, and leaves all others.
    pub(crate) fn read(p: &mut Fields<'_>, generation: Generation) -> Self {
        let mut indexer = p.nested("indexerConfig");
        let mut block_tokens = read_block_tokens(p.nested("tokenProcessorConfig"));
        if generation == Generation::Scorer {
            let older = read_block_tokens(indexer.nested("tokenProcessorConfig"));
            block_tokens = block_tokens.or(older);
        }
        let blocks = read_index_size(indexer.nested("kvBlockIndexConfig"));
        let weights = read_weights(&mut indexer);
        let mut speculative = p.bool("speculativeIndexing").unwrap_or(false);
        read_tokenizers(&mut indexer, generation);
        if generation == Generation::Scorer {
            // Stood there at times.
            speculative |= indexer.bool("speculativeIndexing").unwrap_or(false);
            for name in ["prefixStoreConfig", "kvBlockScorerConfig"] {
                parameters::without_effect(&mut indexer, name, "the index is of another kind here");
            }
        }
        indexer.finish();
        let ttl = p.duration("speculativeTTL").unwrap_or(DEFAULT_SPECULATIVE_TTL);
        let (publishers, topic_filter) = read_events(p.nested("kvEventsConfig"));
        Self {
            block_tokens: block_tokens.unwrap_or(DEFAULT_BLOCK_TOKENS),
            weights,
            limits: Limits {
                bytes: blocks.saturating_mul(BYTES_PER_BLOCK),
                blocks_per_holder: BLOCKS_PER_ENDPOINT.min(MAX_BLOCKS_PER_HOLDER),
            },
            publishers,
            topic_filter,
            speculative_ttl: speculative.then_some(ttl),
        }
    }
}

fn read_block_tokens(mut p: Fields<'_>) -> Option<u32> {
    let newer = p.int_in("blockSizeTokens", 1..=MAX_BLOCK_TOKENS);
    let older = p.int_in("blockSize", 1..=MAX_BLOCK_TOKENS);
    if newer.is_some() && older.is_some() {
        p.warning("blockSize", "has no effect beside its successor 'blockSizeTokens'");
    }
    let why = "engines' hashes are never recomputed, so no seed has to match";
    parameters::without_effect(&mut p, "hashSeed", why);
    match p.string("hashAlgorithm") {
        None | Some("" | "cbor-fnv" | "xxh64") => {}
        Some(_) => p.error("hashAlgorithm", "must be 'cbor-fnv' or 'xxh64'"),
    }
    p.finish();
    newer.or(older).and_then(|tokens| u32::try_from(tokens).ok())
}

/// How many blocks the index holds at most.
fn read_index_size(mut p: Fields<'_>) -> usize {
    let mut memory = p.nested("inMemoryConfig");
    let size = memory.int_in("size", 1..=i64::MAX).map(i64::unsigned_abs);
    memory.int_in("podCacheSize", 1..=i64::MAX);
    memory.finish();
    let mut cost = p.nested("costAwareMemoryConfig");
    let bytes = cost.string("size").map(parse_quantity);
    if bytes == Some(None) {
        cost.error("size", "must be a quantity of bytes, such as 2GiB");
    }
    cost.finish();
    let backends = ["inMemoryConfig", "costAwareMemoryConfig", "redisConfig", "valkeyConfig"];
    let given = backends.into_iter().filter(|name| p.node(name).is_some()).count();
    if given > 1 {
        let message = "at most one of inMemoryConfig, costAwareMemoryConfig and redisConfig";
        p.diagnostics().error(p.at(), p.path(), message);
    }
    for name in ["redisConfig", "valkeyConfig"] {
        let why = "the index lies in this process, and every replica follows the engines itself";
        parameters::without_effect(&mut p, name, why);
    }
    p.bool("enableMetrics");
    p.node("metricsLoggingInterval");
    p.finish();
    let of_bytes = bytes.flatten().map(|bytes| bytes / BYTES_PER_BLOCK as u64);
    usize::try_from(of_bytes.or(size).unwrap_or(DEFAULT_INDEX_SIZE)).unwrap_or(usize::MAX)
}

/// `[{name, weight}]`: names are media of engines, in any case.
fn read_weights(indexer: &mut Fields<'_>) -> [f64; TIERS] {
    let mut weights = DEFAULT_WEIGHTS;
    for mut backend in indexer.each("kvCacheBackendConfigs") {
        let weight = backend.float("weight").unwrap_or(1.0);
        if !weight.is_finite() || weight < 0.0 {
            backend.error("weight", format!("must not be negative, found {weight}"));
        } else if let Some(name) = backend.string("name") {
            weights[crate::kv_events::tier(Some(name)) as usize] = weight;
        } else {
            backend.error("name", "is missing");
        }
        backend.finish();
    }
    weights
}

/// Tokenizers that the older kinds had inside: prompts are turned into tokens by a
/// `token-producer`, or by the endpoints.
fn read_tokenizers(indexer: &mut Fields<'_>, generation: Generation) {
    if indexer.node("tokenizersPoolConfig").is_none() {
        return;
    }
    if generation == Generation::Producer {
        let message = "does not belong here; configure a 'token-producer'";
        indexer.error("tokenizersPoolConfig", message);
        return;
    }
    let why = "where no 'token-producer' is configured, endpoints are asked for the tokens";
    indexer.warning("tokenizersPoolConfig", format!("is not needed: {why}"));
}

fn read_events(mut p: Fields<'_>) -> (Publishers, String) {
    let filter = p.string("topicFilter").unwrap_or(DEFAULT_TOPIC_FILTER).to_owned();
    p.int_in("concurrency", 1..=i64::MAX);
    match p.string("engineType") {
        None | Some("" | "vllm" | "sglang") => {}
        Some(_) => p.error("engineType", "must be 'vllm' or 'sglang'"),
    }
    let discover = p.bool("discoverPods");
    let mut pods = p.nested("podDiscoveryConfig");
    for name in ["podLabelSelector", "podNamespace"] {
        parameters::without_effect(&mut pods, name, "the endpoints of the pool are followed");
    }
    let port = |p: &mut Fields<'_>, name| {
        p.int_in(name, 1..=i64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
    };
    let socket = port(&mut pods, "socketPort").unwrap_or(DEFAULT_SOCKET_PORT);
    // 0 is none in the reference.
    let replay = pods.int_in("replaySocketPort", 0..=i64::from(u16::MAX));
    let replay_port = replay.and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
    pods.finish();
    let bound = p.string("zmqEndpoint").filter(|text| !text.is_empty());
    let publishers = match bound {
        Some(text) => match address(text) {
            Some(address) => {
                if discover == Some(true) {
                    let why = "publishers connect to 'zmqEndpoint'; pods are not connected to";
                    p.warning("discoverPods", format!("has no effect: {why}"));
                }
                Publishers::ConnectTo(address)
            }
            None => {
                p.error("zmqEndpoint", "must be of the form tcp://*:PORT or tcp://IP:PORT");
                Publishers::AtEndpoints { port: socket, replay_port }
            }
        },
        None => {
            if discover == Some(false) {
                p.warning(
                    "discoverPods",
                    "without 'zmqEndpoint' nothing would be heard; the endpoints are followed",
                );
            }
            Publishers::AtEndpoints { port: socket, replay_port }
        }
    };
    p.finish();
    (publishers, filter)
}

fn address(text: &str) -> Option<SocketAddr> {
    let rest = text.strip_prefix("tcp://")?;
    if let Some(port) = rest.strip_prefix("*:") {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port.parse().ok()?));
    }
    rest.parse().ok()
}

impl PreciseSettings {
    /// What the tiers' blocks are worth together, in blocks.
    pub(crate) fn worth(&self, tiers: [u32; TIERS]) -> f64 {
        tiers.iter().zip(self.weights).map(|(&blocks, weight)| f64::from(blocks) * weight).sum()
    }

    /// What a block counts that is expected and not held: as in the reference, as one of a medium
    /// that is not named.
    pub(crate) fn expected_weight(&self) -> f64 {
        self.weights[Tier::Gpu as usize]
    }
}
