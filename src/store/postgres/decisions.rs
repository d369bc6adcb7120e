//! Decisions as they are kept: JSON beside the submission that they decide.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        ComplaintId, Decision, Digest, EventId, InstitutionCode, Outcome, Rejection, Status,
        TrackingId,
    },
    store::StoreError,
};

use super::damaged;

/// The columns and names of this JSON are the schema's: they only grow.
#[derive(Serialize, Deserialize)]
struct Kept {
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complaint_id: Option<ComplaintId>,
    #[serde(default, skip_serializing_if = "is_zero")]
    revision: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handler: Option<InstitutionCode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracking_id: Option<TrackingId>,
    #[serde(default, skip_serializing_if = "is_zero")]
    duplicate_of: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejection: Option<Rejection>,
    /// Of a conflict: stored and refused, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digests: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    answer_missing: bool,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The number of an outcome in `submission.outcome`.
pub(super) fn outcome_number(outcome: Outcome) -> i16 {
    match outcome {
        Outcome::Accepted => 1,
        Outcome::Duplicate => 2,
        Outcome::Rejected => 3,
        Outcome::Parked => 4,
    }
}

/// As it is kept.
pub(super) fn to_json(decision: &Decision) -> Result<String, StoreError> {
    let digests = decision.rejection.as_ref().and_then(|found| found.digests);
    let kept = Kept {
        outcome: decision.outcome,
        event_id: decision.event_id,
        complaint_id: decision.complaint_id,
        revision: decision.revision,
        status: decision.status,
        handler: decision.handler.clone(),
        tracking_id: decision.tracking_id.clone(),
        duplicate_of: decision.duplicate_of,
        rejection: decision.rejection.clone(),
        digests: digests.map(|(stored, refused)| (stored.to_string(), refused.to_string())),
        answer_missing: decision.answer_missing,
    };
    serde_json::to_string(&kept).map_err(|_| damaged("a decision can't be written"))
}

/// As it was decided.
pub(super) fn from_json(text: &str) -> Result<Decision, StoreError> {
    let kept: Kept = serde_json::from_str(text).map_err(|_| damaged("a decision can't be read"))?;
    let mut rejection = kept.rejection;
    if let (Some(rejection), Some((stored, refused))) = (&mut rejection, &kept.digests) {
        rejection.digests = Some((from_hex(stored)?, from_hex(refused)?));
    }
    Ok(Decision {
        outcome: kept.outcome,
        event_id: kept.event_id,
        complaint_id: kept.complaint_id,
        revision: kept.revision,
        status: kept.status,
        handler: kept.handler,
        tracking_id: kept.tracking_id,
        duplicate_of: kept.duplicate_of,
        rejection,
        answer_missing: kept.answer_missing,
    })
}

fn from_hex(text: &str) -> Result<Digest, StoreError> {
    let bytes = hex::decode(text).ok();
    bytes
        .and_then(|bytes| Digest::from_slice(&bytes))
        .ok_or_else(|| damaged("a digest of a conflict"))
}
