//! The engines that serve: simulated ones of our own, or some that exist.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ClusterArgs;
use super::worker_program::WorkerProgram;
use crate::bench::engine_api::{page_of, post, served_models};
use crate::bench::programs::{Folder, find_ours};
use crate::datalayer::exposition::FamilyName;

/// What the simulated engines call their model.
const MODEL: &str = "m";
/// How long engines may still work on what was asked of them before a turn.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where requests are served.
#[derive(Debug)]
pub(super) struct Engines {
    /// `ip:port` of each.
    pub(super) addresses: Vec<String>,
    pub(super) model: String,
    /// The simulated ones, by the processes they run in.
    pub(super) workers: Vec<Arc<Mutex<WorkerProgram>>>,
}

/// Counters of all engines together, as vLLM names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub prompt_tokens: f64,
    pub generation_tokens: f64,
    /// Tokens looked up in the prefix cache; vLLM counts a preempted request again.
    pub prefix_cache_queries: f64,
    pub prefix_cache_hits: f64,
    pub preemptions: f64,
}

impl Counters {
    /// What was counted since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens - before.prompt_tokens,
            generation_tokens: self.generation_tokens - before.generation_tokens,
            prefix_cache_queries: self.prefix_cache_queries - before.prefix_cache_queries,
            prefix_cache_hits: self.prefix_cache_hits - before.prefix_cache_hits,
            preemptions: self.preemptions - before.preemptions,
        }
    }
}

impl Engines {
    /// Those that are named; else simulated ones are started.
    ///
    /// # Errors
    /// Where one cannot be reached or does not start.
    pub(super) async fn find(args: &ClusterArgs, folder: &Folder) -> Result<Self, String> {
        if args.endpoints.is_empty() {
            return simulated(args, folder);
        }
        let mut addresses = Vec::new();
        for endpoint in &args.endpoints {
            let wrong = |why: &dyn std::fmt::Display| format!("--endpoints: {endpoint}: {why}");
            let mut found = endpoint.to_socket_addrs().map_err(|e| wrong(&e))?;
            addresses.push(found.next().ok_or_else(|| wrong(&"has no address"))?.to_string());
        }
        let model = match &args.model {
            Some(model) => model.clone(),
            None => {
                let listed = served_models(&format!("http://{}", addresses[0])).await?;
                let first = listed.into_iter().next().map(|model| model.id);
                let unsaid = || format!("{} lists no model: name it with --model", addresses[0]);
                first.ok_or_else(unsaid)?
            }
        };
        Ok(Self { addresses, model, workers: Vec::new() })
    }

    /// Ends what faults of a turn before did, where engines are of our own.
    ///
    /// # Errors
    /// Where one does not serve again.
    pub(super) async fn heal(&self) -> Result<(), String> {
        for worker in &self.workers {
            let address = {
                let mut worker = worker.lock();
                if !worker.is_running() {
                    worker.restart()?;
                }
                worker.address.clone()
            };
            let end = Instant::now() + PATIENCE;
            let url = format!("http://{address}/sim/fault");
            while post(&url, "{}".to_owned()).await.map(|(status, _)| status) != Ok(200) {
                if Instant::now() > end {
                    return Err(format!("{address} does not serve again"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Empties every engine's prefix cache.
    ///
    /// # Errors
    /// Where one does not do so.
    pub(super) async fn reset_caches(&self) -> Result<(), String> {
        for address in &self.addresses {
            let url = format!("http://{address}/reset_prefix_cache");
            let (status, body) = post(&url, String::new()).await?;
            // Engines of the last years answer 200 with nothing; ours says what came of it.
            if status != 200 || body.contains("false") {
                return Err(format!(
                    "{address} did not empty its cache: HTTP {status} {body} (vLLM serves \
                     /reset_prefix_cache with VLLM_SERVER_DEV_MODE=1)"
                ));
            }
        }
        Ok(())
    }

    /// Waits until no engine works on anything.
    ///
    /// # Errors
    /// Where they go on for longer than anything of ours can take.
    pub(super) async fn idle(&self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut busy = 0.0;
            for address in &self.addresses {
                let text = page_of(&format!("http://{address}/metrics")).await?;
                busy += sum(&text, "vllm:num_requests_running").unwrap_or(0.0)
                    + sum(&text, "vllm:num_requests_waiting").unwrap_or(0.0);
            }
            if busy == 0.0 {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the engines still work on {busy} requests of somebody"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// `None` where an engine counts nothing that we know of.
    ///
    /// # Errors
    /// Where an engine does not answer.
    pub(super) async fn counters(&self) -> Result<Option<Counters>, String> {
        let mut all = Counters::default();
        for address in &self.addresses {
            let text = page_of(&format!("http://{address}/metrics")).await?;
            let Some(prompt_tokens) = sum(&text, "vllm:prompt_tokens_total") else {
                return Ok(None);
            };
            let or_none = |family| sum(&text, family).unwrap_or(0.0);
            all.prompt_tokens += prompt_tokens;
            all.generation_tokens += or_none("vllm:generation_tokens_total");
            all.prefix_cache_queries += or_none("vllm:prefix_cache_queries_total");
            all.prefix_cache_hits += or_none("vllm:prefix_cache_hits_total");
            all.preemptions += or_none("vllm:num_preemptions_total");
        }
        Ok(Some(all))
    }
}

fn sum(text: &str, family: &str) -> Option<f64> {
    let family = FamilyName::new(family).find(text.as_bytes(), 0)?;
    Some(family.samples().flatten().map(|sample| sample.value).sum())
}

/// Starts simulated engines. Those that go wrong have a process each, since some of them are
/// killed.
fn simulated(args: &ClusterArgs, folder: &Folder) -> Result<Engines, String> {
    let binary = find_ours(args.epp_sim.as_deref(), "epp-sim")?;
    let each = if args.fault.is_empty() { args.workers } else { 1 };
    let (mut workers, mut addresses) = (Vec::new(), Vec::new());
    for first in (0..args.workers).step_by(usize::from(each)) {
        let arguments = [
            ["--model", MODEL],
            ["--max-model-len", "1000000"],
            ["--num-blocks", "62500"],
            ["--workers", &each.to_string()],
            ["--profile", &args.profile],
            ["--speed", &args.speed.to_string()],
        ];
        let arguments = arguments.concat().into_iter().map(str::to_owned).collect();
        let name = format!("epp-sim-{first}");
        let (worker, here) = WorkerProgram::start(&binary, arguments, each, folder.log(&name)?)?;
        if here.len() < usize::from(each) {
            let said = folder.last_lines(&name);
            return Err(format!("the simulated engines did not start:\n{said}"));
        }
        workers.push(Arc::new(Mutex::new(worker)));
        addresses.extend(here);
    }
    Ok(Engines { addresses, model: MODEL.into(), workers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_labels() {
        let text = "# TYPE vllm:num_preemptions counter\n\
                    vllm:num_preemptions_total{engine=\"0\"} 2.0\n\
                    vllm:num_preemptions_total{engine=\"1\"} 3.0\n# HELP x\n";
        assert_eq!(sum(text, "vllm:num_preemptions_total"), Some(5.0));
        assert_eq!(sum(text, "vllm:prompt_tokens_total"), None);
    }
}
