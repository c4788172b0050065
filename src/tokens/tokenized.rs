use std::sync::Arc;

use super::PromptTokens;
use crate::scheduling::RequestDatum;

/// The prompts of a request in the engine's token ids, as a `token-producer` found them.
#[derive(Clone, Debug)]
pub struct TokenizedPrompt {
    /// `None` where they could not be had: whoever needs them goes without.
    pub prompts: Option<Arc<[PromptTokens]>>,
}

impl RequestDatum for TokenizedPrompt {
    const PRODUCER: &'static str = "token producer";
    const DEFAULT_PRODUCER: Option<&'static str> = Some("token-producer");
}
