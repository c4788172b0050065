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
        loop {
            let (event, at) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
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
            entries.push((Key { at, name }, value));
        }
    }
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

/// Resolves a plain scalar as Kubernetes' YAML reader does: null, booleans, numbers, else text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    if style != ScalarStyle::Plain || tag.is_some_and(|t| t.suffix == "str") {
        return Value::Str(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(i) = text.parse::<i64>() {
        return Value::Int(i);
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    match text.parse::<f64>() {
        // `2.0` is `2`: the reference reads YAML through JSON, where they are one.
        Ok(f) if numeric && f.is_finite() && f.fract() == 0.0 && f.abs() < 9e15 => {
            Value::Int(f as i64)
        }
        Ok(f) if numeric && f.is_finite() => Value::Float(f),
        _ => Value::Str(text.to_owned()),
    }
}
