//! What the configuration in force says of its plugins.

use serde_json::Value;

/// A plugin of the configuration, in the spelling of today.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    pub kind: String,
    pub name: String,
    /// As they were given; null where there are none.
    pub parameters: Value,
}

impl Plugin {
    /// The plugins of a configuration after defaults.
    pub(super) fn all(effective: &Value) -> Vec<Self> {
        let list = effective["plugins"].as_array().map_or(&[][..], Vec::as_slice);
        let read = |plugin: &Value| {
            let kind = plugin["type"].as_str()?.to_owned();
            let name = plugin["name"].as_str().unwrap_or(&kind).to_owned();
            Some(Self { kind, name, parameters: plugin["parameters"].clone() })
        };
        list.iter().filter_map(read).collect()
    }

    /// A count among its parameters, by the path to it.
    pub(super) fn count(&self, path: &[&str]) -> Option<u64> {
        path.iter().try_fold(&self.parameters, |at, key| at.get(key))?.as_u64()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.parameters[name].as_bool()
    }

    /// How it estimates what endpoints hold from what they were sent, if it does.
    pub(super) fn estimate(&self) -> Option<Estimate> {
        let count = |name: &str| self.count(&[name]);
        let auto = self.flag("autoTune");
        let (tokens, bytes) = (count("blockSizeTokens"), count("blockSize"));
        let lru = count("lruCapacityPerServer").filter(|n| *n > 0);
        match self.kind.as_str() {
            "approx-prefix-cache-producer" => Some(Estimate {
                auto_tune: auto.unwrap_or(true),
                block: tokens.or(bytes).unwrap_or(16).max(MIN_BLOCK),
                min_block: MIN_BLOCK,
                is_given: tokens.or(bytes).is_some(),
                lru,
                by_tokens: self.flag("capacityByTokens").unwrap_or(false),
            }),
            // With parameters of GIE v0.5 to v1.4 it estimates itself, in bytes of prompt at first.
            "prefix-cache-scorer" => {
                let oldest = count("hashBlockSize");
                let given = [tokens, bytes, oldest, lru].iter().any(Option::is_some);
                (given || auto.is_some()).then(|| Estimate {
                    auto_tune: auto.unwrap_or(tokens.or(bytes).is_some()),
                    block: tokens.or(bytes.or(oldest).map(|n| (n / 4).max(1))).unwrap_or(16),
                    min_block: 1,
                    is_given: tokens.is_some(),
                    lru,
                    by_tokens: false,
                })
            }
            _ => None,
        }
    }
}

/// What `approx-prefix-cache-producer` cuts prompts into is never smaller, tokens (llm-d-router
/// main at ebab6879).
const MIN_BLOCK: u64 = 64;

/// How a plugin estimates what endpoints hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    /// Block size and capacity are those that engines tell.
    pub auto_tune: bool,
    /// Tokens, where engines do not tell.
    pub block: u64,
    pub min_block: u64,
    /// The size stands in the configuration, in tokens.
    pub is_given: bool,
    /// Blocks remembered of an endpoint.
    pub lru: Option<u64>,
    /// The capacity that engines tell is taken in tokens.
    pub by_tokens: bool,
}

impl Estimate {
    /// Tokens that prompts are cut into for an engine with blocks of `theirs`.
    pub(super) fn block_for(&self, theirs: u32) -> u64 {
        let size = if self.auto_tune { theirs.into() } else { self.block };
        size.max(self.min_block)
    }
}
