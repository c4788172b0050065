//! What a scrape shows after given requests: names, labels and values, today's and the older ones.

use std::sync::Arc;

use epp::clock::Timestamp;
use epp::endpoints::{EndpointSpec, Pool, SignalValues};
use epp::telemetry::{
    Completion, EndpointCounts, EndpointScrapeErrors, HealthReading, MeanAndDeviation, Metrics,
    PageScrapeErrors, PoolReading, PoolSource, ScrapeErrors,
};

fn endpoint(name: &str, namespace: &str) -> EndpointSpec {
    EndpointSpec {
        placement: Default::default(),
        namespace: namespace.into(),
        name: name.into(),
        pod_name: "w".into(),
        ip: [127, 0, 0, 1].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
    }
}

/// The sample lines of `name`, sorted; the exposition format is line by line.
fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
    let text = metrics.render().unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| {
            l.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        })
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn one(metrics: &Metrics, name: &str) -> String {
    let lines = samples(metrics, name);
    assert_eq!(lines.len(), 1, "{name}: {lines:?}");
    lines.into_iter().next().unwrap()
}

#[test]
fn a_streamed_request_appears_under_every_generation_of_names() {
    let metrics = Metrics::new().unwrap();
    let series = metrics.request_series("base", "base-v2", "tenant", 3);
    series.accepted(3000);
    series.running_inc();
    series.first_token(0.3, true);
    series.completed(&Completion {
        duration_s: 2.3,
        ttft_s: Some(0.3),
        streaming: true,
        response_bytes: 40_000,
        prompt_tokens: 700,
        completion_tokens: 101,
        cached_tokens: Some(640),
    });

    let full = r#"fairness_id="tenant",model_name="base",priority="3",target_model_name="base-v2""#;
    let priority = r#"model_name="base",priority="3",target_model_name="base-v2""#;
    let target = r#"model_name="base",target_model_name="base-v2""#;
    for (name, labels, value) in [
        ("llm_d_epp_request_total", full, "1"),
        ("inference_objective_request_total", priority, "1"),
        ("inference_model_request_total", target, "1"),
        ("llm_d_epp_request_running", full, "1"),
        ("inference_objective_running_requests", r#"model_name="base""#, "1"),
        ("inference_model_running_requests", r#"model_name="base""#, "1"),
        ("llm_d_epp_request_duration_seconds_sum", full, "2.3"),
        ("inference_objective_request_duration_seconds_sum", target, "2.3"),
        ("inference_model_request_duration_seconds_sum", target, "2.3"),
        ("llm_d_epp_request_size_bytes_sum", full, "3000"),
        ("inference_objective_request_sizes_sum", target, "3000"),
        ("inference_model_request_sizes_sum", target, "3000"),
        ("llm_d_epp_response_size_bytes_sum", full, "40000"),
        ("inference_objective_response_sizes_sum", target, "40000"),
        ("inference_model_response_sizes_sum", target, "40000"),
        ("llm_d_epp_request_input_tokens_sum", full, "700"),
        ("inference_objective_input_tokens_sum", target, "700"),
        ("inference_model_input_tokens_sum", target, "700"),
        ("llm_d_epp_request_output_tokens_sum", full, "101"),
        ("inference_objective_output_tokens_sum", target, "101"),
        ("inference_model_output_tokens_sum", target, "101"),
        ("llm_d_epp_request_cached_tokens_sum", full, "640"),
        ("inference_objective_prompt_cached_tokens_sum", target, "640"),
        ("llm_d_epp_request_ttft_seconds_sum", &format!(r#"{full},streaming="true""#), "0.3"),
        ("llm_d_epp_request_streaming_tpot_seconds_sum", full, "0.02"),
    ] {
        assert_eq!(one(&metrics, name), format!("{name}{{{labels}}} {value}"));
    }
    let per_token =
        one(&metrics, "inference_objective_normalized_time_per_output_token_seconds_sum");
    let value: f64 = per_token.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((value - 2.3 / 101.0).abs() < 1e-8, "{per_token}");

    series.running_dec();
    assert!(one(&metrics, "llm_d_epp_request_running").ends_with(" 0"));
}

#[test]
fn buckets_are_those_of_the_reference() {
    let metrics = Metrics::new().unwrap();
    let series = metrics.request_series("m", "m", "", 0);
    series.completed(&Completion { duration_s: 0.1, response_bytes: 32_770, ..Default::default() });
    let bounds = |name: &str| -> Vec<String> {
        let text = metrics.render().unwrap();
        text.lines()
            .filter(|l| l.starts_with(&format!("{name}_bucket{{")))
            .map(|l| l.split("le=\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        bounds("inference_objective_response_sizes"),
        [
            "1", "8", "16", "32", "64", "128", "256", "512", "1024", "2048", "4096", "8192",
            "16384", "32778", "65536", "+Inf"
        ]
    );
    assert_eq!(bounds("llm_d_epp_request_duration_seconds").len(), 36);
    let text = metrics.render().unwrap();
    assert!(text.contains("# TYPE llm_d_epp_request_duration_seconds histogram\n"));
    for help in text.lines().filter(|l| l.starts_with("# HELP") && !l.contains(" process_")) {
        assert!(help.contains(" [ALPHA] "), "{help}");
    }
}

#[test]
fn older_names_sum_over_labels_they_do_not_have() {
    let metrics = Metrics::new().unwrap();
    for (fairness, priority, requests) in [("a", 0, 2), ("b", 0, 3), ("b", 1, 4)] {
        let series = metrics.request_series("m", "t", fairness, priority);
        for _ in 0..requests {
            series.accepted(1);
            series.running_inc();
        }
        series.error("ResourceExhausted");
    }
    assert_eq!(samples(&metrics, "llm_d_epp_request_total").len(), 3);
    assert_eq!(
        samples(&metrics, "inference_objective_request_total"),
        [
            r#"inference_objective_request_total{model_name="m",priority="0",target_model_name="t"} 5"#,
            r#"inference_objective_request_total{model_name="m",priority="1",target_model_name="t"} 4"#,
        ]
    );
    assert_eq!(
        one(&metrics, "inference_model_request_error_total"),
        r#"inference_model_request_error_total{model_name="m",target_model_name="t",error_code="ResourceExhausted"} 3"#
    );
    assert!(one(&metrics, "inference_objective_running_requests").ends_with("} 9"));
}

#[test]
fn what_was_not_told_is_not_observed() {
    let metrics = Metrics::new().unwrap();
    let series = metrics.request_series("", "", "", 0);
    series.accepted(0);
    series.completed(&Completion { duration_s: 1.0, ..Default::default() });
    for name in [
        "llm_d_epp_request_input_tokens_count",
        "llm_d_epp_request_output_tokens_count",
        "llm_d_epp_request_cached_tokens_count",
        "llm_d_epp_request_ntpot_seconds_count",
        "llm_d_epp_request_ttft_seconds_count",
        "llm_d_epp_request_streaming_tpot_seconds_count",
        // The reference does not count running requests of an empty model name.
        "llm_d_epp_request_running",
    ] {
        assert_eq!(samples(&metrics, name), Vec::<String>::new());
    }
    assert_eq!(samples(&metrics, "llm_d_epp_request_total").len(), 1);
}

#[test]
fn clients_cannot_make_series_without_end() {
    let metrics = Metrics::new().unwrap();
    for i in 0..1500 {
        metrics.request_series(&format!("m{i}"), "target", "", 0).accepted(1);
    }
    // 999 models besides the target, and one series for all others.
    let lines = samples(&metrics, "llm_d_epp_request_total");
    assert_eq!(lines.len(), 1000);
    let other = lines.iter().find(|l| l.contains(r#"model_name="other""#)).unwrap();
    assert!(other.ends_with(" 501"), "{other}");

    for model in 0..20 {
        for fairness in 0..1000 {
            metrics.request_series(&format!("m{model}"), "target", &format!("f{fairness}"), 0);
        }
    }
    let series = metrics.request_series("m19", "target", "f999", 0);
    series.accepted(1);
    let line = samples(&metrics, "llm_d_epp_request_total")
        .into_iter()
        .find(|l| l.contains(r#"fairness_id="other""#))
        .unwrap();
    assert!(line.contains(r#"model_name="other""#), "{line}");
}

#[test]
fn the_same_labels_give_the_same_series() {
    let metrics = Metrics::new().unwrap();
    let a = metrics.request_series("ab", "c", "", 0);
    assert!(Arc::ptr_eq(&a, &metrics.request_series("ab", "c", "", 0)));
    assert!(!Arc::ptr_eq(&a, &metrics.request_series("a", "bc", "", 0)));
    assert!(!Arc::ptr_eq(&a, &metrics.request_series("ab", "c", "", -1)));
}

#[test]
fn scheduling_attempts_name_the_endpoint_until_it_leaves() {
    let metrics = Metrics::new().unwrap();
    let spec = endpoint("w-rank-0", "ns");
    metrics.scheduler(0.00005, "m", Some(&spec));
    metrics.scheduler(0.00005, "m", Some(&spec));
    metrics.scheduler(0.003, "m", None);
    assert_eq!(
        samples(&metrics, "llm_d_epp_scheduler_attempts_total"),
        [
            r#"llm_d_epp_scheduler_attempts_total{endpoint_name="",namespace="",port="",status="failure",target_model_name="m"} 1"#,
            r#"llm_d_epp_scheduler_attempts_total{endpoint_name="w-rank-0",namespace="ns",port="8000",status="success",target_model_name="m"} 2"#,
        ]
    );
    let old = samples(&metrics, "inference_extension_scheduler_attempts_total");
    assert!(old[1].contains(r#"pod_name="w-rank-0""#), "{old:?}");
    assert_eq!(
        one(&metrics, "inference_extension_scheduler_e2e_duration_seconds_count"),
        "inference_extension_scheduler_e2e_duration_seconds_count 3"
    );
    metrics.forget_endpoint("w-rank-0", "other-namespace");
    assert_eq!(samples(&metrics, "llm_d_epp_scheduler_attempts_total").len(), 2);
    metrics.forget_endpoint("w-rank-0", "ns");
    assert_eq!(samples(&metrics, "llm_d_epp_scheduler_attempts_total").len(), 1);
}

/// Clients choose the names of models, tenants and ids: whatever they write, the page stays small,
/// and models that answer keep series of their own.
#[test]
fn invented_names_neither_grow_the_page_nor_hide_real_ones() {
    let metrics = Metrics::new().unwrap();
    let long = "x".repeat(12 << 20);
    metrics.request_series(&long, &long, &long, 0).accepted(1);
    for n in 0..3000 {
        let name = format!("invented-{n}");
        metrics.request_series(&name, &name, &name, 0).accepted(1);
        metrics.scheduler(0.001, &name, None);
    }
    metrics.models_are_real("real", "real-v2");
    metrics.request_series("real", "real-v2", "", 0).accepted(1);
    let page = metrics.render().unwrap();
    let longest = page.lines().map(str::len).max().unwrap();
    assert!(longest < 1000, "{longest}");
    assert!(page.len() < 200 << 20, "{}", page.len());
    let total = samples(&metrics, "llm_d_epp_request_total");
    assert!(total.iter().any(|line| line.contains(r#"model_name="real""#)));
    println!("a page of {} series has {} bytes", total.len(), page.len());
}

#[test]
fn the_pool_is_read_at_scrape_time() {
    let metrics = Metrics::new().unwrap();
    let pool = Arc::new(Pool::new());
    metrics
        .add_pool(PoolSource {
            name: "llama".into(),
            pool: pool.clone(),
            reading: Box::new(|| PoolReading {
                ready: 2,
                kv_usage: MeanAndDeviation { mean: 0.5, deviation: 0.25 },
                queue: MeanAndDeviation { mean: 3.0, deviation: 1.5 },
                running: MeanAndDeviation { mean: 7.0, deviation: 0.5 },
            }),
            scrape_errors: Box::new(|| {
                let (name, namespace) = ("w-rank-0".to_owned(), "ns".to_owned());
                let one = EndpointScrapeErrors { name, namespace, poll: 3, extract: 2 };
                let source = "dcgm-data-source";
                let page =
                    PageScrapeErrors { source, extractor: "dcgm-extractor", poll: 6, extract: 7 };
                ScrapeErrors { poll: 4, extract: 5, endpoints: vec![one], pages: vec![page] }
            }),
            load_producer: "loads".into(),
            counts: Arc::new(EndpointCounts::claim(pool.ids())),
            health: Some(Box::new(|_| HealthReading { is_out: true, ejections: 3, returns: 2 })),
        })
        .unwrap();
    pool.replace(vec![endpoint("w-rank-0", "ns")]);
    for name in ["llm_d_epp_per_endpoint_queue_size", "inference_pool_per_pod_queue_size"] {
        assert_eq!(samples(&metrics, name), [""; 0], "nothing is known of what was never read");
    }
    let endpoint = pool.snapshot().endpoints[0].clone();
    endpoint.signals.store(SignalValues {
        waiting: 9,
        updated_at: Some(Timestamp::START),
        ..Default::default()
    });
    for (name, rest) in [
        ("llm_d_epp_ready_endpoints", r#"{name="llama"} 2"#),
        ("llm_d_epp_ejected_endpoints", r#"{name="llama"} 1"#),
        ("llm_d_epp_endpoint_ejections_total", r#"{endpoint_name="w-rank-0",namespace="ns"} 3"#),
        ("llm_d_epp_endpoint_returns_total", r#"{endpoint_name="w-rank-0",namespace="ns"} 2"#),
        ("inference_pool_ready_pods", r#"{name="llama"} 2"#),
        ("llm_d_epp_average_kv_cache_utilization", r#"{name="llama"} 0.5"#),
        ("inference_pool_average_kv_cache_utilization", r#"{name="llama"} 0.5"#),
        ("llm_d_epp_std_dev_kv_cache_utilization", r#"{name="llama"} 0.25"#),
        ("inference_pool_average_queue_size", r#"{name="llama"} 3"#),
        ("llm_d_epp_std_dev_queue_size", r#"{name="llama"} 1.5"#),
        ("inference_pool_average_running_requests", r#"{name="llama"} 7"#),
        ("llm_d_epp_std_dev_running_requests", r#"{name="llama"} 0.5"#),
        (
            "llm_d_epp_per_endpoint_queue_size",
            r#"{model_server_endpoint="w-rank-0",name="llama"} 9"#,
        ),
        ("inference_pool_per_pod_queue_size", r#"{model_server_pod="w-rank-0",name="llama"} 9"#),
    ] {
        assert_eq!(one(&metrics, name), format!("{name}{rest}"));
    }
    let by_source = [
        (
            "llm_d_epp_datalayer_poll_errors_total",
            [r#"{source_type="dcgm-data-source"} 6"#, r#"{source_type="metrics-data-source"} 4"#],
        ),
        (
            "llm_d_inference_scheduler_datalayer_extract_errors_total",
            [
                r#"{extractor_type="core-metrics-extractor",source_type="metrics-data-source"} 5"#,
                r#"{extractor_type="dcgm-extractor",source_type="dcgm-data-source"} 7"#,
            ],
        ),
    ];
    for (name, rest) in by_source {
        let mut found = samples(&metrics, name);
        found.sort();
        assert_eq!(found, rest.map(|rest| format!("{name}{rest}")));
    }
    let name = "llm_d_epp_endpoint_scrape_errors_total";
    let of = |stage: &str, n: u32| {
        format!(r#"{name}{{endpoint_name="w-rank-0",namespace="ns",stage="{stage}"}} {n}"#)
    };
    assert_eq!(samples(&metrics, name), [of("extract", 2), of("poll", 3)]);
}

#[test]
fn the_process_and_the_build_are_told() {
    let metrics = Metrics::new().unwrap();
    let value =
        |name: &str| -> f64 { one(&metrics, name).rsplit_once(' ').unwrap().1.parse().unwrap() };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_start_time_seconds") > 1.6e9);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert_eq!(value("llm_d_epp_info"), 1.0);
    assert_eq!(value("inference_extension_info"), 1.0);
}
