//! What every engine of an adapter keeps beside its rows, and what it makes of it
//! alike: effects of own events, headers, and what was told in an earlier epoch.
//! Knows no SQL.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        ComplaintId, Decision, Digest, Event, EventBody, EventHeader, EventId, InstitutionCode,
        Micros, Outcome, PartKind, PartyId, Role, Status, TrackingId,
    },
    store::StoreError,
};

/// Parts as they came, in `delivery.readable`.
pub(super) const READABLE: i64 = 3;
/// Set in `delivery.readable`: an earlier epoch brought all of it.
pub(super) const TOLD_BEFORE: i64 = 4;
/// The same, of some of its decisions: they stand in `told_decision`.
pub(super) const PARTLY_TOLD: i64 = 8;

/// A header as it is kept beside the history of an adapter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeaderRow {
    status: Status,
    handler: Option<InstitutionCode>,
    tracking_id: TrackingId,
    role: Role,
    readable_parts: Vec<PartKind>,
    answer_missing: bool,
}

impl From<&EventHeader> for HeaderRow {
    fn from(header: &EventHeader) -> Self {
        Self {
            status: header.status,
            handler: header.handler.clone(),
            tracking_id: header.tracking_id.clone(),
            role: header.role,
            readable_parts: header.readable_parts.clone(),
            answer_missing: header.answer_missing,
        }
    }
}

impl HeaderRow {
    pub(super) fn json(&self) -> Result<String, StoreError> {
        serde_json::to_string(self).map_err(|_| damaged("a header can't be written"))
    }

    pub(super) fn from_json(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(|_| damaged("a header can't be read"))
    }

    /// The header, with what its row says beside.
    pub(super) fn header(self, beside: Beside) -> EventHeader {
        EventHeader {
            event_id: beside.event_id,
            complaint_id: beside.complaint_id,
            revision: beside.revision,
            status: self.status,
            handler: self.handler,
            tracking_id: self.tracking_id,
            party: beside.author,
            accepted_at: beside.accepted_at,
            role: self.role,
            readable_parts: self.readable_parts,
            hops: beside.hops,
            answer_missing: self.answer_missing,
        }
    }
}

/// What of a header stands in columns of its own.
pub(super) struct Beside {
    pub(super) event_id: EventId,
    pub(super) complaint_id: ComplaintId,
    pub(super) revision: u32,
    pub(super) author: PartyId,
    pub(super) accepted_at: Micros,
    pub(super) hops: u32,
}

/// What an accepted own event changes at this node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct OwnEffect {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) anonymous: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confidential: Option<bool>,
    /// (event, digest of the part, hex).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) erases: Option<(EventId, String)>,
}

impl OwnEffect {
    /// As a row keeps it; `None`: the event has none.
    pub(super) fn json_of(event: &Event) -> Result<Option<String>, StoreError> {
        Self::of(event)
            .map(|effect| serde_json::to_string(&effect))
            .transpose()
            .map_err(|_| damaged("an own effect"))
    }

    /// As a row has kept it.
    pub(super) fn from_json(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(|_| damaged("an own effect"))
    }

    pub(super) fn of(event: &Event) -> Option<Self> {
        match &event.body {
            EventBody::VisibilityChanged {
                anonymous,
                confidential,
            } => Some(Self {
                anonymous: *anonymous,
                confidential: *confidential,
                erases: None,
            }),
            EventBody::PartErased { event_id, sha256 } => Some(Self {
                anonymous: None,
                confidential: None,
                erases: Some((*event_id, sha256.to_string())),
            }),
            _ => None,
        }
    }
}

/// The digest of a part that an effect erases.
pub(super) fn erased_digest(text: &str) -> Result<Digest, StoreError> {
    let bytes = hex::decode(text).ok();
    bytes
        .and_then(|bytes| Digest::from_slice(&bytes))
        .ok_or_else(|| damaged("a digest"))
}

/// Whether it says what was said before. That an event is known already says
/// nothing new to its author, who was told that it was accepted.
pub(super) fn says_the_same(said: &Decision, now: &Decision) -> bool {
    let settled = |outcome| matches!(outcome, Outcome::Accepted | Outcome::Duplicate);
    let is_same_outcome =
        said.outcome == now.outcome || (settled(said.outcome) && settled(now.outcome));
    is_same_outcome
        && said.revision == now.revision
        && said.status == now.status
        && said.handler == now.handler
        && said.rejection == now.rejection
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}
