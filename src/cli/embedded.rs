//! Finding the configurations in a file: it may be one, or a manifest or Helm values that hold
//! some, as text (a ConfigMap) or as they are (an LLMInferenceService).

use std::iter;

use crate::config::{Diagnostics, Node, Position, Value, parse};

const KIND: &str = "EndpointPickerConfig";

/// A configuration that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where in the file, as `data.config`; empty where it is the file.
    path: String,
    /// What stands around it is left out; its own lines and columns are the file's where
    /// `is_in_place`.
    pub text: String,
    is_in_place: bool,
}

impl Found {
    /// No text, which means the built-in configuration.
    pub(super) fn built_in() -> Self {
        Self { path: String::new(), text: String::new(), is_in_place: true }
    }

    /// The file's text with this configuration rewritten as `new`; `None` where it does not stand
    /// there as it is.
    pub(super) fn put_back(&self, file: &str, new: &str) -> Option<String> {
        if !self.is_in_place {
            return None;
        }
        if self.path.is_empty() {
            return Some(new.to_owned());
        }
        // Its lines are the file's, but for what stands before it on its first.
        let above = self.text.lines().take_while(|line| line.trim().is_empty()).count();
        let count = self.text.lines().count();
        let lines: Vec<&str> = file.split_inclusive('\n').collect();
        let first = lines.get(above)?;
        let indent = self.text.lines().nth(above)?;
        let indent = indent.len() - indent.trim_start_matches(' ').len();
        let mut text: String = lines.get(..above)?.concat();
        for (n, line) in new.lines().skip(above).enumerate() {
            let lead = if n == 0 { first.get(..indent)? } else { line.get(..indent).unwrap_or("") };
            text.push_str(lead);
            text.push_str(line.get(indent..).unwrap_or_else(|| line.trim_start()));
            text.push('\n');
        }
        text.push_str(&lines.get(count..)?.concat());
        Some(text)
    }

    /// What stands before a line and a column.
    pub(super) fn name(&self, file: &str) -> String {
        if self.is_in_place { file.to_owned() } else { self.title(file) }
    }

    /// For the verdict.
    pub(super) fn title(&self, file: &str) -> String {
        match self.path.as_str() {
            "" => file.to_owned(),
            path => format!("{file} ({path})"),
        }
    }
}

/// All configurations in `text`, the content of the file `name`.
///
/// A file with one document in which none is found is taken for one: what is wrong with it the
/// loader knows best.
///
/// # Errors
/// A file that is not YAML, in which there is none, or one and more beside it.
pub(super) fn find(name: &str, text: &str) -> Result<Vec<Found>, Diagnostics> {
    let diagnostics = Diagnostics::new(name);
    let mut found = Vec::new();
    let mut documents = Vec::new();
    for document in documents_of(text) {
        match parse(&document) {
            Ok(None) => {}
            // A marker with nothing behind it.
            Ok(Some(root)) if root.value == Value::Null => {}
            Ok(Some(root)) => documents.push((root, document)),
            Err((at, message)) => diagnostics.error(Some(at), "", message),
        }
    }
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let is_the_file = documents.iter().any(|(root, _)| is_config(root));
    if let (true, Some((second, _))) = (is_the_file, documents.get(1)) {
        diagnostics.error(Some(second.at), "", "a second document: epp reads one and no more");
        return Err(diagnostics);
    }
    let mut is_read = false;
    for (root, document) in &documents {
        if !is_config(root) {
            search(root, document, "", &mut found);
        }
        is_read |= !found.is_empty();
    }
    if is_read {
        return Ok(found);
    }
    match documents.len() {
        0 | 1 => Ok(vec![Found { path: String::new(), text: text.to_owned(), is_in_place: true }]),
        n => {
            diagnostics.error(None, "", format!("no {KIND} in its {n} documents"));
            Err(diagnostics)
        }
    }
}

/// The documents of a stream, each with as many empty lines before it as make its places right.
fn documents_of(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        let is_marker = line == "---" || line.starts_with("--- ");
        if is_marker {
            documents.push("\n".repeat(number));
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

fn is_config(node: &Node) -> bool {
    node.get("kind").and_then(Node::as_str) == Some(KIND)
}

/// Adds the configurations below `node`, which stands in `document` at `path`.
fn search(node: &Node, document: &str, path: &str, found: &mut Vec<Found>) {
    match &node.value {
        Value::Map(_) if is_config(node) => found.push(mapping(node, document, path)),
        Value::Map(entries) => {
            for (key, value) in entries {
                let dot = if path.is_empty() { "" } else { "." };
                search(value, document, &format!("{path}{dot}{}", key.name), found);
            }
        }
        Value::Seq(items) => {
            for (i, item) in items.iter().enumerate() {
                search(item, document, &format!("{path}[{i}]"), found);
            }
        }
        Value::Str(text) if is_config_text(text) => {
            found.push(scalar(node.at, text, document, path))
        }
        _ => {}
    }
}

/// Also where it cannot be parsed: it was meant as one.
fn is_config_text(text: &str) -> bool {
    match parse(text) {
        Ok(root) => root.is_some_and(|root| is_config(&root)),
        Err(_) => text
            .lines()
            .any(|line| line.strip_prefix("kind:").is_some_and(|kind| kind.trim() == KIND)),
    }
}

/// A mapping as it stands in the file. One in braces, whose end cannot be told from lines, is
/// written anew, without its places.
fn mapping(node: &Node, document: &str, path: &str) -> Found {
    let lines: Vec<&str> = document.lines().collect();
    let indent = node.at.column.saturating_sub(1) as usize;
    let first = node.at.line.saturating_sub(1) as usize;
    let begins = lines.get(first).and_then(|line| line.get(indent..));
    let Some(begins) = begins.filter(|rest| !rest.starts_with(['{', '&', '*', '!'])) else {
        let text = node.to_json().to_string();
        return Found { path: path.to_owned(), text, is_in_place: false };
    };
    let mut text = format!("{}{}{begins}\n", "\n".repeat(first), " ".repeat(indent));
    let is_inside = |line: &str| {
        let bare = line.trim_start_matches(' ');
        bare.is_empty() || bare.starts_with('#') || line.len() - bare.len() >= indent
    };
    for line in lines.iter().skip(first + 1).take_while(|line| is_inside(line)) {
        text.push_str(line);
        text.push('\n');
    }
    Found { path: path.to_owned(), text, is_in_place: true }
}

/// A block of text as it stands in the file, at `at` or a line below; else on its own.
fn scalar(at: Position, inner: &str, document: &str, path: &str) -> Found {
    let lines: Vec<&str> = document.lines().collect();
    let wanted: Vec<&str> = inner.lines().collect();
    let start = at.line.saturating_sub(1) as usize;
    let place = (start..start + 3).find_map(|at| {
        let there = lines.get(at..at + wanted.len())?;
        let indent = there.first()?.len().checked_sub(wanted.first()?.len())?;
        let is_same = |(line, wanted): (&&str, &&str)| match line.get(indent..) {
            Some(rest) => rest == *wanted && line[..indent].trim().is_empty(),
            None => wanted.is_empty() && line.trim().is_empty(),
        };
        there.iter().zip(&wanted).all(is_same).then_some((at, there))
    });
    // Indented, a marker between documents is none.
    let has_marker = wanted.iter().any(|line| line.starts_with("---"));
    match place.filter(|_| !has_marker) {
        Some((at, there)) => {
            let above = iter::repeat_n("", at);
            let text = above.chain(there.iter().copied()).flat_map(|line| [line, "\n"]).collect();
            Found { path: path.to_owned(), text, is_in_place: true }
        }
        None => Found { path: path.to_owned(), text: inner.to_owned(), is_in_place: false },
    }
}
