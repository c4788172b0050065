use std::ops::Range;

use serde_json::Value as Json;

use super::source::{Content, Tree};

/// Other text at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub at: Range<usize>,
    pub with: String,
}

/// The text with all edits, none of which may lie in another. Of two at one place the first comes
/// first.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for edit in edits {
        if edit.at.start < done {
            continue;
        }
        out.push_str(text.get(done..edit.at.start).unwrap_or_default());
        out.push_str(&edit.with);
        done = edit.at.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Another value in a scalar's place.
pub(super) fn replace(tree: &Tree, with: &str) -> Edit {
    Edit { at: tree.span.clone(), with: scalar(&Json::from(with)) }
}

/// Takes an entry out of a mapping, with its comment on the line.
pub(super) fn remove_entry(text: &str, map: &Tree, index: usize) -> Option<Edit> {
    let Content::Map { entries, flow } = &map.content else { return None };
    let entry = entries.get(index)?;
    let next = entries.get(index + 1).map(|next| next.key.start);
    let before = index.checked_sub(1).and_then(|i| entries.get(i)).map(|e| e.value.span.end);
    let whole = entry.key.start..entry.value.span.end;
    Some(remove(text, whole, *flow, "", before, next))
}

/// Takes an item out of a list, likewise.
pub(super) fn remove_item(text: &str, seq: &Tree, index: usize) -> Option<Edit> {
    let Content::Seq { items, flow } = &seq.content else { return None };
    let item = items.get(index)?;
    let next = items.get(index + 1).map(|next| next.span.start);
    let before = index.checked_sub(1).and_then(|i| items.get(i)).map(|i| i.span.end);
    Some(remove(text, item.span.clone(), *flow, "-", before, next))
}

fn remove(
    text: &str,
    whole: Range<usize>,
    flow: bool,
    lead: &str,
    before: Option<usize>,
    next: Option<usize>,
) -> Edit {
    let line = line_start(text, whole.start);
    let leads = text.get(line..whole.start).unwrap_or_default().trim() == lead;
    let at = match (flow, next) {
        (false, _) if leads => line..(line_end(text, whole.end) + 1).min(text.len()),
        // On the line of something else: what follows moves up to its place.
        (_, Some(next)) => whole.start..next,
        (true, None) => before.unwrap_or(whole.start)..whole.end,
        (false, None) => return Edit { at: whole, with: "{}".into() },
    };
    Edit { at, with: String::new() }
}

/// Another key and value in an entry's place.
pub(super) fn replace_entry(
    text: &str,
    map: &Tree,
    index: usize,
    name: &str,
    value: &Json,
) -> Option<Edit> {
    let Content::Map { entries, flow } = &map.content else { return None };
    let entry = entries.get(index)?;
    let with = if *flow {
        format!("{}: {}", key(name), flow_text(value))
    } else {
        entry_text(name, value, column(text, entry.key.start))
    };
    Some(Edit { at: entry.key.start..entry.value.span.end, with })
}

/// A further entry at the end of a mapping.
pub(super) fn add_entry(text: &str, map: &Tree, name: &str, value: &Json) -> Option<Edit> {
    let Content::Map { entries, flow } = &map.content else { return None };
    let first = entries.first();
    if *flow || first.is_none() {
        let comma = if entries.is_empty() { "" } else { ", " };
        let at = entries.last().map_or(map.span.start + 1, |entry| entry.value.span.end);
        let with = format!("{comma}{}: {}", key(name), flow_text(value));
        return Some(Edit { at: at..at, with });
    }
    let indent = column(text, first?.key.start);
    let at = line_end(text, map.span.end);
    let with = format!("\n{}{}", " ".repeat(indent), entry_text(name, value, indent));
    Some(Edit { at: at..at, with })
}

/// A further item behind the one at `index`.
pub(super) fn add_item(text: &str, seq: &Tree, index: usize, value: &Json) -> Option<Edit> {
    let Content::Seq { items, flow } = &seq.content else { return None };
    let item = items.get(index)?;
    if *flow {
        let at = item.span.end;
        return Some(Edit { at: at..at, with: format!(", {}", flow_text(value)) });
    }
    let line = line_start(text, item.span.start);
    let dash = text.get(line..item.span.start)?.find('-')?;
    let at = line_end(text, item.span.end);
    let item = block_text(value, dash + 2);
    Some(Edit { at: at..at, with: format!("\n{}- {item}", " ".repeat(dash)) })
}

/// How far the place is from the beginning of its line.
fn column(text: &str, at: usize) -> usize {
    at - line_start(text, at)
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| at + newline)
}

fn entry_text(name: &str, value: &Json, indent: usize) -> String {
    let name = key(name);
    match value {
        Json::Object(map) if !map.is_empty() => {
            format!("{name}:\n{}{}", " ".repeat(indent + 2), block_text(value, indent + 2))
        }
        Json::Array(list) if !list.is_empty() => {
            format!("{name}:\n{}{}", " ".repeat(indent), block_text(value, indent))
        }
        _ => format!("{name}: {}", flow_text(value)),
    }
}

/// A value over lines, all but the first indented.
fn block_text(value: &Json, indent: usize) -> String {
    let between = format!("\n{}", " ".repeat(indent));
    match value {
        Json::Object(map) if !map.is_empty() => {
            let lines = ordered(map).map(|(name, value)| entry_text(name, value, indent));
            lines.collect::<Vec<_>>().join(&between)
        }
        Json::Array(list) if !list.is_empty() => {
            let lines = list.iter().map(|item| format!("- {}", block_text(item, indent + 2)));
            lines.collect::<Vec<_>>().join(&between)
        }
        _ => flow_text(value),
    }
}

/// A value on one line.
fn flow_text(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let entries = ordered(map).map(|(name, v)| format!("{}: {}", key(name), flow_text(v)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Json::Array(list) => {
            format!("[{}]", list.iter().map(flow_text).collect::<Vec<_>>().join(", "))
        }
        value => scalar(value),
    }
}

/// The entries in the order in which people write them.
fn ordered(map: &serde_json::Map<String, Json>) -> impl Iterator<Item = (&String, &Json)> {
    let place = |name: &str| ["type", "name", "pluginRef"].iter().position(|n| *n == name);
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
    entries.into_iter()
}

fn key(name: &str) -> String {
    scalar(&Json::from(name))
}

/// Text in quotes where it would be read as something else without them.
fn scalar(value: &Json) -> String {
    let Json::String(text) = value else { return value.to_string() };
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && crate::config::parse(text).is_ok_and(|node| node.is_some_and(|n| n.as_str().is_some()));
    if is_plain { text.clone() } else { value.to_string() }
}
