use std::ops::Range;

use crate::kv_index::Tier;

/// The tier behind an engine's word for a medium, in any case. None said means the GPU, where
/// engines kept blocks before there were others. A word that is not known here is the slowest
/// tier: the block is held, but nothing is known of what using it costs.
pub fn tier(medium: Option<&str>) -> Tier {
    let word = medium.unwrap_or_default();
    let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if word.is_empty() || is(&["GPU", "DEVICE"]) {
        Tier::Gpu
    } else if is(&["CPU", "CPU_PINNED", "CPU_TIER1", "HOST", "LOCAL_CPU"]) {
        Tier::Cpu
    } else if is(&["CPU_TIER2", "DISK", "NVME", "STORAGE", "LOCAL_DISK"]) {
        Tier::Disk
    } else {
        Tier::Shared
    }
}

/// What a KV-cache group does with old tokens, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Every block of a prefix stays: a hit on one means a hit on all before it. Also where the
    /// engine says nothing.
    Full,
    /// Sliding windows, state spaces, encoders: blocks of a prefix may be missing by design.
    Partial,
}

impl GroupKind {
    pub(super) fn parse(word: Option<&str>) -> Self {
        match word {
            None | Some("full_attention" | "mla_attention" | "sink_full_attention") => Self::Full,
            Some(_) => Self::Partial,
        }
    }
}

/// Blocks that an engine holds from now on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// The engine's names of the blocks, in order.
    pub hashes: &'a [u64],
    /// The engine's name of the block before the first; none: they begin a prompt.
    pub parent: Option<u64>,
    /// Tokens of all blocks, one block after the other. Empty where a connector only says where
    /// blocks that are known already lie as well.
    pub tokens: &'a [u32],
    /// Tokens per block.
    pub block_size: u32,
    /// The engine's word for where the blocks lie.
    pub medium: Option<&'a str>,
    pub lora_name: Option<&'a str>,
    pub lora_id: Option<u64>,
    /// The block a text or digest belongs to, and where in `payload` it lies; in the order of the
    /// blocks, and in the engine's order within one.
    pub extras: &'a [(u32, Range<u32>)],
    /// What `extras` point into.
    pub payload: &'a [u8],
    pub group: Option<u32>,
    pub kind: Option<GroupKind>,
    /// The blocks lie in a store that several engines share.
    pub is_remote: bool,
}

/// Blocks that an engine no longer holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removed<'a> {
    pub hashes: &'a [u64],
    pub medium: Option<&'a str>,
    pub group: Option<u32>,
    pub is_remote: bool,
}

/// One event of a batch, on loan from the decoder.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Stored(Stored<'a>),
    Removed(Removed<'a>),
    Cleared,
}

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    /// When it was made, in seconds since 1970 on the engine's clock.
    pub made_at: f64,
    pub data_parallel_rank: Option<u32>,
    pub events: u32,
    /// Events that could not be read and were left out.
    pub malformed: u32,
    /// Events of a type that is not known here.
    pub unknown: u32,
    /// Events above one of the limits.
    pub oversized: u32,
}
