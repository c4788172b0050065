//! Engines that fill their KV caches with long prompts, some of whose beginnings are shared.

#![allow(dead_code, reason = "each benchmark uses a part of this")]

/// Tokens per block.
pub const BLOCK: u32 = 16;
pub const ENDPOINTS: usize = 64;
/// Blocks of one endpoint.
pub const BLOCKS: usize = 100_000;
/// Blocks of one prompt: 100,000 tokens.
pub const PROMPT: usize = 6_250;
/// Blocks that every prompt of a group begins with: 20,000 tokens.
pub const SHARED: usize = 1_250;
pub const GROUPS: usize = 8;
/// Blocks of one event: what one step of chunked prefill computes of 2,048 tokens.
pub const EVENT: usize = 128;
/// Endpoints that a lookup is for.
pub const CANDIDATES: usize = 16;

/// The tokens of prompt number `prompt` of an endpoint.
pub fn tokens(endpoint: usize, prompt: usize) -> Vec<u32> {
    let group = prompt % GROUPS;
    let mut random = Random(1 + group as u64);
    let mut tokens: Vec<u32> = (0..SHARED * BLOCK as usize).map(|_| random.token()).collect();
    let mut random = Random(1000 + (endpoint * 1000 + prompt) as u64);
    tokens.extend((SHARED * BLOCK as usize..PROMPT * BLOCK as usize).map(|_| random.token()));
    tokens
}

/// Prompts of one endpoint.
pub fn prompts() -> usize {
    BLOCKS / PROMPT
}

/// What an engine calls the blocks of a prompt: chained, as engines do.
pub fn names(tokens: &[u32]) -> Vec<u64> {
    let mut name = 7;
    let block_name = |block: &[u32]| {
        name = block.iter().fold(name, |name, &t| mix(name ^ u64::from(t)));
        name
    };
    tokens.chunks_exact(BLOCK as usize).map(block_name).collect()
}

struct Random(u64);

impl Random {
    fn token(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % 151_000) as u32
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
