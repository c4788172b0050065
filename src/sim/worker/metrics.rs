//! What a worker shows under `/metrics`: names, labels and buckets of vLLM 0.32.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use super::fault::MetricsFault;
use crate::sim::Nanos;
use crate::sim::{Engine, EngineConfig};

const TTFT_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const ITL_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const E2E_BUCKETS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];

/// The metrics of one worker. The engine's task writes, scrapes read.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    padding: String,
    running: IntGauge,
    waiting: IntGauge,
    kv_usage: Gauge,
    prefix_queries: IntCounter,
    prefix_hits: IntCounter,
    cached_tokens: IntCounter,
    external_queries: IntCounter,
    external_hits: IntCounter,
    by_source: [IntCounter; 3],
    remote_prefills: IntCounterVec,
    preemptions: IntCounter,
    prompt_tokens: IntCounter,
    generation_tokens: IntCounter,
    success: IntCounterVec,
    ttft: Histogram,
    itl: Histogram,
    e2e: Histogram,
    lora: Option<Lora>,
    /// The page shown in the place of the true one.
    misled: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Lora {
    names: Vec<String>,
    max: String,
    info: GaugeVec,
    /// The running and the waiting adapters last shown.
    shown: Mutex<Option<(String, String)>>,
}

/// Makes metrics with vLLM's labels and registers them.
struct Maker<'a> {
    registry: Registry,
    model: &'a str,
}

impl Maker<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("vllm:{name}"), help)
            .const_label("engine", "0")
            .const_label("model_name", self.model)
    }

    fn add<C: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let collector = made?;
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::with_opts(self.opts(name, help)))
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::with_opts(self.opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let opts = HistogramOpts { common_opts: self.opts(name, help), buckets: buckets.to_vec() };
        self.add(Histogram::with_opts(opts))
    }
}

impl Metrics {
    /// `padding` is the size in bytes up to which the page is filled with series that nobody
    /// needs, as a real server's page is full of them. Fails where `model` or an adapter cannot
    /// stand in a label.
    pub(super) fn new(
        model: &str,
        loras: &[String],
        config: &EngineConfig,
        padding: usize,
    ) -> prometheus::Result<Self> {
        let make = Maker { registry: Registry::new(), model };
        let cache = make.opts("cache_config_info", "Information of the LLMEngine CacheConfig");
        let cache = cache
            .const_label("block_size", config.block_size.to_string())
            .const_label("num_gpu_blocks", config.num_blocks.to_string())
            .const_label(
                "enable_prefix_caching",
                if config.prefix_caching { "True" } else { "False" },
            );
        make.add(Gauge::with_opts(cache))?.set(1.0);
        let success = Opts { ..make.opts("request_success_total", "Requests that ended") };
        let success = make.add(IntCounterVec::new(success, &["finished_reason"]))?;
        for reason in ["stop", "length", "abort", "error", "repetition"] {
            success.with_label_values(&[reason]);
        }
        let by_source = make.opts("prompt_tokens_by_source_total", "Prompt tokens by source");
        let by_source = make.add(IntCounterVec::new(by_source, &["source"]))?;
        let by_source = ["local_compute", "local_cache_hit", "external_kv_transfer"]
            .map(|source| by_source.with_label_values(&[source]));
        // No real server has this one.
        let remote = Opts::new("sim:remote_prefill_total", "Prompts asked of prefill workers");
        let remote_prefills = make.add(IntCounterVec::new(remote, &["result"]))?;
        for result in ["ok", "error", "unreachable"] {
            remote_prefills.with_label_values(&[result]);
        }
        let lora = if loras.is_empty() {
            None
        } else {
            let info = Opts::new("vllm:lora_requests_info", "Running stats on lora requests");
            let labels = ["max_lora", "waiting_lora_adapters", "running_lora_adapters"];
            Some(Lora {
                names: loras.to_vec(),
                max: config.max_loras.to_string(),
                info: make.add(GaugeVec::new(info, &labels))?,
                shown: Mutex::new(None),
            })
        };
        let mut metrics = Self {
            running: make.gauge("num_requests_running", "Requests in model execution batches")?,
            waiting: make.gauge("num_requests_waiting", "Requests waiting to be processed")?,
            kv_usage: make.add(Gauge::with_opts(
                make.opts("kv_cache_usage_perc", "KV-cache usage; 1 means 100 percent"),
            ))?,
            prefix_queries: make
                .counter("prefix_cache_queries_total", "Prompt tokens looked up in the cache")?,
            prefix_hits: make
                .counter("prefix_cache_hits_total", "Prompt tokens found in the cache")?,
            external_queries: make.counter(
                "external_prefix_cache_queries_total",
                "Prompt tokens asked of other engines",
            )?,
            external_hits: make.counter(
                "external_prefix_cache_hits_total",
                "Prompt tokens received from other engines",
            )?,
            by_source,
            remote_prefills,
            misled: Mutex::new(None),
            cached_tokens: make.counter("prompt_tokens_cached_total", "Cached prompt tokens")?,
            preemptions: make.counter("num_preemptions_total", "Preemptions")?,
            prompt_tokens: make.counter("prompt_tokens_total", "Prefill tokens processed")?,
            generation_tokens: make
                .counter("generation_tokens_total", "Generation tokens processed")?,
            ttft: make.histogram(
                "time_to_first_token_seconds",
                "Time to first token in seconds",
                TTFT_BUCKETS,
            )?,
            itl: make.histogram(
                "inter_token_latency_seconds",
                "Inter-token latency in seconds",
                ITL_BUCKETS,
            )?,
            e2e: make.histogram(
                "e2e_request_latency_seconds",
                "Request latency in seconds",
                E2E_BUCKETS,
            )?,
            success,
            lora,
            padding: String::new(),
            registry: make.registry,
        };
        let page = metrics.page()?.len();
        metrics.padding = filler(padding.saturating_sub(page));
        Ok(metrics)
    }

    /// The page in Prometheus' text format, or what is shown in its place.
    pub(super) fn page(&self) -> prometheus::Result<String> {
        let misled = self.misled.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        misled.map_or_else(|| self.true_page(), Ok)
    }

    /// Shows something else than the truth from now on, or the truth again.
    pub(super) fn mislead(&self, fault: Option<MetricsFault>) {
        let page = match fault {
            Some(MetricsFault::Frozen) => self.true_page().ok(),
            Some(MetricsFault::Idle) => self.true_page().ok().map(|page| idle(&page)),
            Some(MetricsFault::Missing | MetricsFault::Hang) | None => None,
        };
        *self.misled.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = page;
    }

    /// Counts a prompt that a prefill worker was asked for.
    pub(super) fn remote_prefill(&self, result: &str) {
        self.remote_prefills.with_label_values(&[result]).inc();
    }

    fn true_page(&self) -> prometheus::Result<String> {
        let mut page = Vec::with_capacity(self.padding.len() + 16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        let page = String::from_utf8(page).map_err(|e| prometheus::Error::Msg(e.to_string()))?;
        Ok(page + &self.padding)
    }

    pub(super) fn first_token(&self, after: Nanos) {
        self.ttft.observe(seconds(after));
    }

    pub(super) fn next_token(&self, after: Nanos) {
        self.itl.observe(seconds(after));
    }

    pub(super) fn finished(&self, reason: &str, after: Nanos) {
        self.e2e.observe(seconds(after));
        self.success.with_label_values(&[reason]).inc();
    }

    pub(super) fn aborted(&self) {
        self.success.with_label_values(&["abort"]).inc();
    }

    /// Brings gauges and counters to the engine's; called by its task alone.
    pub(super) fn update(&self, engine: &Engine) {
        let stats = engine.stats();
        self.running.set(i64::from(stats.running));
        self.waiting.set(i64::from(stats.waiting));
        self.kv_usage.set(stats.kv_usage);
        let totals = stats.totals;
        let [local_compute, local_cache_hit, external_transfer] = &self.by_source;
        for (counter, total) in [
            (&self.prefix_queries, totals.prefix_queries),
            (&self.prefix_hits, totals.prefix_hits),
            (&self.cached_tokens, totals.cached_tokens),
            (&self.external_queries, totals.received_tokens),
            (&self.external_hits, totals.received_tokens),
            (local_compute, totals.prompt_tokens - totals.cached_tokens - totals.received_tokens),
            (local_cache_hit, totals.cached_tokens),
            (external_transfer, totals.received_tokens),
            (&self.preemptions, totals.preemptions),
            (&self.prompt_tokens, totals.prompt_tokens),
            (&self.generation_tokens, totals.generated_tokens),
        ] {
            counter.inc_by(total - counter.get());
        }
        if let Some(lora) = &self.lora {
            lora.update(engine);
        }
    }
}

impl Lora {
    fn update(&self, engine: &Engine) {
        let join = |adapters: &mut dyn Iterator<Item = u32>| {
            let names: Vec<&str> =
                adapters.filter_map(|i| self.names.get(i as usize)).map(String::as_str).collect();
            names.join(",")
        };
        let now = (
            join(&mut engine.running_adapters()),
            join(&mut engine.waiting_adapters().into_iter()),
        );
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if shown.as_ref() != Some(&now) {
            self.info.reset();
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let labels = [self.max.as_str(), &now.1, &now.0];
            self.info.with_label_values(&labels).set(time.as_secs_f64());
            *shown = Some(now);
        }
    }
}

/// The page of an engine without work: the gauges of load say 0.
fn idle(page: &str) -> String {
    let load = ["num_requests_running{", "num_requests_waiting{", "kv_cache_usage_perc{"];
    let mut idle = String::with_capacity(page.len());
    for line in page.lines() {
        let is_load =
            line.strip_prefix("vllm:").is_some_and(|l| load.iter().any(|g| l.starts_with(g)));
        match line.rsplit_once(' ') {
            Some((series, _)) if is_load => idle.extend([series, " 0"]),
            _ => idle.push_str(line),
        }
        idle.push('\n');
    }
    idle
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// Series of the kind that make a real page long, `bytes` of them.
fn filler(bytes: usize) -> String {
    let name = "vllm:request_params_max_tokens";
    let mut filler = String::with_capacity(bytes + 128);
    let mut bound = 1_u64;
    while filler.len() < bytes {
        if filler.is_empty() {
            filler = format!("# TYPE {name} histogram\n");
        }
        // Writing to a string does not fail.
        let _ = writeln!(filler, "{name}_bucket{{engine=\"0\",le=\"{bound}.0\"}} 0.0");
        bound += 1;
    }
    filler
}
