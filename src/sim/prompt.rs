//! What an engine needs to know of a prompt: its length and the names of its blocks.

use xxhash_rust::xxh64::xxh64;

/// Bytes of text that count as one token. The simulator has no tokenizer; four is also what
/// routers assume when they estimate.
pub const BYTES_PER_TOKEN: usize = 4;

/// A prompt as an engine sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Length in tokens.
    pub len_tokens: u32,
    /// A name for each full block of the engine's block size, chained: equal names mean that
    /// everything up to the end of the block is equal. There may be more names than the prompt
    /// has full blocks: those that follow belong to the blocks that the answer will fill, where
    /// the caller knows it, so that a later prompt that quotes the answer finds them.
    pub block_hashes: Vec<u64>,
}

impl Prompt {
    /// A prompt of text, followed by the answer it will get (empty where that does not matter).
    /// `seed` keeps apart what must not share blocks: models, adapters, cache salts.
    pub fn from_text(prompt: &[u8], answer: &[u8], seed: u64, block_size: u32) -> Self {
        let block_bytes = block_size.max(1) as usize * BYTES_PER_TOKEN;
        let mut hashes = Vec::with_capacity((prompt.len() + answer.len()) / block_bytes);
        let mut parent = seed;
        let whole = prompt.chunks_exact(block_bytes);
        // The block that the prompt ends in and the answer goes on in.
        let mut rest = whole.remainder().to_vec();
        rest.extend_from_slice(answer);
        for block in whole.chain(rest.chunks_exact(block_bytes)) {
            parent = xxh64(block, parent);
            hashes.push(parent);
        }
        Self { len_tokens: tokens(prompt.len().div_ceil(BYTES_PER_TOKEN)), block_hashes: hashes }
    }

    /// A prompt of token ids.
    pub fn from_token_ids(ids: &[u32], seed: u64, block_size: u32) -> Self {
        let mut parent = seed;
        let mut bytes = Vec::with_capacity(block_size as usize * 4);
        let block_hashes = ids
            .chunks_exact(block_size.max(1) as usize)
            .map(|block| {
                bytes.clear();
                bytes.extend(block.iter().flat_map(|id| id.to_le_bytes()));
                parent = xxh64(&bytes, parent);
                parent
            })
            .collect();
        Self { len_tokens: tokens(ids.len()), block_hashes }
    }

    /// A prompt from a trace that gives one id per `trace_block` tokens (the last may be partly
    /// filled), as Mooncake's (512) and the agent traces (64) do. `trace_block` must be a
    /// multiple of `block_size`. `seed` keeps apart traces whose ids are local. To name the
    /// blocks of the answer as well, make it from the ids and the length of the next turn and
    /// set `len_tokens` back.
    pub fn from_trace(
        ids: &[u64],
        trace_block: u32,
        len_tokens: u32,
        seed: u64,
        block_size: u32,
    ) -> Self {
        let block_size = block_size.max(1);
        let per_id = u64::from(trace_block / block_size);
        let full = (len_tokens / block_size) as usize;
        let mut parent = seed;
        let block_hashes = ids
            .iter()
            .flat_map(|&id| (0..per_id).map(move |part| (id, part)))
            .take(full)
            .map(|(id, part)| {
                parent = chain(parent, id, part);
                parent
            })
            .collect();
        Self { len_tokens, block_hashes }
    }
}

/// Lengths beyond `u32` are cut: no engine has a context that long, so they are refused anyway.
fn tokens(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A well-mixed hash of a parent and two numbers, by the constants of splitmix64.
pub(super) fn chain(parent: u64, a: u64, b: u64) -> u64 {
    let mut x = parent
        .rotate_left(23)
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(a.wrapping_mul(0xa24b_aed4_963e_e407))
        .wrapping_add(b.wrapping_mul(0xd1b5_4a32_d192_ed03));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(a: &Prompt, b: &Prompt) -> usize {
        a.block_hashes.iter().zip(&b.block_hashes).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn text_shares_the_blocks_of_its_common_head() {
        let head = "h".repeat(64 * 3 + 10);
        let a = Prompt::from_text(format!("{head}{}", "a".repeat(200)).as_bytes(), b"", 0, 16);
        let b = Prompt::from_text(format!("{head}{}", "b".repeat(200)).as_bytes(), b"", 0, 16);
        assert_eq!(a.len_tokens, (64 * 3 + 10 + 200_u32).div_ceil(4));
        assert_eq!(a.block_hashes.len(), (64 * 3 + 10 + 200) / 64);
        assert_eq!(shared(&a, &b), 3);
        let other_model = Prompt::from_text(head.as_bytes(), b"", 1, 16);
        assert_eq!(shared(&a, &other_model), 0);
    }

    #[test]
    fn a_prompt_that_quotes_the_answer_finds_the_blocks_of_the_answer() {
        let first = Prompt::from_text(&[b'p'; 100], &[b'a'; 300], 0, 16);
        let mut next = vec![b'p'; 100];
        next.extend([b'a'; 300]);
        next.extend([b'q'; 100]);
        let next = Prompt::from_text(&next, b"", 0, 16);
        assert_eq!(first.len_tokens, 25);
        assert_eq!(shared(&first, &next), 400 / 64);
    }

    #[test]
    fn token_ids_share_full_blocks_only() {
        let ids: Vec<u32> = (0..40).collect();
        let a = Prompt::from_token_ids(&ids, 0, 16);
        let b = Prompt::from_token_ids(&ids[..33], 0, 16);
        assert_eq!((a.len_tokens, a.block_hashes.len()), (40, 2));
        assert_eq!(shared(&a, &b), 2);
    }

    #[test]
    fn trace_blocks_are_split_into_engine_blocks() {
        let a = Prompt::from_trace(&[7, 8, 9], 512, 1100, 0, 16);
        let b = Prompt::from_trace(&[7, 8, 5], 512, 1536, 0, 16);
        assert_eq!(a.block_hashes.len(), 1100 / 16);
        assert_eq!(b.block_hashes.len(), 96);
        assert_eq!(shared(&a, &b), 64);
        // The same id elsewhere in a prompt is another block.
        let c = Prompt::from_trace(&[8], 512, 512, 0, 16);
        assert_ne!(c.block_hashes[0], a.block_hashes[32]);
    }
}
