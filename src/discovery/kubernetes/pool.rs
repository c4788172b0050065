//! The pool that is in force: one object of one of two API groups, or a selector.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::kind::{self, Availability, Cluster, Listing, Selection};
use super::pool_spec::{AppProtocol, PoolGroup, PoolSpec, ReadPool};
use super::warn_once::WarnOnce;

/// What is known of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PoolState {
    /// The API server has not answered yet.
    #[default]
    Unknown,
    /// There is no such pool, or none that can be used.
    Absent,
    Present(PoolSpec),
}

impl PoolState {
    pub fn spec(&self) -> Option<&PoolSpec> {
        match self {
            PoolState::Present(spec) => Some(spec),
            PoolState::Unknown | PoolState::Absent => None,
        }
    }
}

/// A pool that no object describes and nothing changes.
pub(super) fn fixed(
    spec: PoolSpec,
    tasks: &mut Vec<AbortOnDropHandle<()>>,
) -> watch::Receiver<PoolState> {
    let (sender, receiver) = watch::channel(PoolState::Present(spec));
    // Keeps the sender: readers take a closed channel for the end of discovery.
    tasks.push(AbortOnDropHandle::new(tokio::spawn(async move { sender.closed().await })));
    receiver
}

/// Follows the pool of this name in `group`, or in both groups.
pub(super) fn follow(
    cluster: &Cluster,
    name: &str,
    group: Option<PoolGroup>,
    tasks: &mut Vec<AbortOnDropHandle<()>>,
) -> watch::Receiver<PoolState> {
    let mut watch_group = |of: PoolGroup, read: fn(DynamicObject) -> ReadPool| {
        if group.is_some_and(|wanted| wanted != of) {
            return Side { known: watch::channel(Listing::not_wanted()).1, wanted: false };
        }
        let fields = Some(format!("metadata.name={name}"));
        // Where only one group is wanted there is no other to do with.
        let without = group.is_none().then_some("no pool is taken from there");
        let selection = Selection { fields, without, ..Selection::all(of.resource()) };
        let (known, task) = kind::follow(cluster, selection, read);
        tasks.push(task);
        Side { known, wanted: true }
    };
    let v1 = watch_group(PoolGroup::V1, ReadPool::v1);
    let v1alpha2 = watch_group(PoolGroup::V1Alpha2, ReadPool::v1alpha2);
    let (sender, receiver) = watch::channel(PoolState::default());
    let name = name.to_owned();
    let what = format!("InferencePool {}/{name}", cluster.namespace);
    let run = run(what, name, v1, v1alpha2, sender);
    tasks.push(AbortOnDropHandle::new(tokio::spawn(run)));
    receiver
}

/// One of the two groups.
struct Side {
    known: watch::Receiver<Listing<ReadPool>>,
    wanted: bool,
}

impl Side {
    async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        if self.wanted { self.known.changed().await } else { std::future::pending().await }
    }

    fn look(&mut self, name: &str) -> Look {
        let known = self.known.borrow_and_update();
        match known.availability {
            Availability::Unknown => Look::Unknown,
            Availability::Missing => Look::Absent,
            Availability::Listed => match known.objects.get(name) {
                Some(pool) if !pool.terminating => Look::There(pool.clone()),
                _ => Look::Absent,
            },
        }
    }
}

enum Look {
    Unknown,
    Absent,
    There(ReadPool),
}

async fn run(
    what: String,
    name: String,
    mut v1: Side,
    mut v1alpha2: Side,
    state: watch::Sender<PoolState>,
) {
    let mut notes = WarnOnce::default();
    loop {
        let (preferred, other) = (v1.look(&name), v1alpha2.look(&name));
        notes.say(what_is_odd(&what, &preferred, &other));
        let now = resolve(&state.borrow(), preferred, other);
        state.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                log_change(&what, &now);
                *before = now;
            }
            changed
        });
        let more = tokio::select! {
            more = v1.changed() => more,
            more = v1alpha2.changed() => more,
        };
        if more.is_err() {
            return;
        }
    }
}

/// The pool in force: that of the preferred group where it is usable, else the other. A pool
/// that was usable and no longer is stays as it was.
fn resolve(before: &PoolState, preferred: Look, other: Look) -> PoolState {
    let mut broken = Vec::new();
    for (group, look) in [(PoolGroup::V1, preferred), (PoolGroup::V1Alpha2, other)] {
        match look {
            // Whether this group has the pool decides, so the other has to wait.
            Look::Unknown => return before.clone(),
            Look::Absent => {}
            Look::There(ReadPool { spec: Ok(spec), .. }) => return PoolState::Present(spec),
            Look::There(_) => broken.push(group),
        }
    }
    match before.spec().and_then(|spec| spec.group) {
        Some(group) if broken.contains(&group) => before.clone(),
        _ => PoolState::Absent,
    }
}

fn what_is_odd(what: &str, preferred: &Look, other: &Look) -> BTreeSet<String> {
    let mut odd = BTreeSet::new();
    for (group, look) in [(PoolGroup::V1, preferred), (PoolGroup::V1Alpha2, other)] {
        let Look::There(pool) = look else { continue };
        odd.extend(pool.oddities.iter().map(|oddity| format!("{what} ({group}): {oddity}")));
        if let Err(error) = &pool.spec {
            odd.insert(format!("{what} ({group}) cannot be used: {error}"));
        }
    }
    if let (Look::There(_), Look::There(_)) = (preferred, other) {
        odd.insert(format!(
            "{what} is there in both groups: {} is followed, {} is not",
            PoolGroup::V1,
            PoolGroup::V1Alpha2
        ));
    }
    odd
}

fn log_change(what: &str, now: &PoolState) {
    match now {
        PoolState::Present(PoolSpec { group, selector, target_ports, app_protocol }) => {
            let group = group.map_or("", PoolGroup::group);
            let ports = target_ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
            let app_protocol = app_protocol.map_or("", AppProtocol::name);
            tracing::info!(%group, %selector, %ports, app_protocol, "{what} is there");
        }
        PoolState::Absent => tracing::warn!("{what} is not there: waiting for it"),
        PoolState::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(group: PoolGroup, port: u16) -> PoolSpec {
        PoolSpec {
            group: Some(group),
            selector: "a=b".into(),
            target_ports: vec![port],
            app_protocol: None,
        }
    }

    fn there(group: PoolGroup, port: u16) -> Look {
        read(Ok(spec(group, port)))
    }

    fn read(spec: Result<PoolSpec, String>) -> Look {
        Look::There(ReadPool { spec, oddities: BTreeSet::new(), terminating: false })
    }

    #[test]
    fn which_pool_is_in_force() {
        use PoolGroup::{V1, V1Alpha2};
        use PoolState::{Absent, Present, Unknown};
        let broken = || read(Err("no ports".into()));
        let old = || Present(spec(V1, 1));
        for (case, before, preferred, other, expected) in [
            ("nothing known", Unknown, Look::Unknown, Look::Unknown, Unknown),
            ("the other waits", Unknown, Look::Unknown, there(V1Alpha2, 2), Unknown),
            ("only v1", Unknown, there(V1, 1), Look::Absent, Present(spec(V1, 1))),
            ("v1 need not wait", Unknown, there(V1, 1), Look::Unknown, Present(spec(V1, 1))),
            ("only old", Unknown, Look::Absent, there(V1Alpha2, 2), Present(spec(V1Alpha2, 2))),
            ("both", Unknown, there(V1, 1), there(V1Alpha2, 2), Present(spec(V1, 1))),
            ("none", Unknown, Look::Absent, Look::Absent, Absent),
            ("deleted", old(), Look::Absent, Look::Absent, Absent),
            ("changed", old(), there(V1, 9), Look::Absent, Present(spec(V1, 9))),
            ("broken from the start", Unknown, broken(), Look::Absent, Absent),
            ("broken later", old(), broken(), Look::Absent, old()),
            ("deleted, other broken", old(), Look::Absent, broken(), Absent),
            ("broken, other good", old(), broken(), there(V1Alpha2, 2), Present(spec(V1Alpha2, 2))),
        ] {
            assert_eq!(resolve(&before, preferred, other), expected, "{case}");
        }
    }
}
