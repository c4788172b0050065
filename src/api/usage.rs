//! Token counts in a response, in the forms of the API families.

use std::borrow::Cow;

use serde::de::MapAccess;

use super::json::{self, Fields, Object, Raw};
use super::request::Api;

/// The largest count that is believed, tokens. A worker that says more, or less than 0, says
/// nothing: one such count in a sum or a histogram would hide every other for good.
const MAX_COUNT: u64 = u32::MAX as u64;

/// The token counts that a worker reported; each at most 2^32 - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Prompt tokens found in the worker's cache; `None` where it does not say.
    pub cached_tokens: Option<u64>,
}

impl Usage {
    /// Takes over what a later report says: counts that are not zero, the cached count if it has
    /// one.
    pub(super) fn merge(&mut self, report: Usage) {
        if report.prompt_tokens > 0 {
            self.prompt_tokens = report.prompt_tokens;
        }
        if report.completion_tokens > 0 {
            self.completion_tokens = report.completion_tokens;
        }
        self.cached_tokens = report.cached_tokens.or(self.cached_tokens);
    }
}

/// A text without which a JSON value of this API reports nothing; `None` for an API that never
/// reports.
pub(super) fn mark(api: Api) -> Option<&'static str> {
    match api {
        Api::Passthrough | Api::CountTokens | Api::Unread => None,
        // Every event of a stream has counts; those of the last one, which says why it ended,
        // are complete.
        Api::SglangGenerate => Some("\"finish_reason\""),
        // Counts are fields of a message: any message may hold them.
        Api::VllmGrpcGenerate | Api::VllmGrpcEmbed => Some(""),
        _ => Some("\"usage\""),
    }
}

/// Counts of 32 bits, as gRPC messages have them, which are believed.
pub(super) fn of_counts(prompt: u32, completion: u32, cached: Option<u32>) -> Usage {
    Usage {
        prompt_tokens: prompt.into(),
        completion_tokens: completion.into(),
        cached_tokens: cached.map(u64::from),
    }
}

/// The counts in a JSON value that was not streamed.
pub(super) fn of_response(api: Api, json: &[u8]) -> Option<Usage> {
    let response = read(json)?;
    match api {
        Api::Passthrough | Api::CountTokens | Api::Unread => None,
        Api::SglangGenerate => response.meta_info.and_then(|meta| meta.0.usage()),
        Api::Messages => response.usage.map(|usage| usage.0.anthropic()),
        _ => response.usage.map(|usage| usage.0.openai()),
    }
}

/// The counts in one event of a stream.
pub(super) fn of_event(api: Api, json: &[u8]) -> Option<Usage> {
    let event = read(json)?;
    let kind = event.kind.map(|kind| kind.0);
    match api {
        Api::Passthrough | Api::CountTokens | Api::Unread => None,
        Api::SglangGenerate => {
            let meta = event.meta_info?.0;
            meta.finish_reason?;
            meta.usage()
        }
        Api::Messages => match kind? {
            // The prompt's counts at the start, the answer's as it goes on.
            "\"message_start\"" => {
                let counts = event.message?.0.usage?.0;
                Some(Usage { completion_tokens: 0, ..counts.anthropic() })
            }
            "\"message_delta\"" => {
                let completion_tokens = event.usage?.0.output_tokens.unwrap_or(0);
                Some(Usage { completion_tokens, ..Usage::default() })
            }
            _ => None,
        },
        _ => match (event.usage, kind) {
            (Some(usage), _) => Some(usage.0.openai()),
            (None, Some("\"response.completed\"")) => {
                event.response?.0.usage.map(|usage| usage.0.openai())
            }
            _ => None,
        },
    }
}

/// The tokens of the answer by one event of a stream whose events all say so.
pub(super) fn running(api: Api, json: &[u8]) -> Option<u64> {
    if api != Api::SglangGenerate {
        return None;
    }
    read(json)?.meta_info?.0.completion_tokens
}

fn read(json: &[u8]) -> Option<Response<'_>> {
    serde_json::from_slice::<Object<Response<'_>>>(json).ok().map(|response| response.0)
}

/// The fields of a response, or of an event of one, in any family.
#[derive(Default)]
struct Response<'a> {
    usage: Option<Object<Counts>>,
    /// `type`, as it stands in the text.
    kind: Option<Raw<'a>>,
    /// The response inside an event of the Responses API.
    response: Option<Object<Inner>>,
    /// The message inside an event of Anthropic's API.
    message: Option<Object<Inner>>,
    meta_info: Option<Object<MetaInfo<'a>>>,
}

impl<'a> Fields<'a> for Response<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "usage" => self.usage = map.next_value()?,
            "type" => self.kind = Some(map.next_value()?),
            "response" => self.response = inner(map)?,
            "message" => self.message = inner(map)?,
            "meta_info" => self.meta_info = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads an object that may hold a usage; a value of another type holds none.
fn inner<'a, M: MapAccess<'a>>(map: &mut M) -> Result<Option<Object<Inner>>, M::Error> {
    Ok(json::read(map.next_value::<Raw<'a>>()?.0).ok())
}

#[derive(Default)]
struct Inner {
    usage: Option<Object<Counts>>,
}

impl<'a> Fields<'a> for Inner {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        if key == "usage" {
            self.usage = map.next_value()?;
        }
        Ok(key == "usage")
    }
}

/// A `usage` object under the names of OpenAI's older and newer APIs and of Anthropic's.
#[derive(Default)]
struct Counts {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
    prompt_tokens_details: Details,
    input_tokens_details: Details,
    cache_read_input_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Counts {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "prompt_tokens" => self.prompt_tokens = count(map)?,
            "input_tokens" => self.input_tokens = count(map)?,
            "completion_tokens" => self.completion_tokens = count(map)?,
            "output_tokens" => self.output_tokens = count(map)?,
            "prompt_tokens_details" => self.prompt_tokens_details = details(map)?,
            "input_tokens_details" => self.input_tokens_details = details(map)?,
            "cache_read_input_tokens" => self.cache_read_input_tokens = count(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Counts {
    fn openai(self) -> Usage {
        let cached = (self.prompt_tokens_details, self.input_tokens_details);
        Usage {
            prompt_tokens: self.prompt_tokens.or(self.input_tokens).unwrap_or(0),
            completion_tokens: self.completion_tokens.or(self.output_tokens).unwrap_or(0),
            cached_tokens: cached.1.cached_tokens.or(cached.0.cached_tokens),
        }
    }

    fn anthropic(self) -> Usage {
        Usage {
            prompt_tokens: self.input_tokens.unwrap_or(0),
            completion_tokens: self.output_tokens.unwrap_or(0),
            cached_tokens: self.cache_read_input_tokens,
        }
    }
}

/// How the prompt's tokens split up.
#[derive(Default)]
struct Details {
    cached_tokens: Option<u64>,
}

impl<'a> Fields<'a> for Details {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        if key == "cached_tokens" {
            self.cached_tokens = count(map)?;
        }
        Ok(key == "cached_tokens")
    }
}

fn details<'a, M: MapAccess<'a>>(map: &mut M) -> Result<Details, M::Error> {
    let raw = map.next_value::<Raw<'a>>()?;
    Ok(json::read::<Object<Details>>(raw.0).map(|details| details.0).unwrap_or_default())
}

/// SGLang's counts.
#[derive(Default)]
struct MetaInfo<'a> {
    finish_reason: Option<Raw<'a>>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    cached_tokens: Option<u64>,
}

impl<'a> Fields<'a> for MetaInfo<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "finish_reason" => self.finish_reason = json::present(map)?,
            "prompt_tokens" => self.prompt_tokens = count(map)?,
            "completion_tokens" => self.completion_tokens = count(map)?,
            "cached_tokens" => self.cached_tokens = count(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl MetaInfo<'_> {
    fn usage(self) -> Option<Usage> {
        if self.prompt_tokens.is_none() && self.completion_tokens.is_none() {
            return None;
        }
        Some(Usage {
            prompt_tokens: self.prompt_tokens.unwrap_or(0),
            completion_tokens: self.completion_tokens.unwrap_or(0),
            cached_tokens: self.cached_tokens,
        })
    }
}

/// Reads a count: a number or a string of one; null is none, anything else, and what is not
/// believed, counts zero.
fn count<'a, M: MapAccess<'a>>(map: &mut M) -> Result<Option<u64>, M::Error> {
    let Some(raw) = json::present(map)? else { return Ok(None) };
    let text: Cow<'_, str> = raw.string().unwrap_or(Cow::Borrowed(raw.0));
    // Fractions are cut; what is negative, or no number, becomes zero.
    let count = match text.parse::<u64>() {
        Ok(count) => count,
        Err(_) => text.parse::<f64>().map_or(0, |count| count as u64),
    };
    Ok(Some(if count > MAX_COUNT { 0 } else { count }))
}
