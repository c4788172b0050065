//! What scraping costs: 100 workers, 107 KB of metrics each, every 50 ms.
//!
//! ```text
//! cargo bench --bench scrape                  # epp's data layer
//! cargo bench --bench scrape -- --client hyper   # a general HTTP client, same extraction
//! cargo bench --bench scrape -- --workers 8 --seconds 10 --chunked
//! ```
//!
//! Where the time goes, in microseconds of CPU a scrape, on 2 virtual cores of an AMD EPYC shared
//! with other work (two runs each):
//!
//! | what | us |
//! |---|---|
//! | hyper on one tokio thread, the whole body collected | 49-57 |
//! | epp, but every answer read whole | 34-37 |
//! | epp, but the rest of an answer copied out of the kernel and thrown away | 33-35 |
//! | epp: the beginning read, the rest dropped in the kernel, all of it once a second | 21-26 |
//!
//! What is left is nearly all the kernel's: sending a request, waking up, freeing pages. With few
//! workers a scrape costs more, since fewer share a wake-up.
//!
//! The workers live in a child process, so that the CPU time reported is the scraper's alone: its
//! own work and what the kernel does on its behalf. `--chunked` makes workers answer in one
//! chunk, as vLLM's server does; else they announce the length.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use epp::clock;
use epp::datalayer::extract::{Layout, Plan};
use epp::datalayer::{DataLayer, ScrapeCounters, Settings};
use epp::endpoints::{EndpointSpec, Pool};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const FIXTURE: &str = include_str!("../tests/fixtures/vllm-metrics.txt");

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 100)]
    workers: u16,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, value_enum, default_value_t = Client::Epp)]
    client: Client,
    #[arg(long)]
    chunked: bool,
    /// Be the workers. For the child process.
    #[arg(long, hide = true)]
    serve: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Client {
    Epp,
    Hyper,
}

fn main() {
    let options = Options::parse();
    if options.serve {
        return runtime().block_on(serve(options.workers, answer(options.chunked)));
    }
    let mut workers = Workers::start(&options);
    let counters = Arc::new(ScrapeCounters::default());
    let pool = Pool::new();
    pool.replace(workers.addresses.iter().map(endpoint).collect());
    let running: Box<dyn std::any::Any> = match options.client {
        Client::Epp => {
            let started = DataLayer::start(&pool, Settings::default(), counters.clone());
            Box::new(started.expect("the data layer starts"))
        }
        Client::Hyper => Box::new(HyperScraper::start(&pool, &counters)),
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = Usage::now(&counters);
    std::thread::sleep(Duration::from_secs(options.seconds));
    let after = Usage::now(&counters);
    drop(running);
    after.report_since(&before);
    assert_eq!(counters.poll_errors.load(Ordering::Relaxed), 0, "every poll must succeed");
    workers.stop();
}

/// CPU time and work done up to a moment.
struct Usage {
    at: Instant,
    cpu: Duration,
    scrapes: u64,
    resident_kib: u64,
}

impl Usage {
    fn now(counters: &ScrapeCounters) -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|kib| kib.split_whitespace().next());
        Self {
            at: Instant::now(),
            cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            scrapes: counters.scrapes.load(Ordering::Relaxed),
            resident_kib: resident.and_then(|kib| kib.parse().ok()).unwrap_or(0),
        }
    }

    fn report_since(&self, before: &Self) {
        let seconds = (self.at - before.at).as_secs_f64();
        let cpu = (self.cpu - before.cpu).as_secs_f64();
        let scrapes = (self.scrapes - before.scrapes) as f64;
        println!(
            "{:.0} scrapes/s  {:.1} us CPU a scrape  {:.4} cores  {:.1} MiB resident",
            scrapes / seconds,
            cpu / scrapes * 1e6,
            cpu / seconds,
            self.resident_kib as f64 / 1024.0,
        );
    }
}

/// The child process that answers.
struct Workers {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Workers {
    fn start(options: &Options) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(["--serve", "--workers", &options.workers.to_string()]);
        command.args(options.chunked.then_some("--chunked"));
        // The child ends when its standard input does, even if we are killed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the child starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let addresses = output.lines().take(options.workers.into());
        let addresses = addresses.map(|line| line.expect("line").parse().expect("address"));
        Self { addresses: addresses.collect(), child }
    }

    fn stop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("the child ends");
    }
}

fn endpoint(address: &SocketAddr) -> EndpointSpec {
    let name = address.to_string();
    EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        pod_name: name.clone(),
        name,
        ip: address.ip(),
        port: address.port(),
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

/// A vLLM's metrics, and the same again under other names, as a server with more handlers has.
fn answer(chunked: bool) -> Arc<[u8]> {
    let body = format!("{FIXTURE}{}", FIXTURE.replace("vllm:", "more:").replace("http_", "more_"));
    let kind = "HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Type: text/plain; version=0.0.4\r\n";
    let answer = if chunked {
        let size = body.len();
        format!("{kind}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n")
    } else {
        format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    answer.into_bytes().into()
}

async fn serve(workers: u16, answer: Arc<[u8]>) {
    for _ in 0..workers {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        println!("{}", listener.local_addr().expect("address"));
        let answer = answer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, answer.clone()));
            }
        });
    }
    let mut end = Vec::new();
    let _ = tokio::task::spawn_blocking(move || {
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut end)
    })
    .await;
}

async fn converse(mut stream: TcpStream, answer: Arc<[u8]>) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        request.clear();
        stream.write_all(&answer).await?;
    }
}

/// The usual way, to compare with: hyper over tokio, the whole body collected, then read.
struct HyperScraper {
    stop: Arc<tokio::sync::Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HyperScraper {
    fn start(pool: &Pool, counters: &Arc<ScrapeCounters>) -> Self {
        let Settings { engines, needs, .. } = Settings::default();
        let plan = Arc::new(Plan::new(&engines.engines[0], needs));
        let endpoints = pool.snapshot().endpoints.clone();
        let counters = counters.clone();
        let stop = Arc::new(tokio::sync::Notify::new());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                for (i, endpoint) in endpoints.iter().enumerate() {
                    let (endpoint, plan, counters) =
                        (endpoint.clone(), plan.clone(), counters.clone());
                    tokio::spawn(async move {
                        let phase = Duration::from_micros(50_000 * i as u64 / 100);
                        tokio::time::sleep(phase).await;
                        let address = SocketAddr::new(endpoint.spec.ip, endpoint.spec.port);
                        let stream = TcpStream::connect(address).await.expect("connects");
                        let (mut client, connection) =
                            hyper::client::conn::http1::handshake(TokioIo::new(stream))
                                .await
                                .expect("handshake");
                        tokio::spawn(connection);
                        let mut ticks = tokio::time::interval(Duration::from_millis(50));
                        let mut layout = Layout::default();
                        loop {
                            ticks.tick().await;
                            let request = hyper::Request::get("/metrics")
                                .header("host", "worker")
                                .body(Empty::<&[u8]>::new())
                                .expect("request");
                            let answer = client.send_request(request).await.expect("answer");
                            let body = answer.collect().await.expect("body").to_bytes();
                            let reading = plan.read(&body, &mut layout);
                            reading.store(&endpoint.signals, clock::now());
                            counters.scrapes.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                stopped.notified().await;
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for HyperScraper {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
