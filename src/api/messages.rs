//! Anthropic `messages`.

use std::borrow::Cow;

use serde::de::{Error, MapAccess, SeqAccess};

use super::body::RequestBody;
use super::canonical;
use super::draft::Draft;
use super::json::{
    self, ContentInto, Each, Elements, Fields, Object, ObjectInto, Raw, TextOrElements,
};
use super::media::MediaItem;
use super::message_list::{MessageFormat, MessageList};
use crate::scheduling::PromptBuilder;

const CONTENT: &str = "anthropic content: must be a string or an array of content blocks";
/// System blocks that begin so differ from request to request and must not part their prompts.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// The fields of a messages request that are read or whose type is checked.
#[derive(Default)]
pub(super) struct Messages<'a> {
    /// What the messages say.
    draft: Draft<'a>,
    messages: usize,
    /// What the system prompt says.
    system: Draft<'a>,
    /// The tools as one JSON array; empty where there are none.
    tools: Vec<u8>,
    cache_salt: Cow<'a, str>,
    max_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Messages<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "messages" => {
                self.draft = self.draft.another();
                self.messages = map.next_value_seed(Each(
                    &mut MessageList::<AnthropicMessage>::new(&mut self.draft),
                ))?;
            }
            "system" => {
                self.system = self.draft.another();
                content(map, &mut SystemBlocks(&mut self.system))?;
            }
            "tools" => {
                let mut tools = ToolList { out: Vec::new(), room: self.draft.room() };
                map.next_value_seed(Each(&mut tools))?;
                self.tools = tools.out;
            }
            "cache_salt" => self.cache_salt = json::text(map)?,
            "max_tokens" => self.max_tokens = map.next_value::<Raw<'a>>()?.count(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for Messages<'a> {
    const SYNTAX_PREFIX: &'static str = "error unmarshaling request body: ";

    fn begin(&mut self, draft: Draft<'a>) {
        self.draft = draft;
    }

    fn wrong_type(error: &str) -> Cow<'static, str> {
        let error = if error == CONTENT { CONTENT } else { "a field has the wrong type" };
        Cow::Owned(format!("error parsing messages request: {error}"))
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        if self.messages == 0 {
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
    fn collect(mut self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        if !self.tools.is_empty() {
            self.tools.push(b']');
            prompt.text(&self.tools);
        }
        self.system.finish(prompt);
        self.draft.finish(prompt)
    }
}

/// Reads a content. Whatever is wrong inside it, the reference's answer is the same; what is not
/// JSON is told apart later.
fn content<'a, M, S>(map: &mut M, blocks: &mut S) -> Result<(), M::Error>
where
    M: MapAccess<'a>,
    S: TextOrElements<'a>,
{
    map.next_value_seed(ContentInto(blocks)).map_err(|_| Error::custom(CONTENT))
}

/// The system prompt's text, or the elements of it.
struct SystemBlocks<'d, 'a>(&'d mut Draft<'a>);

impl<'a> Elements<'a> for SystemBlocks<'_, 'a> {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let mut block = Block::new(self.0);
        let read = seq.next_element_seed(ObjectInto(&mut block))?;
        if block.kind == "text" && !block.text.starts_with(BILLING_HEADER) {
            self.0.text(block.text);
        }
        Ok(read)
    }
}

impl<'a> TextOrElements<'a> for SystemBlocks<'_, 'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.0.text(text);
    }
}

/// The messages of Anthropic's API.
struct AnthropicMessage;

impl MessageFormat for AnthropicMessage {
    fn content<'a, M: MapAccess<'a>>(map: &mut M, draft: &mut Draft<'a>) -> Result<(), M::Error> {
        content(map, &mut BlockList(draft))
    }
}

/// A message's text, or the elements of its content.
struct BlockList<'d, 'a>(&'d mut Draft<'a>);

impl<'a> Elements<'a> for BlockList<'_, 'a> {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let mut block = Block::new(self.0);
        let read = seq.next_element_seed(ObjectInto(&mut block))?;
        block.collect(self.0);
        Ok(read)
    }
}

impl<'a> TextOrElements<'a> for BlockList<'_, 'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.0.text(text);
    }
}

/// The elements of `tools`, written as a JSON array but for its end.
struct ToolList {
    out: Vec<u8>,
    /// Tools beyond so many bytes do not count; 0 where none does.
    room: usize,
}

impl<'a> Elements<'a> for ToolList {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let tool = seq.next_element::<Object<Tool<'a>>>()?;
        Ok(tool.map(|Object(tool)| {
            if self.out.len() < self.room {
                self.out.push(if self.out.is_empty() { b'[' } else { b',' });
                tool.write(&mut self.out);
            }
        }))
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
struct Block<'a> {
    kind: Cow<'a, str>,
    text: Cow<'a, str>,
    thinking: Cow<'a, str>,
    source: Object<Source<'a>>,
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    input: Option<Raw<'a>>,
    result: ToolResult<'a>,
}

impl<'a> Block<'a> {
    fn new(draft: &Draft<'a>) -> Self {
        Self {
            kind: Cow::Borrowed(""),
            text: Cow::Borrowed(""),
            thinking: Cow::Borrowed(""),
            source: Object::default(),
            id: Cow::Borrowed(""),
            name: Cow::Borrowed(""),
            input: None,
            result: ToolResult::new(draft),
        }
    }
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
            "content" => {
                self.result = ToolResult::new(&self.result.texts);
                map.next_value_seed(ContentInto(&mut self.result))?;
            }
            "tool_use_id" => drop(json::text(map)?),
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
            "thinking" => draft.text(self.thinking),
            "image" => {
                let Object(source) = &self.source;
                if !source.url.is_empty() {
                    draft.media(MediaItem::image(&source.url, &draft.images));
                } else if !source.data.is_empty() {
                    draft.media(MediaItem::image_data(&source.data, &draft.images));
                }
            }
            "tool_use" => {
                draft.text(self.id);
                draft.text(self.name);
                if let Some(input) = self.input {
                    match canonical::compact(input.0) {
                        Cow::Borrowed(_) => draft.text(Cow::Borrowed(input.0)),
                        Cow::Owned(text) => draft.copied(&text),
                    }
                }
            }
            "tool_result" => {
                draft.append(self.result.texts);
                draft.append(self.result.images);
            }
            _ => {}
        }
    }
}

/// What a tool answered: the texts on lines of their own, then the images.
struct ToolResult<'a> {
    texts: Draft<'a>,
    images: Draft<'a>,
    any_text: bool,
}

impl<'a> ToolResult<'a> {
    fn new(draft: &Draft<'a>) -> Self {
        Self { texts: draft.another(), images: draft.another(), any_text: false }
    }
}

impl<'a> Elements<'a> for ToolResult<'a> {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let Some(Object(block)) = seq.next_element::<Object<ResultBlock<'a>>>()? else {
            return Ok(None);
        };
        let Object(source) = &block.source;
        if block.kind == "text" {
            if std::mem::replace(&mut self.any_text, true) {
                self.texts.copied(b"\n");
            }
            self.texts.text(block.text);
        } else if block.kind == "image" && self.images.is_wanted() {
            let rules = self.images.images;
            if !source.url.is_empty() {
                self.images.media(MediaItem::image(&source.url, &rules));
            } else if source.kind != "url" && !source.data.is_empty() {
                let (media_type, data) = (&source.media_type, &source.data);
                self.images.media(MediaItem::image_data_as_url(media_type, data, &rules));
            }
        }
        Ok(Some(()))
    }
}

impl<'a> TextOrElements<'a> for ToolResult<'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.texts.text(text);
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

impl<'a> Fields<'a> for ResultBlock<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "type" => self.kind = json::text(map)?,
            "text" => self.text = json::text(map)?,
            "source" => self.source = map.next_value()?,
            // Not read, but the reference checks the types.
            "thinking" | "id" | "name" | "tool_use_id" => drop(json::text(map)?),
            "content" => map.next_value_seed(ContentInto(&mut Unread))?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A content of which nothing is read, in which nothing but objects may stand.
#[derive(Default)]
struct Unread;

impl<'a> Fields<'a> for Unread {
    fn field<M: MapAccess<'a>>(&mut self, _: &str, _: &mut M) -> Result<bool, M::Error> {
        Ok(false)
    }
}

impl<'a> Elements<'a> for Unread {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        seq.next_element_seed(ObjectInto(self))
    }
}

impl<'a> TextOrElements<'a> for Unread {
    fn text(&mut self, _: Cow<'a, str>) {}
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
