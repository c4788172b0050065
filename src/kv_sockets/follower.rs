use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::listener::Listener;
use super::subscription::{Bounds, Source, Subscription};
use crate::endpoints::{Endpoint, Pool};
use crate::kv_events::{Follow, FollowEvents, Line, Publishers, Topic, Track, Tracked, Trouble};
use crate::scheduling::BoxFuture;

/// How often the pool is looked at for endpoints that came or left.
const TICK: Duration = Duration::from_millis(250);
/// Every so many ticks it is looked at whether endpoints can still be relied upon.
const TICKS_PER_LOOK: u32 = 4;
/// A socket that cannot be listened at is tried again after this.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Follows events over ZeroMQ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockets {
    pub bounds: Bounds,
}

impl FollowEvents for Sockets {
    fn follow(&self, follow: Follow) -> BoxFuture<()> {
        Box::pin(Follower { follow, bounds: self.bounds }.run())
    }
}

struct Follower {
    follow: Follow,
    bounds: Bounds,
}

impl Follower {
    /// Never returns. What it started ends when it is dropped.
    async fn run(self) {
        let mut followed = HashMap::new();
        let mut ticks = 0u32;
        let mut listener = None;
        let mut listen_at = self.follow.runtime.now();
        loop {
            if let Publishers::ConnectTo(address) = self.follow.publishers
                && listener.is_none()
                && self.follow.runtime.now() >= listen_at
            {
                listener = self.listen(address).await;
                listen_at = self.follow.runtime.now() + LISTEN_AGAIN;
            }
            self.follow_pool(&mut followed);
            if ticks.is_multiple_of(TICKS_PER_LOOK) {
                self.look();
            }
            ticks = ticks.wrapping_add(1);
            self.follow.runtime.sleep(TICK).await;
        }
    }

    /// Follows endpoints that came and lets go of those that left. By number of the instance: an
    /// endpoint that left and came back is another one.
    fn follow_pool(&self, followed: &mut HashMap<u64, Option<Subscription>>) {
        let snapshot = self.follow.pool.snapshot();
        let is_same = followed.len() == snapshot.endpoints.len()
            && snapshot.endpoints.iter().all(|e| followed.contains_key(&e.instance));
        if is_same {
            return;
        }
        let mut before = std::mem::take(followed);
        for endpoint in &snapshot.endpoints {
            let subscription = match before.remove(&endpoint.instance) {
                Some(there) => there,
                None => self.subscribe(endpoint),
            };
            followed.insert(endpoint.instance, subscription);
        }
    }

    fn subscribe(&self, endpoint: &Endpoint) -> Option<Subscription> {
        let tracked = (self.follow.track)(endpoint)?;
        let Publishers::AtEndpoints { port, replay_port } = self.follow.publishers else {
            return None;
        };
        let at = |port: u16| {
            let port = port.checked_add(endpoint.spec.rank)?;
            Some(SocketAddr::new(endpoint.spec.ip, port).to_string())
        };
        let source = Source { live: at(port)?, replay: replay_port.and_then(at) };
        let line = tracked.line().clone();
        Some(Subscription::start(source, line, self.bounds, &*self.follow.runtime))
    }

    async fn listen(&self, address: SocketAddr) -> Option<Listener> {
        let (pool, track) = (self.follow.pool.clone(), self.follow.track.clone());
        let resolve = move |topic: Topic<'_>, peer: IpAddr| resolve(&pool, &*track, topic, peer);
        let filter = self.follow.topic_filter.clone();
        match Listener::bind(address, filter, self.bounds.message, Arc::new(resolve)).await {
            Ok(listener) => {
                info!(address = %listener.address(), "waiting for publishers of KV events");
                Some(listener)
            }
            Err(error) => {
                error!(%address, %error, "publishers of KV events cannot be waited for");
                None
            }
        }
    }

    fn look(&self) {
        let now = self.follow.runtime.now();
        for endpoint in &self.follow.pool.snapshot().endpoints {
            let Some(tracked) = (self.follow.track)(endpoint) else { continue };
            match tracked.look(now) {
                Some((_, Some(trouble))) => warn_of(endpoint, tracked, trouble),
                Some((Some(before), None)) => {
                    info!(endpoint = %endpoint.id, was = before.name(), "KV events are relied upon again");
                }
                _ => {}
            }
        }
    }
}

fn warn_of(endpoint: &Endpoint, tracked: &Tracked, trouble: Trouble) {
    let status = tracked.status();
    warn!(
        endpoint = %endpoint.id,
        trouble = trouble.name(),
        likely_cause = trouble.likely_cause(),
        connection_problem = status.problem().as_deref().unwrap_or("none"),
        topic_that_does_not_fit = status.other_topic().as_deref().unwrap_or("none"),
        block_size = tracked.holder().block_size().unwrap_or(0),
        "KV events of this endpoint are not relied upon; what it holds is estimated"
    );
}

/// The stream of the endpoint that a topic names by `ip:port`, ip or pod name. Topics can claim
/// anything: an endpoint that connects from its own address cannot speak for another one.
fn resolve(pool: &Pool, track: &Track, topic: Topic<'_>, peer: IpAddr) -> Option<Arc<Mutex<Line>>> {
    let snapshot = pool.snapshot();
    let is_named = |endpoint: &&Arc<Endpoint>| {
        *endpoint.host_port == *topic.publisher
            || endpoint.spec.pod_name == topic.publisher
            || endpoint.spec.name == topic.publisher
            || topic.publisher.parse() == Ok(endpoint.spec.ip)
    };
    let endpoint = snapshot.endpoints.iter().find(is_named)?;
    let peer = peer.to_canonical();
    let speaks_for_another =
        endpoint.spec.ip != peer && snapshot.endpoints.iter().any(|other| other.spec.ip == peer);
    if speaks_for_another {
        return None;
    }
    track(endpoint).map(|tracked| tracked.line().clone())
}
