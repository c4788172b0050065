//! Lone UTF-16 surrogates in JSON escapes.

/// Replaces every `\uXXXX` that is half of a surrogate pair by `\ufffd`, or returns `None` where
/// there is none.
///
/// Go's `encoding/json`, and so the reference, reads such an escape as U+FFFD; serde_json calls
/// it an error. The replacement is as long as the original, so places in the text stay the same.
pub(super) fn replace_lone(json: &[u8]) -> Option<Vec<u8>> {
    let mut patched: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        let escape = at + found;
        let pair = (unit(json, escape), unit(json, escape + 6));
        at = escape
            + match pair {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
                (Some(0xd800..=0xdfff), _) => {
                    let copy = patched.get_or_insert_with(|| json.to_vec());
                    copy[escape + 2..escape + 6].copy_from_slice(b"fffd");
                    6
                }
                // Any other escape: the byte after the backslash belongs to it.
                _ => 2,
            };
    }
    patched
}

/// The code unit of the `\uXXXX` at `at`, if one stands there.
pub(super) fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced_and_pairs_kept() {
        for (json, expected) in [
            (r"plain \n \u00e9", None),
            (r"\ud83d\ude00", None),
            (r"\ud800", Some(r"\ufffd")),
            (r"\uD800x", Some(r"\ufffdx")),
            (r"\ude00", Some(r"\ufffd")),
            (r"\ud800\ud83d\ude00", Some(r"\ufffd\ud83d\ude00")),
            (r"\ud800\n", Some(r"\ufffd\n")),
            // A backslash that is itself escaped begins no escape.
            (r"\\ud800", None),
            (r"\\\ud800", Some(r"\\\ufffd")),
            (r"\ud80", None),
            (r"\ud8", None),
            ("\\", None),
        ] {
            let patched = replace_lone(json.as_bytes());
            assert_eq!(patched.as_deref(), expected.map(str::as_bytes), "{json}");
        }
    }
}
