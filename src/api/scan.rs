//! Finding the way through JSON text without reading it.

/// The place of the quote that ends the string whose first quote is at `start`; the end of the
/// text where it does not end.
pub(super) fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(rest) = text.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(i) if rest[i] == b'"' => return at + i,
            // The escaped byte is no quote that ends the string.
            Some(i) => at += i + 2,
            None => break,
        }
    }
    text.len()
}

/// The elements of a JSON array, known to be well formed, each as it stands in the text.
pub(super) fn elements(array: &str) -> impl Iterator<Item = &str> {
    let text = array.as_bytes();
    let mut at = 1;
    std::iter::from_fn(move || {
        let between = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',');
        at += text.get(at..)?.iter().position(|b| !between(b))?;
        let start = at;
        at = end_of_value(text, start);
        // Nothing is left but the closing bracket.
        array.get(start..at).filter(|element| !element.is_empty())
    })
}

/// Where the JSON value that begins at `start` ends.
fn end_of_value(text: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0usize;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth > 0 => depth -= 1,
            b']' | b'}' => return at,
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return at,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_cut_into_their_elements() {
        for (array, expected) in [
            ("[]", vec![]),
            ("[ ]", vec![]),
            ("[1]", vec!["1"]),
            ("[1,-2.5e3 ,\n null]", vec!["1", "-2.5e3", "null"]),
            (r#"["a","b,\"]",""]"#, vec![r#""a""#, r#""b,\"]""#, r#""""#]),
            (r#"[[1,[2]],{"a":"]"},[] ,{}]"#, vec!["[1,[2]]", r#"{"a":"]"}"#, "[]", "{}"]),
            ("[true,false]", vec!["true", "false"]),
        ] {
            assert_eq!(elements(array).collect::<Vec<_>>(), expected, "{array}");
        }
    }
}
