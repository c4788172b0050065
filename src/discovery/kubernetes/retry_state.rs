use std::error::Error;
use std::time::Duration;

/// True where the API server does not have a kind, or does not let us read it.
pub(super) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 || status.code == 404)
}

/// What went wrong, as one sentence for a human.
pub(super) fn reason(error: &kube::Error) -> String {
    match error {
        // The answer for a path that nobody serves has no message of its own.
        kube::Error::Api(status) if status.code == 404 && status.details.is_none() => {
            "the API server does not have it (404)".to_owned()
        }
        kube::Error::Api(status) => format!("{} ({})", status.message.trim(), status.code),
        kube::Error::Service(error) => causes(error.as_ref()),
        kube::Error::HyperError(error) => causes(error),
        kube::Error::ReadEvents(error) => causes(error),
        other => other.to_string(),
    }
}

/// An error and what brought it about. An error that repeats its cause is left out.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if chain.last().is_some_and(|outer| outer.contains(&text)) {
            chain.pop();
        }
        chain.push(text);
        next = error.source();
    }
    chain.join(": ")
}

/// How often to try again, and what to say about it: one line when trouble begins, one when it
/// is over.
pub(super) struct RetryState {
    what: String,
    missing_kind_retry: Duration,
    attempts: u32,
    said: Said,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Unreachable,
    Missing,
}

impl RetryState {
    pub(super) fn new(what: String, missing_kind_retry: Duration) -> Self {
        Self { what, missing_kind_retry, attempts: 0, said: Said::Nothing }
    }

    /// Takes note of an error; answers how long to wait. `known` is true where objects of the
    /// kind are known, and in use meanwhile.
    pub(super) fn met(&mut self, error: &kube::Error, known: bool) -> Duration {
        let what = &self.what;
        match error {
            // The server forgot where we were: an ordinary event that a new list cures.
            kube::Error::Api(status) if status.code == 410 => {
                tracing::debug!("{what}: the API server asks for a new list: {}", reason(error));
            }
            _ if is_missing(error) && !known => {
                if self.said != Said::Missing {
                    self.said = Said::Missing;
                    let most = self.missing_kind_retry.as_secs();
                    tracing::warn!(
                        "{what} cannot be read: {}; looking again at least every {most} s",
                        reason(error)
                    );
                }
                return backoff(&mut self.attempts, 1_000, self.missing_kind_retry);
            }
            _ if self.said == Said::Nothing => {
                self.said = Said::Unreachable;
                let meanwhile = if known { "going on with what is known" } else { "trying again" };
                tracing::warn!("{what}: the API server failed: {}; {meanwhile}", reason(error));
            }
            _ => tracing::debug!("{what}: the API server failed again: {}", reason(error)),
        }
        backoff(&mut self.attempts, 200, Duration::from_secs(5))
    }

    pub(super) fn is_over(&self) -> bool {
        self.attempts == 0
    }

    pub(super) fn over(&mut self) {
        self.attempts = 0;
        if std::mem::replace(&mut self.said, Said::Nothing) != Said::Nothing {
            tracing::info!("{} can be read now", self.what);
        }
    }
}

/// Doubles from `first_ms` to `most`, less up to a quarter at random.
fn backoff(attempts: &mut u32, first_ms: u64, most: Duration) -> Duration {
    let doubled = Duration::from_millis(first_ms << (*attempts).min(16));
    *attempts = attempts.saturating_add(1);
    doubled.min(most).mul_f64(1.0 - fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound() {
        let mut attempts = 0;
        let most = Duration::from_secs(5);
        let waits: Vec<_> = (0..40).map(|_| backoff(&mut attempts, 200, most)).collect();
        assert!(waits[0] <= Duration::from_millis(200) && waits[0] >= Duration::from_millis(150));
        assert!(waits[10..].iter().all(|w| *w <= most && *w >= most.mul_f64(0.75)));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn reasons_are_sentences() {
        let io = || std::io::Error::other("no route to host");
        for (error, expected) in [
            (Outer("cannot connect", io()), "cannot connect: no route to host"),
            (Outer("io: no route to host", io()), "no route to host"),
        ] {
            assert_eq!(reason(&kube::Error::Service(error.into())), expected);
        }
    }
}
