//! Prompts computed by another engine, and engines without a prefix cache.

use super::scheduling::{engine, settle, summaries, unit};
use super::*;

fn remote(content: u64, prompt_tokens: u32, ready_ms: Nanos) -> RequestSpec {
    let prefill = PrefillState::Remote { ready_at: ready_ms * 1_000_000 };
    RequestSpec { prefill, ..request(content, prompt_tokens, 5) }
}

/// Every step takes 1 ms; a transfer takes 10 ms and 1 ms for each block.
#[test]
fn the_first_token_follows_the_transfer() {
    // (prompt tokens, cached there before, ready at, first token at), times in ms.
    for (tokens, cached, ready, first) in [
        (160, 0, 0, 10 + 10 + 1),
        // A part of a block takes a part of its time.
        (168, 0, 0, 10 + 10 + 1),
        // Only what is missing is fetched.
        (160, 96, 0, 10 + 4 + 1),
        // The last block is fetched even if it is there: the last token has to be computed.
        (160, 160, 0, 10 + 1 + 1),
        // The other engine is not done yet.
        (160, 0, 30, 30 + 10 + 10 + 1),
    ] {
        let mut engine = engine(100);
        if cached > 0 {
            engine.submit(0, request(1, cached, 1)).expect("fits");
            run(&mut engine);
        }
        let start = 100_000_000;
        let mut spec = remote(1, tokens, 0);
        spec.prefill = PrefillState::Remote { ready_at: start + ready * 1_000_000 };
        engine.submit(start, spec).expect("fits");
        let summary = summaries(&run(&mut engine))[0].1;
        let case = format!("{tokens} tokens, {cached} cached, ready at {ready}");
        assert_eq!((summary.first_token_at - start) / 1_000_000, first, "{case}");
        let found = cached.min((tokens - 1) / 16 * 16);
        assert_eq!(summary.cached_tokens, found, "{case}");
        assert_eq!(summary.received_tokens, tokens - found, "{case}");
        assert_eq!(summary.output_tokens, 5, "{case}");
        assert_eq!(engine.stats().totals.received_tokens, u64::from(tokens - found), "{case}");
    }
}

#[test]
fn a_received_prompt_is_cached_for_the_next_request() {
    let mut engine = engine(100);
    engine.submit(0, remote(1, 170, 0)).expect("fits");
    run(&mut engine);
    let again = request(1, 170, 1);
    assert_eq!(engine.cached_prefix_tokens(&again.prompt), 160);
}

#[test]
fn others_are_served_while_a_prompt_is_on_its_way() {
    let mut engine = engine(30);
    engine.submit(0, remote(1, 160, 0)).expect("fits");
    let other = engine.submit(0, request(1000, 64, 5)).expect("fits");
    let events = settle(&mut engine, 6);
    assert!(events.iter().all(|e| e.id == other) && summaries(&events).len() == 1);
    let stats = engine.stats();
    // Its blocks are held, it does not run.
    assert_eq!((stats.running, stats.waiting), (0, 1));
    assert!((stats.kv_usage - 10.0 / 30.0).abs() < 1e-9);
    assert_eq!(summaries(&run(&mut engine)).len(), 1);
    assert!(engine.stats().kv_usage.abs() < 1e-9);
}

#[test]
fn a_prompt_without_room_is_fetched_when_there_is_room() {
    let mut engine = engine(12);
    engine.submit(0, request(1000, 64, 40)).expect("fits");
    engine.submit(0, remote(1, 160, 0)).expect("fits");
    let finished = summaries(&run(&mut engine));
    // The first ends after 40 steps; then 20 ms of transfer and five steps.
    assert_eq!(finished.iter().map(|f| f.0).collect::<Vec<_>>(), [40, 40 + 20 + 5]);
}

#[test]
fn a_preempted_one_computes_its_prompt_itself() {
    let mut engine = engine(12);
    // Both decode; the second, received one is the newest and gives way.
    engine.submit(0, request(1000, 64, 100)).expect("fits");
    let mut second = remote(1, 64, 0);
    second.output_tokens = 60;
    engine.submit(0, second).expect("fits");
    let finished = summaries(&run(&mut engine));
    let second = finished.iter().find(|f| f.1.received_tokens > 0).expect("it finished");
    assert!(second.1.preemptions > 0, "{second:?}");
    assert_eq!(second.1.output_tokens, 60);
    assert_eq!(engine.stats().kv_usage, 0.0);
}

#[test]
fn a_cancelled_one_leaves_nothing_behind() {
    for (place, at_ms) in [("on its way", 5), ("received", 20), ("decoding", 23)] {
        let mut engine = engine(30);
        let id = engine.submit(0, remote(1, 160, 0)).expect("fits");
        settle(&mut engine, at_ms);
        assert!(engine.cancel(id), "{place}");
        assert_eq!(run(&mut engine), [], "{place}");
        assert_eq!((engine.stats().kv_usage, engine.requests()), (0.0, 0), "{place}");
    }
}

/// What a prefill worker is asked for: one token.
#[test]
fn a_prompt_alone_is_released_with_its_first_token_and_stays_cached() {
    let mut engine = engine(30);
    let spec = request(1, 100, 1);
    engine.submit(0, spec.clone()).expect("fits");
    let finished = summaries(&run(&mut engine));
    assert_eq!((finished[0].0, finished[0].1.output_tokens), (2, 1));
    assert_eq!(engine.cached_prefix_tokens(&spec.prompt), 96);
    assert_eq!(engine.stats().kv_usage, 0.0);
}

#[test]
fn without_prefix_caching_nothing_is_found() {
    let mut engine =
        Engine::new(EngineConfig { prefix_caching: false, ..unit(100) }).expect("valid");
    for _ in 0..2 {
        let now = engine.stats().totals.finished * 1_000_000_000;
        let spec = request(1, 160, 40);
        assert_eq!(engine.cached_prefix_tokens(&spec.prompt), 0);
        engine.submit(now, spec).expect("fits");
        assert_eq!(summaries(&run(&mut engine))[0].1.cached_tokens, 0);
    }
    let totals = engine.stats().totals;
    assert_eq!((totals.prefix_queries, totals.prefix_hits, totals.cached_tokens), (0, 0, 0));
}

#[test]
fn the_cache_is_reset_only_while_nothing_runs() {
    let mut engine = engine(30);
    let spec = request(1, 100, 10);
    engine.submit(0, spec.clone()).expect("fits");
    settle(&mut engine, 4);
    assert!(!engine.reset_prefix_cache());
    run(&mut engine);
    assert_eq!(engine.cached_prefix_tokens(&spec.prompt), 96);
    assert!(engine.reset_prefix_cache());
    assert_eq!(engine.cached_prefix_tokens(&spec.prompt), 0);
    engine.submit(1_000_000_000, spec).expect("fits");
    assert_eq!(summaries(&run(&mut engine))[0].1.cached_tokens, 0);
}

#[test]
fn a_prompt_that_waits_for_blocks_is_looked_up_in_every_step() {
    let mut engine = engine(10);
    engine.submit(0, request(1, 100, 10)).expect("fits");
    engine.submit(0, request(1000, 100, 1)).expect("fits");
    run(&mut engine);
    let totals = engine.stats().totals;
    // The first once. The second from step 2 on, when the first's prompt leaves tokens of the
    // budget, to step 11, and in step 12, when the first has ended.
    assert_eq!(totals.prefix_queries, 100 + 100 * 11);
    assert_eq!((totals.prefix_hits, totals.prompt_tokens), (0, 200));
}

#[test]
fn requests_sent_at_once_pass_the_frontend_one_by_one() {
    let mut config = unit(100);
    config.cost.frontend_request_ns = 2e6;
    config.cost.frontend_token_ns = 1e5;
    let mut engine = Engine::new(config).expect("valid");
    for i in 0..3 {
        engine.submit(0, request(1000 * i, 10, 1)).expect("fits");
    }
    let at: Vec<Nanos> = summaries(&run(&mut engine)).iter().map(|f| f.0).collect();
    // 3 ms each, and a step.
    assert_eq!(at, [4, 7, 10]);
}

#[test]
fn a_step_knows_what_came_before_the_last_one_was_launched() {
    for (async_scheduling, second_at) in [(false, 3), (true, 4)] {
        let mut engine =
            Engine::new(EngineConfig { async_scheduling, ..unit(100) }).expect("valid");
        engine.submit(0, request(1, 10, 20)).expect("fits");
        settle(&mut engine, 1);
        // It comes while the second step is executed.
        engine.submit(1_500_000, request(1000, 10, 1)).expect("fits");
        let second = summaries(&run(&mut engine))[0];
        assert_eq!(second.0, second_at, "asynchronous: {async_scheduling}");
    }
}

#[test]
fn what_comes_during_the_last_step_is_not_forgotten() {
    let mut engine =
        Engine::new(EngineConfig { async_scheduling: true, ..unit(100) }).expect("valid");
    engine.submit(0, request(1, 10, 1)).expect("fits");
    engine.submit(500_000, request(1000, 10, 1)).expect("fits");
    assert_eq!(summaries(&run(&mut engine)).iter().map(|f| f.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn an_engine_out_of_pace_takes_longer_until_it_is_in_pace_again() {
    let mut engine = engine(100);
    engine.submit(0, request(1, 10, 30)).expect("fits");
    settle(&mut engine, 10);
    engine.set_pace(3.0);
    settle(&mut engine, 25);
    engine.set_pace(1.0);
    let finished = summaries(&run(&mut engine));
    // Step 11 had begun. From 11 ms on steps take 3 ms; that of 23 ms ends at 26 with token 16.
    assert_eq!(finished[0].0, 26 + 14);
}
