use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Admitted, EndpointSubset, ExchangeContext, Permit};
use crate::clock::Timestamp;
use crate::error::RequestError;
use crate::scheduling::{AwaitingProducer, BoxFuture, InferenceRequest, Put, RequestData};

/// What a request waits for before it can be scheduled. Dropping it gives up everything.
pub(super) struct Deciding {
    step: Step,
    asked: Timestamp,
    /// What it waited for admission, where it had to.
    queued: Option<Duration>,
}

enum Step {
    Admission(BoxFuture<Result<Box<dyn Permit>, RequestError>>),
    Data(AwaitedData),
    /// Nothing is waited for.
    Ready(RequestData, Option<Box<dyn Permit>>),
    Refused(RequestError),
}

/// The results of producers that take their time, as they come in.
struct AwaitedData {
    tasks: Vec<BoxFuture<Option<Put>>>,
    /// What is not there when this is ready is gone without.
    deadline: BoxFuture<()>,
    data: RequestData,
    permit: Option<Box<dyn Permit>>,
}

/// A request that can be scheduled, with what is known of it. The permit is held until it has
/// reserved its endpoints.
pub(super) type Admission = (RequestData, Option<Box<dyn Permit>>);

impl Deciding {
    /// Asks for admission.
    pub(super) fn new(
        context: &ExchangeContext,
        request: &Arc<InferenceRequest>,
        subset: Option<&EndpointSubset>,
    ) -> Self {
        let now = context.runtime.now();
        let step = match context.director.admit(request, subset, now) {
            Admitted::Now(permit) => await_data(context, request, permit),
            Admitted::Later(admission) => Step::Admission(admission),
            Admitted::Refused(error) => Step::Refused(error),
        };
        Self { step, asked: now, queued: None }
    }

    /// What there is without waiting; `None` where somebody has to be waited for.
    pub(super) fn take_ready(&mut self) -> Option<Result<Admission, RequestError>> {
        match &mut self.step {
            Step::Ready(data, permit) => Some(Ok((std::mem::take(data), permit.take()))),
            Step::Refused(error) => Some(Err(error.clone())),
            Step::Admission(_) | Step::Data(_) => None,
        }
    }

    /// When admission was asked.
    pub(super) fn asked(&self) -> Timestamp {
        self.asked
    }

    /// What the request waited for admission, where it had to and has been let in or refused.
    pub(super) fn queued(&self) -> Option<Duration> {
        self.queued
    }

    pub(super) fn poll(
        &mut self,
        context: &ExchangeContext,
        request: &Arc<InferenceRequest>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Admission, RequestError>> {
        loop {
            self.step = match &mut self.step {
                Step::Admission(admission) => match admission.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(admitted) => {
                        self.queued = Some(context.runtime.now().since(self.asked));
                        match admitted {
                            Err(error) => Step::Refused(error),
                            Ok(permit) => await_data(context, request, Some(permit)),
                        }
                    }
                },
                Step::Data(awaited) => match awaited.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        let data = std::mem::take(&mut awaited.data);
                        Step::Ready(data, awaited.permit.take())
                    }
                },
                Step::Ready(..) | Step::Refused(_) => {
                    return self.take_ready().map_or(Poll::Pending, Poll::Ready);
                }
            };
        }
    }
}

/// Starts all producers that take their time.
fn await_data(
    context: &ExchangeContext,
    request: &Arc<InferenceRequest>,
    permit: Option<Box<dyn Permit>>,
) -> Step {
    let mut limit = Duration::ZERO;
    let mut begin = |producer: &Arc<dyn AwaitingProducer>| {
        let task = producer.begin(request)?;
        limit = limit.max(producer.deadline());
        Some(task)
    };
    let tasks: Vec<_> = context.awaiting.iter().filter_map(&mut begin).collect();
    if tasks.is_empty() {
        return Step::Ready(RequestData::default(), permit);
    }
    let deadline = context.runtime.sleep(limit);
    Step::Data(AwaitedData { tasks, deadline, data: RequestData::default(), permit })
}

impl AwaitedData {
    /// Ready when every task has ended, or at the deadline.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let data = &mut self.data;
        self.tasks.retain_mut(|task| match Pin::new(task).poll(cx) {
            Poll::Pending => true,
            Poll::Ready(put) => {
                if let Some(put) = put {
                    put(data);
                }
                false
            }
        });
        if self.tasks.is_empty() { Poll::Ready(()) } else { self.deadline.as_mut().poll(cx) }
    }
}
