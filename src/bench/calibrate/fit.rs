//! From measurements to costs: those are sought with which a simulated engine that is asked the
//! same takes the same times.

use serde::Serialize;

use super::measurements::{Decode, Measurements};
use crate::sim::{CostModel, Engine, EngineProfile, EventKind, Nanos, Prompt, RequestSpec};

/// A measured time and the simulated one, milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Comparison {
    pub what: String,
    pub measured_ms: f64,
    pub simulated_ms: f64,
}

impl Comparison {
    /// How far the simulation is off, as a share of what was measured.
    pub(super) fn off(&self) -> f64 {
        self.simulated_ms / self.measured_ms - 1.0
    }
}

/// A prompt, how much of it is in the cache, and the time to its first token in seconds.
#[derive(Clone, Copy, Debug)]
struct Asked {
    tokens: u32,
    cached: u32,
    ttft: f64,
}

/// Fills in the costs of a profile.
///
/// # Errors
/// Where the measurements are too few or an engine of these sizes cannot run.
pub(super) fn fit(measured: &Measurements, blank: EngineProfile) -> Result<EngineProfile, String> {
    measured.check()?;
    let mut profile = blank;
    decode(&mut profile.cost, &measured.decode, profile.max_num_seqs);
    let asked = asked(measured, &profile);
    if asked.is_empty() {
        return Err("no measured prompt fits --max-model-len".into());
    }
    begin(&mut profile.cost, &asked);
    // A floor under the larger steps hides what they cost, so that the search does not come upon
    // one by itself. It is begun with one at each of the times that there are, unless all of them
    // can be explained without any: what is between two measured times is better told then.
    let cold = measured.cold.iter().map(|row| row.ttft * 0.9e9);
    let mut best: Option<(f64, EngineProfile)> = None;
    for floor in std::iter::once(0.0).chain(cold) {
        let mut start = profile.clone();
        start.cost.eager_step_ns = floor;
        let found = search(start, &asked, 0.5, 0.02)?;
        let is_explained = floor == 0.0 && found.0 < WELL_ENOUGH * WELL_ENOUGH;
        if best.as_ref().is_none_or(|(error, _)| found.0 < *error) {
            best = Some(found);
        }
        if is_explained {
            break;
        }
    }
    let (_, profile) = best.ok_or("nothing was measured")?;
    let (_, mut profile) = search(profile, &asked, 0.2, 0.003)?;
    for cost in COSTS {
        let value = cost(&mut profile.cost);
        *value = significant(*value);
    }
    Ok(profile)
}

/// How far off times are, at most, that count as explained.
const WELL_ENOUGH: f64 = 0.03;

/// Better costs than these, and the error that is left. Each is moved by itself, in steps that are
/// such a share of it, from `first` down to `last`: there are few, and times grow with each.
fn search(
    mut profile: EngineProfile,
    asked: &[Asked],
    first: f64,
    last: f64,
) -> Result<(f64, EngineProfile), String> {
    let mut best = error(&profile, asked)?;
    let mut step = first;
    while step > last {
        let before = best;
        let mut try_it = |profile: &mut EngineProfile, change: &dyn Fn(&mut CostModel)| {
            let mut other = profile.clone();
            change(&mut other.cost);
            let found = error(&other, asked)?;
            if found < best {
                (best, *profile) = (found, other);
            }
            Ok::<(), String>(())
        };
        for cost in COSTS {
            for factor in [1.0 + step, 1.0 / (1.0 + step), 0.0] {
                // What had been taken away may come back.
                try_it(&mut profile, &|costs| {
                    let value = cost(costs);
                    *value =
                        if *value == 0.0 && factor > 1.0 { 1e3 * step } else { *value * factor };
                })?;
            }
        }
        // Two that stand for each other are moved against each other.
        for (one, another) in [(0, 3), (1, 3), (1, 2), (0, 5), (0, 4)] {
            for factor in [1.0 + step, 1.0 / (1.0 + step)] {
                try_it(&mut profile, &|costs| {
                    *COSTS[one](costs) *= factor;
                    *COSTS[another](costs) /= factor;
                })?;
            }
        }
        if best > before * 0.99 {
            step *= 0.6;
        }
    }
    Ok((best, profile))
}

/// The costs that the time to the first token depends on.
const COSTS: [fn(&mut CostModel) -> &mut f64; 6] = [
    |cost| &mut cost.prefill_step_ns,
    |cost| &mut cost.prefill_token_ns,
    |cost| &mut cost.attention_pair_ns,
    |cost| &mut cost.frontend_token_ns,
    |cost| &mut cost.resume_ns,
    |cost| &mut cost.eager_step_ns,
];

/// Four digits: more would not be true.
fn significant(ns: f64) -> f64 {
    if ns == 0.0 {
        return 0.0;
    }
    let digits = 3 - ns.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    (ns * scale).round() / scale
}

/// Where the search begins: a line through the shortest prompt and the longest.
fn begin(cost: &mut CostModel, asked: &[Asked]) {
    let cold = || asked.iter().filter(|asked| asked.cached == 0);
    let (Some(short), Some(long)) =
        (cold().min_by_key(|a| a.tokens), cold().max_by_key(|a| a.tokens))
    else {
        return;
    };
    let token = (long.ttft - short.ttft) * 1e9 / f64::from((long.tokens - short.tokens).max(1));
    cost.prefill_step_ns = short.ttft * 0.7e9;
    cost.prefill_token_ns = token.max(1.0) * 0.7;
    cost.attention_pair_ns = token.max(1.0) * 0.5 / f64::from(long.tokens);
    cost.frontend_token_ns = token.max(1.0) * 0.05;
    cost.resume_ns = short.ttft * 0.2e9;
    cost.eager_step_ns = short.ttft * 0.5e9;
}

/// The time of a step without prompts, by how many answer at once.
fn decode(cost: &mut CostModel, rows: &[Decode], max_num_seqs: u32) {
    let context = |row: &Decode| f64::from(row.ctx) + f64::from(row.output) / 2.0;
    // Two contexts at one concurrency tell what a token of context costs; else it is in the step.
    let mut per_token: Vec<f64> = Vec::new();
    for (i, one) in rows.iter().enumerate() {
        for other in rows.iter().skip(i + 1).filter(|other| other.concurrency == one.concurrency) {
            let more = (context(other) - context(one)) * f64::from(one.concurrency);
            if more.abs() > 1024.0 {
                per_token.push(((other.itl - one.itl) * 1e9 / more).max(0.0));
            }
        }
    }
    per_token.sort_by(f64::total_cmp);
    cost.kv_token_ns = significant(per_token.get(per_token.len() / 2).copied().unwrap_or(0.0));
    let mut points: Vec<(u32, f64)> = Vec::new();
    let mut sorted: Vec<&Decode> = rows.iter().collect();
    sorted.sort_by_key(|row| (row.concurrency, row.ctx));
    for row in sorted {
        let is_known = points.last().is_some_and(|(at, _)| *at == row.concurrency);
        if row.concurrency == 0 || is_known || row.concurrency > max_num_seqs {
            continue;
        }
        let read = cost.kv_token_ns * f64::from(row.concurrency) * context(row);
        points.push((row.concurrency, significant((row.itl * 1e9 - read).max(0.0))));
    }
    cost.decode_step_ns = points;
}

fn asked(measured: &Measurements, profile: &EngineProfile) -> Vec<Asked> {
    let cold = measured.cold.iter().map(|r| Asked { tokens: r.tokens, cached: 0, ttft: r.ttft });
    let whole = |cached: f64| cached.max(0.0) as u32 / profile.block_size * profile.block_size;
    let cached = measured.cached.iter().map(|r| Asked {
        tokens: r.tokens,
        cached: whole(r.cached).min(r.tokens.saturating_sub(1)),
        ttft: r.ttft,
    });
    cold.chain(cached).filter(|asked| asked.tokens + 2 < profile.max_model_len).collect()
}

/// The mean square of how far the simulated times are off.
fn error(profile: &EngineProfile, asked: &[Asked]) -> Result<f64, String> {
    let mut sum = 0.0;
    for one in asked {
        let off = simulate(profile, one)? / one.ttft - 1.0;
        sum += off * off;
    }
    Ok(sum / asked.len() as f64)
}

/// The time to the first token, seconds.
fn simulate(profile: &EngineProfile, asked: &Asked) -> Result<f64, String> {
    let mut config = profile.config();
    // As many blocks as it takes: an engine with all of them takes longer to make than to run.
    config.num_blocks = 2 * (asked.tokens / profile.block_size + 8);
    config.max_model_len = asked.tokens + 8;
    let mut engine = Engine::new(config).map_err(|e| e.to_string())?;
    if asked.cached > 0 {
        ask(&mut engine, 0, prompt(asked.cached, profile.block_size))?;
    }
    const LATER: Nanos = 1 << 50;
    let at = ask(&mut engine, LATER, prompt(asked.tokens, profile.block_size))?;
    Ok((at - LATER) as f64 / 1e9)
}

/// A prompt that begins as all of them do.
fn prompt(tokens: u32, block_size: u32) -> Prompt {
    let blocks = u64::from(tokens / block_size);
    Prompt { len_tokens: tokens, block_hashes: (1..=blocks).collect() }
}

/// When the first token comes.
fn ask(engine: &mut Engine, now: Nanos, prompt: Prompt) -> Result<Nanos, String> {
    let spec = RequestSpec { prompt, output_tokens: 2, ..RequestSpec::default() };
    engine.submit(now, spec).map_err(|e| e.to_string())?;
    let mut first = now;
    while let Some(at) = engine.next_event_at() {
        engine.advance(at, &mut |event| {
            if let EventKind::FirstToken { .. } = event.kind {
                first = event.at;
            }
        });
    }
    Ok(first)
}

/// Every measured time beside what the profile makes of it.
///
/// # Errors
/// Where an engine of this profile cannot run.
pub(super) fn compare(
    profile: &EngineProfile,
    measured: &Measurements,
) -> Result<Vec<Comparison>, String> {
    let mut all = Vec::new();
    for one in asked(measured, profile) {
        let what = match one.cached {
            0 => format!("TTFT, {} tokens", one.tokens),
            cached => format!("TTFT, {} tokens, {cached} cached", one.tokens),
        };
        let (measured_ms, simulated_ms) = (one.ttft * 1e3, simulate(profile, &one)? * 1e3);
        all.push(Comparison { what, measured_ms, simulated_ms });
    }
    for row in measured.decode.iter().filter(|row| row.concurrency <= profile.max_num_seqs) {
        let n = f64::from(row.concurrency);
        let read =
            profile.cost.kv_token_ns * n * (f64::from(row.ctx) + f64::from(row.output) / 2.0);
        let point = profile.cost.decode_step_ns.iter().find(|(at, _)| *at == row.concurrency);
        let Some((_, step)) = point else { continue };
        all.push(Comparison {
            what: format!("between tokens, {} at once, {} tokens each", row.concurrency, row.ctx),
            measured_ms: row.itl * 1e3,
            simulated_ms: (step + read) / 1e6,
        });
    }
    Ok(all)
}

#[cfg(test)]
pub(super) fn simulated_ttft(
    profile: &EngineProfile,
    tokens: u32,
    cached: u32,
) -> Result<f64, String> {
    simulate(profile, &Asked { tokens, cached, ttft: 1.0 })
}
