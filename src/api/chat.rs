//! OpenAI `chat/completions`.

use std::borrow::Cow;

use serde::de::{MapAccess, SeqAccess};

use super::body::RequestBody;
use super::canonical;
use super::draft::Draft;
use super::json::{self, ContentInto, Each, Elements, Fields, Object, Raw, TextOrElements};
use super::media::MediaItem;
use super::message_list::{MessageFormat, MessageList};
use crate::scheduling::PromptBuilder;

const INVALID: &str = "invalid chat completions request: must have valid messages field";

/// The fields of a chat request that are read or whose type is checked.
#[derive(Default)]
pub(super) struct Chat<'a> {
    /// What the messages say.
    draft: Draft<'a>,
    messages: usize,
    tools: Option<Raw<'a>>,
    cache_salt: Cow<'a, str>,
    max_completion_tokens: Option<u64>,
    max_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Chat<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "messages" => {
                self.draft = self.draft.another();
                self.messages = map
                    .next_value_seed(Each(&mut MessageList::<ChatMessage>::new(&mut self.draft)))?;
            }
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
    fn begin(&mut self, draft: Draft<'a>) {
        self.draft = draft;
    }

    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed(INVALID)
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.messages == 0 { Err(Cow::Borrowed(INVALID)) } else { Ok(()) }
    }

    fn max_output_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The tools, then of every message its role and content; tool calls do not count.
    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        if let Some(tools) = self.tools {
            let mut text = Vec::with_capacity(tools.0.len());
            canonical::write(tools.0, &mut text);
            if text != b"[]" {
                prompt.text(&text);
            }
        }
        self.draft.finish(prompt)
    }
}

/// The messages of a chat.
struct ChatMessage;

impl MessageFormat for ChatMessage {
    fn content<'a, M: MapAccess<'a>>(map: &mut M, draft: &mut Draft<'a>) -> Result<(), M::Error> {
        map.next_value_seed(ContentInto(&mut BlockList(draft))).map(drop)
    }

    fn other<'a, M: MapAccess<'a>>(key: &str, map: &mut M) -> Result<bool, M::Error> {
        if key != "tool_calls" {
            return Ok(false);
        }
        json::array(map).map(|_| true)
    }
}

/// A message's text, or the elements of its content.
struct BlockList<'d, 'a>(&'d mut Draft<'a>);

impl<'a> Elements<'a> for BlockList<'_, 'a> {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let block = seq.next_element::<Object<Block<'a>>>()?;
        Ok(block.map(|Object(block)| block.collect(self.0)))
    }
}

impl<'a> TextOrElements<'a> for BlockList<'_, 'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.0.text(text);
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

impl<'a> Block<'a> {
    fn collect(self, draft: &mut Draft<'a>) {
        if !draft.is_wanted() {
            return;
        }
        match self.kind.as_ref() {
            "text" => draft.text(self.text),
            "image_url" => draft.media(MediaItem::image(&self.image_url.0.url, &draft.images)),
            "video_url" => {
                draft.media(MediaItem::video(&self.video_url.0.url, draft.video_tokens));
            }
            // A sound given by URL has no content to count, as in the reference.
            "input_audio" | "audio_url" => {
                let Object(audio) = &self.input_audio;
                draft.media(MediaItem::audio(&audio.data, &audio.format));
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
