use super::*;

/// A small engine whose every step takes one millisecond, whatever is in it.
pub(super) fn unit(num_blocks: u32) -> EngineConfig {
    EngineConfig {
        block_size: 16,
        num_blocks,
        max_num_seqs: 8,
        max_num_batched_tokens: 64,
        max_model_len: 16 * num_blocks,
        max_loras: 1,
        async_scheduling: false,
        prefix_caching: true,
        // 10 ms, and 1 ms for each block of 16 tokens.
        transfer: KvTransfer { latency_ns: 1e7, token_ns: 1e6 / 16.0 },
        token_events: false,
        cost: CostModel {
            prefill_step_ns: 1e6,
            decode_step_ns: vec![(1, 1e6), (2, 1e6)],
            ..CostModel::instant()
        },
    }
}

pub(super) fn engine(num_blocks: u32) -> Engine {
    Engine::new(unit(num_blocks)).expect("valid")
}

pub(super) fn summaries(events: &[Event]) -> Vec<(Nanos, Summary)> {
    let finished = |e: &Event| match e.kind {
        EventKind::Finished(summary) => Some((e.at / 1_000_000, summary)),
        _ => None,
    };
    events.iter().filter_map(finished).collect()
}

pub(super) fn settle(engine: &mut Engine, now_ms: Nanos) -> Vec<Event> {
    let mut events = Vec::new();
    engine.advance(now_ms * 1_000_000, &mut |e| events.push(e));
    events
}

#[test]
fn a_prompt_longer_than_the_budget_takes_several_steps() {
    let mut engine = engine(100);
    engine.submit(0, request(1, 200, 3)).expect("fits");
    let finished = summaries(&run(&mut engine));
    // 64 + 64 + 64 + 8 tokens, then two more tokens of answer.
    assert_eq!(finished[0].0, 4 + 2);
    assert_eq!(finished[0].1.first_token_at, 4_000_000);
}

#[test]
fn decoding_goes_on_while_a_long_prompt_is_computed() {
    let mut engine = Engine::new(EngineConfig { token_events: true, ..unit(100) }).expect("valid");
    let short = engine.submit(0, request(1, 16, 50)).expect("fits");
    settle(&mut engine, 1);
    engine.submit(1_000_000, request(1000, 640, 1)).expect("fits");
    let tokens = settle(&mut engine, 11).iter().filter(|e| e.id == short).count();
    assert_eq!(tokens, 10, "one token in each step");
    // Each step computes 63 tokens of the long prompt beside the one decoded.
    let long = summaries(&run(&mut engine))[0];
    assert_eq!(long.0, 1 + 640_u64.div_ceil(63) + 1, "it joined one step later");
}

#[test]
fn a_repeated_prompt_is_cached_but_for_its_last_block() {
    for (tokens, cached) in [(15, 0), (16, 0), (17, 16), (160, 144), (161, 160), (170, 160)] {
        let mut engine = engine(100);
        let spec = request(1, tokens, 1);
        assert_eq!(engine.cached_prefix_tokens(&spec.prompt), 0);
        engine.submit(0, spec.clone()).expect("fits");
        run(&mut engine);
        assert_eq!(engine.cached_prefix_tokens(&spec.prompt), cached, "{tokens} tokens");
        engine.submit(1_000_000_000, spec).expect("fits");
        assert_eq!(summaries(&run(&mut engine))[0].1.cached_tokens, cached, "{tokens} tokens");
        let totals = engine.stats().totals;
        assert_eq!(totals.prefix_queries, 2 * u64::from(tokens));
        assert_eq!(totals.prefix_hits, u64::from(cached));
        assert_eq!(totals.prompt_tokens, 2 * u64::from(tokens));
    }
}

#[test]
fn a_prompt_behind_an_equal_one_finds_its_blocks_in_the_same_step() {
    let mut engine = engine(100);
    engine.submit(0, request(1, 40, 1)).expect("fits");
    engine.submit(0, request(1, 40, 1)).expect("fits");
    let finished = summaries(&run(&mut engine));
    assert_eq!(finished.iter().map(|f| f.1.cached_tokens).collect::<Vec<_>>(), [0, 32]);
    assert_eq!(finished[1].0, 1);
}

#[test]
fn the_answer_is_cached_under_the_names_the_caller_gave() {
    let mut engine = engine(100);
    let whole = request(1, 160, 1);
    let mut first = request(1, 40, 100);
    first.prompt.block_hashes.clone_from(&whole.prompt.block_hashes);
    engine.submit(0, first).expect("fits");
    run(&mut engine);
    // 139 of the 140 tokens were computed: the last one ended the request.
    assert_eq!(engine.cached_prefix_tokens(&whole.prompt), 128);
}

#[test]
fn eviction_takes_the_oldest_prompt_from_its_end() {
    let mut engine = engine(10);
    let (old, new) = (request(1, 81, 1), request(1000, 81, 1));
    engine.submit(0, old.clone()).expect("fits");
    run(&mut engine);
    // 6 blocks: the 4 never used before, and the two that became free first: the last ones.
    engine.submit(1_000_000_000, new.clone()).expect("fits");
    run(&mut engine);
    assert_eq!(engine.cached_prefix_tokens(&new.prompt), 80);
    assert_eq!(engine.cached_prefix_tokens(&old.prompt), 64);
}

#[test]
fn a_request_waits_until_its_whole_prompt_fits() {
    let mut engine = engine(10);
    engine.submit(0, request(1, 100, 10)).expect("fits");
    engine.submit(0, request(1000, 100, 1)).expect("fits");
    // Behind one that does not fit, first come first served: a small one waits as well.
    engine.submit(0, request(2000, 16, 1)).expect("fits");
    settle(&mut engine, 3);
    let stats = engine.stats();
    assert_eq!((stats.running, stats.waiting), (1, 2));
    assert!((stats.kv_usage - 0.7).abs() < 1e-9);
    let finished = summaries(&run(&mut engine));
    let at: Vec<Nanos> = finished.iter().map(|f| f.0).collect();
    // The first: 2 steps of prompt, 9 of answer. The others follow: 64 + 36 and 16 tokens.
    assert_eq!(at, [11, 13, 13]);
    assert_eq!(engine.stats(), Stats { totals: engine.stats().totals, ..Stats::default() });
}

#[test]
fn the_newest_is_preempted_when_blocks_run_out() {
    let mut engine = engine(6);
    engine.submit(0, request(1, 32, 40)).expect("fits");
    engine.submit(0, request(1000, 32, 40)).expect("fits");
    let finished = summaries(&run(&mut engine));
    let preempted: Vec<u32> = finished.iter().map(|f| f.1.preemptions).collect();
    assert_eq!(preempted, [0, 1]);
    assert!(finished.iter().all(|f| f.1.output_tokens == 40));
    // Undisturbed they would both end after 40 steps.
    assert_eq!(finished[0].0, 40);
    assert!(finished[1].0 > 40);
    assert_eq!(engine.stats().totals.preemptions, 1);
    assert_eq!(engine.stats().totals.generated_tokens, 80);
}

#[test]
fn no_more_sequences_run_than_allowed() {
    let mut engine = engine(100);
    for i in 0..20 {
        engine.submit(0, request(1000 * i, 4, 10)).expect("fits");
    }
    settle(&mut engine, 5);
    assert_eq!((engine.stats().running, engine.stats().waiting), (8, 12));
    let at: Vec<Nanos> = summaries(&run(&mut engine)).iter().map(|f| f.0).collect();
    assert_eq!(at, [[10; 8].as_slice(), &[20; 8], &[30; 4]].concat());
}

#[test]
fn requests_for_an_adapter_without_room_are_passed_over() {
    let mut engine = engine(100);
    for (i, adapter) in [Some(7), Some(8), None, Some(7)].into_iter().enumerate() {
        let spec = RequestSpec { adapter, ..request(1000 * i as u64, 4, 10) };
        engine.submit(0, spec).expect("fits");
    }
    settle(&mut engine, 5);
    assert_eq!((engine.stats().running, engine.stats().waiting), (3, 1));
    assert_eq!(engine.running_adapters().collect::<Vec<_>>(), [7]);
    assert_eq!(engine.waiting_adapters().into_iter().collect::<Vec<_>>(), [8]);
    let at: Vec<Nanos> = summaries(&run(&mut engine)).iter().map(|f| f.0).collect();
    assert_eq!(at, [10, 10, 10, 20]);
    assert_eq!(engine.running_adapters().count(), 0);
}

#[test]
fn a_cancelled_request_leaves_nothing_behind() {
    // Where the request is when it is cancelled: (frontend delay per token in ns, time in ms).
    for (place, delay, at_ms) in [
        ("on its way", 1e6, 1),
        ("computing its prompt", 0.0, 1),
        ("decoding", 0.0, 6),
        ("decoding, between steps of others", 0.0, 7),
    ] {
        let mut config = unit(40);
        config.cost.frontend_token_ns = delay;
        let mut engine = Engine::new(config).expect("valid");
        let id = engine.submit(0, request(1, 200, 100)).expect("fits");
        settle(&mut engine, at_ms);
        assert!(engine.cancel(id), "{place}");
        assert!(!engine.cancel(id), "{place}: twice");
        let stats = engine.stats();
        assert_eq!((stats.running, stats.waiting, stats.kv_usage), (0, 0, 0.0), "{place}");
        assert_eq!(run(&mut engine), [], "{place}");
        assert_eq!(engine.requests(), 0, "{place}");
    }
}

#[test]
fn cancelling_one_lets_the_next_in() {
    let mut engine = engine(10);
    let first = engine.submit(0, request(1, 100, 50)).expect("fits");
    let second = engine.submit(0, request(1000, 100, 5)).expect("fits");
    let third = engine.submit(0, request(2000, 20, 5)).expect("fits");
    settle(&mut engine, 4);
    assert!(engine.cancel(second), "while it waits");
    assert_eq!(engine.stats().waiting, 1);
    assert!(engine.cancel(first));
    let events = run(&mut engine);
    assert!(events.iter().all(|e| e.id == third));
    assert_eq!(summaries(&events)[0].0, 5 + 5);
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let mut engine = engine(10);
    assert_eq!(engine.submit(0, request(1, 0, 5)), Err(SubmitError::EmptyPrompt));
    let too_long = Err(SubmitError::TooLong { tokens: 160, max: 160 });
    assert_eq!(engine.submit(0, request(1, 160, 5)), too_long);
    // One token of room: the answer is cut to it; an answer has at least one token.
    engine.submit(0, request(1, 159, 5)).expect("fits");
    engine.submit(0, request(1, 3, 0)).expect("fits");
    let lengths: Vec<u32> =
        summaries(&run(&mut engine)).iter().map(|f| f.1.output_tokens).collect();
    assert_eq!(lengths, [1, 1]);
}

#[test]
fn configurations_no_engine_runs_with_are_refused() {
    let ok = unit(10);
    let cases = [
        (EngineConfig { block_size: 0, ..ok.clone() }, ConfigError::Zero("block_size")),
        (EngineConfig { max_loras: 0, ..ok.clone() }, ConfigError::Zero("max_loras")),
        (
            EngineConfig { max_num_seqs: 65, ..ok.clone() },
            ConfigError::BudgetBelowSeqs { batched: 64, seqs: 65 },
        ),
        (
            EngineConfig { max_model_len: 161, ..ok },
            ConfigError::CacheBelowModelLen { model_len: 161, capacity: 160 },
        ),
    ];
    for (config, error) in cases {
        assert_eq!(Engine::new(config).err(), Some(error));
    }
}

/// What keeps a replay of a million requests short: callers need not look at every step.
#[test]
fn a_batch_that_only_decodes_is_looked_at_rarely() {
    let mut engine = Engine::new(measured()).expect("valid");
    for i in 0..10 {
        engine.submit(0, request(100_000 * i, 512, 2000)).expect("fits");
    }
    let mut looks = 0;
    while let Some(at) = engine.next_event_at() {
        engine.advance(at, &mut |_| {});
        looks += 1;
    }
    assert_eq!(engine.stats().totals.generated_tokens, 20_000);
    assert!(looks < 30, "{looks} times for 2000 steps");
}
