//! Numbers that no `f64` holds.

use super::scan::end_of_string;

/// The shortest number out of range that has no exponent has this many digits.
const LONG: usize = 309;

/// True where a JSON text, known to be well formed, holds a number like `1e400`.
///
/// Go's `encoding/json`, and so the reference, calls that an error wherever it stands; serde_json
/// does so only where the number is read. Texts are jumped over, so this costs little more than
/// the numbers and brackets of what is skipped.
pub(super) fn out_of_range(json: &str) -> bool {
    let text = json.as_bytes();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at) + 1,
            b'-' | b'0'..=b'9' => {
                let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let end = text[at..].iter().position(|b| !part(b)).map_or(text.len(), |n| at + n);
                if is_infinite(&json[at..end]) {
                    return true;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    false
}

fn is_infinite(number: &str) -> bool {
    let may_be = number.len() >= LONG || number.bytes().any(|b| matches!(b, b'e' | b'E'));
    may_be && number.parse::<f64>().is_ok_and(f64::is_infinite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_count() {
        let nines = "9".repeat(LONG);
        for (json, expected) in [
            ("1e400", true),
            ("-1E+400", true),
            ("1e308", false),
            ("1e-400", false),
            ("0e999", false),
            ("17", false),
            (nines.as_str(), true),
            (&nines[1..], false),
            ("null", false),
            (r#""1e400""#, false),
            (r#"{"1e400":"\"1e400","a":[1,{"b":2e9}]}"#, false),
            (r#"{"a":[1,{"b":1e999}]}"#, true),
            (r#"["\\",1e400]"#, true),
            ("", false),
        ] {
            assert_eq!(out_of_range(json), expected, "{json}");
        }
    }
}
