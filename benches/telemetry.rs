//! What telling costs a request: its metrics (goal: well under 1 µs) and its log line.

use std::hint::black_box;
use std::io;

use criterion::{Criterion, criterion_group, criterion_main};
use epp::endpoints::EndpointSpec;
use epp::telemetry::logging::{Encoder, LogOptions, Logger, Sink, TimeEncoding};
use epp::telemetry::{Completion, Metrics};

fn metrics(c: &mut Criterion) {
    let metrics = Metrics::new().expect("metrics have distinct names");
    let endpoint = EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: "worker-rank-0".into(),
        pod_name: "worker".into(),
        ip: [10, 0, 0, 1].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
    };
    let completion = Completion {
        duration_s: 2.0,
        ttft_s: Some(0.3),
        streaming: true,
        response_bytes: 40_000,
        prompt_tokens: 700,
        completion_tokens: 101,
        cached_tokens: Some(640),
    };
    c.bench_function("metrics/whole request", |b| {
        b.iter(|| {
            metrics.scheduler(20e-6, black_box("llama"), Some(&endpoint));
            let series = metrics.request_series(black_box("llama"), "llama", "default-flow", 0);
            series.accepted(black_box(3000));
            series.running_inc();
            metrics.request_processing(100e-6);
            series.first_token(0.3, true);
            series.running_dec();
            series.completed(black_box(&completion));
        });
    });
    for i in 0..100 {
        let series = metrics.request_series(&format!("model-{i}"), "llama", "default-flow", 0);
        series.accepted(1);
        series.completed(&completion);
    }
    c.bench_function("metrics/scrape of 101 series", |b| b.iter(|| metrics.render()));
}

fn logs(c: &mut Criterion) {
    for (name, encoder) in [("json", Encoder::Json), ("text", Encoder::Text)] {
        for (state, verbosity) in [("written", 2), ("switched off", 1)] {
            let options = LogOptions::new(verbosity, None, None, encoder, TimeEncoding::Rfc3339);
            let sink = Sink::start(Box::new(io::sink()));
            let logger = Logger::new(options, sink.clone());
            tracing::subscriber::with_default(logger, || {
                c.bench_function(&format!("log/{name} line {state}"), |b| b.iter(request_handled));
            });
            sink.close();
        }
    }
}

/// The fields that the line of a request has.
fn request_handled() {
    tracing::info!(
        target: "epp::access",
        model = black_box("meta-llama/Llama-3.1-8B-Instruct"),
        "x-request-id" = "1f0d33a0-7ad8-4f0e-8d0c-2f6a1f6f9b8e",
        resolvedTargetModel = "meta-llama/Llama-3.1-8B-Instruct",
        criticality = "Standard",
        objective = "",
        targetModel = "meta-llama/Llama-3.1-8B-Instruct",
        endpoint = "{NamespacedName:default/worker-rank-0 Address:10.0.0.1 Labels:map[app:llama]}",
        cachedBlocks = 12,
        promptBlocks = 20,
        "Request handled"
    );
}

criterion_group!(benches, metrics, logs);
criterion_main!(benches);
