use std::time::Duration;

use serde::Serialize;

use super::drift::Drift;
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, SignalValues};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Requests go wrong, or go where they should not.
    Broken,
    /// Something that decisions rest on is missing or wrong.
    Warning,
}

/// Something that is stale or broken: what, why it matters, and the line to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// `namespace/name` of the endpoint; `None`: the pool.
    pub endpoint: Option<String>,
    pub what: String,
    pub why: String,
    pub change: String,
}

/// What is looked at of one endpoint.
#[derive(Debug)]
pub struct Seen<'a> {
    pub endpoint: &'a Endpoint,
    pub signals: SignalValues,
    /// What came to it lately.
    pub lately: Tally,
    /// Why it is out of service, if it is.
    pub out: Option<String>,
}

/// What all findings go by.
#[derive(Debug)]
pub struct Rules {
    pub now: Timestamp,
    /// Age at which an endpoint's metrics are stale.
    pub staleness: Duration,
    /// Endpoints are asked for their metrics.
    pub scrapes: bool,
    pub synced: bool,
    pub not_ready: Option<String>,
    /// What goes by bodies of responses, though some come by unseen.
    pub unread: Option<String>,
}

/// At most so many of a kind by themselves; the others are counted.
const OF_A_KIND: usize = 5;
/// Fewer answers than this say nothing.
const ENOUGH: u64 = 20;

/// Everything that is wrong, the worst first.
pub fn findings(rules: &Rules, endpoints: &[Seen<'_>]) -> Vec<Finding> {
    let mut all = of_pool(rules, endpoints);
    for rule in [out, metrics, errors, cache, blocks, drift] {
        let found = endpoints.iter().filter_map(|seen| rule(rules, seen, endpoints));
        few(found.collect(), &mut all);
    }
    all.sort_by_key(|finding| finding.level);
    all
}

/// The first ones, and how many there are beside them.
fn few(mut found: Vec<Finding>, all: &mut Vec<Finding>) {
    let more = found.len().saturating_sub(OF_A_KIND);
    found.truncate(OF_A_KIND);
    if let (true, Some(last)) = (more > 0, found.last_mut()) {
        last.what = format!("{}, and so do {more} others", last.what);
    }
    all.extend(found);
}

fn of_pool(rules: &Rules, endpoints: &[Seen<'_>]) -> Vec<Finding> {
    let finding = |what: &str, why: &str, change: &str| Finding {
        level: Level::Broken,
        endpoint: None,
        what: what.to_owned(),
        why: why.to_owned(),
        change: change.to_owned(),
    };
    let mut found = Vec::new();
    if endpoints.is_empty() && rules.synced {
        found.push(finding(
            "the pool has no endpoints",
            "every request gets 503",
            "compare the InferencePool's selector with the labels of the pods, or see --endpoints",
        ));
    }
    if let Some(reason) = &rules.not_ready {
        found.push(finding(
            &format!("not ready: {reason}"),
            "gateways are told to send nothing here",
            "see the log, and /readyz",
        ));
    }
    if let Some(readers) = &rules.unread {
        found.push(Finding {
            level: Level::Warning,
            ..finding(
                &format!("bodies of responses are not seen, which are read by {readers}"),
                "what they would tell is missing: these plugins go by less than they could",
                "send them (response_body_mode in Envoy, --response-body=auto here), or take the \
                 plugins out",
            )
        });
    }
    if let Some(drift) = drift_of_most(endpoints) {
        let (cause, change) = drift.cause();
        found.push(Finding {
            level: Level::Warning,
            ..finding(&format!("{drift}, over the pool"), &format!("likely {cause}"), change)
        });
    }
    found
}

/// The drift of the pool, where most endpoints have it: then the cause is not one engine.
fn drift_of_most(endpoints: &[Seen<'_>]) -> Option<Drift> {
    let served = endpoints.iter().filter(|seen| seen.lately.with_usage >= ENOUGH).count();
    let drift = endpoints.iter().filter(|seen| Drift::of(&seen.lately).is_some()).count();
    if served < 2 || drift * 2 <= served {
        return None;
    }
    let mut sum = Tally::default();
    endpoints.iter().for_each(|seen| sum.add(&seen.lately));
    Drift::of(&sum)
}

fn of(seen: &Seen<'_>, level: Level, what: &str, why: &str, change: &str) -> Finding {
    let Endpoint { id, host_port, .. } = seen.endpoint;
    // Endpoints that were given as a list are called by their address.
    let address =
        if id.ends_with(&**host_port) { String::new() } else { format!(" ({host_port})") };
    Finding {
        level,
        endpoint: Some(id.to_string()),
        what: format!("{id}{address} {what}"),
        why: why.to_owned(),
        change: change.to_owned(),
    }
}

type Found = Option<Finding>;

fn out(_: &Rules, seen: &Seen<'_>, _: &[Seen<'_>]) -> Found {
    let what = format!("is out of service: {}", seen.out.as_ref()?);
    let (why, change) = (
        "the others carry its share",
        "look at the engine's log; single requests try whether it is back",
    );
    Some(of(seen, Level::Broken, &what, why, change))
}

fn metrics(rules: &Rules, seen: &Seen<'_>, _: &[Seen<'_>]) -> Found {
    if !rules.scrapes || !seen.signals.is_stale(rules.now, rules.staleness) {
        return None;
    }
    let what = match seen.signals.updated_at {
        None => "has never told its metrics".to_owned(),
        Some(at) => {
            format!("has not told its metrics for {} s", rules.now.since(at).as_secs().max(1))
        }
    };
    let why = "its queue and KV-cache use are unknown: scorers that go by them guess";
    let change = format!(
        "try curl http://{}/metrics from this pod; the path and port are \
         --model-server-metrics-path and --model-server-metrics-port",
        seen.endpoint.host_port
    );
    Some(of(seen, Level::Broken, &what, why, &change))
}

fn errors(_: &Rules, seen: &Seen<'_>, _: &[Seen<'_>]) -> Found {
    let Tally { ended, failed, .. } = seen.lately;
    let is_bad = failed >= 3 && failed * 20 > ended;
    let what = format!("failed {failed} of its last {ended} requests");
    let why = "clients see its errors";
    is_bad.then(|| of(seen, Level::Broken, &what, why, "look at the engine's log"))
}

/// Whether one engine of several does not cache, or does not tell.
fn cache(_: &Rules, seen: &Seen<'_>, all: &[Seen<'_>]) -> Found {
    let lately = &seen.lately;
    let others_tell =
        all.iter().any(|other| !std::ptr::eq(other, seen) && other.lately.delivered_tokens > 0);
    let silent = lately.with_usage >= ENOUGH && lately.delivered_tokens == 0;
    if !silent || !others_tell || lately.predicted_tokens + lately.indexed_tokens == 0 {
        return None;
    }
    Some(of(
        seen,
        Level::Warning,
        "reports no cached tokens, where others do",
        "prompts are sent there for a cache that it does not have: prefix caching is off, or not \
         reported",
        "start this engine with --enable-prefix-caching and --enable-prompt-tokens-details",
    ))
}

/// Whether what engines tell of their blocks can be found by the prompts' blocks.
fn blocks(_: &Rules, seen: &Seen<'_>, _: &[Seen<'_>]) -> Found {
    let (ours, theirs) = (seen.lately.indexed_block, u64::from(seen.signals.block_size));
    if ours == 0 || theirs == 0 || ours == theirs {
        return None;
    }
    Some(of(
        seen,
        Level::Broken,
        &format!("has cache blocks of {theirs} tokens, prompts are looked up in blocks of {ours}"),
        "nothing is ever found in its cache",
        &format!("tokenProcessorConfig: {{blockSizeTokens: {theirs}}}"),
    ))
}

fn drift(rules: &Rules, seen: &Seen<'_>, all: &[Seen<'_>]) -> Found {
    let drift = Drift::of(&seen.lately)?;
    // Said already, in better words, or of the whole pool.
    if cache(rules, seen, all).is_some() || drift_of_most(all).is_some() {
        return None;
    }
    let (cause, change) = drift.cause();
    let what = format!("drifts: {drift}");
    Some(of(seen, Level::Warning, &what, &format!("likely {cause}"), change))
}

#[cfg(test)]
const NOTHING: Rules = Rules {
    now: Timestamp::START,
    staleness: Duration::ZERO,
    scrapes: false,
    synced: false,
    not_ready: None,
    unread: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::test_support::spec;
    use crate::endpoints::{EndpointSpec, PoolIds};

    fn endpoint(n: u8) -> Endpoint {
        let ip = [10, 0, 0, n].into();
        let spec = EndpointSpec { namespace: "ns".into(), ip, ..spec(&format!("w{n}"), n) };
        Endpoint::new(spec, &PoolIds::default())
    }

    fn served(predicted: u64, delivered: u64) -> Tally {
        Tally {
            ended: 50,
            with_usage: 50,
            with_cached: if delivered > 0 { 50 } else { 0 },
            prompt_tokens: 1000,
            predicted_tokens: predicted,
            delivered_tokens: delivered,
            ..Tally::default()
        }
    }

    #[test]
    fn each_fault_is_said_once_with_the_line_to_change() {
        let at = |seconds| Timestamp::START + Duration::from_secs(seconds);
        let endpoints = [endpoint(1), endpoint(2), endpoint(3)];
        let fresh = SignalValues { updated_at: Some(at(99)), block_size: 16, ..Default::default() };
        let good = || (fresh, served(800, 790), None);
        let rules = |synced| Rules {
            now: at(100),
            staleness: Duration::from_secs(2),
            scrapes: true,
            synced,
            not_ready: None,
            unread: None,
        };
        let old = SignalValues { updated_at: Some(at(60)), ..fresh };
        let never = SignalValues { updated_at: None, ..fresh };
        type Case = (SignalValues, Tally, Option<String>);
        // What it is called, the third endpoint, and what is found: parts of the texts.
        type Row<'a> = (&'a str, Case, &'a [(&'a str, &'a str)]);
        let cases: [Row<'_>; 8] = [
            ("all is well", good(), &[]),
            (
                "old metrics",
                (old, served(800, 790), None),
                &[("for 40 s", "curl http://10.0.0.3:8000")],
            ),
            (
                "no metrics",
                (never, Tally::default(), None),
                &[("never told", "--model-server-metrics-port")],
            ),
            (
                "caching off",
                (fresh, served(800, 0), None),
                &[("no cached tokens", "--enable-prefix-caching")],
            ),
            ("drift", (fresh, served(900, 300), None), &[("drifts: 90 %", "blockSizeTokens")]),
            (
                "wrong block size",
                (fresh, Tally { indexed_block: 64, ..served(800, 790) }, None),
                &[("cache blocks of 16 tokens", "blockSizeTokens: 16")],
            ),
            (
                "ejected",
                (fresh, served(800, 790), Some("5xx".into())),
                &[("out of service: 5xx", "engine's log")],
            ),
            (
                "errors",
                (fresh, Tally { failed: 9, ..served(800, 790) }, None),
                &[("failed 9 of its last 50", "engine's log")],
            ),
        ];
        for (name, third, expected) in cases {
            let states = [good(), good(), third];
            let seen: Vec<Seen<'_>> = endpoints
                .iter()
                .zip(states)
                .map(|(endpoint, (signals, lately, out))| Seen { endpoint, signals, lately, out })
                .collect();
            let found = findings(&rules(true), &seen);
            assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
            for (finding, (what, change)) in found.iter().zip(expected) {
                assert!(finding.what.contains(what), "{name}: {finding:?}");
                assert!(finding.change.contains(change), "{name}: {finding:?}");
                assert_eq!(finding.endpoint.as_deref(), Some("ns/w3"), "{name}");
            }
        }
        let unread = Rules { unread: Some("quota (token counts)".into()), ..rules(true) };
        let found = findings(
            &unread,
            &[Seen {
                endpoint: &endpoints[0],
                signals: fresh,
                lately: served(800, 790),
                out: None,
            }],
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("read by quota (token counts)"), "{found:?}");
        assert!(found[0].change.contains("response_body_mode"), "{found:?}");
        let empty = findings(&rules(true), &[]);
        assert!(empty[0].what.contains("no endpoints"), "{empty:?}");
        assert_eq!(findings(&rules(false), &[]), []);
    }

    #[test]
    fn many_of_a_kind_are_counted() {
        let endpoints: Vec<Endpoint> = (1..=40).map(endpoint).collect();
        let seen: Vec<Seen<'_>> = endpoints
            .iter()
            .map(|endpoint| Seen {
                endpoint,
                signals: SignalValues::default(),
                lately: Tally::default(),
                out: None,
            })
            .collect();
        let found = findings(&Rules { scrapes: true, synced: true, ..NOTHING }, &seen);
        assert_eq!(found.len(), OF_A_KIND);
        assert!(found[OF_A_KIND - 1].what.contains("and so do 35 others"), "{found:?}");
    }
}
