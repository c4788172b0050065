//! Who may read the metrics port of the real program.

use std::net::{SocketAddr, UdpSocket};

use crate::support::eventually;
use crate::support::program::{Program, TUTORIAL};

/// An address of this machine that others see; `None` where it has no network.
fn outward() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks which address would be used.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

fn start(arguments: &[&str]) -> Program {
    Program::start(TUTORIAL, &["127.0.0.1:1".parse().unwrap()], arguments)
}

async fn status(address: SocketAddr, token: Option<&str>) -> Option<u16> {
    let client = reqwest::Client::new();
    let mut request = client.get(format!("http://{address}/metrics"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_guard_the_metrics_port_is_there_for_this_machine_alone() {
    let Some(outward) = outward() else {
        eprintln!("skipped: this machine has no network");
        return;
    };
    for (arguments, from_outside) in
        [(&[][..], None), (&["--metrics-bind-address=0.0.0.0"], Some(200))]
    {
        let program = start(arguments);
        let here = SocketAddr::from(([127, 0, 0, 1], program.metrics_port));
        assert_eq!(status(here, None).await, Some(200));
        let there = SocketAddr::new(outward, program.metrics_port);
        assert_eq!(status(there, None).await, from_outside, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_metrics_port_and_can_be_renewed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let program = start(&[&format!("--metrics-token-file={}", file.display())]);
    let here = SocketAddr::from(([127, 0, 0, 1], program.metrics_port));
    for (token, expected) in [
        (None, 401),
        (Some(""), 401),
        (Some("firs"), 401),
        (Some("first2"), 401),
        (Some("first"), 200),
    ] {
        assert_eq!(status(here, token).await, Some(expected), "{token:?}");
    }
    // Probes need none.
    let probe = reqwest::get(format!("http://{here}/healthz")).await.unwrap();
    assert_eq!(probe.status(), 200);

    std::fs::write(&file, "").unwrap();
    std::fs::write(&file, "second").unwrap();
    eventually("the new token", || async {
        (status(here, Some("second")).await == Some(200)).then_some(())
    })
    .await;
    assert_eq!(status(here, Some("first")).await, Some(401));
}

#[test]
fn asking_kubernetes_without_kubernetes_is_said() {
    let program = start(&["--metrics-endpoint-auth=true"]);
    program.process.wait_for("the warning", |line| {
        line.contains("without Kubernetes there is nobody to ask").then_some(())
    });
}
