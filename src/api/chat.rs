//! OpenAI `chat/completions`.

use std::borrow::Cow;

use serde::de::MapAccess;

use super::body::RequestBody;
use super::json::{self, Content, Fields, Object, Raw};
use super::{canonical, media};
use crate::scheduling::PromptBuilder;

const INVALID: &str = "invalid chat completions request: must have valid messages field";

/// The fields of a chat request that are read or whose type is checked.
#[derive(Default)]
pub(super) struct Chat<'a> {
    messages: Option<Vec<Object<Message<'a>>>>,
    tools: Option<Raw<'a>>,
    cache_salt: Cow<'a, str>,
    max_completion_tokens: Option<u64>,
    max_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Chat<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "messages" => self.messages = map.next_value()?,
            "tools" => self.tools = json::array(map)?,
            "cache_salt" => self.cache_salt = json::text(map)?,
            "max_completion_tokens" => {
                self.max_completion_tokens = map.next_value::<Raw<'a>>()?.count();
            }
            "max_tokens" => self.max_tokens = map.next_value::<Raw<'a>>()?.count(),
            // The rest is for the worker; the reference checks the types all the same.
            "documents" => drop(json::array(map)?),
            "chat_template" => drop(json::text(map)?),
            "chat_template_kwargs" => drop(json::object(map)?),
            "return_assistant_tokens_mask" | "continue_final_message" | "add_generation_prompt" => {
                map.next_value::<Option<bool>>()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Chat<'a> {
    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed(INVALID)
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        let empty = self.messages.as_ref().is_none_or(Vec::is_empty);
        if empty { Err(Cow::Borrowed(INVALID)) } else { Ok(()) }
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The tools, then of every message its role and content; tool calls do not count.
    fn collect(&self, prompt: &mut PromptBuilder) {
        if let Some(tools) = self.tools {
            let mut text = Vec::with_capacity(tools.0.len());
            canonical::write(tools.0, &mut text);
            if text != b"[]" {
                prompt.text(&text);
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

#[derive(Default)]
struct Message<'a> {
    role: Cow<'a, str>,
    content: Content<'a, Block<'a>>,
}

impl<'a> Fields<'a> for Message<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "role" => self.role = json::text(map)?,
            "content" => self.content = map.next_value()?,
            "tool_calls" => drop(json::array(map)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A content block of any type, known or not.
#[derive(Default)]
struct Block<'a> {
    kind: Cow<'a, str>,
    text: Cow<'a, str>,
    image_url: Object<Link<'a>>,
    video_url: Object<Link<'a>>,
    input_audio: Object<Audio<'a>>,
}

impl<'a> Fields<'a> for Block<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "type" => self.kind = json::text(map)?,
            "text" => self.text = json::text(map)?,
            "image_url" => self.image_url = map.next_value()?,
            "video_url" => self.video_url = map.next_value()?,
            "input_audio" => self.input_audio = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Block<'_> {
    fn collect(&self, prompt: &mut PromptBuilder) {
        match self.kind.as_ref() {
            "text" => prompt.text(self.text.as_bytes()),
            "image_url" => media::image_url(&self.image_url.0.url, prompt),
            "video_url" => media::video_url(&self.video_url.0.url, prompt),
            // A sound given by URL has no content to count, as in the reference.
            "input_audio" | "audio_url" => {
                let Object(audio) = &self.input_audio;
                media::audio(&audio.data, &audio.format, prompt);
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Link<'a> {
    url: Cow<'a, str>,
}

impl<'a> Fields<'a> for Link<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        if key == "url" {
            self.url = json::text(map)?;
        }
        Ok(key == "url")
    }
}

#[derive(Default)]
struct Audio<'a> {
    data: Cow<'a, str>,
    format: Cow<'a, str>,
}

impl<'a> Fields<'a> for Audio<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "data" => self.data = json::text(map)?,
            "format" => self.format = json::text(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
