use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::PromptTokens;
use crate::scheduling::BoxFuture;

/// Which kind of request is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Render {
    Completion,
    Chat,
}

impl Render {
    /// The kind of a request to this path; `None` for what engines do not render.
    pub fn of(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        if path.ends_with("/chat/completions") {
            return Some(Self::Chat);
        }
        path.ends_with("/completions").then_some(Self::Completion)
    }

    /// Where engines render it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Completion => "/v1/completions/render",
            Self::Chat => "/v1/chat/completions/render",
        }
    }
}

/// Why a prompt was not rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the render URL is not of the form http://host:port")]
    Url,
    #[error("the renderer did not answer in time")]
    TimedOut,
    #[error("the renderer cannot be reached, or broke off")]
    Unreachable,
    /// 403 from vLLM means that it was started without `--enable-scale-out`, 404 that it has no
    /// such endpoint.
    #[error("the renderer answered {0}")]
    Refused(u16),
    #[error("the renderer's answer holds no token ids")]
    Unreadable,
}

/// What rendering gives: the prompts of a request, or why there are none.
pub(super) type Rendered = Result<Arc<[PromptTokens]>, RenderError>;

/// Has prompts turned into token ids by engines.
pub trait RenderPrompts: fmt::Debug + Send + Sync {
    /// The token ids of the prompts in `body`, a request of the OpenAI API of this kind, from the
    /// engine at `base`.
    fn render(
        &self,
        base: String,
        kind: Render,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<Rendered>;
}

/// # Errors
/// Where `base` cannot be the beginning of a URL to ask: `http://host:port`, maybe with a path.
pub fn check_base(base: &str) -> Result<(), RenderError> {
    let rest = base.strip_prefix("http://").ok_or(RenderError::Url)?;
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = !base.contains(['?', '#', '@']) && !base.contains(char::is_whitespace);
    if is_plain && !host.is_empty() && !host.starts_with(':') {
        Ok(())
    } else {
        Err(RenderError::Url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for url in ["", "localhost:8000", "https://a", "http://", "http://a/?b", "ftp://a"] {
            assert_eq!(check_base(url), Err(RenderError::Url), "{url}");
        }
        for url in ["http://a", "http://a:1/", "http://[::1]:1/base"] {
            assert_eq!(check_base(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn paths() {
        let cases = [
            ("/v1/chat/completions", Some(Render::Chat)),
            ("/prefix/v1/chat/completions?x=/completions", Some(Render::Chat)),
            ("/v1/completions/", Some(Render::Completion)),
            ("/v1/responses", None),
            ("/v1/completions/x", None),
            ("", None),
        ];
        for (path, kind) in cases {
            assert_eq!(Render::of(path), kind, "{path}");
        }
    }
}
