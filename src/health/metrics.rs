//! `/healthz`, `/readyz`, `/metrics`, and the honest answer to "serving?".

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::time::timeout;

use super::Source;

/// A store that takes longer than this to write one small row can't write.
const PROBE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfParty {
    party: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    party: String,
    verdict: String,
}

/// Whether the node can do its work now; else why not.
///
/// # Errors
/// Why not.
pub async fn serving(source: &Source) -> Result<(), String> {
    match timeout(PROBE, source.store.probe()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "the store did not write a row within {} s",
            PROBE.as_secs()
        )),
    }
}

/// The health routes. `/healthz`: the process lives. `/readyz`: it can store.
pub fn health_router(source: Source, draining: Arc<dyn Fn() -> bool + Send + Sync>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state((source, draining))
}

type Shared = (Source, Arc<dyn Fn() -> bool + Send + Sync>);

async fn ready(State((source, draining)): State<Shared>) -> Response {
    if draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match serving(&source).await {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State((source, _)): State<Shared>) -> Response {
    match scrape(&source).await {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn scrape(source: &Source) -> Result<String, String> {
    let parties = source.read(None).await.map_err(|error| error.to_string())?;
    let mut registry = Registry::with_prefix("jembatan");
    let mut gauge = |name: &str, help: &str| {
        let family = Family::<OfParty, Gauge>::default();
        registry.register(name, help, family.clone());
        family
    };
    let submissions = gauge(
        "submissions_head_position",
        "Head of the submissions journal",
    );
    let deliveries = gauge("deliveries_head_position", "Head of the deliveries journal");
    let consumed = gauge(
        "deliveries_consumed_position",
        "Deliveries that the local system has taken over",
    );
    let waiting = gauge(
        "entries_waiting",
        "Entries that the peer has not acknowledged",
    );
    let age = gauge(
        "oldest_waiting_seconds",
        "Age of the oldest entry that waits",
    );
    let accepted = gauge("submissions_accepted", "Submissions accepted so far");
    let duplicates = gauge("submissions_duplicate", "Submissions that were duplicates");
    let rejected = gauge("submissions_rejected", "Submissions rejected so far");
    let parked = gauge("submissions_parked", "Submissions parked");
    let skew = gauge("clock_skew_milliseconds", "The peer's clock minus ours");
    let verdicts = Family::<OfVerdict, Gauge>::default();
    registry.register(
        "link_verdict",
        "1 for the verdict in force",
        verdicts.clone(),
    );
    let now = source.clock.now_micros();
    for found in parties {
        let label = OfParty {
            party: found.party.as_str().to_owned(),
        };
        let heads = &found.heads;
        let set = |family: &Family<OfParty, Gauge>, value: u64| {
            family.get_or_create(&label).set(value as i64);
        };
        set(&submissions, heads.submissions.position);
        set(&deliveries, heads.deliveries);
        set(&consumed, heads.consumed_through);
        let unacknowledged = if source.hub.is_some() {
            heads.deliveries - heads.deliveries_acknowledged.position
        } else {
            heads.submissions.position - heads.submissions_acknowledged.position
        };
        set(&waiting, unacknowledged);
        let oldest = heads
            .oldest_waiting
            .map_or(0, |oldest| (now - oldest.0) / 1_000_000);
        age.get_or_create(&label).set(oldest);
        set(&accepted, found.counts.accepted);
        set(&duplicates, found.counts.duplicates);
        set(&rejected, found.counts.rejected);
        set(&parked, found.counts.parked);
        let skew_ms = found.link.as_ref().map_or(0, |link| link.clock_skew_ms);
        skew.get_or_create(&label).set(skew_ms);
        let verdict = OfVerdict {
            party: label.party.clone(),
            verdict: found
                .judged
                .verdict
                .as_str_name()
                .trim_start_matches("VERDICT_")
                .to_lowercase(),
        };
        verdicts.get_or_create(&verdict).set(1);
    }
    if let Some(hub) = &source.hub {
        let orphans: Gauge = Gauge::default();
        let triage: Gauge = Gauge::default();
        registry.register(
            "orphans",
            "Open complaints whose owner nobody reads for; must be 0",
            orphans.clone(),
        );
        registry.register("in_triage", "Open complaints in triage", triage.clone());
        let found = hub.orphans().await.map_err(|error| error.to_string())?;
        orphans.set(found.len() as i64);
        triage.set(hub.in_triage().await.map_err(|error| error.to_string())? as i64);
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| error.to_string())?;
    Ok(text)
}
