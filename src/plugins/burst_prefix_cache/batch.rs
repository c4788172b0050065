use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::placement::{Replica, Rules, place};
use crate::clock::Timestamp;
use crate::prefix::HashedPrompt;
use crate::scheduling::Candidate;

/// Requests that came in one window.
#[derive(Debug)]
pub(super) struct Batch {
    /// When the window ends.
    pub ends: Timestamp,
    /// The prompts that joined; `None` once they are placed, and nobody can join any more.
    prompts: Mutex<Option<Vec<HashedPrompt>>>,
    /// The endpoint of each prompt, by its number.
    placed: OnceLock<Vec<Option<u64>>>,
}

/// A request's place in its batch.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub batch: Arc<Batch>,
    pub number: usize,
    /// Blocks of the prompt.
    pub total: u32,
}

/// What became of a request that wants to join.
pub(super) enum Joined {
    As(Ticket),
    /// The window has ended.
    TooLate(HashedPrompt),
    /// There are as many as may be.
    Full,
}

impl Batch {
    pub(super) fn new(ends: Timestamp) -> Self {
        Self { ends, prompts: Mutex::new(Some(Vec::new())), placed: OnceLock::new() }
    }

    /// Adds a prompt, unless there are `max` already.
    pub(super) fn join(
        self: &Arc<Self>,
        prompt: HashedPrompt,
        max: usize,
        now: Timestamp,
    ) -> Joined {
        let mut prompts = self.prompts.lock();
        match &mut *prompts {
            Some(prompts) if now < self.ends => {
                if prompts.len() >= max {
                    return Joined::Full;
                }
                let total = u32::try_from(prompt.hashes.len()).unwrap_or(u32::MAX);
                prompts.push(prompt);
                let number = prompts.len() - 1;
                Joined::As(Ticket { batch: self.clone(), number, total })
            }
            _ => Joined::TooLate(prompt),
        }
    }

    /// The endpoint instance that a request is best sent to. The first request that asks has all
    /// of the batch placed, on its own candidates; as in the reference those of the others are
    /// taken to be the same.
    pub(super) fn placed(
        &self,
        number: usize,
        candidates: &[Candidate<'_>],
        rules: Rules,
    ) -> Option<u64> {
        let placed = self.placed.get_or_init(|| {
            let prompts = self.prompts.lock().take().unwrap_or_default();
            let replica = |c: &Candidate<'_>| Replica {
                name: c.endpoint.id.clone(),
                running: c.signals.running,
            };
            let replicas: Vec<Replica> = candidates.iter().map(replica).collect();
            let instance = |replica: usize| candidates.get(replica).map(|c| c.endpoint.instance);
            let placed = place(&prompts, &replicas, rules);
            placed.into_iter().map(|replica| instance(replica?)).collect()
        });
        placed.get(number).copied().flatten()
    }
}
