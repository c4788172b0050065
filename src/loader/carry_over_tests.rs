//! Which plugins go on when one configuration replaces another.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Changes, InForce, LoadOptions, Pipeline, Residents, load_over};
use crate::endpoints::{EndpointMemory, PoolIds};
use crate::plugins::TookOver;
use crate::scheduling::Producer;

fn document(plugins: &[String], profiles: &[&str]) -> String {
    let mut text = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n".to_owned();
    text.push_str("plugins:\n- type: queue-scorer\n");
    plugins.iter().for_each(|plugin| text.push_str(&format!("- {plugin}\n")));
    text.push_str("schedulingProfiles:\n");
    for profile in profiles {
        text.push_str(&format!("- {{name: {profile}, plugins: [pluginRef: queue-scorer]}}\n"));
    }
    text
}

fn over(text: &str, ids: &PoolIds, before: Option<&Pipeline>) -> Option<(Pipeline, Changes)> {
    let in_force = before.map(|b| InForce { residents: &b.residents, effective: &b.effective });
    let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
    load_over("f", Some(text), &options, ids, in_force).0
}

fn loaded(text: &str, ids: &PoolIds, before: Option<&Pipeline>) -> (Pipeline, Changes) {
    over(text, ids, before).unwrap_or_else(|| panic!("{text}"))
}

/// By name, whether a plugin goes on.
fn fates(residents: &Residents) -> BTreeMap<&str, bool> {
    residents.plugins.iter().map(|r| (r.name.as_str(), r.goes_on)).collect()
}

const PREFIX: &str =
    "{type: approx-prefix-cache-producer, parameters: {autoTune: false, blockSizeTokens: 64}}";
const LATENCY: &str = "{type: predicted-latency-producer}";

#[test]
fn a_plugin_goes_on_where_it_and_those_it_works_with_are_made_alike() {
    // What there was, what there is, and of which plugins is said that they go on.
    let decider = |tokens: u32| {
        format!(
            "{{type: prefix-based-pd-decider, name: d, parameters: {{nonCachedTokens: {tokens}}}}}"
        )
    };
    let handler =
        || "{type: disagg-profile-handler, parameters: {deciders: {prefill: d}}}".to_owned();
    let other_block = PREFIX.replace("64", "128");
    let reordered =
        "{type: approx-prefix-cache-producer, parameters: {blockSizeTokens: 64, autoTune: false}}";
    type Case<'a> = (Vec<String>, &'a [&'a str], Vec<String>, &'a [&'a str], &'a [(&'a str, bool)]);
    let (one, two) = (&["default"][..], &["prefill", "decode"][..]);
    let cases: Vec<Case<'_>> = vec![
        (
            vec![PREFIX.into()],
            one,
            vec![reordered.into()],
            one,
            &[("approx-prefix-cache-producer", true), ("queue-scorer", true)],
        ),
        (
            vec![PREFIX.into()],
            one,
            vec![other_block.clone()],
            one,
            &[("approx-prefix-cache-producer", false), ("queue-scorer", true)],
        ),
        // It reads what the producer gives: where that is, has not changed.
        (
            vec![PREFIX.into(), LATENCY.into()],
            one,
            vec![other_block, LATENCY.into()],
            one,
            &[("predicted-latency-producer", true)],
        ),
        (
            vec![decider(16), handler()],
            two,
            vec![decider(16), handler()],
            two,
            &[("d", true), ("disagg-profile-handler", true)],
        ),
        // It would ask the decider that is gone.
        (
            vec![decider(16), handler()],
            two,
            vec![decider(17), handler()],
            two,
            &[("d", false), ("disagg-profile-handler", false)],
        ),
        (
            vec![decider(16), handler()],
            two,
            vec![decider(16), handler()],
            &["decode", "prefill"],
            &[("d", true), ("disagg-profile-handler", false)],
        ),
        // Two of a kind: the first one's result is the one that counts.
        (
            vec![PREFIX.into(), PREFIX.replace("type", "name: b, type")],
            one,
            vec![PREFIX.replace("type", "name: b, type"), PREFIX.into()],
            one,
            &[("approx-prefix-cache-producer", false), ("b", false), ("queue-scorer", true)],
        ),
        (
            vec![PREFIX.into()],
            one,
            vec![PREFIX.into(), PREFIX.replace("type", "name: b, type")],
            one,
            &[("approx-prefix-cache-producer", true), ("b", false)],
        ),
    ];
    for (old, old_profiles, new, new_profiles, expected) in cases {
        let ids = PoolIds::default();
        let (before, _) = loaded(&document(&old, old_profiles), &ids, None);
        let (after, _) = loaded(&document(&new, new_profiles), &ids, Some(&before));
        let fates = fates(&after.residents);
        for (name, goes_on) in expected {
            assert_eq!(fates.get(name), Some(goes_on), "{old:?} {new:?}: {name}");
        }
    }
}

#[test]
fn what_goes_on_is_the_very_same_plugin_and_what_changed_is_told() {
    let ids = PoolIds::default();
    let quota = "{type: token-quota, parameters: {dryRun: DRY, rules: [{name: r, limits: [{tokens: 9, unit: Day}]}]}}";
    let old = document(&[PREFIX.into(), quota.replace("DRY", "true")], &["a"]);
    let (before, nothing) = loaded(&old, &ids, None);
    assert!(nothing.is_empty());
    let (after, nothing) = loaded(&old, &ids, Some(&before));
    let producer = |p: &Pipeline| p.scheduler.producers[0].clone();
    assert!(nothing.is_empty() && Arc::ptr_eq(&producer(&before), &producer(&after)));

    let new = [PREFIX.replace("64", "128"), quota.replace("DRY", "false"), LATENCY.into()];
    let (after, changes) = loaded(&document(&new, &["b"]), &ids, Some(&before));
    assert!(!Arc::ptr_eq(&producer(&before), &producer(&after)));
    assert_eq!(
        changes.to_string(),
        "plugins added: predicted-latency-producer, inflight-load-producer; \
         parameters changed: approx-prefix-cache-producer (blockSizeTokens 64 to 128), \
         token-quota (dryRun true to false); profiles changed: a, b; \
         prefix index of approx-prefix-cache-producer starts empty because of \
         blockSizeTokens 64 to 128"
    );
    let quota = after.residents.plugins.iter().find(|r| r.name == "token-quota").unwrap();
    assert!(!quota.goes_on && quota.capabilities.has::<TookOver>());
}

#[test]
fn no_value_of_a_text_is_told() {
    let plugin =
        |path: &str| vec![format!("{{type: metrics-data-source, parameters: {{path: {path}}}}}")];
    let ids = PoolIds::default();
    let (before, _) = loaded(&document(&plugin("/a"), &["p"]), &ids, None);
    let (_, changes) = loaded(&document(&plugin("/secret"), &["p"]), &ids, Some(&before));
    assert_eq!(changes.to_string(), "parameters changed: metrics-data-source (path)");
}

#[test]
fn loading_again_and_again_uses_no_more_of_endpoints() {
    #[derive(Debug)]
    struct Mine;
    impl EndpointMemory for Mine {}
    let ids = PoolIds::default();
    let text =
        |block: u32| document(&[PREFIX.replace("64", &block.to_string()), LATENCY.into()], &["p"]);
    let mut now = loaded(&text(64), &ids, None).0;
    let broken = text(64).replace("queue-scorer", "no-such-scorer");
    let mut claimed = Vec::new();
    for n in 0..50 {
        assert!(over(&broken, &ids, Some(&now)).is_none());
        let next = loaded(&text(64 + n % 3), &ids, Some(&now)).0;
        for resident in now.residents.plugins.iter() {
            let is_left = next.residents.plugins.iter().any(|r| {
                r.claims.iter().any(|c| resident.claims.iter().any(|ours| ours.is_same(c)))
            });
            // What a pool does when nothing is left of a plugin.
            if !is_left {
                resident.claims.iter().for_each(|claims| ids.give_back(claims));
            }
        }
        now = next;
        if n % 10 == 9 {
            claimed.push(format!("{:?}", ids.claim_slot::<Mine>()));
        }
    }
    // Each of ours is the next number.
    let number = |text: &String| -> usize {
        text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let numbers: Vec<usize> = claimed.iter().map(number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

/// Plugins by name, each in some of its forms.
fn plugins() -> impl Strategy<Value = Vec<String>> {
    let forms: Vec<Vec<&'static str>> = vec![
        vec![PREFIX, "{type: approx-prefix-cache-producer, parameters: {blockSizeTokens: 128}}"],
        vec![
            "{type: approx-prefix-cache-producer, name: b}",
            "{type: approx-prefix-cache-producer, name: b, parameters: {lruCapacityPerServer: 9}}",
        ],
        vec![LATENCY, "{type: predicted-latency-producer, parameters: {streamingMode: true}}"],
        vec!["{type: no-hit-lru-scorer}", "{type: no-hit-lru-scorer, parameters: {lruSize: 9}}"],
        vec!["{type: inflight-load-producer}"],
        vec!["{type: session-affinity-scorer}"],
    ];
    let one = |forms: Vec<&'static str>| prop::option::of(prop::sample::select(forms));
    let all: Vec<_> = forms.into_iter().map(one).collect();
    all.prop_flat_map(|chosen| {
        let chosen: Vec<String> = chosen.into_iter().flatten().map(str::to_owned).collect();
        Just(chosen).prop_shuffle()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever there was before, a configuration decides as if there had been nothing; and only
    /// what is made alike goes on.
    #[test]
    fn what_there_was_changes_nothing_but_what_is_known(
        lists in prop::collection::vec(plugins(), 2..5),
        twice in any::<bool>(),
    ) {
        let lists = lists.into_iter().flat_map(|list| vec![list; 1 + usize::from(twice)]);
        let ids = PoolIds::default();
        let mut now: Option<(Vec<String>, Pipeline)> = None;
        for list in lists {
            let text = document(&list, &["p"]);
            let fresh = loaded(&text, &PoolIds::default(), None).0;
            let (next, changes) = loaded(&text, &ids, now.as_ref().map(|(_, pipeline)| pipeline));
            prop_assert_eq!(&next.effective, &fresh.effective);
            prop_assert_eq!(&next.summary, &fresh.summary);
            let order = |p: &Pipeline| {
                let mut by_kind = BTreeMap::<_, Vec<String>>::new();
                for (kind, producer) in p.residents.places.given() {
                    by_kind.entry(format!("{kind:?}")).or_default().push(producer);
                }
                by_kind
            };
            prop_assert_eq!(order(&next), order(&fresh), "the first result is another one");
            if let Some((old, before)) = &now {
                if *old == list {
                    prop_assert!(changes.is_empty(), "{}", changes);
                    prop_assert!(fates(&next.residents).values().all(|goes_on| *goes_on));
                }
                for resident in next.residents.plugins.iter().filter(|r| r.goes_on) {
                    let known = before.residents.find(&resident.name, resident.plugin_type).unwrap();
                    prop_assert!(known.has_parameters(resident.parameters.as_ref()));
                    let part = |r: &super::Resident| r.capabilities.get::<dyn Producer>().cloned();
                    if let (Some(old), Some(new)) = (part(known), part(resident)) {
                        prop_assert!(Arc::ptr_eq(&old, &new));
                    }
                }
            }
            now = Some((list, next));
        }
    }
}
