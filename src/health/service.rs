//! The sync-health service.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    domain::{Micros, PartyId, RejectionReason},
    exchange::{Direction, Place},
    store::{Heads, StoreError, UnmappedStatus},
    wire::{
        self,
        v1::{self, sync_health_service_server::SyncHealthService},
    },
};

use super::{PartyHealth, Source};

/// Says whether a call may see how things stand.
pub type MayOperate = Arc<dyn Fn(&MetadataMap) -> Result<(), Status> + Send + Sync>;

/// The service.
#[derive(Clone)]
pub struct SyncHealth {
    source: Source,
    may_operate: MayOperate,
}

impl SyncHealth {
    /// The service over a source.
    pub fn new(source: Source, may_operate: MayOperate) -> Self {
        Self {
            source,
            may_operate,
        }
    }
}

#[tonic::async_trait]
impl SyncHealthService for SyncHealth {
    async fn get_sync_status(
        &self,
        request: Request<v1::GetSyncStatusRequest>,
    ) -> Result<Response<v1::GetSyncStatusResponse>, Status> {
        (self.may_operate)(request.metadata())?;
        let only = match request.into_inner().party.as_str() {
            "" => None,
            text => Some(party(text)?),
        };
        let parties = self.source.read(only.as_ref()).await.map_err(unavailable)?;
        let (orphans, in_triage) = match &self.source.hub {
            Some(hub) => (
                hub.orphans().await.map_err(unavailable)?.len() as u64,
                hub.in_triage().await.map_err(unavailable)?,
            ),
            None => (0, 0),
        };
        Ok(Response::new(v1::GetSyncStatusResponse {
            role: self.source.role.to_owned(),
            software: crate::link::software(),
            parties: parties
                .into_iter()
                .map(|found| party_sync(found, self.source.hub.is_some()))
                .collect(),
            orphans,
            in_triage,
            alarms: (self.source.facts.alarms)()
                .into_iter()
                .map(|alarm| v1::Alarm {
                    reason: alarm.reason.to_owned(),
                    explanation: alarm.why,
                })
                .collect(),
            now: Some(wire::timestamp(Micros(self.source.clock.now_micros()))),
        }))
    }

    async fn get_journal_chain(
        &self,
        request: Request<v1::GetJournalChainRequest>,
    ) -> Result<Response<v1::GetJournalChainResponse>, Status> {
        (self.may_operate)(request.metadata())?;
        let v1::GetJournalChainRequest {
            party: name,
            journal,
            position,
        } = request.into_inner();
        let party = party(&name)?;
        let direction = wire::journal_from("journal", journal)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let store = &self.source.store;
        let heads = store.heads(&party).await.map_err(unavailable)?;
        let head = match direction {
            Direction::Submissions => heads.submissions.position,
            Direction::Deliveries => heads.deliveries,
        };
        let position = if position == 0 { head } else { position };
        let place: Option<Place> = store
            .place_at(&party, direction, position)
            .await
            .map_err(unavailable)?;
        let place = place.ok_or_else(|| {
            Status::out_of_range(format!(
                "position {position} is beyond the head ({head}), or is being copied"
            ))
        })?;
        Ok(Response::new(v1::GetJournalChainResponse {
            epoch: heads.epoch,
            place: Some(wire::place_to(place)),
        }))
    }
}

fn party(text: &str) -> Result<PartyId, Status> {
    PartyId::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn unavailable(error: StoreError) -> Status {
    Status::unavailable(error.to_string())
}

fn party_sync(found: PartyHealth, is_hub: bool) -> v1::PartySync {
    let PartyHealth {
        party,
        link,
        heads,
        counts,
        unread,
        unmapped,
        complete_up_to,
        judged,
    } = found;
    let (submissions, deliveries) = journals(&heads, is_hub);
    v1::PartySync {
        party: party.as_str().to_owned(),
        verdict: judged.verdict as i32,
        since: judged.since.map(wire::timestamp),
        explanation: judged.explanation,
        submissions: Some(submissions),
        deliveries: Some(deliveries),
        last_heard: link
            .as_ref()
            .and_then(|link| link.last_heard)
            .map(wire::timestamp),
        clock_skew_ms: link.as_ref().map_or(0, |link| link.clock_skew_ms),
        certificate_expires_at: link
            .as_ref()
            .and_then(|link| link.peer_certificate_expires_at)
            .map(wire::timestamp),
        software: link.map_or_else(String::new, |link| link.peer_software),
        counts: Some(v1::Counts {
            accepted: counts.accepted,
            duplicates: counts.duplicates,
            rejected: counts.rejected,
            parked: counts.parked,
            repeated_handovers: counts.repeated_handovers,
        }),
        complete_up_to: complete_up_to.map(wire::timestamp),
        unmapped_statuses: unmapped.into_iter().map(unmapped_status).collect(),
        dead_letters: Some(v1::DeadLetterCounts {
            rejected: counts.rejected,
            parked: counts.parked,
            unreadable: unread,
        }),
    }
}

fn unmapped_status(found: UnmappedStatus) -> v1::UnmappedStatus {
    let UnmappedStatus {
        system,
        code,
        name,
        count,
        last_seen,
    } = found;
    v1::UnmappedStatus {
        reason: RejectionReason::UnmappedStatus.code().to_owned(),
        system: system.as_str().to_owned(),
        code,
        name,
        count,
        last_seen: Some(wire::timestamp(last_seen)),
    }
}

fn journals(heads: &Heads, is_hub: bool) -> (v1::JournalState, v1::JournalState) {
    let oldest = heads.oldest_waiting.map(wire::timestamp);
    let submissions_backlog = if is_hub {
        0
    } else {
        heads.submissions.position - heads.submissions_acknowledged.position
    };
    let deliveries_backlog = if is_hub {
        heads.deliveries - heads.deliveries_acknowledged.position
    } else {
        heads.deliveries.saturating_sub(heads.consumed_through)
    };
    let submissions = v1::JournalState {
        epoch: heads.epoch,
        head: Some(wire::place_to(heads.submissions)),
        acknowledged: Some(wire::place_to(heads.submissions_acknowledged)),
        consumed_through: 0,
        backlog: submissions_backlog,
        oldest_waiting: oldest.filter(|_| !is_hub),
    };
    let deliveries = v1::JournalState {
        epoch: heads.epoch,
        head: Some(v1::Place {
            position: heads.deliveries,
            chain: bytes::Bytes::new(),
        }),
        acknowledged: Some(wire::place_to(heads.deliveries_acknowledged)),
        consumed_through: heads.consumed_through,
        backlog: deliveries_backlog,
        oldest_waiting: oldest.filter(|_| is_hub),
    };
    (submissions, deliveries)
}
