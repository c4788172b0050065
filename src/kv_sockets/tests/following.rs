//! The events of a pool's endpoints, over real sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, EndpointSpec, Pool, StateSlot};
use crate::kv_events::tests::feeding::index;
use crate::kv_events::tests::{batch, stored};
use crate::kv_events::{Follow, FollowEvents, Hit, Publishers, Tracked, Trouble};
use crate::kv_index::KvIndex;
use crate::kv_sockets::Sockets;

const ANY: &str = "127.0.0.1:0";

struct Following {
    pool: Arc<Pool>,
    slot: StateSlot<Tracked>,
    index: Arc<KvIndex>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn spec(name: &str, ip: [u8; 4], rank: u16) -> EndpointSpec {
    EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: name.into(),
        pod_name: name.into(),
        ip: ip.into(),
        port: 8000,
        rank,
        uid: String::new(),
        labels: Default::default(),
    }
}

impl Following {
    fn start(publishers: Publishers) -> Self {
        let (pool, index) = (Arc::new(Pool::new()), index());
        let slot = pool.ids().claim_slot::<Tracked>();
        let of = index.clone();
        let follow = Follow {
            pool: pool.clone(),
            publishers,
            topic_filter: "kv@".into(),
            track: Arc::new(move |endpoint: &Endpoint| track(endpoint, slot, &of)),
            runtime: Arc::new(Tokio),
        };
        Self { pool, slot, index, task: tokio::spawn(Sockets::default().follow(follow)) }
    }

    fn blocks(&self, endpoint: usize) -> usize {
        let snapshot = self.pool.snapshot();
        snapshot.endpoints[endpoint].state.get(self.slot).map_or(0, |t| t.holder().len())
    }

    fn keys(&self) -> Vec<u64> {
        self.index.keys("m", &[1, 1, 2, 3], 4, [])
    }
}

fn track<'a>(
    endpoint: &'a Endpoint,
    slot: StateSlot<Tracked>,
    index: &Arc<KvIndex>,
) -> Option<&'a Tracked> {
    endpoint.state.get_or_init(slot, || Tracked::new(index, "kv@".into()))
}

fn block(number: u64) -> Vec<u8> {
    batch(vec![stored(&[number], None, &[number as u32, 1, 2, 3])])
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn endpoints_are_followed_while_they_are_in_the_pool() {
    let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
    publisher.publish(block(1)).await;
    let publishers = Publishers::AtEndpoints {
        port: port(&publisher.live),
        replay_port: Some(port(&publisher.replay)),
    };
    let following = Following::start(publishers);
    following.pool.replace(vec![spec("a", [127, 0, 0, 1], 0)]);
    until("the first block", || following.blocks(0) == 1).await;
    let snapshot = following.pool.snapshot();
    let tracked = snapshot.endpoints[0].state.get(following.slot).unwrap();
    assert!(tracked.is_relied_upon());
    let held = tracked.holder().matched(&following.keys(), Timestamp::START).held;
    assert_eq!(held, 1);
    following.pool.replace(Vec::new());
    let line = Arc::downgrade(tracked.line());
    drop(snapshot);
    until("let go of", || line.strong_count() == 0).await;
}

#[tokio::test]
async fn an_endpoint_without_a_publisher_is_not_relied_upon_and_says_so() {
    let following = Following::start(Publishers::AtEndpoints { port: 1, replay_port: None });
    following.pool.replace(vec![spec("a", [127, 0, 0, 1], 0)]);
    let snapshot = following.pool.snapshot();
    until("a problem", || {
        let tracked = snapshot.endpoints[0].state.get(following.slot);
        tracked.is_some_and(|tracked| tracked.status().problem().is_some())
    })
    .await;
    let tracked = snapshot.endpoints[0].state.get(following.slot).unwrap();
    assert!(!tracked.is_relied_upon(), "it never said anything");
    let now = crate::clock::now();
    tracked.look(now);
    tracked.look(now + Duration::from_secs(20));
    assert_eq!(tracked.trouble(), Some(Trouble::NotConnected));
    let shown = tracked.debug_state(now);
    assert_eq!(shown["trouble"], "not_connected");
    assert_eq!(shown["reliedUpon"], false);
}

#[tokio::test]
async fn endpoints_that_connect_are_told_apart_by_topic_and_address() {
    // A port that is free now.
    let free = std::net::TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    let following = Following::start(Publishers::ConnectTo(free));
    // The publishers connect from 127.0.0.1, so nobody else may speak for 127.0.0.9.
    following.pool.replace(vec![spec("a", [127, 0, 0, 1], 0), spec("b", [127, 0, 0, 9], 0)]);
    let address = free.to_string();
    until("listening", || std::net::TcpStream::connect(free).is_ok()).await;
    let mut a = Publisher::connect("kv@127.0.0.1:8000@m", &address).await;
    let mut b = Publisher::connect("kv@127.0.0.9:8000@m", &address).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while following.blocks(0) == 0 {
        assert!(Instant::now() < deadline, "nothing comes");
        b.publish(block(2)).await;
        a.publish(block(1)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(following.blocks(1), 0);
}

#[test]
fn what_is_not_delivered_is_not_relied_upon() {
    let index = index();
    let tracked = Tracked::new(&index, "kv@".into());
    let batch = crate::kv_events::Numbered {
        topic: Default::default(),
        number: 0,
        payload: block(1).into(),
    };
    let now = crate::clock::now();
    tracked.line().lock().live(&batch, now);
    tracked.status().set_state(crate::kv_events::StreamState::Live);
    assert_eq!(tracked.look(now), None);
    assert!(tracked.is_relied_upon());
    for _ in 0..20 {
        let hit = Hit { prompt: 600, indexed: 600, delivered: Some(0), block_size: 400 };
        tracked.trust.ended(hit, tracked.status());
    }
    assert_eq!(tracked.look(now), Some((None, Some(Trouble::Overstated))));
    assert!(!tracked.is_relied_upon());
}
