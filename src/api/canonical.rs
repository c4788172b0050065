//! One form for JSON values that mean the same, so that their bytes can be hashed.
//!
//! The reference decodes tools, inputs and items and encodes them again with Go's
//! `encoding/json`: no white space, keys sorted, the last of equal keys, numbers as the shortest
//! `float64`, `<`, `>`, `&`, U+2028 and U+2029 escaped. This writes that form from the text
//! itself. The text has been checked before: it is one JSON value. Nothing here recurses, so
//! depth costs no stack.

use std::borrow::Cow;
use std::io::Write;

use super::scan::end_of_string;
use super::surrogates::unit;

/// Memory that the structure of a value may take, bytes: this, or twice the value's length.
const MAX_TREE: usize = 4 << 20;
/// Bytes by which a form may be longer than the value: these, or half of its length.
const MAX_GROWTH: usize = 64 << 10;

/// Writes `json` in its one form.
///
/// A value of so many small parts that its structure would take several times its length, or of so
/// many characters that the form escapes that it would be much longer, is written as it stands: two
/// spellings of it are then two values, which no client of such a thing needs to be one.
pub(super) fn write(json: &str, out: &mut Vec<u8>) {
    match (Tree::read(json.as_bytes()), length(json)) {
        (Some(tree), Some(length)) => {
            out.reserve_exact(length);
            tree.write(out);
        }
        _ => out.extend_from_slice(json.as_bytes()),
    }
}

/// Writes a text as a JSON string in that form, or as it stands between quotes where that would be
/// much longer.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if length(text).is_some() {
        text.chars().for_each(|c| write_char(c, out));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

/// How long the form of a JSON value or a text may be, bytes; `None` where that is much longer.
pub(super) fn length(text: &str) -> Option<usize> {
    let escaped = memchr::memchr3_iter(b'<', b'>', b'&', text.as_bytes()).count();
    let growth = escaped * (r"\u003c".len() - 1);
    (growth <= MAX_GROWTH.max(text.len() / 2)).then_some(text.len() + growth)
}

/// `json` without the white space between its tokens; nothing else changes.
pub(super) fn compact(json: &str) -> Cow<'_, [u8]> {
    let bytes = json.as_bytes();
    let mut out: Option<Vec<u8>> = None;
    let mut from = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b' ' | b'\n' | b'\r' | b'\t' => {
                out.get_or_insert_default().extend_from_slice(&bytes[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    match out {
        None => Cow::Borrowed(bytes),
        Some(mut out) => {
            out.extend_from_slice(&bytes[from..]);
            Cow::Owned(out)
        }
    }
}

/// The value's structure: scalars stay in the text.
struct Tree<'a> {
    root: Node<'a>,
    containers: Vec<Container<'a>>,
}

enum Node<'a> {
    /// A string with its quotes, a number or a keyword.
    Scalar(&'a [u8]),
    /// An index into `containers`.
    Container(usize),
}

struct Container<'a> {
    is_object: bool,
    members: Vec<Member<'a>>,
}

/// What a member takes in a vector that grows by doubling, and a container with its first members.
const MEMBER_COST: usize = 2 * size_of::<Member<'_>>();
const CONTAINER_COST: usize = size_of::<Container<'_>>() + 2 * MEMBER_COST;

struct Member<'a> {
    /// The key as it is written, with its quotes; empty in an array.
    key: Cow<'a, [u8]>,
    value: Node<'a>,
}

impl<'a> Tree<'a> {
    /// `None` where it would take too much memory.
    fn read(json: &'a [u8]) -> Option<Self> {
        let mut room = MAX_TREE.max(2 * json.len());
        let mut tree = Tree { root: Node::Scalar(b""), containers: Vec::new() };
        let mut open: Vec<usize> = Vec::new();
        let mut key = None;
        let mut at = 0;
        while let Some(&byte) = json.get(at) {
            let end = match byte {
                b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' => at + 1,
                b'[' | b'{' => {
                    room = room.checked_sub(CONTAINER_COST + MEMBER_COST)?;
                    let id = tree.containers.len();
                    let is_object = byte == b'{';
                    tree.containers.push(Container { is_object, members: Vec::new() });
                    tree.add(&open, key.take(), Node::Container(id));
                    open.push(id);
                    at + 1
                }
                b']' | b'}' => {
                    if let Some(id) = open.pop() {
                        tree.containers[id].sort();
                    }
                    at + 1
                }
                b'"' => {
                    let end = (end_of_string(json, at) + 1).min(json.len());
                    let string = &json[at..end];
                    let in_object = open.last().is_some_and(|&id| tree.containers[id].is_object);
                    if in_object && key.is_none() {
                        room = room.checked_sub(MEMBER_COST)?;
                        key = Some(canonical_string(string));
                    } else {
                        room = room.checked_sub(MEMBER_COST)?;
                        tree.add(&open, key.take(), Node::Scalar(string));
                    }
                    end
                }
                _ => {
                    let length = json[at..]
                        .iter()
                        .position(|b| b",]} \n\r\t".contains(b))
                        .unwrap_or(json.len() - at);
                    room = room.checked_sub(MEMBER_COST)?;
                    tree.add(&open, key.take(), Node::Scalar(&json[at..at + length]));
                    at + length.max(1)
                }
            };
            at = end;
        }
        Some(tree)
    }

    /// Adds a value to the innermost open container.
    fn add(&mut self, open: &[usize], key: Option<Cow<'a, [u8]>>, value: Node<'a>) {
        match open.last() {
            Some(&id) => {
                self.containers[id].members.push(Member { key: key.unwrap_or_default(), value });
            }
            None => self.root = value,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        // The containers begun, each with the index of its next member.
        let mut open: Vec<(&Container<'a>, usize)> = Vec::new();
        self.begin(&self.root, &mut open, out);
        while let Some((container, next)) = open.last_mut() {
            let Some(member) = container.members.get(*next) else {
                out.push(if container.is_object { b'}' } else { b']' });
                open.pop();
                continue;
            };
            if *next > 0 {
                out.push(b',');
            }
            *next += 1;
            if container.is_object {
                out.extend_from_slice(&member.key);
                out.push(b':');
            }
            self.begin(&member.value, &mut open, out);
        }
    }

    fn begin<'t>(
        &'t self,
        node: &Node<'a>,
        open: &mut Vec<(&'t Container<'a>, usize)>,
        out: &mut Vec<u8>,
    ) {
        match *node {
            Node::Container(id) => {
                let container = &self.containers[id];
                out.push(if container.is_object { b'{' } else { b'[' });
                open.push((container, 0));
            }
            Node::Scalar(string @ [b'"', ..]) => write_string(string, out),
            Node::Scalar(number @ [b'-' | b'0'..=b'9', ..]) => write_number(number, out),
            Node::Scalar(keyword) => out.extend_from_slice(keyword),
        }
    }
}

impl Container<'_> {
    /// Sorts an object by key; of members with the same key the last one stays.
    fn sort(&mut self) {
        if !self.is_object || self.members.is_sorted_by(|a, b| a.key < b.key) {
            return;
        }
        self.members.sort_by(|a, b| a.key.cmp(&b.key));
        // `dedup_by` keeps the first of equal members: hand it the later one's value.
        self.members.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                std::mem::swap(&mut later.value, &mut kept.value);
            }
            same
        });
    }
}

/// 1 for the bytes of a JSON string that do not stand for themselves in the form (0xe2 begins
/// U+2028). Numbers instead of branches let the compiler test many bytes at once; `<` and `>`
/// differ in one bit.
fn special(byte: u8) -> u8 {
    u8::from(byte | 2 == b'>')
        | u8::from(byte == b'&')
        | u8::from(byte == b'\\')
        | u8::from(byte == 0xe2)
}

/// Where the first special byte is.
fn find_special(bytes: &[u8]) -> Option<usize> {
    const RUN: usize = 32;
    let mut at = 0;
    for run in bytes.chunks_exact(RUN) {
        if run.iter().fold(0, |any, byte| any | special(*byte)) != 0 {
            break;
        }
        at += RUN;
    }
    bytes[at..].iter().position(|byte| special(*byte) != 0).map(|i| at + i)
}

fn canonical_string(quoted: &[u8]) -> Cow<'_, [u8]> {
    if find_special(quoted).is_none() {
        return Cow::Borrowed(quoted);
    }
    let mut out = Vec::with_capacity(quoted.len() + 16);
    write_string(quoted, &mut out);
    Cow::Owned(out)
}

/// Writes a JSON string, given with its quotes.
fn write_string(quoted: &[u8], out: &mut Vec<u8>) {
    let mut rest = quoted;
    while let Some(run) = find_special(rest) {
        out.extend_from_slice(&rest[..run]);
        rest = &rest[run..];
        let used = match rest {
            [b'\\', b'u', ..] => {
                let (c, used) = escaped_char(rest);
                write_char(c, out);
                used
            }
            [b'\\', b'/', ..] => {
                out.push(b'/');
                2
            }
            // The short escapes are written as they stand.
            [b'\\', ..] => {
                let escape = &rest[..rest.len().min(2)];
                out.extend_from_slice(escape);
                escape.len()
            }
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                write_char(if *last == 0xa8 { '\u{2028}' } else { '\u{2029}' }, out);
                3
            }
            [0xe2, ..] => {
                out.push(0xe2);
                1
            }
            _ => {
                write_char(char::from(rest[0]), out);
                1
            }
        };
        rest = &rest[used..];
    }
    out.extend_from_slice(rest);
}

/// The character of a `\u` escape, or of a pair of them, and the length of both together.
fn escaped_char(json: &[u8]) -> (char, usize) {
    match (unit(json, 0), unit(json, 6)) {
        (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
            let c = char::decode_utf16([high, low]).next().and_then(Result::ok);
            (c.unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        (Some(unit), _) => (char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        (None, _) => (char::REPLACEMENT_CHARACTER, json.len().min(2)),
    }
}

fn write_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            push_fmt(out, format_args!("\\u{:04x}", u32::from(c)));
        }
        _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes a number as Go writes the `float64` nearest to it.
fn write_number(number: &[u8], out: &mut Vec<u8>) {
    // Up to 15 digits are exact in an f64.
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    if digits.len() <= 15 && digits.iter().all(u8::is_ascii_digit) && number != b"-0" {
        return out.extend_from_slice(number);
    }
    let value = std::str::from_utf8(number).ok().and_then(|n| n.parse::<f64>().ok());
    match value {
        Some(v) if v.is_finite() && v != 0.0 && !(1e-6..1e21).contains(&v.abs()) => {
            let text = format!("{v:e}");
            match text.split_once('e') {
                Some((mantissa, exponent)) if !exponent.starts_with('-') => {
                    push_fmt(out, format_args!("{mantissa}e+{exponent}"));
                }
                _ => out.extend_from_slice(text.as_bytes()),
            }
        }
        Some(v) if v.is_finite() => push_fmt(out, format_args!("{v}")),
        // Beyond an f64; the reference refuses it.
        _ => out.extend_from_slice(number),
    }
}

fn push_fmt(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn canonical(json: &str) -> String {
        serde_json::from_str::<&serde_json::value::RawValue>(json).expect("test value is JSON");
        let mut out = Vec::new();
        write(json, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_form_of_values() {
        for (json, expected) in [
            (r#" { "b" : [ 1 , {} , [ ] ] , "a":null } "#, r#"{"a":null,"b":[1,{},[]]}"#),
            ("[true,\n\tfalse,\r\nnull]", "[true,false,null]"),
            // Of equal keys the last, however it is spelled.
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"{"a":1,"a":2,"\u0061":[3]}"#, r#"{"a":[3]}"#),
            // Strings.
            (r#""plain ü 😀""#, r#""plain ü 😀""#),
            (r#""\u00fc \ud83d\ude00 \/ \n\t\"\\""#, r#""ü 😀 / \n\t\"\\""#),
            (r#""<a href='x'>&</a>""#, r#""\u003ca href='x'\u003e\u0026\u003c/a\u003e""#),
            (r#""\u003C\u0022\u005c\u000a\u0008\u001f""#, r#""\u003c\"\\\n\b\u001f""#),
            ("\"a\u{2028}b\u{2029}c\u{201c}d\"", "\"a\\u2028b\\u2029c\u{201c}d\""),
            (r#""\ud800 \ude00""#, "\"\u{fffd} \u{fffd}\""),
            (r#"{"<k>":{"\u0026":1}}"#, r#"{"\u003ck\u003e":{"\u0026":1}}"#),
            // Numbers.
            ("[0, -5, 1.0, 1.50, 1e2]", "[0,-5,1,1.5,100]"),
            ("[1e21, 1e20, 1e-6, 1.5e-7, -0]", "[1e+21,100000000000000000000,0.000001,1.5e-7,-0]"),
            ("[12345678901234567890, 0.1]", "[12345678901234567000,0.1]"),
            ("1e400", "1e400"),
        ] {
            assert_eq!(canonical(json), expected, "{json}");
        }
    }

    #[test]
    fn what_would_take_too_much_is_written_as_it_stands() {
        let objects = |n| format!("[{}0]", r#"{"b":1 ,"a":1},"#.repeat(n));
        let sorted = |n| format!("[{}0]", r#"{"a":1,"b":1},"#.repeat(n));
        assert_eq!(canonical(&objects(1_000)), sorted(1_000));
        assert_eq!(canonical(&objects(100_000)), objects(100_000));
        let tags = |n| format!("\"{}\"", "<>".repeat(n));
        assert_eq!(canonical(&tags(100)), format!("\"{}\"", r"\u003c\u003e".repeat(100)));
        assert_eq!(canonical(&tags(100_000)), tags(100_000));
        let mut out = Vec::new();
        write_text(&"<>".repeat(100_000), &mut out);
        assert_eq!(out, tags(100_000).as_bytes());
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", r#"{"b":1,"a":["#.repeat(5_000), "]}".repeat(5_000));
        let expected = format!("{}{}", r#"{"a":["#.repeat(5_000), r#"],"b":1}"#.repeat(5_000));
        assert_eq!(canonical(&deep), expected);
    }

    #[test]
    fn compacting_touches_white_space_only() {
        for (json, expected) in [
            (r#"{"b":"x y","a":"\u003c"}"#, r#"{"b":"x y","a":"\u003c"}"#),
            ("{\n  \"b\" : \"x \\\" y\" ,\t\"a\": 1.0 }\r\n", r#"{"b":"x \" y","a":1.0}"#),
            (" [ ] ", "[]"),
        ] {
            assert_eq!(compact(json), expected.as_bytes(), "{json}");
        }
        assert!(matches!(compact("[1]"), Cow::Borrowed(_)));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-1_000_000i64..1_000_000).prop_map(Value::from),
            (-1e6..1e6).prop_map(Value::from),
            any::<String>().prop_map(Value::String),
            "[<>&\"\\\\\u{2028}a-c\n]{0,8}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec(("[a-c<é\"]{0,2}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn spelling_does_not_matter_and_meaning_stays(value in json_value()) {
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            let plain = canonical(&value.to_string());
            prop_assert_eq!(&plain, &canonical(&pretty));
            prop_assert_eq!(&plain, &canonical(&plain));
            prop_assert_eq!(compact(&pretty).into_owned(), value.to_string().into_bytes());
            let mut read: Value = serde_json::from_str(&plain).expect("the form is JSON");
            // A whole float is written, and so read again, as an integer; serde_json reads the
            // last digit of others loosely.
            let mut value = value;
            for v in [&mut read, &mut value] {
                floats(v);
            }
            prop_assert_eq!(read, value);
        }
    }

    fn floats(value: &mut Value) {
        match value {
            Value::Number(n) => *value = Value::from(n.as_f64().expect("a number") as f32),
            Value::Array(items) => items.iter_mut().for_each(floats),
            Value::Object(members) => members.values_mut().for_each(floats),
            _ => {}
        }
    }
}
