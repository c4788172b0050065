use super::{Prompt, RequestData};
use crate::clock::Timestamp;
use crate::headers::{self, Headers};

/// Fairness id of requests that name none (llm-d-router main at ebab6879).
pub const DEFAULT_FAIRNESS_ID: &str = "default-flow";

/// One request as plugins see it.
#[derive(Clone, Debug, Default)]
pub struct InferenceRequest {
    /// `x-request-id`.
    pub id: String,
    /// The model the client asked for; empty where it named none.
    pub incoming_model: String,
    /// The model the endpoint is asked for, after any rewrite. A LoRA adapter is a model of its
    /// own.
    pub target_model: String,
    /// The body's `cache_salt`: requests with different salts share no prefix.
    pub cache_salt: String,
    pub headers: Headers,
    pub prompt: Prompt,
    /// The body's cap on output tokens.
    pub max_output_tokens: Option<u64>,
    /// The body asks for a stream.
    pub stream: bool,
    /// Size of the body as it is forwarded, bytes.
    pub body_bytes: usize,
    /// Larger is more important; negative may be shed.
    pub priority: i32,
    /// Whose request it is by what a plugin found, where the headers do not say.
    pub flow: Option<String>,
    /// Rather no answer than one from an endpoint that holds nothing of the prompt.
    pub cached_only: bool,
    /// Its decision is to be taken down step by step, whatever share of them is.
    pub explained: bool,
    /// What processors keep of it until it has ended.
    pub kept: RequestData,
    /// When its headers came.
    pub received_at: Timestamp,
}

impl InferenceRequest {
    /// Whose request it is, for fair shares; [`DEFAULT_FAIRNESS_ID`] where nobody says.
    pub fn fairness_id(&self) -> &str {
        let said = self.headers.named(headers::FAIRNESS_ID).or(self.flow.as_deref());
        said.unwrap_or(DEFAULT_FAIRNESS_ID)
    }

    /// The name of the objective that the request is to be served under.
    pub fn objective(&self) -> Option<&str> {
        self.headers.named(headers::OBJECTIVE)
    }
}
