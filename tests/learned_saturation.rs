//! The learned saturation detector before a model of a real engine: it finds by itself what a
//! threshold found by hand would give.

use std::collections::HashMap;
use std::time::Duration;

use epp::clock::Timestamp;
use epp::flow_control::{LearnedLimit, Observation};
use epp::sim::{Engine, EngineConfig, EventKind, Prompt, RequestSpec};

/// Requests of one kind: tokens of prompt and answer, from and to.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    prompt: (u32, u32),
    answer: (u32, u32),
    requests: usize,
}

const CHAT: Kind = Kind { name: "chat", prompt: (200, 1500), answer: (50, 500), requests: 6000 };

/// Who says how many requests the engine may hold.
enum Gate {
    Fixed(usize),
    Learned(Box<LearnedLimit>),
}

impl Gate {
    fn limit(&self) -> usize {
        match self {
            Self::Fixed(limit) => *limit,
            // What it goes by until it has learned does not matter here.
            Self::Learned(limit) => limit.limit().map_or(16, |limit| limit as usize),
        }
    }
}

/// How an engine did behind a gate, over the second half of the requests.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Answer tokens a second.
    throughput: f64,
    /// Median time to the first token at the engine, seconds.
    ttft: f64,
    limit: usize,
}

/// Offers more than the engine can take until all requests have ended.
fn overload(kind: Kind, mut gate: Gate) -> Run {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut engine = Engine::new(EngineConfig::profile("h200-qwen7b").unwrap()).unwrap();
    let mut in_flight: HashMap<_, (u64, i64, i64)> = HashMap::new();
    let (mut sent, mut ended, mut now) = (0, 0, 0);
    let mut half = (0, 0);
    let mut ttfts = Vec::new();
    while ended < kind.requests {
        while sent < kind.requests && in_flight.len() < gate.limit().max(1) {
            let tokens = rng.u32(kind.prompt.0..=kind.prompt.1);
            let text: Vec<u8> = (0..tokens * 4).map(|_| rng.alphanumeric() as u8).collect();
            let prompt = Prompt::from_text(&text, b"", 0, 16);
            let tokens = i64::from(prompt.len_tokens);
            let output_tokens = rng.u32(kind.answer.0..=kind.answer.1);
            let spec =
                RequestSpec { prompt, output_tokens, adapter: None, prefill: Default::default() };
            let id = engine.submit(now, spec).unwrap();
            in_flight.insert(id, (now, in_flight.len() as i64 + 1, tokens));
            sent += 1;
        }
        now = engine.next_event_at().expect("something runs");
        let mut events = Vec::new();
        engine.advance(now, &mut |event| events.push(event));
        for event in events {
            match event.kind {
                EventKind::FirstToken { .. } => {
                    let (at, before, tokens) = in_flight[&event.id];
                    let ttft = Duration::from_nanos(event.at - at);
                    if ended > kind.requests / 2 {
                        ttfts.push(ttft.as_secs_f64());
                    }
                    if let Gate::Learned(limit) = &mut gate {
                        let observation =
                            Observation { ttft, in_flight: before, tokens, endpoints: 1 };
                        limit.observe(observation, Timestamp::from_nanos(event.at));
                    }
                }
                EventKind::Finished(_) => {
                    in_flight.remove(&event.id);
                    ended += 1;
                    if ended == kind.requests / 2 {
                        half = (now, engine.stats().totals.generated_tokens);
                    }
                }
                EventKind::Token => {}
            }
        }
    }
    let seconds = (now - half.0) as f64 / 1e9;
    let tokens = engine.stats().totals.generated_tokens - half.1;
    ttfts.sort_by(f64::total_cmp);
    Run { throughput: tokens as f64 / seconds, ttft: ttfts[ttfts.len() / 2], limit: gate.limit() }
}

#[test]
fn it_loses_next_to_nothing_beside_the_best_threshold() {
    let fixed = [128, 256, 512].map(|limit| overload(CHAT, Gate::Fixed(limit)));
    let best = fixed.iter().map(|run| run.throughput).fold(0.0, f64::max);
    let learned = overload(CHAT, Gate::Learned(Box::default()));
    println!("{}", CHAT.name);
    for run in fixed.iter().chain([&learned]) {
        let share = run.throughput / best;
        println!("  {:>4}: {share:.3} of the best throughput, TTFT {:.3} s", run.limit, run.ttft);
    }
    assert!(learned.throughput > 0.98 * best, "{learned:?}, best {best}");
    // Nor does the engine hold many more than it can run at once.
    assert!(learned.limit < 256 * 3 / 2, "{learned:?}");
}
