//! The tokens of an answer, counted as it passes by: for engines that do not report them, and for
//! clients that leave before the report comes.

use memchr::memmem::Finder;

use super::proto_fields::{Value, fields, varints};
use super::request::Api;
use super::scan::end_of_string;
use super::usage;

/// Bytes of text that are taken for one token where text does not come token by token: what the
/// reference takes for prompts (llm-d-router main at ebab6879).
const BYTES_PER_TOKEN: u64 = 4;

/// Counts the tokens of one answer.
///
/// Every event of a stream that brings text counts one, since engines send one event a token;
/// those of an engine that sends several at once are too few. In an answer that is no stream, four
/// bytes of text are one token. Token ids are counted one by one.
#[derive(Debug)]
pub(super) struct Tally {
    form: Form,
    tokens: u64,
}

#[derive(Debug)]
enum Form {
    /// The values of these keys are text that the model wrote.
    Text(Vec<Finder<'static>>),
    /// The values of this key are lists of token ids.
    Ids(Box<Finder<'static>>),
    /// Every event says how many there are by now.
    Running,
    /// Messages of vLLM's gRPC API.
    Messages,
    /// Answers of this API have no tokens.
    Nothing,
}

impl Tally {
    pub(super) fn new(api: Api) -> Self {
        let text =
            |keys: &[&'static str]| Form::Text(keys.iter().map(|key| Finder::new(*key)).collect());
        let form = match api {
            Api::Completions => text(&["\"text\""]),
            Api::Vertex(method) if !method.is_chat() => text(&["\"delta\"", "\"text\""]),
            Api::Chat | Api::Vertex(_) => text(&[
                "\"content\"",
                "\"reasoning_content\"",
                "\"reasoning\"",
                "\"refusal\"",
                "\"arguments\"",
            ]),
            // Events that bring a piece have it as a text under this key; those that repeat all
            // there is at its end have it under another.
            Api::Responses => text(&["\"delta\""]),
            Api::Messages => text(&["\"text\"", "\"thinking\"", "\"partial_json\""]),
            Api::VllmGenerate => Form::Ids(Box::new(Finder::new("\"token_ids\""))),
            Api::SglangGenerate => Form::Running,
            Api::VllmGrpcGenerate => Form::Messages,
            _ => Form::Nothing,
        };
        Self { form, tokens: 0 }
    }

    /// The tokens so far.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Takes one event of a stream.
    pub(super) fn event(&mut self, api: Api, data: &[u8]) {
        self.tokens = match &self.form {
            // A model's thought and its answer never come in one event, but some engines send a
            // thought under two names. Several answers side by side have one event each, too.
            Form::Text(keys) => {
                let pieces = |key| texts(key, data).filter(|text| !text.is_empty()).count();
                self.tokens + keys.iter().map(pieces).max().unwrap_or(0) as u64
            }
            Form::Ids(key) => self.tokens + ids(key, data),
            Form::Running => self.tokens.max(usage::running(api, data).unwrap_or(0)),
            Form::Messages | Form::Nothing => self.tokens,
        };
    }

    /// Takes one gRPC message of vLLM's `Generate`, which has the ids of a piece of the answer, or
    /// of all of it.
    pub(super) fn message(&mut self, message: &[u8]) {
        if !matches!(self.form, Form::Messages) {
            return;
        }
        for (number, value) in fields(message).flatten() {
            match (number, value) {
                (1, Value::Bytes(chunk)) => self.tokens += ids_of_message(chunk),
                // At the end of a stream, what came in pieces is told once more.
                (2, Value::Bytes(whole)) => self.tokens = self.tokens.max(ids_of_message(whole)),
                _ => {}
            }
        }
    }

    /// Takes an answer that is no stream.
    pub(super) fn whole(&mut self, json: &[u8]) {
        self.tokens = match &self.form {
            Form::Text(keys) => {
                let bytes = |key| texts(key, json).map(|text| text.len() as u64).sum::<u64>();
                keys.iter().map(bytes).sum::<u64>().div_ceil(BYTES_PER_TOKEN)
            }
            Form::Ids(key) => ids(key, json),
            Form::Running | Form::Messages | Form::Nothing => self.tokens,
        };
    }
}

/// The values of `key` in `json`, without their first byte.
fn values<'a>(key: &'a Finder<'_>, json: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
    key.find_iter(json).filter_map(|at| {
        let after = json.get(at + key.needle().len()..)?;
        Some(after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
    })
}

/// The texts that stand under `key`, as they are written.
fn texts<'a>(key: &'a Finder<'_>, json: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
    values(key, json)
        .filter(|value| value.starts_with(b"\""))
        .filter_map(|value| value.get(1..end_of_string(value, 0)))
}

/// Numbers in the lists under `key`.
fn ids(key: &Finder<'_>, json: &[u8]) -> u64 {
    let lists = values(key, json).filter_map(|value| value.strip_prefix(b"["));
    let count = |list: &[u8]| {
        let list = &list[..memchr::memchr(b']', list).unwrap_or(list.len())];
        let is_empty = list.trim_ascii().is_empty();
        if is_empty { 0 } else { memchr::memchr_iter(b',', list).count() as u64 + 1 }
    };
    lists.map(count).sum()
}

/// Token ids in a chunk or in the end of vLLM's `Generate`.
fn ids_of_message(message: &[u8]) -> u64 {
    let ids = |(number, value)| match (number, value) {
        (1, Value::Varint(_)) => 1,
        (1, Value::Bytes(packed)) => varints(packed).flatten().count() as u64,
        _ => 0,
    };
    fields(message).flatten().map(ids).sum()
}
