//! The Envoy in front: whether it asks the picker as the picker needs it, goes where that says, and
//! gives requests the time they take.

mod cluster;
mod document;
mod filter;
mod path;
mod route;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use super::setup::Setup;
use super::{DoctorOptions, Finding, Report, Severity, Subject};
use crate::cli::EnvoySource;
use crate::console::{AdminAccess, AdminClient};
use crate::files;
use document::Document;

const SUBJECT: Subject = Subject::Envoy;
/// A larger configuration is not read, bytes.
const MAX_FILE: u64 = 32 << 20;

/// What the picker needs of the Envoy in front of it.
#[derive(Clone, Debug)]
struct Needs {
    /// How long a request may wait in a queue; `None`: there is none. Zero: for ever.
    waits: Option<Duration>,
    /// Largest body that is taken, bytes.
    body: u64,
    /// The picker's port speaks TLS; `None` where its flags are not known.
    tls: Option<bool>,
}

/// `setup` is what the picker goes by, where that is known.
pub(super) async fn look(options: &DoctorOptions, setup: Option<&Setup>, report: &Report) {
    if options.envoy.is_empty() || !options.wants(SUBJECT) {
        return;
    }
    let needs = needs(options, setup);
    for source in &options.envoy {
        let (name, read) = match source {
            EnvoySource::File(file) => {
                let read = files::read_text(file, MAX_FILE).map_err(|e| e.to_string());
                (file.display().to_string(), read.and_then(|text| parse(&text)))
            }
            EnvoySource::Admin(address) => (address.clone(), dumped(address).await),
        };
        match read {
            Ok(document) => examine(&document, &needs).into_iter().for_each(|f| report.add(f)),
            Err(reason) => report.add(
                Finding::problem(SUBJECT, "read", format!("{name}: {reason}"))
                    .why("nothing is known of the Envoy in front")
                    .change("--envoy-admin is its admin address, --envoy-config a file"),
            ),
        }
    }
}

/// What an Envoy says is its configuration.
async fn dumped(address: &str) -> Result<Value, String> {
    let access = AdminAccess { address: address.into(), token_file: None, insecure: false };
    let client = AdminClient::new(&access).map_err(|e| e.to_string())?;
    client.json("/config_dump").await.map_err(|e| match e {
        crate::console::AskError::Unknown { address } => {
            format!("{address} does not answer with JSON")
        }
        other => other.to_string(),
    })
}

/// A file, JSON or YAML.
///
/// # Errors
/// Why it is neither.
fn parse(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(json) => serde_yaml::from_str(text).map_err(|yaml| {
            let is_json = text.trim_start().starts_with(['{', '[']);
            if is_json { json.to_string() } else { yaml.to_string() }
        }),
    }
}

fn needs(options: &DoctorOptions, setup: Option<&Setup>) -> Needs {
    let serve = &options.serve;
    let queueing = setup.and_then(|setup| setup.pipeline.flow_control.as_ref());
    let knows_flags = options.running.is_none() && options.has_setup();
    Needs {
        waits: queueing.map(|queueing| queueing.default_ttl.unwrap_or_default()),
        body: serve.max_request_body as u64,
        tls: knows_flags.then_some(serve.tls.is_some()),
    }
}

/// Everything there is to say about a configuration.
fn examine(document: &Value, needs: &Needs) -> Vec<Finding> {
    let document = Document::read(document);
    let mut found = Vec::new();
    let asking: Vec<_> =
        document.connections().into_iter().filter(|one| !one.pickers.is_empty()).collect();
    if asking.is_empty() {
        let what = match document.is_empty() {
            true => "there is no listener in it",
            false => "no listener asks a picker: there is no ext_proc filter",
        };
        found.push(
            Finding::problem(SUBJECT, "ext-proc", what)
                .why("requests go wherever Envoy balances them")
                .change("http_filters: envoy.filters.http.ext_proc before the router"),
        );
        return found;
    }
    for connection in &asking {
        for picker in &connection.pickers {
            let about = picker.name(connection);
            let found_here = filter::check(picker, connection, needs);
            let cluster = picker.cluster().and_then(|name| document.cluster(name));
            let of_cluster = cluster::of_picker(picker.cluster(), cluster, needs);
            let well = !found_here
                .iter()
                .chain(&of_cluster)
                .any(|finding| finding.severity == Severity::Problem);
            if well {
                let what = format!("asks the picker: {}", filter::modes(picker));
                found.push(Finding::ok(SUBJECT, "ext-proc", what).about(about.as_str()));
            }
            found.extend(found_here.into_iter().map(|finding| finding.about(about.as_str())));
            found.extend(of_cluster);
        }
        found.extend(route::check(connection, &document, needs));
    }
    // Listeners share clusters and routes.
    let mut distinct: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        if !distinct.contains(&finding) {
            distinct.push(finding);
        }
    }
    distinct
}
