use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Director, ExchangeTracer, OutcomeListener, RequestLimits, ResponseBodies};
use crate::api::Parsers;
use crate::error::ErrorFormat;
use crate::scheduling::{AwaitingProducer, RequestProcessor, ResponseHook, Runtime};

/// What all exchanges of one pool share that begin under one configuration: each takes it once, at
/// its start, and keeps it to its end.
#[derive(Debug)]
pub struct ExchangeContext {
    pub director: Director,
    pub parsers: Parsers,
    pub processors: Vec<Arc<dyn RequestProcessor>>,
    pub awaiting: Vec<Arc<dyn AwaitingProducer>>,
    pub response_hooks: Vec<Arc<dyn ResponseHook>>,
    /// Told of every exchange, in this order.
    pub listeners: Vec<Arc<dyn OutcomeListener>>,
    /// Follows requests across programs; `None`: nobody does.
    pub tracer: Option<Arc<dyn ExchangeTracer>>,
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
    /// Whether the gateway is asked for the bodies of responses.
    pub response_bodies: Arc<ResponseBodies>,
    /// What is let go of when the last exchange has ended.
    pub until_over: UntilOver,
}

/// Something that is kept for as long as exchanges use a context, and dropped with it: after all
/// else of it.
#[derive(Default)]
pub struct UntilOver(pub Vec<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for UntilOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UntilOver({})", self.0.len())
    }
}

/// The context that exchanges begin with now.
#[derive(Debug)]
pub struct CurrentContext(ArcSwap<ExchangeContext>);

impl CurrentContext {
    /// For an exchange that begins.
    pub fn get(&self) -> Arc<ExchangeContext> {
        self.0.load_full()
    }

    /// From now on exchanges begin with `context`; those in progress keep theirs.
    pub fn set(&self, context: Arc<ExchangeContext>) {
        self.0.store(context);
    }
}

impl From<Arc<ExchangeContext>> for CurrentContext {
    fn from(context: Arc<ExchangeContext>) -> Self {
        Self(ArcSwap::new(context))
    }
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
