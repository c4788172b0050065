//! Subscriptions over real sockets, against publishers of another implementation.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::kv_events::tests::feeding::index;
use crate::kv_events::tests::{batch, stored};
use crate::kv_events::{Counters, Line, StreamState, Topic};
use crate::kv_index::Holder;
use crate::kv_sockets::{Bounds, Listener, Source, Subscription};

const ANY: &str = "127.0.0.1:0";
const PATIENCE: Duration = Duration::from_secs(30);

fn bounds() -> Bounds {
    Bounds {
        backoff: (Duration::from_millis(10), Duration::from_millis(50)),
        replay_rest: Duration::from_millis(10),
        ..Bounds::default()
    }
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Followed {
    holder: Arc<Holder>,
    subscription: Subscription,
}

impl Followed {
    fn new(live: &str, replay: Option<&str>) -> Self {
        Self::bounded(live, replay, bounds())
    }

    fn bounded(live: &str, replay: Option<&str>, bounds: Bounds) -> Self {
        let index = index();
        let holder = Arc::new(index.holder());
        let line = Line::new(index, holder.clone(), "kv@".into());
        let source = Source { live: live.into(), replay: replay.map(str::to_owned) };
        let line = Arc::new(Mutex::new(line));
        Self { holder, subscription: Subscription::start(source, line, bounds, &Tokio) }
    }

    fn counters(&self) -> &Counters {
        &self.subscription.status().counters
    }

    async fn holds(&self, blocks: usize) {
        until(&format!("{blocks} blocks, not {}", self.holder.len()), || {
            self.holder.len() == blocks
        })
        .await;
    }

    async fn is_live(&self) {
        until("live", || self.subscription.status().state() == StreamState::Live).await;
    }
}

/// A batch that stores one block of its own.
fn block(number: u64) -> Vec<u8> {
    batch(vec![stored(&[number], None, &[number as u32, 1, 2, 3])])
}

/// Publishes batches of nothing until one is heard.
async fn greet(publisher: &mut Publisher, followed: &Followed) {
    let deadline = Instant::now() + PATIENCE;
    while followed.subscription.status().last_heard().is_none() {
        assert!(Instant::now() < deadline, "nothing is heard");
        publisher.publish(batch(vec![])).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_late_subscriber_is_told_everything_by_replay() {
    for layout in [Layout::Old, Layout::New] {
        let mut publisher = Publisher::start("kv@a@m", layout, ANY, ANY).await;
        for number in 1..=20 {
            publisher.publish(block(number)).await;
        }
        let followed = Followed::new(&publisher.live, Some(&publisher.replay));
        followed.holds(20).await;
        followed.is_live().await;
        greet(&mut publisher, &followed).await;
        publisher.publish(block(21)).await;
        followed.holds(21).await;
        let counters = followed.counters();
        assert_eq!((counters.resets.get(), counters.restarts.get()), (0, 0), "{layout:?}");
    }
}

#[tokio::test]
async fn a_gap_is_filled_by_replay() {
    let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
    let followed = Followed::new(&publisher.live, Some(&publisher.replay));
    greet(&mut publisher, &followed).await;
    publisher.publish(block(1)).await;
    followed.holds(1).await;
    publisher.lose(block(2));
    publisher.publish(block(3)).await;
    followed.holds(3).await;
    assert_eq!(followed.counters().resets.get(), 0);
    assert!(followed.counters().gaps.get() >= 1);
}

#[tokio::test]
async fn a_gap_that_nothing_fills_costs_what_was_known() {
    let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
    let cases: [(&str, Option<String>); 2] =
        [("no replay", None), ("nobody at the replay port", Some("127.0.0.1:1".into()))];
    for (name, replay) in cases {
        let followed = Followed::new(&publisher.live, replay.as_deref());
        greet(&mut publisher, &followed).await;
        publisher.publish(block(1)).await;
        publisher.publish(block(2)).await;
        followed.holds(2).await;
        publisher.lose(block(3));
        publisher.publish(block(4)).await;
        until(name, || followed.counters().resets.get() == 1).await;
        followed.holds(1).await;
    }
}

#[tokio::test]
async fn a_replay_that_begins_too_late_costs_what_was_known() {
    let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
    let followed = Followed::new(&publisher.live, Some(&publisher.replay));
    greet(&mut publisher, &followed).await;
    publisher.publish(block(1)).await;
    followed.holds(1).await;
    (2..=6).for_each(|number| publisher.lose(block(number)));
    publisher.forget_all_but(2);
    publisher.publish(block(7)).await;
    // 5 and 6 by replay, and 7.
    followed.holds(3).await;
    assert_eq!(followed.counters().resets.get(), 1);
}

#[tokio::test]
async fn a_publisher_that_is_started_anew_is_believed_anew() {
    for has_replay in [true, false] {
        let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
        let (live, replay) = (publisher.live.clone(), publisher.replay.clone());
        let followed = Followed::new(&live, has_replay.then_some(&replay));
        greet(&mut publisher, &followed).await;
        for number in 1..=5 {
            publisher.publish(block(number)).await;
        }
        followed.holds(5).await;
        drop(publisher);
        until("gone", || followed.counters().disconnects.get() > 0).await;
        let mut publisher = Publisher::start("kv@a@m", Layout::New, &live, &replay).await;
        publisher.publish(block(9)).await;
        until("back", || followed.counters().connects.get() > 1).await;
        // Without replay nothing says that the publisher is another one before it speaks.
        let deadline = Instant::now() + PATIENCE;
        while followed.counters().restarts.get() == 0 {
            assert!(Instant::now() < deadline, "has_replay: {has_replay}");
            publisher.publish(block(10)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until("only the new one's blocks", || followed.holder.len() <= 2).await;
    }
}

#[tokio::test]
async fn a_broken_connection_costs_nothing_where_the_publisher_is_the_same() {
    let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
    let relay = Relay::start(publisher.live.clone()).await;
    let followed = Followed::new(&relay.address, Some(&publisher.replay));
    greet(&mut publisher, &followed).await;
    publisher.publish(block(1)).await;
    followed.holds(1).await;
    relay.cut();
    publisher.publish(block(2)).await;
    followed.holds(2).await;
    let counters = followed.counters();
    assert_eq!((counters.resets.get(), counters.restarts.get()), (0, 0));
    until("connected again", || counters.connects.get() == 2).await;
}

/// Passes bytes on until it is cut, and again for whoever connects then.
struct Relay {
    address: String,
    cut: Arc<tokio::sync::Notify>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Relay {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = Arc::new(tokio::sync::Notify::new());
        let cuts = cut.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cuts.notified() => {}
                }
            }
        });
        Self { address, cut, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    fn cut(&self) {
        self.cut.notify_one();
    }
}

#[tokio::test]
async fn odd_messages_are_counted_and_passed_over() {
    let mut publisher = Publisher::start("", Layout::New, ANY, ANY).await;
    let followed = Followed::new(&publisher.live, None);
    greet(&mut publisher, &followed).await;
    publisher.send(vec![Bytes::from_static(b"hello")]).await;
    publisher.publish(b"\x93no batch".to_vec()).await;
    publisher.publish(block(1)).await;
    followed.holds(1).await;
    let counters = followed.counters();
    assert_eq!((counters.malformed_messages.get(), counters.malformed_batches.get()), (1, 1));
    // The topic does not fit the filter, and that is said.
    assert_eq!(followed.subscription.status().other_topic().as_deref(), Some(""));
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection_and_nothing_else() {
    let mut publisher = Publisher::start("kv@a@m", Layout::New, ANY, ANY).await;
    let bounds = Bounds { message: 1000, ..bounds() };
    let followed = Followed::bounded(&publisher.live, None, bounds);
    greet(&mut publisher, &followed).await;
    publisher.publish(vec![0; 2000]).await;
    until("another connection", || followed.counters().connects.get() > 1).await;
    let deadline = Instant::now() + PATIENCE;
    while followed.holder.is_empty() {
        assert!(Instant::now() < deadline, "nothing comes any more");
        publisher.publish(block(1)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What is at the other end need not be a publisher.
#[tokio::test]
async fn peers_that_are_no_publishers() {
    let mut greeting = [0u8; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    let encrypted = {
        let mut greeting = greeting;
        greeting[12..17].copy_from_slice(b"CURVE");
        greeting
    };
    let announced = [&greeting[..], &[2], &u64::MAX.to_be_bytes()].concat();
    let router = [&greeting[..], b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"].concat();
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("HTTP", [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), vec![b' '; 64]].concat(), "ZMTP"),
        ("encrypted", encrypted.to_vec(), "ZMTP"),
        ("a long frame", announced, "longer"),
        ("another socket", router, "type"),
        ("silence at once", Vec::new(), "closed"),
    ];
    for (name, bytes, problem) in cases {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(&bytes).await;
                if !bytes.is_empty() {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        });
        let followed = Followed::new(&address, None);
        let status = followed.subscription.status();
        until(name, || status.problem().is_some_and(|said| said.contains(problem))).await;
        assert_eq!(status.state(), StreamState::Connecting, "{name}");
        answers.abort();
    }
}

#[tokio::test]
async fn publishers_may_connect_to_us() {
    let index = index();
    let line = |_: &str| {
        let holder = Arc::new(index.holder());
        Arc::new(Mutex::new(Line::new(index.clone(), holder, "kv@".into())))
    };
    let lines = [("10.0.0.1:8000", line("a")), ("10.0.0.2:8000", line("b"))];
    let holders = lines.clone().map(|(_, line)| line.lock().holder().clone());
    let resolve = move |topic: Topic<'_>, _: IpAddr| {
        lines.iter().find(|(name, _)| *name == topic.publisher).map(|(_, line)| line.clone())
    };
    let address = ANY.parse().unwrap();
    let listener = Listener::bind(address, "kv@".into(), 1 << 20, Arc::new(resolve)).await.unwrap();
    let address = listener.address().to_string();
    let mut a = Publisher::connect("kv@10.0.0.1:8000@m", &address).await;
    let mut b = Publisher::connect("kv@10.0.0.2:8000@m", &address).await;
    let mut other = Publisher::connect("kv@10.0.0.3:8000@m", &address).await;
    let deadline = Instant::now() + PATIENCE;
    while holders.iter().any(|holder| holder.is_empty()) || listener.unknown() == 0 {
        assert!(Instant::now() < deadline, "nothing comes");
        a.publish(block(1)).await;
        b.publish(block(2)).await;
        other.publish(block(3)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(holders.map(|holder| holder.len()), [1, 1]);
}
