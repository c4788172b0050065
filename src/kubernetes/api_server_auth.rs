//! Who may read a port of ours, as the API server says.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::reason;

/// How long a yes is believed.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
/// How long a no is believed: someone may be about to grant the right.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Most answers kept.
const MOST_ANSWERS: usize = 1024;

/// Asks the API server whether the bearer of a token may read a path of ours: a `TokenReview`
/// for who it is, a `SubjectAccessReview` for what it may do. The checks are those of
/// controller-runtime's filter, which guards the reference's metrics endpoint.
pub struct ApiServerAuth {
    reviews: Api<TokenReview>,
    access: Api<SubjectAccessReview>,
    answers: Mutex<HashMap<Question, Answer>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    token: String,
    path: String,
    verb: String,
}

#[derive(Clone, Copy)]
struct Answer {
    result: Result<(), u16>,
    until: Instant,
}

impl std::fmt::Debug for ApiServerAuth {
    /// Tokens stay out of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServerAuth").finish_non_exhaustive()
    }
}

impl ApiServerAuth {
    pub fn new(client: Client) -> Self {
        Self {
            reviews: Api::all(client.clone()),
            access: Api::all(client),
            answers: Mutex::default(),
        }
    }

    /// Whether the bearer of `token` may do `method` on `path`.
    ///
    /// # Errors
    ///
    /// The HTTP status to answer with: 401 without a token or with one that nobody vouches for,
    /// 403 where the bearer has no such right, 500 where the API server cannot be asked.
    pub async fn check(&self, token: Option<&str>, path: &str, method: &str) -> Result<(), u16> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Err(401) };
        let question = Question {
            token: token.to_owned(),
            path: path.to_owned(),
            verb: method.to_ascii_lowercase(),
        };
        if let Some(result) = self.known(&question) {
            return result;
        }
        match self.ask(&question).await {
            Ok(result) => {
                self.remember(question, result);
                result
            }
            Err(error) => {
                tracing::warn!("cannot ask who may read {path}: {}", reason(&error));
                Err(500)
            }
        }
    }

    fn known(&self, question: &Question) -> Option<Result<(), u16>> {
        let answer = *self.answers.lock().get(question)?;
        (Instant::now() < answer.until).then_some(answer.result)
    }

    fn remember(&self, question: Question, result: Result<(), u16>) {
        let now = Instant::now();
        let until = now + if result.is_ok() { ALLOWED_FOR } else { REFUSED_FOR };
        let mut answers = self.answers.lock();
        if answers.len() >= MOST_ANSWERS {
            answers.retain(|_, answer| now < answer.until);
        }
        // Where that made no room someone is trying tokens, and can wait for each answer.
        if answers.len() < MOST_ANSWERS {
            answers.insert(question, Answer { result, until });
        }
    }

    async fn ask(&self, question: &Question) -> Result<Result<(), u16>, Error> {
        let spec = TokenReviewSpec { token: question.token.clone(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = self.reviews.create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Err(401));
        };
        let access = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(question.path.clone()),
                    verb: Some(question.verb.clone()),
                }),
                resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let access = self.access.create(&PostParams::default(), &access).await?;
        let allowed = access.status.is_some_and(|status| status.allowed);
        Ok(if allowed { Ok(()) } else { Err(403) })
    }
}
