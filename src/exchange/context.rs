use std::cell::RefCell;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Director, OutcomeListener, RequestLimits};
use crate::api::Parsers;
use crate::error::ErrorFormat;
use crate::scheduling::{AwaitingProducer, RequestProcessor, ResponseHook, Runtime};

/// What all exchanges of one pool share.
#[derive(Debug)]
pub struct ExchangeContext {
    pub director: Director,
    pub parsers: Parsers,
    pub processors: Vec<Arc<dyn RequestProcessor>>,
    pub awaiting: Vec<Arc<dyn AwaitingProducer>>,
    pub response_hooks: Vec<Arc<dyn ResponseHook>>,
    /// Told of every exchange, in this order.
    pub listeners: Vec<Arc<dyn OutcomeListener>>,
    pub runtime: Arc<dyn Runtime>,
    pub limits: RequestLimits,
    /// How errors are written to clients.
    pub errors: ErrorFormat,
    /// Some plugin reads the prompt; otherwise it is not collected.
    pub wants_prompt: bool,
    /// Some plugin wants the tokens of answers counted.
    pub counts_tokens: bool,
    /// Streams are asked to end with the engine's counts, whether or not clients want them.
    pub asks_for_usage: bool,
}

/// Where chance comes from.
#[derive(Debug, Default)]
pub enum Randomness {
    /// A generator of its own for every thread.
    #[default]
    PerThread,
    /// One generator, so that a simulation repeats itself.
    Seeded(Mutex<RefCell<fastrand::Rng>>),
}

thread_local! {
    static OF_THREAD: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::new());
}

impl Randomness {
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(RefCell::new(fastrand::Rng::with_seed(seed))))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&RefCell<fastrand::Rng>) -> R) -> R {
        match self {
            Self::PerThread => OF_THREAD.with(f),
            Self::Seeded(rng) => f(&rng.lock()),
        }
    }
}
