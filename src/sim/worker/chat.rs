//! Conversations as text: a stand-in for a model's chat template (ChatML).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::media;

/// One message of a conversation; fields that are not text go into the prompt as they stand.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// The text of a field that is a string or a list of parts, each with a `text`, of a media type
/// that becomes as many tokens as it costs, or kept as JSON.
fn content_text(content: &RawValue) -> String {
    let json = content.get();
    if let Ok(text) = serde_json::from_str::<String>(json) {
        return text;
    }
    let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(json) else {
        return json.to_owned();
    };
    parts.into_iter().map(|part| media::part_text(part.get())).collect()
}

/// A conversation becoming a prompt. One that goes on has this prompt, the answer and the new
/// messages as its prompt, so the KV cache of each turn serves the next.
#[derive(Debug, Default)]
pub(super) struct Conversation(String);

impl Conversation {
    pub(super) fn new(tools: Option<&RawValue>, system: Option<&RawValue>) -> Self {
        let mut conversation = Self::default();
        if let Some(tools) = tools {
            conversation.turn("tools", tools.get());
        }
        if let Some(system) = system {
            conversation.turn("system", &content_text(system));
        }
        conversation
    }

    pub(super) fn with(mut self, messages: &[Message<'_>]) -> Self {
        for message in messages {
            self.message(message);
        }
        self
    }

    pub(super) fn message(&mut self, message: &Message<'_>) {
        let mut text = message.content.map(content_text).unwrap_or_default();
        text.push_str(message.tool_calls.map_or("", RawValue::get));
        self.turn(&message.role, &text);
    }

    pub(super) fn turn(&mut self, role: &str, text: &str) {
        for part in ["<|im_start|>", role, "\n", text, "<|im_end|>\n"] {
            self.0.push_str(part);
        }
    }

    /// The prompt that asks for the assistant's next turn.
    pub(super) fn into_prompt(self) -> String {
        self.0 + "<|im_start|>assistant\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(messages: &str) -> String {
        let messages: Vec<Message> = serde_json::from_str(messages).expect("messages");
        Conversation::default().with(&messages).into_prompt()
    }

    #[test]
    fn contents_of_every_shape_become_text() {
        for (content, text) in [
            (r#""hi \"you\"""#, "hi \"you\""),
            (r#"[{"type":"text","text":"a"},{"text":"b\n"}]"#, "ab\n"),
            (r#"[{"type":"tool_result","id":7}]"#, r#"{"type":"tool_result","id":7}"#),
            ("null", ""),
            ("7", "7"),
        ] {
            let expected = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
            assert_eq!(prompt(&format!(r#"[{{"role":"user","content":{content}}}]"#)), expected);
        }
    }

    #[test]
    fn a_prompt_and_its_answer_begin_the_next_prompt() {
        let first = prompt(r#"[{"role":"user","content":"a"}]"#);
        let next = prompt(
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":"ANSWER"},
                {"role":"user","content":"b"}]"#,
        );
        assert!(next.starts_with(&format!("{first}ANSWER")), "{next}");
    }

    #[test]
    fn tool_calls_and_tools_are_part_of_the_prompt() {
        let messages: Vec<Message> =
            serde_json::from_str(r#"[{"role":"assistant","tool_calls":[{"id":"1"}]}]"#)
                .expect("messages");
        let tools: Box<RawValue> = serde_json::from_str(r#"[{"name":"f"}]"#).expect("tools");
        let text = Conversation::new(Some(&tools), None).with(&messages).into_prompt();
        assert!(text.contains(r#"[{"name":"f"}]"#) && text.contains(r#"[{"id":"1"}]"#), "{text}");
    }
}
