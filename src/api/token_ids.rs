//! An array of token ids.

use super::scan::elements;
use crate::scheduling::PromptBuilder;

/// Token ids as they stand in the body, looked through once; they are read again where they are
/// used, so that they cost no memory before. What to answer where one is wrong is the API's to say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenIds<'a> {
    array: &'a str,
    /// How many there are, if there is no problem.
    pub count: usize,
    pub problem: Option<Problem>,
    /// A number was written as a float, like `7.0`.
    pub has_float: bool,
    /// A null stands for 0, as Go reads it.
    pub has_null: bool,
}

/// The first thing that is no token id; a wrong type before a wrong value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Problem {
    /// Not an array, or an element that is no number.
    Type,
    /// A number that is not a whole one of 32 bits.
    Value { index: usize, value: f64 },
}

impl<'a> TokenIds<'a> {
    /// Looks through a JSON value, known to be well formed.
    pub(super) fn of(value: &'a str) -> Self {
        let mut ids = Self { array: value, ..Self::default() };
        if !value.starts_with('[') {
            ids.problem = Some(Problem::Type);
            return ids;
        }
        for element in elements(value) {
            match Element::of(element) {
                Element::Other => ids.problem = Some(Problem::Type),
                _ if ids.problem.is_some() => {}
                Element::Id(_) => ids.count += 1,
                Element::Null => {
                    ids.has_null = true;
                    ids.count += 1;
                }
                Element::Float(_) => {
                    ids.has_float = true;
                    ids.count += 1;
                }
                Element::NoId(value) => {
                    ids.problem = Some(Problem::Value { index: ids.count, value });
                }
            }
        }
        ids
    }

    /// Adds them to a prompt.
    pub(super) fn collect(&self, prompt: &mut PromptBuilder) {
        prompt.reserve(size_of::<u32>() * self.count);
        prompt.tokens(self.ids());
    }

    /// The ids up to the first problem, read from the body.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        let ids = elements(self.array).map_while(|element| match Element::of(element) {
            Element::Id(id) | Element::Float(id) => Some(id),
            Element::Null => Some(0),
            Element::NoId(_) | Element::Other => None,
        });
        ids.take(self.count)
    }
}

/// One element of the array.
enum Element {
    Id(u32),
    Null,
    /// A token id, written as a float.
    Float(u32),
    /// A number that is no token id.
    NoId(f64),
    Other,
}

impl Element {
    fn of(json: &str) -> Self {
        let digits = json.as_bytes();
        // Nine digits fit in 32 bits.
        if digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit) {
            return Element::Id(digits.iter().fold(0, |id, d| id * 10 + u32::from(d - b'0')));
        }
        if json == "null" {
            return Element::Null;
        }
        if !matches!(digits.first(), Some(b'-' | b'0'..=b'9')) {
            return Element::Other;
        }
        let Ok(value) = json.parse::<f64>() else { return Element::Other };
        match value as u32 {
            id if f64::from(id) != value => Element::NoId(value),
            id if digits.iter().all(u8::is_ascii_digit) => Element::Id(id),
            id => Element::Float(id),
        }
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
            ("[999999999,1000000000\n]", ok(&[999_999_999, 1_000_000_000], false)),
            ("[1, null]", ok(&[1, 0], false)),
            ("[7.0, 1e2]", ok(&[7, 100], true)),
            ("[1, -1, 2]", (vec![1], value(1, -1.0), false)),
            ("[4294967296]", (vec![], value(0, 4_294_967_296.0), false)),
            ("[1.5]", (vec![], value(0, 1.5), false)),
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
            let read = TokenIds::of(json);
            assert_eq!((read.ids().collect(), read.problem, read.has_float), expected, "{json}");
        }
    }
}
