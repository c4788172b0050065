use std::fmt;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, Script};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::messages;
use super::settlements::Settlements;
use crate::quota::{
    Backlog, OpenSharedCounters, SharedCounters, SharedSettings, SharedSettle, SharedTake,
    SharedUse, Unavailable,
};
use crate::scheduling::BoxFuture;

/// Opens counters in Redis.
#[derive(Debug, Default)]
pub struct RedisCounters;

impl OpenSharedCounters for RedisCounters {
    fn open(&self, settings: &SharedSettings) -> Result<Arc<dyn SharedCounters>, String> {
        // The error may hold the address, and the address a password.
        let client = Client::open(settings.address.as_str())
            .map_err(|_| "is no address of a Redis server".to_owned())?;
        let store = Arc::new(Store {
            client,
            settings: settings.clone(),
            take: Script::new(include_str!("take.lua")),
            settle: Script::new(include_str!("settle.lua")),
            connection: Mutex::default(),
        });
        let settlements = Settlements::start(store.clone());
        Ok(Arc::new(Counters { store, settlements }))
    }
}

#[derive(Debug)]
struct Counters {
    store: Arc<Store>,
    settlements: Settlements,
}

impl SharedCounters for Counters {
    fn take(&self, take: SharedTake) -> BoxFuture<Result<SharedUse, Unavailable>> {
        let store = self.store.clone();
        Box::pin(async move { store.take(&take).await })
    }

    fn settle(&self, settle: SharedSettle) {
        self.settlements.add(settle);
    }

    fn backlog(&self) -> Backlog {
        self.settlements.backlog()
    }
}

/// Why a script did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Now; it may run later.
    Away,
    /// It never will.
    Refused,
}

/// The server, as far as we have one connection to it.
pub(super) struct Store {
    client: Client,
    settings: SharedSettings,
    take: Script,
    settle: Script,
    connection: Mutex<Option<Connected>>,
}

#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    /// Tells connections apart.
    number: Arc<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        f.debug_struct("Store").field("prefix", &self.settings.prefix).finish_non_exhaustive()
    }
}

impl Store {
    async fn take(&self, take: &SharedTake) -> Result<SharedUse, Unavailable> {
        let numbers = self
            .run(async |mut connection| {
                let mut call = self.take.prepare_invoke();
                messages::take(&mut call, &self.settings, take);
                call.invoke_async::<Vec<i64>>(&mut connection).await
            })
            .await
            .map_err(|_| Unavailable)?;
        messages::answer(&numbers, &take.tenants).ok_or(Unavailable)
    }

    pub(super) async fn settle(&self, settle: &SharedSettle) -> Result<(), Trouble> {
        self.run(async |mut connection| {
            let mut call = self.settle.prepare_invoke();
            messages::settle(&mut call, &self.settings, settle);
            call.invoke_async::<i64>(&mut connection).await
        })
        .await
        .map(|_| ())
    }

    /// Runs a script within the deadline. A connection that does not answer in time is given up:
    /// what would still come over it is of no use, and the next one may do better.
    async fn run<T>(
        &self,
        script: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, Trouble> {
        let deadline = self.settings.deadline;
        let begun = tokio::time::Instant::now();
        let connected = timeout(deadline, self.connected()).await;
        let connected = connected.map_err(|_| Trouble::Away)?.map_err(|error| {
            tracing::debug!(%error, "Redis cannot be reached");
            Trouble::Away
        })?;
        let left = deadline.saturating_sub(begun.elapsed());
        match timeout(left, script(connected.connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, "Redis refuses a script");
                if error.is_unrecoverable_error() || error.is_io_error() {
                    self.give_up(&connected.number).await;
                }
                // Of a wrong type is what somebody else has put in a key's place.
                let is_for_good = matches!(error.code(), Some("WRONGTYPE" | "ERR"));
                Err(if is_for_good { Trouble::Refused } else { Trouble::Away })
            }
            Err(_) => {
                self.give_up(&connected.number).await;
                Err(Trouble::Away)
            }
        }
    }

    async fn connected(&self) -> Result<Connected, RedisError> {
        let mut current = self.connection.lock().await;
        if let Some(connected) = &*current {
            return Ok(connected.clone());
        }
        let connection = self.client.get_multiplexed_async_connection().await?;
        Ok(current.insert(Connected { connection, number: Arc::default() }).clone())
    }

    async fn give_up(&self, number: &Arc<()>) {
        let mut current = self.connection.lock().await;
        if current.as_ref().is_some_and(|connected| Arc::ptr_eq(&connected.number, number)) {
            *current = None;
        }
    }
}
