//! A bearer token from a file, for the metrics port where no API server says who may read it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::StatusCode;
use subtle::ConstantTimeEq;

use super::MetricsAuth;
use crate::files::{self, FileError, Follower, Timing};

/// A larger token is refused, bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
/// Why a token file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{file}: {source}", file = file.display())]
    File { file: PathBuf, source: FileError },
    #[error("{file}: the token must be one line of visible characters", file = file.display())]
    Unusable { file: PathBuf },
}

/// Lets those read who know the token. The file is followed: a token that is renewed counts, one
/// that is of no use leaves the earlier one in place.
pub struct TokenAuth {
    token: Arc<ArcSwap<String>>,
    _follower: Follower,
}

impl std::fmt::Debug for TokenAuth {
    /// The token stays out of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenAuth").finish_non_exhaustive()
    }
}

impl TokenAuth {
    /// The token in `file`; blanks and line ends around it do not count.
    ///
    /// # Errors
    /// A file that cannot be read, is empty, or holds more than a token.
    pub fn start(file: &Path) -> Result<Self, TokenError> {
        let noted = Follower::note(file);
        let token = Arc::new(ArcSwap::from_pointee(read(file)?));
        let (followed, path) = (token.clone(), file.to_owned());
        let look = move || match read(&path) {
            Ok(token) => followed.store(Arc::new(token)),
            Err(error) => tracing::warn!(%error, "New token is unusable; the old one stays"),
        };
        let thread = |e| TokenError::File { file: file.to_owned(), source: FileError::Io(e) };
        let follower = noted.follow("metrics-token", Timing::default(), look).map_err(thread)?;
        Ok(Self { token, _follower: follower })
    }
}

fn read(file: &Path) -> Result<String, TokenError> {
    let text = files::read_text(file, MAX_TOKEN_BYTES)
        .map_err(|source| TokenError::File { file: file.to_owned(), source })?;
    let token = text.trim();
    match !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(TokenError::Unusable { file: file.to_owned() }),
    }
}

#[tonic::async_trait]
impl MetricsAuth for TokenAuth {
    async fn check(&self, token: Option<&str>, _: &str, _: &str) -> Result<(), StatusCode> {
        let expected = self.token.load();
        // How long it takes tells nothing of how much of it was right.
        match token.is_some_and(|t| t.as_bytes().ct_eq(expected.as_bytes()).into()) {
            true => Ok(()),
            false => Err(StatusCode::UNAUTHORIZED),
        }
    }
}
