//! The OpenAI APIs but chat: completions, embeddings, responses, conversations, images.

use std::borrow::Cow;

use serde::de::{Error, MapAccess};

use super::body::RequestBody;
use super::canonical;
use super::input::Input;
use super::json::{self, Fields, Object, Raw};
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
        if self.prompt.is_empty() { Err(Self::wrong_type("")) } else { Ok(()) }
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The text as it is; several texts are prompts of their own.
    fn collect(&self, prompt: &mut PromptBuilder) {
        match &self.prompt {
            Input::Text(text) => prompt.text(text.as_bytes()),
            Input::Texts(texts) => {
                for (i, text) in texts.iter().enumerate() {
                    if i > 0 {
                        prompt.next_prompt();
                    }
                    prompt.text(text.as_bytes());
                }
            }
            Input::Tokens(ids) => prompt.tokens(ids.iter().copied()),
        }
    }
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
        if self.input.is_empty() { Err(Self::wrong_type("")) } else { Ok(()) }
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// Texts as the JSON of the structure that the reference reads them into.
    fn collect(&self, prompt: &mut PromptBuilder) {
        let mut text = b"{\"Raw\":".to_vec();
        match &self.input {
            Input::Tokens(ids) => return prompt.tokens(ids.iter().copied()),
            Input::Text(raw) => {
                canonical::write_text(raw, &mut text);
                text.extend_from_slice(b",\"Strings\":null");
            }
            Input::Texts(texts) => {
                text.extend_from_slice(b"\"\",\"Strings\":[");
                for (i, item) in texts.iter().enumerate() {
                    if i > 0 {
                        text.push(b',');
                    }
                    canonical::write_text(item, &mut text);
                }
                text.push(b']');
            }
        }
        text.extend_from_slice(b",\"TokenIDs\":null}");
        prompt.text(&text);
    }
}

/// `responses`.
#[derive(Default)]
pub(super) struct Responses<'a> {
    input: Option<Raw<'a>>,
    instructions: Option<Raw<'a>>,
    tools: Option<Raw<'a>>,
    cache_salt: Cow<'a, str>,
    max_output_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Responses<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "input" => self.input = json::present(map)?,
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
        if self.input.is_none() { Err(Self::wrong_type("")) } else { Ok(()) }
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// `[{"instructions":…},{"tools":…},{"input":…}]` of what is there.
    fn collect(&self, prompt: &mut PromptBuilder) {
        let parts =
            [("instructions", self.instructions), ("tools", self.tools), ("input", self.input)];
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
        text.push(b']');
        prompt.text(&text);
    }
}

/// `conversations`.
#[derive(Default)]
pub(super) struct Conversations<'a> {
    items: Option<Vec<Object<Item<'a>>>>,
    cache_salt: Cow<'a, str>,
}

impl<'a> Fields<'a> for Conversations<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "items" => self.items = map.next_value()?,
            "metadata" => drop(json::object(map)?),
            "cache_salt" => self.cache_salt = json::text(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Conversations<'a> {
    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid conversations request: must have items field")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        let empty = self.items.as_ref().is_none_or(Vec::is_empty);
        if empty { Err(Self::wrong_type("")) } else { Ok(()) }
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The JSON of the items' type, role and content.
    fn collect(&self, prompt: &mut PromptBuilder) {
        let mut text = b"[".to_vec();
        for (i, Object(item)) in self.items.iter().flatten().enumerate() {
            if i > 0 {
                text.push(b',');
            }
            item.write(&mut text);
        }
        text.push(b']');
        prompt.text(&text);
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

    fn collect(&self, _: &mut PromptBuilder) {}
}
