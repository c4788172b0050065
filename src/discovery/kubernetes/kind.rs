use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{Api, ApiResource, ListParams};
use kube::core::DynamicResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::WATCH_SECONDS;

/// What all watches of one discovery share.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) missing_kind_retry: Duration,
}

/// How much of a kind is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Availability {
    /// The API server has not answered yet.
    #[default]
    Unknown,
    /// The API server does not have the kind, or does not let us read it.
    Missing,
    /// The objects were listed at least once.
    Listed,
}

/// The objects of one kind, by name, as last known.
#[derive(Debug)]
pub(super) struct Listing<T> {
    pub(super) availability: Availability,
    pub(super) objects: BTreeMap<String, T>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { availability: Availability::Unknown, objects: BTreeMap::new() }
    }
}

impl<T> Listing<T> {
    /// What a kind looks like that nobody asked for.
    pub(super) fn not_wanted() -> Self {
        Self { availability: Availability::Missing, objects: BTreeMap::new() }
    }
}

/// A kind, narrowed to what we want of it.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) resource: ApiResource,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
}

impl Selection {
    pub(super) fn all(resource: ApiResource) -> Self {
        Self { resource, labels: None, fields: None }
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.resource.plural, self.resource.api_version)
    }
}

/// Follows the objects of `selection`, each as `read` understands it, until the handle is
/// dropped. The API server may be away, restart or forget where we were; a kind may be absent or
/// forbidden and appear later.
pub(super) fn follow<K, T>(
    cluster: &Cluster,
    selection: Selection,
    read: fn(K) -> T,
) -> (watch::Receiver<Listing<T>>, AbortOnDropHandle<()>)
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
    T: Send + Sync + 'static,
{
    let (known, receiver) = watch::channel(Listing::default());
    let api = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &selection.resource);
    let follower = Follower {
        api,
        known,
        read,
        trouble: Trouble::new(selection.describe(), cluster.missing_kind_retry),
        selection,
    };
    (receiver, AbortOnDropHandle::new(tokio::spawn(follower.run())))
}

struct Follower<K, T> {
    api: Api<K>,
    selection: Selection,
    known: watch::Sender<Listing<T>>,
    read: fn(K) -> T,
    trouble: Trouble,
}

enum Change<T> {
    Set(String, T),
    Remove(String),
    Replace(BTreeMap<String, T>),
}

impl<K, T> Follower<K, T>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
    T: Send + Sync + 'static,
{
    async fn run(mut self) {
        loop {
            // Each round begins with a fresh list, so that nothing that happened in between is
            // missed, and no stale resource version is tried twice.
            let error = match self.probe().await {
                Ok(()) => self.watch().await,
                Err(error) => error,
            };
            let listed = self.known.borrow().availability == Availability::Listed;
            if is_missing(&error) && !listed {
                self.known.send_if_modified(|known| {
                    let news = known.availability == Availability::Unknown;
                    known.availability = Availability::Missing;
                    news
                });
            }
            let wait = self.trouble.met(&error, listed);
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for one object. The watcher complains on its own, each time, about kinds that are
    /// absent or forbidden; those it never gets to see.
    async fn probe(&self) -> Result<(), kube::Error> {
        let mut params = ListParams::default().limit(1);
        params.label_selector.clone_from(&self.selection.labels);
        params.field_selector.clone_from(&self.selection.fields);
        self.api.list_metadata(&params).await.map(drop)
    }

    /// Lists and watches until something goes wrong.
    async fn watch(&mut self) -> kube::Error {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        config.label_selector.clone_from(&self.selection.labels);
        config.field_selector.clone_from(&self.selection.fields);
        // Many events at once (a list, a node that comes back) are one change for our readers.
        let mut events = pin!(watcher(self.api.clone(), config).ready_chunks(512));
        let mut listing = BTreeMap::new();
        while let Some(chunk) = events.next().await {
            let mut changes = Vec::new();
            let mut failure = None;
            for event in chunk {
                match event {
                    Ok(Event::Init) => listing = BTreeMap::new(),
                    Ok(Event::InitApply(object)) => {
                        listing.insert(object.name_any(), (self.read)(object));
                    }
                    Ok(Event::InitDone) => {
                        changes.push(Change::Replace(std::mem::take(&mut listing)));
                    }
                    Ok(Event::Apply(object)) => {
                        changes.push(Change::Set(object.name_any(), (self.read)(object)));
                    }
                    Ok(Event::Delete(object)) => changes.push(Change::Remove(object.name_any())),
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            if !changes.is_empty() {
                self.trouble.over();
                self.known.send_modify(|known| apply(known, changes));
            }
            if let Some(error) = failure {
                return cause(error);
            }
        }
        kube::Error::Service("the watch ended".into())
    }
}

fn apply<T>(known: &mut Listing<T>, changes: Vec<Change<T>>) {
    for change in changes {
        match change {
            Change::Set(name, object) => {
                known.objects.insert(name, object);
            }
            Change::Remove(name) => {
                known.objects.remove(&name);
            }
            Change::Replace(objects) => {
                *known = Listing { availability: Availability::Listed, objects };
            }
        }
    }
}

fn cause(error: watcher::Error) -> kube::Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        error @ watcher::Error::NoResourceVersion => kube::Error::Service(error.into()),
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 || status.code == 404)
}

/// How often to try again, and what to say about it: one line when trouble begins, one when it
/// is over.
struct Trouble {
    what: String,
    missing_kind_retry: Duration,
    attempts: u32,
    said: Said,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Unreachable,
    Missing,
}

impl Trouble {
    fn new(what: String, missing_kind_retry: Duration) -> Self {
        Self { what, missing_kind_retry, attempts: 0, said: Said::Nothing }
    }

    /// Takes note of an error; answers how long to wait. `listed` is true where objects of the
    /// kind are known, and in use meanwhile.
    fn met(&mut self, error: &kube::Error, listed: bool) -> Duration {
        let what = &self.what;
        match error {
            // The server forgot where we were: an ordinary event that a new list cures.
            kube::Error::Api(status) if status.code == 410 => {
                tracing::debug!("{what}: the API server asks for a new list: {status}");
            }
            _ if is_missing(error) && !listed => {
                if self.said != Said::Missing {
                    self.said = Said::Missing;
                    let most = self.missing_kind_retry.as_secs();
                    tracing::warn!(
                        "{what} cannot be read: {error}; going on without, looking again at \
                         least every {most} s"
                    );
                }
                return backoff(&mut self.attempts, 1_000, self.missing_kind_retry);
            }
            _ if self.said == Said::Nothing => {
                self.said = Said::Unreachable;
                let meanwhile = if listed { "going on with what is known" } else { "waiting" };
                tracing::warn!("{what}: the API server failed: {error}; {meanwhile}");
            }
            _ => tracing::debug!("{what}: the API server failed again: {error}"),
        }
        backoff(&mut self.attempts, 200, Duration::from_secs(5))
    }

    fn over(&mut self) {
        self.attempts = 0;
        if std::mem::replace(&mut self.said, Said::Nothing) != Said::Nothing {
            tracing::info!("{} can be read again", self.what);
        }
    }
}

/// Doubles from `first_ms` to `most`, less up to a quarter at random.
pub(super) fn backoff(attempts: &mut u32, first_ms: u64, most: Duration) -> Duration {
    let doubled = Duration::from_millis(first_ms << (*attempts).min(16));
    *attempts = attempts.saturating_add(1);
    doubled.min(most).mul_f64(1.0 - fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound() {
        let mut attempts = 0;
        let most = Duration::from_secs(5);
        let waits: Vec<_> = (0..40).map(|_| backoff(&mut attempts, 200, most)).collect();
        assert!(waits[0] <= Duration::from_millis(200) && waits[0] >= Duration::from_millis(150));
        assert!(waits[10..].iter().all(|w| *w <= most && *w >= most.mul_f64(0.75)));
    }

    #[test]
    fn a_new_list_replaces_what_was_known() {
        let mut known = Listing::default();
        apply(&mut known, vec![Change::Set("a".into(), 1), Change::Set("b".into(), 2)]);
        apply(&mut known, vec![Change::Remove("a".into()), Change::Remove("never there".into())]);
        assert_eq!(known.objects, [("b".to_owned(), 2)].into());
        apply(
            &mut known,
            vec![Change::Replace([("c".to_owned(), 3)].into()), Change::Set("d".into(), 4)],
        );
        assert_eq!(known.objects, [("c".to_owned(), 3), ("d".to_owned(), 4)].into());
        assert_eq!(known.availability, Availability::Listed);
    }
}
