//! Measured engines: their sizes and costs, built in or read from a file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::EngineConfig;
use super::config_error::ConfigError;
use super::cost::CostModel;
use super::transfer::{DEFAULT_GBPS, DEFAULT_LATENCY_MS, KvTransfer};

/// What a server was measured to be. In a file it is YAML or JSON with these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineProfile {
    /// What was measured: model, engine, GPU, how.
    #[serde(default)]
    pub description: String,
    /// Tokens per KV-cache block.
    pub block_size: u32,
    /// KV-cache blocks.
    pub num_blocks: u32,
    /// Sequences that run at once at most.
    pub max_num_seqs: u32,
    /// Tokens computed in one step at most.
    pub max_num_batched_tokens: u32,
    /// Prompt and answer together at most, in tokens.
    pub max_model_len: u32,
    /// Each step is put together as soon as the one before it is launched.
    #[serde(default = "yes")]
    pub async_scheduling: bool,
    /// KV of one token in bytes, over all layers.
    pub kv_bytes_per_token: f64,
    pub cost: CostModel,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("there is no profile {name:?}: it is neither a file nor one of {}", PROFILES.join(", "))]
    Unknown { name: String },
    #[error("cannot read the profile {name}: {error}")]
    Read { name: String, error: std::io::Error },
    #[error("the profile {name} is not one: {error}")]
    Parse { name: String, error: serde_yaml::Error },
    #[error("the profile {name}: {error}")]
    Invalid { name: String, error: ConfigError },
}

/// Names that [`EngineProfile::builtin`] knows.
pub const PROFILES: &[&str] = &["h200-qwen7b", "h100-qwen3b"];

impl EngineProfile {
    /// The built-in profile of this name, if there is one (see [`PROFILES`]).
    pub fn builtin(name: &str) -> Option<Self> {
        match name {
            "h200-qwen7b" => Some(h200_qwen7b()),
            "h100-qwen3b" => Some(h100_qwen3b()),
            _ => None,
        }
    }

    /// The built-in profile of this name, else the one in the file of this name.
    ///
    /// # Errors
    /// Where there is neither, or the file's engine cannot run.
    pub fn load(name_or_file: &str) -> Result<Self, ProfileError> {
        if let Some(profile) = Self::builtin(name_or_file) {
            return Ok(profile);
        }
        let name = name_or_file.to_owned();
        if !Path::new(name_or_file).exists() {
            return Err(ProfileError::Unknown { name });
        }
        let text = std::fs::read_to_string(name_or_file)
            .map_err(|error| ProfileError::Read { name: name.clone(), error })?;
        Self::parse(&name, &text)
    }

    /// Reads a profile from YAML or JSON; `name` stands in errors.
    ///
    /// # Errors
    /// Where the text is no profile, or its engine cannot run.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let name = name.to_owned();
        let profile: Self = serde_yaml::from_str(text)
            .map_err(|error| ProfileError::Parse { name: name.clone(), error })?;
        match profile.config().validate() {
            Ok(()) => Ok(profile),
            Err(error) => Err(ProfileError::Invalid { name, error }),
        }
    }

    /// An engine of this profile.
    pub fn config(&self) -> EngineConfig {
        EngineConfig {
            block_size: self.block_size,
            num_blocks: self.num_blocks,
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_model_len: self.max_model_len,
            max_loras: 1,
            async_scheduling: self.async_scheduling,
            prefix_caching: true,
            transfer: KvTransfer::new(self.kv_bytes_per_token, DEFAULT_GBPS, DEFAULT_LATENCY_MS),
            token_events: false,
            cost: self.cost.clone(),
        }
    }
}

fn yes() -> bool {
    true
}

impl EngineConfig {
    /// An engine of the built-in profile of this name; `None` where there is no such profile.
    pub fn profile(name: &str) -> Option<Self> {
        EngineProfile::builtin(name).map(|profile| profile.config())
    }
}

/// Measured: vLLM 0.24.0 on one H200 with a model of Qwen2-7B's shape in bf16 (vocabulary of
/// 32,000), blocks of 16 tokens, 8,192 tokens a step, 40 GiB of KV cache, CUDA graphs up to 256
/// tokens, no torch.compile.
fn h200_qwen7b() -> EngineProfile {
    EngineProfile {
        description: "Qwen2-7B shape in bf16, vLLM 0.24.0, one H200".into(),
        block_size: 16,
        num_blocks: 748_976 / 16,
        max_num_seqs: 256,
        max_num_batched_tokens: 8192,
        max_model_len: 32_000,
        async_scheduling: true,
        // 28 layers x 4 KV heads x 128 x (K and V) x 2 bytes.
        kv_bytes_per_token: 57_344.0,
        cost: CostModel {
            frontend_request_ns: 0.0,
            frontend_token_ns: 650.0,
            prefill_step_ns: 6.5e6,
            prefill_token_ns: 19_900.0,
            attention_pair_ns: 0.755,
            resume_ns: 4.6e6,
            graph_tokens: 256,
            eager_step_ns: 0.0,
            decode_step_ns: vec![
                (1, 4.716e6),
                (4, 4.754e6),
                (16, 4.880e6),
                (32, 4.880e6),
                (64, 4.993e6),
                (128, 5.776e6),
                (256, 8.433e6),
            ],
            // 56 KiB of KV per token at 4.1 TB/s; the rest of the decode time is the measured
            // one less that.
            kv_token_ns: 14.0,
        },
    }
}

/// Measured: vLLM 0.24.0 on one H100 with a model of Qwen2.5-3B's shape in bf16, blocks of 16
/// tokens, 8,192 tokens a step, 116,496 tokens of KV cache, CUDA graphs up to 256 tokens, no
/// torch.compile.
fn h100_qwen3b() -> EngineProfile {
    EngineProfile {
        description: "Qwen2.5-3B shape in bf16, vLLM 0.24.0, one H100".into(),
        block_size: 16,
        num_blocks: 116_496 / 16,
        max_num_seqs: 256,
        max_num_batched_tokens: 8192,
        max_model_len: 32_000,
        async_scheduling: true,
        // 36 layers x 2 KV heads x 128 x (K and V) x 2 bytes.
        kv_bytes_per_token: 36_864.0,
        cost: CostModel {
            frontend_request_ns: 0.0,
            frontend_token_ns: 1_800.0,
            prefill_step_ns: 9.0e6,
            prefill_token_ns: 9_700.0,
            attention_pair_ns: 0.343,
            resume_ns: 2.5e6,
            graph_tokens: 256,
            eager_step_ns: 35.0e6,
            decode_step_ns: vec![
                (1, 3.36e6),
                (4, 3.45e6),
                (16, 3.56e6),
                (32, 3.57e6),
                (64, 4.47e6),
                (128, 7.52e6),
                // Of 256 sequences sent at once the KV cache holds about 190.
                (192, 11.96e6),
            ],
            // 36 KiB of KV per token at 3.0 TB/s.
            kv_token_ns: 12.0,
        },
    }
}
