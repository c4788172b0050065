//! A prompt in one of the forms that completions and embeddings take.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A text, several texts, or token ids.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Text(Cow<'a, str>),
    Texts(Vec<Cow<'a, str>>),
    Tokens(Vec<u32>),
}

impl Default for Input<'_> {
    fn default() -> Self {
        Input::Text(Cow::Borrowed(""))
    }
}

impl Input<'_> {
    /// True for the empty text and the empty array; an array of an empty text is not empty.
    pub fn is_empty(&self) -> bool {
        match self {
            Input::Text(text) => text.is_empty(),
            Input::Texts(texts) => texts.is_empty(),
            Input::Tokens(ids) => ids.is_empty(),
        }
    }
}

/// One element of an input array.
enum Item<'a> {
    Text(Cow<'a, str>),
    Token(u32),
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an array of strings or an array of token ids")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Input::default())
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok(Input::Text(Cow::Borrowed(v)))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(Input::Text(Cow::Owned(v.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mixed = || Error::custom("mixed types in array");
        match seq.next_element()? {
            None => Ok(Input::default()),
            Some(Item::Text(first)) => {
                let mut texts = vec![first];
                while let Some(item) = seq.next_element()? {
                    let Item::Text(text) = item else { return Err(mixed()) };
                    texts.push(text);
                }
                Ok(Input::Texts(texts))
            }
            Some(Item::Token(first)) => {
                let mut ids = vec![first];
                while let Some(item) = seq.next_element()? {
                    let Item::Token(id) = item else { return Err(mixed()) };
                    ids.push(id);
                }
                Ok(Input::Tokens(ids))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Input<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a token id")
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok(Item::Text(Cow::Borrowed(v)))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(Item::Text(Cow::Owned(v.to_owned())))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
        u32::try_from(v).map(Item::Token).map_err(|_| Error::custom("a token id is 32 bits"))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
        // Go reads every number as a float: 7.0 is a token id too.
        match v as u32 {
            id if f64::from(id) == v => Ok(Item::Token(id)),
            _ => Err(Error::custom("a token id is a whole number of 32 bits")),
        }
    }
}

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}
