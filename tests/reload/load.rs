//! Configurations that change again and again under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{CHAT, Rig, answer, body, by_prefix, finish};
use crate::support::client::Gateway;
use crate::support::eventually;

/// Exchanges in progress at any time.
const CLIENTS: usize = 8;

/// Configurations that differ in weights, in a plugin that comes and goes, and in one whose index
/// starts empty every time.
fn variant(n: u32) -> String {
    let block = [64, 128][n as usize % 2];
    let mut more = format!(
        "- {{type: approx-prefix-cache-producer, parameters: {{autoTune: false, blockSizeTokens: {block}}}}}"
    );
    if n.is_multiple_of(3) {
        more.push_str("\n- {type: predicted-latency-producer, parameters: {streamingMode: true}}");
        more.push_str("\n- {type: no-hit-lru-scorer}");
    }
    by_prefix(1 + n % 5, &more)
}

/// Resident memory, KiB.
fn memory(rig: &Rig) -> u64 {
    let path = format!("/proc/{}/status", rig.program.process.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends one exchange after the other until told to stop, each over a prompt of a few.
async fn client(gateway: Gateway, n: usize, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = format!("c{n}-{turn}");
        let prompt = body(&format!("conversation {} of many", (n + turn) % 5));
        let mut replies = gateway.post(CHAT, &[("x-request-id", &id)], &prompt).await;
        assert!(!replies.destination().is_empty());
        answer(&mut replies).await;
        finish(&mut replies).await;
        done.fetch_add(1, Ordering::Relaxed);
        turn += 1;
    }
}

/// `times` reloads while exchanges come and go, and one that stays open all the time.
async fn reload_under_load(times: u32) {
    let rig = Rig::start(&variant(0), &["--config-reload=signal", "--access-log=false"]).await;
    let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(client(rig.gateway.clone(), n, stop.clone(), done.clone())))
        .collect();
    let mut open = rig.begin("open", &body("open all the time")).await;
    answer(&mut open).await;
    let mut memories = Vec::new();
    let applied = "llm_d_epp_config_reloads_total{result=\"applied\"}";
    for n in 1..=times {
        rig.edit(&variant(n));
        rig.program.process.signal("HUP");
        eventually("the reload", || async {
            (rig.metric(applied).await == Some(f64::from(n))).then_some(())
        })
        .await;
        memories.push(memory(&rig));
    }
    // There are exchanges under many a configuration in between.
    let before = done.load(Ordering::Relaxed);
    eventually("more exchanges", || async {
        (done.load(Ordering::Relaxed) > before + CLIENTS).then_some(())
    })
    .await;
    finish(&mut open).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no exchange was lost");
    }
    eventually("nothing in flight", || async { (rig.in_flight().await == 0).then_some(()) }).await;
    let config = eventually("one configuration", || async {
        let config = rig.json("/debug/config").await;
        (config["configurationsAtWork"] == 1).then_some(config)
    })
    .await;
    let lines = config["lines"].as_array().unwrap();
    let plugins = lines.iter().filter(|line| line["text"].as_str().unwrap().starts_with("- type:"));
    // No instance is left of those that were replaced.
    assert!(config["pluginsAtWork"].as_u64() >= Some(plugins.count() as u64), "{config}");
    let of_fresh = Rig::start(&variant(times), &[]).await.json("/debug/config").await;
    assert_eq!(config["pluginsAtWork"], of_fresh["pluginsAtWork"]);
    if times >= 500 {
        let fifth = memories.len() / 5;
        let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
        let (early, late) = (mean(&memories[fifth..2 * fifth]), mean(&memories[4 * fifth..]));
        println!(
            "{} exchanges; resident memory {early} KiB early, {late} KiB late",
            done.load(Ordering::Relaxed)
        );
        assert!(late < early + early / 5, "{early} KiB early, {late} KiB late");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_reloads_under_load_lose_nothing() {
    reload_under_load(30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn a_thousand_reloads_under_load_lose_nothing() {
    reload_under_load(1000).await;
}
