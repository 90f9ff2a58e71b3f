//! `grpc.health.v1`: for the registry as a whole (`""`) and for `muster.v1.Registry`, what `/readyz` says.

use std::{convert::Infallible, time::Duration};

use muster_proto::v1::registry_server::SERVICE_NAME;
use service_kit::health::Readiness;
use tokio::time::{MissedTickBehavior, interval};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

/// How often readiness is looked at, as the mirror's own.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn service() -> (HealthReporter, HealthServer<impl Health>) {
    tonic_health::server::health_reporter()
}

/// Tells `reporter` whether the registry is ready, for as long as it is polled.
pub async fn run(reporter: HealthReporter, readiness: Readiness) -> Infallible {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = None;
    loop {
        ticks.tick().await;
        let status = if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        // Watchers are sent what is set, even if it is the same.
        if reported.replace(status) == Some(status) {
            continue;
        }
        for service in ["", SERVICE_NAME] {
            reporter.set_service_status(service, status).await;
        }
    }
}
