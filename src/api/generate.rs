//! The workers' own APIs that take token ids: vLLM `inference/v1/generate`, SGLang `generate`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Error, MapAccess};

use super::body::RequestBody;
use super::json::{self, Fields, Object, Raw, Text};
use super::token_ids::{Problem, TokenIds};
use crate::scheduling::PromptBuilder;

/// vLLM `inference/v1/generate`.
#[derive(Default)]
pub(super) struct VllmGenerate<'a> {
    token_ids: Option<TokenIds>,
    features: Object<Features<'a>>,
    cache_salt: Cow<'a, str>,
    sampling_params: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for VllmGenerate<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "token_ids" => self.token_ids = map.next_value()?,
            "features" => self.features = map.next_value()?,
            "cache_salt" => self.cache_salt = json::text(map)?,
            "sampling_params" => self.sampling_params = json::present(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for VllmGenerate<'a> {
    // The reference passes on what its decoder says, as it is.
    const SYNTAX_PREFIX: &'static str = "";

    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid generate request: a field has the wrong type")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        const EMPTY: &str = "invalid generate request: must have non-empty token_ids field";
        let Some(token_ids) = &self.token_ids else { return Err(EMPTY.into()) };
        match token_ids.problem {
            Some(Problem::Value { index, value }) => {
                let value = float_in_g(value);
                Err(format!("invalid generate request: token_ids[{index}]: invalid value {value}")
                    .into())
            }
            Some(Problem::Type) => Err(Self::wrong_type("")),
            None if token_ids.ids.is_empty() => Err(EMPTY.into()),
            None => Ok(()),
        }
    }

    fn max_output_tokens(&self) -> Option<u64> {
        limit(self.sampling_params)?.max_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    /// The ids; images are among them by their placeholders.
    fn collect(&self, prompt: &mut PromptBuilder) {
        if self.features.0.mm_hashes.is_some_and(|hashes| hashes.0 != "{}") {
            prompt.media(0, 0);
        }
        if let Some(token_ids) = &self.token_ids {
            prompt.tokens(token_ids.ids.iter().copied());
        }
    }
}

/// What a prompt holds beside text.
#[derive(Default)]
struct Features<'a> {
    /// By modality, the hashes of its items.
    mm_hashes: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for Features<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "mm_hashes" => {
                self.mm_hashes = json::object(map)?;
                check::<Text<'a>, _>(self.mm_hashes)?;
            }
            "mm_placeholders" => check::<Object<Placeholder>, _>(json::object(map)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Checks the type of what an object holds by modality: lists of `T`, in which anything may be
/// null.
fn check<'a, T: Deserialize<'a>, E: Error>(by_modality: Option<Raw<'a>>) -> Result<(), E> {
    type ByModality<T> = BTreeMap<String, Option<Vec<Option<T>>>>;
    match by_modality.map(|raw| serde_json::from_str::<ByModality<T>>(raw.0)) {
        Some(Err(error)) => Err(Error::custom(error)),
        _ => Ok(()),
    }
}

/// Where an item stands among the token ids.
#[derive(Default)]
struct Placeholder;

impl<'a> Fields<'a> for Placeholder {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        let known = matches!(key, "offset" | "length");
        if known {
            map.next_value::<Option<i64>>()?;
        }
        Ok(known)
    }
}

/// SGLang `generate`, with token ids for its input.
#[derive(Default)]
pub(super) struct SglangGenerate<'a> {
    input_ids: Option<TokenIds>,
    extra_key: Option<Raw<'a>>,
    /// `extra_key` as text, once it is known to be a string.
    cache_salt: Cow<'a, str>,
    sampling_params: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for SglangGenerate<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "input_ids" => self.input_ids = map.next_value()?,
            "extra_key" => {
                self.extra_key = json::present(map)?;
                self.cache_salt = self.extra_key.and_then(Raw::string).unwrap_or_default();
            }
            "sampling_params" => self.sampling_params = json::present(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> RequestBody<'a> for SglangGenerate<'a> {
    const SYNTAX_PREFIX: &'static str = "invalid generate request: ";
    const RAW: bool = true;
    const STREAM_CHECKED: bool = true;

    fn wrong_type(_: &str) -> Cow<'static, str> {
        Cow::Borrowed("invalid generate request: a field has the wrong type")
    }

    fn validate(&self) -> Result<(), Cow<'static, str>> {
        Err(Cow::Borrowed(match (&self.input_ids, self.extra_key) {
            (None, _) => "invalid generate request: input_ids must be provided",
            (_, Some(key)) if !key.0.starts_with('"') => {
                "unsupported generate request: extra_key must be a string"
            }
            (Some(ids), _) if ids.problem.is_some() || ids.has_float => {
                "invalid generate request: input_ids must be an array of uint32 integers"
            }
            (Some(ids), _) if ids.ids.is_empty() => {
                "invalid generate request: input_ids cannot be empty"
            }
            _ => return Ok(()),
        }))
    }

    fn max_output_tokens(&self) -> Option<u64> {
        limit(self.sampling_params)?.max_new_tokens
    }

    fn cache_salt(&self) -> &str {
        &self.cache_salt
    }

    fn collect(&self, prompt: &mut PromptBuilder) {
        if let Some(input_ids) = &self.input_ids {
            prompt.tokens(input_ids.ids.iter().copied());
        }
    }
}

/// The limits that sampling parameters can set, under either worker's name.
#[derive(Default)]
struct SamplingParams {
    max_tokens: Option<u64>,
    max_new_tokens: Option<u64>,
}

impl<'a> Fields<'a> for SamplingParams {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "max_tokens" => self.max_tokens = map.next_value::<Raw<'a>>()?.count(),
            "max_new_tokens" => self.max_new_tokens = map.next_value::<Raw<'a>>()?.count(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The limits in sampling parameters, if those are an object; their types are the worker's to
/// check.
fn limit(sampling_params: Option<Raw<'_>>) -> Option<SamplingParams> {
    json::read::<Object<SamplingParams>>(sampling_params?.0).ok().map(|params| params.0)
}

/// A number as Go's `%v` prints a `float64`.
fn float_in_g(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once('e').map(|(digits, exponent)| (digits, exponent.parse::<i32>())) {
        Some((digits, Ok(exponent))) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_go() {
        for (value, text) in [
            (-1.0, "-1"),
            (1.5, "1.5"),
            (123_456.0, "123456"),
            (4_294_967_296.0, "4.294967296e+09"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
        ] {
            assert_eq!(float_in_g(value), text);
        }
    }
}
