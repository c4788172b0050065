//! Profiles: those built in, and those of files.

use super::*;

fn yaml() -> String {
    serde_yaml::to_string(&EngineProfile::builtin("h100-qwen3b").expect("built in")).expect("text")
}

#[test]
fn every_built_in_profile_runs_and_says_what_it_is() {
    for name in PROFILES {
        let profile = EngineProfile::builtin(name).expect("listed");
        profile.config().validate().expect("it runs");
        assert!(profile.description.contains("vLLM"), "{name}");
        assert_eq!(EngineProfile::load(name).expect("built in"), profile);
    }
    assert_eq!(EngineProfile::builtin("a100"), None);
}

#[test]
fn a_profile_is_read_as_it_was_written() {
    let profile = EngineProfile::builtin("h100-qwen3b").expect("built in");
    let json = serde_json::to_string(&profile).expect("text");
    for text in [yaml(), json] {
        assert_eq!(EngineProfile::parse("p", &text).expect("a profile"), profile);
    }
}

#[test]
fn mistakes_in_a_profile_are_told() {
    for (from, to, says) in [
        ("block_size: 16", "block_size: 0", "block_size must be at least 1"),
        ("block_size: 16", "block_size: 70000", "block_size must be at most 65536"),
        ("num_blocks:", "num_block:", "unknown field"),
        ("kv_bytes_per_token: 36864.0", "kv_bytes_per_token: -1", "KV transfer per token"),
        ("prefill_token_ns: 9700.0", "prefill_token_ns: -9700.0", "prefill_token_ns must be"),
        ("resume_ns: 2500000.0", "resume_ns: .nan", "resume_ns must be"),
        ("resume_ns: 2500000.0", "resume_ns: fast", "resume_ns"),
        ("- - 1\n", "- - 2\n", "batch sizes"),
        ("- - 64\n", "- - 16\n", "batch sizes"),
    ] {
        let text = yaml();
        assert!(text.contains(from), "{from} is not in\n{text}");
        let error = EngineProfile::parse("mine", &text.replacen(from, to, 1)).expect_err(to);
        let error = error.to_string();
        assert!(error.contains("mine") && error.contains(says), "{to}: {error}");
    }
    let error = EngineProfile::load("no-such-profile").expect_err("it is neither").to_string();
    assert!(error.contains("h200-qwen7b, h100-qwen3b"), "{error}");
}
