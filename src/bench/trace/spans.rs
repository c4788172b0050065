//! What a prompt is made of.

use smallvec::SmallVec;

/// Tokens `start .. start + tokens` of an endless stream of random tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub stream: u64,
    pub start: u32,
    pub tokens: u32,
}

/// A prompt as spans in order. Spans that continue each other are one, so that equal prompts
/// have equal spans however they were put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(SmallVec<[Span; 2]>);

/// Marks a stream that all passes over a trace share.
const SHARED: u64 = 1 << 63;

/// The stream of something that all passes over a trace share: a system prompt, a document.
pub(super) fn shared(name: u64) -> u64 {
    mix(name) | SHARED
}

/// The stream of something that belongs to one pass.
pub(super) fn own(name: u64) -> u64 {
    mix(name) & !SHARED
}

/// `stream` as pass number `pass` sees it; the first pass sees it as it is.
pub(super) fn salted(stream: u64, pass: u32) -> u64 {
    if pass == 0 || stream & SHARED != 0 { stream } else { own(combine(stream, u64::from(pass))) }
}

/// One number that stands for two.
pub(super) fn combine(a: u64, b: u64) -> u64 {
    mix(a.rotate_left(23).wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finalizer of splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Spans {
    pub fn push(&mut self, span: Span) {
        if span.tokens == 0 {
            return;
        }
        if let Some(last) = self.0.last_mut()
            && last.stream == span.stream
            && last.start.checked_add(last.tokens) == Some(span.start)
            && let Some(tokens) = last.tokens.checked_add(span.tokens)
        {
            last.tokens = tokens;
            return;
        }
        self.0.push(span);
    }

    /// A whole stream's first `tokens` tokens.
    pub fn push_stream(&mut self, stream: u64, tokens: u32) {
        self.push(Span { stream, start: 0, tokens });
    }

    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    pub fn tokens(&self) -> u64 {
        self.0.iter().map(|s| u64::from(s.tokens)).sum()
    }

    pub fn salted(&self, pass: u32) -> Self {
        self.iter().map(|s| Span { stream: salted(s.stream, pass), ..s }).collect()
    }

    /// Appends the prompt's tokens to `out`, four little-endian bytes each.
    pub fn write_tokens(&self, out: &mut Vec<u8>) {
        out.reserve(self.tokens() as usize * 4);
        for span in &self.0 {
            let (mut at, end) =
                (u64::from(span.start), u64::from(span.start) + u64::from(span.tokens));
            // Two tokens come out of every mix.
            let pair = |at: u64| mix(span.stream ^ (at / 2).wrapping_mul(0x2545_f491_4f6c_dd1d));
            if at % 2 == 1 && at < end {
                out.extend_from_slice(&pair(at).to_le_bytes()[4..]);
                at += 1;
            }
            while at + 2 <= end {
                out.extend_from_slice(&pair(at).to_le_bytes());
                at += 2;
            }
            if at < end {
                out.extend_from_slice(&pair(at).to_le_bytes()[..4]);
            }
        }
    }

    /// Chained names of the full blocks of `block_size` tokens that the prompt and, after it,
    /// `answer` (a stream and its length) fill.
    pub fn block_hashes(&self, answer: Option<(u64, u32)>, block_size: u32) -> Vec<u64> {
        let block_size = block_size.max(1);
        let answer = answer.map(|(stream, tokens)| Span { stream, start: 0, tokens });
        let total = self.tokens() + answer.map_or(0, |a| u64::from(a.tokens));
        let mut hashes = Vec::with_capacity((total / u64::from(block_size)) as usize);
        let mut hash = 0;
        let mut room = block_size;
        for span in self.iter().chain(answer) {
            let (mut start, mut left) = (span.start, span.tokens);
            while left > 0 {
                let part = left.min(room);
                hash =
                    combine(combine(hash, span.stream), u64::from(start) << 32 | u64::from(part));
                start = start.wrapping_add(part);
                left -= part;
                room -= part;
                if room == 0 {
                    hashes.push(hash);
                    room = block_size;
                }
            }
        }
        hashes
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut all = Self::default();
        for span in spans {
            all.push(span);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Spans over few streams, so that prompts often begin alike.
    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let span = (0u64..2, 0u32..3, 0u32..40).prop_map(|(stream, start, tokens)| Span {
            stream,
            start: start * 7,
            tokens,
        });
        prop::collection::vec(span, 0..6)
    }

    fn tokens(spans: &Spans) -> Vec<u32> {
        let mut bytes = Vec::new();
        spans.write_tokens(&mut bytes);
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn common<T: PartialEq>(a: &[T], b: &[T]) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    proptest! {
        #[test]
        fn tokens_and_block_names_agree_on_what_is_shared(a in spans(), b in spans()) {
            let (a, b) = (Spans::from_iter(a), Spans::from_iter(b));
            let (ta, tb) = (tokens(&a), tokens(&b));
            prop_assert_eq!(ta.len() as u64, a.tokens());
            for block in [1, 4, 16] {
                let (ha, hb) = (a.block_hashes(None, block), b.block_hashes(None, block));
                prop_assert_eq!(ha.len(), ta.len() / block as usize);
                // Block names may take equal tokens of different spans for different (a stream
                // cut in two places), never the other way round.
                prop_assert!(common(&ha, &hb) * block as usize <= common(&ta, &tb));
            }
            if a == b {
                prop_assert_eq!(a.block_hashes(None, 16), b.block_hashes(None, 16));
            }
        }

        #[test]
        fn a_longer_prompt_of_the_same_spans_shares_all_full_blocks(
            a in spans(), more in spans(), block in 1u32..20,
        ) {
            let short = Spans::from_iter(a.clone());
            let long = Spans::from_iter(a.into_iter().chain(more));
            let (hs, hl) = (short.block_hashes(None, block), long.block_hashes(None, block));
            prop_assert_eq!(common(&hs, &hl), hs.len());
            prop_assert_eq!(common(&tokens(&short), &tokens(&long)), short.tokens() as usize);
        }

        #[test]
        fn cutting_a_span_changes_nothing(start in 0u32..9, a in 0u32..50, b in 0u32..50) {
            let whole = Spans::from_iter([Span { stream: 5, start, tokens: a + b }]);
            let cut = Spans::from_iter([
                Span { stream: 5, start, tokens: a },
                Span { stream: 5, start: start + a, tokens: b },
            ]);
            prop_assert_eq!(whole, cut);
        }
    }

    #[test]
    fn a_prompt_that_quotes_the_answer_finds_its_blocks() {
        let mut first = Spans::default();
        first.push_stream(1, 20);
        let with_answer = first.block_hashes(Some((9, 30)), 16);
        let mut next = first.clone();
        next.push_stream(9, 30);
        next.push_stream(2, 30);
        assert_eq!(with_answer.len(), 3);
        assert_eq!(common(&with_answer, &next.block_hashes(None, 16)), 3);
    }

    #[test]
    fn salting_spares_what_is_shared() {
        assert_eq!(salted(shared(3), 4), shared(3));
        assert_ne!(salted(own(3), 4), own(3));
        assert_eq!(salted(own(3), 0), own(3));
        assert_eq!(salted(own(3), 4) & SHARED, 0);
    }
}
