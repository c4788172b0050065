//! The text every answer consists of.

use crate::sim::BYTES_PER_TOKEN;

/// A text cut into tokens: of four bytes, or less where a character would be cut.
#[derive(Debug)]
pub(super) struct AnswerText {
    pieces: Vec<Box<str>>,
}

/// How long an answer gets and why it ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) tokens: u32,
    /// As in `finish_reason`: `stop` at the end of the text, `length` at the request's limit.
    pub(super) reason: FinishReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinishReason {
    Stop,
    Length,
}

impl FinishReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

impl AnswerText {
    /// An empty text would give empty answers; it becomes a single space.
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = if text.is_empty() { " " } else { text };
        while !rest.is_empty() {
            // No character has more than four bytes, so there is always a first end.
            let ends = rest.char_indices().map(|(at, char)| at + char.len_utf8());
            let cut = ends.take_while(|&end| end <= BYTES_PER_TOKEN).last().unwrap_or(rest.len());
            let (piece, after) = rest.split_at(cut);
            pieces.push(piece.into());
            rest = after;
        }
        Self { pieces }
    }

    /// The length of an answer of at most `limit` tokens. It is as long as the text, or, where
    /// `at_least` asks for more (`min_tokens`, `ignore_eos`), the text again and again.
    pub(super) fn length(&self, limit: u32, at_least: u32) -> Length {
        let text = u32::try_from(self.pieces.len()).unwrap_or(u32::MAX);
        let tokens = text.max(at_least).min(limit);
        let reason = if tokens == text { FinishReason::Stop } else { FinishReason::Length };
        Length { tokens, reason }
    }

    /// Token `index` of an answer.
    pub(super) fn token(&self, index: u32) -> &str {
        self.pieces.get(index as usize % self.pieces.len().max(1)).map_or("", |piece| piece)
    }

    /// The first `tokens` tokens of an answer.
    pub(super) fn text(&self, tokens: u32) -> String {
        (0..tokens).map(|index| self.token(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_four_bytes_and_never_part_of_a_character() {
        for (text, tokens) in [
            ("", vec![" "]),
            ("abc", vec!["abc"]),
            ("abcdefghi", vec!["abcd", "efgh", "i"]),
            ("aéééb", vec!["aé", "éé", "b"]),
            ("日本語", vec!["日", "本", "語"]),
            ("a🦀b", vec!["a", "🦀", "b"]),
        ] {
            let answer = AnswerText::new(text);
            let pieces: Vec<&str> = answer.pieces.iter().map(|p| &**p).collect();
            assert_eq!(pieces, tokens, "{text:?}");
        }
    }

    #[test]
    fn an_answer_ends_with_its_text_or_at_its_limit() {
        let answer = AnswerText::new("aaaabbbbcccc");
        for (limit, at_least, tokens, reason, text) in [
            (100, 0, 3, "stop", "aaaabbbbcccc"),
            (3, 0, 3, "stop", "aaaabbbbcccc"),
            (2, 0, 2, "length", "aaaabbbb"),
            (100, 4, 4, "length", "aaaabbbbccccaaaa"),
            (5, 5, 5, "length", "aaaabbbbccccaaaabbbb"),
            (2, 5, 2, "length", "aaaabbbb"),
        ] {
            let length = answer.length(limit, at_least);
            assert_eq!((length.tokens, length.reason.as_str()), (tokens, reason));
            assert_eq!(answer.text(length.tokens), text);
        }
    }
}
