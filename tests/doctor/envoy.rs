//! The Envoy in front: from files, and from a real one's admin address.

use crate::run::{doctor, file};
use crate::support::envoy::{Envoy, binary};
use crate::workers::{Workers, endpoints, nobody, serve};

const STANDALONE: &str = include_str!("../../deploy/envoy/standalone.yaml");
const QUEUEING: &str = include_str!("../../config/flow-control.yaml");

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_and_held_against_the_flags() {
    let workers = Workers::start(1, &[]);
    let directory = tempfile::tempdir().expect("a folder");
    let config = file(directory.path(), "epp.yaml", QUEUEING);
    let json: serde_json::Value = serde_yaml::from_str(STANDALONE).expect("YAML");
    let slow = STANDALONE.replace("message_timeout: 30s", "message_timeout: 2s");
    let files = [
        file(directory.path(), "envoy.yaml", STANDALONE),
        file(directory.path(), "envoy.json", &json.to_string()),
        file(directory.path(), "slow.yaml", &slow),
        file(directory.path(), "broken.yaml", "a: [\n"),
        file(directory.path(), "other.yaml", "kind: ConfigMap\n"),
        directory.path().join("nowhere.yaml"),
    ];
    let with = async |file: &std::path::Path, more: &[String]| {
        let envoy = [format!("--envoy-config={}", file.display())];
        doctor(&[&envoy[..], more].concat()).await
    };
    for file in &files[..2] {
        let found = with(file, &[endpoints(&[&workers.at])]).await;
        found.is_well();
        found.must_have("ok", "cluster", "cluster picked_worker", "picked", "");
        // Alone too.
        with(file, &[]).await.is_well();
    }
    let flags = [endpoints(&[&workers.at]), format!("--config-file={}", config.display())];
    let found = with(&files[2], &flags).await;
    found.must_have(
        "problem",
        "message-timeout",
        "listener gateway",
        "may wait",
        "defaultRequestTTL",
    );
    let plain = [endpoints(&[&workers.at]), "--secure-serving=false".into()];
    let found = with(&files[0], &plain).await;
    found.must_have("problem", "picker-tls", "cluster epp", "over TLS", "--secure-serving");
    for (file, what) in
        [(&files[3], "broken.yaml"), (&files[4], "no listener"), (&files[5], "nowhere.yaml")]
    {
        let found = with(file, &[]).await;
        assert_eq!(found.code, Some(1));
        assert!(found.of("problem")[0].contains(what), "{:#}", found.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_address_that_is_none_is_said() {
    let found = doctor(&[format!("--envoy-admin=http://{}", nobody())]).await;
    found.must_have("problem", "read", "", "does not answer", "--envoy-admin");
    let other = serve(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 1024]).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let _ = stream.write_all(answer).await;
    })
    .await;
    let found = doctor(&[format!("--envoy-admin=http://{other}")]).await;
    found.must_have("problem", "read", "", "JSON", "--envoy-admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_envoy_is_asked() {
    let Some(binary) = binary() else { return };
    let admin = |envoy: &Envoy| format!("--envoy-admin={}", envoy.admin);
    let well = Envoy::start(binary.clone(), 1, |yaml| yaml).await;
    let found = doctor(&[admin(&well)]).await;
    found.is_well();
    found.must_have("ok", "ext-proc", "listener gateway", "FULL_DUPLEX_STREAMED", "");
    found.must_have("ok", "cluster", "cluster picked_worker", "picked", "");
    drop(well);
    let ill = Envoy::start(binary, 1, |yaml| {
        yaml.replace("timeout: 0s\n", "timeout: 5s\n")
            .replace("idle_timeout: 4s", "idle_timeout: 90s")
            .replace("max_requests: 40000, ", "")
            .replace(
                "http_header_name: x-gateway-destination-endpoint",
                "http_header_name: x-other",
            )
            .replace("response_body_mode: FULL_DUPLEX_STREAMED", "response_body_mode: BUFFERED")
    })
    .await;
    let found = doctor(&[admin(&ill)]).await;
    assert_eq!(found.code, Some(1));
    for (check, what) in [
        ("route-timeout", "5s"),
        ("circuit-breaker", "max_requests 1024"),
        ("destination", "x-other"),
        ("response-body", "BUFFERED"),
    ] {
        found.must_have("problem", check, "", what, "");
    }
    found.must_have("note", "idle-timeout", "cluster picked_worker", "90s", "4s");
}
