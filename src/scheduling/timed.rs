//! Plugins whose calls are measured: each wraps one and does nothing but look at the clock.

use std::fmt;
use std::sync::Arc;

use super::plugin_times::{Clock, StepTimer};
use super::{
    Admitter, Candidate, Cycle, Directions, InferenceRequest, PickObserver, Picked, Producer,
    RequestData, RequestHook, RequestProcessor, ResponseHook, RoutedRequest, Screener, TokenUsage,
};
use crate::clock::Timestamp;
use crate::error::RequestError;

/// A plugin that is called at one point.
pub struct Timed<P: ?Sized> {
    plugin: Arc<P>,
    timer: Arc<StepTimer>,
    clock: Clock,
}

impl<P: ?Sized> Timed<P> {
    pub fn new(plugin: Arc<P>, timer: Arc<StepTimer>, clock: Clock) -> Self {
        Self { plugin, timer, clock }
    }

    fn time<R>(&self, call: impl FnOnce(&P) -> R) -> R {
        time(&self.timer, self.clock, || call(&self.plugin))
    }
}

fn time<R>(timer: &StepTimer, clock: Clock, call: impl FnOnce() -> R) -> R {
    let begun = clock();
    let result = call();
    timer.took(clock().since(begun));
    result
}

impl<P: ?Sized + fmt::Debug> fmt::Debug for Timed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plugin.fmt(f)
    }
}

impl RequestProcessor for Timed<dyn RequestProcessor> {
    fn process(&self, request: &mut InferenceRequest) {
        self.time(|plugin| plugin.process(request));
    }
}

impl Producer for Timed<dyn Producer> {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        self.time(|plugin| plugin.produce(cycle, data));
    }
}

impl Screener for Timed<dyn Screener> {
    fn screen(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'_>],
        now: Timestamp,
        kept: &mut Vec<u32>,
    ) {
        self.time(|plugin| plugin.screen(request, candidates, now, kept));
    }
}

impl Admitter for Timed<dyn Admitter> {
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError> {
        self.time(|plugin| plugin.admit(cycle))
    }
}

impl PickObserver for Timed<dyn PickObserver> {
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        self.time(|plugin| plugin.picked(cycle, picked));
    }
}

impl RequestHook for Timed<dyn RequestHook> {
    fn before_request(&self, cycle: &Cycle<'_>, picked: Picked<'_>, directions: &mut Directions) {
        self.time(|plugin| plugin.before_request(cycle, picked, directions));
    }
}

/// A response hook, which is called at three points.
pub struct TimedResponseHook {
    pub plugin: Arc<dyn ResponseHook>,
    pub received: Arc<StepTimer>,
    pub streaming: Arc<StepTimer>,
    pub complete: Arc<StepTimer>,
    pub clock: Clock,
}

impl fmt::Debug for TimedResponseHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plugin.fmt(f)
    }
}

impl ResponseHook for TimedResponseHook {
    fn response_headers(
        &self,
        exchange: &RoutedRequest<'_>,
        status: Option<u16>,
        directions: &mut Directions,
    ) {
        time(&self.received, self.clock, || {
            self.plugin.response_headers(exchange, status, directions);
        });
    }

    fn response_chunk(
        &self,
        exchange: &RoutedRequest<'_>,
        piece: &[u8],
        directions: &mut Directions,
    ) {
        time(&self.streaming, self.clock, || {
            self.plugin.response_chunk(exchange, piece, directions);
        });
    }

    fn response_end(
        &self,
        exchange: &RoutedRequest<'_>,
        usage: Option<&TokenUsage>,
        directions: &mut Directions,
    ) {
        time(&self.complete, self.clock, || {
            self.plugin.response_end(exchange, usage, directions);
        });
    }
}
