use xxhash_rust::xxh3::{Xxh3Builder, xxh3_64_with_seed};
use zerocopy::IntoBytes;

/// Makes the keys of the index: every block's key is made of the key before it, the block's tokens
/// and whatever else makes its content differ, so one key stands for a whole prefix.
///
/// The blocks of a prompt are hashed each for itself, which a processor does side by side, and then
/// chained by one multiplication each. The seed is drawn once per process. Keys never leave it, and
/// nobody outside can prepare prompts that share one.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    seed: u64,
    /// What links are multiplied with: odd, and as secret as the seed.
    factor: u64,
}

/// Something beside its tokens that makes a block's content differ: a salt, the digest of an
/// image. With the number of the block it belongs to.
pub type Extra<'a> = (u32, &'a [u8]);

impl Keys {
    pub fn new(seed: u64) -> Self {
        Self { seed, factor: xxh3_64_with_seed(b"factor", seed) | 1 }
    }

    /// What the chain of a prompt begins with: prompts of different adapters share nothing, nor
    /// do prompts that are cut into blocks of different sizes. No adapter is the base model.
    pub fn root(self, adapter: &str, block_size: u32) -> u64 {
        let mut state = Xxh3Builder::new().with_seed(self.seed).build();
        state.update(&block_size.to_le_bytes());
        state.update(adapter.as_bytes());
        state.digest()
    }

    /// Appends the keys of the whole blocks of `tokens` to `out`, chained from `parent`. `extras`
    /// come in the order of their blocks.
    pub fn extend<'a>(
        self,
        parent: u64,
        tokens: &[u32],
        block_size: u32,
        extras: impl IntoIterator<Item = Extra<'a>>,
        out: &mut Vec<u64>,
    ) {
        let block_size = block_size.max(1) as usize;
        let mut extras = extras.into_iter().peekable();
        let mut previous = parent;
        out.reserve(tokens.len() / block_size);
        for (number, block) in (0u32..).zip(tokens.chunks_exact(block_size)) {
            previous = self.link(previous, xxh3_64_with_seed(block.as_bytes(), self.seed));
            while let Some((_, bytes)) = extras.next_if(|&(block, _)| block <= number) {
                let extra = xxh3_64_with_seed(bytes, !self.seed);
                previous = self.link(previous, extra);
            }
            out.push(previous);
        }
    }

    fn link(self, previous: u64, next: u64) -> u64 {
        let product = u128::from(previous.rotate_left(29) ^ next) * u128::from(self.factor);
        (product as u64) ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tokens: &[u32], extras: &[Extra<'_>]) -> Vec<u64> {
        let keys = Keys::new(7);
        let mut out = Vec::new();
        keys.extend(keys.root("", 2), tokens, 2, extras.iter().copied(), &mut out);
        out
    }

    #[test]
    fn whole_blocks_only() {
        for (tokens, blocks) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)] {
            assert_eq!(keys(&vec![9; tokens], &[]).len(), blocks, "{tokens} tokens");
        }
    }

    #[test]
    fn a_chain_may_be_made_in_parts() {
        let whole = keys(&[1, 2, 3, 4, 5, 6], &[(2, b"image")]);
        let mut rest = Vec::new();
        Keys::new(7).extend(whole[0], &[3, 4, 5, 6], 2, [(1, &b"image"[..])], &mut rest);
        assert_eq!(rest, whole[1..]);
    }

    #[test]
    fn what_differs_in_a_block_differs_in_it_and_behind_it() {
        let plain = keys(&[1, 2, 3, 4, 5, 6], &[]);
        let cases: [(&[u32], &[Extra<'_>], usize); 5] = [
            (&[1, 2, 3, 4, 5, 7], &[], 2),
            (&[2, 1, 3, 4, 5, 6], &[], 0),
            (&[1, 2, 3, 4, 5, 6], &[(0, b"salt")], 0),
            (&[1, 2, 3, 4, 5, 6], &[(1, b"image")], 1),
            // Behind the last block: nothing differs.
            (&[1, 2, 3, 4, 5, 6], &[(3, b"image")], 3),
        ];
        for (tokens, extras, same) in cases {
            let other = keys(tokens, extras);
            for (i, (a, b)) in plain.iter().zip(&other).enumerate() {
                assert_eq!(a == b, i < same, "{tokens:?} {extras:?} block {i}");
            }
        }
    }

    #[test]
    fn extras_are_told_apart_by_where_they_end() {
        assert_ne!(
            keys(&[1, 2], &[(0, b"ab"), (0, b"c")]),
            keys(&[1, 2], &[(0, b"a"), (0, b"bc")])
        );
    }

    #[test]
    fn adapters_block_sizes_and_processes_share_nothing() {
        let keys = Keys::new(7);
        let roots = [
            keys.root("", 16),
            keys.root("", 32),
            keys.root("lora", 16),
            Keys::new(8).root("", 16),
        ];
        for (i, a) in roots.iter().enumerate() {
            assert!(roots[..i].iter().all(|b| a != b), "{i}");
        }
    }
}
