//! What another configuration starts and stops.

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{Rig, answer, body, finish};
use crate::support::client::Gateway;
use crate::support::eventually;
use crate::support::program::Program;

const AT_ENGINES: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
MORE
schedulingProfiles:
- name: default
  plugins: [pluginRef: queue-scorer]
";

/// What listens for engines listens while some configuration has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_gone_is_stopped_when_its_last_exchange_has_ended() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let events = format!(
        "- {{type: precise-prefix-cache-producer, parameters: {{kvEventsConfig: \
         {{zmqEndpoint: 'tcp://{address}', discoverPods: false}}}}}}"
    );
    let listens = async || tokio::net::TcpStream::connect(address).await.is_ok();
    let rig = Rig::start(&AT_ENGINES.replace("MORE", ""), &[]).await;
    assert!(!listens().await);
    let changes = rig.reload(&AT_ENGINES.replace("MORE", &events)).await;
    assert_eq!(changes, "plugins added: precise-prefix-cache-producer");
    eventually("a listener", || async { listens().await.then_some(()) }).await;
    let mut open = rig.begin("open", &body("under the plugin")).await;
    answer(&mut open).await;

    let plugins = async || rig.json("/debug/config").await["pluginsAtWork"].as_u64().unwrap();
    let with = plugins().await;
    rig.reload(&AT_ENGINES.replace("MORE", "")).await;
    assert!(listens().await && plugins().await == with, "an exchange still has it");
    finish(&mut open).await;
    eventually("no listener", || async { (!listens().await).then_some(()) }).await;
    assert_eq!(plugins().await, with - 1);
}

/// A worker that tells of its adapters.
async fn worker() -> SocketAddr {
    const PAGE: &str = "vllm:num_requests_waiting{model_name=\"m\"} 3\n\
        vllm:num_requests_running{model_name=\"m\"} 1\nvllm:kv_cache_usage_perc 0.5\n\
        vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"poems\",waiting_lora_adapters=\"\"} 1\n";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pages = axum::Router::new().route("/metrics", axum::routing::get(|| async { PAGE }));
    tokio::spawn(async move { axum::serve(listener, pages).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_a_new_plugin_reads_are_scraped() {
    let program = Program::start(&AT_ENGINES.replace("MORE", ""), &[worker().await], &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let rig = Rig { program, gateway };
    let metrics = async || rig.json("/debug/endpoints").await["endpoints"][0]["metrics"].clone();
    eventually("metrics", || async { (metrics().await["waiting"] == 3).then_some(()) }).await;
    assert_eq!(metrics().await["lora"], Value::Null, "nobody reads it");
    let lora = AT_ENGINES.replace("MORE", "- type: lora-affinity-scorer");
    let both = "[{pluginRef: queue-scorer}, {pluginRef: lora-affinity-scorer}]";
    rig.reload(&lora.replace("[pluginRef: queue-scorer]", both)).await;
    let running = eventually("adapters", || async {
        let lora = metrics().await["lora"].clone();
        (!lora.is_null()).then_some(lora)
    })
    .await;
    assert!(running["running"].to_string().contains("poems"), "{running}");
}
