//! `token-quota` and `token-metering` as they are configured, and which requests a rule is for.

use std::sync::Arc;

use bytes::Bytes;
use epp::scheduling::{DecisionOptions, InferenceRequest};

use crate::rig::*;

#[test]
fn mistakes_are_found_with_their_place() {
    let exact = "rules: [{limits: [{tokens: 1, unit: Hour}]";
    for (kind, parameters, expected) in [
        ("token-quota", "", "rules: must have at least one rule"),
        ("token-quota", "rules: []", "rules: must have at least one rule"),
        ("token-quota", "rules: [{}]", "rules[0].limits: must have at least one limit"),
        (
            "token-quota",
            "rules: [{limits: [{tokens: 0, unit: Hour}]}]",
            "rules[0].limits[0].tokens: must be from 1 to 1000000000000000, found 0",
        ),
        (
            "token-quota",
            "rules: [{limits: [{tokens: 1, requests: 1, unit: Hour}]}]",
            "rules[0].limits[0]: must have either tokens or requests",
        ),
        (
            "token-quota",
            "rules: [{limits: [{requests: 1, unit: Year}]}]",
            "rules[0].limits[0].unit: must be Second, Minute, Hour, Day or Month",
        ),
        (
            "token-quota",
            "rules: [{limits: [{requests: 1, unit: Day}, {requests: 2, unit: day}]}]",
            "rules[0].limits[1].requests: clashes with another limit of this rule: 1 requests per day",
        ),
        (
            "token-quota",
            &format!("{exact}}}, {{limits: [{{tokens: 2, unit: Hour}}]}}]"),
            "rules[1]: is for the same requests as rule 'rules[0]': write the limits of both into one",
        ),
        (
            "token-quota",
            &format!("{exact}, headers: [{{name: x-user-id, type: Exact}}]}}]"),
            "rules[0].headers[0].value: must be a text of 1 to 256 bytes",
        ),
        (
            "token-quota",
            &format!("{exact}, headers: [{{name: x, value: {}}}]}}]", "v".repeat(10_000)),
            "rules[0].headers[0].value: must be a text of 1 to 256 bytes",
        ),
        (
            "token-quota",
            &format!("{exact}, headers: [{{name: x, type: Distinct, value: v}}]}}]"),
            "rules[0].headers[0].value: has no meaning: every value has limits of its own",
        ),
        (
            "token-quota",
            &format!("{exact}, headers: [{{name: x, value: v}}, {{name: X, type: Distinct}}]}}]"),
            "rules[0].headers[1].name: stands in this rule twice",
        ),
        (
            "token-quota",
            &format!("{exact}, headers: [{{name: 'a b', type: Distinct}}]}}]"),
            "rules[0].headers[0].name: must name a header, of at most 256 characters",
        ),
        (
            "token-quota",
            &format!("{exact}, priority: {{min: 2, max: 1}}}}]"),
            "rules[0].priority.max: must be at least min, which is 2",
        ),
        (
            "token-quota",
            &format!("{exact}}}]\nmaxTenants: 0"),
            "maxTenants: must be from 1 to 10000000, found 0",
        ),
        (
            "token-quota",
            &format!("{exact}}}]\nredis: {{}}"),
            "redis.url: must be redis://[user:password@]host[:port][/database]",
        ),
        (
            "token-quota",
            &format!("{exact}}}]\nredis: {{url: 'redis://r', timeout: 0ms}}"),
            "redis.timeout: must be from 1ms to 5s",
        ),
        (
            "token-quota",
            &format!("{exact}}}]\nredis: {{url: 'redis://r', whenUnavailable: maybe}}"),
            "redis.whenUnavailable: must be Open or Closed",
        ),
        (
            "token-quota",
            &format!("{exact}}}]\nredis: {{url: 'redis://r', prefix: 'a{{b'}}"),
            "redis.prefix: must be 1 to 64 characters, none of them a brace",
        ),
        (
            "token-metering",
            "llmRequestCosts: [{metadataKey: a, type: Total}]",
            "llmRequestCosts[0].type: must be one of InputToken, CachedInputToken, OutputToken, \
             TotalToken",
        ),
        (
            "token-metering",
            "llmRequestCosts: [{metadataKey: a, type: InputToken}, {metadataKey: a, type: TotalToken}]",
            "llmRequestCosts[1].metadataKey: stands in the list twice",
        ),
        (
            "token-metering",
            "llmRequestCosts: [{type: InputToken}]",
            "llmRequestCosts[0].metadataKey: must name the key of the number",
        ),
        (
            "token-metering",
            "tenantHeader: ''",
            "tenantHeader: must name a header, of at most 256 characters",
        ),
        ("token-metering", "namespace: ''", "namespace: must not be empty"),
    ] {
        let findings = build(kind, parameters).findings;
        assert_eq!(findings, [format!("Error {expected}")], "{kind} {parameters}");
    }
    for (kind, parameters) in [
        ("token-metering", ""),
        ("token-metering", "whileStreaming: false\nincludeUsage: true\ncountedKey: guessed"),
        ("token-quota", "rules: [{limits: [{tokens: 1, unit: hour}, {requests: 1, unit: Hour}]}]"),
    ] {
        assert_eq!(build(kind, parameters).findings, [""; 0], "{kind} {parameters}");
    }
}

/// A request with these headers, as processors leave it.
fn request(rig: &Rig, headers: &[(&str, &str)], model: &str, priority: i32) -> InferenceRequest {
    let mut request = request_for(model, "four");
    request.priority = priority;
    request.max_output_tokens = Some(1);
    for (name, value) in headers {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        request.headers.set(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }
    rig.hooks.processors.iter().for_each(|plugin| plugin.process(&mut request));
    request
}

#[test]
fn a_rule_is_for_the_requests_that_match_all_of_it() {
    let workers = workers(1);
    let rule =
        |selector: &str| format!("rules:\n- {{{selector}limits: [{{requests: 1, unit: Month}}]}}");
    let a: &[(&str, &str)] = &[("x-user", "a")];
    let b: &[(&str, &str)] = &[("x-user", "b")];
    // Of two requests, the second is refused where both are one tenant's.
    for (selector, first, second, refused) in [
        ("", (a, "m", 0), (b, "n", 9), true),
        ("headers: [{name: X-User, type: Distinct}], ", (a, "m", 0), (a, "n", 0), true),
        ("headers: [{name: X-User, type: Distinct}], ", (a, "m", 0), (b, "m", 0), false),
        ("headers: [{name: X-User, type: Distinct}], ", (&[], "m", 0), (&[], "m", 0), false),
        ("headers: [{name: x-user, value: a}], ", (a, "m", 0), (a, "m", 0), true),
        ("headers: [{name: x-user, value: a}], ", (b, "m", 0), (b, "m", 0), false),
        ("model: {type: Distinct}, ", (a, "m", 0), (b, "m", 0), true),
        ("model: {type: Distinct}, ", (a, "m", 0), (a, "n", 0), false),
        ("model: {value: m}, ", (a, "m", 0), (b, "m", 0), true),
        ("model: {value: m}, ", (a, "n", 0), (a, "n", 0), false),
        ("priority: {max: -1}, ", (a, "m", -1), (a, "m", -5), true),
        ("priority: {max: -1}, ", (a, "m", 0), (a, "m", 0), false),
        ("priority: {min: 1, max: 2}, ", (a, "m", 3), (a, "m", 3), false),
    ] {
        let rig = Rig::new(&[("token-quota", &rule(selector), 1.0)]);
        let ask = |(headers, model, priority): (&[(&str, &str)], &str, i32)| {
            let request = request(&rig, headers, model, priority);
            rig.schedule(&request, &candidates(&workers), DecisionOptions::default()).is_err()
        };
        assert!(!ask(first), "{selector}");
        assert_eq!(ask(second), refused, "{selector} {first:?} {second:?}");
    }
}

#[test]
fn values_that_run_together_are_different_tenants() {
    let workers = workers(1);
    let rule = "rules:
- headers: [{name: a, type: Distinct}, {name: b, type: Distinct}]
  limits: [{requests: 1, unit: Month}]";
    let rig = Rig::new(&[("token-quota", rule, 1.0)]);
    for headers in
        [[("a", "12"), ("b", "3")], [("a", "1"), ("b", "23")], [("a", "1:2"), ("b", "3")]]
    {
        let request = request(&rig, &headers, "m", 0);
        let decided = rig.schedule(&request, &candidates(&workers), DecisionOptions::default());
        assert!(decided.is_ok(), "{headers:?}");
    }
}

#[test]
fn a_second_attempt_at_one_request_is_not_charged_twice() {
    let workers = workers(1);
    let rule = "rules: [{limits: [{requests: 1, unit: Month}]}]";
    let rig = Rig::new(&[("token-quota", rule, 1.0)]);
    let request = request(&rig, &[], "m", 0);
    for _ in 0..2 {
        let decided = rig.schedule(&request, &candidates(&workers), DecisionOptions::default());
        assert!(decided.is_ok());
    }
}

#[test]
fn of_several_rules_a_refused_request_takes_from_none() {
    let workers: Vec<Arc<_>> = workers(1);
    let rules = "rules:
- {name: all, limits: [{requests: 2, unit: Month}]}
- {name: a, headers: [{name: x, value: a}], limits: [{requests: 1, unit: Month}]}";
    let rig = Rig::new(&[("token-quota", rules, 1.0)]);
    for (user, refused_by) in
        [("a", None), ("a", Some("'a'")), ("a", Some("'a'")), ("b", None), ("b", Some("'all'"))]
    {
        let request = request(&rig, &[("x", user)], "m", 0);
        let decided = rig.schedule(&request, &candidates(&workers), DecisionOptions::default());
        let refusal = decided.err().map(|refusal| refusal.error.message);
        match (&refusal, refused_by) {
            (None, None) => {}
            (Some(message), Some(rule)) => assert!(message.contains(rule), "{message}"),
            _ => panic!("{user}: {refusal:?}, expected {refused_by:?}"),
        }
    }
}
