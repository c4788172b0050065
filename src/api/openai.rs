//! The OpenAI APIs but chat: completions, embeddings, responses, conversations, images.

use std::borrow::Cow;

use serde::de::{Error, MapAccess, SeqAccess};

use super::body::RequestBody;
use super::canonical;
use super::draft::Draft;
use super::input::{Input, MAX_PROMPTS};
use super::json::{self, Each, Elements, Fields, Object, Raw};
use super::media::MediaItem;
use crate::scheduling::PromptBuilder;

/// `completions`.
#[derive(Default)]
pub(super) struct Completions<'a> {
    prompt: Input<'a>,
    cache_salt: Cow<'a, str>,
    max_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Completions<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "prompt" => self.prompt = map.next_value()?,
            "cache_salt" => self.cache_salt = json::text(map)?,
            "max_tokens" => self.max_tokens = map.next_value::<Raw<'a>>()?.count(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Completions<'a> {
    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid completions request: must have prompt field")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.prompt.is_empty() {
            return Err(Self::wrong_type(""));
        }
        check_count(&self.prompt, "invalid completions request: more than")
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The text as it is; several texts, or lists of token ids, are prompts of their own.
    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        match self.prompt {
            Input::Text(text) => prompt.text(text.as_bytes()),
            Input::Texts(list) => {
                for (i, text) in list.texts().enumerate() {
                    if i > 0 {
                        prompt.next_prompt();
                    }
                    prompt.text(text.as_bytes());
                }
            }
            Input::Tokens(ids) => ids.collect(prompt),
            Input::Batches(list) => list.add_batches(prompt),
        }
        Vec::new()
    }
}

/// Refuses an input of too many prompts; `text` stands before the number.
fn check_count(input: &Input<'_>, text: &str) -> Result<(), Cow<'static, str>> {
    if input.prompts() > MAX_PROMPTS {
        return Err(format!("{text} {MAX_PROMPTS} prompts").into());
    }
    Ok(())
}

/// `embeddings`.
#[derive(Default)]
pub(super) struct Embeddings<'a> {
    input: Input<'a>,
    cache_salt: Cow<'a, str>,
}

impl<'a> Fields<'a> for Embeddings<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "input" => self.input = map.next_value()?,
            "cache_salt" => self.cache_salt = json::text(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Embeddings<'a> {
    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid embeddings request: must have input field")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.input.is_empty() {
            return Err(Self::wrong_type(""));
        }
        check_count(&self.input, "invalid embeddings request: more than")
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// Texts as the JSON of the structure that the reference reads them into; lists of token ids
    /// are prompts of their own.
    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        // The form of a text that is short of escapes, and the names around it.
        let source = match &self.input {
            Input::Text(text) => text,
            Input::Texts(list) => list.array,
            Input::Tokens(_) | Input::Batches(_) => "",
        };
        let Some(length) = canonical::length(source) else {
            prompt.text(source.as_bytes());
            return Vec::new();
        };
        let mut text = Vec::with_capacity(length + 64);
        text.extend_from_slice(b"{\"Raw\":");
        match self.input {
            Input::Tokens(ids) => {
                ids.collect(prompt);
                return Vec::new();
            }
            Input::Batches(list) => {
                list.add_batches(prompt);
                return Vec::new();
            }
            Input::Text(raw) => {
                canonical::write_text(&raw, &mut text);
                text.extend_from_slice(b",\"Strings\":null");
            }
            Input::Texts(list) => {
                text.extend_from_slice(b"\"\",\"Strings\":[");
                for (i, item) in list.texts().enumerate() {
                    if i > 0 {
                        text.push(b',');
                    }
                    canonical::write_text(&item, &mut text);
                }
                text.push(b']');
            }
        }
        text.extend_from_slice(b",\"TokenIDs\":null}");
        prompt.text(&text);
        Vec::new()
    }
}

/// `responses`.
#[derive(Default)]
pub(super) struct Responses<'a> {
    input: Option<Raw<'a>>,
    /// A prompt that the server keeps, by its id, with what fills its places.
    template: Option<Raw<'a>>,
    /// The request goes on where another response ended.
    continues: bool,
    instructions: Option<Raw<'a>>,
    tools: Option<Raw<'a>>,
    cache_salt: Cow<'a, str>,
    max_output_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Responses<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "input" => self.input = json::present(map)?,
            "prompt" => self.template = json::present(map)?.filter(|raw| raw.0.starts_with('{')),
            "previous_response_id" => {
                self.continues = map.next_value::<Raw<'a>>()?.0.starts_with('"');
            }
            "instructions" => self.instructions = json::present(map)?,
            "tools" => self.tools = json::present(map)?,
            "cache_salt" => self.cache_salt = json::text(map)?,
            "max_output_tokens" => self.max_output_tokens = map.next_value::<Raw<'a>>()?.count(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Responses<'a> {
    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid responses request: must have input field")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        // The API asks for one of them only; the reference for the first.
        let has_any = self.input.is_some() || self.template.is_some() || self.continues;
        if has_any { Ok(()) } else { Err(Self::wrong_type("")) }
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// `[{"instructions":…},{"tools":…},{"input":…}]` of what is there; without an input, the
    /// template stands in its place.
    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        let last = match (self.input, self.template) {
            (None, Some(template)) => ("prompt", Some(template)),
            (input, _) => ("input", input),
        };
        let parts = [("instructions", self.instructions), ("tools", self.tools), last];
        let length: usize = parts.iter().filter_map(|(_, raw)| *raw).map(|raw| raw.0.len()).sum();
        let mut text = Vec::with_capacity(length + 64);
        for (name, raw) in parts {
            let Some(raw) = raw else { continue };
            text.extend_from_slice(if text.is_empty() { b"[{\"" } else { b",{\"" });
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"\":");
            canonical::write(raw.0, &mut text);
            text.push(b'}');
        }
        if !text.is_empty() {
            text.push(b']');
            prompt.text(&text);
        }
        Vec::new()
    }
}

/// `conversations`.
#[derive(Default)]
pub(super) struct Conversations<'a> {
    items: ItemList,
    count: usize,
    cache_salt: Cow<'a, str>,
}

impl<'a> Fields<'a> for Conversations<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "items" => {
                self.items.out.clear();
                self.count = map.next_value_seed(Each(&mut self.items))?;
            }
            "metadata" => drop(json::object(map)?),
            "cache_salt" => self.cache_salt = json::text(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Conversations<'a> {
    fn begin(&mut self, draft: Draft<'a>) {
        self.items.room = draft.room();
    }

    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid conversations request: must have items field")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.count == 0 { Err(Self::wrong_type("")) } else { Ok(()) }
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The JSON of the items' type, role and content.
    fn collect(mut self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        self.items.out.push(b']');
        prompt.text(&self.items.out);
        Vec::new()
    }
}

/// The elements of `items`, written as a JSON array but for its end.
#[derive(Default)]
struct ItemList {
    out: Vec<u8>,
    /// Items beyond so many bytes do not count; 0 where none does.
    room: usize,
}

impl<'a> Elements<'a> for ItemList {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let item = seq.next_element::<Object<Item<'a>>>()?;
        Ok(item.map(|Object(item)| {
            if self.out.len() < self.room {
                self.out.push(if self.out.is_empty() { b'[' } else { b',' });
                item.write(&mut self.out);
            }
        }))
    }
}

/// One item of a conversation.
#[derive(Default)]
struct Item<'a> {
    kind: Cow<'a, str>,
    role: Cow<'a, str>,
    content: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for Item<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "type" => self.kind = json::text(map)?,
            "role" => self.role = json::text(map)?,
            "content" => self.content = json::present(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Item<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let start = out.len();
        let name = |name: &str, out: &mut Vec<u8>| {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
        };
        if !self.kind.is_empty() {
            name("\"type\":", out);
            canonical::write_text(&self.kind, out);
        }
        if !self.role.is_empty() {
            name("\"role\":", out);
            canonical::write_text(&self.role, out);
        }
        if let Some(content) = self.content {
            name("\"content\":", out);
            canonical::write(content.0, out);
        }
        out.push(b'}');
    }
}

/// `images/generations`: nothing of it is matched by prefix.
#[derive(Default)]
pub(super) struct Images<'a> {
    prompt: Cow<'a, str>,
}

impl<'a> Fields<'a> for Images<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "prompt" => self.prompt = json::text(map)?,
            "size" => drop(json::text(map)?),
            "n" | "num_inference_steps" => {
                let raw = json::present(map)?;
                if raw.is_some_and(|raw| raw.0.parse::<i64>().is_err()) {
                    return Err(Error::custom("expected an integer"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Images<'a> {
    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid images generations request: must have prompt field")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.prompt.is_empty() { Err(Self::wrong_type("")) } else { Ok(()) }
    }

    fn cache_salt(&self) -> &str {
        ""
    }

    fn collect(self, _: &mut PromptBuilder) -> Vec<MediaItem> {
        Vec::new()
    }
}
