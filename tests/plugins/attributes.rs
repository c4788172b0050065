//! Endpoints by numbers that are told of them beside their signals.

use std::sync::Arc;

use epp::datalayer::extract::{Layout, Plan};
use epp::endpoints::{Endpoint, Scalar, StateSlot};
use epp::scrape_config::{Needs, PageContent};

use crate::rig::*;

const GPUS: &str = "
- type: dcgm-data-source
- type: dcgm-extractor";
const GPU_SOURCE: &str = "
dataLayer:
  sources: [{pluginRef: dcgm-data-source, extractors: [{pluginRef: dcgm-extractor}]}]";

/// A configuration of one profile with this plugin in it.
fn rig(plugin: &str) -> Rig {
    Rig::from_yaml(&format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:{GPUS}\n- {plugin}\n\
         schedulingProfiles: [{{name: default, plugins: [{{pluginRef: it}}]}}]{GPU_SOURCE}\n"
    ))
}

fn gpu_slot(rig: &Rig) -> StateSlot<Scalar> {
    let contents: Vec<PageContent> = rig.pages.iter().map(|page| page.content).collect();
    let [PageContent::GpuUtilization(slot)] = contents[..] else { panic!("{contents:?}") };
    slot
}

fn tell(workers: &[Arc<Endpoint>], slot: StateSlot<Scalar>, values: &[Option<f64>]) {
    for (worker, value) in workers.iter().zip(values) {
        if let Some(value) = value {
            worker.state.get_or_init(slot, Scalar::default).unwrap().set(*value);
        }
    }
}

#[test]
fn scores_by_an_attribute() {
    const FIXED: &str = "linear_lower_is_better, normalization: {fixedRange: {min: 0, max: 1}}";
    const WIDE: &str = "linear_higher_is_better, normalization: {fixedRange: {min: -1, max: 3}}";
    const LOWER: &str = "linear_lower_is_better, normalization: {adaptiveRange: {}}";
    const HIGHER: &str = "linear_higher_is_better";
    type Case = (&'static str, [Option<f64>; 3], [f64; 3]);
    let cases: [Case; 8] = [
        (FIXED, [Some(0.25), Some(1.0), None], [0.75, 0.0, 0.0]),
        (FIXED, [Some(-4.0), Some(9.0), Some(0.5)], [1.0, 0.0, 0.5]),
        (WIDE, [Some(-1.0), Some(0.0), Some(3.0)], [0.0, 0.25, 1.0]),
        (LOWER, [Some(10.0), Some(30.0), Some(25.0)], [1.0, 0.0, 0.25]),
        (HIGHER, [Some(10.0), Some(30.0), Some(25.0)], [0.0, 1.0, 0.75]),
        // One that has none does not count for the range.
        (LOWER, [Some(10.0), Some(30.0), None], [1.0, 0.0, 0.0]),
        (LOWER, [Some(0.7), Some(0.7), None], [1.0, 1.0, 0.0]),
        (HIGHER, [None, None, None], [0.0, 0.0, 0.0]),
    ];
    for (algorithm, told, expected) in cases {
        let rig = rig(&format!(
            "{{type: endpoint-attribute-scorer, name: it, parameters: {{attributeKey: \
             GPUUtilization, producer: dcgm-extractor, algorithm: {{type: {algorithm}}}}}}}"
        ));
        let all = workers(3);
        tell(&all, gpu_slot(&rig), &told);
        assert_scores(&rig.scores(&prompt("hi"), &all), &expected);
    }
}

#[test]
fn keeps_by_an_attribute() {
    let told = [Some(0.2), Some(0.9), None, Some(0.5)];
    let cases: [(&str, &str, &[u32]); 9] = [
        ("operator: LessThanOrEqual, value: 0.5", "", &[0, 2, 3]),
        ("operator: LessThan, value: 0.5", "", &[0, 2]),
        ("operator: GreaterThan, value: 0.5", "onMissing: Fail", &[1]),
        ("operator: GreaterThanOrEqual, value: 0.5", "onMissing: Fail", &[1, 3]),
        ("operator: Equal, value: 0.9", "onMissing: Fail", &[1]),
        ("operator: NotEqual, value: 0.9", "onMissing: Pass", &[0, 2, 3]),
        ("operator: LessThan", "onMissing: Fail", &[]),
        ("operator: LessThan", "onMissing: Fail, fallbackOnEmpty: true", &[0, 1, 2, 3]),
        ("operator: LessThan", "fallbackOnEmpty: true", &[2]),
    ];
    for (threshold, more, expected) in cases {
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let rig = rig(&format!(
            "{{type: endpoint-attribute-filter, name: it, parameters: {{attribute: \
             GPUUtilization, producer: dcgm-extractor, algorithm: {{type: threshold, threshold: \
             {{{threshold}}}}}{more}}}}}"
        ));
        let all = workers(4);
        tell(&all, gpu_slot(&rig), &told);
        assert_eq!(rig.kept(&prompt("hi"), &all), expected, "{threshold} {more}");
    }
}

#[test]
fn a_metric_of_the_engine_is_an_attribute() {
    let rig = Rig::from_yaml(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: core-metrics-extractor
  parameters:
    engineConfigs:
    - name: vllm
      customMetrics: [{attributeKey: swapped, metricSpec: 'vllm:num_requests_swapped{a=b}'}]
- type: endpoint-attribute-scorer
  parameters: {attributeKey: swapped, algorithm: {type: linear_lower_is_better}}
schedulingProfiles: [{name: default, plugins: [{pluginRef: endpoint-attribute-scorer}]}]
",
    );
    let all = workers(2);
    let plan = Plan::new(rig.engines.find("vllm").unwrap(), Needs::default());
    for (worker, page) in all.iter().zip(["4", "-2.5"]) {
        let page = format!(
            "vllm:num_requests_swapped{{a=\"c\"}} 99\nvllm:num_requests_swapped{{a=\"b\"}} {page}\n"
        );
        let mut reading = plan.read(page.as_bytes(), &mut Layout::default());
        assert!(reading.problems.is_empty());
        reading.store_beside(worker);
    }
    assert_scores(&rig.scores(&prompt("hi"), &all), &[0.0, 1.0]);
}

#[test]
fn how_busy_a_pods_gpus_are() {
    const OURS: &str = r#"pod="w0",gpu="0""#;
    let line = |labels: &str, value: &str| format!("DCGM_FI_DEV_GPU_UTIL{{{labels}}} {value}\n");
    let cases = [
        ("one GPU", line(OURS, "40"), Some(0.4)),
        ("the busiest", line(OURS, "40") + &line(r#"pod="w0",gpu="1""#, "75"), Some(0.75)),
        ("of others", line(OURS, "40") + &line(r#"pod="w1",gpu="1""#, "75"), Some(0.4)),
        ("of nobody in particular", line(r#"gpu="1""#, "100"), Some(1.0)),
        ("idle", line(OURS, "0"), Some(0.0)),
        ("only of others", line(r#"pod="w1",gpu="1""#, "75"), None),
        ("no number", line(OURS, "NaN"), None),
        ("negative", line(OURS, "-1"), None),
        ("something else", "DCGM_FI_DEV_SM_CLOCK{pod=\"w0\"} 1410\n".to_owned(), None),
    ];
    for (what, page, expected) in cases {
        let rig = rig("{type: random-picker, name: it}");
        let slot = gpu_slot(&rig);
        let all = workers(1);
        let plan = Plan::gpu_utilization(&all[0].spec.pod_name, slot);
        let mut reading = plan.read(page.as_bytes(), &mut Layout::default());
        assert_eq!(reading.problems.is_empty(), expected.is_some(), "{what}");
        reading.store_beside(&all[0]);
        assert_eq!(all[0].state.get(slot).and_then(Scalar::get), expected, "{what}");
    }
}
