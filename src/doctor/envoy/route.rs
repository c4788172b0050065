//! The routes behind a picker: where they go, how long they let an answer take, what they repeat.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::cluster;
use super::document::{Connection, Document};
use super::path::{duration, get, list, number, text};
use super::{Finding, Needs, SUBJECT};

/// Envoy's default of a route's timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers of a thousand tokens and more take this long.
const LONG_ANSWER: Duration = Duration::from_secs(60);
/// Conditions of retries that are statuses of a worker.
const STATUSES: [&str; 4] = ["5xx", "gateway-error", "retriable-4xx", "retriable-status-codes"];
/// Conditions of retries that save a request whose connection was just being closed.
const CONNECTIONS: [&str; 4] = ["5xx", "reset", "reset-before-request", "gateway-error"];

pub(super) fn check(
    connection: &Connection<'_>,
    document: &Document<'_>,
    needs: &Needs,
) -> Vec<Finding> {
    let about = format!("listener {}", connection.listener);
    let Some(config) = document.routes(connection) else {
        return vec![
            Finding::note(SUBJECT, "routes", "has its routes elsewhere (RDS)")
                .about(about)
                .why("timeouts and clusters behind the picker are not looked at")
                .change("--envoy-admin, whose dump has them"),
        ];
    };
    let mut found = Vec::new();
    let mut clusters = BTreeSet::new();
    for host in list(config, &["virtual_hosts"]) {
        for route in list(host, &["routes"]) {
            let Some(action) = get(route, &["route"]) else { continue };
            if is_without_picker([route, host, config], connection) {
                continue;
            }
            let policy = get(action, &["retry_policy"]).or_else(|| get(host, &["retry_policy"]));
            let name = format!("{about}, route {}", name(route));
            let findings = timeouts(action, needs).into_iter().chain(retries(policy));
            found.extend(findings.map(|finding| finding.about(name.as_str())));
            let retries_reset = policy.is_some_and(|policy| retries_on(policy, &CONNECTIONS));
            clusters.extend(targets(action).into_iter().map(|name| (name, retries_reset)));
        }
    }
    if clusters.is_empty() {
        found.push(
            Finding::note(SUBJECT, "routes", "no route behind the picker names a cluster")
                .about(about.as_str()),
        );
    }
    // A cluster that one route goes to without a retry is judged by that one.
    let unsaved: BTreeSet<&str> =
        clusters.iter().filter(|(_, saved)| !saved).map(|(name, _)| *name).collect();
    for name in clusters.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>() {
        let is_saved = !unsaved.contains(name);
        found.extend(cluster::of_workers(name, document.cluster(name), connection, is_saved));
    }
    found
}

/// A route for which the picker is switched off, or was never on.
fn is_without_picker(levels: [&Value; 3], connection: &Connection<'_>) -> bool {
    connection.pickers.iter().all(|picker| {
        let own = |level: &&Value| {
            get(level, &["typed_per_filter_config"])?.get(picker.filter_name()).cloned()
        };
        // The route's own counts before its virtual host's.
        match &levels.iter().find_map(own) {
            Some(own) => super::path::truth(own, &["disabled"]),
            None => picker.is_off(),
        }
    })
}

fn name(route: &Value) -> String {
    let matched = get(route, &["match"]);
    let path = ["prefix", "path", "path_separated_prefix"];
    let path = matched.and_then(|m| path.iter().find_map(|kind| text(m, &[*kind])));
    text(route, &["name"]).or(path).unwrap_or("without a name").to_owned()
}

fn targets(action: &Value) -> Vec<&str> {
    let one = text(action, &["cluster"]);
    let weighted = list(action, &["weighted_clusters", "clusters"]).iter();
    one.into_iter().chain(weighted.filter_map(|cluster| text(cluster, &["name"]))).collect()
}

fn timeouts(action: &Value, needs: &Needs) -> Vec<Finding> {
    let mut found = Vec::new();
    let given = duration(action, &["timeout"]);
    let timeout = given.unwrap_or(DEFAULT_TIMEOUT);
    if !timeout.is_zero() && timeout < LONG_ANSWER {
        let what = match given {
            Some(timeout) => format!("timeout: {timeout:?}"),
            None => format!("no timeout, which is {timeout:?}"),
        };
        found.push(
            Finding::problem(SUBJECT, "route-timeout", what)
                .why("answers that take longer are cut off with 504, however they stream")
                .change("route: {timeout: 0s}"),
        );
    }
    let idle = duration(action, &["idle_timeout"]).filter(|idle| !idle.is_zero());
    if let (Some(idle), Some(ttl)) = (idle, needs.waits)
        && ttl >= idle
    {
        found.push(
            Finding::problem(
                SUBJECT,
                "route-idle-timeout",
                format!("idle_timeout: {idle:?}, and requests may wait {ttl:?}"),
            )
            .why("Envoy gives up requests that still wait in the queue")
            .change("route: {idle_timeout} above defaultRequestTTL"),
        );
    }
    found
}

fn retries_on(policy: &Value, conditions: &[&str]) -> bool {
    let on = text(policy, &["retry_on"]).unwrap_or_default();
    let times = number(policy, &["num_retries"]).unwrap_or(1);
    times > 0 && on.split(',').any(|one| conditions.contains(&one.trim()))
}

fn retries(policy: Option<&Value>) -> Option<Finding> {
    let policy = policy.filter(|policy| retries_on(policy, &STATUSES))?;
    let on = text(policy, &["retry_on"]).unwrap_or_default();
    Some(
        Finding::note(SUBJECT, "retry-on-status", format!("retry_on: {on}"))
            .why(
                "the same worker is asked again, since the picker is not: one that has just said \
                 that it can take no more gets more",
            )
            .change("retry_on: connect-failure,refused-stream,reset"),
    )
}
