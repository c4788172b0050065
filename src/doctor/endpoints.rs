//! Whether endpoints answer, what they serve, and whether their metrics are there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::engine::{Cache, Model, Seen, name};
use super::http::{Ask, Failure, Http};
use super::metrics::{self, Wanted};
use super::setup::Setup;
use super::{AT_ONCE, DoctorOptions, Finding, Report, Subject};
use crate::endpoints::Endpoint;
use crate::scrape_config::{PageContent, Scheme, ScrapeConfig};

const SUBJECT: Subject = Subject::Endpoints;

/// How endpoints are asked.
pub(super) struct Asking {
    /// As requests are sent there.
    pub serving: Http,
    pub bearer: Option<String>,
    /// As their metrics are read; `None`: they are not.
    pub scraping: Option<(Http, ScrapeConfig)>,
}

impl Asking {
    /// # Errors
    /// Certificates or a key that cannot be read.
    pub(super) fn new(setup: &Setup, options: &DoctorOptions) -> Result<Self, String> {
        let patience = options.patience;
        let http = |scrape: &ScrapeConfig| match scrape.scheme {
            Scheme::Http => Ok(Http::plain(patience)),
            Scheme::Https => Http::over_tls(scrape, patience),
        };
        let scrape = setup.pipeline.scrape.clone();
        // Metrics at the port that serves are served as requests are.
        let of_models = setup.pipeline.pages.iter().find_map(|page| match page.content {
            PageContent::Models(_) => Some(&page.scrape),
            PageContent::GpuUtilization(_) => None,
        });
        let serving = of_models.or(scrape.as_ref().filter(|scrape| scrape.port.is_none()));
        let read_key = |file| crate::files::read_text(file, 16 * 1024).map_err(|e| e.to_string());
        let key = options.api_key_file.as_deref().map(read_key).transpose();
        Ok(Self {
            serving: serving.map_or_else(|| Ok(Http::plain(patience)), http)?,
            bearer: key?.map(|key| key.trim().to_owned()),
            scraping: match scrape {
                Some(scrape) => Some((http(&scrape)?, scrape)),
                None => None,
            },
        })
    }

    pub(super) fn get<'a>(&'a self, path: &'a str) -> Ask<'a> {
        Ask { bearer: self.bearer.as_deref(), ..Ask::get(path) }
    }
}

/// Looks at all endpoints.
pub(super) async fn look(setup: &Setup, options: &DoctorOptions, report: &Report) -> Vec<Seen> {
    let snapshot = setup.pool.snapshot();
    let asking = match Asking::new(setup, options) {
        Ok(asking) => asking,
        Err(what) => {
            report.add(Finding::problem(SUBJECT, "tls", what).change(
                "--api-key-file, or the certificates that metrics-data-source or \
                 models-data-source name",
            ));
            return Vec::new();
        }
    };
    let one = |endpoint: &Arc<Endpoint>| look_at(endpoint.clone(), &asking, setup, report);
    let work: Vec<_> = snapshot.endpoints.iter().map(one).collect();
    let seen: Vec<Seen> = stream::iter(work).buffered(AT_ONCE).collect().await;
    models(&seen, &options.models, report);
    seen
}

async fn look_at(endpoint: Arc<Endpoint>, asking: &Asking, setup: &Setup, report: &Report) -> Seen {
    let at = SocketAddr::new(endpoint.spec.ip, endpoint.spec.port);
    let name = name(&endpoint);
    let listed = asking.serving.ask(at, &asking.get("/v1/models")).await;
    let mut seen = Seen { endpoint, at, models: None, cache: Cache::default(), answers: true };
    match listed {
        Err(failure) => {
            seen.answers = false;
            report.add(unreachable(&failure).about(&name));
        }
        Ok(answer) if answer.status.is_success() => {
            seen.models = Model::list(&answer.body);
            if seen.models.is_none() {
                let what = format!("answers /v1/models with no list: {}", answer.excerpt());
                let change = "is this the port of the engine? (targetPorts, --endpoints)";
                report.add(
                    Finding::problem(SUBJECT, "models", what)
                        .about(&name)
                        .why("it is no engine that speaks the OpenAI API")
                        .change(change),
                );
            }
        }
        Ok(answer) => {
            let status = answer.status.as_u16();
            let what = format!("answers /v1/models with {}", answer.status);
            let finding = match status {
                401 | 403 => Finding::note(SUBJECT, "models", what)
                    .why("it asks for an API key, so what it serves is not known")
                    .change("--api-key-file"),
                503 => Finding::problem(SUBJECT, "models", what)
                    .why("it is not ready; requests would get the same")
                    .change("the pod's readinessProbe: /health of the engine"),
                _ => Finding::problem(SUBJECT, "models", what)
                    .why("what it serves is not known")
                    .change("is this the port of the engine? (targetPorts, --endpoints)"),
            };
            report.add(finding.about(&name));
        }
    }
    if let Some((http, scrape)) = &asking.scraping {
        seen.cache = metrics_of(&seen, http, scrape, setup, report).await;
    }
    seen
}

fn unreachable(failure: &Failure) -> Finding {
    let change = match failure {
        Failure::Connect(_) => {
            "is the engine up, and does it listen at this port on all addresses (vLLM: --host \
             0.0.0.0 --port)? a NetworkPolicy between here and there?"
        }
        Failure::Silent(_) => "the engine's log: its event loop hangs, or it still loads the model",
        Failure::SpeaksTls => {
            "requests to it need TLS: the gateway's cluster (transport_socket), and here \
             metrics-data-source {scheme: https}"
        }
        Failure::SpeaksPlain => {
            "metrics-data-source or models-data-source {scheme: http}, or --ssl-certfile at the \
             engine"
        }
        Failure::Tls(_) => {
            "insecureSkipVerify or caCertPath of metrics-data-source, or the engine's certificate"
        }
        Failure::NotHttp(_) => "is this the port of the engine? (targetPorts, --endpoints)",
    };
    Finding::problem(SUBJECT, "reachable", failure.to_string())
        .why("requests that are sent there fail, until it is ejected")
        .change(change)
}

/// Reads an endpoint's metrics.
async fn metrics_of(
    seen: &Seen,
    http: &Http,
    scrape: &ScrapeConfig,
    setup: &Setup,
    report: &Report,
) -> Cache {
    let at = SocketAddr::new(seen.at.ip(), scrape.port.unwrap_or(seen.at.port()));
    let name = seen.name();
    let page = http.ask(at, &Ask::get(&scrape.path)).await;
    let why = "its queue and KV-cache use are unknown: scorers that go by them guess";
    let broken = |what: String, change: &str| {
        report.add(Finding::problem(SUBJECT, "metrics", what).about(&name).why(why).change(change));
        Cache::default()
    };
    let answer = match page {
        // Said already.
        Err(_) if !seen.answers && at == seen.at => return Cache::default(),
        Err(failure) => {
            let change = match failure {
                Failure::SpeaksTls => "metrics-data-source {scheme: https}",
                Failure::SpeaksPlain => "metrics-data-source {scheme: http}",
                Failure::Tls(_) => "insecureSkipVerify or caCertPath of metrics-data-source",
                _ => {
                    "metrics-data-source {port, path}, or --model-server-metrics-port and \
                     --model-server-metrics-path; the engine's log where they are right"
                }
            };
            let what = match scrape.port {
                None => format!("does not tell its metrics at {}: it {failure}", scrape.path),
                Some(port) => {
                    format!("does not tell its metrics at {port}{}: it {failure}", scrape.path)
                }
            };
            return broken(what, change);
        }
        Ok(answer) => answer,
    };
    if !answer.status.is_success() {
        return broken(
            format!("answers {} with {}", scrape.path, answer.status),
            "metrics-data-source {path, port}, or --model-server-metrics-path and \
             --model-server-metrics-port; vLLM: not --disable-log-stats",
        );
    }
    if !is_exposition(&answer.body) {
        return broken(
            format!("has no metrics at {}: {}", scrape.path, answer.excerpt()),
            "metrics-data-source {path, port}, or --model-server-metrics-path and \
             --model-server-metrics-port",
        );
    }
    let labels = seen.endpoint.labels();
    let wanted = Wanted {
        engines: &setup.pipeline.engines,
        map: setup.pipeline.engines.for_labels(&labels),
        needs: setup.pipeline.needs,
        readers: &setup.pipeline.readers,
        serves_adapters: seen.models.iter().flatten().any(Model::is_adapter),
    };
    let (cache, found) = metrics::read(&answer.body, &wanted);
    found.into_iter().for_each(|finding| report.add(finding.about(&name)));
    cache
}

/// Whether any line is a sample of the text format.
fn is_exposition(page: &[u8]) -> bool {
    let is_sample = |line: &str| {
        let Some((series, value)) = line.trim_end().rsplit_once(' ') else { return false };
        let name = series.split('{').next().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        !name.is_empty() && name.chars().all(is_name) && value.parse::<f64>().is_ok()
    };
    String::from_utf8_lossy(page).lines().any(is_sample)
}

/// Whether all serve what they should: the models asked for, else what most of them serve.
fn models(seen: &[Seen], asked: &[String], report: &Report) {
    let told: Vec<(&Seen, BTreeSet<&str>)> = seen
        .iter()
        .filter_map(|seen| Some((seen, seen.models.as_ref()?)))
        .map(|(seen, models)| (seen, models.iter().map(|model| model.id.as_str()).collect()))
        .collect();
    let mut servers: BTreeMap<&str, usize> = BTreeMap::new();
    let all = told.iter().flat_map(|(_, models)| models.iter().copied());
    all.for_each(|model| *servers.entry(model).or_default() += 1);
    let expected: BTreeSet<&str> = match asked.is_empty() {
        true => {
            let by_most = servers.iter().filter(|(_, count)| **count * 2 >= told.len());
            by_most.map(|(model, _)| *model).collect()
        }
        false => asked.iter().map(String::as_str).collect(),
    };
    let list = |models: &mut dyn Iterator<Item = &&str>| {
        models.map(|model| (*model).to_owned()).collect::<Vec<String>>().join(", ")
    };
    let why = "epp picks among all endpoints: requests for it get 404 where it is not served";
    let change = "vLLM: --served-model-name, --lora-modules; pools of one model each; or \
                  destination-endpoint-served-verifier and models-data-source";
    for (seen, models) in &told {
        let served = list(&mut models.iter());
        let missing = list(&mut expected.difference(models));
        let alone = list(&mut models.difference(&expected));
        let what = if !missing.is_empty() {
            let others = if asked.is_empty() { ", which most others serve" } else { "" };
            let served = if served.is_empty() { "nothing" } else { &served };
            format!("does not serve {missing}{others}; it serves {served}")
        } else if asked.is_empty() && !alone.is_empty() {
            format!("serves {alone}, which most others do not")
        } else {
            let what = format!("answers, and serves {served}");
            report.add(Finding::ok(SUBJECT, "models", what).about(seen.name()));
            continue;
        };
        let finding = Finding::problem(SUBJECT, "models", what).about(seen.name());
        report.add(finding.why(why).change(change));
    }
}
