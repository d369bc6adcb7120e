//! The standard gRPC health service, told honestly and per service.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::health::{Needs, Source};

/// How often health is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(2);

/// What each service of a port needs, the whole port (empty name) first.
pub type Services = Vec<(&'static str, Needs)>;

/// Tells the health service how each service does, at once when the node
/// begins to stop, until `stop`.
pub async fn report(
    reporter: HealthReporter,
    source: Source,
    services: Services,
    not_serving: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        let checks = source.check(not_serving.is_cancelled()).await;
        for (service, needs) in &services {
            let status = if checks.allow(*needs) {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = not_serving.cancelled(), if !not_serving.is_cancelled() => {}
            () = tokio::time::sleep(HEALTH_EVERY) => {}
        }
    }
}
