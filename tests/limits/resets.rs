//! Streams that are reset: thousands at once are a gateway whose clients all left; without end
//! they are an attack (CVE-2023-44487).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{Client, PROCESS, RST_STREAM, open, open_shortest, reset};
use crate::support::client::Gateway;
use crate::support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
/// An attack lasts this long; each connection begins anew when it is thrown out.
const ATTACK: Duration = Duration::from_secs(3);
/// What an attack may add to the program's memory at most, bytes: some thousand streams that wait
/// for their turn, and what the allocator keeps.
const ALLOWED: u64 = 128 << 20;

fn start() -> Program {
    Program::start(TUTORIAL, &["127.0.0.1:1".parse().unwrap()], &[])
}

/// The most memory that the program ever held, bytes; `None` where the system does not tell.
fn peak_memory(program: &Program) -> Option<u64> {
    let path = format!("/proc/{}/status", program.process.pid());
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb << 10)
}

/// Opens and resets streams as fast as the connection takes them, until `end`.
async fn flood(port: u16, end: Instant, value: Option<&str>, reads: bool) {
    while Instant::now() < end {
        let (mut read, mut write) = Client::connect(port).await.split();
        let drain = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while reads && read.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            if !reads {
                std::future::pending::<()>().await;
            }
        });
        let mut stream = 1;
        while Instant::now() < end && stream < 1 << 30 {
            let mut batch = Vec::with_capacity(1 << 17);
            while batch.len() < 1 << 16 {
                batch.extend(match value {
                    Some(value) => open(stream, PROCESS, &[("x-long", value)]),
                    None => open_shortest(stream),
                });
                batch.extend(reset(stream));
                stream += 2;
            }
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, write.write_all(&batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) => return drain.abort(),
            }
        }
        drop(write);
        drain.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_leave_memory_flat() {
    let (long, too_long) = ("x".repeat(6_000), "x".repeat(20_000));
    // A value that each stream carries (`None`: nothing but the shortest request), and whether
    // the client reads what comes back.
    for (value, reads) in [
        (None, true),
        (Some(""), true),
        (Some(long.as_str()), true),
        (Some(too_long.as_str()), true),
        (Some(too_long.as_str()), false),
    ] {
        let program = start();
        let Some(before) = peak_memory(&program) else {
            eprintln!("skipped: this system does not tell how much memory a process takes");
            return;
        };
        let end = Instant::now() + ATTACK;
        let port = program.grpc_port;
        futures_util::future::join_all((0..8).map(|_| flood(port, end, value, reads))).await;
        let grown = peak_memory(&program).expect("the program lives") - before;
        let bytes = value.map(str::len);
        println!("{bytes:?} bytes a stream, reads {reads}: {} MiB more", grown >> 20);
        assert!(grown < ALLOWED, "{} MiB more under attack", grown >> 20);
        // The program is still of use to others.
        let answer = Gateway::connect(port).await.post(CHAT, &[], HELLO).await;
        assert_eq!(answer.destination(), "127.0.0.1:1");
    }
}

/// A gateway whose clients all leave at once keeps its connection, and so do its other clients.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_streams_reset_together_cost_nobody_else_anything() {
    let program = start();
    let streams = (0..5_000).map(|i| 2 * i + 1);
    for are_seen_first in [true, false] {
        let mut client = Client::connect(program.grpc_port).await;
        let opened: Vec<u8> = streams.clone().flat_map(|s| open(s, PROCESS, &[])).collect();
        let reset: Vec<u8> = streams.clone().flat_map(reset).collect();
        if are_seen_first {
            client.send(&opened).await.unwrap();
            client.ping().await;
            client.send(&reset).await.unwrap();
        } else {
            client.send(&[opened, reset].concat()).await.unwrap();
        }
        client.check_health(10_001).await;
    }
}

/// Streams that stay open cost what they cost and no more are had on one connection.
#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_of_a_connection_are_refused() {
    const MOST: u32 = 32_768;
    let program = start();
    let mut client = Client::connect(program.grpc_port).await;
    let opened: Vec<u8> = (0..MOST).flat_map(|i| open(2 * i + 1, PROCESS, &[])).collect();
    client.send(&opened).await.unwrap();
    client.ping().await;
    client.send(&open(2 * MOST + 1, PROCESS, &[])).await.unwrap();
    client.until(RST_STREAM, 2 * MOST + 1).await;
    println!("{:?} MiB at the most", peak_memory(&program).map(|bytes| bytes >> 20));
    // When one goes there is room for another.
    client.send(&reset(1)).await.unwrap();
    client.check_health(2 * MOST + 3).await;
}
