use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

use super::render::{Render, RenderError, RenderPrompts, check_base};
use super::{PromptTokens, TokenizedPrompt};
use crate::endpoints::Pool;
use crate::scheduling::InferenceRequest;

/// Who turns prompts into token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renderer {
    /// The server at this URL.
    At(String),
    /// The endpoints of the pool themselves, any of them.
    Endpoints,
}

/// How long to wait for token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub text: Duration,
    /// The same for requests with images, video or audio.
    pub media: Duration,
}

/// Gets the token ids of requests.
#[derive(Debug)]
pub struct TokenSource {
    renderer: Renderer,
    patience: Patience,
    pool: OnceLock<Arc<Pool>>,
    client: OnceLock<Arc<dyn RenderPrompts>>,
    /// The last request got none: a change is worth a line in the log.
    fails: AtomicBool,
    asked: AtomicU64,
    failed: AtomicU64,
}

impl TokenSource {
    /// # Errors
    /// Where the URL is none that can be asked.
    pub fn new(renderer: Renderer, patience: Patience) -> Result<Self, RenderError> {
        if let Renderer::At(url) = &renderer {
            check_base(url)?;
        }
        Ok(Self::of(renderer, patience))
    }

    /// Asks the endpoints of the pool, any of them.
    pub fn of_endpoints(patience: Patience) -> Self {
        Self::of(Renderer::Endpoints, patience)
    }

    fn of(renderer: Renderer, patience: Patience) -> Self {
        Self {
            renderer,
            patience,
            pool: OnceLock::new(),
            client: OnceLock::new(),
            fails: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The pool whose endpoints may be asked.
    pub fn set_pool(&self, pool: &Arc<Pool>) {
        let _ = self.pool.set(pool.clone());
    }

    /// Who asks. Without, no request gets token ids.
    pub fn set_client(&self, client: &Arc<dyn RenderPrompts>) {
        let _ = self.client.set(client.clone());
    }

    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Requests that were asked for, and those of them that got no token ids.
    pub fn counts(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Token ids that stand in the request already.
    pub fn given(request: &InferenceRequest) -> Option<TokenizedPrompt> {
        let prompts = request.prompt.token_ids()?;
        let prompts = prompts.into_iter().map(|ids| PromptTokens { ids, media: Vec::new() });
        Some(TokenizedPrompt { prompts: Some(prompts.collect()) })
    }

    /// Asks for the token ids of `request`. `None` in the answer where there are none to be had.
    pub async fn tokenize(&self, request: &InferenceRequest) -> TokenizedPrompt {
        let none = TokenizedPrompt { prompts: None };
        let path = request.headers.get(":path").unwrap_or_default();
        let Some(kind) = Render::of(path) else { return none };
        let (Some(base), Some(client)) = (self.base(), self.client.get()) else { return none };
        let Some(body) = body_for_target(request) else { return none };
        let has_media = request.prompt.has_media();
        let patience = if has_media { self.patience.media } else { self.patience.text };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let result = client.render(base.clone(), kind, body, patience).await;
        self.note(&base, result.as_ref().err());
        TokenizedPrompt { prompts: result.ok() }
    }

    fn base(&self) -> Option<String> {
        match &self.renderer {
            Renderer::At(url) => Some(url.clone()),
            Renderer::Endpoints => {
                let snapshot = self.pool.get()?.snapshot();
                let endpoint = fastrand::choice(&snapshot.endpoints)?;
                Some(format!("http://{}", endpoint.host_port))
            }
        }
    }

    fn note(&self, base: &str, error: Option<&RenderError>) {
        self.failed.fetch_add(u64::from(error.is_some()), Ordering::Relaxed);
        let failed_before = self.fails.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !failed_before => {
                warn!(renderer = base, %error, "prompts cannot be turned into token ids; what endpoints hold is estimated");
            }
            None if failed_before => {
                info!(renderer = base, "prompts are turned into token ids again")
            }
            _ => {}
        }
    }
}

/// The body as the endpoint will get it. Renderers know the model by the name that it is served
/// under, which is not the client's where a rule rewrote that.
fn body_for_target(request: &InferenceRequest) -> Option<Bytes> {
    let body = request.prompt.body();
    if body.is_empty() {
        return None;
    }
    if request.incoming_model == request.target_model {
        return Some(body.clone());
    }
    let mut fields: std::collections::BTreeMap<&str, &serde_json::value::RawValue> =
        serde_json::from_slice(body).ok()?;
    let model = serde_json::value::to_raw_value(&request.target_model).ok()?;
    fields.insert("model", &model);
    serde_json::to_vec(&fields).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::PromptBuilder;

    fn request(body: &'static str, incoming: &str, target: &str) -> InferenceRequest {
        let mut prompt = PromptBuilder::new(Bytes::from_static(body.as_bytes()));
        prompt.text(b"x");
        InferenceRequest {
            prompt: prompt.finish(),
            incoming_model: incoming.into(),
            target_model: target.into(),
            ..Default::default()
        }
    }

    #[test]
    fn bodies_name_the_target_model() {
        let body = r#"{"model":"a","messages":[{"content":"\u00e9 \"x\""}],"n":1e3}"#;
        let same = request(body, "a", "a");
        assert_eq!(body_for_target(&same).unwrap(), body);
        let renamed = body_for_target(&request(body, "a", "b\"c")).unwrap();
        assert_eq!(renamed, r#"{"messages":[{"content":"\u00e9 \"x\""}],"model":"b\"c","n":1e3}"#);
        assert_eq!(body_for_target(&request("", "a", "a")), None);
    }

    #[test]
    fn token_ids_in_the_request_need_not_be_asked_for() {
        let mut prompt = PromptBuilder::new(Bytes::new());
        prompt.tokens([1, 70_000]);
        prompt.next_prompt();
        prompt.tokens([3]);
        let request = InferenceRequest { prompt: prompt.finish(), ..Default::default() };
        let prompts = TokenSource::given(&request).unwrap().prompts.unwrap();
        let ids: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt.ids[..]).collect();
        assert_eq!(ids, [&[1, 70_000][..], &[3]]);
        assert!(TokenSource::given(&self::request("{}", "a", "a")).is_none());
    }
}
