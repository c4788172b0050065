use bytes::Bytes;
use smallvec::SmallVec;

/// One run of a prompt's content, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text bytes, or token ids as little-endian `u32`s.
    Bytes(&'a [u8]),
    /// A media item: pad to a whole token first, then `count` tokens of this value.
    Fill { token: u32, count: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `start..end` of the request body as received.
    Body(u32, u32),
    /// `start..end` of the side buffer: text that stood escaped in the body, token ids.
    Side(u32, u32),
    Fill(u32, u32),
}

/// What of a request counts for prefix matching, as slices of the received body.
///
/// The reference (llm-d-router main at ebab6879, `token-producer`, estimate back-end) packs four
/// bytes of text into one pseudo-token, little-endian, the last one zero-padded; a sequence of
/// real token ids has the same form. So a prompt is a byte string, and N tokens are 4·N bytes.
/// Several prompts of one request (a completions array) are matched one by one.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    body: Bytes,
    side: Vec<u8>,
    parts: SmallVec<[Part; 8]>,
    /// Where each prompt but the first begins in `parts`.
    breaks: SmallVec<[u32; 2]>,
    has_media: bool,
    has_text: bool,
}

impl Prompt {
    /// True where nothing can be hashed.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// True where the request carries images, video or audio.
    pub fn has_media(&self) -> bool {
        self.has_media
    }

    /// The body that the request came with.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The engine's token ids, prompt by prompt, where the request gave its prompts as such.
    pub fn token_ids(&self) -> Option<Vec<Vec<u32>>> {
        if self.is_empty() || self.has_text || self.has_media {
            return None;
        }
        let ids = |bytes: &[u8]| -> Vec<u32> {
            bytes.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect()
        };
        let ids_of = |piece| match piece {
            Piece::Bytes(bytes) => ids(bytes),
            Piece::Fill { token, count } => vec![token; count as usize],
        };
        Some(self.prompts().map(|pieces| pieces.flat_map(ids_of).collect()).collect())
    }

    /// The prompts of the request, each as its pieces in order.
    pub fn prompts(&self) -> impl Iterator<Item = impl Iterator<Item = Piece<'_>> + '_> + '_ {
        let count = if self.parts.is_empty() { 0 } else { self.breaks.len() + 1 };
        (0..count).map(move |i| {
            let from = if i == 0 { 0 } else { self.breaks[i - 1] as usize };
            let to = self.breaks.get(i).map_or(self.parts.len(), |&b| b as usize);
            self.parts[from..to].iter().map(move |&part| match part {
                Part::Body(a, b) => Piece::Bytes(&self.body[a as usize..b as usize]),
                Part::Side(a, b) => Piece::Bytes(&self.side[a as usize..b as usize]),
                Part::Fill(token, count) => Piece::Fill { token, count },
            })
        })
    }

    /// Pseudo-tokens of all prompts together: bytes / 4, rounded up per prompt.
    pub fn token_count(&self) -> u64 {
        self.prompts()
            .map(|pieces| {
                let bytes = pieces.fold(0u64, |n, piece| match piece {
                    Piece::Bytes(b) => n + b.len() as u64,
                    Piece::Fill { count, .. } => n.next_multiple_of(4) + 4 * u64::from(count),
                });
                bytes.div_ceil(4)
            })
            .sum()
    }
}

/// Puts a [`Prompt`] together while a body is parsed. Offsets are `u32`: bodies end at 4 GiB.
#[derive(Debug)]
pub struct PromptBuilder {
    prompt: Prompt,
}

impl PromptBuilder {
    pub fn new(body: Bytes) -> Self {
        Self { prompt: Prompt { body, ..Prompt::default() } }
    }

    /// Adds text. A slice of the body (unescaped as it came) is remembered by its place, anything
    /// else is copied to the side.
    pub fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.prompt.has_text = true;
        let base = self.prompt.body.as_ptr() as usize;
        let at = text.as_ptr() as usize;
        let inside = at >= base && at + text.len() <= base + self.prompt.body.len();
        let part = if inside {
            let start = (at - base) as u32;
            Part::Body(start, start + text.len() as u32)
        } else {
            let start = self.prompt.side.len() as u32;
            self.prompt.side.extend_from_slice(text);
            Part::Side(start, start + text.len() as u32)
        };
        self.prompt.parts.push(part);
    }

    /// Makes room for `bytes` more of what is copied, so that it need not grow by doubling.
    pub fn reserve(&mut self, bytes: usize) {
        self.prompt.side.reserve_exact(bytes);
    }

    /// Adds token ids.
    pub fn tokens(&mut self, ids: impl IntoIterator<Item = u32>) {
        let start = self.prompt.side.len() as u32;
        for id in ids {
            self.prompt.side.extend_from_slice(&id.to_le_bytes());
        }
        let end = self.prompt.side.len() as u32;
        if end > start {
            self.prompt.parts.push(Part::Side(start, end));
        }
    }

    /// Adds a media item as `count` placeholder tokens.
    pub fn media(&mut self, token: u32, count: u32) {
        self.prompt.has_media = true;
        if count > 0 {
            self.prompt.parts.push(Part::Fill(token, count));
        }
    }

    /// Begins the next prompt of the same request.
    pub fn next_prompt(&mut self) {
        self.prompt.breaks.push(self.prompt.parts.len() as u32);
    }

    pub fn finish(self) -> Prompt {
        self.prompt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_the_body_are_not_copied() {
        let body = Bytes::from_static(b"{\"prompt\":\"hello\"}");
        let mut b = PromptBuilder::new(body.clone());
        b.text(&body[11..16]);
        b.text(b" world");
        let prompt = b.finish();
        assert_eq!(prompt.side, b" world");
        let all: Vec<Piece<'_>> = prompt.prompts().flatten().collect();
        assert_eq!(all, [Piece::Bytes(b"hello"), Piece::Bytes(b" world")]);
        assert_eq!(prompt.token_count(), 3);
    }

    #[test]
    fn several_prompts_are_kept_apart() {
        let mut b = PromptBuilder::new(Bytes::new());
        b.text(b"a");
        b.next_prompt();
        b.tokens([1, 2]);
        let prompt = b.finish();
        let lens: Vec<usize> = prompt.prompts().map(Iterator::count).collect();
        assert_eq!(lens, [1, 1]);
        assert_eq!(prompt.token_count(), 3);
    }

    #[test]
    fn media_begins_on_a_whole_token() {
        let mut b = PromptBuilder::new(Bytes::new());
        b.text(b"abcde");
        b.media(7, 3);
        assert_eq!(b.finish().token_count(), 5);
    }
}
