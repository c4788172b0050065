use super::scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// A place in a document, 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A value of the document and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Position,
    pub value: Value,
}

/// A mapping key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub at: Position,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Seq(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// The value's type as a person would name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// The value under `name` of a mapping.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.name == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The same as JSON, for whoever reads no YAML.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Str(value) => value.as_str().into(),
            Value::Seq(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect()
            }
        }
    }

    /// True where both say the same, wherever it stands and in whatever order mappings have it.
    pub fn says_the_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Seq(ours), Value::Seq(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|(a, b)| a.says_the_same(b))
            }
            (Value::Map(ours), Value::Map(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().all(|(key, value)| {
                        other.get(&key.name).is_some_and(|theirs| value.says_the_same(theirs))
                    })
            }
            (ours, theirs) => ours == theirs,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }
}

/// Aliases are copied where they stand; beyond this many nodes the document is refused, so that
/// nested aliases cannot blow it up.
const MAX_NODES: usize = 200_000;
/// The key that takes over another mapping's entries.
const MERGE: &str = "<<";
/// Nesting beyond this is refused.
const MAX_DEPTH: usize = 128;

/// Reads the first document of `text` (YAML, or JSON, which YAML contains). `Ok(None)` for a
/// text without a document. An error is a place and a message.
pub fn parse(text: &str) -> Result<Option<Node>, (Position, String)> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: Vec::new(), nodes: 0 };
    reader.document()
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

type ReadResult<T> = Result<T, (Position, String)>;

impl<'a> Reader<'a> {
    fn next(&mut self) -> ReadResult<(Event<'a>, Position)> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, position(&span.start))),
            Some(Err(e)) => Err((position(e.marker()), e.info().to_owned())),
            None => Ok((Event::StreamEnd, Position { line: 1, column: 1 })),
        }
    }

    fn document(&mut self) -> ReadResult<Option<Node>> {
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(None),
                event => {
                    let node = self.node(event, at, 0)?;
                    // Reads on to the end of the document, so that what follows is checked too.
                    let (event, at) = self.next()?;
                    return match event {
                        Event::DocumentEnd | Event::StreamEnd => Ok(Some(node)),
                        _ => Err((at, "unexpected content after the document".into())),
                    };
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Position, depth: usize) -> ReadResult<Node> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err((at, format!("the document has more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref()), anchor)
            }
            Event::Alias(id) => {
                let node = self.anchors.iter().find(|(a, _)| *a == id).map(|(_, n)| n.clone());
                let node =
                    node.ok_or_else(|| (at, "alias of an anchor that is not closed".to_owned()))?;
                self.nodes += count(&node);
                return Ok(Node { at, value: node.value });
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, at) = self.next()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, at, depth + 1)?);
                }
                (Value::Seq(items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            other => return Err((at, format!("unexpected {other:?}"))),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> ReadResult<Value> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            let (name, style) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style),
                _ => return Err((at, "a key must be a plain string".into())),
            };
            if let Some((first, _)) = entries.iter().find(|(k, _)| k.name == name) {
                return Err((
                    at,
                    format!("key '{name}' stands twice, first on line {}", first.at.line),
                ));
            }
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            if name == MERGE && style == ScalarStyle::Plain {
                merge(value, &mut merged)?;
            } else {
                entries.push((Key { at, name }, value));
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(k, _)| k.name == key.name) {
                entries.push((key, value));
            }
        }
        Ok(Value::Map(entries))
    }
}

/// Adds the entries of a mapping, or of several, that another takes over. Those of the first
/// win, as do the other's own.
fn merge(value: Node, merged: &mut Vec<(Key, Node)>) -> ReadResult<()> {
    match value.value {
        Value::Map(entries) => merged.extend(entries),
        Value::Seq(items) => {
            for item in items {
                let Value::Map(entries) = item.value else {
                    return Err((item.at, "what '<<' takes over must be mappings".into()));
                };
                merged.extend(entries);
            }
        }
        _ => return Err((value.at, "what '<<' takes over must be a mapping".into())),
    }
    Ok(())
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Seq(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, v)| count(v)).sum::<usize>(),
        _ => 1,
    }
}

fn position(marker: &saphyr_parser::Marker) -> Position {
    Position { line: marker.line() as u32, column: marker.col() as u32 + 1 }
}

/// A scalar is text where it is quoted or tagged so; else its spelling tells.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    if style != ScalarStyle::Plain || tag.is_some_and(|t| t.suffix == "str") {
        return Value::Str(text.to_owned());
    }
    scalar::resolve(text)
}
