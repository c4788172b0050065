//! From a JSON body to a [`ParsedRequest`]: what all families do alike.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::MapAccess;

use super::json::{self, Failure, Fields, Object, Raw};
use super::model::ModelPlace;
use super::request::{Api, ParsedRequest};
use crate::error::RequestError;
use crate::scheduling::{Prompt, PromptBuilder};

/// One family's view of a request body.
pub(super) trait RequestBody<'a>: Fields<'a> {
    /// Stands before the text of a JSON error.
    const SYNTAX_PREFIX: &'static str = "error unmarshaling request bodyMap: ";

    /// The body is forwarded as it came whatever the target model: it names no model.
    const RAW: bool = false;

    /// `stream` has to be a boolean; elsewhere anything but `true` is no stream.
    const STREAM_CHECKED: bool = false;

    /// What to answer when a field has the wrong type. `error` is what the field's reader said.
    fn wrong_type(error: &str) -> Cow<'static, str>;

    /// Checks that what the API requires is there.
    fn validate(&self) -> Result<(), Cow<'static, str>>;

    /// The cap on output tokens, if the body has one.
    fn max_output_tokens(&self) -> Option<u64> {
        None
    }

    /// Requests with different salts share no prefix.
    fn cache_salt(&self) -> &str;

    /// Adds what counts for prefix matching, in the order of the reference.
    fn collect(&self, prompt: &mut PromptBuilder);
}

/// The fields that every API has, around a family's own.
#[derive(Default)]
struct Envelope<'a, B> {
    body: B,
    /// The last value of `model`, should the key stand twice.
    model: Option<Raw<'a>>,
    stream: bool,
}

impl<'a, B: RequestBody<'a>> Fields<'a> for Envelope<'a, B> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "model" => self.model = Some(map.next_value()?),
            // Anything but the boolean is no stream, and the worker's to refuse.
            "stream" if B::STREAM_CHECKED => {
                self.stream = map.next_value::<Option<bool>>()?.unwrap_or_default();
            }
            "stream" => self.stream = map.next_value::<Raw<'a>>()?.0 == "true",
            _ => return self.body.field(key, map),
        }
        Ok(true)
    }
}

/// Reads a body of family `B`. `want_prompt` false leaves the prompt empty; the checks are the
/// same.
pub(super) fn parse<'a, B: RequestBody<'a>>(
    api: Api,
    body: &'a Bytes,
    want_prompt: bool,
) -> Result<ParsedRequest, RequestError> {
    let read = json::check(body)
        .and_then(|text| Ok((text, json::read::<Object<Envelope<'a, B>>>(text)?.0)));
    let (text, envelope) = read.map_err(|failure| {
        RequestError::bad_request(match failure {
            Failure::Syntax(text) => Cow::Owned(format!("{}{text}", B::SYNTAX_PREFIX)),
            Failure::Type(error) => B::wrong_type(&error),
        })
    })?;
    let fields = envelope.body;
    fields.validate().map_err(RequestError::bad_request)?;
    let prompt = if want_prompt {
        let mut builder = PromptBuilder::new(body.clone());
        fields.collect(&mut builder);
        builder.finish()
    } else {
        Prompt::default()
    };
    let model = envelope.model.and_then(Raw::string);
    let model = model.filter(|model| !model.is_empty() && !B::RAW);
    Ok(ParsedRequest {
        api,
        model: model.map(Cow::into_owned),
        model_required: !B::RAW,
        prompt,
        stream: envelope.stream,
        max_output_tokens: fields.max_output_tokens(),
        cache_salt: fields.cache_salt().to_owned(),
        skip_response: false,
        model_place: if B::RAW {
            ModelPlace::None
        } else {
            ModelPlace::new(text, envelope.model.map(|raw| raw.0))
        },
    })
}
