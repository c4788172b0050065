//! What was measured of an engine, as it stands in a file.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Times are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurements {
    #[serde(default)]
    pub model: Option<String>,
    /// As far as the engine told.
    #[serde(default)]
    pub block_size: Option<u32>,
    #[serde(default)]
    pub num_blocks: Option<u32>,
    #[serde(default)]
    pub max_model_len: Option<u32>,
    /// Prompts of which nothing was known.
    pub cold: Vec<Cold>,
    /// Prompts whose beginning was in the cache.
    #[serde(default)]
    pub cached: Vec<Cached>,
    /// Answers, many at once.
    pub decode: Vec<Decode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cold {
    pub tokens: u32,
    pub ttft: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cached {
    pub tokens: u32,
    /// Tokens that the engine reported as cached.
    pub cached: f64,
    pub ttft: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Decode {
    pub concurrency: u32,
    /// Tokens of each prompt.
    pub ctx: u32,
    /// Tokens of each answer.
    #[serde(default = "default_answer")]
    pub output: u32,
    /// The median gap between two tokens of an answer.
    pub itl: f64,
}

/// What the answers had before files said it.
fn default_answer() -> u32 {
    96
}

/// Longer than any measurement is.
const MAX_SECONDS: f64 = 3600.0;
const MAX_TOKENS: u32 = 1 << 24;

impl Measurements {
    /// # Errors
    /// Where the file has no measurements, with a text for the user.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
        let text = std::fs::read_to_string(file).map_err(|e| failed(&e))?;
        let read: Self = serde_json::from_str(&text).map_err(|e| failed(&e))?;
        read.check().map_err(|e| failed(&e))?;
        Ok(read)
    }

    /// # Errors
    /// Where a profile cannot be made of it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.cold.len() < 3 {
            return Err("a profile needs cold prompts of three lengths at least".into());
        }
        if !self.decode.iter().any(|row| row.concurrency == 1) {
            return Err("a profile needs the time between tokens of a single request".into());
        }
        let cold = self.cold.iter().map(|row| (row.tokens, row.ttft));
        let cached = self.cached.iter().map(|row| (row.tokens, row.ttft));
        let decode = self.decode.iter().map(|row| (row.ctx, row.itl));
        for (tokens, seconds) in cold.chain(cached).chain(decode) {
            if !(1..=MAX_TOKENS).contains(&tokens) {
                return Err(format!("{tokens} tokens are out of range"));
            }
            if !(seconds > 0.0 && seconds < MAX_SECONDS) {
                return Err(format!("{seconds} s for {tokens} tokens are out of range"));
            }
        }
        Ok(())
    }
}
