//! One turn: a contender, fresh, against engines with nothing to do, for as long as asked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::client::{self, Target};
use super::contender::{Contender, Router};
use super::engines::{Counters, Engines};
use super::picker::Picker;
use super::tally::Tally;
use super::{ClusterArgs, Percentiles, trouble};
use crate::bench::envoy::{EnvoyConfig, STANDALONE};
use crate::bench::process;
use crate::bench::programs::{Folder, Program, find_envoy, find_ours, free_ports};
use crate::bench::replay::faults;
use crate::bench::trace::Trace;

/// The programs that turns need, found before the first begins.
#[derive(Debug)]
pub(super) struct Binaries {
    envoy: PathBuf,
    epp: Option<PathBuf>,
}

impl Binaries {
    /// # Errors
    /// Where one is not to be found, with a text that says how to name it.
    pub(super) fn find(args: &ClusterArgs, contenders: &[Contender]) -> Result<Self, String> {
        let ours_runs = contenders.iter().any(|c| matches!(c.router, Router::Epp { .. }));
        Ok(Self {
            envoy: find_envoy(args.envoy.as_deref())?,
            epp: if ours_runs { Some(find_ours(args.epp.as_deref(), "epp")?) } else { None },
        })
    }
}

/// What clients saw in a turn.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    pub contender: String,
    /// From 1.
    pub turn: u32,
    pub seconds: f64,
    pub answered: u64,
    pub failed: u64,
    pub errors: BTreeMap<String, u64>,
    /// Requests asked while a fault had been in force for a second, and those of them that failed.
    pub asked_in_fault: u64,
    pub failed_in_fault: u64,
    /// Of all that was asked, the share that was answered within the goal.
    pub good_share: f64,
    pub ttft: Percentiles,
    pub itl: Percentiles,
    pub e2e: Percentiles,
    pub output_tokens_per_second: f64,
    /// By what engines reported in `usage`.
    pub hit_rate: f64,
    /// Answers by endpoint.
    pub endpoints: BTreeMap<String, u64>,
    pub largest_to_mean: f64,
    pub picker_cpu_us_per_request: Option<f64>,
    pub envoy_cpu_us_per_request: Option<f64>,
    /// Resident at the end of the turn.
    pub picker_bytes: Option<u64>,
    /// What the engines counted meanwhile.
    pub engines: Option<Counters>,
}

/// A gateway and what guides it.
struct Gateway {
    target: Target,
    picker: Option<Picker>,
    envoy: Program,
    _folder: Folder,
}

impl Gateway {
    async fn start(
        binaries: &Binaries,
        contender: &Contender,
        engines: &Engines,
        args: &ClusterArgs,
    ) -> Result<Self, String> {
        let folder = Folder::make()?;
        let endpoints = &engines.addresses;
        let picker = match (&contender.router, &binaries.epp) {
            (Router::Envoy(_), _) | (Router::Epp { .. }, None) => None,
            (Router::Epp { config }, Some(epp)) => {
                Some(Picker::epp(epp, config.as_deref(), endpoints, &folder, args).await?)
            }
            (Router::Other { binary, config }, _) => {
                Some(Picker::other(binary, config, endpoints, &folder).await?)
            }
        };
        let addresses: Vec<SocketAddr> = endpoints
            .iter()
            .map(|endpoint| endpoint.parse().map_err(|e| format!("{endpoint}: {e}")))
            .collect::<Result<_, String>>()?;
        let [gateway, admin] = free_ports()?;
        let config = EnvoyConfig::new(STANDALONE, gateway, admin)?.telling_endpoint()?;
        let config = match (&contender.router, &picker) {
            (Router::Envoy(balancing), _) => {
                config.asking_nobody()?.serving(&addresses, balancing.policy())?
            }
            // Not every picker serves TLS in the same way: all of them are asked without.
            (_, Some(picker)) => {
                config.asking(SocketAddr::from((Ipv4Addr::LOCALHOST, picker.port)), false)?
            }
            (_, None) => return Err("no epp to run".into()),
        };
        let envoy = config.start(&binaries.envoy, args.envoy_threads, &folder).await?;
        let target =
            Target { gateway: format!("127.0.0.1:{gateway}"), model: engines.model.clone() };
        target.warm_up().await?;
        Ok(Self { target, picker, envoy, _folder: folder })
    }

    fn usage(&self) -> [Option<process::Usage>; 2] {
        let picker = self.picker.as_ref().and_then(|picker| process::usage(picker.program.id()));
        [picker, process::usage(self.envoy.id())]
    }
}

/// Plays one turn.
///
/// # Errors
/// Where a program does not serve or an engine does not answer, with a text for the user.
pub(super) async fn play(
    binaries: &Binaries,
    (contender, turn): (&Contender, u32),
    engines: &Engines,
    trace: &Trace,
    args: &ClusterArgs,
    bar: &ProgressBar,
) -> Result<Figures, String> {
    engines.heal().await?;
    let mut gateway = Gateway::start(binaries, contender, engines, args).await?;
    engines.idle().await?;
    if args.resets_caches() {
        engines.reset_caches().await?;
    }
    let (counted, used) = (engines.counters().await?, gateway.usage());
    let begin = Instant::now();
    let faults = faults::by_worker(&args.fault);
    let tally = {
        let _trouble = trouble::begin(&faults, &engines.workers);
        client::drive(&gateway.target, trace, args, &faults, bar).await?
    };
    let seconds = begin.elapsed().as_secs_f64();
    let now = gateway.usage();
    if let (Some(_), Some(picker)) = (&args.record, &mut gateway.picker) {
        // So that the last requests are in the recording too.
        picker.program.end();
    }
    let cpu = |i: usize| {
        let spent = now[i]?.cpu.saturating_sub(used[i]?.cpu);
        Some(spent.as_secs_f64() * 1e6 / tally.answered().max(1) as f64)
    };
    let [picker_cpu, envoy_cpu] = [cpu(0), cpu(1)];
    let engines_counted =
        counted.zip(engines.counters().await?).map(|(before, after)| after.since(before));
    Ok(Figures {
        contender: contender.name.clone(),
        turn,
        picker_cpu_us_per_request: picker_cpu,
        envoy_cpu_us_per_request: envoy_cpu,
        picker_bytes: now[0].map(|usage| usage.resident),
        engines: engines_counted,
        ..figures(tally, seconds, engines.addresses.len())
    })
}

/// What the clients' tally comes to, with `endpoints` to choose from.
fn figures(tally: Tally, seconds: f64, endpoints: usize) -> Figures {
    let largest = tally.endpoints.values().copied().max().unwrap_or(0);
    let answered = tally.answered();
    let failed: u64 = tally.errors.values().sum();
    Figures {
        seconds,
        answered,
        failed,
        asked_in_fault: tally.asked_in_fault,
        failed_in_fault: tally.failed_in_fault,
        good_share: tally.good as f64 / (answered + failed).max(1) as f64,
        ttft: tally.ttft.summary(),
        itl: tally.itl.summary(),
        e2e: tally.e2e.summary(),
        output_tokens_per_second: tally.output_tokens as f64 / seconds.max(f64::MIN_POSITIVE),
        hit_rate: tally.cached_tokens as f64 / (tally.prompt_tokens as f64).max(1.0),
        largest_to_mean: largest as f64 * endpoints as f64 / answered.max(1) as f64,
        endpoints: tally.endpoints,
        errors: tally.errors,
        ..Figures::default()
    }
}
