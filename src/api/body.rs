//! From a JSON body to a [`ParsedRequest`]: what all families do alike.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::MapAccess;

use super::draft::Draft;
use super::estimate::{EstimateRules, VideoHints};
use super::json::{self, Failure, Fields, Raw};
use super::media::MediaItem;
use super::model::ModelPlace;
use super::request::{Api, ParsedRequest};
use crate::error::RequestError;
use crate::scheduling::PromptBuilder;

/// What is to be read of a body beside what its API requires.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'r> {
    /// False leaves the prompt empty; the checks are the same.
    pub prompt: bool,
    pub rules: &'r EstimateRules,
    pub video: &'r VideoHints,
}

/// One family's view of a request body.
pub(super) trait RequestBody<'a>: Fields<'a> + Default {
    /// Stands before the text of a JSON error.
    const SYNTAX_PREFIX: &'static str = "error unmarshaling request bodyMap: ";

    /// The body is forwarded as it came whatever the target model: it names no model.
    const RAW: bool = false;

    /// `stream` has to be a boolean; elsewhere anything but `true` is no stream.
    const STREAM_CHECKED: bool = false;

    /// Called before the first field, with the draft of the prompt. Families whose prompt is many
    /// small values write to it as they read them.
    fn begin(&mut self, _draft: Draft<'a>) {}

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

    /// Adds what counts for prefix matching, in the order of the reference. Returns the media items
    /// in it.
    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem>;
}

/// The fields that every API has, around a family's own.
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

/// Reads a body of family `B`.
pub(super) fn parse<'a, B: RequestBody<'a>>(
    api: Api,
    body: &'a Bytes,
    wanted: Wanted<'_>,
) -> Result<ParsedRequest, RequestError> {
    let mut envelope = Envelope { body: B::default(), model: None, stream: false };
    let read = json::check(body).and_then(|text| {
        envelope.body.begin(Draft::new(text, wanted.prompt, wanted.rules, wanted.video));
        json::read_into(text, &mut envelope)?;
        Ok(text)
    });
    let text = read.map_err(|failure| {
        RequestError::bad_request(match failure {
            Failure::Syntax(text) => Cow::Owned(format!("{}{text}", B::SYNTAX_PREFIX)),
            Failure::Type(error) => B::wrong_type(&error),
        })
    })?;
    let fields = envelope.body;
    fields.validate().map_err(RequestError::bad_request)?;
    let (max_output_tokens, cache_salt) =
        (fields.max_output_tokens(), fields.cache_salt().to_owned());
    let (prompt, media) = if wanted.prompt {
        let mut builder = PromptBuilder::new(body.clone());
        let media = fields.collect(&mut builder);
        (builder.finish(), media)
    } else {
        Default::default()
    };
    let model = envelope.model.and_then(Raw::string);
    let model = model.filter(|model| !model.is_empty() && !B::RAW);
    Ok(ParsedRequest {
        api,
        model: model.map(Cow::into_owned),
        model_required: !B::RAW,
        prompt,
        stream: envelope.stream,
        media,
        max_output_tokens,
        cache_salt,
        skip_response: false,
        model_place: if B::RAW {
            ModelPlace::None
        } else {
            ModelPlace::new(text, envelope.model.map(|raw| raw.0))
        },
    })
}
