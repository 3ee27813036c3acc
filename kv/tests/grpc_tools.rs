//! What gRPC's own tools find at a node: the standard health service, and reflection.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::time::Duration;

use kv::config::ClusterConfig;
use kv::coordination::embedded::Embedded;
use kv_core::Fencing;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[path = "cluster/nodes.rs"]
mod nodes;

use nodes::{free_addresses, start, timing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_and_the_services_are_listed() {
    let cluster = ClusterConfig::new(1, 1, 1, None, Fencing::Epoch).unwrap();
    let service = Embedded::in_memory(timing().session_timeout);
    let address = free_addresses(1).remove(0);
    let node = start(1, &address, &cluster, &service).await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();

    let mut health = HealthClient::new(channel.clone());
    for service in ["", "kv.Kv"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        // The stream of changes ends in the state that is waited for, or never.
        let mut changes = health.watch(request).await.unwrap().into_inner();
        let serving = async {
            while let Some(change) = changes.message().await.unwrap() {
                if change.status() == ServingStatus::Serving {
                    return;
                }
            }
            panic!("the node is never well");
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, serving).await.unwrap();
    }

    let mut reflection = ServerReflectionClient::new(channel);
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("kv.Kv".to_owned())),
    ];
    let answers = reflection.server_reflection_info(futures::stream::iter(asked));
    let mut answers = answers.await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        panic!("{listed:?}")
    };
    let names: Vec<&str> = listed.service.iter().map(|it| it.name.as_str()).collect();
    for name in ["kv.Kv", "kv.Peer", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let file = answers.message().await.unwrap().unwrap();
    let found = matches!(
        file.message_response,
        Some(MessageResponse::FileDescriptorResponse(_))
    );
    assert!(found, "{file:?}");
    drop(node);
}
