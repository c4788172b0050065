//! The data layer against workers that answer well, badly and not at all.

mod fake_worker;
mod tls;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use epp::clock;
use epp::datalayer::{
    DataLayer, PageSettings, ScrapeCounters, Settings, StartError, pool_averages,
};
use epp::endpoints::{
    Endpoint, EndpointSpec, LoraSignals, Placement, Pool, Scalar, SignalValues, StateSlot,
};
use epp::scrape_config::{ENGINE_LABEL, Needs, PageContent, PageScrape, ScrapeConfig};
use fake_worker::{Act, FakeWorker};

const VLLM: &str = include_str!("../fixtures/vllm-metrics.txt");

/// A data layer over some workers.
pub struct Setup {
    pub pool: Pool,
    pub counters: Arc<ScrapeCounters>,
    layer: Option<DataLayer>,
}

impl Setup {
    pub fn new(workers: &[&FakeWorker]) -> Self {
        Self::with(Settings::default(), workers.iter().map(|w| spec(w)).collect())
    }

    pub fn with(settings: Settings, specs: Vec<EndpointSpec>) -> Self {
        let pool = Pool::new();
        pool.replace(specs);
        let counters = Arc::new(ScrapeCounters::default());
        let layer = DataLayer::start(&pool, settings, counters.clone()).expect("settings are good");
        Self { pool, counters, layer: Some(layer) }
    }

    pub fn endpoint(&self, index: usize) -> Arc<Endpoint> {
        self.pool.snapshot().endpoints[index].clone()
    }

    pub fn values(&self) -> SignalValues {
        self.endpoint(0).signals.load()
    }

    pub fn poll_errors(&self) -> u64 {
        self.counters.poll_errors.load(Ordering::SeqCst)
    }

    fn errors(&self) -> u64 {
        self.poll_errors() + self.counters.extract_errors.load(Ordering::SeqCst)
    }
}

pub fn spec(worker: &FakeWorker) -> EndpointSpec {
    let name = worker.address.to_string();
    EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        pod_name: name.clone(),
        name,
        ip: worker.ip(),
        port: worker.address.port(),
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
    }
}

/// Waits until `condition` holds; fails after a time no healthy machine needs.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < patience, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A vLLM's metrics with `waiting` requests in the queue and a block size.
fn metrics_with(waiting: u32, block_size: u32) -> String {
    VLLM.replace("model_name=\"tiny\"} 4.0", &format!("model_name=\"tiny\"}} {waiting}.0"))
        .replace(",block_size=\"32\"", &format!(",block_size=\"{block_size}\""))
}

fn metrics(waiting: u32) -> String {
    metrics_with(waiting, 32)
}

fn with_length(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=1.0.0; charset=utf-8\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn in_chunks(body: &str, size: usize) -> Vec<u8> {
    let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for chunk in body.as_bytes().chunks(size) {
        let chunk = std::str::from_utf8(chunk).expect("the fixture is ASCII");
        answer.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    answer.push_str("0\r\n\r\n");
    answer.into_bytes()
}

pub fn good(waiting: u32) -> Act {
    Act::Send(with_length(&metrics(waiting)))
}

#[test]
fn signals_of_a_real_vllm_come_in_over_one_connection() {
    let worker = FakeWorker::start(good(4));
    let setup = Setup::new(&[&worker]);
    wait_for("several scrapes", || worker.requests() > 5);
    let values = setup.values();
    assert_eq!((values.waiting, values.running), (4, 5));
    assert_eq!(values.kv_usage, 0.43639921722113506);
    assert_eq!((values.block_size, values.num_blocks), (32, 512));
    assert_eq!(worker.connections(), 1);
    assert_eq!(setup.errors(), 0);
    let request = worker.last_request();
    assert!(request.starts_with("GET /metrics HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("Host: {}\r\n", worker.address)), "{request}");
    assert!(request.contains("Accept: text/plain;version=0.0.4"), "{request}");
}

#[test]
fn every_shape_of_a_good_answer_is_read() {
    let until_close = |body: &str| format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes();
    let closing = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let padded = |n| format!("{}{}", metrics(n), "# filler\n".repeat(100_000));
    type Shape<'a> = (&'a str, &'a (dyn Fn(u32) -> Act + Sync));
    let shapes: &[Shape<'_>] = &[
        ("length", &|n| good(n)),
        ("one chunk", &|n| Act::Send(in_chunks(&metrics(n), usize::MAX))),
        ("many chunks", &|n| Act::Send(in_chunks(&metrics(n), 1000))),
        ("until the connection closes", &|n| Act::SendAndClose(until_close(&metrics(n)))),
        ("with notice that it closes", &|n| Act::SendAndClose(closing(&metrics(n)))),
        ("closed without notice", &|n| Act::SendAndClose(with_length(&metrics(n)))),
        ("drop by drop", &|n| Act::Drip(in_chunks(&metrics(n), 4000), 3000)),
        ("large", &|n| Act::Send(with_length(&padded(n)))),
        ("large, in chunks", &|n| Act::Send(in_chunks(&padded(n), 50_000))),
    ];
    std::thread::scope(|scope| {
        for (name, act) in shapes {
            scope.spawn(move || {
                let worker = FakeWorker::start(act(1));
                let setup = Setup::new(&[&worker]);
                for waiting in 1..6 {
                    worker.now(act(waiting));
                    wait_for(name, || setup.values().waiting == waiting);
                }
                assert_eq!(setup.values().block_size, 32, "{name}");
                assert_eq!(setup.errors(), 0, "{name}");
            });
        }
    });
}

#[test]
fn a_worker_that_breaks_keeps_its_values_and_recovers() {
    let half = |answer: Vec<u8>| answer[..answer.len() / 2].to_vec();
    let status =
        |line: &str| format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\n\r\nsorry").into_bytes();
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(17 << 20)).into_bytes();
    let bad = [
        ("no answer", Act::SendAndHang(Vec::new())),
        ("closes", Act::SendAndClose(Vec::new())),
        ("half a head", Act::SendAndClose(b"HTTP/1.1 200 OK\r\nConte".to_vec())),
        ("half a body", Act::SendAndClose(half(with_length(&metrics(9))))),
        ("half a body, then nothing", Act::SendAndHang(half(with_length(&metrics(9))))),
        ("half a chunk", Act::SendAndClose(half(in_chunks(&metrics(9), 1 << 20)))),
        ("garbage", Act::Send(vec![0xA5; 4096])),
        ("another page", Act::Send(with_length("<html>It works!</html>\n"))),
        ("an empty page", Act::Send(with_length(""))),
        ("500", Act::Send(status("500 Internal Server Error"))),
        ("204", Act::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
        ("elsewhere", Act::Send(status("302 Found"))),
        ("no end", Act::Send(endless)),
        ("too long", Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec())),
        ("compressed", Act::Send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec())),
    ];
    std::thread::scope(|scope| {
        for (name, act) in &bad {
            scope.spawn(move || {
                let worker = FakeWorker::start(good(1));
                let setup = Setup::new(&[&worker]);
                wait_for(name, || setup.values().waiting == 1);
                worker.now(act.clone());
                let errors = setup.errors();
                wait_for(name, || setup.errors() > errors + 1);
                let kept = setup.values();
                assert_eq!((kept.waiting, kept.block_size), (1, 32), "{name}");
                let later = kept.updated_at.expect("scraped once") + Duration::from_nanos(2);
                assert!(kept.is_stale(later, Duration::from_nanos(1)), "{name}: the values age");
                worker.now(good(2));
                wait_for(name, || setup.values().waiting == 2);
            });
        }
    });
}

#[test]
fn a_worker_that_restarts_on_its_port_is_found_again_with_what_it_changed() {
    let worker = FakeWorker::start(Act::Send(with_length(&metrics_with(1, 16))));
    let address = worker.address;
    let setup = Setup::new(&[&worker]);
    wait_for("the first start", || setup.values().waiting == 1);
    drop(worker);
    let errors = setup.poll_errors();
    wait_for("refused connections", || setup.poll_errors() > errors);
    assert_eq!(setup.values().block_size, 16);
    let act = Act::Send(with_length(&metrics_with(2, 64)));
    let _worker = FakeWorker::start_at(address, act, None);
    wait_for("the second start", || setup.values().waiting == 2);
    assert_eq!(setup.values().block_size, 64);
}

#[test]
fn what_rarely_changes_is_noticed_too() {
    let worker = FakeWorker::start(Act::Send(with_length(&metrics_with(1, 16))));
    let setup = Setup::new(&[&worker]);
    wait_for("the first block size", || setup.values().block_size == 16);
    let adapters = "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a, b\"} 1.7e9\n";
    let changed = format!("{}{adapters}", metrics_with(1, 64));
    worker.now(Act::Send(with_length(&changed)));
    wait_for("the second block size", || setup.values().block_size == 64);
    let expected =
        LoraSignals { running: vec!["a".into(), "b".into()], waiting: Vec::new(), max: 4 };
    assert_eq!(setup.endpoint(0).signals.lora().as_deref(), Some(&expected));
    assert_eq!(worker.connections(), 1);
    assert_eq!(setup.errors(), 0);
}

#[test]
fn a_missing_family_leaves_its_value_and_updates_the_others() {
    let worker = FakeWorker::start(good(1));
    let setup = Setup::new(&[&worker]);
    wait_for("the first scrape", || setup.values().waiting == 1);
    let without_kv = metrics(2).replace("vllm:kv_cache_usage_perc", "vllm:renamed");
    worker.now(Act::Send(with_length(&without_kv)));
    wait_for("the second scrape", || setup.values().waiting == 2);
    assert_eq!(setup.values().kv_usage, 0.43639921722113506);
    wait_for("counted errors", || setup.counters.extract_errors.load(Ordering::SeqCst) > 2);
    assert_eq!(setup.poll_errors(), 0);
}

#[test]
fn one_worker_that_hangs_delays_no_other() {
    let hangs = FakeWorker::start(Act::SendAndHang(Vec::new()));
    let answers = FakeWorker::start(good(0));
    let setup = Setup::new(&[&hangs, &answers]);
    for waiting in 1..30 {
        answers.now(good(waiting));
        wait_for("a new value", || setup.endpoint(1).signals.load().waiting == waiting);
    }
    assert!(hangs.requests() < answers.requests() / 2);
    let averages = pool_averages(&setup.pool.snapshot(), clock::now(), Duration::from_secs(30));
    assert_eq!(averages.fresh, 1);
    assert_eq!(averages.averages.expect("one is fresh").queue.mean, 29.0);
}

#[test]
fn endpoints_come_and_go() {
    let first = FakeWorker::start(good(1));
    let second = FakeWorker::start(good(2));
    let setup = Setup::new(&[&first]);
    wait_for("the first", || setup.values().waiting == 1);
    setup.pool.replace(vec![spec(&second)]);
    wait_for("the second", || setup.values().waiting == 2);
    let asked = first.requests();
    let further = second.requests() + 5;
    wait_for("more of the second", || second.requests() > further);
    assert_eq!(first.requests(), asked, "an endpoint that left is not asked any more");
    // One that comes back is a new instance and is scraped afresh.
    setup.pool.replace(vec![spec(&first), spec(&second)]);
    wait_for("the first again", || setup.endpoint(0).signals.load().waiting == 1);
    assert_eq!(first.connections(), 2);
}

#[test]
fn nothing_is_asked_after_the_end_nor_without_need() {
    let worker = FakeWorker::start(good(1));
    let mut setup = Setup::new(&[&worker]);
    wait_for("a scrape", || setup.values().waiting == 1);
    drop(setup.layer.take());
    let asked = worker.requests();
    setup.pool.replace(Vec::new());
    let idle = Settings { needs: Needs::default(), ..Settings::default() };
    let idle = Setup::with(idle, vec![spec(&worker)]);
    let other = FakeWorker::start(good(1));
    let _busy = Setup::new(&[&other]);
    wait_for("scrapes elsewhere", || other.requests() > 5);
    assert_eq!(worker.requests(), asked);
    assert_eq!(idle.counters.scrapes.load(Ordering::SeqCst), 0);
}

#[test]
fn the_engine_is_the_one_the_labels_name_now() {
    let worker = FakeWorker::start(Act::Send(with_length(&format!(
        "sglang:num_queue_reqs 7\nsglang:num_running_reqs 1\nsglang:token_usage 0.5\n{}",
        metrics(1)
    ))));
    let setup = Setup::new(&[&worker]);
    wait_for("vLLM by default", || setup.values().waiting == 1);
    let mut relabelled = spec(&worker);
    relabelled.labels.insert(ENGINE_LABEL.into(), "sglang".into());
    setup.pool.replace(vec![relabelled]);
    wait_for("SGLang", || setup.values().waiting == 7);
    assert_eq!(worker.connections(), 1, "it stayed the same instance");
}

#[test]
fn path_port_and_address_family_are_as_configured() {
    let scrape = |worker: &FakeWorker| ScrapeConfig {
        path: "/custom/metrics?name=a".into(),
        port: Some(worker.address.port()),
        ..ScrapeConfig::default()
    };
    let mut addresses = vec!["127.0.0.1:0"];
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => addresses.push("[::1]:0"),
        Err(e) => eprintln!("IPv6 left out: {e}"),
    }
    for address in addresses {
        let address = address.parse().expect("an address");
        let worker = FakeWorker::start_at(address, good(3), None);
        let settings = Settings { scrape: scrape(&worker), ..Settings::default() };
        let setup = Setup::with(
            settings,
            vec![EndpointSpec { placement: Default::default(), port: 1, ..spec(&worker) }],
        );
        wait_for("a scrape", || setup.values().waiting == 3);
        let request = worker.last_request();
        assert!(request.starts_with("GET /custom/metrics?name=a HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("Host: {}\r\n", worker.address)), "{request}");
    }
}

#[test]
fn a_page_beside_the_metrics_is_asked_for_where_it_is() {
    let gpus = |busy: u32| {
        let page = format!("DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\"}} {busy}\n");
        Act::Send(with_length(&page))
    };
    // One exporter beside the worker, one on its node, at a port of its own each.
    let worker = FakeWorker::start(good(1));
    let beside = FakeWorker::start(gpus(25));
    let node = FakeWorker::start_at(([127, 0, 0, 2], 0).into(), gpus(75), None);
    let placement = Placement { node_ip: Some(node.ip()), hostname: None };
    for (exporter, at_node, placement, expected) in [
        (&beside, false, placement.clone(), 0.25),
        (&node, true, placement, 0.75),
        (&beside, true, Placement::default(), 0.25),
    ] {
        let pool = Pool::new();
        pool.replace(vec![EndpointSpec { placement, ..spec(&worker) }]);
        let slot: StateSlot<Scalar> = pool.ids().claim_slot();
        let scrape =
            ScrapeConfig { port: Some(exporter.address.port()), ..ScrapeConfig::default() };
        let content = PageContent::GpuUtilization(slot);
        let (source, extractor) = ("dcgm-data-source", "dcgm-extractor");
        let page = PageScrape { source, extractor, scrape, at_node, content };
        let pages = vec![PageSettings { page, counters: Arc::default() }];
        let tick = Duration::from_millis(50);
        let layer = DataLayer::start_with_pages(&pool, None, Arc::default(), pages, tick)
            .expect("settings are good");
        let endpoint = pool.snapshot().endpoints[0].clone();
        let told = || endpoint.state.get(slot).and_then(Scalar::get);
        wait_for("the page", || told() == Some(expected));
        assert_eq!(endpoint.signals.load(), SignalValues::default(), "no signal came");
        drop(layer);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for path in ["metrics", "", "/met rics", "/metrics\r\nX: y"] {
        let scrape = ScrapeConfig { path: path.into(), ..ScrapeConfig::default() };
        let settings = Settings { scrape, ..Settings::default() };
        let result = DataLayer::start(&Pool::new(), settings, Arc::default());
        assert_eq!(result.err(), Some(StartError::Path(path.into())));
    }
}

/// What was logged by all tests of this program.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || Log(writer.clone())).init();
    log
});

#[test]
fn one_line_is_logged_when_a_worker_breaks_and_none_per_scrape() {
    let log = LazyLock::force(&LOG).clone();
    let worker =
        FakeWorker::start(Act::Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let setup = Setup::new(&[&worker]);
    wait_for("several failures", || setup.poll_errors() > 4);
    let log = String::from_utf8_lossy(&log.lock().expect("not poisoned")).into_owned();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains(&worker.address.to_string())).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("reason=status 500"), "{}", lines[0]);
}
