//! Scraping one worker: a state machine that does what it can without waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::EndpointErrors;
use super::common::Common;
use super::connection::{Connection, DiscardBuffer};
use super::extract::{Layout, Plan, Reading};
use super::health::{Condition, Health};
use super::http::{Body, Buffer, HttpError};
use crate::clock::{Timestamp, nanos};
use crate::endpoints::Endpoint;
use crate::health::Scrape;

/// Time a worker has to answer, from the request (or the connection, if there is none) to the
/// last byte. The reference's budget for a poll.
const POLL_BUDGET: Duration = Duration::from_secs(1);
/// How often the whole answer is read: in between only as much as holds the live signals.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(1);
/// A worker that fails is asked less and less, down to this often.
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// Room for the head of an answer, bytes; only a guess.
const HEAD_ROOM: usize = 512;
/// One read takes this much, where all of the answer is wanted, bytes.
const READ_SIZE: usize = 64 << 10;

/// One endpoint and how scraping it goes.
pub(super) struct Worker {
    pub(super) endpoint: Arc<Endpoint>,
    /// Index of the page that it is asked for.
    pub(super) page: usize,
    errors: Arc<EndpointErrors>,
    address: SocketAddr,
    request: Box<[u8]>,
    path: Box<str>,
    plan: Arc<Plan>,
    layout: Layout,
    connection: Option<Connection>,
    poll: Option<Poll>,
    /// Held only while it holds something.
    buffer: Option<Buffer>,
    due: Timestamp,
    full_read_due: Timestamp,
    failures: u32,
    health: Health,
}

/// One request that is under way.
struct Poll {
    deadline: Timestamp,
    /// True until the first byte comes in over a connection that served before: it may have
    /// been closed at the other end in the meantime, which is nobody's failure.
    may_be_stale: bool,
    /// Read only the beginning.
    prefix_only: bool,
    stage: Stage,
}

enum Stage {
    Send {
        sent: usize,
    },
    Head,
    Body {
        body: Body,
        keep_alive: bool,
    },
    /// All that is wanted was read; the rest of the answer is let go by.
    Rest {
        body: Body,
        keep_alive: bool,
        reading: Reading,
    },
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Stage::Send { .. } => "connecting",
            Stage::Head => "waiting for the answer",
            Stage::Body { .. } | Stage::Rest { .. } => "reading the answer",
        }
    }
}

/// Why a poll came to nothing.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("connection closed without an answer")]
    Closed,
    #[error("no answer within {POLL_BUDGET:?}, {0}")]
    Timeout(&'static str),
    #[error("status {0}")]
    Status(u16),
    #[error("{0}")]
    Http(#[from] HttpError),
}

impl PollError {
    /// Nobody listens there.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused)
    }
}

impl Worker {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        page: usize,
        common: &Common,
        due: Timestamp,
    ) -> Self {
        let node = endpoint.spec.placement.node_ip.filter(|_| common.at_node);
        let ip = node.unwrap_or(endpoint.spec.ip);
        let address = SocketAddr::new(ip, common.scrape.port.unwrap_or(endpoint.spec.port));
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: epp/{}\r\nAccept-Encoding: identity\r\n\
             Accept: text/plain;version=0.0.4;q=1,text/plain;q=0.5,*/*;q=0.1\r\n\r\n",
            common.scrape.path,
            env!("CARGO_PKG_VERSION"),
        );
        let plan = common.plan(&endpoint, None);
        let errors = common.counters.add(&endpoint);
        Self {
            endpoint,
            page,
            errors,
            address,
            request: request.into_bytes().into(),
            path: common.scrape.path.as_str().into(),
            plan,
            layout: Layout::default(),
            connection: None,
            poll: None,
            buffer: None,
            due,
            full_read_due: Timestamp::START,
            failures: 0,
            health: Health::default(),
        }
    }

    /// When [`Worker::step`] has something to do next, given that it was just called.
    pub(super) fn next_step(&self, now: Timestamp, pause: Duration) -> Timestamp {
        if self.poll.is_some() { now + pause } else { self.due }
    }

    /// Goes on with the poll under way, or begins one if it is due.
    pub(super) fn step(&mut self, now: Timestamp, common: &mut Common) {
        if self.poll.is_none() && (now < self.due || !self.begin(now, common)) {
            return;
        }
        let mut result = self.advance(common);
        if self.poll.as_ref().is_some_and(|p| p.may_be_stale) && result.is_err() {
            self.reconnect(now);
            result = self.advance(common);
        }
        match result {
            Ok(Some(reading)) => self.succeeded(reading, now, common),
            Ok(None) => match &self.poll {
                Some(poll) if now >= poll.deadline => {
                    let error = PollError::Timeout(poll.stage.name());
                    self.failed(&error, now, common);
                }
                _ => self.release_buffer(common, false),
            },
            Err(error) => self.failed(&error, now, common),
        }
    }

    /// False where there is nothing to ask this worker.
    fn begin(&mut self, now: Timestamp, common: &Common) -> bool {
        let is_full_read_due = now >= self.full_read_due;
        if is_full_read_due {
            // Labels may have changed, and with them the engine.
            let plan = common.plan(&self.endpoint, Some(&self.plan));
            if !Arc::ptr_eq(&plan, &self.plan) {
                self.plan = plan;
                self.layout = Layout::default();
            }
            if self.plan.is_empty() {
                self.due = now + FULL_READ_INTERVAL;
                return false;
            }
        }
        let is_connected = self.connection.is_some();
        self.poll = Some(Poll {
            deadline: now + POLL_BUDGET,
            may_be_stale: is_connected,
            prefix_only: is_connected && !is_full_read_due && self.layout.prefix() > 0,
            stage: Stage::Send { sent: 0 },
        });
        common.counters.scrapes.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Starts the poll again over a new connection. A worker that closed the old one may have
    /// been restarted, so all of the answer is read.
    fn reconnect(&mut self, now: Timestamp) {
        self.connection = None;
        self.poll = Some(Poll {
            deadline: now + POLL_BUDGET,
            may_be_stale: false,
            prefix_only: false,
            stage: Stage::Send { sent: 0 },
        });
    }

    /// Does all that can be done without waiting; `None` where that is not the end.
    fn advance(&mut self, common: &mut Common) -> Result<Option<Reading>, PollError> {
        let Some(poll) = &mut self.poll else { return Ok(None) };
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.address, common.tls.as_ref())?),
        };
        let buffer = self.buffer.get_or_insert_with(|| common.buffer());
        loop {
            let done = match &mut poll.stage {
                Stage::Send { sent } => send(connection, &self.request, sent)?,
                _ => poll.receive(connection, buffer, &self.layout, &mut common.discard)?,
            };
            if !done {
                return Ok(None);
            }
            if let Some((reading, keep_alive)) =
                poll.next_stage(buffer, &self.plan, &mut self.layout)?
            {
                if !keep_alive {
                    self.connection = None;
                }
                return Ok(Some(reading));
            }
        }
    }

    fn succeeded(&mut self, mut reading: Reading, now: Timestamp, common: &mut Common) {
        let was_full = !self.poll.take().is_some_and(|poll| poll.prefix_only);
        self.release_buffer(common, true);
        if was_full {
            self.full_read_due = now + FULL_READ_INTERVAL;
        }
        let problems = reading.problems.len() as u64;
        common.counters.extract_failed(&self.errors, problems);
        if reading.is_failure() {
            self.tell(Condition::Failing, now, |plan| plan.describe(&reading));
            common.scraped(&self.endpoint, Scrape::Failed, now);
            self.back_off(now, common);
            return;
        }
        let condition = if problems > 0 { Condition::Partial } else { Condition::Good };
        self.tell(condition, now, |plan| plan.describe(&reading));
        self.failures = 0;
        reading.store_beside(&self.endpoint);
        if common.reads_signals() {
            reading.store(&self.endpoint.signals, now);
            let signals = self.endpoint.signals.load();
            // Only a complete reading says how busy it is.
            let busy = (problems == 0).then(|| signals.waiting.saturating_add(signals.running));
            common.scraped(&self.endpoint, Scrape::Read { busy }, now);
        }
        // The next multiple of the tick: what was missed is not made up for.
        let missed = nanos(now.since(self.due)) / nanos(common.tick);
        self.due += Duration::from_nanos((missed + 1) * nanos(common.tick));
    }

    fn failed(&mut self, error: &PollError, now: Timestamp, common: &mut Common) {
        self.poll = None;
        self.connection = None;
        self.release_buffer(common, true);
        common.counters.poll_failed(&self.errors);
        self.tell(Condition::Failing, now, |_| error.to_string());
        let scrape = if error.is_refusal() { Scrape::Refused } else { Scrape::Failed };
        common.scraped(&self.endpoint, scrape, now);
        self.back_off(now, common);
    }

    /// Logs how scraping goes, where that is news.
    fn tell(&mut self, condition: Condition, now: Timestamp, reason: impl FnOnce(&Plan) -> String) {
        if !self.health.is_news(condition, now) {
            return;
        }
        let (endpoint, address) = (&self.endpoint.id, self.address);
        let path = &*self.path;
        let reason = reason(&self.plan);
        match condition {
            Condition::Good => {
                tracing::info!(%endpoint, %address, path, "worker metrics are back");
            }
            Condition::Partial => {
                tracing::warn!(%endpoint, %address, path, %reason, "worker metrics are incomplete");
            }
            Condition::Failing => tracing::warn!(
                %endpoint, %address, path, %reason,
                "worker metrics cannot be read; the last values stay, and age"
            ),
        }
    }

    /// Waits a tick after the first failure, then twice as long each time.
    fn back_off(&mut self, now: Timestamp, common: &Common) {
        let pause = common.tick.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        self.due = now + pause.min(MAX_BACKOFF.max(common.tick));
    }

    /// Gives the buffer to the next worker, if it is empty or its content is of no use any more.
    fn release_buffer(&mut self, common: &mut Common, clear: bool) {
        if let Some(mut buffer) = self.buffer.take_if(|buffer| clear || buffer.is_empty()) {
            buffer.clear();
            common.keep(buffer);
        }
    }
}

/// Writes the rest of the request; false where the connection takes no more now.
fn send(connection: &mut Connection, request: &[u8], sent: &mut usize) -> io::Result<bool> {
    while *sent < request.len() {
        match connection.write(&request[*sent..]) {
            Ok(n) => *sent += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

impl Poll {
    /// Takes more of the answer in; false where no more is there now.
    fn receive(
        &mut self,
        connection: &mut Connection,
        buffer: &mut Buffer,
        layout: &Layout,
        discard: &mut DiscardBuffer,
    ) -> Result<bool, PollError> {
        let received = match &mut self.stage {
            Stage::Rest { body, .. } if body.droppable() > 0 => {
                let dropped = connection.drop_bytes(body.droppable(), discard);
                if let Ok(n) = dropped {
                    body.passed(n as u64)?;
                }
                dropped
            }
            _ => {
                let room = if self.prefix_only {
                    (HEAD_ROOM + layout.prefix()).saturating_sub(buffer.len()).max(HEAD_ROOM)
                } else {
                    READ_SIZE
                };
                let read = connection.read(buffer.room(room));
                if let Ok(n) = read {
                    buffer.filled(n);
                }
                read
            }
        };
        match received {
            Ok(0) => match &mut self.stage {
                Stage::Body { body, .. } | Stage::Rest { body, .. } => body.closed()?,
                _ => return Err(PollError::Closed),
            },
            Ok(_) => self.may_be_stale = false,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        Ok(true)
    }

    /// Decodes what came in. At the end: what was read, and whether the connection may be used
    /// again.
    fn next_stage(
        &mut self,
        buffer: &mut Buffer,
        plan: &Plan,
        layout: &mut Layout,
    ) -> Result<Option<(Reading, bool)>, PollError> {
        if let Stage::Send { .. } = self.stage {
            self.stage = Stage::Head;
            return Ok(None);
        }
        if let Stage::Head = self.stage {
            let Some(head) = buffer.head()? else { return Ok(None) };
            if head.status != 200 {
                return Err(PollError::Status(head.status));
            }
            self.stage = Stage::Body { body: head.body, keep_alive: head.keep_alive };
        }
        if let Stage::Body { body, keep_alive } = &mut self.stage {
            body.decode(buffer)?;
            let text = buffer.payload();
            let keep_alive = *keep_alive;
            if self.prefix_only && (body.is_over() || text.len() >= layout.prefix()) {
                match plan.read_prefix(text, layout) {
                    Some(reading) => {
                        let body = std::mem::take(body);
                        self.stage = Stage::Rest { body, keep_alive, reading };
                    }
                    None => self.prefix_only = false,
                }
            }
        }
        match &mut self.stage {
            Stage::Body { body, keep_alive } if body.is_over() => {
                Ok(Some((plan.read(buffer.payload(), layout), *keep_alive)))
            }
            Stage::Rest { body, keep_alive, reading } => {
                buffer.drop_payload();
                body.decode(buffer)?;
                let is_over = body.is_over();
                Ok(is_over.then(|| (std::mem::take(reading), *keep_alive)))
            }
            _ => Ok(None),
        }
    }
}
