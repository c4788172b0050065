use std::sync::Arc;

use rmpv::Value;

use super::*;
use crate::clock::Timestamp;
use crate::kv_events::{Counters, Feed};
use crate::kv_index::{KvIndex, Limits};

pub(crate) fn index() -> Arc<KvIndex> {
    Arc::new(KvIndex::new(Limits { bytes: 1 << 30, blocks_per_holder: 1 << 20 }, 42))
}

struct Fed {
    index: Arc<KvIndex>,
    feed: Feed,
    counters: Arc<Counters>,
}

impl Fed {
    fn new() -> Self {
        let (index, counters) = (index(), Arc::new(Counters::default()));
        let feed = Feed::new(index.clone(), Arc::new(index.holder()), counters.clone());
        Self { index, feed, counters }
    }

    fn say(&mut self, events: Vec<Value>) {
        self.feed.apply(&batch(events)).expect("a batch of events");
    }

    fn held(&self, model: &str, salt: &str, tokens: &[u32]) -> u32 {
        let extras = (!salt.is_empty()).then_some((0, salt.as_bytes()));
        let keys = self.index.keys(model, tokens, 4, extras);
        self.feed.holder().matched(&keys, Timestamp::START).held
    }
}

const EIGHT: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn stored_removed_cleared() {
    let mut fed = Fed::new();
    fed.say(vec![stored(&[1], None, &EIGHT[..4]), stored(&[2], Some(1), &EIGHT[4..])]);
    assert_eq!(fed.held("m", "", &EIGHT), 2);
    fed.say(vec![removed(&[2])]);
    assert_eq!(fed.held("m", "", &EIGHT), 1);
    fed.say(vec![stored(&[3], None, &[9, 9, 9, 9]), cleared()]);
    assert_eq!((fed.held("m", "", &EIGHT), fed.feed.holder().len()), (0, 0));
    assert_eq!((fed.counters.blocks_added.get(), fed.counters.clears.get()), (3, 1));
}

#[test]
fn adapters_and_salts() {
    let event = |name: &str, salt: &str, hash| {
        let mut extra: Vec<Value> = Vec::new();
        let mut event = stored(&[hash], None, &EIGHT[..4]);
        if !name.is_empty() {
            event = with(event, "lora_name", name);
            extra.push(name.into());
        }
        if !salt.is_empty() {
            extra.push(salt.into());
        }
        with(event, "extra_keys", Value::Array(vec![Value::Array(extra)]))
    };
    let cases = [("", ""), ("sql", ""), ("", "abc"), ("sql", "abc")];
    for (name, salt) in cases {
        let mut fed = Fed::new();
        // An adapter is one wherever it was seen.
        fed.say(vec![event("sql", "elsewhere", 9), event(name, salt, 1)]);
        for (model, asked) in cases {
            let model = if model.is_empty() { "base" } else { model };
            let expected =
                u32::from((if name.is_empty() { "base" } else { name }, salt) == (model, asked));
            assert_eq!(fed.held(model, asked, &EIGHT), expected, "{name} {salt}: {model} {asked}");
        }
    }
}

#[test]
fn an_adapter_known_by_number_only_is_not_the_base_model() {
    let mut fed = Fed::new();
    fed.say(vec![with(stored(&[1], None, &EIGHT[..4]), "lora_id", 3)]);
    assert_eq!(fed.held("m", "", &EIGHT), 0);
    assert_eq!(fed.counters.blocks_added.get(), 1);
}

#[test]
fn a_parent_of_zero_is_none() {
    let mut fed = Fed::new();
    fed.say(vec![stored(&[1], Some(0), &EIGHT[..4])]);
    assert_eq!(fed.held("m", "", &EIGHT), 1);
}

#[test]
fn groups_that_need_not_hold_whole_prefixes_are_left_out() {
    let mut fed = Fed::new();
    let partial = |event| with(with(event, "group_idx", 1), "kv_cache_spec_kind", "sliding_window");
    fed.say(vec![
        stored(&[1], None, &EIGHT[..4]),
        partial(stored(&[1], None, &EIGHT[..4])),
        with(removed(&[1]), "group_idx", 1),
    ]);
    assert_eq!(fed.held("m", "", &EIGHT), 1);
    assert_eq!(fed.counters.blocks_of_partial_groups.get(), 2);
    fed.say(vec![removed(&[1])]);
    assert_eq!(fed.held("m", "", &EIGHT), 0);
}

#[test]
fn what_lies_in_shared_stores_is_not_the_engines() {
    let mut fed = Fed::new();
    let remote = |event| with(event, "locality", "REMOTE");
    fed.say(vec![remote(stored(&[1], None, &EIGHT[..4])), remote(removed(&[1]))]);
    assert_eq!((fed.feed.holder().len(), fed.counters.blocks_remote.get()), (0, 2));
}

#[test]
fn blocks_that_do_not_fit_are_counted() {
    let mut fed = Fed::new();
    fed.say(vec![
        stored(&[1, 2], None, &EIGHT[..4]),
        with(stored(&[3], None, &EIGHT[..4]), "block_size", 16),
        stored(&[4], Some(77), &EIGHT[..4]),
        removed(&[5]),
    ]);
    let counters = &fed.counters;
    assert_eq!((counters.blocks_mismatched.get(), counters.blocks_detached.get()), (3, 1));
    assert_eq!((counters.blocks_removed_unknown.get(), counters.blocks_removed.get()), (1, 0));
    assert!(fed.feed.holder().is_empty());
}

#[test]
fn tiers() {
    let mut fed = Fed::new();
    let copied = |medium: &str| {
        let event = with(stored(&[1], None, &[]), "block_size", 0);
        with(event, "medium", medium)
    };
    fed.say(vec![
        stored(&[1], None, &EIGHT[..4]),
        copied("cpu"),
        copied("STORAGE"),
        copied("mooncake"),
    ]);
    let keys = fed.index.keys("m", &EIGHT, 4, []);
    for (medium, tiers) in [
        ("GPU", [0, 1, 0, 0]),
        ("CPU", [0, 0, 1, 0]),
        ("disk", [0, 0, 0, 1]),
        ("mooncake", [0, 0, 0, 0]),
    ] {
        fed.say(vec![with(removed(&[1]), "medium", medium)]);
        assert_eq!(fed.feed.holder().matched(&keys, Timestamp::START).tiers, tiers, "{medium}");
    }
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut fed = Fed::new();
    assert_eq!(fed.feed.apply(b"\x93"), None);
    fed.say(vec![7.into(), map(&[("type", "BlockMoved".into())])]);
    let counters = &fed.counters;
    let counts = (counters.malformed_batches.get(), counters.malformed_events.get());
    assert_eq!((counts, counters.unknown_events.get()), ((1, 1), 1));
}
