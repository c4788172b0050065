use smallvec::SmallVec;
use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::ChainSeed;
use crate::scheduling::{Piece, Prompt};

/// How a prompt is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRule {
    /// Bytes per block, at least 1.
    pub block_bytes: u32,
    /// Blocks hashed of each prompt at most.
    pub max_blocks: u32,
    /// Hash what is left after the last whole block too, zero-padded to a whole pseudo-token of
    /// four bytes.
    pub keep_tail: bool,
}

/// The chained block hashes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashedPrompt {
    pub hashes: Vec<u64>,
    /// Where the chain of each prompt but the first begins in `hashes`.
    pub breaks: SmallVec<[u32; 2]>,
}

/// Hashes a request block by block, each prompt chained from `seed` on its own:
/// `h[i] = xxh64(LE64(xxh64(block i)) ++ LE64(h[i-1]))` (llm-d-router main at ebab6879), with the
/// key as the seed of both hashes, which is 0 there.
///
/// A block that lies in one piece of the prompt is hashed where it lies; one that spans pieces
/// is streamed through the hash. Nothing is copied.
pub fn hash_prompt(prompt: &Prompt, seed: ChainSeed, rule: BlockRule) -> HashedPrompt {
    let mut out = HashedPrompt::default();
    // A hint only, so it is bounded: a media item may claim any number of tokens.
    let blocks = 4 * prompt.token_count() / u64::from(rule.block_bytes) + 1;
    out.hashes.reserve(blocks.min(u64::from(rule.max_blocks)).min(8192) as usize);
    for (i, pieces) in prompt.prompts().enumerate() {
        if i > 0 {
            out.breaks.push(out.hashes.len() as u32);
        }
        let mut chain = Chain::new(&mut out, seed, rule);
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => chain.bytes(bytes),
                Piece::Fill { token, count } => chain.fill(token, count),
            }
        }
        chain.finish();
    }
    out
}

/// One prompt on its way through the hash.
struct Chain<'a> {
    out: &'a mut HashedPrompt,
    rule: BlockRule,
    key: u64,
    previous: u64,
    blocks_left: u32,
    /// The block begun, where it spans pieces.
    partial: Xxh64,
    /// Bytes in `partial`.
    filled: usize,
    /// Bytes of this prompt so far, modulo 4.
    phase: usize,
}

impl<'a> Chain<'a> {
    fn new(out: &'a mut HashedPrompt, seed: ChainSeed, rule: BlockRule) -> Self {
        let key = seed.key.bits();
        Self {
            out,
            rule,
            key,
            previous: seed.root,
            blocks_left: rule.max_blocks,
            partial: Xxh64::new(key),
            filled: 0,
            phase: 0,
        }
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        let size = self.rule.block_bytes as usize;
        self.phase = (self.phase + bytes.len()) % 4;
        while !bytes.is_empty() && self.blocks_left > 0 {
            if self.filled == 0 && bytes.len() >= size {
                let (block, rest) = bytes.split_at(size);
                self.close(xxh64(block, self.key));
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(size - self.filled));
            self.partial.update(part);
            self.filled += part.len();
            bytes = rest;
            if self.filled == size {
                self.close_partial();
            }
        }
    }

    fn fill(&mut self, token: u32, count: u32) {
        self.pad();
        let token = token.to_le_bytes();
        for _ in 0..count {
            if self.blocks_left == 0 {
                break;
            }
            self.bytes(&token);
        }
    }

    /// Zeros up to a whole pseudo-token.
    fn pad(&mut self) {
        if self.phase != 0 {
            self.bytes(&[0; 3][..4 - self.phase]);
        }
    }

    fn finish(mut self) {
        if self.rule.keep_tail && self.filled > 0 {
            self.pad();
            // The padding may have made it a whole block, which is closed then.
            if self.filled > 0 && self.blocks_left > 0 {
                self.close_partial();
            }
        }
    }

    fn close_partial(&mut self) {
        self.filled = 0;
        let block = self.partial.digest();
        self.partial.reset(self.key);
        self.close(block);
    }

    fn close(&mut self, block: u64) {
        let mut link = [0; 16];
        link[..8].copy_from_slice(&block.to_le_bytes());
        link[8..].copy_from_slice(&self.previous.to_le_bytes());
        self.previous = xxh64(&link, self.key);
        self.out.hashes.push(self.previous);
        self.blocks_left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::HashKey;
    use super::*;
    use crate::scheduling::PromptBuilder;

    const TOKENS_64: BlockRule =
        BlockRule { block_bytes: 256, max_blocks: u32::MAX, keep_tail: true };

    fn built(build: impl FnOnce(&mut PromptBuilder)) -> Prompt {
        let mut b = PromptBuilder::new(Bytes::new());
        build(&mut b);
        b.finish()
    }

    fn text(text: &[u8]) -> Prompt {
        built(|b| b.text(text))
    }

    /// A seed that is told from others.
    fn from(number: u64) -> ChainSeed {
        ChainSeed { key: HashKey::PUBLIC, root: number }
    }

    fn public(model: &str, salt: &str) -> ChainSeed {
        HashKey::PUBLIC.seed(model, salt)
    }

    /// The vectors come from an independent implementation of the published algorithm.
    #[test]
    fn vectors_of_the_algorithm() {
        let ids = built(|b| b.tokens(0..130));
        assert_eq!(public("m", "").root, 0xba2e567083a2b2e8);
        let hashed = hash_prompt(&ids, public("m", ""), TOKENS_64);
        assert_eq!(hashed.hashes, [0x9504d79d090c075d, 0x02e5e0d1ab3a2586, 0x7b0454186e99f289]);

        assert_eq!(public("m", "salt").root, 0xd91548f60ba19b9b);
        let salted = hash_prompt(&ids, public("m", "salt"), TOKENS_64).hashes;
        assert_eq!(salted, [0x8878d1815905b8e2, 0x53e37d9fe2cf7502, 0x93a9ca401ff92ec5]);

        let hello = hash_prompt(&text(b"hello world"), public("m", ""), TOKENS_64);
        assert_eq!(hello.hashes, [0xf6615699d17cb474]);
    }

    #[test]
    fn salt_is_appended_to_the_model_name() {
        assert_eq!(public("model-a", "b"), public("model-", "ab"));
        assert_ne!(public("model-a", "b"), public("model-a", ""));
    }

    /// Prompts found to lie together under the public key, or under any other, do so under no
    /// key that their maker does not know.
    #[test]
    fn who_does_not_know_the_key_cannot_crowd_the_index() {
        const CROWD: u64 = 64;
        let prompts: Vec<Prompt> =
            (0..CROWD * CROWD).map(|n| text(format!("prompt {n}").as_bytes())).collect();
        let home = |prompt: &Prompt, key: HashKey| {
            hash_prompt(prompt, key.seed("m", ""), TOKENS_64).hashes[0] / (u64::MAX / CROWD)
        };
        let crowded = |key| move |prompt: &&Prompt| home(prompt, key) == 0;
        let crafted: Vec<&Prompt> = prompts.iter().filter(crowded(HashKey::PUBLIC)).collect();
        assert!(crafted.len() as u64 > CROWD / 2, "{} are to lie together", crafted.len());
        let key = HashKey::random();
        let still = crafted.iter().copied().filter(crowded(key)).count();
        assert!(still < 16, "{still} of {} lie together under another key", crafted.len());
    }

    #[test]
    fn blocks_of_a_prompt() {
        let rule =
            |block_bytes, max_blocks, keep_tail| BlockRule { block_bytes, max_blocks, keep_tail };
        // (bytes of prompt, rule, blocks)
        let cases = [
            (0, rule(8, 9, true), 0),
            (1, rule(8, 9, true), 1),
            (8, rule(8, 9, true), 1),
            (9, rule(8, 9, true), 2),
            (15, rule(8, 9, true), 2),
            (17, rule(8, 2, true), 2),
            (17, rule(8, 0, true), 0),
            (7, rule(8, 9, false), 0),
            (23, rule(8, 9, false), 2),
            (12, rule(5, 9, false), 2),
        ];
        for (len, rule, blocks) in cases {
            let hashed = hash_prompt(&text(&vec![b'x'; len]), from(1), rule);
            assert_eq!(hashed.hashes.len(), blocks, "{len} {rule:?}");
        }
    }

    #[test]
    fn a_media_item_is_a_run_of_tokens_that_begins_on_a_whole_one() {
        let media = built(|b| {
            b.text(b"abcde");
            b.media(7, 3);
            b.text(b"f");
        });
        let spelled = text(b"abcde\0\0\0\x07\0\0\0\x07\0\0\0\x07\0\0\0f");
        let rule = BlockRule { block_bytes: 16, max_blocks: 10, keep_tail: true };
        assert_eq!(hash_prompt(&media, from(1), rule), hash_prompt(&spelled, from(1), rule));
    }

    #[test]
    fn every_prompt_is_chained_from_the_seed() {
        let both = built(|b| {
            b.text(b"first prompt");
            b.next_prompt();
            b.text(b"second");
        });
        let rule = BlockRule { block_bytes: 8, max_blocks: 10, keep_tail: true };
        let hashed = hash_prompt(&both, from(1), rule);
        let first = hash_prompt(&text(b"first prompt"), from(1), rule).hashes;
        let second = hash_prompt(&text(b"second"), from(1), rule).hashes;
        assert_eq!(hashed.breaks.as_slice(), [first.len() as u32]);
        assert_eq!(hashed.hashes, [first, second].concat());
    }

    proptest! {
        /// Where the pieces of a prompt are cut changes nothing.
        #[test]
        fn cuts_do_not_matter(
            whole in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
            words in 1u32..20,
            keep_tail: bool,
        ) {
            let rule = BlockRule { block_bytes: 4 * words, max_blocks: 50, keep_tail };
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(whole.len() + 1)).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            let pieces = built(|b| at.windows(2).for_each(|w| b.text(&whole[w[0]..w[1]])));
            prop_assert_eq!(hash_prompt(&pieces, from(5), rule), hash_prompt(&text(&whole), from(5), rule));
        }

        /// Two prompts share exactly the hashes of the whole blocks they have in common.
        #[test]
        fn hashes_agree_as_far_as_the_blocks_do(
            one in proptest::collection::vec(0u8..2, 0..60),
            other in proptest::collection::vec(0u8..2, 0..60),
        ) {
            let rule = BlockRule { block_bytes: 4, max_blocks: 50, keep_tail: false };
            let same = one.chunks_exact(4).zip(other.chunks_exact(4)).take_while(|(a, b)| a == b);
            let a = hash_prompt(&text(&one), from(5), rule).hashes;
            let b = hash_prompt(&text(&other), from(5), rule).hashes;
            prop_assert_eq!(a.iter().zip(&b).take_while(|(x, y)| x == y).count(), same.count());
        }
    }
}
