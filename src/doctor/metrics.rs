//! Which signals an engine's page of metrics has.

use super::engine::{self, Cache};
use super::{Finding, Subject};
use crate::datalayer::extract::{Layout, Plan, ProblemKind, Reading};
use crate::loader::SignalReader;
use crate::scrape_config::{EngineMap, EngineMaps, MetricSpec, Needs};

/// A signal: what people call it, the need of it alone, and the metrics that carry it.
struct Signal {
    name: &'static str,
    need: Needs,
    has: fn(&Reading) -> bool,
    specs: fn(&EngineMap) -> Vec<&MetricSpec>,
    /// The parameter of `engineConfigs` that names the metric.
    parameter: &'static str,
}

const NOTHING: Needs = Needs { queue: false, running: false, kv: false, lora: false, cache: false };

const SIGNALS: [Signal; 5] = [
    Signal {
        name: "requests waiting",
        need: Needs { queue: true, ..NOTHING },
        has: |reading| reading.waiting.is_some(),
        specs: |map| map.queued.iter().collect(),
        parameter: "queuedRequestsSpec",
    },
    Signal {
        name: "requests running",
        need: Needs { running: true, ..NOTHING },
        has: |reading| reading.running.is_some(),
        specs: |map| map.running.iter().collect(),
        parameter: "runningRequestsSpec",
    },
    Signal {
        name: "KV-cache use",
        need: Needs { kv: true, ..NOTHING },
        has: |reading| reading.kv_usage.is_some(),
        specs: |map| map.kv_usage.iter().collect(),
        parameter: "kvUsageSpec",
    },
    Signal {
        name: "LoRA adapters",
        need: Needs { lora: true, ..NOTHING },
        has: |reading| reading.lora.is_some(),
        specs: |map| map.lora.iter().collect(),
        parameter: "loraSpec",
    },
    Signal {
        name: "block size and cache size",
        need: Needs { cache: true, ..NOTHING },
        has: |reading| reading.block_size.is_some_and(|n| n > 0) && reading.num_blocks.is_some(),
        specs: |map| {
            [&map.cache_info, &map.block_size, &map.num_blocks].into_iter().flatten().collect()
        },
        parameter: "cacheInfoSpec",
    },
];

/// What is looked for on a page.
pub(super) struct Wanted<'a> {
    pub engines: &'a EngineMaps,
    pub map: &'a EngineMap,
    pub needs: Needs,
    pub readers: &'a [SignalReader],
    /// The endpoint serves adapters; else it need not tell of any.
    pub serves_adapters: bool,
}

/// What the page says, and what is missing on it.
pub(super) fn read(page: &[u8], wanted: &Wanted<'_>) -> (Cache, Vec<Finding>) {
    let map = EngineMap { custom: Vec::new(), ..wanted.map.clone() };
    let one = |need: Needs| Plan::new(&map, need).read(page, &mut Layout::default());
    let geometry = one(SIGNALS[4].need);
    let cache = Cache {
        block_size: geometry.block_size.filter(|&n| n > 0),
        num_blocks: geometry.num_blocks.filter(|&n| n > 0),
        prefix_caching: engine::prefix_caching(&map, page),
    };
    let problem = |check, what| Finding::problem(Subject::Endpoints, check, what);
    if let Some(other) = speaks_for(page, wanted) {
        let what = format!("is taken for {}, and its metrics are {other}'s", map.name);
        let finding = problem("engine", what)
            .why("none of its signals is read: scorers guess")
            .change(format!(
                "label the pod llm-d.ai/engine-type={other}, or give core-metrics-extractor \
                 {{defaultEngine: {other}}}"
            ));
        return (cache, vec![finding]);
    }
    let mut found = Vec::new();
    let mut told = Vec::new();
    for signal in &SIGNALS {
        let readers = readers(wanted, signal);
        if readers.is_empty() || (signal.need.lora && !wanted.serves_adapters) {
            continue;
        }
        let specs = (signal.specs)(&map);
        if specs.is_empty() {
            let what = format!("is a {} engine, which has no metric for {}", map.name, signal.name);
            found.push(
                Finding::note(Subject::Endpoints, "signal", what)
                    .why(format!("read by {}", readers.join(", ")))
                    .change(format!("core-metrics-extractor engineConfigs: {}", signal.parameter)),
            );
            continue;
        }
        let reading = one(signal.need);
        if (signal.has)(&reading) {
            told.push(signal.name);
            continue;
        }
        let how = reading.problems.first().map_or(ProblemKind::Missing, |problem| problem.kind);
        let metrics: Vec<String> = specs.iter().map(|spec| spec.to_string()).collect();
        let what = format!("does not tell its {}: {} {how}", signal.name, metrics.join(", "));
        found.push(
            problem("signal", what)
                .why(format!("read by {}, which guess where it is missing", readers.join(", ")))
                .change(format!(
                    "the engine's version and flags (vLLM: not --disable-log-stats), or \
                     core-metrics-extractor engineConfigs: {}",
                    signal.parameter
                )),
        );
    }
    for metric in &wanted.map.custom {
        let only = EngineMap { custom: vec![metric.clone()], ..EngineMap::default() };
        let reading = Plan::new(&only, NOTHING).read(page, &mut Layout::default());
        if let Some(trouble) = reading.problems.first() {
            let what = format!("custom metric {} {}", metric.spec, trouble.kind);
            found.push(
                problem("signal", what)
                    .why("the attribute that is made of it is missing")
                    .change("core-metrics-extractor engineConfigs: customMetrics"),
            );
        }
    }
    if found.is_empty() && !told.is_empty() {
        let what = format!("tells {} ({})", told.join(", "), map.name);
        found.push(Finding::ok(Subject::Endpoints, "signal", what));
    }
    (cache, found)
}

/// The plugins that read a signal; the pool's averages are made of three of them.
fn readers<'a>(wanted: &Wanted<'a>, signal: &Signal) -> Vec<&'a str> {
    let overlap = |reads: Needs| {
        (reads.queue && signal.need.queue)
            || (reads.running && signal.need.running)
            || (reads.kv && signal.need.kv)
            || (reads.lora && signal.need.lora)
            || (reads.cache && signal.need.cache)
    };
    let plugins = wanted.readers.iter().filter(|reader| overlap(reader.reads));
    let plugins: Vec<&str> = plugins.map(|reader| reader.plugin.as_str()).collect();
    match plugins.is_empty() && overlap(wanted.needs) {
        true => vec!["the metrics of the pool"],
        false => plugins,
    }
}

/// The engine whose metrics these are, where nothing of the one it is taken for is there.
fn speaks_for<'a>(page: &[u8], wanted: &Wanted<'a>) -> Option<&'a str> {
    let speaks = |map: &EngineMap| {
        let needs = Needs { queue: true, running: true, kv: true, ..NOTHING };
        let map = EngineMap { custom: Vec::new(), ..map.clone() };
        let reading = Plan::new(&map, needs).read(page, &mut Layout::default());
        reading.waiting.is_some() || reading.running.is_some() || reading.kv_usage.is_some()
    };
    if speaks(wanted.map) {
        return None;
    }
    wanted.engines.engines.iter().find(|map| speaks(map)).map(|map| map.name.as_str())
}
