//! Health checks over the wire. What each name means in each state is a table beside
//! `HealthService`.

use std::net::SocketAddr;
use std::sync::Arc;

use epp::server::{HealthService, Readiness, ServingKey, TlsPolicy, serve_grpc, server_config};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, codec::CompressionEncoding};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{listen, plain, readiness, secure};

async fn serve(readiness: Arc<Readiness>, tls: bool) -> SocketAddr {
    let config = tls.then(|| {
        let key = Arc::new(ServingKey::self_signed().unwrap());
        server_config(&TlsPolicy::default(), key, None, &[b"h2"]).unwrap().into()
    });
    let incoming = listen(config).await;
    let address = incoming.local_addr();
    let services = Routes::new(HealthService::server(readiness));
    tokio::spawn(serve_grpc(incoming, services, std::future::pending()));
    address
}

async fn check(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test]
async fn probes_of_every_era_see_readiness_change() {
    for tls in [false, true] {
        let readiness = readiness(true);
        let address = serve(readiness.clone(), tls).await;
        let channel = if tls { secure(address).await } else { plain(address).await };
        let names =
            ["", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor", "readiness"];
        for name in names {
            assert_eq!(check(&channel, name).await, ServingStatus::Serving, "{name} {tls}");
        }
        readiness.drain();
        for name in names {
            assert_eq!(check(&channel, name).await, ServingStatus::NotServing, "{name} {tls}");
        }
        assert_eq!(check(&channel, "liveness").await, ServingStatus::Serving);
    }
}

#[tokio::test]
async fn watching_is_not_implemented() {
    let channel = plain(serve(readiness(true), false).await).await;
    let error = HealthClient::new(channel)
        .watch(HealthCheckRequest { service: String::new() })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unimplemented() {
    let channel = plain(serve(readiness(true), false).await).await;
    let mut grpc = tonic::client::Grpc::new(channel).send_compressed(CompressionEncoding::Gzip);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/no.such.Service/Method");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let request = tonic::Request::new(HealthCheckRequest { service: String::new() });
    let error = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}
