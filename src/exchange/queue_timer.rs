use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use crate::clock::Timestamp;
use crate::flow_control::FlowController;
use crate::scheduling::{BoxFuture, Runtime};

/// Calls the controller at the moments that it names, for as long as both live. There is one timer
/// for all that waits.
pub fn keep_queue_time(controller: &Arc<FlowController>, runtime: &Arc<dyn Runtime>) {
    let mut timer = QueueTimer {
        controller: Arc::downgrade(controller),
        runtime: Arc::downgrade(runtime),
        sleep: None,
    };
    runtime.spawn(Box::pin(poll_fn(move |context| timer.poll(context))));
}

struct QueueTimer {
    controller: Weak<FlowController>,
    runtime: Weak<dyn Runtime>,
    /// What it waits for, and until when.
    sleep: Option<(Timestamp, BoxFuture<()>)>,
}

impl QueueTimer {
    /// Ready when there is nobody left to keep time for.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let (Some(controller), Some(runtime)) =
                (self.controller.upgrade(), self.runtime.upgrade())
            else {
                return Poll::Ready(());
            };
            // Woken when the moment moves ahead; one that moves back is noticed when it comes.
            let Some(deadline) = controller.poll_deadline(context) else {
                self.sleep = None;
                return Poll::Pending;
            };
            let stale = self.sleep.as_ref().is_none_or(|(until, _)| *until != deadline);
            if stale {
                let time = deadline.since(runtime.now());
                self.sleep = Some((deadline, runtime.sleep(time)));
            }
            let Some((_, sleep)) = &mut self.sleep else { return Poll::Pending };
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
            controller.on_capacity(runtime.now());
        }
    }
}
