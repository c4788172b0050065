mod differential;
mod fit;
mod naive;
mod profiles;
mod remote;
mod scheduling;

use super::*;
use crate::sim::Nanos;

/// Runs an engine until it has nothing to do, and returns what it emitted.
fn run(engine: &mut Engine) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(at) = engine.next_event_at() {
        engine.advance(at, &mut |event| {
            assert!(event.at >= at, "{event:?} was announced for {at} or later");
            events.push(event);
        });
    }
    events
}

/// A request whose prompt shares blocks with those of the same `content`, up to the shorter end.
fn request(content: u64, prompt_tokens: u32, output_tokens: u32) -> RequestSpec {
    let ids: Vec<u64> = (0..u64::from(prompt_tokens.div_ceil(16))).map(|i| content + i).collect();
    RequestSpec {
        prompt: Prompt::from_trace(&ids, 16, prompt_tokens, content, 16),
        output_tokens,
        ..Default::default()
    }
}

fn measured() -> EngineConfig {
    EngineConfig::profile("h200-qwen7b").expect("a built-in profile")
}

fn ms(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}
