//! What is looked at: a configuration and endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::plugins::Plugin;
use super::{DoctorOptions, Finding, MOMENT, Report, Subject};
use crate::app::Workers;
use crate::cli::{ConfigSource, MAX_CONFIG_BYTES, Options};
use crate::console::{AdminAccess, AdminClient};
use crate::endpoints::{EndpointSpec, Labels, Pool};
use crate::files;
use crate::loader::{LoadOptions, Pipeline, load};
use crate::objectives::Objectives;

const SUBJECT: Subject = Subject::Configuration;
/// How long discovery may take to list the endpoints.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// A configuration and endpoints.
pub(super) struct Setup {
    pub pipeline: Pipeline,
    pub plugins: Vec<Plugin>,
    pub pool: Arc<Pool>,
    /// The `epp` that all of it is of, and what it says of itself.
    pub running: Option<(AdminClient, Value)>,
    /// Keeps the pool filled.
    _workers: Option<Workers>,
}

impl Setup {
    /// As an `epp` with these flags would have it. `None` where that one could not start.
    pub(super) async fn of_flags(options: &DoctorOptions, report: &Report) -> Option<Self> {
        let serve = &options.serve;
        for warning in &serve.warnings {
            report.add(Finding::note(SUBJECT, "flags", warning));
        }
        let pool = Arc::new(Pool::new());
        let (pipeline, name) = read(serve, &pool, report)?;
        let has_source = serve.workers != crate::cli::WorkerSource::Configured;
        if !has_source && pipeline.discovery.is_none() {
            report.add(
                Finding::problem(SUBJECT, "no-endpoints", format!("{name} names no endpoints"))
                    .why("epp does not start without")
                    .change("--endpoints, --pool-name, --endpoint-selector, or file-discovery"),
            );
            return None;
        }
        let objectives = Arc::new(Objectives::default());
        let started = Workers::start(serve, pipeline.discovery.clone(), &pool, &objectives).await;
        let workers = match started {
            Ok(workers) => workers,
            Err(exit) => {
                let text = exit.text.trim().trim_start_matches("epp: ");
                report.add(Finding::problem(SUBJECT, "endpoints", text.replace('\n', "; ")));
                return None;
            }
        };
        listed(&pool).await;
        let setup = Self::new(pipeline, pool, None, Some(workers), report)?;
        setup.tell_size(report);
        Some(setup)
    }

    /// As a running `epp` has it.
    pub(super) async fn of_running(
        access: &AdminAccess,
        options: &DoctorOptions,
        report: &Report,
    ) -> Option<Self> {
        let told = async {
            let client = AdminClient::new(access)?;
            let (config, state, endpoints) = tokio::try_join!(
                client.json("/debug/config"),
                client.json("/debug/state"),
                client.json("/debug/endpoints")
            )?;
            Ok::<_, crate::console::AskError>((client, config, state, endpoints))
        };
        let (client, config, state, endpoints) = match told.await {
            Ok(told) => told,
            Err(e) => {
                report.add(
                    Finding::problem(Subject::Running, "admin", e.to_string())
                        .why("nothing can be learnt from it")
                        .change("--admin is its metrics port, --admin-token-file opens it"),
                );
                return None;
            }
        };
        let text: String = config["lines"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|line| line["text"].as_str())
            .flat_map(|line| [line, "\n"])
            .collect();
        let pool = Arc::new(Pool::new());
        // It runs: what it was allowed is not ours to forbid.
        let load_options =
            LoadOptions { allow_experimental_plugins: true, ..options.serve.load.clone() };
        let (pipeline, diagnostics) =
            load("its configuration", Some(&text), &load_options, pool.ids());
        let Some(pipeline) = pipeline else {
            report.add(
                Finding::problem(SUBJECT, "version", diagnostics.to_string().replace('\n', "; "))
                    .why("the running epp is of another version")
                    .change("use the epp doctor of its image"),
            );
            return None;
        };
        if let ConfigSource::File(_) | ConfigSource::Text(_) = &options.serve.config {
            compare(&options.serve, &text, report);
        }
        pool.replace(specs(&endpoints));
        pool.set_synced(true);
        let setup = Self::new(pipeline, pool, Some((client, state)), None, report)?;
        setup.tell_size(report);
        Some(setup)
    }

    fn new(
        pipeline: Pipeline,
        pool: Arc<Pool>,
        running: Option<(AdminClient, Value)>,
        workers: Option<Workers>,
        report: &Report,
    ) -> Option<Self> {
        let effective = pipeline.effective.to_yaml().map_err(|e| e.to_string());
        let effective: Result<Value, String> =
            effective.and_then(|text| serde_yaml::from_str(&text).map_err(|e| e.to_string()));
        match effective {
            Ok(effective) => {
                let plugins = Plugin::all(&effective);
                Some(Self { pipeline, plugins, pool, running, _workers: workers })
            }
            Err(e) => {
                report.add(Finding::problem(SUBJECT, "configuration", e));
                None
            }
        }
    }

    fn tell_size(&self, report: &Report) {
        let endpoints = self.pool.snapshot().endpoints.len();
        let (found, why) = match (endpoints, self.pool.is_synced()) {
            (0, true) => ("the pool has no endpoints", "every request gets 503"),
            (0, false) => ("the endpoints are not known yet", "epp is not ready until they are"),
            _ => {
                let what = format!("{endpoints} endpoints; {}", self.pipeline.summary);
                report.add(Finding::ok(SUBJECT, "configuration", what));
                return;
            }
        };
        let change = "the pool's selector and the labels of the pods (see Kubernetes below), the \
                      endpoints file, or --endpoints";
        report.add(Finding::problem(SUBJECT, "no-endpoints", found).why(why).change(change));
    }
}

/// The configuration that the flags name, and what it is called.
fn read(serve: &Options, pool: &Pool, report: &Report) -> Option<(Pipeline, String)> {
    let (name, text) = match text_of(&serve.config) {
        Ok(read) => read,
        Err(what) => {
            report.add(Finding::problem(SUBJECT, "configuration", what).change("--config-file"));
            return None;
        }
    };
    let (pipeline, diagnostics) = load(&name, text.as_deref(), &serve.load, pool.ids());
    for line in diagnostics.to_string().lines() {
        let finding = match pipeline {
            None => Finding::problem(SUBJECT, "configuration", line),
            Some(_) => Finding::note(SUBJECT, "configuration", line),
        };
        report.add(finding);
    }
    Some((pipeline?, name))
}

fn text_of(config: &ConfigSource) -> Result<(String, Option<String>), String> {
    Ok(match config {
        ConfigSource::BuiltIn => ("the built-in configuration".to_owned(), None),
        ConfigSource::Text(text) => ("--config-text".to_owned(), Some(text.clone())),
        ConfigSource::File(file) => {
            let name = file.display().to_string();
            let text = files::read_text(file, MAX_CONFIG_BYTES);
            let text = text.map_err(|e| format!("{name}: {e}"))?;
            (name, Some(text))
        }
    })
}

/// Whether the running one goes by the document that the flags name.
fn compare(serve: &Options, running: &str, report: &Report) {
    let meaning = |text: Option<&str>| {
        let options = LoadOptions { only_checked: true, ..serve.load.clone() };
        let (pipeline, _) = load("", text, &options, Pool::new().ids());
        Some(pipeline?.effective)
    };
    let (name, text) = match text_of(&serve.config) {
        Ok(read) => read,
        Err(what) => {
            report.add(Finding::problem(SUBJECT, "configuration", what).change("--config-file"));
            return;
        }
    };
    report.add(if meaning(text.as_deref()) == meaning(Some(running)) {
        Finding::ok(SUBJECT, "in-force", format!("{name} is what the running epp goes by"))
    } else {
        Finding::problem(SUBJECT, "in-force", format!("{name} is not what the running epp goes by"))
            .why("what was changed there does nothing yet")
            .change("restart epp, or see its log for why it did not take the file up")
    });
}

/// Waits until discovery has listed the endpoints, and names are looked up.
async fn listed(pool: &Pool) {
    let until = Instant::now() + LISTED_WITHIN;
    while Instant::now() < until {
        if pool.is_synced() && !pool.snapshot().endpoints.is_empty() {
            // Pods come one by one.
            let before = pool.snapshot().endpoints.len();
            sleep(MOMENT).await;
            if pool.snapshot().endpoints.len() == before {
                return;
            }
        }
        sleep(MOMENT).await;
    }
}

/// The endpoints as a running `epp` has them.
fn specs(endpoints: &Value) -> Vec<EndpointSpec> {
    let spec = |told: &Value| {
        let (namespace, name) = told["id"].as_str()?.split_once('/')?;
        let address: SocketAddr = told["address"].as_str()?.parse().ok()?;
        let rank = name.rsplit_once("-rank-").and_then(|(_, rank)| rank.parse().ok());
        let labels = told["labels"].as_object().into_iter().flatten();
        let labels: Labels = labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        Some(EndpointSpec {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            pod_name: told["pod"].as_str().unwrap_or(name).to_owned(),
            ip: address.ip(),
            port: address.port(),
            rank: rank.unwrap_or(0),
            uid: String::new(),
            labels,
            placement: Default::default(),
        })
    };
    endpoints["endpoints"].as_array().into_iter().flatten().filter_map(spec).collect()
}
