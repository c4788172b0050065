use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};

use super::pool::{FoundPool, PickerRef};
use super::{Cluster, SUBJECT, unread};
use crate::doctor::{Finding, Report};

/// Looks at the Service by which gateways find the picker. Returns the ServiceAccount of the pods
/// behind it.
pub(super) async fn look(cluster: &Cluster, pool: &FoundPool, report: &Report) -> Option<String> {
    let about = format!("InferencePool {}", pool.name);
    let Some(picker) = &pool.picker else {
        report.add(
            Finding::problem(SUBJECT, "picker-ref", "names no endpoint picker")
                .about(about)
                .why("gateways balance its requests by themselves")
                .change(match pool.group.contains("x-k8s") {
                    true => "spec.extensionRef",
                    false => "spec.endpointPickerRef",
                }),
        );
        return None;
    };
    if picker.failure_mode == "FailOpen" {
        report.add(
            Finding::note(SUBJECT, "failure-mode", "failureMode: FailOpen")
                .about(&about)
                .why("where the picker cannot be asked gateways send requests to any endpoint")
                .change(format!(
                    "spec.{}.failureMode: FailClose, unless that is meant",
                    picker.field
                )),
        );
    }
    let problem = |what: String, change: String| {
        report.add(
            Finding::problem(SUBJECT, "picker-service", what)
                .about(&about)
                .why("gateways cannot ask the picker: requests fail, or go anywhere (FailOpen)")
                .change(change),
        );
        None
    };
    let PickerRef { field, kind, name, port, .. } = picker;
    if kind != "Service" {
        return problem(
            format!("refers to a {kind} '{name}'"),
            format!("spec.{field}.kind: Service"),
        );
    }
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let service = match api.get_opt(name).await {
        Ok(Some(service)) => service.spec.unwrap_or_default(),
        Ok(None) => {
            let what = format!("refers to Service {name}, which is not in {}", cluster.namespace);
            return problem(what, format!("spec.{field}.name, or the Service of the picker"));
        }
        // epp itself needs no right to read Services.
        Err(error) => {
            let finding = unread("picker-service", &format!("Service {name}"), &error);
            report.add(Finding { severity: crate::doctor::Severity::Note, ..finding });
            return None;
        }
    };
    let ports: Vec<u16> = service.ports.iter().flatten().map(|p| p.port as u16).collect();
    if !ports.contains(port) {
        let has: Vec<String> = ports.iter().map(u16::to_string).collect();
        return problem(
            format!("refers to port {port} of Service {name}, which has {}", has.join(", ")),
            format!(
                "spec.{field}: {}",
                match *field {
                    "extensionRef" => "portNumber",
                    _ => "port.number",
                }
            ),
        );
    }
    let selector: Vec<String> =
        service.selector.iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    let selector = selector.join(",");
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let selected = match selector.is_empty() {
        true => None,
        false => pods.list(&ListParams::default().labels(&selector).limit(1)).await.ok(),
    };
    if selected.as_ref().is_some_and(|selected| selected.items.is_empty()) {
        return problem(
            format!("refers to Service {name}, which selects no pod ({selector})"),
            "the Service's selector, or the labels of the picker's pods".to_owned(),
        );
    }
    let what = format!("names Service {name}:{port}, {}", picker.failure_mode);
    report.add(Finding::ok(SUBJECT, "picker-service", what).about(about));
    let spec = selected?.items.into_iter().next()?.spec?;
    Some(spec.service_account_name.unwrap_or_else(|| "default".to_owned()))
}
