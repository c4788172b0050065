//! The workers' own APIs that take token ids: vLLM `inference/v1/generate`, SGLang `generate`.

use std::borrow::Cow;

use serde::de::{MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer};
use xxhash_rust::xxh64::xxh64;

use super::body::RequestBody;
use super::json::{self, Each, Elements, Fields, Object, ObjectInto, Raw, Text};
use super::media::MediaItem;
use super::token_ids::{Problem, TokenIds};
use crate::scheduling::PromptBuilder;

/// vLLM `inference/v1/generate`.
#[derive(Default)]
pub(super) struct VllmGenerate<'a> {
    token_ids: Option<TokenIds<'a>>,
    features: Object<Features>,
    cache_salt: Cow<'a, str>,
    sampling_params: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for VllmGenerate<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "token_ids" => self.token_ids = json::present(map)?.map(|raw| TokenIds::of(raw.0)),
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
            None if token_ids.count == 0 => Err(EMPTY.into()),
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
    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        let Object(features) = &self.features;
        if features.hashes.any {
            prompt.media(0, 0);
        }
        if let Some(token_ids) = &self.token_ids {
            token_ids.collect(prompt);
        }
        features.items()
    }
}

/// What a prompt holds beside text. The items of a modality stand in the same order under both
/// names.
#[derive(Default)]
struct Features {
    hashes: ByModality<Hash>,
    placeholders: ByModality<Placeholder>,
}

impl<'a> Fields<'a> for Features {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "mm_hashes" => {
                self.hashes = ByModality::default();
                map.next_value_seed(ObjectInto(&mut self.hashes))?;
            }
            "mm_placeholders" => {
                self.placeholders = ByModality::default();
                map.next_value_seed(ObjectInto(&mut self.placeholders))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Features {
    /// The items that have a hash, each with the length of its placeholder, if that is known.
    fn items(&self) -> Vec<MediaItem> {
        let mut items = Vec::with_capacity(self.hashes.items.len());
        let (mut of, mut lengths) = (None, [].iter());
        for (modality, Hash(hash)) in &self.hashes.items {
            if of != Some(*modality) {
                of = Some(*modality);
                let from = self.placeholders.items.iter().position(|(m, _)| m == modality);
                lengths =
                    self.placeholders.items[from.unwrap_or(self.placeholders.items.len())..].iter();
            }
            let placeholder = lengths.next().filter(|(m, _)| m == modality);
            let tokens = placeholder.map_or(0, |(_, placeholder)| placeholder.length);
            items.extend(hash.map(|hash| MediaItem { hash, tokens }));
        }
        items
    }
}

/// Lists by modality, in which anything may be null: `{"image": [T, ...]}`. All is checked, and
/// the first [`MAX_ITEMS`] are kept, each with the hash of its modality's name.
#[derive(Default)]
struct ByModality<T> {
    items: Vec<(u64, T)>,
    modality: u64,
    any: bool,
}

/// Media items that are remembered of one request.
const MAX_ITEMS: usize = 4096;

impl<'a, T: Deserialize<'a> + Default> Fields<'a> for ByModality<T> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        self.any = true;
        self.modality = xxh64(key.as_bytes(), 0);
        map.next_value_seed(Each(self))?;
        Ok(true)
    }
}

impl<'a, T: Deserialize<'a> + Default> Elements<'a> for ByModality<T> {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let Some(item) = seq.next_element::<Option<T>>()? else { return Ok(None) };
        if self.items.len() < MAX_ITEMS {
            self.items.push((self.modality, item.unwrap_or_default()));
        }
        Ok(Some(()))
    }
}

/// The hash of an item's own hash; none where that is null or empty.
#[derive(Default)]
struct Hash(Option<u64>);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(hash) = Text::deserialize(deserializer)?;
        Ok(Hash((!hash.is_empty()).then(|| MediaItem::named(hash.as_bytes(), 0).hash)))
    }
}

/// Where an item stands among the token ids.
#[derive(Default)]
struct Placeholder {
    length: u32,
}

impl<'a> Fields<'a> for Placeholder {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        let known = matches!(key, "offset" | "length");
        if known {
            let number = map.next_value::<Option<i64>>()?.unwrap_or(0);
            if key == "length" {
                self.length = u32::try_from(number).unwrap_or(0);
            }
        }
        Ok(known)
    }
}

impl<'de> Deserialize<'de> for Placeholder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(deserializer).map(|Object(placeholder)| placeholder)
    }
}

/// SGLang `generate`, with token ids for its input.
#[derive(Default)]
pub(super) struct SglangGenerate<'a> {
    input_ids: Option<TokenIds<'a>>,
    extra_key: Option<Raw<'a>>,
    /// `extra_key` as text, once it is known to be a string.
    cache_salt: Cow<'a, str>,
    sampling_params: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for SglangGenerate<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "input_ids" => self.input_ids = json::present(map)?.map(|raw| TokenIds::of(raw.0)),
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
            (Some(ids), _) if ids.count == 0 => {
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

    fn collect(self, prompt: &mut PromptBuilder) -> Vec<MediaItem> {
        if let Some(input_ids) = &self.input_ids {
            input_ids.collect(prompt);
        }
        Vec::new()
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
