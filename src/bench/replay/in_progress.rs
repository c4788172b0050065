//! Requests of a simulation that are not over yet.

use super::routed::Held;
use crate::sim::{Nanos, RequestSpec};

/// A request from when it is asked on.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) session: usize,
    pub(super) index: usize,
    pub(super) at: Nanos,
    /// It was asked while a fault was in force that the router had time to notice.
    pub(super) in_fault: bool,
}

/// A request that was picked a worker for.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) asked: Asked,
    pub(super) held: Held,
}

/// A request that a worker holds.
#[derive(Debug)]
pub(super) struct InProgress {
    pub(super) placed: Placed,
    /// Prompt tokens that the worker has to compute for it, until its first token.
    pub(super) pending: u64,
    pub(super) stage: Stage,
}

/// What the worker does for it.
#[derive(Debug)]
pub(super) enum Stage {
    /// It answers.
    Answer { prefilled: Option<Prefilled>, begun: bool },
    /// It computes the prompt for another, which then gets this to do.
    Prompt { decode: usize, next: RequestSpec },
}

/// What came of a prompt that another worker computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefilled {
    pub(super) worker: usize,
    pub(super) cached_tokens: u32,
}
