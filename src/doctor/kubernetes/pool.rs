use kube::api::DynamicObject;
use serde_json::Value;

use super::{Cluster, SUBJECT, texts, unread};
use crate::doctor::{Finding, Report};

/// The groups that have the kind, with their versions: the one that counts where both have it first.
const GROUPS: [(&str, &str); 2] =
    [("inference.networking.k8s.io", "v1"), ("inference.networking.x-k8s.io", "v1alpha2")];
const KIND: &str = "InferencePool";

/// What a pool says, as far as it was found.
pub(super) struct FoundPool {
    pub name: String,
    pub group: &'static str,
    /// In the API server's notation; `None` where it selects nothing of use.
    pub selector: Option<String>,
    pub ports: Vec<u16>,
    /// By which gateways find the picker.
    pub picker: Option<PickerRef>,
}

/// Where gateways find the picker.
pub(super) struct PickerRef {
    /// The field that it stands in.
    pub field: &'static str,
    pub kind: String,
    pub name: String,
    pub port: u16,
    pub failure_mode: String,
}

/// Looks for the pool in the groups that it may be in.
pub(super) async fn look(
    cluster: &Cluster,
    name: &str,
    wanted: Option<&str>,
    report: &Report,
) -> Option<FoundPool> {
    let mut found: Vec<(&'static str, DynamicObject)> = Vec::new();
    let mut missing = Vec::new();
    for (group, version) in GROUPS {
        match cluster.api(group, version, KIND).get(name).await {
            Ok(object) => found.push((group, object)),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                // The answer for a kind that nobody serves names no object.
                let has_kind = status.details.as_ref().is_some_and(|d| d.name == name);
                missing.push(match has_kind {
                    true => format!("{group} has no pool '{name}'"),
                    false => format!("{group}: the cluster has no such kind"),
                });
            }
            Err(error) => {
                report.add(unread("pool", &format!("{KIND} {name} of {group}"), &error));
            }
        }
    }
    let is_wanted = |group: &str| wanted.is_none_or(|wanted| wanted == group);
    let others: Vec<&str> =
        found.iter().map(|(group, _)| *group).filter(|group| !is_wanted(group)).collect();
    let Some((group, object)) = found.iter().find(|(group, _)| is_wanted(group)) else {
        if let [other, ..] = others[..] {
            let what = format!("{KIND} {name} is in {other}, and not in the group asked for");
            report.add(
                Finding::problem(SUBJECT, "pool", what)
                    .why("epp finds no pool: it is never ready")
                    .change(format!("--pool-group={other}, or none")),
            );
        } else if !missing.is_empty() {
            let namespace = &cluster.namespace;
            let what =
                format!("no {KIND} '{name}' in namespace {namespace}: {}", missing.join("; "));
            report.add(
                Finding::problem(SUBJECT, "pool", what)
                    .why("epp finds no pool: it is never ready")
                    .change(
                        "--pool-name, --pool-namespace, or the CRDs of the inference extension",
                    ),
            );
        }
        return None;
    };
    if found.len() > 1 && wanted.is_none() {
        let what = format!("{KIND} {name} is in both groups; {group} is used");
        report.add(
            Finding::note(SUBJECT, "pool", what)
                .why("gateways may go by the other one")
                .change("delete the older one, or --pool-group"),
        );
    }
    Some(read(name, group, &object.data["spec"], object, report))
}

fn read(
    name: &str,
    group: &'static str,
    spec: &Value,
    object: &DynamicObject,
    report: &Report,
) -> FoundPool {
    let problem = |what: String, why: &str, change: &str| {
        let about = format!("{KIND} {name}");
        report.add(
            Finding::problem(SUBJECT, "pool", what).about(about).why(why).change(change.to_owned()),
        );
    };
    if object.metadata.deletion_timestamp.is_some() {
        problem("is being deleted".into(), "it counts as gone: every request gets 503", "");
    }
    let is_first = group == GROUPS[0].0;
    let labels = if is_first { &spec["selector"]["matchLabels"] } else { &spec["selector"] };
    let labels: Vec<String> = texts(labels).iter().map(|(k, v)| format!("{k}={v}")).collect();
    if labels.is_empty() {
        problem("selects nothing".into(), "it has no endpoints", "spec.selector");
    }
    let numbers: Vec<&Value> = match is_first {
        true => {
            spec["targetPorts"].as_array().into_iter().flatten().map(|p| &p["number"]).collect()
        }
        false => vec![&spec["targetPortNumber"]],
    };
    let port = |number: &&Value| u16::try_from(number.as_u64()?).ok().filter(|port| *port > 0);
    let ports: Vec<u16> = numbers.iter().filter_map(port).collect();
    if ports.is_empty() {
        problem("names no port".into(), "it has no endpoints", "spec.targetPorts");
    }
    let field = if is_first { "endpointPickerRef" } else { "extensionRef" };
    let reference = Some(&spec[field]).filter(|reference| reference.is_object());
    let picker = reference.map(|reference| {
        let port = if is_first { &reference["port"]["number"] } else { &reference["portNumber"] };
        PickerRef {
            field,
            kind: reference["kind"].as_str().unwrap_or("Service").to_owned(),
            name: reference["name"].as_str().unwrap_or_default().to_owned(),
            // What gateways take where it is not said.
            port: port.as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(9002),
            failure_mode: reference["failureMode"].as_str().unwrap_or("FailClose").to_owned(),
        }
    });
    let is_usable = !labels.is_empty() && !ports.is_empty();
    if is_usable {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let what = format!("selects {} at port {} ({group})", labels.join(","), ports.join(", "));
        report.add(Finding::ok(SUBJECT, "pool", what).about(format!("{KIND} {name}")));
    }
    FoundPool {
        name: name.to_owned(),
        group,
        selector: is_usable.then(|| labels.join(",")),
        ports,
        picker,
    }
}
