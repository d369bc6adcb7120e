//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::wire::v1::Verdict;

use super::{Checks, PartyHealth, Source};

/// Says whether a caller may see details: beyond this machine not everybody.
pub type MayMeasure = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

#[derive(Clone)]
struct Shared {
    source: Source,
    is_draining: Arc<dyn Fn() -> bool + Send + Sync>,
    may_measure: MayMeasure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: String,
}

impl OfReason {
    fn new(reason: &str) -> Self {
        Self {
            reason: reason.to_lowercase(),
        }
    }
}

/// The health routes. `/healthz`: the process lives. `/readyz`: it can do its
/// work, or which check failed and why. `/metrics`: numbers.
pub fn health_router(
    source: Source,
    is_draining: Arc<dyn Fn() -> bool + Send + Sync>,
    may_measure: MayMeasure,
) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Shared {
            source,
            is_draining,
            may_measure,
        })
}

fn refused() -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, "Bearer realm=\"jembatan\"")],
        "this needs a token with the scope operate\n",
    )
        .into_response()
}

async fn ready(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if !(shared.may_measure)(&headers) {
        return refused();
    }
    let Checks(checks) = shared.source.check((shared.is_draining)()).await;
    let is_ready = checks.iter().all(|check| check.problem.is_none());
    let told = checks.iter().map(|check| {
        let mut told = serde_json::json!({"check": check.name, "ok": check.problem.is_none()});
        if let Some(why) = &check.problem {
            told["why"] = why.as_str().into();
        }
        told
    });
    let told: Vec<serde_json::Value> = told.collect();
    let body = serde_json::json!({"ready": is_ready, "checks": told});
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if !(shared.may_measure)(&headers) {
        return refused();
    }
    match scrape(&shared.source).await {
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfParty {
    party: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    party: String,
    verdict: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCertificate {
    certificate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    party: String,
    kind: Kind,
}

/// Kinds of dead letters; each has its own line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Rejected,
    Parked,
    Unreadable,
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let word = match self {
            Self::Rejected => "rejected",
            Self::Parked => "parked",
            Self::Unreadable => "unreadable",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

/// A verdict as a label: one of a closed list, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word(Verdict);

/// Every verdict that a party can have; each has its own line, so that an
/// alarm on one finds it before it was ever in force.
const VERDICTS: [Verdict; 12] = [
    Verdict::Healthy,
    Verdict::Behind,
    Verdict::Stalled,
    Verdict::Silent,
    Verdict::Disconnected,
    Verdict::Refused,
    Verdict::Mismatch,
    Verdict::Paused,
    Verdict::NeverConnected,
    Verdict::Disabled,
    Verdict::NoLink,
    Verdict::Attention,
];

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let word = self.0.as_str_name().trim_start_matches("VERDICT_");
        EncodeLabelValue::encode(&word.to_lowercase(), encoder)
    }
}

type PerParty = Family<OfParty, Gauge>;

/// What there is to say of each party.
struct Gauges {
    submissions: PerParty,
    deliveries: PerParty,
    consumed: PerParty,
    waiting: PerParty,
    age: PerParty,
    accepted: PerParty,
    duplicates: PerParty,
    rejected: PerParty,
    parked: PerParty,
    skew: PerParty,
    unmapped: PerParty,
    complete_up_to: PerParty,
    verdicts: Family<OfVerdict, Gauge>,
    dead_letters: Family<OfKind, Gauge>,
}

impl Gauges {
    fn register(registry: &mut Registry) -> Self {
        let verdicts = Family::<OfVerdict, Gauge>::default();
        let dead_letters = Family::<OfKind, Gauge>::default();
        let mut gauge = |name: &str, help: &str| {
            let family = PerParty::default();
            registry.register(name, help, family.clone());
            family
        };
        let made = Self {
            submissions: gauge(
                "submissions_head_position",
                "Head of the submissions journal",
            ),
            deliveries: gauge("deliveries_head_position", "Head of the deliveries journal"),
            consumed: gauge(
                "deliveries_consumed_position",
                "Deliveries that the local system has taken over",
            ),
            waiting: gauge(
                "entries_waiting",
                "Backlog: entries that the peer has not acknowledged",
            ),
            age: gauge(
                "oldest_waiting_seconds",
                "Age of the oldest entry that waits",
            ),
            accepted: gauge("submissions_accepted", "Submissions accepted so far"),
            duplicates: gauge("submissions_duplicate", "Submissions that were duplicates"),
            rejected: gauge("submissions_rejected", "Submissions rejected so far"),
            parked: gauge("submissions_parked", "Submissions parked"),
            skew: gauge("clock_skew_milliseconds", "The peer's clock minus ours"),
            unmapped: gauge(
                "unmapped_statuses",
                "Local statuses that wait for a row in the mapping table, up to 100",
            ),
            complete_up_to: gauge(
                "complete_up_to_timestamp_seconds",
                "Everything that the hub had for the party at this time is held here; 0: not known",
            ),
            verdicts: verdicts.clone(),
            dead_letters: dead_letters.clone(),
        };
        registry.register(
            "dead_letters",
            "Rejected so far; parked, and unreadable up to 1000, that wait for a person",
            dead_letters,
        );
        registry.register(
            "link_verdict",
            "1 for the verdict in force, else 0",
            verdicts,
        );
        made
    }

    fn set(&self, found: &PartyHealth, is_hub: bool, now: i64) {
        let label = OfParty {
            party: found.party.as_str().to_owned(),
        };
        let heads = &found.heads;
        let set = |family: &PerParty, value: u64| {
            family.get_or_create(&label).set(value as i64);
        };
        set(&self.submissions, heads.submissions.position);
        set(&self.deliveries, heads.deliveries);
        set(&self.consumed, heads.consumed_through);
        let unacknowledged = if is_hub {
            heads
                .deliveries
                .saturating_sub(heads.deliveries_acknowledged.position)
        } else {
            heads
                .submissions
                .position
                .saturating_sub(heads.submissions_acknowledged.position)
        };
        set(&self.waiting, unacknowledged);
        let oldest = heads
            .oldest_waiting
            .map_or(0, |oldest| (now - oldest.0) / 1_000_000);
        self.age.get_or_create(&label).set(oldest);
        set(&self.accepted, found.counts.accepted);
        set(&self.duplicates, found.counts.duplicates);
        set(&self.rejected, found.counts.rejected);
        set(&self.parked, found.counts.parked);
        for (kind, count) in [
            (Kind::Rejected, found.counts.rejected),
            (Kind::Parked, found.counts.parked),
            (Kind::Unreadable, found.unread),
        ] {
            let party = label.party.clone();
            let of = OfKind { party, kind };
            self.dead_letters.get_or_create(&of).set(count as i64);
        }
        let skew = found.link.as_ref().map_or(0, |link| link.clock_skew_ms);
        self.skew.get_or_create(&label).set(skew);
        set(&self.unmapped, found.unmapped.len() as u64);
        let complete = found.complete_up_to.map_or(0, |at| at.0 / 1_000_000);
        self.complete_up_to.get_or_create(&label).set(complete);
        for verdict in VERDICTS {
            let of = OfVerdict {
                party: label.party.clone(),
                verdict: Word(verdict),
            };
            let in_force = i64::from(verdict == found.judged.verdict);
            self.verdicts.get_or_create(&of).set(in_force);
        }
    }
}

fn certificates(source: &Source, registry: &mut Registry, now: i64) {
    let expires = Family::<OfCertificate, Gauge>::default();
    let unusable = Family::<OfCertificate, Gauge>::default();
    let failures = Family::<OfCertificate, Counter>::default();
    let renewals = Family::<OfCertificate, Counter>::default();
    let renewal_failures = Family::<OfCertificate, Counter>::default();
    registry.register(
        "certificate_renewals",
        "Times that the certificate has renewed itself, since the start",
        renewals.clone(),
    );
    registry.register(
        "certificate_renewal_failures",
        "Attempts to renew it over the link that failed, since the start",
        renewal_failures.clone(),
    );
    registry.register(
        "certificate_expires_seconds",
        "Seconds until the certificate in use ends; below 0: it has ended",
        expires.clone(),
    );
    registry.register(
        "certificate_files_unusable",
        "1 while the files as they stand can't be used (the old ones stay in use)",
        unusable.clone(),
    );
    registry.register(
        "certificate_reload_failures",
        "Changed files that could not be used, since the start",
        failures.clone(),
    );
    for found in (source.certificates)() {
        let of = OfCertificate {
            certificate: found.name.clone(),
        };
        if let Some((_, not_after)) = found.lifetime {
            let left = (not_after.0 - now) / 1_000_000;
            expires.get_or_create(&of).set(left);
        }
        unusable
            .get_or_create(&of)
            .set(i64::from(found.last_error.is_some()));
        // The registry is made anew for each answer: from 0.
        failures.get_or_create(&of).inc_by(found.reload_failures);
        renewals.get_or_create(&of).inc_by(found.renewals);
        renewal_failures
            .get_or_create(&of)
            .inc_by(found.renewal_failures);
    }
}

fn reasons(source: &Source, registry: &mut Registry) {
    let alarms = Family::<OfReason, Gauge>::default();
    registry.register(
        "alarms",
        "What a person must look at, by reason; must be 0",
        alarms.clone(),
    );
    for alarm in (source.facts.alarms)() {
        alarms.get_or_create(&OfReason::new(alarm.reason)).inc();
    }
    let refused = Family::<OfReason, Counter>::default();
    registry.register(
        "tls_refused",
        "Callers that TLS refused since the start, by reason",
        refused.clone(),
    );
    for (reason, count) in (source.facts.tls_refused)() {
        refused.get_or_create(&OfReason::new(reason)).inc_by(count);
    }
}

async fn scrape(source: &Source) -> Result<String, String> {
    let parties = source.read(None).await.map_err(|error| error.to_string())?;
    let mut registry = Registry::with_prefix("jembatan");
    let gauges = Gauges::register(&mut registry);
    let now = source.clock.now_micros();
    for found in &parties {
        gauges.set(found, source.hub.is_some(), now);
    }
    certificates(source, &mut registry, now);
    reasons(source, &mut registry);
    let mut single = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    if let Some(sessions) = &source.sessions {
        let live = i64::try_from(sessions()).unwrap_or(i64::MAX);
        single("sessions", "Live sessions of parties", live);
    }
    if let Some(hub) = &source.hub {
        let orphans = hub.orphans().await.map_err(|error| error.to_string())?;
        let in_triage = hub.in_triage().await.map_err(|error| error.to_string())?;
        single(
            "orphans",
            "Open complaints whose owner nobody reads for; must be 0",
            orphans.len() as i64,
        );
        single("in_triage", "Open complaints in triage", in_triage as i64);
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the verdicts of the contract beside the lines of the metrics.
    /// Guarantee: each verdict has its line, so that an alarm can be put on it.
    #[test]
    fn every_verdict_has_a_line() {
        let of_contract: Vec<Verdict> = (1..)
            .map_while(|number| Verdict::try_from(number).ok())
            .collect();
        assert!(of_contract.len() >= 12);
        for verdict in of_contract {
            assert!(VERDICTS.contains(&verdict), "{verdict:?}");
        }
    }
}
