//! What recording costs an exchange, in CPU time of the whole process, the writer's thread and the
//! compression included: the difference of the two lines of each kind of request.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use epp::exchange::{Ending, Kept, Outcome, OutcomeListener, Response, Times};
use epp::prefix::HashKey;
use epp::recording::{RecordOptions, Recorder};
use epp::scheduling::{
    Belief, DataKey, Decision, Directions, InferenceRequest, PrefixMatch, PrefixSource,
    PromptBuilder, RequestData, TokenUsage,
};
use rustix::time::{ClockId, clock_gettime};

/// Exchanges between two breaks in which the writer catches up: as many as it takes at once.
const TURN: u64 = 2000;

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn recorder(dir: &std::path::Path) -> Recorder {
    let options = RecordOptions {
        dir: dir.to_owned(),
        max_file_bytes: 64 << 20,
        max_file_age: Duration::from_secs(3600),
        max_bytes: 256 << 20,
    };
    Recorder::start(options, HashKey::random(), "", Arc::default()).expect("a folder")
}

/// The decision on request `number`, whose prompt has `blocks` blocks, all but the last `own` of
/// them one of 32 beginnings.
fn decision(number: u64, blocks: u64, own: u64) -> Decision {
    let shared = (0..blocks - own).map(|i| (number % 32 + 1) << 32 | i);
    let rest = (0..own).map(|i| (number + 100) << 32 | i);
    let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let found = PrefixMatch {
        total: blocks as u32,
        block_bytes: 256,
        hashes: shared.chain(rest).map(mix).collect(),
        ..PrefixMatch::default()
    };
    let mut data = RequestData::default();
    data.set(DataKey::new(0), found);
    let cached = (blocks - own) as u32;
    let total = blocks as u32;
    let belief = Belief { source: PrefixSource::Predicted, cached, total, block_tokens: 64 };
    Decision {
        profiles: Default::default(),
        scores: Vec::new(),
        trace: None,
        beliefs: [belief].into_iter().collect(),
        prefix_blocks: Some((belief.cached, belief.total)),
        data,
        directions: Directions::default(),
    }
}

fn requests(c: &mut Criterion) {
    // (name, bytes of prompt, blocks, those nobody else has)
    for (name, bytes, blocks, own) in [("1 KB", 1024, 4, 2), ("220 KB", 225_280, 880, 80)] {
        let text = vec![b'x'; bytes];
        let mut prompt = PromptBuilder::new(text.clone().into());
        prompt.text(&text);
        let request = InferenceRequest {
            target_model: "meta-llama/Llama-3.1-8B-Instruct".into(),
            prompt: prompt.finish(),
            body_bytes: bytes + 200,
            ..InferenceRequest::default()
        };
        let usage = TokenUsage { prompt: 290, completion: 101, cached: Some(128) };
        let response =
            Response { status: Some(200), usage: Some(usage), bytes: 900, ..Response::default() };
        for is_recorded in [false, true] {
            let state = if is_recorded { "recorded" } else { "not recorded" };
            c.bench_function(&format!("recording/{name}, {state}"), |b| {
                let dir = tempfile::tempdir().expect("a folder");
                let mut number = 0;
                b.iter_custom(|iterations| {
                    let recorder = recorder(dir.path());
                    let begin = cpu();
                    for i in 0..iterations {
                        number += 1;
                        let decision = decision(number, blocks, own);
                        if is_recorded {
                            recorder.ended(&Outcome {
                                request: &request,
                                has_body: true,
                                endpoint: None,
                                decision: Some(&decision),
                                refusal: None,
                                rewritten_by: None,
                                times: Times { ended: epp::clock::now(), ..Times::default() },
                                response: &response,
                                ending: Ending::Complete,
                                kept: &Kept::default(),
                            });
                        }
                        if i % TURN == TURN - 1 {
                            std::thread::sleep(Duration::from_millis(70));
                        }
                    }
                    recorder.stop();
                    cpu() - begin
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = requests
}
criterion_main!(benches);
