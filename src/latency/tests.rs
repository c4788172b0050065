//! The predictor as its users see it.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn observation(features: Features, latency: Latency) -> Observation {
    Observation { features, correction: Arc::default(), latency }
}

fn prompt(tokens: f64) -> Features {
    Features { input_tokens: tokens, ..Default::default() }
}

/// An endpoint that takes 10 ms and 20 us a token, and 5 ms for each further token.
fn teach(predictor: &LatencyPredictor, correction: &Arc<EndpointCorrection>, n: u64, slower: f64) {
    for i in 0..n {
        let features = prompt(100.0 * (1 + i % 40) as f64);
        let ttft = (10.0 + 0.02 * features.input_tokens) * slower;
        for latency in [Latency::Ttft(ttft), Latency::Tpot(5.0 * slower)] {
            predictor.observe(Observation { features, correction: correction.clone(), latency });
        }
    }
}

fn near(got: Option<f64>, want: f64, share: f64) -> bool {
    got.is_some_and(|got| (got / want - 1.0).abs() < share)
}

#[test]
fn nothing_is_predicted_before_enough_was_seen() {
    let (predictor, endpoint) = (LatencyPredictor::new(), Arc::default());
    teach(&predictor, &endpoint, MIN_OBSERVATIONS / 2, 1.0);
    assert_eq!(predictor.predict(&prompt(500.0), &endpoint), Prediction::default());
    teach(&predictor, &endpoint, MIN_OBSERVATIONS, 1.0);
    let prediction = predictor.predict(&prompt(500.0), &endpoint);
    assert!(near(prediction.ttft_ms, 20.0, 0.1), "{prediction:?}");
    assert!(near(prediction.tpot_ms, 5.0, 0.1), "{prediction:?}");
}

#[test]
fn answers_of_one_token_teach_no_tpot() {
    let (predictor, endpoint) = (LatencyPredictor::new(), Arc::default());
    for i in 0..400 {
        let features = prompt(f64::from(i % 7) * 100.0);
        predictor.observe(observation(features, Latency::Ttft(10.0)));
    }
    let prediction = predictor.predict(&prompt(100.0), &endpoint);
    assert!(near(prediction.ttft_ms, 10.0, 0.1) && prediction.tpot_ms.is_none());
}

#[test]
fn an_endpoint_that_is_slower_is_known_to_be() {
    let predictor = LatencyPredictor::new();
    let (fast, slow) = (Arc::default(), Arc::default());
    for _ in 0..60 {
        teach(&predictor, &fast, 40, 1.0);
        teach(&predictor, &slow, 40, 2.0);
    }
    let at = |endpoint| predictor.predict(&prompt(2000.0), endpoint).ttft_ms;
    assert!(near(at(&fast), 50.0, 0.15), "{:?}", at(&fast));
    assert!(near(at(&slow), 100.0, 0.15), "{:?}", at(&slow));
}

#[test]
fn a_change_of_all_endpoints_is_followed() {
    let (predictor, endpoint) = (LatencyPredictor::new(), Arc::default());
    teach(&predictor, &endpoint, 3000, 1.0);
    teach(&predictor, &endpoint, 600, 3.0);
    let prediction = predictor.predict(&prompt(2000.0), &endpoint);
    assert!(near(prediction.ttft_ms, 150.0, 0.2), "{prediction:?}");
}

#[test]
fn its_error_is_told() {
    let (predictor, endpoint) = (LatencyPredictor::new(), Arc::default());
    assert_eq!(predictor.errors().ttft.observations, 0);
    teach(&predictor, &endpoint, 3000, 1.0);
    let errors = predictor.errors();
    assert!(errors.ttft.observations > 2000 && errors.tpot.observations > 2000);
    assert!(errors.ttft.median < 0.05 && errors.ttft.p90 < 0.1, "{errors:?}");
}

#[test]
fn many_threads_read_while_others_teach() {
    let predictor = LatencyPredictor::new();
    let endpoint: Arc<EndpointCorrection> = Arc::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| teach(&predictor, &endpoint, 2000, 1.0));
            scope.spawn(|| {
                for i in 0..2000 {
                    let prediction = predictor.predict(&prompt(f64::from(i)), &endpoint);
                    assert!(prediction.ttft_ms.is_none_or(f64::is_finite));
                }
            });
        }
    });
    teach(&predictor, &endpoint, 100, 1.0);
    assert!(near(predictor.predict(&prompt(500.0), &endpoint).ttft_ms, 20.0, 0.1));
}

/// Anything that a broken counter or clock could hand in.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        0.0..1e12f64,
    ]
}

fn any_features() -> impl Strategy<Value = Features> {
    proptest::collection::vec(any_number(), 11).prop_map(|v| Features {
        kv_usage: v[0],
        waiting: v[1],
        running: v[2],
        input_tokens: v[3],
        cached_tokens: v[4],
        encoder_input: v[5],
        encoder_matched: v[6],
        prefilling: v[7],
        decoding: v[8],
        prefill_tokens: v[9],
        context_tokens: v[10],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_input_makes_a_prediction_that_is_no_latency(
        garbage in proptest::collection::vec((any_features(), any_number()), 1..64),
    ) {
        let (predictor, endpoint) = (LatencyPredictor::new(), Arc::default());
        teach(&predictor, &endpoint, 200, 1.0);
        for (features, ms) in garbage {
            for latency in [Latency::Ttft(ms), Latency::Tpot(ms)] {
                let correction = Arc::clone(&endpoint);
                predictor.observe(Observation { features, correction, latency });
            }
            let p = predictor.predict(&features, &endpoint);
            for ms in [p.ttft_ms, p.tpot_ms].into_iter().flatten() {
                prop_assert!(ms.is_finite() && ms >= 0.0, "{ms}");
            }
        }
    }
}
