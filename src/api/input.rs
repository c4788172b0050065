//! A prompt in one of the forms that completions and embeddings take.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::json::Raw;
use super::scan::elements;
use super::token_ids::TokenIds;
use crate::scheduling::PromptBuilder;

/// Prompts that one request may hold. Each is matched for itself, which costs memory and time
/// beside that of its text; the engines' own limits are far lower.
pub(super) const MAX_PROMPTS: usize = 16_384;

/// A text, several texts, token ids, or several lists of them. Arrays stay in the body until they
/// are used, but are known to hold what they should.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Text(Cow<'a, str>),
    Texts(List<'a>),
    Tokens(TokenIds<'a>),
    Batches(List<'a>),
}

/// An array as it stands in the body, and how many elements it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    pub array: &'a str,
    pub count: usize,
    /// Token ids in all of its elements.
    tokens: usize,
}

impl Default for Input<'_> {
    fn default() -> Self {
        Input::Text(Cow::Borrowed(""))
    }
}

impl<'a> Input<'a> {
    /// True for the empty text and the empty array; an array of an empty text is not empty.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Input::Text(text) if text.is_empty())
    }

    /// How many prompts it is.
    pub(super) fn prompts(&self) -> usize {
        match self {
            Input::Text(_) | Input::Tokens(_) => 1,
            Input::Texts(list) | Input::Batches(list) => list.count,
        }
    }

    /// Reads an array; `None` where its elements are not all of one kind, or of none of these.
    fn of_array(array: &'a str) -> Option<Self> {
        // Tokens of an element, if it is what it should be.
        let list = |tokens_of: fn(&str) -> Option<usize>| {
            let mut list = List { array, count: 0, tokens: 0 };
            for element in elements(array) {
                list.tokens += tokens_of(element)?;
                list.count += 1;
            }
            Some(list)
        };
        Some(match elements(array).next().map(|first| first.as_bytes()) {
            None => Input::default(),
            Some([b'"', ..]) => {
                Input::Texts(list(|element| element.starts_with('"').then_some(0))?)
            }
            Some([b'[', ..]) => Input::Batches(list(|element| {
                let ids = TokenIds::of(element);
                (ids.problem.is_none() && !ids.has_null).then_some(ids.count)
            })?),
            Some(b"null") => return None,
            Some(_) => {
                let ids = TokenIds::of(array);
                // Null is no token here, whatever it is elsewhere.
                if ids.problem.is_some() || ids.has_null {
                    return None;
                }
                Input::Tokens(ids)
            }
        })
    }
}

impl<'a> List<'a> {
    /// The texts of a list of texts.
    pub(super) fn texts(self) -> impl Iterator<Item = Cow<'a, str>> {
        elements(self.array).filter_map(|element| Raw(element).string())
    }

    /// Adds the lists of token ids, each as a prompt of its own.
    pub(super) fn add_batches(self, prompt: &mut PromptBuilder) {
        prompt.reserve(size_of::<u32>() * self.tokens);
        for (i, batch) in elements(self.array).enumerate() {
            if i > 0 {
                prompt.next_prompt();
            }
            prompt.tokens(TokenIds::of(batch).ids());
        }
    }
}

impl<'de> Deserialize<'de> for Input<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        let wrong = || Error::custom("expected text, texts, token ids or lists of token ids");
        match raw.0.as_bytes() {
            b"null" => Ok(Input::default()),
            [b'"', ..] => raw.string().map(Input::Text).ok_or_else(wrong),
            [b'[', ..] => Input::of_array(raw.0).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}
