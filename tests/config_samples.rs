//! The configurations that people run load, and mean what they mean elsewhere.

use std::path::Path;

use epp::cli::{CheckOptions, Exit};
use epp::config::{Diagnostics, Severity};
use epp::discovery::parse_endpoints;
use epp::endpoints::PoolIds;
use epp::loader::{LoadOptions, Pipeline, load};

#[path = "support/material.rs"]
mod material;

use material::{root, shared};

fn load_sample(name: &str) -> Pipeline {
    let path = root().join("config").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let (pipeline, diagnostics) =
        load(name, Some(&text), &LoadOptions::default(), &PoolIds::default());
    assert_eq!(diagnostics.to_string(), "", "{name}");
    pipeline.unwrap()
}

/// `filters > weight scorer + ... > picker`, then what each profile handler and so on is.
fn summary(pipeline: &Pipeline) -> &str {
    pipeline.summary.split(';').next().unwrap_or_default()
}

#[test]
fn every_sample_loads_without_a_finding() {
    let expected = [
        (
            "tutorial.yaml",
            "profile default: 2 prefix-cache-scorer + 1 load-aware-scorer > max-score-picker",
        ),
        (
            "tutorial-parameters.yaml",
            "profile default: 2 prefix-cache-scorer + 1 load-aware-scorer > max-score-picker",
        ),
        (
            "flow-control.yaml",
            "profile default: 2 queue-scorer + 3 prefix-cache-scorer > max-score-picker",
        ),
        (
            "default.yaml",
            "profile default: 2 queue-scorer + 2 kv-cache-utilization-scorer + \
             3 prefix-cache-scorer > max-score-picker",
        ),
        (
            "prefill-decode.yaml",
            "profile prefill: prefill-filter > 1 expected-delay-scorer > max-score-picker",
        ),
        ("recommended.yaml", "profile default: 1 expected-delay-scorer > max-score-picker"),
        (
            "least-tokens.yaml",
            "profile default: 4 token-load-scorer + 0.1 prefix-cache-scorer > max-score-picker",
        ),
        (
            "sticky-until-saturated.yaml",
            "profile default: prefix-cache-affinity-filter > 1 token-load-scorer > \
             max-score-picker",
        ),
        (
            "token-quota.yaml",
            "profile default: 2 queue-scorer + 2 kv-cache-utilization-scorer + \
             3 prefix-cache-scorer > max-score-picker",
        ),
        (
            "standalone.yaml",
            "profile default: 2 queue-scorer + 2 kv-cache-utilization-scorer + \
             3 prefix-cache-scorer > max-score-picker",
        ),
    ];
    for (name, profile) in expected {
        assert_eq!(summary(&load_sample(name)), profile, "{name}");
    }
    let mut names: Vec<_> = std::fs::read_dir(root().join("config"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "endpoints.yaml")
        .collect();
    names.sort();
    let mut tested: Vec<_> = expected.map(|(name, _)| name).to_vec();
    tested.sort_unstable();
    assert_eq!(names, tested, "a sample without a test");
}

#[test]
fn the_endpoints_sample_is_read() {
    let text = std::fs::read_to_string(root().join("config/endpoints.yaml")).unwrap();
    let diagnostics = Diagnostics::new("endpoints.yaml");
    let specs = parse_endpoints(&text, &diagnostics);
    assert_eq!(diagnostics.to_string(), "");
    let addresses: Vec<_> = specs.iter().map(|s| format!("{} {}", s.host, s.port)).collect();
    assert_eq!(addresses, ["10.0.0.10 8000", "fd00::11 8000"]);
    let standalone = load_sample("standalone.yaml").discovery.unwrap();
    assert_eq!(standalone.path, Path::new("config/endpoints.yaml"));
    assert!(standalone.watch);
}

#[test]
fn no_configuration_is_the_default_sample() {
    let sample = load_sample("default.yaml");
    for text in [None, Some("")] {
        let (built_in, diagnostics) =
            load("built-in", text, &LoadOptions::default(), &PoolIds::default());
        assert_eq!(diagnostics.to_string(), "");
        let built_in = built_in.unwrap();
        assert_eq!(built_in.summary, sample.summary);
        assert_eq!((built_in.scrape, built_in.needs), (sample.scrape.clone(), sample.needs));
    }
}

#[test]
fn the_tutorials_old_parameters_bring_a_prefix_index_of_their_own() {
    let plain = load_sample("tutorial.yaml").effective.to_yaml().unwrap();
    assert!(plain.contains("approx-prefix-cache-producer"), "{plain}");
    let old = load_sample("tutorial-parameters.yaml");
    assert!(!old.effective.to_yaml().unwrap().contains("approx-prefix-cache-producer"));
    assert_eq!(old.scheduler.producers.len(), 1);
    assert!(!old.needs.cache, "the block size is given, so no worker is asked for it");
}

#[test]
fn a_profile_that_looks_at_no_prompt_wants_none() {
    let text = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, \
                plugins: [{type: queue-scorer}]}";
    let (pipeline, _) = load("f", Some(text), &LoadOptions::default(), &PoolIds::default());
    let pipeline = pipeline.unwrap();
    assert!(!pipeline.wants_prompt);
    assert!(pipeline.needs.queue && !pipeline.needs.lora && !pipeline.needs.cache);
    assert!(load_sample("tutorial.yaml").wants_prompt);
}

#[test]
fn configurations_of_the_reference_load_or_name_the_type_they_lack() {
    let Some(directory) = shared("reference-configs") else { return };
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut loaded = 0;
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy();
        let (pipeline, diagnostics) =
            load(&name, Some(&text), &LoadOptions::default(), &PoolIds::default());
        if pipeline.is_some() {
            loaded += 1;
            assert_eq!(diagnostics.to_string(), "", "{name}");
            continue;
        }
        for finding in diagnostics.findings().iter().filter(|d| d.severity == Severity::Error) {
            let says_why = finding.message.contains("in this version");
            assert!(says_why, "{name}: {}: {}", finding.field, finding.message);
        }
    }
    assert!(loaded >= 5, "only {loaded} loaded");
}

#[test]
fn the_sample_is_the_tutorials_configuration() {
    let Some(seed) = shared("seed-000_acb4a1e80169b6ae.txt") else { return };
    let seed = std::fs::read_to_string(seed).unwrap();
    let sample = std::fs::read_to_string(root().join("config/tutorial.yaml")).unwrap();
    // The tutorial lost its indentation.
    let lines: Vec<_> =
        sample.lines().map(str::trim_start).filter(|line| !line.starts_with('#')).collect();
    let [_, kind, rest @ ..] = lines.as_slice() else { panic!("no lines") };
    let flat: Vec<_> = seed.lines().map(str::trim_start).collect();
    let start = flat.iter().position(|line| line == kind).unwrap();
    assert_eq!(&flat[start + 1..][..rest.len()], rest);
}

#[test]
fn check_reports_what_loading_would() {
    let directory = tempfile::tempdir().unwrap();
    let endpoints = directory.path().join("endpoints.yaml");
    let file = directory.path().join("config.yaml");
    let config = format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n\
         - type: file-discovery\n  parameters:\n    path: {}\n- type: queue-scorer\n\
         dataLayer:\n  discovery:\n    pluginRef: file-discovery\n",
        endpoints.display()
    );
    let check = || {
        let (files, load) = (vec![file.clone()], LoadOptions::default());
        let options = CheckOptions { files, effective: false, load };
        let Exit { text, code } = epp::cli::check(&options, &mut std::io::empty());
        (code, text)
    };
    let (code, text) = check();
    assert!(code == 2 && text.contains("config.yaml: cannot be read: "), "{text}");

    std::fs::write(&file, &config).unwrap();
    let (code, text) = check();
    assert!(code == 0 && text.contains("warning: endpoints file "), "{text}");

    std::fs::write(&endpoints, "endpoints: [{name: a, address: 10.0.0.1}]").unwrap();
    let (code, text) = check();
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("endpoints.yaml:1:13: endpoints[0].port: is missing"), "{text}");

    std::fs::write(&endpoints, "endpoints: []").unwrap();
    let (code, text) = check();
    let ok = "config.yaml: ok: profile default: 1 queue-scorer";
    assert!(code == 0 && text.contains(ok), "{text}");

    std::fs::write(&file, config.replace("queue-scorer", "queue-scorr")).unwrap();
    let (code, text) = check();
    assert!(code == 2 && text.contains("config.yaml:7:9: "), "{text}");
}
