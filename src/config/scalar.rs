use super::Value;

/// What a plain scalar means to the reference, whose YAML is of version 1.1: `yes` and `on` are
/// booleans, `0x10` and `010` are integers, `1_000` is a thousand.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Value::Str(text.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(i) = integer(&digits) {
        return Value::Int(i);
    }
    match digits.parse::<f64>() {
        // `2.0` is `2`: the reference reads YAML through JSON, where they are one.
        Ok(f) if f.is_finite() && f.fract() == 0.0 && f.abs() < 9e15 => Value::Int(f as i64),
        Ok(f) if f.is_finite() => Value::Float(f),
        _ => Value::Str(text.to_owned()),
    }
}

/// An integer in Go's notation: a leading `0x`, `0b`, `0o` or `0` tells its base.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars() {
        let text = |s: &str| Value::Str(s.to_owned());
        let cases = [
            ("", Value::Null),
            ("~", Value::Null),
            ("yes", Value::Bool(true)),
            ("On", Value::Bool(true)),
            ("n", Value::Bool(false)),
            ("oN", text("oN")),
            ("17", Value::Int(17)),
            ("-17", Value::Int(-17)),
            ("+17", Value::Int(17)),
            ("1_000", Value::Int(1000)),
            ("0x1F", Value::Int(31)),
            ("-0x1f", Value::Int(-31)),
            ("0b101", Value::Int(5)),
            ("0o17", Value::Int(15)),
            ("010", Value::Int(8)),
            ("08", Value::Int(8)),
            ("0", Value::Int(0)),
            ("2.0", Value::Int(2)),
            ("1e2", Value::Int(100)),
            (".5", Value::Float(0.5)),
            ("-2.5", Value::Float(-2.5)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0)),
            ("0x-1", text("0x-1")),
            ("--1", text("--1")),
            ("50ms", text("50ms")),
            ("10.0.0.1", text("10.0.0.1")),
            (".inf", text(".inf")),
            ("inf", text("inf")),
            ("-", text("-")),
        ];
        for (plain, expected) in cases {
            assert_eq!(resolve(plain), expected, "{plain:?}");
        }
    }
}
