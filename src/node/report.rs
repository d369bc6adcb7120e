//! The standard gRPC health service, told honestly and per service.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use crate::health::{Needs, Source};

/// How often health is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(2);

/// What each service of a port needs, the whole port (empty name) first.
pub type Services = Vec<(&'static str, Needs)>;

/// The health service of a port, red until it has been looked at once: whoever
/// asks early is not told "serving" by a node that has not tried to write.
pub async fn health_service(
    services: &Services,
) -> (HealthReporter, HealthServer<impl Health + use<>>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    for (service, _) in services {
        reporter
            .set_service_status(service, ServingStatus::NotServing)
            .await;
    }
    (reporter, health)
}

/// Tells the health service how each service does, at once when the node
/// begins to stop, until `stop`.
pub async fn report(
    reporter: HealthReporter,
    source: Source,
    services: Services,
    not_serving: CancellationToken,
    stop: CancellationToken,
) {
    // Only changes are told: each telling reaches everybody who watches.
    let mut told: Vec<Option<ServingStatus>> = vec![None; services.len()];
    loop {
        let checks = source.check(not_serving.is_cancelled()).await;
        for ((service, needs), told) in services.iter().zip(&mut told) {
            let status = if checks.allow(*needs) {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            if told.replace(status) != Some(status) {
                reporter.set_service_status(service, status).await;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = not_serving.cancelled(), if !not_serving.is_cancelled() => {}
            () = tokio::time::sleep(HEALTH_EVERY) => {}
        }
    }
}
