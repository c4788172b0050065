//! Traffic to learn from: a trace through simulated engines in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::bench::trace::Trace;
use crate::latency::Features;
use crate::sim::{
    Engine, EngineConfig, Event, EventKind, Nanos, PrefillState, Prompt, RequestId, RequestSpec,
    Stats,
};

/// One request as the router saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub worker: usize,
    /// At the moment of the pick.
    pub features: Features,
    pub picked_at: Nanos,
    pub first_token_at: Nanos,
    pub finished_at: Nanos,
    pub output_tokens: u32,
}

impl Sample {
    pub(super) fn ttft_ms(&self) -> f64 {
        self.first_token_at.saturating_sub(self.picked_at) as f64 / 1e6
    }

    /// Mean time between tokens after the first; `None` where there is one token only.
    pub(super) fn tpot_ms(&self) -> Option<f64> {
        let gaps = self.output_tokens.checked_sub(1).filter(|&n| n > 0)?;
        Some(self.finished_at.saturating_sub(self.first_token_at) as f64 / 1e6 / f64::from(gaps))
    }
}

/// What the requests go to.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub engine: EngineConfig,
    /// How fast each worker is against `engine`.
    pub speeds: Vec<f64>,
    /// How many times as often as in the trace sessions start.
    pub rate: f64,
    /// Between two readings of the workers' metrics.
    pub metrics_interval: Nanos,
    /// Share of the requests that go anywhere, so that all there is to see is seen.
    pub exploration: f64,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Metrics,
    Request { session: usize, index: usize },
    Engine(usize),
}

#[derive(Debug)]
struct Worker {
    engine: Engine,
    /// When the engine is next due, so that it is asked once for each time.
    due: Option<Nanos>,
    scraped: Stats,
    requests: HashMap<RequestId, Open>,
    prefilling: u32,
    decoding: u32,
    prefill_tokens: u64,
    context_tokens: u64,
}

#[derive(Debug)]
struct Open {
    session: usize,
    index: usize,
    uncached: u64,
    features: Features,
}

struct Run<'a> {
    trace: &'a Trace,
    scene: &'a Scene,
    workers: Vec<Worker>,
    due: BinaryHeap<Reverse<(Nanos, Due)>>,
    rng: fastrand::Rng,
    left: usize,
    samples: Vec<Sample>,
}

/// Plays `trace` and returns its requests in the order in which they ended.
///
/// # Errors
/// Where an engine cannot run with its configuration.
pub(super) fn play(trace: &Trace, scene: &Scene) -> Result<Vec<Sample>, String> {
    let workers = scene.speeds.iter().map(|&speed| Worker::new(&scene.engine, speed));
    let mut run = Run {
        trace,
        scene,
        workers: workers.collect::<Result<_, _>>()?,
        due: BinaryHeap::new(),
        rng: fastrand::Rng::with_seed(scene.seed),
        left: trace.len(),
        samples: Vec::with_capacity(trace.len()),
    };
    for (session, s) in trace.sessions.iter().enumerate() {
        if let Some(first) = s.requests.first() {
            let at = run.starts(session) + first.earliest;
            run.due.push(Reverse((at, Due::Request { session, index: 0 })));
        }
    }
    run.due.push(Reverse((0, Due::Metrics)));
    while run.left > 0 {
        let Some(Reverse((now, due))) = run.due.pop() else { break };
        match due {
            Due::Metrics => {
                for worker in 0..run.workers.len() {
                    run.advance(now, worker);
                    run.workers[worker].scraped = run.workers[worker].engine.stats();
                }
                run.due.push(Reverse((now + scene.metrics_interval, Due::Metrics)));
            }
            Due::Request { session, index } => run.request(now, session, index),
            Due::Engine(worker) => {
                if run.workers[worker].due == Some(now) {
                    run.advance(now, worker);
                }
            }
        }
    }
    Ok(run.samples)
}

impl Worker {
    fn new(engine: &EngineConfig, speed: f64) -> Result<Self, String> {
        let config = engine.clone().at_speed(speed).map_err(|e| e.to_string())?;
        Ok(Self {
            engine: Engine::new(config).map_err(|e| e.to_string())?,
            due: None,
            scraped: Stats::default(),
            requests: HashMap::new(),
            prefilling: 0,
            decoding: 0,
            prefill_tokens: 0,
            context_tokens: 0,
        })
    }

    fn features(&self, prompt: &Prompt) -> Features {
        Features {
            kv_usage: self.scraped.kv_usage,
            waiting: f64::from(self.scraped.waiting),
            running: f64::from(self.scraped.running),
            input_tokens: f64::from(prompt.len_tokens),
            cached_tokens: f64::from(self.engine.cached_prefix_tokens(prompt)),
            prefilling: f64::from(self.prefilling),
            decoding: f64::from(self.decoding),
            prefill_tokens: self.prefill_tokens as f64,
            context_tokens: self.context_tokens as f64,
            ..Features::default()
        }
    }
}

impl Run<'_> {
    fn starts(&self, session: usize) -> Nanos {
        (self.trace.sessions[session].starts as f64 / self.scene.rate) as Nanos
    }

    fn request(&mut self, now: Nanos, session: usize, index: usize) {
        let request = &self.trace.sessions[session].requests[index];
        let answer = request.answer.map(|stream| (stream, request.output_tokens));
        let prompt = Prompt {
            len_tokens: u32::try_from(request.prompt.tokens()).unwrap_or(u32::MAX),
            block_hashes: request.prompt.block_hashes(answer, self.scene.engine.block_size),
        };
        let features: Vec<Features> = self.workers.iter().map(|w| w.features(&prompt)).collect();
        let worker = self.pick(&features);
        let Some(features) = features.get(worker).copied() else { return };
        let state = &mut self.workers[worker];
        let context = u64::from(prompt.len_tokens);
        let uncached = (features.input_tokens - features.cached_tokens) as u64;
        let spec = RequestSpec {
            prompt,
            output_tokens: request.output_tokens,
            adapter: None,
            prefill: PrefillState::default(),
        };
        match state.engine.submit(now, spec) {
            Ok(id) => {
                state.prefilling += 1;
                state.prefill_tokens += uncached;
                state.context_tokens += context;
                state.requests.insert(id, Open { session, index, uncached, features });
                self.schedule(now, worker);
            }
            // Too long for the engine: nothing to learn from.
            Err(_) => self.ended(now, session, index),
        }
    }

    /// Mostly the worker with the least to do, as a router would.
    fn pick(&mut self, features: &[Features]) -> usize {
        if self.rng.f64() < self.scene.exploration {
            return self.rng.usize(..features.len().max(1));
        }
        let cost = |f: &Features| {
            f.input_tokens - f.cached_tokens
                + f.prefill_tokens
                + 400.0 * (f.prefilling + f.decoding)
        };
        let least = features.iter().map(cost).fold(f64::INFINITY, f64::min);
        let best: Vec<usize> =
            (0..features.len()).filter(|&i| cost(&features[i]) <= least).collect();
        best.get(self.rng.usize(..best.len().max(1))).copied().unwrap_or(0)
    }

    fn advance(&mut self, now: Nanos, worker: usize) {
        let mut events = Vec::new();
        self.workers[worker].engine.advance(now, &mut |event| events.push(event));
        for event in events {
            self.event(worker, &event);
        }
        self.schedule(now, worker);
    }

    fn schedule(&mut self, now: Nanos, worker: usize) {
        let state = &mut self.workers[worker];
        let next = state.engine.next_event_at().map(|at| at.max(now));
        if let Some(at) = next
            && state.due != next
        {
            self.due.push(Reverse((at, Due::Engine(worker))));
        }
        state.due = next;
    }

    fn event(&mut self, worker: usize, event: &Event) {
        let state = &mut self.workers[worker];
        match event.kind {
            EventKind::FirstToken { .. } => {
                if let Some(open) = state.requests.get(&event.id) {
                    state.prefilling -= 1;
                    state.decoding += 1;
                    state.prefill_tokens -= open.uncached;
                }
            }
            EventKind::Token => {}
            EventKind::Finished(summary) => {
                let Some(open) = state.requests.remove(&event.id) else { return };
                state.decoding -= 1;
                state.context_tokens -= u64::from(summary.prompt_tokens);
                self.samples.push(Sample {
                    worker,
                    features: open.features,
                    picked_at: summary.submitted_at,
                    first_token_at: summary.first_token_at,
                    finished_at: event.at,
                    output_tokens: summary.output_tokens,
                });
                self.ended(event.at, open.session, open.index);
            }
        }
    }

    fn ended(&mut self, now: Nanos, session: usize, index: usize) {
        self.left -= 1;
        if let Some(next) = self.trace.sessions[session].requests.get(index + 1) {
            let earliest = self.starts(session) + next.earliest;
            let at = earliest.max(now + next.think);
            self.due.push(Reverse((at, Due::Request { session, index: index + 1 })));
        }
    }
}
