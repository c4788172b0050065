//! Request and response bodies, one file per API family.
//!
//! [`Parsers`] finds out by the path what a request is and reads its body once, borrowing from it
//! ([`ParsedRequest`]); the body is forwarded as it came, but for the model's name where a rewrite
//! asks for another. On the way back [`ResponseReader`] reads the usage off the stream and
//! [`ModelRenamer`] puts the client's model name in again.
//!
//! To read on: `parsers.rs` (path to API), `body.rs` (what all families do alike), `json.rs` (how
//! fields are read), then a family: `chat.rs`, `openai.rs`, `messages.rs`, `generate.rs`, and over
//! gRPC `vllm_grpc.rs`, `vertex.rs`. The
//! rules and texts are those of llm-d-router main at ebab6879.

mod body;
mod canonical;
mod chat;
mod draft;
mod error_shape;
mod estimate;
mod generate;
mod grpc;
mod input;
mod json;
mod media;
mod message_list;
mod messages;
mod model;
mod numbers;
mod openai;
mod parsers;
mod proto;
mod proto_fields;
mod rename;
mod request;
mod response;
mod scan;
mod sse;
mod surrogates;
mod tally;
mod token_ids;
mod usage;
mod usage_request;
mod vertex;
mod vertex_method;
mod vllm_grpc;

#[cfg(test)]
mod tests;

pub use error_shape::error_shape;
pub use estimate::{
    EstimateRules, Frames, ImageRules, PerPicture, Resolution, VideoHints, VideoRules,
};
pub use media::MediaItem;
#[cfg(feature = "sim")]
pub(crate) use media::size as image_size;
pub use parsers::{ParserKind, Parsers};
pub use rename::ModelRenamer;
pub use request::{Api, ParsedRequest};
pub use response::ResponseReader;
pub use usage::Usage;
pub use usage_request::{UsageRemover, with_usage};
pub use vertex_method::VertexMethod;
