use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::deciding::{Admission, Deciding};
use super::outcome::{Ending, Kept, Outcome, Times};
use super::pending_request::path_of;
use super::response::IncomingResponse;
use super::{EndpointSubset, ExchangeContext, PendingRequest, Stay, Traced};
use crate::api::{self, Api, ParsedRequest, VideoHints, error_shape};
use crate::endpoints::Endpoint;
use crate::error::{Code, DropReason, ErrorBody, RequestError};
use crate::headers::{self, Headers};
use crate::scheduling::{Decision, Directions, InferenceRequest, Refusal, RequestData};

/// What is known of a request's body when the request is to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKnown {
    /// All of it is there.
    Whole,
    /// There is one, but the headers have to leave before it is seen.
    Unseen,
    /// There is none, as with `GET /v1/models`.
    None,
}

/// A routed request, as it is to be forwarded.
#[derive(Debug)]
pub struct Forward {
    /// The picked endpoints, `ip:port` joined by commas, in order of preference.
    pub destination: Bytes,
    pub body: Bytes,
    /// `body` is not the one that came.
    pub body_changed: bool,
    /// The gateway is to finish the response alone.
    pub skip_response: bool,
}

/// One HTTP exchange. Dropping it at any time ends it: what it holds is released, and its
/// listeners are told how it ended.
pub struct Exchange {
    pub(super) context: Arc<ExchangeContext>,
    pub(super) pending: PendingRequest,
    pub(super) stage: Stage,
    pub(super) times: Times,
    pub(super) response: IncomingResponse,
    pub(super) kept: Kept,
    /// What the tracer wants, where there is one and headers came.
    traced: Option<Traced>,
    /// Bytes of the body that count against the budget.
    held: usize,
    /// The gateway sends no bodies of responses.
    no_response_body: bool,
}

pub(super) enum Stage {
    /// The request comes in.
    Receiving,
    /// It is known, and somebody has to be waited for.
    Deciding(Box<Subject>, Box<Deciding>),
    /// It was sent to an endpoint.
    Routed(Box<Routed>),
    /// It ended in an error, and the outcome was told.
    Refused(Arc<InferenceRequest>),
    /// The outcome was told.
    Over,
}

/// A request that was read.
pub(super) struct Subject {
    pub(super) request: Arc<InferenceRequest>,
    pub(super) has_body: bool,
    pub(super) api: Api,
    pub(super) skip_response: bool,
    pub(super) body: Bytes,
    pub(super) body_changed: bool,
    pub(super) hides_usage: bool,
    pub(super) rewritten_by: Option<String>,
}

/// A request and where it went.
pub(super) struct Routed {
    pub(super) request: Arc<InferenceRequest>,
    pub(super) has_body: bool,
    pub(super) endpoint: Arc<Endpoint>,
    /// `None` where any endpoint would do.
    pub(super) decision: Option<Decision>,
    pub(super) api: Api,
    /// The answer ends with counts that the client did not ask for.
    pub(super) hides_usage: bool,
    pub(super) rewritten_by: Option<String>,
    /// Its place in the pool, where places are kept.
    pub(super) stay: Option<Box<dyn Stay>>,
}

impl Exchange {
    pub fn new(context: Arc<ExchangeContext>) -> Self {
        let received = context.runtime.now();
        Self {
            pending: PendingRequest::default(),
            stage: Stage::Receiving,
            times: Times { received, ..Times::default() },
            response: IncomingResponse::default(),
            kept: Kept::default(),
            traced: None,
            held: 0,
            no_response_body: false,
            context,
        }
    }

    /// The request's headers, those of all calls together.
    ///
    /// # Errors
    /// 431 where there are too many; the exchange is over then.
    pub fn add_headers(
        &mut self,
        list: impl ExactSizeIterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), RequestError> {
        let added = self.pending.add_headers(list);
        if let (Some(tracer), None) = (&self.context.tracer, &self.traced) {
            self.traced = Some(tracer.begin(&self.pending.headers, &self.kept));
        }
        added.map_err(|error| self.refuse_unread(error))
    }

    /// Only these endpoints are allowed.
    pub fn allow(&mut self, subset: EndpointSubset) {
        self.pending.subset = Some(subset);
    }

    /// The gateway says which endpoint served, `ip:port`.
    pub fn served_by(&mut self, endpoint: &str) {
        self.response.seen.served_by = Some(endpoint.to_owned());
    }

    /// The gateway does not send the response's body: nothing can be taken out of it.
    pub fn sees_no_response_body(&mut self) {
        self.no_response_body = true;
    }

    /// Takes a piece of the request's body.
    ///
    /// # Errors
    /// 413 where the body is larger than the limit, 429 where all bodies together are; the
    /// exchange is over then.
    pub fn add_body(&mut self, piece: Bytes) -> Result<(), RequestError> {
        let limits = &self.context.limits;
        let limit = limits.body;
        let more = piece.len();
        if self.pending.add_body(piece) <= limit {
            if limits.held.take(more) {
                self.held += more;
                return Ok(());
            }
            let message = "the bodies of waiting requests take all the memory there is for them";
            return Err(self.refuse_unread(RequestError::new(Code::ResourceExhausted, message)));
        }
        let error = RequestError::new(
            Code::PayloadTooLarge,
            format!("request body is larger than the limit of {limit} bytes"),
        );
        Err(self.refuse_unread(error))
    }

    /// Nothing has come of the body for as long as that may be: gives the request up.
    pub fn give_up(&mut self) -> RequestError {
        let message = "the request's body did not come to its end in time";
        self.refuse_unread(RequestError::new(Code::RequestTimeout, message))
    }

    /// True where nothing of the body has come.
    pub fn has_no_body(&self) -> bool {
        self.pending.has_no_body()
    }

    /// The request's headers as they came, and whether its id is one that we gave it.
    pub fn request_headers(&self) -> (&Headers, bool) {
        let headers = match &self.stage {
            Stage::Routed(routed) => &routed.request.headers,
            Stage::Deciding(subject, _) => &subject.request.headers,
            Stage::Refused(request) => &request.headers,
            Stage::Receiving | Stage::Over => &self.pending.headers,
        };
        (headers, self.pending.generated_id)
    }

    /// What the client of an exchange that ended in `error` reads of it.
    pub fn error_body(&self, error: &RequestError) -> ErrorBody {
        let (headers, _) = self.request_headers();
        let content_type = headers.get(headers::CONTENT_TYPE);
        ErrorBody::new(error, error_shape(&path_of(headers), content_type, self.context.errors))
    }

    /// Everything of the request that will be known is known: decides where it goes. Where that
    /// has to wait, [`Exchange::poll_decided`] goes on.
    ///
    /// # Errors
    /// The refusal that the client is to get; the exchange is over then.
    pub fn decide(&mut self, body: BodyKnown) -> Poll<Result<Forward, RequestError>> {
        if body == BodyKnown::None {
            return Poll::Ready(self.route_anywhere());
        }
        let subject = match self.read(body) {
            Ok(subject) => subject,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let subset = self.pending.subset.as_ref();
        let mut deciding = Deciding::new(&self.context, &subject.request, subset);
        self.times.asked = Some(deciding.asked());
        match deciding.take_ready() {
            Some(admitted) => Poll::Ready(self.route(subject, admitted)),
            None => {
                self.stage = Stage::Deciding(Box::new(subject), Box::new(deciding));
                Poll::Pending
            }
        }
    }

    /// Goes on with a decision that has to wait.
    ///
    /// # Errors
    /// As [`Exchange::decide`].
    pub fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<Result<Forward, RequestError>> {
        let Stage::Deciding(subject, deciding) = &mut self.stage else { return Poll::Pending };
        let Poll::Ready(admitted) = deciding.poll(&self.context, &subject.request, cx) else {
            return Poll::Pending;
        };
        self.times.queued = deciding.queued();
        match std::mem::replace(&mut self.stage, Stage::Receiving) {
            Stage::Deciding(subject, _) => Poll::Ready(self.route(*subject, admitted)),
            other => {
                self.stage = other;
                Poll::Pending
            }
        }
    }

    /// True while a decision has to wait.
    pub fn is_deciding(&self) -> bool {
        matches!(self.stage, Stage::Deciding(..))
    }

    /// What leaves beside the destination; empty before a request is routed.
    pub fn directions(&self) -> &Directions {
        const NONE: &Directions = &Directions::NONE;
        self.decision().map_or(NONE, |decision| &decision.directions)
    }

    /// The `traceparent` to leave with a request without a body; that of others is among the
    /// [`Exchange::directions`].
    pub fn trace_parent(&self) -> Option<&Bytes> {
        self.traced.as_ref()?.parent.as_ref()
    }

    /// The decision, where the request was routed by one.
    pub fn decision(&self) -> Option<&Decision> {
        match &self.stage {
            Stage::Routed(routed) => routed.decision.as_ref(),
            _ => None,
        }
    }

    /// Reads the body and what the headers say of the request.
    fn read(&mut self, body: BodyKnown) -> Result<Subject, RequestError> {
        let context = self.context.clone();
        let whole = self.pending.take_body();
        let parsed = match body {
            BodyKnown::Whole => {
                let video = VideoHints::read(|name| self.pending.headers.get(name));
                let (path, wants_prompt) = (path_of(&self.pending.headers), context.wants_prompt);
                context.parsers.parse(&path, whole.clone(), wants_prompt, &video)
            }
            _ => Ok(ParsedRequest::unseen()),
        };
        let parsed = parsed.map_err(|error| self.refuse_unread(error))?;
        let director = &context.director;
        let incoming = parsed.model.as_deref();
        let (target, rewritten_by) = match body {
            BodyKnown::Whole => {
                director.target_model(incoming, self.pending.headers.named(headers::MODEL_REWRITE))
            }
            _ => (None, None),
        };
        if target.is_none() && parsed.model_required {
            let error = RequestError::bad_request("model not found in request body");
            return Err(self.refuse_unread(error));
        }
        let target = target.unwrap_or_default();
        let (body, body_changed) = if parsed.model_required && incoming != Some(target.as_str()) {
            let changed = parsed.with_model(&whole, &target, context.limits.body);
            (changed.map_err(|error| self.refuse_unread(error))?, true)
        } else {
            (whole, false)
        };
        let wanted = context.asks_for_usage && parsed.stream && !self.no_response_body;
        let asked = wanted.then(|| api::with_usage(parsed.api, &body, context.limits.body));
        let asked = asked.flatten();
        let hides_usage = asked.is_some();
        let (body, body_changed) = match asked {
            Some(asked) => (asked, true),
            None => (body, body_changed),
        };
        let headers = std::mem::take(&mut self.pending.headers);
        let incoming_model = parsed.model.unwrap_or_default();
        let objective = headers.named(headers::OBJECTIVE);
        let mut request = InferenceRequest {
            id: headers.get(headers::REQUEST_ID).unwrap_or_default().to_owned(),
            priority: director.objectives.priority(objective, &incoming_model),
            incoming_model,
            target_model: target,
            cache_salt: parsed.cache_salt,
            cached_only: headers::prefers_if_available(&headers),
            headers,
            prompt: parsed.prompt,
            stream: parsed.stream,
            max_output_tokens: parsed.max_output_tokens,
            body_bytes: body.len(),
            received_at: self.times.received,
            flow: None,
            explained: self.traced.as_ref().is_some_and(|traced| traced.recorded),
            kept: RequestData::default(),
        };
        context.processors.iter().for_each(|plugin| plugin.process(&mut request));
        Ok(Subject {
            request: Arc::new(request),
            has_body: true,
            api: parsed.api,
            skip_response: parsed.skip_response,
            body,
            body_changed,
            hides_usage,
            rewritten_by,
        })
    }

    /// Schedules a request that was admitted.
    fn route(
        &mut self,
        subject: Subject,
        admitted: Result<Admission, RequestError>,
    ) -> Result<Forward, RequestError> {
        let (data, permit) = match admitted {
            Ok(admission) => admission,
            Err(error) => return Err(self.refuse(&subject, error.into())),
        };
        let context = self.context.clone();
        let begun = context.runtime.now();
        let subset = self.pending.subset.as_ref();
        let decision = context.director.schedule(&subject.request, data, subset, begun);
        let now = context.runtime.now();
        // Where there is nothing to pick from, the scheduler was not asked.
        let asked = |refusal: &Refusal| refusal.error.drop_reason != Some(DropReason::NoEndpoints);
        if decision.as_ref().err().is_none_or(asked) {
            self.times.scheduling = Some(now.since(begun));
        }
        self.times.decided = Some(now);
        self.let_body_go();
        let mut decision = match decision {
            Ok(decision) => decision,
            Err(refusal) => return Err(self.refuse(&subject, refusal)),
        };
        if let Some(parent) = self.trace_parent() {
            decision.directions.set_header(headers::TRACE_PARENT.as_bytes(), parent.clone());
        }
        let Some(endpoint) = decision.target().cloned() else {
            let error = RequestError::new(Code::Internal, "no endpoint was picked");
            return Err(self.refuse(&subject, error.into()));
        };
        let Subject { request, has_body, api, skip_response, body, .. } = subject;
        let (body_changed, hides_usage) = (subject.body_changed, subject.hides_usage);
        let rewritten_by = subject.rewritten_by;
        let destination = destination(decision.endpoints(), decision.directions.port());
        let stay = permit.map(|permit| permit.reserved(&decision, now));
        let decision = Some(decision);
        self.stage = Stage::Routed(Box::new(Routed {
            request,
            has_body,
            endpoint,
            decision,
            api,
            hides_usage,
            rewritten_by,
            stay,
        }));
        self.tell(|listener, so_far| listener.routed(so_far));
        if skip_response {
            self.end(Ending::GatewayAlone);
        }
        Ok(Forward { destination, body, body_changed, skip_response })
    }

    /// The body is handed on or dropped.
    pub(super) fn let_body_go(&mut self) {
        self.context.limits.held.give_back(std::mem::take(&mut self.held));
    }

    /// Sends a request without a body to any allowed endpoint.
    fn route_anywhere(&mut self) -> Result<Forward, RequestError> {
        let picked = self.context.director.any_endpoint(self.pending.subset.as_ref());
        self.times.decided = Some(self.context.runtime.now());
        let endpoint = picked.map_err(|error| self.refuse_unread(error))?;
        let destination = Bytes::copy_from_slice(endpoint.host_port.as_bytes());
        let request = Arc::new(self.unread());
        self.stage = Stage::Routed(Box::new(Routed {
            request,
            has_body: false,
            endpoint,
            decision: None,
            api: Api::Passthrough,
            hides_usage: false,
            rewritten_by: None,
            stay: None,
        }));
        self.tell(|listener, so_far| listener.routed(so_far));
        let body = Bytes::new();
        Ok(Forward { destination, body, body_changed: false, skip_response: false })
    }

    /// What is known of a request whose body was not read.
    pub(super) fn unread(&mut self) -> InferenceRequest {
        let headers = std::mem::take(&mut self.pending.headers);
        InferenceRequest {
            id: headers.get(headers::REQUEST_ID).unwrap_or_default().to_owned(),
            headers,
            received_at: self.times.received,
            ..InferenceRequest::default()
        }
    }

    /// Ends the exchange with an error before its request could be read.
    fn refuse_unread(&mut self, error: RequestError) -> RequestError {
        let subject = Subject {
            request: Arc::new(self.unread()),
            has_body: true,
            api: Api::Passthrough,
            skip_response: false,
            body: Bytes::new(),
            body_changed: false,
            hides_usage: false,
            rewritten_by: None,
        };
        self.refuse(&subject, error.into())
    }

    /// Ends the exchange with an error, which the client is to get.
    fn refuse(&mut self, subject: &Subject, refusal: Refusal) -> RequestError {
        let now = self.context.runtime.now();
        self.let_body_go();
        self.times.decided.get_or_insert(now);
        self.times.ended = now;
        self.stage = Stage::Refused(subject.request.clone());
        let outcome = Outcome {
            request: &subject.request,
            has_body: subject.has_body,
            endpoint: None,
            decision: None,
            refusal: Some(&refusal),
            rewritten_by: subject.rewritten_by.as_deref(),
            times: self.times,
            response: &self.response.seen,
            ending: Ending::Refused,
            kept: &self.kept,
        };
        self.context.listeners.iter().for_each(|listener| listener.ended(&outcome));
        refusal.error
    }
}

/// The value of the destination header; with `port`, that port of every endpoint.
fn destination(endpoints: &[Arc<Endpoint>], port: Option<u16>) -> Bytes {
    let text = |e: &Arc<Endpoint>| match port {
        None => e.host_port.to_string(),
        Some(port) => std::net::SocketAddr::new(e.spec.ip, port).to_string(),
    };
    match (endpoints, port) {
        ([one], None) => Bytes::copy_from_slice(one.host_port.as_bytes()),
        (several, _) => several.iter().map(text).collect::<Vec<_>>().join(",").into(),
    }
}
