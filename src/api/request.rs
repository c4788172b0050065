//! What is read of a request.

use bytes::Bytes;

use super::media::MediaItem;
use super::model::ModelPlace;
use super::vertex_method::VertexMethod;
use crate::error::RequestError;
use crate::scheduling::Prompt;

/// The API of a request; its response reports usage in the same family's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI `completions`.
    Completions,
    /// OpenAI `chat/completions`.
    Chat,
    /// OpenAI `responses`.
    Responses,
    /// OpenAI `conversations`.
    Conversations,
    /// OpenAI `embeddings`.
    Embeddings,
    /// OpenAI `images/generations`.
    Images,
    /// Anthropic `messages`.
    Messages,
    /// Anthropic `messages/count_tokens`.
    CountTokens,
    /// vLLM `inference/v1/generate`.
    VllmGenerate,
    /// SGLang `generate`.
    SglangGenerate,
    /// vLLM's gRPC method `Generate`.
    VllmGrpcGenerate,
    /// vLLM's gRPC method `Embed`.
    VllmGrpcEmbed,
    /// A gRPC method of Vertex AI with a JSON body of OpenAI's.
    Vertex(VertexMethod),
    /// A gRPC method of a parser that does not read it; the response is the gateway's to finish.
    Unread,
    /// Anything else, forwarded unread.
    Passthrough,
}

impl Api {
    /// True where bodies are gRPC messages, which say how long they are: no name in one can be
    /// replaced by another.
    pub const fn is_grpc(self) -> bool {
        matches!(self, Api::VllmGrpcGenerate | Api::VllmGrpcEmbed | Api::Vertex(_) | Api::Unread)
    }
}

/// What scheduling needs of a request, read in one pass over its body.
#[derive(Clone, Debug)]
pub struct ParsedRequest {
    pub api: Api,
    /// The model asked for; `None` where the body names none, an empty one or one that is no
    /// string.
    pub model: Option<String>,
    /// The API's requests name a model, and the body can be given another. A request without one,
    /// and without a rewrite that supplies one, is to be refused.
    pub model_required: bool,
    /// What counts for prefix matching; empty where it was not asked for.
    pub prompt: Prompt,
    /// The images, videos and sounds in the prompt, in order; empty where it was not asked for.
    pub media: Vec<MediaItem>,
    /// The body asks for a stream.
    pub stream: bool,
    /// The body's cap on output tokens.
    pub max_output_tokens: Option<u64>,
    /// Requests with different salts share no prefix.
    pub cache_salt: String,
    /// The response is the gateway's alone to finish (`count_tokens`).
    pub skip_response: bool,
    pub(super) model_place: ModelPlace,
}

impl ParsedRequest {
    /// A request whose body nobody read.
    pub fn unseen() -> Self {
        Self {
            api: Api::Passthrough,
            model: None,
            model_required: false,
            prompt: Prompt::default(),
            media: Vec::new(),
            stream: false,
            max_output_tokens: None,
            cache_salt: String::new(),
            skip_response: false,
            model_place: ModelPlace::None,
        }
    }

    /// The body with `target` for its model, every other byte as it came. `body` is the one this
    /// was parsed from. A body that names no model gets the field; one that is forwarded unread
    /// stays as it is. Of several `model` keys the last one changes, which is the one that counts.
    ///
    /// # Errors
    ///
    /// `PayloadTooLarge` where the result would be larger than `limit` bytes.
    pub fn with_model(
        &self,
        body: &Bytes,
        target: &str,
        limit: usize,
    ) -> Result<Bytes, RequestError> {
        self.model_place.fill(body, target, limit)
    }
}
