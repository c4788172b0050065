use super::config_error::ConfigError;
use super::cost::CostModel;
use super::transfer::KvTransfer;

/// An engine's limits and speed. The defaults of the sizes are vLLM's for a server GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Tokens per KV-cache block.
    pub block_size: u32,
    /// KV-cache blocks.
    pub num_blocks: u32,
    /// Sequences that run at once at most.
    pub max_num_seqs: u32,
    /// Tokens computed in one step at most, prompts and decoding together.
    pub max_num_batched_tokens: u32,
    /// Prompt and answer together at most, in tokens.
    pub max_model_len: u32,
    /// Adapters whose requests run at once at most.
    pub max_loras: u32,
    /// Each step is put together as soon as the one before it is launched, not when it ends, as
    /// vLLM does by default since 0.14: what arrives meanwhile waits for the step after it.
    pub async_scheduling: bool,
    /// Find the heads of prompts in the cache; without it every prompt is computed in full.
    pub prefix_caching: bool,
    /// What fetching a prompt's KV from another engine costs.
    pub transfer: KvTransfer,
    /// Emit an event for every token, not only the first of a request.
    pub token_events: bool,
    pub cost: CostModel,
}

impl EngineConfig {
    /// The same engine, `speed` times as fast.
    pub fn at_speed(mut self, speed: f64) -> Result<Self, ConfigError> {
        if !speed.is_finite() || speed <= 0.0 {
            return Err(ConfigError::Speed(speed.to_string()));
        }
        self.cost = self.cost.at_speed(speed);
        Ok(self)
    }

    /// Checks what vLLM checks when it starts.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // What memory is kept for is bounded, well above any server there is.
        let sizes = [
            ("block_size", self.block_size, 1 << 16),
            ("num_blocks", self.num_blocks, 1 << 26),
            ("max_num_seqs", self.max_num_seqs, 1 << 20),
            ("max_num_batched_tokens", self.max_num_batched_tokens, u32::MAX),
            ("max_model_len", self.max_model_len, u32::MAX),
            ("max_loras", self.max_loras, u32::MAX),
        ];
        for (name, size, max) in sizes {
            if size == 0 {
                return Err(ConfigError::Zero(name));
            }
            if size > max {
                return Err(ConfigError::TooLarge { name, max });
            }
        }
        if self.max_num_batched_tokens < self.max_num_seqs {
            return Err(ConfigError::BudgetBelowSeqs {
                batched: self.max_num_batched_tokens,
                seqs: self.max_num_seqs,
            });
        }
        let capacity = u64::from(self.block_size) * u64::from(self.num_blocks);
        if u64::from(self.max_model_len) > capacity {
            return Err(ConfigError::CacheBelowModelLen {
                model_len: self.max_model_len,
                capacity,
            });
        }
        self.cost.validate()?;
        self.transfer.validate()
    }
}
