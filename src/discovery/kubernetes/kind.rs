//! Following all objects of one kind: a list, then a watch, for as long as it takes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{Api, ApiResource, ListParams, WatchEvent, WatchParams};
use kube::core::DynamicResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::retry_state::RetryState;
use super::unreadable::Unreadable;
use crate::kubernetes::is_missing;

/// How long a watch may go without ending by itself, in seconds.
const WATCH_SECONDS: u32 = 60;
/// A watch that says nothing for this long, its own end included, has a dead connection.
const MOST_SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// The longest wait for an answer, or for the beginning of a watch.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A watch that has stood this long means that trouble is over. A list does not: who may list and
/// not watch would otherwise be in and out of trouble all the time.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// A watch that ends sooner, with nothing said, was not ended by the API server's own timeout.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// Objects in one answer to a list.
const PAGE: u32 = 500;

/// What all watches of one discovery share.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) missing_kind_retry: Duration,
    pub(super) unreadable: Unreadable,
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
    /// What it means where the kind cannot be read, for kinds that can be done without.
    pub(super) without: Option<&'static str>,
}

impl Selection {
    pub(super) fn all(resource: ApiResource) -> Self {
        Self { resource, labels: None, fields: None, without: None }
    }

    pub(super) fn describe(&self) -> String {
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
    let follower =
        Follower { api, known, read, trouble: RetryState::new(&selection, cluster), selection };
    (receiver, AbortOnDropHandle::new(tokio::spawn(follower.run())))
}

struct Follower<K, T> {
    api: Api<K>,
    selection: Selection,
    known: watch::Sender<Listing<T>>,
    read: fn(K) -> T,
    trouble: RetryState,
}

enum Change<T> {
    Set(String, T),
    Remove(String),
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
            let error = self.round().await;
            let known = !self.known.borrow().objects.is_empty();
            // What is known stays in use: an API server that starts, or a proxy before it, may
            // deny for a while what it has. Where nothing is known there is nothing to lose.
            if is_missing(&error) && !known {
                self.known.send_if_modified(|known| {
                    let before = std::mem::replace(&mut known.availability, Availability::Missing);
                    before != Availability::Missing
                });
            }
            let wait = self.trouble.met(&error, known);
            tokio::time::sleep(wait).await;
        }
    }

    /// Lists, then watches until something goes wrong. Each round begins with a fresh list, so
    /// that nothing that happened in between is missed, and no stale version is tried twice.
    async fn round(&mut self) -> kube::Error {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(error) => return error,
        };
        loop {
            if let Err(error) = self.watch(&mut version).await {
                return error;
            }
        }
    }

    /// Replaces what is known; answers the version that a watch may go on from.
    async fn list(&self) -> Result<String, kube::Error> {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector.clone_from(&self.selection.labels);
        params.field_selector.clone_from(&self.selection.fields);
        let mut objects = BTreeMap::new();
        loop {
            let page = in_time(self.api.list(&params)).await?;
            objects.extend(page.items.into_iter().map(|o| (o.name_any(), (self.read)(o))));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                self.known.send_replace(Listing { availability: Availability::Listed, objects });
                let version = page.metadata.resource_version.filter(|v| !v.is_empty());
                return version.ok_or_else(|| failure("the list has no resource version"));
            }
        }
    }

    /// Applies what changes after `version`, and moves it along, until the API server ends the
    /// watch in good order.
    async fn watch(&mut self, version: &mut String) -> Result<(), kube::Error> {
        let params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let began = Instant::now();
        let events = in_time(self.api.watch(&params, version)).await?;
        // Many events at once (a node that comes back) are one change for our readers.
        let mut events = pin!(events.ready_chunks(512));
        let mut idle = true;
        loop {
            let wait = if self.trouble.is_over() { MOST_SILENCE } else { SETTLED_AFTER };
            let chunk = match tokio::time::timeout_at(began + wait, events.next()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if idle && began.elapsed() < SHORTEST_WATCH => {
                    return Err(failure("the watch ended at once"));
                }
                Ok(None) => return Ok(()),
                Err(_) if self.trouble.is_over() => {
                    return Err(failure("the watch went silent"));
                }
                Err(_) => {
                    self.trouble.over();
                    continue;
                }
            };
            let failed = self.take(chunk, version);
            if let Some(error) = failed {
                return Err(error);
            }
            idle = false;
            self.trouble.over();
        }
    }

    /// Applies events up to the first that is an error, and answers that one.
    fn take(
        &self,
        events: Vec<Result<WatchEvent<K>, kube::Error>>,
        version: &mut String,
    ) -> Option<kube::Error> {
        let mut changes = Vec::new();
        let mut failed = None;
        let mut last = None;
        for event in events {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    last = object.resource_version().or(last);
                    changes.push(Change::Set(object.name_any(), (self.read)(object)));
                }
                Ok(WatchEvent::Deleted(object)) => {
                    last = object.resource_version().or(last);
                    changes.push(Change::Remove(object.name_any()));
                }
                Ok(WatchEvent::Bookmark(at)) => last = Some(at.metadata.resource_version),
                Ok(WatchEvent::Error(status)) => failed = Some(kube::Error::Api(status)),
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                break;
            }
        }
        if let Some(last) = last {
            *version = last;
        }
        if !changes.is_empty() {
            self.known.send_modify(|known| apply(known, changes));
        }
        failed
    }
}

/// The answer to a request, or to the beginning of one that streams.
async fn in_time<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer,
        Err(_) => Err(failure(&format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

fn failure(text: &str) -> kube::Error {
    kube::Error::Service(text.into())
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apply_in_order() {
        let mut known = Listing::default();
        apply(&mut known, vec![Change::Set("a".into(), 1), Change::Set("b".into(), 2)]);
        apply(
            &mut known,
            vec![
                Change::Remove("a".into()),
                Change::Remove("never there".into()),
                Change::Set("a".into(), 3),
            ],
        );
        assert_eq!(known.objects, [("a".to_owned(), 3), ("b".to_owned(), 2)].into());
    }
}
