//! What an InferencePool says, in the forms of both API groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Most ports a pool may have.
const MAX_TARGET_PORTS: usize = 8;

/// An API group that has an `InferencePool` kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolGroup {
    /// `inference.networking.k8s.io/v1`.
    V1,
    /// `inference.networking.x-k8s.io/v1alpha2`.
    V1Alpha2,
}

impl PoolGroup {
    pub const fn group(self) -> &'static str {
        match self {
            PoolGroup::V1 => "inference.networking.k8s.io",
            PoolGroup::V1Alpha2 => "inference.networking.x-k8s.io",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            PoolGroup::V1 => "v1",
            PoolGroup::V1Alpha2 => "v1alpha2",
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.group(), self.version(), "InferencePool"))
    }
}

impl fmt::Display for PoolGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.group())
    }
}

impl FromStr for PoolGroup {
    type Err = String;

    fn from_str(group: &str) -> Result<Self, Self::Err> {
        [PoolGroup::V1, PoolGroup::V1Alpha2].into_iter().find(|g| g.group() == group).ok_or_else(
            || {
                format!(
                    "'{group}' is not an API group of InferencePool: give {} or {}",
                    PoolGroup::V1,
                    PoolGroup::V1Alpha2
                )
            },
        )
    }
}

/// What the pool's workers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppProtocol {
    /// HTTP/1.1: the OpenAI-like APIs.
    Http,
    /// HTTP/2 in clear text: gRPC.
    H2c,
}

impl AppProtocol {
    pub const fn name(self) -> &'static str {
        match self {
            AppProtocol::Http => "http",
            AppProtocol::H2c => "kubernetes.io/h2c",
        }
    }
}

/// What we take from an `InferencePool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// `None` where a selector stands in the place of a pool object.
    pub group: Option<PoolGroup>,
    /// Selects the pods, in the API server's notation.
    pub selector: String,
    /// Ports in order of rank: one to eight, none twice.
    pub target_ports: Vec<u16>,
    pub app_protocol: Option<AppProtocol>,
}

impl PoolSpec {
    /// A pool without an object.
    pub(super) fn of_selector(selector: String, target_ports: Vec<u16>) -> Self {
        Self { group: None, selector, target_ports, app_protocol: None }
    }
}

/// An `InferencePool` as read: usable or not, with what else is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadPool {
    /// `Err` says what makes the pool unusable.
    pub(super) spec: Result<PoolSpec, String>,
    pub(super) oddities: BTreeSet<String>,
    /// The object is on its way out: it counts as gone.
    pub(super) terminating: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1 {
    #[serde(default)]
    selector: V1Selector,
    #[serde(default)]
    target_ports: Vec<Port>,
    app_protocol: Option<String>,
    endpoint_picker_ref: Option<PickerRef>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Port {
    number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1Alpha2 {
    #[serde(default)]
    selector: BTreeMap<String, String>,
    target_port_number: Option<i64>,
    extension_ref: Option<PickerRef>,
}

#[derive(Deserialize)]
struct PickerRef {
    #[serde(default)]
    group: String,
    kind: Option<String>,
    #[serde(default)]
    name: String,
}

impl ReadPool {
    pub(super) fn v1(object: DynamicObject) -> Self {
        Self::read(PoolGroup::V1, object, |spec: V1, oddities| {
            odd_reference("endpointPickerRef", spec.endpoint_picker_ref, oddities);
            let app_protocol = match spec.app_protocol.as_deref() {
                None | Some("") => None,
                Some("http") => Some(AppProtocol::Http),
                Some("kubernetes.io/h2c") => Some(AppProtocol::H2c),
                Some(other) => {
                    oddities.insert(format!(
                        "spec.appProtocol '{other}' is not known here (http and \
                         kubernetes.io/h2c are): taken as not set"
                    ));
                    None
                }
            };
            let ports = spec.target_ports.into_iter().map(|port| port.number).collect();
            (spec.selector.match_labels, "spec.targetPorts", ports, app_protocol)
        })
    }

    pub(super) fn v1alpha2(object: DynamicObject) -> Self {
        Self::read(PoolGroup::V1Alpha2, object, |spec: V1Alpha2, oddities| {
            odd_reference("extensionRef", spec.extension_ref, oddities);
            let ports = spec.target_port_number.into_iter().collect();
            (spec.selector, "spec.targetPortNumber", ports, None)
        })
    }

    fn read<S: DeserializeOwned>(
        group: PoolGroup,
        object: DynamicObject,
        parts: impl FnOnce(S, &mut BTreeSet<String>) -> Parts,
    ) -> Self {
        let mut oddities = BTreeSet::new();
        let terminating = object.metadata.deletion_timestamp.is_some();
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let spec = match serde_json::from_value(spec) {
            Err(error) => Err(format!("spec: {error}")),
            Ok(spec) => {
                let (labels, ports_field, ports, app_protocol) = parts(spec, &mut oddities);
                selector(&labels).and_then(|selector| {
                    let target_ports = target_ports(ports_field, ports)?;
                    Ok(PoolSpec { group: Some(group), selector, target_ports, app_protocol })
                })
            }
        };
        Self { spec, oddities, terminating }
    }
}

type Parts = (BTreeMap<String, String>, &'static str, Vec<i64>, Option<AppProtocol>);

/// To the API server an empty selector means all pods of the namespace, which no pool means: a
/// controller has yet to fill it in, or someone forgot.
fn selector(labels: &BTreeMap<String, String>) -> Result<String, String> {
    if labels.is_empty() {
        return Err("the selector is empty, it would select every pod of the namespace".into());
    }
    Ok(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
}

fn target_ports(field: &str, numbers: Vec<i64>) -> Result<Vec<u16>, String> {
    let mut ports = Vec::with_capacity(numbers.len());
    for number in numbers {
        match u16::try_from(number) {
            Ok(port) if port != 0 && ports.contains(&port) => {
                return Err(format!("{field}: port {port} stands there twice"));
            }
            Ok(port) if port != 0 => ports.push(port),
            _ => return Err(format!("{field}: {number} is not a port")),
        }
    }
    match ports.len() {
        0 => Err(format!("{field} names no port")),
        1..=MAX_TARGET_PORTS => Ok(ports),
        n => Err(format!("{field} names {n} ports, more than {MAX_TARGET_PORTS}")),
    }
}

/// The reference is for gateways, who find us by it; we can only say where they will not.
fn odd_reference(field: &str, reference: Option<PickerRef>, oddities: &mut BTreeSet<String>) {
    let Some(PickerRef { group, kind, name }) = reference else { return };
    let kind = kind.as_deref().unwrap_or("Service");
    if kind != "Service" || !matches!(group.as_str(), "" | "core") {
        oddities.insert(format!(
            "spec.{field} names {kind} '{name}' of group '{group}': gateways reach an endpoint \
             picker through a Service of the core group"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "any/v1", "kind": "InferencePool",
            "metadata": {"name": "pool", "namespace": "ns"}, "spec": spec,
        }))
        .expect("an object")
    }

    #[test]
    fn pools_of_both_groups() {
        let v1 = ReadPool::v1(object(json!({
            "selector": {"matchLabels": {"app": "vllm", "tier": ""}},
            "targetPorts": [{"number": 8000}, {"number": 8001}],
            "appProtocol": "kubernetes.io/h2c",
            "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
        })));
        assert_eq!(
            v1.spec,
            Ok(PoolSpec {
                group: Some(PoolGroup::V1),
                selector: "app=vllm,tier=".into(),
                target_ports: vec![8000, 8001],
                app_protocol: Some(AppProtocol::H2c),
            })
        );
        assert!(v1.oddities.is_empty() && !v1.terminating);
        let v1alpha2 = ReadPool::v1alpha2(object(json!({
            "selector": {"app": "vllm"}, "targetPortNumber": 8000,
            "extensionRef": {"failureMode": "FailOpen", "kind": "Service", "name": "epp"},
        })));
        assert_eq!(
            v1alpha2.spec,
            Ok(PoolSpec {
                group: Some(PoolGroup::V1Alpha2),
                selector: "app=vllm".into(),
                target_ports: vec![8000],
                app_protocol: None,
            })
        );
        assert!(v1alpha2.oddities.is_empty());
    }

    #[test]
    fn unusable_pools_say_why() {
        let labels = json!({"matchLabels": {"a": "b"}});
        let nine: Vec<_> = (1..=9).map(|n| json!({"number": n})).collect();
        for (spec, part) in [
            (json!({"targetPorts": [{"number": 1}]}), "selector is empty"),
            (json!({"selector": {}, "targetPorts": [{"number": 1}]}), "selector is empty"),
            (json!({"selector": labels}), "spec.targetPorts names no port"),
            (json!({"selector": labels, "targetPorts": nine}), "names 9 ports"),
            (json!({"selector": labels, "targetPorts": [{"number": 0}]}), "0 is not a port"),
            (
                json!({"selector": labels, "targetPorts": [{"number": 65536}]}),
                "65536 is not a port",
            ),
            (
                json!({"selector": labels, "targetPorts": [{"number": 7}, {"number": 7}]}),
                "port 7 stands there twice",
            ),
            (json!({"selector": "app=vllm"}), "spec: invalid type"),
            (Value::Null, "spec: invalid type"),
        ] {
            let error = ReadPool::v1(object(spec.clone())).spec.expect_err("unusable");
            assert!(error.contains(part), "{spec}: {error}");
        }
        let error = ReadPool::v1alpha2(object(json!({"selector": {"a": "b"}}))).spec;
        assert_eq!(error, Err("spec.targetPortNumber names no port".into()));
    }

    #[test]
    fn oddities_do_not_make_a_pool_unusable() {
        let usable = json!({
            "selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 1}],
            "appProtocol": "h3", "endpointPickerRef": {"kind": "Picker", "name": "p"},
        });
        let read = ReadPool::v1(object(usable));
        assert!(read.spec.is_ok());
        let said: Vec<_> = read.oddities.iter().map(String::as_str).collect();
        assert!(said[0].starts_with("spec.appProtocol 'h3'"), "{said:?}");
        assert!(said[1].starts_with("spec.endpointPickerRef names Picker 'p'"), "{said:?}");
    }

    #[test]
    fn groups_by_name() {
        for group in [PoolGroup::V1, PoolGroup::V1Alpha2] {
            assert_eq!(group.group().parse(), Ok(group));
        }
        assert!("inference.example".parse::<PoolGroup>().is_err());
    }
}
