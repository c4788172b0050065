use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::zmtp::{Connection, Role, ZmtpError};
use crate::clock;
use crate::kv_events::{
    Line, Numbered, Replayed, StreamState, StreamStatus, Taken, numbered, replayed,
};
use crate::scheduling::Runtime;

/// Where one publisher is found.
#[derive(Clone, Debug)]
pub struct Source {
    /// `host:port` of its live stream.
    pub live: String,
    /// `host:port` where it replays, if it does.
    pub replay: Option<String>,
}

/// What a stream may take and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of one message.
    pub message: usize,
    /// Bytes of live messages set aside during a replay.
    pub set_aside: usize,
    pub connect: Duration,
    /// The first and the longest wait before connecting again.
    pub backoff: (Duration, Duration),
    /// The longest silence of a replay, and the longest replay.
    pub replay: (Duration, Duration),
    /// How long no replay is asked for after one that broke off.
    pub replay_rest: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            message: 16 << 20,
            set_aside: 64 << 20,
            connect: Duration::from_secs(5),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            replay: (Duration::from_secs(2), Duration::from_secs(120)),
            replay_rest: Duration::from_secs(30),
        }
    }
}

/// Follows one publisher for as long as it is kept: connects, takes in what comes, asks for what
/// is missing, and connects again.
#[derive(Debug)]
pub struct Subscription {
    status: Arc<StreamStatus>,
    _end: DropGuard,
}

impl Subscription {
    /// Runs on `runtime`, which must be one of tokio's.
    pub fn start(
        source: Source,
        line: Arc<Mutex<Line>>,
        bounds: Bounds,
        runtime: &dyn Runtime,
    ) -> Self {
        let status = line.lock().status().clone();
        let task = Task { source, line, status: status.clone(), bounds, no_replay_before: None };
        let end = CancellationToken::new();
        let ended = end.clone();
        runtime.spawn(Box::pin(async move {
            tokio::select! {
                () = task.run() => {}
                () = ended.cancelled() => {}
            }
        }));
        Self { status, _end: end.drop_guard() }
    }

    pub fn status(&self) -> &Arc<StreamStatus> {
        &self.status
    }
}

struct Task {
    source: Source,
    line: Arc<Mutex<Line>>,
    status: Arc<StreamStatus>,
    bounds: Bounds,
    no_replay_before: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        let (first, longest) = self.bounds.backoff;
        let mut wait = first;
        loop {
            let connects = self.status.counters.connects.get();
            let Err(error) = self.follow().await;
            let status = self.status.clone();
            if status.counters.connects.get() > connects {
                wait = first;
            }
            if status.problem().is_none() {
                warn!(publisher = %self.source.live, %error, "KV events cannot be followed; trying again");
            }
            status.counters.disconnects.add(1);
            status.set_problem(Some(error.to_string()));
            status.set_state(StreamState::Connecting);
            // Spread, so that publishers that went together are not all asked at once.
            sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, ZmtpError> {
        let mut live = self.connect(&self.source.live, Role::Sub).await?;
        // Everything: a publisher whose topic does not fit is to be noticed, not to be silent.
        live.subscribe("").await?;
        let status = self.status.clone();
        status.counters.connects.add(1);
        if status.problem().is_some() {
            info!(publisher = %self.source.live, "KV events are followed again");
        }
        status.set_problem(None);
        self.resume(&mut live).await?;
        loop {
            status.set_state(StreamState::Live);
            let Some(batch) = numbered(live.receive().await?) else {
                status.counters.malformed_messages.add(1);
                continue;
            };
            let taken = self.line.lock().live(&batch, clock::now());
            if let Taken::Missing { from } = taken {
                self.fill(from, Some(batch), &mut live).await?;
            }
        }
    }

    async fn connect(&self, address: &str, role: Role) -> Result<Connection, ZmtpError> {
        let stream = timeout(self.bounds.connect, TcpStream::connect(address));
        let stream = stream.await.map_err(|_| ZmtpError::TimedOut)??;
        Connection::open(stream, role, self.bounds.message).await
    }

    /// Takes in what went by before the connection was made. What was known is kept only where the
    /// publisher can show that it is still the one that said it.
    async fn resume(&mut self, live: &mut Connection) -> Result<(), ZmtpError> {
        if self.source.replay.is_none() {
            return Ok(());
        }
        let from = self.line.lock().last().unwrap_or(0);
        self.fill(from, None, live).await
    }

    /// Asks for the batches from `from` on, and then takes in `batch`, which came meanwhile, and
    /// whatever else did.
    async fn fill(
        &mut self,
        from: u64,
        batch: Option<Numbered>,
        live: &mut Connection,
    ) -> Result<(), ZmtpError> {
        let mut aside: VecDeque<Numbered> = batch.into_iter().collect();
        let may_ask = self.no_replay_before.is_none_or(|moment| Instant::now() >= moment);
        if let Some(replay) = self.source.replay.clone().filter(|_| may_ask) {
            let status = self.status.clone();
            status.set_state(StreamState::Replaying);
            status.counters.replays.add(1);
            let result = self.replay(&replay, from, live, &mut aside).await;
            if let Err(Broken::Replay(error)) = result {
                info!(publisher = %self.source.live, %error, "a replay of KV events broke off");
                status.counters.replays_failed.add(1);
                self.no_replay_before = Some(Instant::now() + self.bounds.replay_rest);
            } else if let Err(Broken::Live(error)) = result {
                return Err(error);
            }
        }
        for batch in aside {
            let mut line = self.line.lock();
            if let Taken::Missing { .. } = line.set_aside(&batch) {
                line.go_on_from(&batch);
            }
        }
        Ok(())
    }

    async fn replay(
        &mut self,
        address: &str,
        from: u64,
        live: &mut Connection,
        aside: &mut VecDeque<Numbered>,
    ) -> Result<(), Broken> {
        let (silence, longest) = self.bounds.replay;
        let deadline = Instant::now() + longest;
        let mut connection = self.connect(address, Role::Dealer).await?;
        connection.send(&[b"", &from.to_be_bytes()]).await?;
        // The first batch tells whether the publisher is the one that sent the last.
        let mut check = self.line.lock().last() == Some(from);
        let mut size = aside.iter().map(|batch| batch.payload.len()).sum::<usize>();
        loop {
            let patience = silence.min(deadline.saturating_duration_since(Instant::now()));
            let parts = tokio::select! {
                answer = timeout(patience, connection.receive()) => {
                    answer.map_err(|_| ZmtpError::TimedOut)??
                }
                parts = live.receive() => {
                    let batch = numbered(parts.map_err(Broken::Live)?);
                    match batch {
                        Some(batch) => {
                            size = size.saturating_add(batch.payload.len() + size_of::<Numbered>());
                            aside.push_back(batch);
                        }
                        None => self.status.counters.malformed_messages.add(1),
                    }
                    if size > self.bounds.set_aside {
                        return Err(Broken::Replay(ZmtpError::TooLong));
                    }
                    continue;
                }
            };
            match replayed(parts) {
                Some(Replayed::Batch(batch)) => {
                    if std::mem::take(&mut check) && !self.line.lock().is_last(&batch) {
                        self.restarted();
                        connection.send(&[b"", &0u64.to_be_bytes()]).await?;
                        // What comes until the end belongs to the first request.
                        skip_to_end(&mut connection, silence).await?;
                        continue;
                    }
                    self.line.lock().replayed(&batch);
                }
                Some(Replayed::End) => {
                    if check {
                        self.restarted();
                    }
                    return Ok(());
                }
                None => self.status.counters.malformed_messages.add(1),
            }
        }
    }

    fn restarted(&mut self) {
        self.status.counters.restarts.add(1);
        self.line.lock().reset();
    }
}

async fn skip_to_end(connection: &mut Connection, silence: Duration) -> Result<(), ZmtpError> {
    loop {
        let parts = timeout(silence, connection.receive()).await;
        if replayed(parts.map_err(|_| ZmtpError::TimedOut)??) == Some(Replayed::End) {
            return Ok(());
        }
    }
}

/// Which connection broke during a replay.
enum Broken {
    Replay(ZmtpError),
    Live(ZmtpError),
}

impl From<ZmtpError> for Broken {
    fn from(error: ZmtpError) -> Self {
        Self::Replay(error)
    }
}
