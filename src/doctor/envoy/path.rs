//! Reading protobuf's JSON, whose names may be written two ways.

use std::time::Duration;

use serde_json::Value;

/// A value by its path of `snake_case` names; each may also be written in `camelCase`.
pub(super) fn get<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, name| {
        let object = at.as_object()?;
        object.get(*name).or_else(|| object.get(&camel(name)))
    })
}

pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    get(value, path)?.as_str()
}

pub(super) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A number; 64-bit ones are written as texts at times.
pub(super) fn number(value: &Value, path: &[&str]) -> Option<u64> {
    let value = get(value, path)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A truth, which may be wrapped (`BoolValue`).
pub(super) fn truth(value: &Value, path: &[&str]) -> bool {
    get(value, path).and_then(Value::as_bool).unwrap_or(false)
}

/// A duration as `10s` or `0.25s`.
pub(super) fn duration(value: &Value, path: &[&str]) -> Option<Duration> {
    let text = text(value, path)?;
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// True where the value is a message of this type, by the end of its `@type`.
pub(super) fn is_type(value: &Value, name: &str) -> bool {
    let kind = value.get("@type").and_then(Value::as_str);
    kind.and_then(|kind| kind.rsplit('.').next()) == Some(name)
}

fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut up = false;
    for c in name.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    out
}
