//! What another configuration takes over from the one before, and what it does not.

use crate::harness::{CHAT, Rig, answer, body, by_prefix, finish};
use crate::support::client::Gateway;
use crate::support::eventually;

const QUOTA: &str = "- type: token-quota
  parameters:
    dryRun: DRY
    rules:
    - {name: all, headers: [{name: x-user-id, type: Distinct}], limits: [{tokens: 1000, unit: Month}]}";

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_end_under_the_configuration_that_they_began_under() {
    let rig = Rig::start(&by_prefix(2, ""), &[]).await;
    let prompt = body("once upon a time");
    let mut streaming = rig.begin("old-1", &prompt).await;
    let (first, _) = (streaming.destination(), answer(&mut streaming).await);
    let mut asked = rig.begin("old-2", &prompt).await;
    assert_eq!((asked.destination(), rig.in_flight().await), (first.clone(), 2));

    let changes = rig.reload(&by_prefix(7, &QUOTA.replace("DRY", "false"))).await;
    assert_eq!(changes, "plugins added: token-quota; profiles changed: default");
    assert_eq!(rig.in_flight().await, 2, "in flight is what was in flight");
    assert_eq!(rig.metric("llm_d_epp_configs_at_work").await, Some(2.0));

    let user = ("x-user-id", "u");
    let mut new = rig.gateway.post(CHAT, &[("x-request-id", "new"), user], &prompt).await;
    assert_eq!(new.destination(), first, "the index knows where the prompt went");
    assert!(rig.cached("new").await > 0);
    let weights = (rig.weight("old-1").await, rig.weight("old-2").await, rig.weight("new").await);
    assert_eq!(weights, (2.0, 2.0, 7.0));
    // Only those that a quota saw begin hear of it.
    let is_limit = |headers: Vec<(String, String)>| {
        headers.iter().any(|(name, _)| name == "x-ratelimit-limit")
    };
    assert!(!is_limit(answer(&mut asked).await) && is_limit(answer(&mut new).await));

    for replies in [&mut streaming, &mut asked, &mut new] {
        finish(replies).await;
    }
    eventually("nothing in flight", || async { (rig.in_flight().await == 0).then_some(()) }).await;
    eventually("one configuration", || async {
        (rig.metric("llm_d_epp_configs_at_work").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(rig.decision("old-1").await["ended"]["ending"], "complete");
    let charged = rig.metric("llm_d_epp_quota_tokens_total{plugin=\"token-quota\",rule=\"all\"}");
    assert_eq!(charged.await, Some(403.0), "the one request that the quota is for");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_stays_where_what_it_depends_on_does() {
    let producer = |parameters: &str| {
        format!(
            "- {{type: approx-prefix-cache-producer, parameters: {{autoTune: false, {parameters}}}}}\n{}",
            QUOTA.replace("DRY", "false")
        )
    };
    let rig = Rig::start(&by_prefix(2, &producer("blockSizeTokens: 64")), &[]).await;
    let prompt = body("the same every time");
    let blocks = rig.begin("seed", &prompt).await;
    drop(blocks);

    // How much of a prompt is looked at is nothing that the index depends on.
    let text = by_prefix(2, &producer("blockSizeTokens: 64, maxPrefixTokensToMatch: 128"));
    let changes = rig.reload(&text).await;
    let expected = "parameters changed: approx-prefix-cache-producer \
                    (maxPrefixTokensToMatch its default to 128)";
    assert_eq!(changes, expected);
    drop(rig.begin("limited", &prompt).await);
    assert_eq!(rig.cached("limited").await, 2, "two blocks of 64 are looked at, and known");

    let changes = rig.reload(&by_prefix(2, &producer("blockSizeTokens: 128"))).await;
    let lost = "prefix index of approx-prefix-cache-producer starts empty because of \
                blockSizeTokens 64 to 128, maxPrefixTokensToMatch 128 to its default";
    assert!(changes.ends_with(lost), "{changes}");
    drop(rig.begin("afresh", &prompt).await);
    assert_eq!(rig.cached("afresh").await, 0);

    // The former plugin is gone, and its index with it.
    rig.reload(&by_prefix(2, &producer("blockSizeTokens: 64"))).await;
    drop(rig.begin("back", &prompt).await);
    assert_eq!(rig.cached("back").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tenants_have_used_counts_on() {
    let rig = Rig::start(&by_prefix(2, &QUOTA.replace("DRY", "false")), &[]).await;
    let prompt = body("paid by the token");
    let user = [("x-user-id", "u")];
    let mut open = rig.gateway.post(CHAT, &user, &prompt).await;
    answer(&mut open).await;
    let changes = rig.reload(&by_prefix(2, &QUOTA.replace("DRY", "true"))).await;
    assert_eq!(changes, "parameters changed: token-quota (dryRun false to true)");
    // Charged by the plugin that let it in.
    finish(&mut open).await;
    for _ in 0..2 {
        let mut more = rig.gateway.post(CHAT, &user, &prompt).await;
        answer(&mut more).await;
        finish(&mut more).await;
    }
    rig.reload(&by_prefix(2, &QUOTA.replace("DRY", "false"))).await;
    let (status, error, _) = rig.gateway.post(CHAT, &user, &prompt).await.json_error();
    assert_eq!(status, 429, "{error}");
    let tokens = "llm_d_epp_quota_tokens_total{plugin=\"token-quota\",rule=\"all\"}";
    assert_eq!(rig.metric(tokens).await, Some(3.0 * 403.0));
}

const QUEUE: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- type: running-requests-size-scorer
- {type: concurrency-detector, parameters: {maxConcurrency: LIMIT}}
- type: ORDER
schedulingProfiles:
- name: default
  plugins: [pluginRef: running-requests-size-scorer]
flowControl:
  saturationDetector: {pluginRef: concurrency-detector}
  defaultPriorityBand: {maxRequests: ROOM, orderingPolicyRef: ORDER}
";

fn queue(limit: u32, room: u32, order: &str) -> String {
    let text = QUEUE.replace("LIMIT", &limit.to_string()).replace("ROOM", &room.to_string());
    text.replace("ORDER", order)
}

/// Three endpoints that take one request each.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_stays_and_new_limits_count_at_once() {
    let rig = Rig::start(&queue(1, 1, "fcfs-ordering-policy"), &[]).await;
    let prompt = body("in a queue");
    let mut running = Vec::new();
    for n in 0..3 {
        running.push(rig.begin(&format!("running-{n}"), &prompt).await);
    }
    let waiting = |n: u64| {
        let rig = &rig;
        async move {
            eventually(&format!("{n} in the queue"), || async {
                let queue = rig.json("/debug/flow-control").await;
                (queue["requests"] == n).then_some(())
            })
            .await;
        }
    };
    let ask = |id: &'static str| {
        let (gateway, prompt): (Gateway, _) = (rig.gateway.clone(), prompt.clone());
        tokio::spawn(async move { gateway.post(CHAT, &[("x-request-id", id)], &prompt).await })
    };
    let first = ask("first");
    waiting(1).await;
    let (status, _, _) = ask("too-many").await.unwrap().json_error();
    assert_eq!(status, 429, "one may wait");

    // Another order: what waits is put in other hands.
    let changes = rig.reload(&queue(1, 2, "edf-ordering-policy")).await;
    assert!(changes.contains("also changed: flowControl"), "{changes}");
    waiting(1).await;
    let second = ask("second");
    waiting(2).await;
    let bands = rig.json("/debug/flow-control").await;
    assert_eq!(bands["bands"][0]["maxRequests"], 2, "{bands}");

    rig.reload(&queue(2, 2, "edf-ordering-policy")).await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(!first.destination().is_empty() && !second.destination().is_empty());
    waiting(0).await;
    drop((first, second, running));
    eventually("nothing in flight", || async { (rig.in_flight().await == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_restart_is_named_and_the_rest_is_in_force() {
    let rig = Rig::start(&queue(1, 1, "fcfs-ordering-policy"), &[]).await;
    let off = queue(1, 1, "fcfs-ordering-policy").replace("[flowControl]", "[]");
    let off = off.replace(
        "pluginRef: running-requests-size-scorer]",
        "{pluginRef: running-requests-size-scorer, weight: 4}]",
    );
    rig.edit(&off);
    let line = rig.log("Configuration reloaded, but for", 1).await;
    assert_eq!(line["needs_restart"], "featureGates (flowControl)");
    assert!(line["changes"].as_str().unwrap().contains("profiles changed: default"), "{line}");
    assert_eq!(rig.metric("llm_d_epp_config_needs_restart").await, Some(1.0));
    assert_eq!(rig.json("/debug/flow-control").await["on"], true, "it goes on");
    let finding = eventually("a finding", || async { rig.findings().await.pop() }).await;
    assert!(finding.contains("at the start alone: featureGates (flowControl)"), "{finding}");
    rig.reload(&queue(1, 1, "fcfs-ordering-policy")).await;
    assert_eq!(rig.metric("llm_d_epp_config_needs_restart").await, Some(0.0));
}
