use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::prefix::Chains;

/// Blocks that are remembered; then all are forgotten at once, and prompts begin anew. With
/// blocks of 64 tokens that is 58 million tokens, ten times what a large pool's caches hold, in
/// 30 MiB at most.
const MAX_BLOCKS: usize = (1 << 20) / 8 * 7;

/// The hash of a hash: itself.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |all, &byte| all.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Where a block stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    piece: u32,
    index: u32,
}

/// What a piece of a prompt goes on from: so many blocks of another.
#[derive(Clone, Copy, Debug)]
struct Start {
    after: Option<Place>,
}

/// Prompts as numbers that say only how far they begin alike. A prompt is cut where it was first
/// seen to part from those before it, and what is new of it is a piece with the next number.
///
/// Hashes are chained, so whoever knows a block knows all that stand before it: the longest known
/// beginning is found by halving, not block by block.
#[derive(Debug)]
pub(super) struct Pieces {
    known: HashMap<u64, Place, BuildHasherDefault<AsItIs>>,
    starts: Vec<Start>,
    /// Number of the first of `starts`.
    first: u32,
    max_blocks: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { known: HashMap::default(), starts: Vec::new(), first: 0, max_blocks: MAX_BLOCKS }
    }
}

impl Pieces {
    /// The pieces of a request's prompts, one prompt after the other.
    pub(super) fn of(&mut self, chains: Chains<'_>) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        if self.known.len() + chains.hashes.len() > self.max_blocks {
            self.first = self.next();
            self.starts.clear();
            self.known.clear();
        }
        for chain in chains.iter().filter(|chain| !chain.is_empty()) {
            self.chain(chain, &mut all);
        }
        all
    }

    fn next(&self) -> u32 {
        self.first.wrapping_add(self.starts.len() as u32)
    }

    fn chain(&mut self, chain: &[u64], all: &mut Vec<(u32, u32)>) {
        let known = chain.partition_point(|hash| self.known.contains_key(hash));
        let after = known.checked_sub(1).and_then(|last| self.known.get(chain.get(last)?)).copied();
        let begin = all.len();
        let mut at = after;
        while let Some(Place { piece, index }) = at {
            all.push((piece, index + 1));
            let start = self.starts.get(piece.wrapping_sub(self.first) as usize);
            at = start.and_then(|start| start.after);
        }
        all[begin..].reverse();
        let new = chain.get(known..).unwrap_or_default();
        if !new.is_empty() {
            let piece = self.next();
            self.starts.push(Start { after });
            let places = (0..).map(|index| Place { piece, index });
            self.known.extend(new.iter().copied().zip(places));
            all.push((piece, new.len() as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(pieces: &mut Pieces, hashes: &[u64]) -> Vec<(u32, u32)> {
        pieces.of(Chains { hashes, breaks: &[] })
    }

    #[test]
    fn prompts_are_cut_where_they_part() {
        let mut pieces = Pieces::default();
        for (prompt, want) in [
            (&[1, 2, 3][..], &[(0, 3)][..]),
            (&[1, 2, 3], &[(0, 3)]),
            (&[1, 2], &[(0, 2)]),
            (&[1, 2, 4, 5], &[(0, 2), (1, 2)]),
            (&[1, 2, 4, 6], &[(0, 2), (1, 1), (2, 1)]),
            (&[1, 2, 3, 7], &[(0, 3), (3, 1)]),
            (&[9], &[(4, 1)]),
            (&[], &[]),
        ] {
            assert_eq!(of(&mut pieces, prompt), want, "{prompt:?}");
        }
        let several = Chains { hashes: &[1, 2, 9, 8], breaks: &[2] };
        assert_eq!(pieces.of(several), [(0, 2), (4, 1), (5, 1)]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_numbers_go_on() {
        let mut pieces = Pieces { max_blocks: 4, ..Pieces::default() };
        assert_eq!(of(&mut pieces, &[1, 2, 3]), [(0, 3)]);
        assert_eq!(of(&mut pieces, &[1, 5]), [(1, 2)], "forgotten");
        assert_eq!(of(&mut pieces, &[1, 5]), [(1, 2)]);
        assert_eq!(
            of(&mut pieces, &(10..20).collect::<Vec<_>>()),
            [(2, 10)],
            "one that is too long"
        );
        assert!(pieces.known.len() <= 10);
    }

    fn shared(a: &[(u32, u32)], b: &[(u32, u32)]) -> usize {
        let mut sum = 0;
        for (x, y) in a.iter().zip(b) {
            match x.0 == y.0 {
                true => sum += x.1.min(y.1) as usize,
                false => break,
            }
            if x.1 != y.1 {
                break;
            }
        }
        sum
    }

    proptest! {
        /// Prompts of words of two letters, chained as hashes are.
        #[test]
        fn pieces_begin_alike_exactly_as_far_as_the_prompts_do(
            prompts in proptest::collection::vec(proptest::collection::vec(0u64..2, 0..9), 1..30),
        ) {
            let chain = |prompt: &[u64]| -> Vec<u64> {
                let next = |hash: &mut u64, &block: &u64| { *hash = *hash * 3 + block + 1; Some(*hash) };
                prompt.iter().scan(0, next).collect()
            };
            let mut pieces = Pieces::default();
            let all: Vec<_> = prompts.iter().map(|p| of(&mut pieces, &chain(p))).collect();
            for (a, x) in prompts.iter().zip(&all) {
                prop_assert_eq!(x.iter().map(|p| p.1 as usize).sum::<usize>(), a.len());
                for (b, y) in prompts.iter().zip(&all) {
                    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                    prop_assert_eq!(shared(x, y), common, "{:?} {:?}", x, y);
                }
            }
        }
    }
}
