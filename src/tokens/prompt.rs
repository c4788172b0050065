use crate::kv_index::Extra;

/// An image, video or audio among the tokens of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSpan {
    /// Index of its first token.
    pub offset: u32,
    /// Tokens it takes.
    pub length: u32,
    /// What the engine calls its content.
    pub hash: Box<str>,
}

/// One prompt in token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptTokens {
    pub ids: Vec<u32>,
    /// In the order of their offsets.
    pub media: Vec<MediaSpan>,
}

impl PromptTokens {
    /// What beside the tokens makes a block of `block_size` tokens differ: the media that reach
    /// into it, and in the first block the cache salt, which comes last as in vLLM.
    pub fn extras<'a>(&'a self, block_size: u32, salt: &'a str) -> Vec<Extra<'a>> {
        let mut extras = Vec::new();
        let blocks = self.ids.len() as u32 / block_size.max(1);
        for span in self.media.iter().filter(|span| span.length > 0) {
            let last = span.offset.saturating_add(span.length - 1) / block_size.max(1);
            for block in span.offset / block_size.max(1)..blocks.min(last.saturating_add(1)) {
                extras.push((block, span.hash.as_bytes()));
            }
        }
        if !salt.is_empty() {
            extras.push((0, salt.as_bytes()));
        }
        // Stable: within a block the order stays.
        extras.sort_by_key(|&(block, _)| block);
        extras
    }

    /// Bytes it takes in memory, roughly.
    pub fn size(&self) -> usize {
        let media = self.media.iter().map(|span| span.hash.len() + size_of::<MediaSpan>());
        size_of::<Self>() + size_of_val(&self.ids[..]) + media.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_belong_to_every_block_they_reach_into() {
        let span = |offset, length, hash: &str| MediaSpan { offset, length, hash: hash.into() };
        let a: &[u8] = b"a";
        let b: &[u8] = b"b";
        let salt: &[u8] = b"salt";
        // (media, salt, extras of blocks of 4 among 12 tokens)
        let cases: Vec<(Vec<MediaSpan>, &str, Vec<Extra<'_>>)> = vec![
            (vec![], "", vec![]),
            (vec![], "salt", vec![(0, salt)]),
            (vec![span(0, 4, "a")], "", vec![(0, a)]),
            (vec![span(3, 2, "a")], "", vec![(0, a), (1, a)]),
            (
                vec![span(1, 1, "a"), span(2, 9, "b")],
                "salt",
                vec![(0, a), (0, b), (0, salt), (1, b), (2, b)],
            ),
            (vec![span(0, 0, "a")], "", vec![]),
            (vec![span(11, 50, "a"), span(u32::MAX, u32::MAX, "b")], "", vec![(2, a)]),
        ];
        for (media, salt, extras) in cases {
            let prompt = PromptTokens { ids: vec![0; 13], media };
            assert_eq!(prompt.extras(4, salt), extras, "{:?}", prompt.media);
        }
    }
}
