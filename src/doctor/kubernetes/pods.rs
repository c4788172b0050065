use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::{Cluster, SUBJECT, unread};
use crate::doctor::{Finding, Report};

/// Pods that are looked at, at most.
const MOST: u32 = 1000;

/// Looks at the pods that are selected.
pub(super) async fn look(cluster: &Cluster, selector: &str, ports: &[u16], report: &Report) {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pods = match api.list(&ListParams::default().labels(selector).limit(MOST)).await {
        Ok(pods) => pods.items,
        Err(error) => {
            report.add(unread("pods", &format!("pods with {selector}"), &error));
            return;
        }
    };
    if pods.is_empty() {
        let near = match api.list(&ListParams::default().limit(MOST)).await {
            Ok(all) => nearest(&all.items, selector),
            Err(_) => None,
        };
        let what = match near {
            Some(near) => format!("no pod has {selector}; {near}"),
            None => format!("no pod in namespace {} has {selector}", cluster.namespace),
        };
        report.add(
            Finding::problem(SUBJECT, "pods", what)
                .why("the pool has no endpoints: every request gets 503")
                .change("the pool's spec.selector, or the labels of the workers' pod template"),
        );
        return;
    }
    let mut ready = 0;
    for pod in &pods {
        let about = format!("pod {}", pod.name_any());
        match why_not_ready(pod) {
            None => ready += 1,
            Some(reason) => report.add(
                Finding::problem(SUBJECT, "pods", format!("is not ready: {reason}"))
                    .about(&about)
                    .why("it is no endpoint until it is")
                    .change(format!("kubectl describe pod {}, and its log", pod.name_any())),
            ),
        }
        let declared = declared_ports(pod);
        let undeclared: Vec<String> =
            ports.iter().filter(|p| !declared.contains(p)).map(u16::to_string).collect();
        if !declared.is_empty() && !undeclared.is_empty() {
            let declared: Vec<String> = declared.iter().map(u16::to_string).collect();
            let what = format!(
                "has no container port {}; it has {}",
                undeclared.join(", "),
                declared.join(", ")
            );
            report.add(
                Finding::problem(SUBJECT, "target-port", what)
                    .about(&about)
                    .why("requests are sent to a port that the container does not say it serves")
                    .change("the pool's target port, or the containerPort (vLLM: --port)"),
            );
        }
    }
    if ready > 0 {
        let what = format!("{ready} of {} pods with {selector} are ready", pods.len());
        report.add(Finding::ok(SUBJECT, "pods", what));
    }
}

fn why_not_ready(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".to_owned());
    }
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    if ready.is_some_and(|condition| condition.status == "True") {
        let has_address = status.and_then(|s| s.pod_ip.as_deref()).is_some_and(|ip| !ip.is_empty());
        return (!has_address).then(|| "it has no address".to_owned());
    }
    let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let waiting = containers.iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        Some(format!("container {} {reason}", container.name))
    });
    let message = ready.and_then(|r| r.message.clone().or_else(|| r.reason.clone()));
    let phase = status.and_then(|s| s.phase.clone());
    Some(waiting.or(message).or(phase).unwrap_or_else(|| "nothing is said why".to_owned()))
}

/// The TCP ports that containers say they serve.
fn declared_ports(pod: &Pod) -> Vec<u16> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    // A sidecar that serves for the container may be an init container that goes on.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")))
        .filter_map(|port| u16::try_from(port.container_port).ok())
        .collect()
}

/// The pod that comes nearest to the selector, and in what it differs.
fn nearest(pods: &[Pod], selector: &str) -> Option<String> {
    let wanted: Vec<(&str, &str)> =
        selector.split(',').filter_map(|term| term.split_once('=')).collect();
    let labels = |pod: &Pod, key: &str| pod.labels().get(key).cloned();
    let fits = |pod: &Pod| {
        wanted.iter().filter(|(key, value)| labels(pod, key).as_deref() == Some(value)).count()
    };
    let has_keys = |pod: &Pod| wanted.iter().filter(|(key, _)| labels(pod, key).is_some()).count();
    let pod = pods.iter().max_by_key(|pod| (fits(pod), has_keys(pod)))?;
    if has_keys(pod) == 0 {
        return None;
    }
    let differs: Vec<String> = wanted
        .iter()
        .filter_map(|(key, value)| match labels(pod, key) {
            Some(has) if has == *value => None,
            Some(has) => Some(format!("{key}={has}")),
            None => Some(format!("no {key}")),
        })
        .collect();
    Some(format!("the nearest is {}, which has {}", pod.name_any(), differs.join(", ")))
}
