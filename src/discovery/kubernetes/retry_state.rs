//! How often to ask the API server again for a kind, and what is said about it.

use std::time::Duration;

use super::kind::{Cluster, Selection};
use super::unreadable::Unreadable;
use crate::kubernetes::{is_missing, reason};

/// How often to try again, and what to say about it: one line when trouble begins, one when it
/// is over.
pub(super) struct RetryState {
    what: String,
    without: Option<&'static str>,
    unreadable: Unreadable,
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
    pub(super) fn new(selection: &Selection, cluster: &Cluster) -> Self {
        Self {
            what: selection.describe(),
            without: selection.without,
            unreadable: cluster.unreadable.clone(),
            missing_kind_retry: cluster.missing_kind_retry,
            attempts: 0,
            said: Said::Nothing,
        }
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
                    match self.without {
                        Some(without) => self.unreadable.note(what, without, reason(error)),
                        None => tracing::warn!(
                            "{what} cannot be read: {}; looking again at least every {} s",
                            reason(error),
                            self.missing_kind_retry.as_secs()
                        ),
                    }
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
}
