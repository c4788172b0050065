//! Faults of endpoints and of the configuration.

use std::net::SocketAddr;

use crate::run::{arguments, doctor, doctor_text, file};
use crate::workers::{Workers, endpoints, nobody, not_http, silent, tls};

/// A configuration with these plugins in one profile.
fn config(plugins: &str, references: &[&str]) -> String {
    let references: Vec<String> =
        references.iter().map(|name| format!("  - pluginRef: {name}\n")).collect();
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n{plugins}\
         schedulingProfiles:\n- name: default\n  plugins:\n{}",
        references.concat()
    )
}

fn queue(more: &str) -> String {
    config(&format!("- type: queue-scorer\n{more}"), &["queue-scorer"])
}

fn estimate(parameters: &str) -> String {
    config(
        &format!(
            "- type: approx-prefix-cache-producer\n  parameters: {parameters}\n- type: \
             prefix-cache-scorer\n"
        ),
        &["prefix-cache-scorer"],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_that_is_well_has_no_problem() {
    let workers = Workers::start(3, &["--lora=sql"]);
    let list = endpoints(&[&workers.at]);
    for more in [&["--probe"][..], &["--probe", "--model=sql"], &[]] {
        let found = doctor(&[arguments(more), vec![list.clone()]].concat()).await;
        found.is_well();
        for worker in &workers.at {
            let name = worker.to_string();
            found.must_have("ok", "models", &name, "serves sim, sql", "");
            found.must_have("ok", "signal", &name, "requests waiting", "");
            if !more.is_empty() {
                found.must_have("ok", "second-prompt", &name, "of 512 tokens", "");
            }
        }
    }
    let (code, text) = doctor_text(&[list]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("nothing is wrong, "), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal: {text}");
}

/// Flags of the worker that is ill, flags of doctor, and the finding: check, part of what is said,
/// part of the line to change.
#[tokio::test(flavor = "multi_thread")]
async fn one_worker_of_three_is_ill() {
    let good = Workers::start(2, &[]);
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 12] = [
        (
            &["--no-enable-prefix-caching"],
            &[],
            "prefix-caching",
            "keeps no prefixes",
            "--enable-prefix-caching",
        ),
        (
            &["--no-enable-prefix-caching"],
            &["--probe"],
            "second-prompt",
            "in full",
            "--enable-prefix-caching",
        ),
        (
            &["--block-size=32"],
            &[],
            "block-size-differs",
            "32 tokens, where others have 16",
            "--block-size 16",
        ),
        (
            &["--fault={\"metrics\":\"missing\"}"],
            &[],
            "metrics",
            "404",
            "--model-server-metrics-path",
        ),
        (
            &["--fault={\"metrics\":\"hang\"}"],
            &["--patience=300ms"],
            "metrics",
            "says nothing within 300ms",
            "--model-server-metrics-port",
        ),
        (&["--model=other"], &[], "models", "does not serve sim", "--served-model-name"),
        (&["--lora=sql"], &[], "models", "serves sql, which most others do not", "--lora-modules"),
        (
            &["--lora=sql"],
            &["--model=nobody-has-it"],
            "models",
            "does not serve nobody-has-it",
            "--served-model-name",
        ),
        (
            &["--fault={\"fail\":{\"status\":503,\"one_in\":1}}"],
            &["--probe"],
            "answer",
            "503",
            "log",
        ),
        (
            &["--fault={\"hang\":true}"],
            &["--probe", "--patience=300ms"],
            "answer",
            "says nothing",
            "--patience",
        ),
        (&["--max-model-len=256"], &["--probe"], "", "", ""),
        (&["--num-blocks=1000"], &[], "", "", ""),
    ];
    for (ill, flags, check, what, change) in cases {
        let worker = Workers::start(1, ill);
        let list = endpoints(&[&good.at, &worker.at]);
        let found = doctor(&[arguments(flags), vec![list]].concat()).await;
        let case = format!("{ill:?} {flags:?}");
        if check.is_empty() {
            found.is_well();
            continue;
        }
        assert_eq!(found.code, Some(1), "{case}: {:#}", found.report);
        let about = worker.at[0].to_string();
        assert!(
            found.has("problem", check, &about, what, change),
            "{case}: wanted {check}: {:#}",
            found.report
        );
        // Of the others there is nothing to say, except where a model is missing everywhere.
        let others = found.of("problem").into_iter().filter(|f| !f.contains(&about));
        let expected = if flags.contains(&"--model=nobody-has-it") { 2 } else { 0 };
        assert_eq!(others.count(), expected, "{case}: {:#}", found.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_do_not_answer_are_told_apart() {
    let good = Workers::start(1, &[]);
    let cases: [(SocketAddr, &str, &str); 4] = [
        (nobody(), "Connection refused", "--host 0.0.0.0"),
        (silent().await, "says nothing within", "log"),
        (tls().await, "speaks TLS", "transport_socket"),
        (not_http().await, "does not speak HTTP", "port of the engine"),
    ];
    for (endpoint, what, change) in cases {
        let list = endpoints(&[&good.at, &[endpoint]]);
        let found = doctor(&[list, "--patience=500ms".into(), "--probe".into()]).await;
        assert_eq!(found.code, Some(1));
        found.must_have("problem", "reachable", &endpoint.to_string(), what, change);
        assert_eq!(found.of("problem").len(), 1, "{:#}", found.report);
    }
    // The other way round: metrics over TLS where plain HTTP is spoken.
    let directory = tempfile::tempdir().expect("a folder");
    let scheme = "- type: metrics-data-source\n  parameters: {scheme: https}\n";
    let file = file(directory.path(), "c.yaml", &queue(scheme));
    let flags = [endpoints(&[&good.at]), format!("--config-file={}", file.display())];
    let found = doctor(&flags).await;
    let about = good.at[0].to_string();
    found.must_have("problem", "reachable", &about, "speaks plain HTTP", "scheme: http");
}

/// A configuration, and the finding that it gives with workers that are well.
#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_do_not_fit_their_engines() {
    let workers = Workers::start(2, &[]);
    let about = workers.at[0].to_string();
    let directory = tempfile::tempdir().expect("a folder");
    let precise = |more: &str| {
        config(
            &format!(
                "- type: precise-prefix-cache-producer\n  parameters: {more}\n- type: \
                 prefix-cache-scorer\n  parameters: {{prefixMatchInfoProducerName: \
                 precise-prefix-cache-producer}}\n"
            ),
            &["prefix-cache-scorer"],
        )
    };
    let extractor =
        |more: &str| queue(&format!("- type: core-metrics-extractor\n  parameters: {more}\n"));
    type Case<'a> = (String, &'a str, &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 12] = [
        (
            precise("{tokenProcessorConfig: {blockSizeTokens: 64}}"),
            "problem",
            "block-size",
            "blocks of 16 tokens, precise-prefix-cache-producer expects 64",
            "blockSizeTokens: 16",
        ),
        (
            precise("{tokenProcessorConfig: {hashSeed: \"42\"}}"),
            "note",
            "hash-seed",
            "hashSeed",
            "",
        ),
        (
            estimate("{autoTune: false, blockSizeTokens: 72}"),
            "problem",
            "block-size",
            "cuts prompts in 72",
            "autoTune: true",
        ),
        (
            estimate("{autoTune: false, blockSizeTokens: 64, lruCapacityPerServer: 100}"),
            "problem",
            "lru-capacity",
            "6400 of it",
            "lruCapacityPerServer: 11702",
        ),
        (
            estimate("{autoTune: true}"),
            "note",
            "lru-capacity",
            "4.0 times as much",
            "capacityByTokens: true",
        ),
        (estimate("{capacityByTokens: true}"), "ok", "cache", "blocks of 16 tokens", ""),
        (
            extractor("{defaultEngine: sglang}"),
            "problem",
            "engine",
            "metrics are vllm's",
            "llm-d.ai/engine-type=vllm",
        ),
        (
            extractor("{engineConfigs: [{name: vllm, queuedRequestsSpec: no_such_metric}]}"),
            "problem",
            "signal",
            "requests waiting: no_such_metric is not exposed",
            "queuedRequestsSpec",
        ),
        (
            queue("- type: metrics-data-source\n  parameters: {path: /v1/models}\n"),
            "problem",
            "metrics",
            "has no metrics at /v1/models",
            "metrics-data-source",
        ),
        (
            queue("- type: metrics-data-source\n  parameters: {path: /nowhere}\n"),
            "problem",
            "metrics",
            "answers /nowhere with 404",
            "--model-server-metrics-path",
        ),
        (queue("- type: queue-scorr\n"), "problem", "configuration", "queue-scorr", ""),
        (queue(""), "ok", "models", "serves sim", ""),
    ];
    for (text, severity, check, what, change) in cases {
        let file = file(directory.path(), "c.yaml", &text);
        let flags = [
            endpoints(&[&workers.at]),
            format!("--config-file={}", file.display()),
            // Nobody publishes events here, which is not what these are about.
            "--skip=events".to_owned(),
        ];
        let found = doctor(&flags).await;
        let about =
            if ["configuration", "cache", "hash-seed"].contains(&check) { "" } else { &about };
        found.must_have(severity, check, about, what, change);
        let code = if severity == "problem" { 1 } else { 0 };
        assert_eq!(found.code, Some(code), "{text}: {:#}", found.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_and_says_what_it_does_not_know() {
    let flags = [endpoints(&[&[silent().await]]), "--timeout=300ms".into(), "--patience=1h".into()];
    let found = doctor(&flags).await;
    assert_eq!(found.code, Some(1));
    found.must_have("problem", "not-finished", "", "did not end in time", "--timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_chosen() {
    let worker = Workers::start(1, &["--no-enable-prefix-caching", "--model=m"]);
    let list = endpoints(&[&worker.at]);
    let subjects = async |flag: &str| {
        let found = doctor(&[list.clone(), flag.into(), "--model=other".into()]).await;
        let findings = found.report["findings"].as_array().expect("a list").clone();
        let mut subjects: Vec<String> =
            findings.iter().map(|f| f["subject"].as_str().expect("a text").to_owned()).collect();
        subjects.dedup();
        subjects
    };
    assert_eq!(subjects("--only=cache").await, ["cache"]);
    assert_eq!(subjects("--only=cache,endpoints").await, ["endpoints", "cache"]);
    assert_eq!(subjects("--skip=endpoints,cache").await, ["configuration"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_errors_have_a_status_of_their_own() {
    for (flags, part) in [
        (&[][..], "nothing to look at"),
        (&["--only=beauty"], "beauty"),
        (&["--endpoints=10.0.0.1"], "10.0.0.1"),
        (&["--probe-tokens=1", "--endpoints=10.0.0.1:1"], "probe-tokens"),
        (&["--config-fle=x"], "--config-file"),
    ] {
        let (code, text) = doctor_text(&arguments(flags)).await;
        assert_eq!(code, Some(2), "{flags:?}: {text}");
        assert!(text.contains(part), "{flags:?}: {text}");
    }
}
