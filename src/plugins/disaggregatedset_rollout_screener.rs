//! `disaggregatedset-rollout-screener`: while a disaggregated deployment is rolled out, keeps each
//! request on endpoints of one revision, of which all roles are there. Parameters as in
//! llm-d-router main at ebab6879.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::label_selector::LabelSelector;
use super::rollout::{Gating, HeaderSelector, RolloutScreener, Weight};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::scheduling::{Lifecycle, PluginMetrics, ResponseHook, Screener};

pub(super) const TYPE: PluginType =
    PluginType { name: "disaggregatedset-rollout-screener", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Screener, Part::ResponsePlugin],
    stability: Stability::Experimental,
    since: "llm-d v0.11",
    summary: "keeps a request on endpoints of one revision while a disaggregated deployment is rolled out",
    formula: "a revision gets requests by its pods in all required roles (sum) or in the one that has most over all revisions (max-role), none while it lacks a role; no endpoint left: 503",
    parameters: Parameters::Listed(&[
        Parameter::fields("scope", &SCOPE, "the pods that count").required(),
        Parameter::each(
            "headerSelectors",
            &SELECTOR,
            "response headers that tell of which label the endpoint was that served",
        ),
        Parameter::fields("revisionGating", &GATING, "which revisions get requests").required(),
    ]),
};

const SCOPE: [Parameter; 1] =
    [Parameter::text("labelSelector", "a label selector").required().example("app=vllm")];

const SELECTOR: [Parameter; 4] = [
    Parameter::text("name", "its name").required(),
    Parameter::text("headerName", "the header").required(),
    Parameter::text("labelKey", "the label").required(),
    Parameter::one_of("mode", &["strict", "prefer"], "whether a request's header must be heeded")
        .required(),
];

const GATING: [Parameter; 4] = [
    Parameter::one_of(
        "mode",
        &["disabled", "sum", "max-role"],
        "what a revision's share goes by; disabled: any revision will do",
    )
    .required()
    .beside("{requireRoles: {values: [prefill]}}"),
    Parameter::text("revisionLabelKey", "label with the revision")
        .default("disaggregatedset.x-k8s.io/revision"),
    Parameter::text("roleLabelKey", "label with the role")
        .default("disaggregatedset.x-k8s.io/role"),
    Parameter::fields("requireRoles", &ROLES, "what a revision has to have"),
];

const ROLES: [Parameter; 1] =
    [Parameter::texts("values", "the roles; without them only the mode disabled will do")];

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let scope = read_scope(p.nested("scope"));
    let mut selectors: Vec<HeaderSelector> = Vec::new();
    for fields in p.each("headerSelectors") {
        let selector = read_selector(fields, &selectors);
        selectors.push(selector);
    }
    let gating = read_gating(p.nested("revisionGating"), scope);
    p.finish();
    let screener = Arc::new(RolloutScreener {
        name: build.name.to_owned(),
        plugin_type: TYPE.name,
        gating,
        selectors,
        counted: Default::default(),
    });
    Capabilities::default()
        .with::<dyn Screener>(screener.clone())
        .with::<dyn ResponseHook>(screener.clone())
        .with::<dyn PluginMetrics>(screener.clone())
        .with::<dyn Lifecycle>(screener)
}

fn read_scope(mut p: Fields<'_>) -> LabelSelector {
    let text = p.string("labelSelector").unwrap_or_default();
    let selector = if text.is_empty() {
        Err("is required: which pods count".to_owned())
    } else {
        LabelSelector::parse(text)
    };
    let selector = selector.unwrap_or_else(|wrong| {
        p.error("labelSelector", wrong);
        LabelSelector::default()
    });
    p.finish();
    selector
}

fn read_selector(mut p: Fields<'_>, earlier: &[HeaderSelector]) -> HeaderSelector {
    let [name, header, label] = ["name", "headerName", "labelKey"].map(|field| {
        let text = p.string(field).unwrap_or_default();
        if text.is_empty() {
            p.error(field, "is required");
        }
        text.to_owned()
    });
    if earlier.iter().any(|selector| !name.is_empty() && selector.name == name) {
        p.error("name", format!("selector '{name}' is configured twice"));
    }
    let mode = p.string("mode").unwrap_or_default();
    if !["strict", "prefer"].contains(&mode) {
        p.error("mode", "must be strict or prefer");
    }
    p.finish();
    let header = header.to_ascii_lowercase();
    HeaderSelector { name, header, label, strict: mode == "strict", misses: AtomicU64::new(0) }
}

fn read_gating(mut p: Fields<'_>, scope: LabelSelector) -> Gating {
    let weight = match p.string("mode").unwrap_or_default() {
        "sum" => Some(Weight::Sum),
        "max-role" => Some(Weight::LargestRole),
        "disabled" => None,
        _ => {
            p.error("mode", "must be one of sum, max-role, disabled");
            None
        }
    };
    let mut label = |name: &'static str, default: &str| {
        p.string(name).filter(|key| !key.is_empty()).unwrap_or(default).to_owned()
    };
    let revision_label = label("revisionLabelKey", "disaggregatedset.x-k8s.io/revision");
    let role_label = label("roleLabelKey", "disaggregatedset.x-k8s.io/role");
    let mut required = p.nested("requireRoles");
    let roles = required.strings("values").unwrap_or_default();
    if weight.is_some() && roles.is_empty() {
        required.error("values", "is required: the roles that a revision has to have");
    }
    if roles.iter().any(String::is_empty) {
        required.error("values", "must not have an empty role");
    }
    if let Some(twice) = (1..roles.len()).find(|&i| roles[..i].contains(&roles[i])) {
        required.error("values", format!("role '{}' is there twice", roles[twice]));
    }
    required.finish();
    p.finish();
    Gating { scope, weight, roles, revision_label, role_label }
}
