//! The contract is what is published, and programs find it.

use std::time::Duration;

use testkit::{etcd::EtcdCluster, wait::SOON};
use tokio::time::{Instant, timeout};
use tonic::{Code, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::Client;
use crate::support::Registry;

#[tokio::test]
async fn the_page_the_answer_and_the_source_are_the_same_file() {
    let registry = Registry::without_etcd().await;
    let served = registry.get("/v1/muster.proto").await;
    assert_eq!(served.status, 200);
    assert_eq!(served.body.as_str().unwrap(), include_str!("../../../../../doc/muster.proto"));
    assert_eq!(muster_proto::PROTO, include_str!("../../../../../doc/muster.proto"));
}

#[tokio::test]
async fn health_says_what_readyz_says_and_needs_no_token() {
    let away = Registry::without_etcd().await;
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokens"), "").unwrap();
    let registry =
        Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(folder.path().join("tokens"))).await;
    for (registry, expected) in [(&registry, ServingStatus::Serving), (&away, ServingStatus::NotServing)] {
        let channel = tonic::transport::Endpoint::from_shared(registry.url.clone()).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel);
        for service in ["", "muster.v1.Registry"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            // Told four times a second.
            testkit::wait::wait_until("the health is told", testkit::wait::SOON, async || {
                let answer = health.clone().check(request.clone()).await;
                answer.is_ok_and(|answer| answer.into_inner().status() == expected)
            })
            .await;
            let mut watch = health.watch(request).await.unwrap().into_inner();
            assert_eq!(watch.message().await.unwrap().unwrap().status(), expected);
        }
        let unknown = health.check(HealthCheckRequest { service: "other".to_owned() }).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }
    let client = Client::of(&registry).await;
    assert_eq!(client.list("mail").await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn reflection_lists_every_service_and_has_its_file() {
    let registry = Registry::without_etcd().await;
    let channel = tonic::transport::Endpoint::from_shared(registry.url.clone()).unwrap().connect().await.unwrap();
    let mut reflection = ServerReflectionClient::new(channel);
    let ask =
        |message_request| ServerReflectionRequest { message_request: Some(message_request), ..Default::default() };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("muster.v1.Registry.Watch".to_owned())),
    ];
    let mut answers = reflection.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let MessageResponse::ListServicesResponse(listed) =
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    else {
        panic!("no list")
    };
    let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["muster.v1.Registry", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

async fn channel(registry: &Registry) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(registry.url.clone()).unwrap().connect().await.unwrap()
}

/// What asks `ListServices` for ever, and the answers.
async fn reflect(registry: &Registry) -> Streaming<ServerReflectionResponse> {
    let mut reflection = ServerReflectionClient::new(channel(registry).await);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let asked = ServerReflectionRequest { message_request, ..Default::default() };
    reflection.server_reflection_info(futures::stream::repeat(asked)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_stream_of_reflection_has_a_bounded_number_of_answers() {
    let registry = Registry::without_etcd().await;
    let mut answers = reflect(&registry).await;
    let mut count = 0;
    let end = loop {
        match timeout(SOON, answers.message()).await.expect("an answer or the end") {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("no status"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!((256..1024).contains(&count), "{count}");
}

#[tokio::test]
async fn streams_of_health_are_few_and_none_delays_the_end_of_the_registry() {
    let registry = Registry::without_etcd().await;
    let health = HealthClient::new(channel(&registry).await);
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(health.clone().watch(HealthCheckRequest::default()).await.unwrap().into_inner());
    }
    let refused = health.clone().watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let client = Client::of(&registry).await;
    assert_eq!(client.list("mail").await.unwrap_err().code(), Code::Unavailable, "others are taken, but etcd is away");
    let started = Instant::now();
    registry.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let ended = async { while matches!(streams[0].message().await, Ok(Some(_))) {} };
    timeout(SOON, ended).await.expect("an end");
}
