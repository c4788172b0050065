use std::fmt;

use xxhash_rust::xxh64::{Xxh64, xxh64};

/// What every block hash of a process depends on. Whoever does not know it cannot choose prompts
/// whose blocks lie together in the index, so that each look-up has to go past all of them. Hashes
/// never leave the process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(u64);

impl HashKey {
    /// The key of the published algorithm: everybody knows it. For simulations, which are to take
    /// the same time whenever they run.
    pub const PUBLIC: Self = Self(0);

    /// A key nobody knows.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// What every chain of a request starts from: the hash of the model's name followed by the
    /// cache salt (llm-d-router main at ebab6879). A LoRA adapter is a model name of its own.
    pub fn seed(self, target_model: &str, cache_salt: &str) -> ChainSeed {
        let root = if cache_salt.is_empty() {
            xxh64(target_model.as_bytes(), self.0)
        } else {
            let mut state = Xxh64::new(self.0);
            state.update(target_model.as_bytes());
            state.update(cache_salt.as_bytes());
            state.digest()
        };
        ChainSeed { key: self, root }
    }
}

/// Random, as the keys of the standard library's maps.
impl Default for HashKey {
    fn default() -> Self {
        Self::random()
    }
}

/// Says nothing of the key.
impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

/// What the chains of a request start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainSeed {
    pub(super) key: HashKey,
    pub(super) root: u64,
}
