//! The profile against the measurements it was fitted to: vLLM 0.24.0 on one H200, Qwen2-7B
//! shape, medians in milliseconds.

use super::*;

fn assert_within(tolerance: f64, what: &str, model: f64, measured: f64) {
    let off = model / measured - 1.0;
    assert!(
        off.abs() <= tolerance,
        "{what}: model {model:.2} ms, measured {measured:.2} ms, off by {:.1} %",
        off * 100.0
    );
}

fn first_tokens(events: &[Event]) -> Vec<Nanos> {
    let first = |e: &&Event| matches!(e.kind, EventKind::FirstToken { .. });
    events.iter().filter(first).map(|e| e.at).collect()
}

fn ttft(engine: &mut Engine, now: Nanos, spec: RequestSpec) -> (f64, u32) {
    engine.submit(now, spec).expect("fits");
    for event in run(engine) {
        if let EventKind::FirstToken { cached_tokens } = event.kind {
            return (ms(event.at - now), cached_tokens);
        }
    }
    panic!("no first token")
}

#[test]
fn cold_ttft_by_prompt_length() {
    for (tokens, measured_ms) in [
        (128, 9.488),
        (512, 17.276),
        (1024, 26.990),
        (2048, 50.740),
        (4096, 99.324),
        (8192, 208.417),
        (16_384, 451.154),
        (30_000, 957.641),
    ] {
        let mut engine = Engine::new(measured()).expect("valid");
        let (model_ms, cached) = ttft(&mut engine, 0, request(1, tokens, 2));
        assert_eq!(cached, 0);
        assert_within(0.10, &format!("{tokens} tokens cold"), model_ms, measured_ms);
    }
}

#[test]
fn ttft_by_cached_share() {
    for (tokens, cached, measured_ms) in [
        (4096, 0, 101.329),
        (4096, 1024, 78.732),
        (4096, 2048, 57.948),
        (4096, 3072, 35.058),
        (4096, 3680, 23.295),
        (4096, 4080, 15.027),
        (16_384, 0, 450.821),
        (16_384, 4096, 361.889),
        (16_384, 8192, 256.076),
        (16_384, 12_288, 142.078),
        (16_384, 14_736, 71.955),
        (16_384, 16_368, 23.313),
    ] {
        let mut engine = Engine::new(measured()).expect("valid");
        if cached > 0 {
            // The whole prompt was there before where all but its last block is cached.
            let before = if cached + 16 == tokens { tokens } else { cached };
            ttft(&mut engine, 0, request(1, before, 2));
        }
        let (model_ms, found) = ttft(&mut engine, 10_000_000_000, request(1, tokens, 2));
        assert_eq!(found, cached);
        assert_within(0.15, &format!("{cached} of {tokens} cached"), model_ms, measured_ms);
    }
}

#[test]
fn inter_token_latency_by_concurrency() {
    for (concurrency, measured_ms) in
        [(1, 4.724), (4, 4.785), (16, 5.009), (32, 5.126), (64, 5.495), (128, 6.779), (256, 10.440)]
    {
        let mut engine =
            Engine::new(EngineConfig { token_events: true, ..measured() }).expect("valid");
        for i in 0..concurrency {
            engine.submit(0, request(1_000_000 * i, 512, 96)).expect("fits");
        }
        let events = run(&mut engine);
        let mut gaps = Vec::new();
        let mut last = std::collections::HashMap::new();
        for event in &events {
            if !matches!(event.kind, EventKind::Finished(_))
                && let Some(before) = last.insert(event.id, event.at)
            {
                gaps.push(event.at - before);
            }
        }
        assert_eq!(gaps.len(), 95 * concurrency as usize);
        gaps.sort_unstable();
        assert_within(
            0.15,
            &format!("{concurrency} decoding"),
            ms(gaps[gaps.len() / 2]),
            measured_ms,
        );
    }
}

/// Not fitted, so a check of the model's structure: prompts of 8,192 tokens sent at once are
/// computed one after the other.
#[test]
fn long_prompts_sent_at_once_wait_for_each_other() {
    let mut engine = Engine::new(measured()).expect("valid");
    for i in 0..16 {
        engine.submit(0, request(1_000_000 * i, 8192, 64)).expect("fits");
    }
    let firsts = first_tokens(&run(&mut engine));
    assert_within(0.20, "first of 16", ms(firsts[0]), 244.0);
    assert_within(0.10, "last of 16", ms(firsts[15]), 3243.0);
}

#[test]
fn speed_scales_every_duration() {
    let time = |speed: f64| {
        let config = measured().at_speed(speed).expect("a speed");
        let mut engine = Engine::new(config).expect("valid");
        ttft(&mut engine, 0, request(1, 5000, 2)).0
    };
    assert!((time(1.0) / time(4.0) - 4.0).abs() < 1e-3);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(measured().at_speed(bad), Err(ConfigError::Speed(_))), "{bad}");
    }
}

#[test]
fn an_instant_engine_takes_no_time() {
    let config = EngineConfig { cost: CostModel::instant(), ..measured() };
    let mut engine = Engine::new(config).expect("valid");
    for i in 0..300 {
        engine.submit(7, request(i * 1000, 2000, 50)).expect("fits");
    }
    assert!(run(&mut engine).iter().all(|e| e.at == 7));
    assert_eq!(engine.stats().totals.finished, 300);
}
