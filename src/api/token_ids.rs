//! An array of token ids.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Token ids, read whole even where one is wrong: what to answer then is the API's to say.
#[derive(Debug, Default)]
pub(super) struct TokenIds {
    /// The ids before the first problem.
    pub ids: Vec<u32>,
    pub problem: Option<Problem>,
    /// A number was written as a float, like `7.0`.
    pub has_float: bool,
}

/// The first thing that is no token id; a wrong type before a wrong value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Problem {
    /// Not an array, or an element that is no number.
    Type,
    /// A number that is not a whole one of 32 bits.
    Value { index: usize, value: f64 },
}

impl<'de> Deserialize<'de> for TokenIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenIdsVisitor)
    }
}

struct TokenIdsVisitor;

impl TokenIds {
    fn wrong() -> Self {
        Self { problem: Some(Problem::Type), ..Self::default() }
    }
}

impl<'de> Visitor<'de> for TokenIdsVisitor {
    type Value = TokenIds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of token ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut read = TokenIds::default();
        while let Some(element) = seq.next_element()? {
            match element {
                Element::Other => read.problem = Some(Problem::Type),
                _ if read.problem.is_some() => {}
                Element::Id(id) => read.ids.push(id),
                Element::Float(value) => {
                    read.has_float = true;
                    match value as u32 {
                        id if f64::from(id) == value => read.ids.push(id),
                        _ => read.problem = Some(Problem::Value { index: read.ids.len(), value }),
                    }
                }
                Element::OutOfRange(value) => {
                    read.problem = Some(Problem::Value { index: read.ids.len(), value });
                }
            }
        }
        Ok(read)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(TokenIds::wrong())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(TokenIds::wrong())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(TokenIds::wrong())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(TokenIds::wrong())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(TokenIds::wrong())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(TokenIds::wrong())
    }
}

enum Element {
    Id(u32),
    /// A whole number that is negative or needs more than 32 bits.
    OutOfRange(f64),
    Float(f64),
    Other,
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token id")
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
        Ok(u32::try_from(v).map_or(Element::OutOfRange(v as f64), Element::Id))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
        Ok(Element::OutOfRange(v as f64))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
        Ok(Element::Float(v))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Element::Other)
    }

    /// Go reads null as zero.
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Element::Id(0))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Element::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Element::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Element::Other)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_an_array() {
        let ok = |ids: &[u32], float| (ids.to_vec(), None, float);
        let value = |index, value| Some(Problem::Value { index, value });
        for (json, expected) in [
            ("[]", ok(&[], false)),
            ("[0, 4294967295]", ok(&[0, u32::MAX], false)),
            ("[1, null]", ok(&[1, 0], false)),
            ("[7.0, 1e2]", ok(&[7, 100], true)),
            ("[1, -1, 2]", (vec![1], value(1, -1.0), false)),
            ("[4294967296]", (vec![], value(0, 4_294_967_296.0), false)),
            ("[1.5]", (vec![], value(0, 1.5), true)),
            ("[1, -3, \"2\"]", (vec![1], Some(Problem::Type), false)),
            ("[1, \"2\", -3]", (vec![1], Some(Problem::Type), false)),
            ("[[1, [2]], {\"a\": [3]}, null, true]", (vec![], Some(Problem::Type), false)),
            ("5", (vec![], Some(Problem::Type), false)),
            ("-5", (vec![], Some(Problem::Type), false)),
            ("0.5", (vec![], Some(Problem::Type), false)),
            ("\"x\"", (vec![], Some(Problem::Type), false)),
            ("true", (vec![], Some(Problem::Type), false)),
            ("{\"a\": {\"b\": 1}}", (vec![], Some(Problem::Type), false)),
        ] {
            let read: TokenIds = serde_json::from_str(json).expect(json);
            assert_eq!((read.ids, read.problem, read.has_float), expected, "{json}");
        }
    }
}
