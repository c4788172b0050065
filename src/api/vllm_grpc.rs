//! vLLM's gRPC API: `vllm.grpc.engine.VllmEngine/Generate` and `/Embed`.
//!
//! Texts and rules are those of llm-d-router main at ebab6879, `vllmgrpc-parser`. The body is
//! forwarded as it came: its messages name no model.

use bytes::Bytes;
use prost::Message;

use super::body::Wanted;
use super::grpc;
use super::media::MediaItem;
use super::proto::vllm::generate_request::Input;
use super::proto::vllm::generate_response::Response;
use super::proto::vllm::{EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse};
use super::proto_fields::{Malformed, Value, fields, varints};
use super::request::{Api, ParsedRequest};
use super::usage::{self, Usage};
use crate::error::RequestError;
use crate::scheduling::PromptBuilder;

/// Token ids of one request: a byte each on the wire, but four in a prompt.
const MAX_IDS: usize = 8 << 20;
/// Media items that are remembered of one request.
const MAX_ITEMS: usize = 4096;

fn refused(text: impl Into<std::borrow::Cow<'static, str>>) -> RequestError {
    RequestError::bad_request(text)
}

fn decode<M: Message + Default>(name: &str, body: &Bytes) -> Result<M, RequestError> {
    let message =
        grpc::message(body).map_err(|_| refused("invalid or unsupported gRPC payload"))?;
    M::decode(message).map_err(|error| refused(format!("unmarshaling {name}: {error}")))
}

/// Reads a `GenerateRequest`.
pub(super) fn generate(body: &Bytes, wanted: Wanted<'_>) -> Result<ParsedRequest, RequestError> {
    const NAME: &str = "GenerateRequest";
    let request: GenerateRequest = decode(NAME, body)?;
    let mut prompt = PromptBuilder::new(body.clone());
    let mut media = Vec::new();
    match request.input {
        None => return Err(refused("not supported request inputType")),
        // Decoded as bytes; a `string` is UTF-8.
        Some(Input::Text(text)) if std::str::from_utf8(&text).is_err() => {
            return Err(refused(format!("unmarshaling {NAME}: text is not UTF-8")));
        }
        Some(Input::Text(text)) => prompt.text(&text),
        Some(Input::Tokenized(tokenized)) => {
            // Only beside token ids is it known where the items stand.
            media = items(&request.mm_inputs).map_err(|Malformed| malformed(NAME))?;
            if !media.is_empty() {
                prompt.media(0, 0);
            }
            add_ids(NAME, &tokenized, wanted, &mut prompt)?;
        }
    }
    let parsed = ParsedRequest {
        api: Api::VllmGrpcGenerate,
        stream: request.stream,
        max_output_tokens: request.sampling_params.and_then(|p| p.max_tokens).map(u64::from),
        ..ParsedRequest::unseen()
    };
    if !wanted.prompt {
        return Ok(parsed);
    }
    Ok(ParsedRequest { prompt: prompt.finish(), media, ..parsed })
}

/// Reads an `EmbedRequest`.
pub(super) fn embed(body: &Bytes, wanted: Wanted<'_>) -> Result<ParsedRequest, RequestError> {
    const NAME: &str = "EmbedRequest";
    let request: EmbedRequest = decode(NAME, body)?;
    let Some(tokenized) = request.tokenized else {
        return Err(refused("missing tokenized input in EmbedRequest"));
    };
    let mut prompt = PromptBuilder::new(body.clone());
    add_ids(NAME, &tokenized, wanted, &mut prompt)?;
    let prompt = prompt.finish();
    Ok(ParsedRequest { api: Api::VllmGrpcEmbed, prompt, ..ParsedRequest::unseen() })
}

fn malformed(name: &str) -> RequestError {
    refused(format!("unmarshaling {name}: malformed message"))
}

/// Checks the ids of a `TokenizedInput`, and adds them to `prompt` where it is wanted.
fn add_ids(
    name: &str,
    tokenized: &[u8],
    wanted: Wanted<'_>,
    prompt: &mut PromptBuilder,
) -> Result<(), RequestError> {
    let mut count = 0usize;
    for field in fields(tokenized) {
        count += match field.map_err(|Malformed| malformed(name))? {
            (2, Value::Varint(_)) => 1,
            (2, Value::Bytes(packed)) => {
                let all_read = varints(packed).all(|id| id.is_ok());
                if !all_read {
                    return Err(malformed(name));
                }
                varints(packed).count()
            }
            _ => 0,
        };
    }
    if count > MAX_IDS {
        return Err(refused(format!("invalid {name}: more than {MAX_IDS} token ids")));
    }
    if wanted.prompt {
        prompt.reserve(size_of::<u32>() * count);
        prompt.tokens(ids(tokenized));
    }
    Ok(())
}

/// The ids of a `TokenizedInput` that is known to be well formed: numbers in lists or one by one.
fn ids(tokenized: &[u8]) -> impl Iterator<Item = u32> {
    fields(tokenized).flatten().filter(|(number, _)| *number == 2).flat_map(|(_, value)| {
        let (packed, single) = match value {
            Value::Bytes(packed) => (packed, None),
            Value::Varint(id) => (&[][..], Some(id)),
            Value::Other => (&[][..], None),
        };
        // Of a larger number the lower bits count, as everywhere in protobuf.
        varints(packed).flatten().chain(single).map(|id| id as u32)
    })
}

/// The items of a `MultimodalInputs` that have a hash. A placeholder without one is of no known
/// item; hashes and placeholders stand in the same order.
fn items(inputs: &[u8]) -> Result<Vec<MediaItem>, Malformed> {
    let (mut hashes, mut lengths) = (Vec::new(), Vec::new());
    for field in fields(inputs) {
        match field? {
            (5, Value::Bytes(placeholder)) if lengths.len() < MAX_ITEMS => {
                lengths.push(length(placeholder)?);
            }
            (6, Value::Bytes(hash)) if hashes.len() < MAX_ITEMS => hashes.push(hash),
            _ => {}
        }
    }
    let placed = hashes.into_iter().zip(lengths).filter(|(hash, _)| !hash.is_empty());
    Ok(placed.map(|(hash, length)| MediaItem::named(hash, length)).collect())
}

/// The length of a `PlaceholderRange`.
fn length(placeholder: &[u8]) -> Result<u32, Malformed> {
    let mut length = 0;
    for field in fields(placeholder) {
        if let (2, Value::Varint(tokens)) = field? {
            length = tokens as u32;
        }
    }
    Ok(length)
}

/// The counts in one message of an answer to `Generate`.
pub(super) fn usage_of_generate(message: &[u8]) -> Option<Usage> {
    let (prompt, completion, cached) = match GenerateResponse::decode(message).ok()?.response? {
        Response::Chunk(chunk) => {
            (chunk.prompt_tokens, chunk.completion_tokens, chunk.cached_tokens)
        }
        Response::Complete(all) => (all.prompt_tokens, all.completion_tokens, all.cached_tokens),
    };
    // The pieces before the last say nothing.
    (prompt > 0 || completion > 0).then(|| usage::of_counts(prompt, completion, Some(cached)))
}

/// The counts in an answer to `Embed`.
pub(super) fn usage_of_embed(message: &[u8]) -> Option<Usage> {
    let prompt = EmbedResponse::decode(message).ok()?.prompt_tokens;
    (prompt > 0).then(|| usage::of_counts(prompt, 0, None))
}
