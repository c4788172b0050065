//! Reading a real vLLM's metrics: all of them, the beginning only, and a plain line by line
//! reading to compare with.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use epp::datalayer::extract::{Layout, Plan};
use epp::scrape_config::{EngineMaps, Needs};

const VLLM: &str = include_str!("../tests/fixtures/vllm-metrics.txt");

/// Finds the same values by looking at every line.
fn line_by_line(text: &str) -> [Option<f64>; 3] {
    let mut values = [None; 3];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        let slot = match name {
            "vllm:num_requests_waiting" => 0,
            "vllm:num_requests_running" => 1,
            "vllm:kv_cache_usage_perc" => 2,
            _ => continue,
        };
        values[slot] = value.parse().ok();
    }
    values
}

fn exposition(c: &mut Criterion) {
    let needs = Needs { queue: true, running: true, kv: true, lora: true, cache: true };
    let plan = Plan::new(&EngineMaps::default().engines[0], needs);
    let mut layout = Layout::default();
    let reading = plan.read(VLLM.as_bytes(), &mut layout);
    let expected =
        [reading.waiting.map(f64::from), reading.running.map(f64::from), reading.kv_usage];
    assert_eq!(line_by_line(VLLM), expected);

    let mut group = c.benchmark_group("exposition");
    group.throughput(Throughput::Bytes(VLLM.len() as u64));
    group.bench_function("first reading", |b| {
        b.iter(|| plan.read(VLLM.as_bytes(), &mut Layout::default()));
    });
    group.bench_function("whole, layout known", |b| {
        b.iter(|| plan.read(VLLM.as_bytes(), &mut layout));
    });
    group.bench_function("line by line", |b| b.iter(|| line_by_line(VLLM)));
    let beginning = &VLLM.as_bytes()[..layout.prefix()];
    group.throughput(Throughput::Bytes(beginning.len() as u64));
    group.bench_function("beginning, layout known", |b| {
        b.iter(|| plan.read_prefix(beginning, &mut layout).expect("all live families are there"));
    });
    group.finish();
}

criterion_group!(benches, exposition);
criterion_main!(benches);
