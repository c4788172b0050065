use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};
use serde_json::Value as Json;

use crate::config::{Node, Value, parse};

/// A document as it stands: its text, and where in it each value is.
#[derive(Debug)]
pub(super) struct Source<'t> {
    pub text: &'t str,
    pub root: Tree,
}

/// A value and its place in the text, bytes.
#[derive(Debug)]
pub(super) struct Tree {
    pub span: Range<usize>,
    pub content: Content,
    pub json: Json,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar,
    Seq { items: Vec<Tree>, flow: bool },
    Map { entries: Vec<Entry>, flow: bool },
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: Range<usize>,
    pub name: String,
    pub value: Tree,
}

impl Tree {
    /// Its entries, if it is a mapping.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map { entries, .. } => entries,
            _ => &[],
        }
    }

    /// Its items, if it is a list.
    pub(super) fn items(&self) -> &[Tree] {
        match &self.content {
            Content::Seq { items, .. } => items,
            _ => &[],
        }
    }

    pub(super) fn entry(&self, name: &str) -> Option<(usize, &Entry)> {
        self.entries().iter().enumerate().find(|(_, entry)| entry.name == name)
    }

    /// The value under a key; one that is null counts as none.
    pub(super) fn get(&self, name: &str) -> Option<&Tree> {
        self.entry(name).map(|(_, entry)| &entry.value).filter(|value| !value.json.is_null())
    }

    /// As [`Tree::entry`], in whatever case: the names of parameters have none.
    pub(super) fn parameter(&self, name: &str) -> Option<(usize, &Entry)> {
        let mut entries = self.entries().iter().enumerate().rev();
        entries.find(|(_, entry)| entry.name.eq_ignore_ascii_case(name))
    }

    /// The value of a parameter that is given.
    pub(super) fn given(&self, name: &str) -> Option<&Json> {
        let (_, entry) = self.parameter(name)?;
        Some(&entry.value.json).filter(|value| !value.is_null())
    }

    pub(super) fn str(&self) -> Option<&str> {
        self.json.as_str()
    }
}

/// Why a text cannot be rewritten where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no YAML, at this line.
    Broken(u32, String),
    /// Anchors, aliases and merge keys: what stands there means something elsewhere too.
    Anchors,
    Empty,
}

impl<'t> Source<'t> {
    /// Reads the first document of a text.
    ///
    /// # Errors
    /// What is no YAML, or has anchors.
    pub(super) fn read(text: &'t str) -> Result<Self, Unreadable> {
        let node = match parse(text) {
            Ok(Some(node)) => node,
            Ok(None) => return Err(Unreadable::Empty),
            Err((at, message)) => return Err(Unreadable::Broken(at.line, message)),
        };
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let mut reader =
            Reader { text, lines: lines.collect(), parser: Parser::new_from_str(text) };
        let root = reader.document(&node).ok_or(Unreadable::Anchors)?;
        Ok(Self { text, root })
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Where each line begins, bytes.
    lines: Vec<usize>,
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<(Event<'t>, Range<usize>)> {
        let (event, span): (Event<'t>, Span) = self.parser.next()?.ok()?;
        Some((event, self.byte(&span.start)..self.byte(&span.end)))
    }

    fn byte(&self, marker: &Marker) -> usize {
        let line = marker.line().saturating_sub(1);
        let Some(&start) = self.lines.get(line) else { return self.text.len() };
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.char_indices().nth(marker.col()).map_or(rest.len(), |(at, _)| at)
    }

    fn document(&mut self, node: &Node) -> Option<Tree> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (event, span) => return self.tree(event, span, node),
            }
        }
    }

    /// The tree of `event` and what follows; `node` is the same value as it was read. `None` where
    /// there are anchors.
    fn tree(&mut self, event: Event<'t>, span: Range<usize>, node: &Node) -> Option<Tree> {
        let json = node.to_json();
        match event {
            Event::Scalar(text, style, 0, _) => {
                let written = self.text.get(span.clone())?;
                let is_missing = text.is_empty() && style == ScalarStyle::Plain;
                let end =
                    if is_missing { span.start } else { span.start + written.trim_end().len() };
                Some(Tree { span: span.start..end, content: Content::Scalar, json })
            }
            Event::SequenceStart(0, _) => {
                let Value::Seq(nodes) = &node.value else { return None };
                let flow = self.text.get(span.start..)?.starts_with('[');
                let mut items = Vec::with_capacity(nodes.len());
                for node in nodes {
                    let (event, span) = self.next()?;
                    items.push(self.tree(event, span, node)?);
                }
                let (end, closing) = self.next()?;
                (end == Event::SequenceEnd).then_some(())?;
                let last = items.last().map(|item| item.span.end);
                let span = place(span, flow, closing, None, last);
                Some(Tree { span, content: Content::Seq { items, flow }, json })
            }
            Event::MappingStart(0, _) => {
                let Value::Map(nodes) = &node.value else { return None };
                let flow = self.text.get(span.start..)?.starts_with('{');
                let mut entries: Vec<Entry> = Vec::with_capacity(nodes.len());
                for (key, node) in nodes {
                    let (event, at) = self.next()?;
                    let Event::Scalar(name, _, 0, _) = event else { return None };
                    (*name == *key.name).then_some(())?;
                    let (event, value) = self.next()?;
                    let mut value = self.tree(event, value, node)?;
                    if value.span.is_empty() {
                        // Nothing stands there: its place is behind the colon.
                        let colon = self.text.get(at.end..)?.find(':')? + at.end + 1;
                        value.span = colon..colon;
                    }
                    entries.push(Entry { key: at, name: key.name.clone(), value });
                }
                let (end, closing) = self.next()?;
                (end == Event::MappingEnd).then_some(())?;
                let first = entries.first().map(|entry| entry.key.start);
                let last = entries.last().map(|entry| entry.value.span.end);
                let span = place(span, flow, closing, first, last);
                Some(Tree { span, content: Content::Map { entries, flow }, json })
            }
            _ => None,
        }
    }
}

/// Where a collection stands: in its brackets, or from its first part to the end of its last.
fn place(
    opening: Range<usize>,
    flow: bool,
    closing: Range<usize>,
    first: Option<usize>,
    last: Option<usize>,
) -> Range<usize> {
    if flow {
        return opening.start..closing.end;
    }
    let start = first.unwrap_or(opening.start);
    start..last.unwrap_or(start)
}
