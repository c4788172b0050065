//! The fit against engines whose costs are known.

use super::fit::{compare, fit, simulated_ttft};
use super::measurements::{Cached, Cold, Decode, Measurements};
use crate::sim::{CostModel, EngineProfile, PROFILES};

/// What an engine of this profile would be measured to be, without noise.
fn measured(profile: &EngineProfile) -> Measurements {
    let ttft = |tokens, cached| simulated_ttft(profile, tokens, cached).unwrap();
    let cold = [128, 512, 1024, 2048, 4096, 8192, 16_384, 30_000]
        .map(|tokens| Cold { tokens, ttft: ttft(tokens, 0) })
        .to_vec();
    let mut cached = Vec::new();
    for tokens in [4096_u32, 16_384] {
        for share in [0.25, 0.5, 0.75, 0.9] {
            let found = (f64::from(tokens) * share) as u32 / 16 * 16;
            cached.push(Cached { tokens, cached: f64::from(found), ttft: ttft(tokens, found) });
        }
    }
    let steps = &profile.cost.decode_step_ns;
    let rows = steps.iter().map(|&(n, step)| (n, 512, step));
    let again = steps.iter().filter(|(n, _)| *n == 16).map(|&(n, step)| (n, 4096, step));
    let decode = rows.chain(again).map(|(concurrency, ctx, step)| {
        let read = profile.cost.kv_token_ns * f64::from(concurrency) * (f64::from(ctx) + 48.0);
        Decode { concurrency, ctx, output: 96, itl: (step + read) / 1e9 }
    });
    Measurements { cold, cached, decode: decode.collect(), ..Measurements::default() }
}

fn blank(profile: &EngineProfile) -> EngineProfile {
    let graph_tokens = profile.cost.graph_tokens;
    EngineProfile {
        cost: CostModel { graph_tokens, ..CostModel::instant() },
        description: String::new(),
        ..profile.clone()
    }
}

/// Prompts that were not measured come out within 5 % too, and so do decoding steps.
#[test]
fn an_engine_of_a_known_profile_is_found_again() {
    for name in PROFILES {
        let known = EngineProfile::builtin(name).unwrap();
        let found = fit(&measured(&known), blank(&known)).unwrap();
        for comparison in compare(&found, &measured(&known)).unwrap() {
            assert!(comparison.off().abs() < 0.05, "{name}: {comparison:?}");
        }
        for (tokens, cached) in [(300, 0), (3000, 0), (6000, 0), (12_000, 0), (8192, 6144)] {
            let ttft = |profile| simulated_ttft(profile, tokens, cached).unwrap();
            let off = ttft(&found) / ttft(&known) - 1.0;
            assert!(off.abs() < 0.05, "{name}: {tokens} tokens, {cached} cached: {off}");
        }
        let kv = found.cost.kv_token_ns / known.cost.kv_token_ns;
        assert!((kv - 1.0).abs() < 0.02, "{name}: {}", found.cost.kv_token_ns);
        for (one, other) in found.cost.decode_step_ns.iter().zip(&known.cost.decode_step_ns) {
            assert_eq!(one.0, other.0);
            assert!((one.1 / other.1 - 1.0).abs() < 0.01, "{name}: {one:?} {other:?}");
        }
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(EngineProfile::parse("found", &text).unwrap(), found);
    }
}

#[test]
fn measurements_that_say_too_little_are_refused() {
    let known = EngineProfile::builtin(PROFILES[0]).unwrap();
    let good = measured(&known);
    let none = Measurements { cold: good.cold[..2].to_vec(), ..good.clone() };
    let many = Measurements { decode: good.decode[1..].to_vec(), ..good.clone() };
    let mut never = good.clone();
    never.cold[0].ttft = f64::NAN;
    let mut nothing = good.clone();
    nothing.cached[0].tokens = 0;
    for bad in [none, many, never, nothing] {
        assert!(fit(&bad, blank(&known)).is_err(), "{bad:?}");
    }
}
