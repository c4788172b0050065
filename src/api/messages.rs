//! Anthropic `messages`.

use std::borrow::Cow;

use serde::de::{Error, MapAccess};

use super::body::RequestBody;
use super::json::{self, Content, Fields, Object, Raw};
use super::{canonical, media};
use crate::scheduling::PromptBuilder;

const CONTENT: &str = "anthropic content: must be a string or an array of content blocks";
/// System blocks that begin so differ from request to request and must not part their prompts.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// The fields of a messages request that are read or whose type is checked.
#[derive(Default)]
pub(super) struct Messages<'a> {
    messages: Option<Vec<Object<Message<'a>>>>,
    system: Content<'a, Block<'a>>,
    tools: Option<Vec<Object<Tool<'a>>>>,
    cache_salt: Cow<'a, str>,
    max_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Messages<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "messages" => self.messages = map.next_value()?,
            "system" => self.system = content(map)?,
            "tools" => self.tools = map.next_value()?,
            "cache_salt" => self.cache_salt = json::text(map)?,
            "max_tokens" => self.max_tokens = map.next_value::<Raw<'a>>()?.count(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Messages<'a> {
    const SYNTAX_PREFIX: &'static str = "error unmarshaling request body: ";

    fn wrong_type(error: &str) -> Cow<'static, str> {
        let error = if error == CONTENT { CONTENT } else { "a field has the wrong type" };
        Cow::Owned(format!("error parsing messages request: {error}"))
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.messages.as_ref().is_none_or(Vec::is_empty) {
            return Err("invalid messages request: must have at least one message".into());
        }
        Ok(())
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The tools, the system text, then of every message its role and content.
    fn collect(&self, prompt: &mut PromptBuilder) {
        if let Some(tools) = self.tools.as_deref().filter(|tools| !tools.is_empty()) {
            let mut text = Vec::new();
            for Object(tool) in tools {
                text.push(if text.is_empty() { b'[' } else { b',' });
                tool.write(&mut text);
            }
            text.push(b']');
            prompt.text(&text);
        }
        match &self.system {
            Content::Text(text) => prompt.text(text.as_bytes()),
            Content::Blocks(blocks) => {
                for Object(block) in blocks {
                    if block.kind == "text" && !block.text.starts_with(BILLING_HEADER) {
                        prompt.text(block.text.as_bytes());
                    }
                }
            }
        }
        for Object(message) in self.messages.iter().flatten() {
            prompt.text(message.role.as_bytes());
            match &message.content {
                Content::Text(text) => prompt.text(text.as_bytes()),
                Content::Blocks(blocks) => {
                    blocks.iter().for_each(|Object(block)| block.collect(prompt));
                }
            }
        }
    }
}

/// Reads a content. Whatever is wrong inside it, the reference's answer is the same; what is not
/// JSON is told apart later.
fn content<'a, B: Fields<'a>, M: MapAccess<'a>>(map: &mut M) -> Result<Content<'a, B>, M::Error> {
    map.next_value().map_err(|_| Error::custom(CONTENT))
}

#[derive(Default)]
struct Message<'a> {
    role: Cow<'a, str>,
    content: Content<'a, Block<'a>>,
}

impl<'a> Fields<'a> for Message<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "role" => self.role = json::text(map)?,
            "content" => self.content = content(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A tool as the reference reads it: other fields do not count.
#[derive(Default)]
struct Tool<'a> {
    name: Cow<'a, str>,
    description: Cow<'a, str>,
    input_schema: Option<Raw<'a>>,
    strict: Option<bool>,
    defer_loading: Option<bool>,
}

impl<'a> Fields<'a> for Tool<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "name" => self.name = json::text(map)?,
            "description" => self.description = json::text(map)?,
            "input_schema" => self.input_schema = json::present(map)?,
            "strict" => self.strict = map.next_value()?,
            "defer_loading" => self.defer_loading = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Tool<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        canonical::write_text(&self.name, out);
        if !self.description.is_empty() {
            out.extend_from_slice(b",\"description\":");
            canonical::write_text(&self.description, out);
        }
        if let Some(schema) = self.input_schema {
            out.extend_from_slice(b",\"input_schema\":");
            canonical::write(schema.0, out);
        }
        for (name, flag) in [("strict", self.strict), ("defer_loading", self.defer_loading)] {
            if let Some(flag) = flag {
                out.extend_from_slice(format!(",\"{name}\":{flag}").as_bytes());
            }
        }
        out.push(b'}');
    }
}

/// A content block of any type, known or not.
#[derive(Default)]
struct Block<'a> {
    kind: Cow<'a, str>,
    text: Cow<'a, str>,
    thinking: Cow<'a, str>,
    source: Object<Source<'a>>,
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    input: Option<Raw<'a>>,
    content: Content<'a, ResultBlock<'a>>,
}

impl<'a> Fields<'a> for Block<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "type" => self.kind = json::text(map)?,
            "text" => self.text = json::text(map)?,
            "thinking" => self.thinking = json::text(map)?,
            "source" => self.source = map.next_value()?,
            "id" => self.id = json::text(map)?,
            "name" => self.name = json::text(map)?,
            "input" => self.input = json::present(map)?,
            "content" => self.content = map.next_value()?,
            "tool_use_id" => drop(json::text(map)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Block<'_> {
    fn collect(&self, prompt: &mut PromptBuilder) {
        match self.kind.as_ref() {
            "text" => prompt.text(self.text.as_bytes()),
            "thinking" => prompt.text(self.thinking.as_bytes()),
            "image" => {
                let Object(source) = &self.source;
                if !source.url.is_empty() {
                    media::image_url(&source.url, prompt);
                } else if !source.data.is_empty() {
                    media::image_data(&source.data, prompt);
                }
            }
            "tool_use" => {
                prompt.text(self.id.as_bytes());
                prompt.text(self.name.as_bytes());
                if let Some(input) = self.input {
                    prompt.text(&canonical::compact(input.0));
                }
            }
            "tool_result" => self.collect_result(prompt),
            _ => {}
        }
    }

    /// The texts on lines of their own, then the images.
    fn collect_result(&self, prompt: &mut PromptBuilder) {
        let blocks = match &self.content {
            Content::Text(text) => return prompt.text(text.as_bytes()),
            Content::Blocks(blocks) => blocks,
        };
        let texts = blocks.iter().filter(|Object(block)| block.kind == "text");
        for (i, Object(block)) in texts.enumerate() {
            if i > 0 {
                prompt.text(b"\n");
            }
            prompt.text(block.text.as_bytes());
        }
        for Object(block) in blocks.iter().filter(|Object(block)| block.kind == "image") {
            let Object(source) = &block.source;
            if !source.url.is_empty() {
                media::image_url(&source.url, prompt);
            } else if source.kind != "url" && !source.data.is_empty() {
                media::image_data_as_url(&source.media_type, &source.data, prompt);
            }
        }
    }
}

/// A block inside a tool's result. What nests further down does not count, and is not followed:
/// blocks in blocks would nest as deep as a client likes.
#[derive(Default)]
struct ResultBlock<'a> {
    kind: Cow<'a, str>,
    text: Cow<'a, str>,
    source: Object<Source<'a>>,
}

/// A block of which nothing is read.
#[derive(Default)]
struct Unread;

impl<'a> Fields<'a> for Unread {
    fn field<M: MapAccess<'a>>(&mut self, _: &str, _: &mut M) -> Result<bool, M::Error> {
        Ok(false)
    }
}

impl<'a> Fields<'a> for ResultBlock<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "type" => self.kind = json::text(map)?,
            "text" => self.text = json::text(map)?,
            "source" => self.source = map.next_value()?,
            // Not read, but the reference checks the types.
            "thinking" | "id" | "name" | "tool_use_id" => drop(json::text(map)?),
            "content" => drop(map.next_value::<Content<'a, Unread>>()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Where an image comes from.
#[derive(Default)]
struct Source<'a> {
    kind: Cow<'a, str>,
    media_type: Cow<'a, str>,
    data: Cow<'a, str>,
    url: Cow<'a, str>,
}

impl<'a> Fields<'a> for Source<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "type" => self.kind = json::text(map)?,
            "media_type" => self.media_type = json::text(map)?,
            "data" => self.data = json::text(map)?,
            "url" => self.url = json::text(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
