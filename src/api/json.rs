//! What the API families share for reading a JSON body: one pass, borrowed, unknown fields
//! skipped.
//!
//! A family lists the fields it reads by implementing [`Fields`]; everything else is skipped
//! without being decoded. The text is UTF-8 and nests no deeper than [`MAX_DEPTH`] when it gets
//! here. What goes wrong is looked at again on the way out only ([`explain`]), so that a good
//! body pays nothing for clear errors.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::numbers::out_of_range;
use super::scan::end_of_string;

/// Objects and arrays may nest this deep, as in Go's `encoding/json`.
pub(super) const MAX_DEPTH: usize = 10_000;

const OUT_OF_RANGE: &str = "number out of range";

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not a JSON object: what is wrong with it.
    Syntax(Cow<'static, str>),
    /// A field has the wrong type: what the field's reader said.
    Type(String),
}

/// The fields that are read of one JSON object.
pub(super) trait Fields<'de> {
    /// Reads the value of `key` from `map`, or returns false where the field is not read. Called
    /// again for a key that stands twice: the last value counts.
    fn field<M: MapAccess<'de>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error>;
}

/// A JSON object, or null, which has no fields.
#[derive(Debug, Default)]
pub(super) struct Object<F>(pub F);

impl<'de, F: Fields<'de> + Default> Deserialize<'de> for Object<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = F::default();
        ObjectInto(&mut fields).deserialize(deserializer)?;
        Ok(Object(fields))
    }
}

/// A JSON object, or null, read into fields that are there already.
pub(super) struct ObjectInto<'s, F>(pub &'s mut F);

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for ObjectInto<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for ObjectInto<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            if !self.0.field(&key, &mut map)? {
                map.next_value::<Raw<'de>>()?;
            }
        }
        Ok(())
    }
}

/// Reads the elements of a JSON array one by one, so that none need be kept.
pub(super) trait Elements<'de> {
    /// Reads the next element; `None` where there is none any more.
    fn element<A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error>;
}

/// A JSON array, or null, given to a reader of its elements; yields how many there were.
pub(super) struct Each<'s, S>(pub &'s mut S);

impl<'de, S: Elements<'de>> DeserializeSeed<'de> for Each<'_, S> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Elements<'de>> Visitor<'de> for Each<'_, S> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<E: Error>(self) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while self.0.element(&mut seq)?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// A string: a slice of the body, or a copy where it holds escapes.
///
/// Read as bytes: then serde_json looks for the end of the string with `memchr` instead of looking
/// at every byte, which is most of what reading a long prompt costs. It does not look for control
/// characters then; [`check`] has. Half a surrogate pair is no error to it then, but no UTF-8.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

fn utf8<E: Error>(bytes: &[u8]) -> Result<&str, E> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| E::custom("lone surrogate"))
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E: Error>(self, v: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(utf8(v)?)))
            }

            fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(utf8(v)?.to_owned())))
            }
        }

        deserializer.deserialize_bytes(TextVisitor)
    }
}

/// Reads a string; null is the empty string.
pub(super) fn text<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Cow<'de, str>, M::Error> {
    Ok(map.next_value::<Option<Text<'de>>>()?.unwrap_or_default().0)
}

/// A value as it stands in the body, checked and not decoded. It holds no number that is out of
/// range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a>(pub &'a str);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if out_of_range(raw) {
            return Err(Error::custom(OUT_OF_RANGE));
        }
        Ok(Raw(raw))
    }
}

impl<'a> Raw<'a> {
    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The value's text, if it is a string.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        if !self.0.starts_with('"') {
            return None;
        }
        match serde_json::from_str::<Text<'a>>(self.0) {
            Ok(text) => Some(text.0),
            // A lone surrogate is the one thing that a checked string can still hold.
            Err(_) => {
                let patched = super::surrogates::replace_lone(self.0.as_bytes())?;
                Some(Cow::Owned(serde_json::from_slice::<String>(&patched).ok()?))
            }
        }
    }

    /// The value as a count, if it is a whole number and not negative.
    pub(super) fn count(self) -> Option<u64> {
        // A string or a keyword is no number to `parse` either.
        self.0.parse::<u64>().ok().or_else(|| {
            let value = self.0.parse::<f64>().ok()?;
            (value >= 0.0 && value.fract() == 0.0 && value < u64::MAX as f64)
                .then_some(value as u64)
        })
    }
}

/// Reads a value of any type but null.
pub(super) fn present<'de, M>(map: &mut M) -> Result<Option<Raw<'de>>, M::Error>
where
    M: MapAccess<'de>,
{
    let raw = map.next_value::<Raw<'de>>()?;
    Ok((!raw.is_null()).then_some(raw))
}

/// Reads an array, of anything, or null.
pub(super) fn array<'de, M>(map: &mut M) -> Result<Option<Raw<'de>>, M::Error>
where
    M: MapAccess<'de>,
{
    opened_by(map, '[', "expected an array")
}

/// Reads an object, of anything, or null.
pub(super) fn object<'de, M>(map: &mut M) -> Result<Option<Raw<'de>>, M::Error>
where
    M: MapAccess<'de>,
{
    opened_by(map, '{', "expected an object")
}

fn opened_by<'de, M>(
    map: &mut M,
    first: char,
    expected: &'static str,
) -> Result<Option<Raw<'de>>, M::Error>
where
    M: MapAccess<'de>,
{
    match present(map)? {
        Some(raw) if !raw.0.starts_with(first) => Err(Error::custom(expected)),
        raw => Ok(raw),
    }
}

/// Reads the elements of an array, where a text may stand in its place.
pub(super) trait TextOrElements<'de>: Elements<'de> {
    fn text(&mut self, text: Cow<'de, str>);
}

/// Text, or an array of blocks, given to a reader of either; null is neither.
pub(super) struct ContentInto<'s, S>(pub &'s mut S);

impl<'de, S: TextOrElements<'de>> DeserializeSeed<'de> for ContentInto<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // A string or an array, as bytes are; see `Text`.
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: TextOrElements<'de>> Visitor<'de> for ContentInto<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of blocks")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_bytes(self)
    }

    fn visit_borrowed_bytes<E: Error>(self, v: &'de [u8]) -> Result<(), E> {
        self.0.text(Cow::Borrowed(utf8(v)?));
        Ok(())
    }

    fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<(), E> {
        self.0.text(Cow::Owned(utf8(v)?.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Each(self.0).visit_seq(seq).map(|_| ())
    }
}

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The body as text, if it is UTF-8, does not nest too deep and has no control character in a
/// string.
pub(super) fn check(body: &[u8]) -> Result<&str, Failure> {
    let text = simdutf8::basic::from_utf8(body).map_err(|_| {
        // The second byte of gzip is not the beginning of a character.
        let is_gzip = body.starts_with(&GZIP);
        let why = if is_gzip { "content-encoding gzip is not supported" } else { "invalid UTF-8" };
        Failure::Syntax(Cow::Borrowed(why))
    })?;
    let (brackets, least) = brackets_and_least(body);
    if brackets > MAX_DEPTH && deepest(body) > MAX_DEPTH {
        return Err(Failure::Syntax(Cow::Borrowed("exceeded max depth")));
    }
    // Most bodies hold none at all. Where they stand between values (a body with line breaks), all
    // of it is looked at once more, by a reader that does not let them stand in strings.
    if least < b' '
        && let Err(error) = serde_json::from_str::<IgnoredAny>(text)
    {
        return Err(explain(text, &error));
    }
    Ok(text)
}

/// Reads the one JSON object that `text` is into `fields`.
pub(super) fn read_into<'a, F: Fields<'a>>(text: &'a str, fields: &mut F) -> Result<(), Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = ObjectInto(fields).deserialize(&mut reader);
    read.and_then(|()| reader.end()).map_err(|error| explain(text, &error))
}

/// Reads the one JSON value that `text` is.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| explain(text, &error))
}

/// Tells apart what is not JSON, what is no object, and what has a field of the wrong type: the
/// reader stopped at the first it met, but the whole body must be JSON before a type matters.
#[cold]
fn explain(text: &str, error: &serde_json::Error) -> Failure {
    if let Err(syntax) = serde_json::from_str::<IgnoredAny>(text) {
        return Failure::Syntax(if syntax.is_eof() {
            Cow::Borrowed("unexpected end of JSON input")
        } else {
            // serde_json describes what it expected and where; it quotes nothing.
            Cow::Owned(syntax.to_string())
        });
    }
    if out_of_range(text) {
        return Failure::Syntax(Cow::Borrowed(OUT_OF_RANGE));
    }
    let kind = match text.trim_start().as_bytes().first() {
        Some(b'{') | None => {
            let position = format!(" at line {} column {}", error.line(), error.column());
            let message = error.to_string();
            return Failure::Type(message.strip_suffix(&position).unwrap_or(&message).to_owned());
        }
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(_) => "number",
    };
    Failure::Syntax(Cow::Owned(format!(
        "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    )))
}

/// How many arrays and objects begin, which is never less than they nest deep, and the least of
/// all bytes. Counting them costs a fraction of reading the body.
fn brackets_and_least(body: &[u8]) -> (usize, u8) {
    let (mut brackets, mut least) = (0, u8::MAX);
    // In runs short enough for a count of a byte each, so that the compiler can look at many bytes
    // at once. `[` and `{` differ in one bit.
    for run in body.chunks(usize::from(u8::MAX)) {
        brackets += usize::from(run.iter().map(|b| u8::from(b | 0x20 == b'{')).sum::<u8>());
        least = run.iter().fold(least, |least, &b| least.min(b));
    }
    (brackets, least)
}

/// How deep arrays and objects nest.
fn deepest(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(body, at),
            _ => {}
        }
        at += 1;
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(body: &str) -> String {
        #[derive(Default)]
        struct Named(String);
        impl<'de> Fields<'de> for Named {
            fn field<M: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut M,
            ) -> Result<bool, M::Error> {
                if key == "name" {
                    self.0 = text(map)?.into_owned();
                }
                Ok(key == "name")
            }
        }
        match check(body.as_bytes()).and_then(read::<Object<Named>>) {
            Ok(named) => format!("name '{}'", named.0.0),
            Err(Failure::Syntax(text)) => format!("syntax: {text}"),
            Err(Failure::Type(text)) => format!("type: {text}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_body() {
        const OBJECT: &str = "into Go value of type map[string]interface {}";
        for (body, expected) in [
            (r#"{"name":"x"}"#, "name 'x'".to_owned()),
            (r#" {"a":[{}], "name" : "x" , "b":1e300} "#, "name 'x'".to_owned()),
            (r#"{"name":"x","b":[1e400]}"#, "syntax: number out of range".to_owned()),
            (r#"{"name":1e400}"#, "syntax: number out of range".to_owned()),
            ("1e400", "syntax: number out of range".to_owned()),
            (r#"{"name":"x","name":"y"}"#, "name 'y'".to_owned()),
            (r#"{"na\u006de":"\u0041\n"}"#, "name 'A\n'".to_owned()),
            (r#"{"name":null}"#, "name ''".to_owned()),
            ("null", "name ''".to_owned()),
            ("", "syntax: unexpected end of JSON input".to_owned()),
            (" \n", "syntax: unexpected end of JSON input".to_owned()),
            (r#"{"name":"x""#, "syntax: unexpected end of JSON input".to_owned()),
            ("no json", "syntax: expected ident at line 1 column 2".to_owned()),
            ("{} {}", "syntax: trailing characters at line 1 column 4".to_owned()),
            ("[1]", format!("syntax: json: cannot unmarshal array {OBJECT}")),
            ("\"{\"", format!("syntax: json: cannot unmarshal string {OBJECT}")),
            ("true", format!("syntax: json: cannot unmarshal bool {OBJECT}")),
            (" -1", format!("syntax: json: cannot unmarshal number {OBJECT}")),
            (r#"{"name":5}"#, "type: invalid type: integer `5`, expected a string".to_owned()),
            // Not JSON outranks a field of the wrong type before it.
            (r#"{"name":5,}"#, "syntax: key must be a string at line 1 column 11".to_owned()),
            ("{\"name\":\"a\nb\"}", {
                let text = "control character (\\u0000-\\u001F) found while parsing a string";
                format!("syntax: {text} at line 1 column 10")
            }),
        ] {
            assert_eq!(outcome(body), expected, "{body}");
        }
        assert!(
            matches!(check(b"{\"name\":\"\xff\"}"), Err(Failure::Syntax(t)) if t == "invalid UTF-8")
        );
    }

    #[test]
    fn nesting_has_a_limit_and_never_overflows_the_stack() {
        let nested = |open: &str, close: &str, levels: usize| {
            format!(r#"{{"x":{}{},"name":"n"}}"#, open.repeat(levels), close.repeat(levels))
        };
        let too_deep = "syntax: exceeded max depth";
        // The object around them is a level of its own.
        assert_eq!(outcome(&nested("[", "]", MAX_DEPTH - 1)), "name 'n'");
        assert_eq!(outcome(&nested("[", "]", MAX_DEPTH)), too_deep);
        assert_eq!(outcome(&nested("[", "]", 400_000)), too_deep);
        // Brackets side by side, or in strings, are no nesting.
        assert_eq!(outcome(&format!(r#"{{"x":[{}[]]}}"#, "[],".repeat(20_000))), "name ''");
        assert_eq!(outcome(&format!(r#"{{"name":"\"{}"}}"#, "[".repeat(3)),), "name '\"[[['");
        let brackets = "[".repeat(20_000);
        assert_eq!(outcome(&format!(r#"{{"x":"\\\"{brackets}"}}"#)), "name ''");
    }

    #[test]
    fn counts_are_whole_and_not_negative() {
        for (raw, count) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("5.0", Some(5)),
            ("1e3", Some(1000)),
            ("-1", None),
            ("0.5", None),
            ("1e40", None),
            ("\"5\"", None),
            ("true", None),
            ("null", None),
        ] {
            assert_eq!(Raw(raw).count(), count, "{raw}");
        }
    }
}
