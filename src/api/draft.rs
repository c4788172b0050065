//! A prompt while its body is read.

use std::borrow::Cow;

use super::estimate::{EstimateRules, ImageRules, VideoHints};
use super::media::MediaItem;
use crate::scheduling::PromptBuilder;

/// A shorter text is copied beside its neighbours: its place would take as many bytes.
const SHORT: usize = 32;
/// A longer text that stood escaped in the body is kept as it was decoded, not copied again.
const LONG: usize = 4096;

/// The pieces of a prompt in order, put together in the one pass over a body.
///
/// Fields come in any order, so what was added can be taken back ([`Draft::cut`]) and what should
/// have come first can be put there ([`Draft::put_before`]). What it holds stays a fraction of the
/// body's size, whatever the body is made of: nothing is kept of an empty block, short texts lie
/// side by side, and long ones are places in the body.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    body: &'a str,
    /// False: everything is checked and nothing is kept.
    wanted: bool,
    pub images: ImageRules,
    /// Tokens of a video: what the headers say is the same for all.
    pub video_tokens: u32,
    parts: Vec<Part>,
    side: Vec<u8>,
    long: Vec<String>,
    media: Vec<MediaItem>,
    /// Parts before this one take no more text.
    closed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// `start..end` of the body.
    Body(u32, u32),
    /// `start..end` of `side`.
    Side(u32, u32),
    /// An index into `long`.
    Long(u32),
    /// An index into `media`.
    Media(u32),
}

/// How far a draft has got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    parts: usize,
    side: usize,
    long: usize,
    media: usize,
}

impl<'a> Draft<'a> {
    /// A draft of the prompt in `body`.
    pub(super) fn new(
        body: &'a str,
        wanted: bool,
        rules: &EstimateRules,
        video: &VideoHints,
    ) -> Self {
        Self {
            body,
            wanted,
            images: rules.image,
            video_tokens: rules.video.tokens(video),
            ..Self::default()
        }
    }

    /// An empty draft of the same body.
    pub(super) fn another(&self) -> Self {
        Self {
            body: self.body,
            wanted: self.wanted,
            images: self.images,
            video_tokens: self.video_tokens,
            ..Self::default()
        }
    }

    /// False: nothing need be worked out for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// What a text made from the body may take, bytes: none, where it is not wanted.
    pub(super) fn room(&self) -> usize {
        if self.wanted { self.body.len() } else { 0 }
    }

    /// Adds text.
    pub(super) fn text(&mut self, text: Cow<'a, str>) {
        if text.is_empty() || !self.wanted {
            return;
        }
        match text {
            Cow::Borrowed(text) if text.len() >= SHORT => match self.place_of(text) {
                Some(part) => self.parts.push(part),
                None => self.copied(text.as_bytes()),
            },
            Cow::Owned(text) if text.len() >= LONG => {
                self.parts.push(Part::Long(self.long.len() as u32));
                self.long.push(text);
            }
            text => self.copied(text.as_bytes()),
        }
    }

    /// Where a text stands in the body, if it is a slice of it.
    fn place_of(&self, text: &str) -> Option<Part> {
        let start = (text.as_ptr() as usize).checked_sub(self.body.as_ptr() as usize)?;
        let end = start.checked_add(text.len()).filter(|end| *end <= self.body.len())?;
        Some(Part::Body(u32::try_from(start).ok()?, u32::try_from(end).ok()?))
    }

    /// Adds text that is nowhere else.
    pub(super) fn copied(&mut self, text: &[u8]) {
        if text.is_empty() || !self.wanted {
            return;
        }
        let start = self.side.len() as u32;
        self.side.extend_from_slice(text);
        self.side_part(start);
    }

    /// The end of `side`, from `start` on, is the next part, or goes on with the last one.
    fn side_part(&mut self, start: u32) {
        let end = self.side.len() as u32;
        let open = self.parts.len() > self.closed;
        match self.parts.last_mut() {
            Some(Part::Side(_, last)) if open && *last == start => *last = end,
            _ => self.parts.push(Part::Side(start, end)),
        }
    }

    /// Adds a media item.
    pub(super) fn media(&mut self, item: MediaItem) {
        if self.wanted {
            self.parts.push(Part::Media(self.media.len() as u32));
            self.media.push(item);
        }
    }

    /// Adds all of another draft of the same body.
    pub(super) fn append(&mut self, mut other: Draft<'a>) {
        for part in std::mem::take(&mut other.parts) {
            match part {
                Part::Body(..) => self.parts.push(part),
                Part::Side(start, end) => self.copied(&other.side[start as usize..end as usize]),
                Part::Long(index) => {
                    self.parts.push(Part::Long(self.long.len() as u32));
                    self.long.push(std::mem::take(&mut other.long[index as usize]));
                }
                Part::Media(index) => self.media(other.media[index as usize]),
            }
        }
    }

    /// Remembers where the draft is; what follows stays apart from what is there.
    pub(super) fn mark(&mut self) -> Mark {
        self.closed = self.parts.len();
        Mark {
            parts: self.parts.len(),
            side: self.side.len(),
            long: self.long.len(),
            media: self.media.len(),
        }
    }

    /// Takes back what was added since `mark`.
    pub(super) fn cut(&mut self, mark: Mark) {
        self.parts.truncate(mark.parts);
        self.side.truncate(mark.side);
        self.long.truncate(mark.long);
        self.media.truncate(mark.media);
    }

    /// Puts `text` before what was added since `mark`, the last one made.
    pub(super) fn put_before(&mut self, mark: Mark, text: Cow<'a, str>) {
        let added = self.side.len() - mark.side;
        let is_short = added + text.len() < SHORT
            && matches!(self.parts.get(mark.parts..), Some([] | [Part::Side(..)]));
        if is_short && self.wanted {
            // One run of bytes, so that it can lie beside those of the neighbours.
            self.parts.truncate(mark.parts);
            self.side.extend_from_slice(text.as_bytes());
            self.side[mark.side..].rotate_left(added);
            self.closed = 0;
            if self.side.len() > mark.side {
                self.side_part(mark.side as u32);
            }
            return;
        }
        self.closed = self.parts.len();
        let before = self.parts.len();
        self.text(text);
        let pushed = self.parts.len() - before;
        if let Some(since) = self.parts.get_mut(mark.parts..) {
            since.rotate_right(pushed);
        }
        // What was moved to the end need not be the end of `side`; a part that is goes on.
        self.closed = 0;
    }

    /// Hands everything to `prompt`, and returns the media items.
    pub(super) fn finish(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        prompt.reserve(self.side.len() + self.long.iter().map(String::len).sum::<usize>());
        for part in &self.parts {
            match *part {
                Part::Body(start, end) => {
                    prompt.text(&self.body.as_bytes()[start as usize..end as usize]);
                }
                Part::Side(start, end) => prompt.text(&self.side[start as usize..end as usize]),
                Part::Long(index) => prompt.text(self.long[index as usize].as_bytes()),
                Part::Media(index) => {
                    let item = &self.media[index as usize];
                    prompt.media(item.token(), item.tokens);
                }
            }
        }
        self.media
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::scheduling::Piece;

    static BODY: &str = "the quick brown fox jumps over the lazy dog, and then some more of it";

    fn draft(wanted: bool) -> Draft<'static> {
        Draft::new(BODY, wanted, &EstimateRules::default(), &VideoHints::default())
    }

    fn finished(draft: Draft<'_>) -> (Vec<u8>, usize) {
        let mut builder = PromptBuilder::new(Bytes::from_static(BODY.as_bytes()));
        draft.finish(&mut builder);
        let prompt = builder.finish();
        let pieces: Vec<Piece<'_>> = prompt.prompts().flatten().collect();
        let bytes = pieces.iter().flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.to_vec(),
            Piece::Fill { token, .. } => format!("<{token}>").into_bytes(),
        });
        (bytes.collect(), pieces.len())
    }

    #[test]
    fn short_texts_share_a_part_and_long_ones_are_places() {
        let mut draft = draft(true);
        for word in BODY.split(' ') {
            draft.text(Cow::Borrowed(word));
        }
        draft.text(Cow::Borrowed(BODY));
        assert_eq!(finished(draft), (format!("{}{BODY}", BODY.replace(' ', "")).into_bytes(), 2));
    }

    #[test]
    fn nothing_is_kept_of_an_unwanted_prompt() {
        let mut draft = draft(false);
        let mark = draft.mark();
        draft.text(Cow::Borrowed(BODY));
        draft.media(MediaItem::image("x", &ImageRules::default()));
        draft.put_before(mark, Cow::Borrowed("role"));
        assert_eq!(finished(draft), (Vec::new(), 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Short(usize),
        Long(usize),
        Escaped(usize),
        Media(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8usize).prop_map(Step::Short),
            (SHORT..40usize).prop_map(Step::Long),
            prop_oneof![0..40usize, LONG..LONG + 2].prop_map(Step::Escaped),
            any::<u8>().prop_map(Step::Media),
        ]
    }

    fn add(draft: &mut Draft<'static>, expected: &mut String, step: &Step) {
        match step {
            Step::Short(n) | Step::Long(n) => {
                draft.text(Cow::Borrowed(&BODY[..*n]));
                expected.push_str(&BODY[..*n]);
            }
            Step::Escaped(n) => {
                draft.text(Cow::Owned("e".repeat(*n)));
                expected.push_str(&"e".repeat(*n));
            }
            Step::Media(n) => {
                let item = MediaItem::image(&n.to_string(), &ImageRules::default());
                expected.push_str(&format!("<{}>", item.token()));
                draft.media(item);
            }
        }
    }

    proptest! {
        /// Messages whose content comes before their role, or twice, read as in the usual order.
        #[test]
        fn the_order_of_fields_does_not_matter(
            messages in prop::collection::vec(
                (0..40usize, prop::collection::vec(step(), 0..4), prop::collection::vec(step(), 0..3)),
                0..6,
            ),
        ) {
            let mut drafted = draft(true);
            let mut expected = String::new();
            for (role, content, dropped) in &messages {
                let mark = drafted.mark();
                for step in dropped {
                    add(&mut drafted, &mut String::new(), step);
                }
                drafted.cut(mark);
                let mark = drafted.mark();
                expected.push_str(&BODY[..*role]);
                for step in content {
                    add(&mut drafted, &mut expected, step);
                }
                drafted.put_before(mark, Cow::Borrowed(&BODY[..*role]));
            }
            let mut all = draft(true);
            all.append(drafted);
            prop_assert_eq!(String::from_utf8(finished(all).0).unwrap(), expected);
        }
    }
}
