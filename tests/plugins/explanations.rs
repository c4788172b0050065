//! What an explanation says of the steps of a decision.

use epp::scheduling::DecisionOptions;

use crate::rig::{Rig, candidates, explanation, loaded, prompt, tokens, worker};

#[test]
fn a_filter_says_whom_it_dropped_and_what_it_wanted() {
    let rig = Rig::new(&[
        ("decode-filter", "", 1.0),
        ("low-queue-filter", "threshold: 2", 1.0),
        ("queue-scorer", "", 3.0),
        ("max-score-picker", "", 1.0),
    ]);
    let mut workers = loaded(&[(0, 1, 0.0), (0, 9, 0.5), (0, 0, 0.25)]);
    workers.push(worker(3, &[("llm-d.ai/role", "prefill")], Default::default()));
    let decision = rig.send(&prompt("hello"), &workers);
    let e = explanation(&decision);
    assert_eq!(e.candidates.len(), 4);
    assert_eq!(e.seen.waiting, [1, 9, 0, 0]);
    assert_eq!(e.seen.kv_cache_usage, [0.0, 0.5, 0.25, 0.0]);
    let profile = &e.profiles[0];
    let steps: Vec<_> = profile.filters.iter().map(|f| (&*f.plugin, &*f.dropped)).collect();
    assert_eq!(steps, [("decode-filter", &[3][..]), ("low-queue-filter", &[1][..])]);
    assert_eq!(profile.filters[0].kept, [0, 1, 2]);
    assert_eq!(profile.filters[1].kept, [0, 2]);
    assert_eq!(profile.filters[1].wants, "at most 2 requests waiting");
    assert!(profile.filters[0].wants.contains("llm-d.ai/role"), "{}", profile.filters[0].wants);
    let scorer = &profile.scorers[0];
    assert_eq!((&*scorer.plugin, scorer.weight), ("queue-scorer", 3.0));
    assert_eq!(scorer.scores, [Some(0.0), None, Some(1.0), None]);
    assert_eq!(profile.totals, [Some(0.0), None, Some(3.0), None]);
    assert_eq!(profile.picks, [2]);
    assert_eq!(profile.picker.plugin, "max-score-picker");
    assert!(profile.picker.tied.is_empty());
}

#[test]
fn a_tie_says_who_was_equal_and_what_decided() {
    let rig = Rig::new(&[("queue-scorer", "", 1.0), ("max-score-picker", "", 1.0)]);
    let workers = loaded(&[(0, 0, 0.0), (0, 5, 0.0), (0, 0, 0.0)]);
    let first = rig.send(&prompt("hello"), &workers);
    let target = explanation(&first).profiles[0].picks[0];
    let e = explanation(&rig.send(&prompt("hello"), &workers));
    assert_eq!(e.profiles[0].picker.tied, [0, 2]);
    assert!(e.profiles[0].picker.tie_rule.contains("fewest requests in flight"));
    assert_eq!(e.profiles[0].picks, [2 - target], "the one that has nothing in flight");
    assert_eq!(e.in_flight[target as usize], 1);
}

#[test]
fn what_was_believed_of_the_prompt_is_said_for_every_candidate() {
    let rig = Rig::new(&[("prefix-cache-scorer", "", 1.0), ("max-score-picker", "", 1.0)]);
    let workers = loaded(&[(0, 0, 0.0), (0, 0, 0.0)]);
    let request = prompt(&tokens(1, 640));
    rig.send_to(&request, &workers[1]);
    let decision = rig.send(&request, &workers);
    let prefix = &explanation(&decision).prefixes[0];
    assert_eq!(prefix.source, "predicted");
    assert_eq!(prefix.blocks, [0, prefix.prompt_blocks]);
    let belief = decision.beliefs[0];
    assert_eq!((belief.cached, belief.share()), (prefix.prompt_blocks, 1.0));
    assert_eq!(belief.tokens(), 640);
}

#[test]
fn filters_that_leave_nobody_are_explained_too() {
    let rig = Rig::new(&[
        ("low-queue-filter", "threshold: 2", 1.0),
        ("decode-filter", "", 1.0),
        ("queue-scorer", "", 1.0),
    ]);
    let workers = loaded(&[(0, 5, 0.0), (0, 9, 0.0)]);
    let options = DecisionOptions { explanation: true, ..DecisionOptions::default() };
    let refusal = rig.schedule(&prompt("hello"), &candidates(&workers), options).unwrap_err();
    let e = refusal.trace.unwrap().explanation();
    let profile = &e.profiles[0];
    assert_eq!(profile.filters.len(), 1, "the others were not asked");
    assert_eq!(profile.filters[0].dropped, [0, 1]);
    assert!(profile.scorers.is_empty() && profile.totals.is_empty() && profile.picks.is_empty());
}
