//! Reading single families out of the Prometheus text format.
//!
//! A worker's answer holds hundreds of families and we want a handful, so nothing is parsed but
//! the lines of those: a family is found by a vectorised search for its name at the start of a
//! line. Format: "Text-based format" 0.0.4 and 1.0.0 of the Prometheus exposition formats.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem, memrchr};

/// The name of a family, prepared for searching.
#[derive(Clone, Debug)]
pub struct FamilyName {
    /// Line feed and name: only a name at the start of a line is a sample.
    needle: memmem::Finder<'static>,
}

/// The samples of one family: the lines from its first sample to the next family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family<'a> {
    name_len: usize,
    lines: &'a [u8],
    /// Where the first sample begins in the text.
    pub start: usize,
    /// End of the line that shows that the family is over; `None` where the text ends before
    /// that, so that more samples may follow in a longer text.
    pub closed_at: Option<usize>,
    /// True where a `# TYPE` line directly above says that the values are not single numbers.
    pub is_distribution: bool,
}

/// One line with a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    pub labels: Labels<'a>,
    pub value: f64,
    /// As exposed: milliseconds since the epoch in the text format.
    pub timestamp: Option<f64>,
}

/// A line that is not a sample of the text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The labels of one sample, between its braces; known to be well-formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a>(&'a [u8]);

impl FamilyName {
    pub fn new(name: &str) -> Self {
        let needle = memmem::Finder::new(&format!("\n{name}")).into_owned();
        Self { needle }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.needle.needle()[1..]
    }

    /// The family's first run of samples in `text`, if a sample begins at or after `from`, which
    /// may be any offset. The format demands that a family's samples stand together. A last line
    /// without its line feed is not looked at: it may be cut.
    pub fn find<'a>(&self, text: &'a [u8], from: usize) -> Option<Family<'a>> {
        let text = &text[..memrchr(b'\n', text)? + 1];
        let start = self.first_sample(text, from)?;
        let (end, closed_at) = self.end(text, start);
        Some(Family {
            name_len: self.as_bytes().len(),
            lines: &text[start..end],
            start,
            closed_at,
            is_distribution: self.is_distribution(&text[..start]),
        })
    }

    fn first_sample(&self, text: &[u8], from: usize) -> Option<usize> {
        if from == 0 && self.begins(text) {
            return Some(0);
        }
        // One back, for a line feed right before `from`.
        let mut at = from.saturating_sub(1);
        loop {
            at += self.needle.find(text.get(at..)?)? + 1;
            if self.begins(&text[at..]) {
                return Some(at);
            }
        }
    }

    /// True where `line` is a sample of this family and not of one whose name is longer.
    fn begins(&self, line: &[u8]) -> bool {
        let rest = line.strip_prefix(self.as_bytes());
        rest.and_then(<[u8]>::first).is_some_and(|b| matches!(b, b'{' | b' ' | b'\t'))
    }

    /// Where the samples beginning at `start` end, and where the line after them ends.
    fn end(&self, text: &[u8], start: usize) -> (usize, Option<usize>) {
        let mut at = start;
        let mut end = start;
        while let Some(length) = memchr(b'\n', &text[at..]) {
            let line = &text[at..at + length];
            at += length + 1;
            if self.begins(line) {
                end = at;
            } else if !is_filler(line) {
                return (end, Some(at));
            }
        }
        (end, None)
    }

    /// Reads the `# TYPE` line that ends `above`, if that is one of this family.
    fn is_distribution(&self, above: &[u8]) -> bool {
        let Some(above) = above.strip_suffix(b"\n") else { return false };
        let line = &above[memrchr(b'\n', above).map_or(0, |i| i + 1)..];
        let mut words = words(line);
        words.next() == Some(b"#")
            && words.next() == Some(b"TYPE")
            && words.next() == Some(self.as_bytes())
            && matches!(words.next(), Some(b"histogram" | b"summary" | b"gaugehistogram"))
    }
}

/// True for a line that neither belongs to a family nor begins one.
fn is_filler(line: &[u8]) -> bool {
    let mut words = words(line);
    match words.next() {
        None => true,
        Some(b"#") => !matches!(words.next(), Some(b"HELP" | b"TYPE")),
        Some(word) => word.starts_with(b"#"),
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

impl<'a> Family<'a> {
    /// The family's samples in the order of the text.
    pub fn samples(&self) -> impl Iterator<Item = Result<Sample<'a>, Malformed>> + use<'a> {
        let name_len = self.name_len;
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            loop {
                let end = memchr(b'\n', rest)?;
                let line;
                (line, rest) = (&rest[..end], &rest[end + 1..]);
                if !is_filler(line) {
                    return Some(Sample::parse(&line[name_len..]));
                }
            }
        })
    }
}

impl<'a> Sample<'a> {
    /// Reads what follows the name.
    fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = text.trim_ascii_start();
        let mut labels = Labels::default();
        if let Some(inner) = rest.strip_prefix(b"{") {
            rest = skip_labels(inner)?;
            // All of `inner` but what is left and the closing brace.
            labels = Labels(&inner[..inner.len() - rest.len() - 1]);
        }
        let mut words = words(rest);
        let value = number(words.next().ok_or(Malformed)?)?;
        // An exemplar (`# {...}`) may follow in OpenMetrics; nobody reads it.
        let mut next = words.next().filter(|word| *word != b"#");
        let timestamp = next.map(number).transpose()?;
        if timestamp.is_some_and(|t| !t.is_finite()) {
            return Err(Malformed);
        }
        if timestamp.is_some() {
            next = words.next();
            if next.is_some_and(|word| word != b"#") {
                return Err(Malformed);
            }
        }
        Ok(Self { labels, value, timestamp })
    }
}

fn number(word: &[u8]) -> Result<f64, Malformed> {
    std::str::from_utf8(word).ok().and_then(|w| w.parse().ok()).ok_or(Malformed)
}

/// One `name="value"`, with what follows it.
struct Label<'a> {
    name: &'a [u8],
    /// As exposed, with its escapes.
    value: &'a [u8],
    rest: &'a [u8],
}

/// Reads labels up to the closing brace and returns what follows that.
fn skip_labels(mut text: &[u8]) -> Result<&[u8], Malformed> {
    loop {
        text = text.trim_ascii_start();
        if let Some(rest) = text.strip_prefix(b"}") {
            return Ok(rest);
        }
        text = label(text)?.rest.trim_ascii_start();
        match text.first() {
            Some(b',') => text = &text[1..],
            Some(b'}') => {}
            _ => return Err(Malformed),
        }
    }
}

fn label(text: &[u8]) -> Result<Label<'_>, Malformed> {
    // Version 1.0.0 quotes names that are not plain identifiers.
    let (name, rest) = match text.strip_prefix(b"\"") {
        Some(quoted) => {
            let end = closing_quote(quoted)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => {
            let end = memchr(b'=', text).ok_or(Malformed)?;
            (text[..end].trim_ascii_end(), &text[end..])
        }
    };
    let rest = rest.trim_ascii_start().strip_prefix(b"=").ok_or(Malformed)?;
    let quoted = rest.trim_ascii_start().strip_prefix(b"\"").ok_or(Malformed)?;
    let end = closing_quote(quoted)?;
    Ok(Label { name, value: &quoted[..end], rest: &quoted[end + 1..] })
}

/// Where the quote stands that is not escaped.
fn closing_quote(text: &[u8]) -> Result<usize, Malformed> {
    let mut at = 0;
    loop {
        at += text.get(at..).and_then(|t| memchr2(b'"', b'\\', t)).ok_or(Malformed)?;
        if text[at] == b'"' {
            return Ok(at);
        }
        at += 2;
    }
}

impl<'a> Labels<'a> {
    /// Name and value as exposed, in order.
    fn raw(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            rest = rest.trim_ascii_start();
            rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
            let label = label(rest).ok()?;
            rest = label.rest;
            Some((label.name, label.value))
        })
    }

    /// The value of a label, without its escapes. Bytes that are not UTF-8 are replaced.
    pub fn get(self, name: &str) -> Option<Cow<'a, str>> {
        let (_, value) = self.raw().find(|(n, _)| *n == name.as_bytes())?;
        Some(match unescape(value) {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
        })
    }

    /// True where every one of `wanted` is there with its value.
    pub fn matches(self, wanted: &[(String, String)]) -> bool {
        wanted.iter().all(|(name, value)| {
            self.raw().any(|(n, v)| n == name.as_bytes() && *unescape(v) == *value.as_bytes())
        })
    }
}

/// `\\`, `\"` and `\n`; any other backslash stands for itself.
fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\\', raw).is_none() {
        return raw.into();
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    loop {
        rest = match rest {
            [] => return out.into(),
            [b'\\', b'n', rest @ ..] => {
                out.push(b'\n');
                rest
            }
            [b'\\', escaped @ (b'\\' | b'"'), rest @ ..] | [escaped, rest @ ..] => {
                out.push(*escaped);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of family `up`, each as `value`, `value@timestamp` or `malformed`.
    fn samples(text: &str) -> Option<String> {
        let family = FamilyName::new("up").find(text.as_bytes(), 0)?;
        let samples = family.samples().map(|sample| match sample {
            Ok(Sample { value, timestamp: Some(at), .. }) => format!("{value}@{at}"),
            Ok(Sample { value, .. }) => value.to_string(),
            Err(Malformed) => "malformed".to_owned(),
        });
        Some(samples.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn values_and_timestamps() {
        let cases = [
            ("up 1\n", Some("1")),
            ("up 4.591837184e+09\n", Some("4591837184")),
            ("up +Inf\n", Some("inf")),
            ("up NaN\n", Some("NaN")),
            ("up\t 1 \r\n", Some("1")),
            ("up{} 1\n", Some("1")),
            ("up {a=\"b\"} 1\n", Some("1")),
            ("up{a=\"b\"}1\n", Some("1")),
            ("up{a=\"b\",} 1\n", Some("1")),
            ("up{ a = \"b\" , c=\"d\" } 1\n", Some("1")),
            ("up{a=\"} 7\\\"\"} 1\n", Some("1")),
            ("up{\"a.b\"=\"c\"} 1\n", Some("1")),
            ("up 1 1700000000000\n", Some("1@1700000000000")),
            ("up 1 -5\n", Some("1@-5")),
            ("up 1 # {trace_id=\"a\"} 0.5 1.5\n", Some("1")),
            ("up 1 2 # {} 3\n", Some("1@2")),
            ("# HELP up Is it?\n# TYPE up gauge\nup 1\n# EOF\n", Some("1")),
            ("a 1\nup 1\nb 2\n", Some("1")),
            ("\nup 1\n", Some("1")),
            // A family ends where another begins.
            ("up{a=\"1\"} 1\n\n# a remark\nup{a=\"2\"} 2\n", Some("1 2")),
            ("up{a=\"1\"} 1\n# TYPE b gauge\nup{a=\"2\"} 2\n", Some("1")),
            ("up{a=\"1\"} 1\nb 3\nup{a=\"2\"} 2\n", Some("1")),
            // Not this family.
            ("", None),
            ("up", None),
            ("up\n", None),
            ("up_total 1\n", None),
            ("startup 1\n", None),
            (" up 1\n", None),
            ("# HELP up 1\n", None),
            ("a{b=\"\\nup 1\"} 1\n", None),
            // The last line may be cut.
            ("up 1", None),
            ("up{a=\"1\"} 1\nup{a=\"2\"} 2", Some("1")),
            // Malformed.
            ("up \n", Some("malformed")),
            ("up one\n", Some("malformed")),
            ("up 1 2 3\n", Some("malformed")),
            ("up 1 soon\n", Some("malformed")),
            ("up 1 NaN\n", Some("malformed")),
            ("up{a=\"b\" 1\n", Some("malformed")),
            ("up{a=b} 1\n", Some("malformed")),
            ("up{a} 1\n", Some("malformed")),
            ("up{a=\"b\\\"} 1\n", Some("malformed")),
            ("up{a=\"b\"c=\"d\"} 1\n", Some("malformed")),
            ("up{a=\"b\"} 1\nup{ 2\nup 3\n", Some("1 malformed 3")),
        ];
        for (text, expected) in cases {
            assert_eq!(samples(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn labels_without_their_escapes() {
        let text = br#"up{a="x",b="q\"\\\n\t}",c="",a="second","d.e"="f"} 1
"#;
        let family = FamilyName::new("up").find(text, 0).expect("there");
        let labels = family.samples().next().expect("one").expect("well-formed").labels;
        let cases = [
            ("a", Some("x")),
            ("b", Some("q\"\\\n\\t}")),
            ("c", Some("")),
            ("d.e", Some("f")),
            ("e", None),
            ("", None),
        ];
        for (name, value) in cases {
            assert_eq!(labels.get(name).as_deref(), value, "{name}");
            let wanted = [(name.to_owned(), value.unwrap_or_default().to_owned())];
            assert_eq!(labels.matches(&wanted), value.is_some(), "{name}");
        }
        assert!(labels.matches(&[]));
        assert!(!labels.matches(&[("a".into(), "x".into()), ("c".into(), "x".into())]));
    }

    #[test]
    fn where_a_family_begins_and_whether_it_is_over() {
        // Text, where to begin, where the family begins, where the line after it ends.
        let cases = [
            ("up 1\n", 0, Some((0, None))),
            ("up 1\nb", 0, Some((0, None))),
            ("up 1\nb 1\n", 0, Some((0, Some(9)))),
            ("up 1\n#\nb 1\n", 0, Some((0, Some(11)))),
            ("up 1\n# TYPE b gauge\nb 1\n", 0, Some((0, Some(20)))),
            ("up 1\nupper 1\n", 0, Some((0, Some(13)))),
            ("aa 1\nup 1\n", 0, Some((5, None))),
            ("aa 1\nup 1\n", 4, Some((5, None))),
            ("aa 1\nup 1\n", 5, Some((5, None))),
            ("aa 1\nup 1\n", 6, None),
            ("aa 1\nup 1\n", 99, None),
        ];
        for (text, from, expected) in cases {
            let family = FamilyName::new("up").find(text.as_bytes(), from);
            assert_eq!(family.map(|f| (f.start, f.closed_at)), expected, "{text:?} from {from}");
        }
    }

    #[test]
    fn the_type_line_above_tells_distributions_apart() {
        let cases = [
            ("up{quantile=\"0.5\"} 1\n", false),
            ("# TYPE up gauge\nup 1\n", false),
            ("# TYPE up counter\nup 1\n", false),
            ("# TYPE up untyped\nup 1\n", false),
            ("# TYPE up summary\nup{quantile=\"0.5\"} 1\n", true),
            ("#  TYPE\tup  histogram \nup 1\n", true),
            ("# TYPE upper summary\nup 1\n", false),
            ("# TYPE up summary\n# HELP up Is it?\nup 1\n", false),
        ];
        for (text, expected) in cases {
            let family = FamilyName::new("up").find(text.as_bytes(), 0).expect("there");
            assert_eq!(family.is_distribution, expected, "{text:?}");
        }
    }
}
