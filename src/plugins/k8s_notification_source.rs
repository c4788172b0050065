//! `k8s-notification-source`: tells extractors of Kubernetes objects of one kind. Here those that
//! care for pods are told by discovery, which watches them anyway, so it is accepted and does
//! nothing; no plugin of the reference reads another kind.

use std::sync::Arc;

use super::endpoint_notification_source::NotificationSource;
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};

pub(super) const TYPE: PluginType =
    PluginType { name: "k8s-notification-source", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::DataSource],
    stability: Stability::Beta,
    since: "GIE v1.4",
    summary: "accepted, and does nothing: what plugins want to know of pods discovery tells them",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("group", "API group of the objects; empty for the core").default("\"\""),
        Parameter::text("version", "its version").required().example("v1"),
        Parameter::text("kind", "kind of the objects; no plugin listens to others than pods")
            .required()
            .example("Pod"),
    ]),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let [group, version, kind] =
        ["group", "version", "kind"].map(|name| p.string(name).unwrap_or_default());
    for (name, value) in [("version", version), ("kind", kind)] {
        if value.is_empty() {
            p.error(name, "is required: which objects are meant");
        }
    }
    let is_pod = (group, version, kind) == ("", "v1", "Pod");
    if !is_pod && !version.is_empty() && !kind.is_empty() {
        p.warning("kind", "no plugin listens to objects of this kind: nothing is watched");
    }
    p.finish();
    Capabilities::default().with(Arc::new(NotificationSource))
}
