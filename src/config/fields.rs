use std::collections::BTreeMap;
use std::time::Duration;

use super::{Diagnostics, Key, Node, Placed, Position, Value, nearest};

/// Reads the fields of one mapping. Every mistake goes to the diagnostics and the default is
/// returned, so that reading goes on and the user sees all mistakes at once.
///
/// Call [`Fields::finish`] at the end: it reports fields that nobody asked for, with the nearest
/// of the names that were asked for. An absent mapping (no `parameters`) reads as empty.
pub struct Fields<'a> {
    node: Option<&'a Node>,
    path: String,
    diagnostics: &'a Diagnostics,
    asked: Vec<&'static str>,
    /// Where mistakes are when the mapping is absent.
    instead: Option<Position>,
    /// Plugin parameters match names without regard to case, as the reference's decoder does.
    any_case: bool,
}

impl<'a> Fields<'a> {
    /// `path` is the mapping's own place, like `plugins[2].parameters`.
    pub fn new(
        node: Option<&'a Node>,
        path: impl Into<String>,
        diagnostics: &'a Diagnostics,
    ) -> Self {
        let path = path.into();
        let node = match node {
            Some(n) if matches!(n.value, Value::Null) => None,
            Some(n) if !matches!(n.value, Value::Map(_)) => {
                diagnostics.error(
                    Some(n.at),
                    &path,
                    format!("must be a mapping, found {}", n.value.kind()),
                );
                None
            }
            other => other,
        };
        Self { node, path, diagnostics, asked: Vec::new(), instead: None, any_case: false }
    }

    /// Reports mistakes of an absent mapping at this place.
    pub fn or_at(mut self, place: Option<Position>) -> Self {
        self.instead = place;
        self
    }

    /// Matches field names without regard to case from here on.
    pub fn any_case(mut self) -> Self {
        self.any_case = true;
        self
    }

    pub fn is_absent(&self) -> bool {
        self.node.is_none()
    }

    /// Where the mapping begins, or where it is missed.
    pub fn at(&self) -> Option<Position> {
        self.node.map(|n| n.at).or(self.instead)
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn diagnostics(&self) -> &'a Diagnostics {
        self.diagnostics
    }

    /// The value of a field as it stands; `None` where it is absent or null.
    pub fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        let Some(Value::Map(entries)) = self.node.map(|n| &n.value) else { return None };
        // Of several spellings the last wins, as in the reference's decoder.
        let found = entries.iter().rev().find(|(k, _)| self.matches(k, name));
        found.map(|(_, v)| v).filter(|v| v.value != Value::Null)
    }

    fn matches(&self, key: &Key, name: &str) -> bool {
        if self.any_case { key.name.eq_ignore_ascii_case(name) } else { key.name == name }
    }

    /// Reports a mistake in a field that was read before.
    pub fn error(&self, name: &str, message: impl Into<String>) {
        let place = match self.node.map(|n| &n.value) {
            Some(Value::Map(entries)) => {
                entries.iter().find(|(k, _)| self.matches(k, name)).map(|(_, v)| v.at)
            }
            _ => None,
        };
        self.diagnostics.error(place.or(self.at()), &self.field(name), message);
    }

    /// Says something about a field without refusing it.
    pub fn warning(&self, name: &str, message: impl Into<String>) {
        let place = match self.node.map(|n| &n.value) {
            Some(Value::Map(entries)) => {
                entries.iter().find(|(k, _)| self.matches(k, name)).map(|(k, _)| k.at)
            }
            _ => None,
        };
        self.diagnostics.warning(place.or(self.at()), &self.field(name), message);
    }

    /// The full path of a field.
    pub fn field(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong(&self, name: &str, node: &Node, expected: &str) {
        let message = format!("must be {expected}, found {}", node.value.kind());
        self.diagnostics.error(Some(node.at), &self.field(name), message);
    }

    pub fn int(&mut self, name: &'static str) -> Option<i64> {
        let node = self.node(name)?;
        match node.value {
            Value::Int(i) => Some(i),
            Value::Float(f) if f.fract() == 0.0 => {
                self.error(name, "is too large for an integer");
                None
            }
            _ => {
                self.wrong(name, node, "an integer");
                None
            }
        }
    }

    /// An integer within `range`; outside it is a mistake.
    pub fn int_in(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.int(name)?;
        if range.contains(&value) {
            return Some(value);
        }
        let message = match *range.end() {
            i64::MAX => format!("must be at least {}, found {value}", range.start()),
            end => format!("must be from {} to {end}, found {value}", range.start()),
        };
        self.error(name, message);
        None
    }

    pub fn float(&mut self, name: &'static str) -> Option<f64> {
        let node = self.node(name)?;
        match node.value {
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            _ => {
                self.wrong(name, node, "a number");
                None
            }
        }
    }

    pub fn bool(&mut self, name: &'static str) -> Option<bool> {
        let node = self.node(name)?;
        match node.value {
            Value::Bool(b) => Some(b),
            _ => {
                self.wrong(name, node, "true or false");
                None
            }
        }
    }

    pub fn string(&mut self, name: &'static str) -> Option<&'a str> {
        let node = self.node(name)?;
        match &node.value {
            Value::Str(s) => Some(s),
            // `name: on` and the like, which look like text.
            Value::Bool(_) => {
                self.wrong(name, node, "a string (put it in quotes)");
                None
            }
            _ => {
                self.wrong(name, node, "a string");
                None
            }
        }
    }

    /// A string and where it stands; an empty one counts as none.
    pub fn placed_string(&mut self, name: &'static str) -> Option<Placed<&'a str>> {
        let value = self.string(name).filter(|text| !text.is_empty())?;
        let at = self.node(name).map(|node| node.at);
        Some(Placed { value, at, field: self.field(name) })
    }

    /// A duration such as `50ms` or `2m30s`.
    pub fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let node = self.node(name)?;
        let Value::Str(text) = &node.value else {
            self.wrong(name, node, "a duration such as 50ms or 2m30s");
            return None;
        };
        let parsed = parse_duration(text);
        if parsed.is_none() {
            self.error(name, format!("must be a duration such as 50ms or 2m30s, found '{text}'"));
        }
        parsed
    }

    pub fn strings(&mut self, name: &'static str) -> Option<Vec<String>> {
        let mut out = Vec::new();
        for item in self.list(name)? {
            match item.as_str() {
                Some(s) => out.push(s.to_owned()),
                None => self.wrong(name, item, "a list of strings"),
            }
        }
        Some(out)
    }

    /// A mapping of strings to strings.
    pub fn string_map(&mut self, name: &'static str) -> Option<BTreeMap<String, String>> {
        let node = self.node(name)?;
        let Value::Map(entries) = &node.value else {
            self.wrong(name, node, "a mapping of strings");
            return None;
        };
        let mut out = BTreeMap::new();
        for (key, value) in entries {
            match value.as_str() {
                Some(s) => drop(out.insert(key.name.clone(), s.to_owned())),
                None => self.wrong(name, value, "a mapping of strings"),
            }
        }
        Some(out)
    }

    pub fn list(&mut self, name: &'static str) -> Option<&'a [Node]> {
        let node = self.node(name)?;
        match &node.value {
            Value::Seq(items) => Some(items),
            _ => {
                self.wrong(name, node, "a list");
                None
            }
        }
    }

    /// The fields of a nested mapping, with the same rules; reads as empty where absent.
    pub fn nested(&mut self, name: &'static str) -> Fields<'a> {
        let node = self.node(name);
        let mut nested = Fields::new(node, self.field(name), self.diagnostics);
        nested.any_case = self.any_case;
        nested
    }

    /// The fields of each mapping in a list. Entries that are no mappings are reported and left
    /// out.
    pub fn each(&mut self, name: &'static str) -> Vec<Fields<'a>> {
        let items = self.list(name).unwrap_or_default();
        let field = self.field(name);
        let mut mappings = Vec::with_capacity(items.len());
        for (i, node) in items.iter().enumerate() {
            let mut f = Fields::new(Some(node), format!("{field}[{i}]"), self.diagnostics);
            f.any_case = self.any_case;
            if node.value == Value::Null {
                f.diagnostics.error(Some(node.at), &f.path, "must be a mapping, found null");
            }
            if !f.is_absent() {
                mappings.push(f);
            }
        }
        mappings
    }

    /// Leaves what was not asked for alone: for plugins that take no parameters and, in the
    /// reference, ignore what they are given.
    pub fn ignore_rest(self) {}

    /// Reports every field nobody asked for.
    pub fn finish(self) {
        let Some(Value::Map(entries)) = self.node.map(|n| &n.value) else { return };
        for (key, _) in entries {
            if self.asked.iter().any(|name| self.matches(key, name)) {
                continue;
            }
            let mut message = format!("unknown field '{}'", key.name);
            if let Some(near) = nearest(&key.name, self.asked.iter().copied()) {
                message.push_str(&format!("; did you mean '{near}'?"));
            } else if !self.asked.is_empty() {
                message.push_str(&format!("; known here: {}", self.asked.join(", ")));
            }
            self.diagnostics.error(Some(key.at), &self.field(&key.name), message);
        }
    }
}

/// Reads a duration in Go's notation: `1h30m`, `2s`, `50ms`, `1.5s`, `0`. `None` where it is not
/// one, or negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * scale;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads a Kubernetes quantity of bytes or things: `500`, `4Mi`, `1Gi`, `25M`, `1e6`, also with a
/// trailing `B` as in `4MiB`. `None` where it is not one, negative or too large.
pub fn parse_quantity(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let scale: f64 = match &text[end..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            10f64.powi(digits.parse().ok()?)
        }
    };
    let value = number * scale;
    (value <= 9e15).then_some(value as u64)
}
