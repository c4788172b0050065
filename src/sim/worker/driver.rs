//! An engine in real time: one task owns it and sleeps until its next event.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::FinishReason;
use super::metrics::Metrics;
use crate::sim::Nanos;
use crate::sim::{Engine, Event, EventKind, RequestId, RequestSpec, SubmitError};

/// Where requests for an engine are handed in. The engine ends with the last handle and answer.
#[derive(Clone, Debug)]
pub(super) struct EngineHandle {
    commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    Submit {
        spec: RequestSpec,
        reason: FinishReason,
        every_token: bool,
        reply: Reply,
    },
    Cancel(RequestId),
    /// Take so many times as long for everything from now on.
    Pace(f64),
    ResetPrefixCache(oneshot::Sender<bool>),
}

type Reply = oneshot::Sender<Result<Answer, SubmitError>>;

/// The events of one request. Dropping it before the last one cancels the request.
#[derive(Debug)]
pub(super) struct Answer {
    id: RequestId,
    events: mpsc::UnboundedReceiver<EventKind>,
    engine: EngineHandle,
    finished: bool,
}

impl Answer {
    /// The next event; `None` after the last, or if the engine is gone.
    pub(super) async fn next(&mut self) -> Option<EventKind> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Answer::next`] for those who wait for several.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<EventKind>> {
        let event = std::task::ready!(self.events.poll_recv(context));
        self.finished |= matches!(event, None | Some(EventKind::Finished(_)));
        Poll::Ready(event)
    }

    /// True after the last event.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.finished {
            // An engine that is gone has nothing left to cancel.
            let _ = self.engine.commands.send(Command::Cancel(self.id));
        }
    }
}

impl EngineHandle {
    /// Starts the engine's task.
    pub(super) fn spawn(engine: Engine, metrics: Arc<Metrics>) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let driver = Driver {
            engine,
            metrics,
            commands: commands.downgrade(),
            listeners: HashMap::new(),
            start: Instant::now(),
        };
        tokio::spawn(driver.run(inbox));
        Self { commands }
    }

    /// Submits a request that will end for `reason`; `every_token` asks for the events between
    /// the first token and the end. `None` if the engine is gone.
    pub(super) async fn submit(
        &self,
        spec: RequestSpec,
        reason: FinishReason,
        every_token: bool,
    ) -> Option<Result<Answer, SubmitError>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Submit { spec, reason, every_token, reply }).ok()?;
        answer.await.ok()
    }

    /// Has the engine take `pace` times as long for everything.
    pub(super) fn set_pace(&self, pace: f64) {
        // An engine that is gone takes no time at all.
        let _ = self.commands.send(Command::Pace(pace));
    }

    /// Empties the prefix cache; false where requests hold blocks, or the engine is gone.
    pub(super) async fn reset_prefix_cache(&self) -> bool {
        let (reply, done) = oneshot::channel();
        self.commands.send(Command::ResetPrefixCache(reply)).is_ok() && done.await.unwrap_or(false)
    }
}

struct Listener {
    events: mpsc::UnboundedSender<EventKind>,
    reason: FinishReason,
    every_token: bool,
    submitted_at: Nanos,
    last_token_at: Nanos,
}

struct Driver {
    engine: Engine,
    metrics: Arc<Metrics>,
    /// Weak, so that the task ends when everyone else's handles are gone.
    commands: mpsc::WeakUnboundedSender<Command>,
    listeners: HashMap<RequestId, Listener>,
    start: Instant,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let due = self.engine.next_event_at();
            let wake_at = self.start + Duration::from_nanos(due.unwrap_or_default());
            tokio::select! {
                command = inbox.recv() => {
                    let Some(command) = command else { return };
                    let now = self.now();
                    self.obey(command, now);
                    while let Ok(command) = inbox.try_recv() {
                        self.obey(command, now);
                    }
                    self.advance(now);
                }
                () = tokio::time::sleep_until(wake_at), if due.is_some() => {
                    self.advance(self.now());
                }
            }
        }
    }

    fn now(&self) -> Nanos {
        self.start.elapsed().as_nanos() as Nanos
    }

    fn obey(&mut self, command: Command, now: Nanos) {
        match command {
            Command::Submit { spec, reason, every_token, reply } => {
                // The sender waits for the reply with its handle; without one nobody waits.
                let Some(commands) = self.commands.upgrade() else { return };
                let answer = self.engine.submit(now, spec).map(|id| {
                    let (events, receiver) = mpsc::unbounded_channel();
                    let listener = Listener {
                        events,
                        reason,
                        every_token,
                        submitted_at: now,
                        last_token_at: now,
                    };
                    self.listeners.insert(id, listener);
                    let engine = EngineHandle { commands };
                    Answer { id, events: receiver, engine, finished: false }
                });
                // Nobody waits any more: the answer comes back and is dropped, which cancels it.
                drop(reply.send(answer));
            }
            Command::Cancel(id) => {
                if self.engine.cancel(id) {
                    self.metrics.aborted();
                }
                self.listeners.remove(&id);
            }
            Command::Pace(pace) => {
                self.advance(now);
                self.engine.set_pace(pace);
            }
            Command::ResetPrefixCache(reply) => {
                self.advance(now);
                // Nobody waits any more: it is done all the same.
                let _ = reply.send(self.engine.reset_prefix_cache());
            }
        }
    }

    fn advance(&mut self, now: Nanos) {
        let Self { engine, metrics, listeners, .. } = self;
        engine.advance(now, &mut |event| tell(listeners, metrics, event));
        metrics.update(engine);
    }
}

fn tell(listeners: &mut HashMap<RequestId, Listener>, metrics: &Metrics, event: Event) {
    let Some(listener) = listeners.get_mut(&event.id) else { return };
    let since_submission = event.at - listener.submitted_at;
    let since_last = event.at - std::mem::replace(&mut listener.last_token_at, event.at);
    let (wanted, last) = match event.kind {
        EventKind::FirstToken { .. } => {
            metrics.first_token(since_submission);
            (true, false)
        }
        EventKind::Token => {
            metrics.next_token(since_last);
            (listener.every_token, false)
        }
        EventKind::Finished(_) => {
            metrics.finished(listener.reason.as_str(), since_submission);
            (true, true)
        }
    };
    if wanted {
        // A client that left is cancelled by the command its answer sent.
        let _ = listener.events.send(event.kind);
    }
    if last {
        listeners.remove(&event.id);
    }
}
