//! What gRPC's own tools ask any server: whether it is well (the standard health service), and what it offers (reflection).

use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use super::stopped;
use crate::handle::NodeHandle;

/// `proto/kv.proto`, compiled.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kv.descriptors"));

/// How often it is looked whether the node is well.
const LOOK: Duration = Duration::from_secs(1);

/// The health service of a node: of the whole server (the empty name), and of `kv.Kv`.
pub(super) fn health(node: NodeHandle, stop: watch::Receiver<bool>) -> HealthServer<impl Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stopped(stop) => {}
            () = report(node, reporter) => {}
        }
    });
    service
}

/// Looks again and again how the node is.
async fn report(node: NodeHandle, reporter: HealthReporter) {
    loop {
        let status = match node.readiness().await {
            Ok(_) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        for service in ["", "kv.Kv"] {
            reporter.set_service_status(service, status).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The reflection service: what `proto/kv.proto` says, and the health service.
pub(super) fn reflection() -> ServerReflectionServer<impl ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("descriptors that were compiled are well-formed")
}
