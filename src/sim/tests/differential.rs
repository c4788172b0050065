use proptest::prelude::*;

use super::naive::Outcome;
use super::*;

fn requests() -> impl Strategy<Value = Vec<(Nanos, RequestSpec)>> {
    // Few contents, so that prompts share prefixes; gaps from none to some steps.
    let one = (0_u64..30_000_000, 0_u64..4, 1_u32..300, 1_u32..60);
    proptest::collection::vec(one, 1..40).prop_map(|rows| {
        let mut now = 0;
        rows.into_iter()
            .map(|(gap, content, prompt, output)| {
                now += gap;
                (now, request(content * 1000, prompt, output))
            })
            .collect()
    })
}

fn config() -> impl Strategy<Value = EngineConfig> {
    // From room for hardly more than one request to room for all.
    let sizes = (24_u32..120, 1_u32..12, 16_u32..200, any::<bool>(), 1_usize..3);
    sizes.prop_map(|(num_blocks, max_num_seqs, budget, async_scheduling, profile)| {
        let measured = EngineConfig::profile(PROFILES[profile - 1]).expect("a built-in profile");
        let mut config = EngineConfig {
            num_blocks,
            async_scheduling,
            max_num_seqs,
            max_num_batched_tokens: budget,
            max_model_len: 16 * 24,
            ..measured
        };
        // So that some of the steps are replayed from graphs and some are not.
        config.cost.graph_tokens = 40;
        config.cost.frontend_token_ns = 0.0;
        config
    })
}

/// Plays the requests through the engine, advancing only when it asks for it or one arrives.
fn play(config: EngineConfig, requests: &[(Nanos, RequestSpec)]) -> Vec<Outcome> {
    let mut engine = Engine::new(config).expect("valid");
    let mut outcome = vec![Outcome::default(); requests.len()];
    let mut index = std::collections::HashMap::new();
    let mut arrivals = requests.iter().enumerate().peekable();
    let num_blocks = engine.config().num_blocks;
    loop {
        let due = engine.next_event_at();
        let arrival = arrivals.peek().map(|(_, (at, _))| *at);
        let Some(now) = due.into_iter().chain(arrival).min() else { break };
        while let Some((i, (at, spec))) = arrivals.next_if(|(_, (at, _))| *at <= now) {
            index.insert(engine.submit(*at, spec.clone()).expect("fits"), i);
        }
        engine.advance(now, &mut |event| {
            assert!(event.at >= due.unwrap_or(0), "{event:?} came before {due:?}");
            let index: usize = index[&event.id];
            match event.kind {
                EventKind::Finished(summary) => {
                    outcome[index].finished_at = event.at;
                    outcome[index].preemptions = summary.preemptions;
                }
                _ => outcome[index].tokens_at.push(event.at),
            }
        });
    }
    assert_eq!(engine.requests(), 0);
    assert_eq!(engine.blocks.free(), num_blocks);
    outcome
}

proptest! {
    #[test]
    fn every_token_comes_when_the_yardstick_says(config in config(), requests in requests()) {
        let expected = naive::play(&config, &requests);
        let actual = play(EngineConfig { token_events: true, ..config }, &requests);
        prop_assert_eq!(actual, expected);
    }

    #[test]
    fn without_token_events_the_rest_is_the_same(config in config(), requests in requests()) {
        let mut expected = naive::play(&config, &requests);
        for outcome in &mut expected {
            outcome.tokens_at.truncate(1);
        }
        prop_assert_eq!(play(config, &requests), expected);
    }
}
