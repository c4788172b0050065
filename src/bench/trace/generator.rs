//! Made-up workloads of the kinds that make or break prefix routing, so that the harness works
//! without any file. The same seed gives the same trace.

use std::sync::Arc;

use super::distribution::{Random, Zipf};
use super::spans::{combine, own, shared};
use super::{Session, Spans, Trace, TraceRequest};
use crate::sim::Nanos;

/// The kinds of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Applications with a long system prompt each, asked one question at a time; some of them
    /// far more popular than others.
    Shared,
    /// Conversations of several turns over a few system prompts; every turn quotes all before.
    Chat,
    /// Retrieval: a short system prompt, then popular documents, then a question.
    Rag,
    /// `shared` arriving in waves, every other one of them on a prompt nobody has seen.
    Bursts,
    /// Long documents that nobody has seen before, with long answers: nothing to find in a cache,
    /// and prompts that disturb answers.
    Documents,
    /// `shared` from ten tenants, one of which asks for more than all others together, each for
    /// some requests of priority 100 and some of -10 beside those of 0: what a pool that cannot
    /// serve all should share out.
    Overload,
    /// All but the documents and the overload at once.
    Mix,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    pub kind: Kind,
    /// Requests in all, at least 1.
    pub requests: usize,
    /// Requests per second on average, at rate factor 1.
    pub rate: f64,
    pub seed: u64,
}

const SECOND: f64 = 1e9;
/// No prompt part is longer, so that tails do not decide a run.
const LONGEST: u32 = 24_000;
/// Of an overload: tenants beside the greedy one, and what share of the requests is that one's.
const MODEST: usize = 9;
const GREEDY_SHARE: f64 = 0.55;

impl Generator {
    pub fn make(&self) -> Trace {
        let mut random = Random::new(self.seed);
        let sessions = match self.kind {
            Kind::Shared => self.shared(&mut random),
            Kind::Chat => self.chat(&mut random),
            Kind::Rag => self.rag(&mut random),
            Kind::Bursts => self.bursts(&mut random),
            Kind::Documents => self.documents(&mut random),
            Kind::Overload => self.overload(&mut random),
            Kind::Mix => self.mix(&mut random),
        };
        let name = format!("{:?}", self.kind).to_lowercase();
        Trace { name, sessions, origin: None }.sorted()
    }

    fn mix(&self, random: &mut Random) -> Vec<Session> {
        let kinds = [Kind::Shared, Kind::Chat, Kind::Rag, Kind::Bursts];
        let mut sessions = Vec::new();
        for (i, kind) in kinds.into_iter().enumerate() {
            let requests = self.requests / 4 + usize::from(i < self.requests % 4);
            let part = Self { kind, requests, rate: self.rate / 4.0, seed: random.seed() };
            if requests > 0 {
                sessions.extend(part.make().sessions);
            }
        }
        sessions
    }

    /// The start of each of `n` independent sessions that come at `rate` per second.
    fn arrivals(n: usize, rate: f64, random: &mut Random) -> Vec<Nanos> {
        let mut at = 0.0;
        (0..n)
            .map(|_| {
                at += random.exponential(SECOND / rate);
                at as Nanos
            })
            .collect()
    }

    fn shared(&self, random: &mut Random) -> Vec<Session> {
        let applications = Applications::new(self.seed, 60, 3000.0, random);
        Self::arrivals(self.requests, self.rate, random)
            .into_iter()
            .map(|at| single(at, applications.question(random)))
            .collect()
    }

    fn chat(&self, random: &mut Random) -> Vec<Session> {
        const TURNS: f64 = 6.0;
        let applications = Applications::new(self.seed, 12, 1200.0, random);
        let mut sessions = Vec::new();
        let mut at = 0.0;
        let mut left = self.requests;
        while left > 0 {
            at += random.exponential(SECOND * TURNS / self.rate);
            let turns = (random.geometric(TURNS) as usize).min(left);
            left -= turns;
            let mut prompt = applications.system(random);
            let mut requests = Vec::with_capacity(turns);
            for turn in 0..turns {
                let question = own(random.seed());
                prompt.push_stream(question, random.length(120.0, 1.0, 4000));
                let answer = own(combine(question, 1));
                let output_tokens = random.length(220.0, 0.8, 4000);
                let think = if turn == 0 { 0.0 } else { random.exponential(15.0 * SECOND) };
                requests.push(TraceRequest {
                    earliest: 0,
                    think: think as Nanos,
                    prompt: prompt.clone(),
                    output_tokens,
                    answer: Some(answer),
                    ..Default::default()
                });
                prompt.push_stream(answer, output_tokens);
            }
            sessions.push(Session { starts: at as Nanos, requests });
        }
        sessions
    }

    fn rag(&self, random: &mut Random) -> Vec<Session> {
        const DOCUMENTS: usize = 2000;
        let popularity = Zipf::new(DOCUMENTS, 1.1);
        let document = |i: usize| shared(combine(self.seed ^ 0xd0c, i as u64));
        let lengths: Vec<u32> = (0..DOCUMENTS).map(|_| random.length(900.0, 0.5, 6000)).collect();
        let system = shared(combine(self.seed, 0x5a6));
        Self::arrivals(self.requests, self.rate, random)
            .into_iter()
            .map(|at| {
                let mut prompt = Spans::default();
                prompt.push_stream(system, 400);
                let mut picked: Vec<usize> = Vec::new();
                while picked.len() < 4 {
                    let i = popularity.draw(random);
                    if !picked.contains(&i) {
                        picked.push(i);
                    }
                }
                for i in picked {
                    prompt.push_stream(document(i), lengths[i]);
                }
                prompt.push_stream(own(random.seed()), random.length(60.0, 0.6, 1000));
                single(at, one(prompt, random.length(180.0, 0.7, 2000)))
            })
            .collect()
    }

    fn documents(&self, random: &mut Random) -> Vec<Session> {
        Self::arrivals(self.requests, self.rate, random)
            .into_iter()
            .map(|at| {
                let mut prompt = Spans::default();
                prompt.push_stream(own(random.seed()), random.length(6000.0, 0.5, LONGEST));
                single(at, one(prompt, random.length(400.0, 0.5, 4000)))
            })
            .collect()
    }

    fn overload(&self, random: &mut Random) -> Vec<Session> {
        let tenants: Vec<Arc<str>> = std::iter::once("greedy".into())
            .chain((1..=MODEST).map(|n| format!("modest {n}").into()))
            .collect();
        let mut sessions = self.shared(random);
        for request in sessions.iter_mut().flat_map(|s| &mut s.requests) {
            let tenant = match random.share() < GREEDY_SHARE {
                true => 0,
                false => 1 + random.below(MODEST),
            };
            request.tenant = tenants.get(tenant).cloned();
            request.priority = match random.share() {
                x if x < 0.2 => 100,
                x if x < 0.8 => 0,
                _ => -10,
            };
        }
        sessions
    }

    /// Waves of two seconds every ten, in which four fifths of all requests come.
    fn bursts(&self, random: &mut Random) -> Vec<Session> {
        const PERIOD: f64 = 10.0 * SECOND;
        const WAVE: f64 = 2.0 * SECOND;
        let applications = Applications::new(self.seed, 60, 3000.0, random);
        Self::arrivals(self.requests, self.rate, random)
            .into_iter()
            .map(|at| {
                let at = at as f64;
                let wave = (at / PERIOD).floor();
                // Even arrivals are pushed together: most of a period's into its wave.
                let phase = at / PERIOD - wave;
                let (phase, in_wave) = if phase < 0.8 {
                    (phase / 0.8 * WAVE / PERIOD, true)
                } else {
                    let after = (phase - 0.8) / 0.2;
                    (WAVE / PERIOD + after * (1.0 - WAVE / PERIOD), false)
                };
                let cold = in_wave && wave % 2.0 == 1.0;
                let request = if cold {
                    let mut prompt = Spans::default();
                    prompt.push_stream(own(combine(self.seed, wave as u64)), 5000);
                    ask(prompt, random)
                } else {
                    applications.question(random)
                };
                single(((wave + phase) * PERIOD) as Nanos, request)
            })
            .collect()
    }
}

/// System prompts, the first ones more popular.
struct Applications {
    seed: u64,
    popularity: Zipf,
    lengths: Vec<u32>,
}

impl Applications {
    fn new(seed: u64, n: usize, median_tokens: f64, random: &mut Random) -> Self {
        let lengths = (0..n).map(|_| random.length(median_tokens, 0.7, LONGEST)).collect();
        Self { seed, popularity: Zipf::new(n, 0.9), lengths }
    }

    fn system(&self, random: &mut Random) -> Spans {
        let i = self.popularity.draw(random);
        let mut prompt = Spans::default();
        prompt.push_stream(shared(combine(self.seed, i as u64)), self.lengths[i]);
        prompt
    }

    fn question(&self, random: &mut Random) -> TraceRequest {
        let prompt = self.system(random);
        ask(prompt, random)
    }
}

/// Adds a question of its own to a prompt.
fn ask(mut prompt: Spans, random: &mut Random) -> TraceRequest {
    prompt.push_stream(own(random.seed()), random.length(250.0, 1.0, LONGEST));
    one(prompt, random.length(180.0, 0.8, 4000))
}

fn one(prompt: Spans, output_tokens: u32) -> TraceRequest {
    TraceRequest { prompt, output_tokens, ..Default::default() }
}

fn single(starts: Nanos, request: TraceRequest) -> Session {
    Session { starts, requests: vec![request] }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn make(kind: Kind, requests: usize, seed: u64) -> Trace {
        Generator { kind, requests, rate: 20.0, seed }.make()
    }

    #[test]
    fn every_kind_makes_what_was_asked_for() {
        for &kind in Kind::value_variants() {
            let trace = make(kind, 3000, 1);
            assert_eq!(trace.len(), 3000, "{kind:?}");
            assert_eq!(trace, make(kind, 3000, 1), "{kind:?}: the seed decides");
            assert_ne!(trace, make(kind, 3000, 2), "{kind:?}: and nothing else");
            let seconds = trace.last_start() as f64 / SECOND;
            assert!((90.0..240.0).contains(&seconds), "{kind:?} takes {seconds} s at 20/s");
            assert!(trace.requests().all(|r| r.output_tokens > 0 && r.prompt.tokens() > 0));
            assert!(make(kind, 1, 1).len() == 1, "{kind:?}");
        }
    }

    #[test]
    fn sharing_is_where_the_kind_says() {
        for (kind, at_least, at_most) in [
            (Kind::Shared, 0.7, 0.95),
            (Kind::Chat, 0.7, 0.97),
            (Kind::Rag, 0.3, 0.9),
            (Kind::Bursts, 0.7, 0.97),
            (Kind::Documents, 0.0, 1e-9),
        ] {
            let rate = make(kind, 4000, 3).ceiling(16).hit_rate();
            assert!((at_least..at_most).contains(&rate), "{kind:?}: {rate}");
        }
    }

    #[test]
    fn an_overload_is_one_greedy_tenants_and_nine_modest_ones() {
        let trace = make(Kind::Overload, 6000, 4);
        assert_eq!(trace.priorities(), [100, 0, -10]);
        let share = |of: &dyn Fn(&TraceRequest) -> bool| {
            trace.requests().filter(|r| of(r)).count() as f64 / trace.len() as f64
        };
        let tenants: std::collections::BTreeSet<_> =
            trace.requests().map(|r| r.tenant.clone().unwrap()).collect();
        assert_eq!(tenants.len(), 10);
        for tenant in tenants {
            let expected = if &*tenant == "greedy" { 0.55 } else { 0.05 };
            let share = share(&|r| r.tenant.as_deref() == Some(&tenant));
            assert!((share - expected).abs() < 0.02, "{tenant}: {share}");
        }
        for (priority, expected) in [(100, 0.2), (0, 0.6), (-10, 0.2)] {
            let share = share(&|r| r.priority == priority);
            assert!((share - expected).abs() < 0.03, "{priority}: {share}");
        }
    }

    #[test]
    fn turns_of_a_chat_extend_each_other() {
        let trace = make(Kind::Chat, 500, 5);
        let long = trace.sessions.iter().find(|s| s.requests.len() > 2).unwrap();
        let hashes = |i: usize| {
            let r = &long.requests[i];
            r.prompt.block_hashes(r.answer.map(|a| (a, r.output_tokens)), 16)
        };
        assert!(hashes(1).starts_with(&hashes(0)) && hashes(2).starts_with(&hashes(1)));
    }

    #[test]
    fn bursts_come_in_waves() {
        let trace = make(Kind::Bursts, 4000, 5);
        let period = 10.0 * SECOND;
        let in_wave = trace.sessions.iter().filter(|s| (s.starts as f64 % period) < 2.0 * SECOND);
        let share = in_wave.count() as f64 / trace.len() as f64;
        assert!((0.75..0.85).contains(&share), "{share}");
    }
}
