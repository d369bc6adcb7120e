//! Decisions as rows.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        ComplaintId, Decision, Digest, EventId, InstitutionCode, Outcome, Rejection, Status,
        TrackingId,
    },
    store::StoreError,
};

use super::{blob16, damaged, digest, writer::Tx};

fn outcome_number(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Accepted => 1,
        Outcome::Duplicate => 2,
        Outcome::Rejected => 3,
        Outcome::Parked => 4,
    }
}

fn outcome_from(number: i64) -> Result<Outcome, StoreError> {
    match number {
        1 => Ok(Outcome::Accepted),
        2 => Ok(Outcome::Duplicate),
        3 => Ok(Outcome::Rejected),
        4 => Ok(Outcome::Parked),
        _ => Err(damaged("a decision with an unknown outcome")),
    }
}

impl Tx<'_> {
    /// Keeps what was decided about a row; `false`: it was kept before.
    pub(super) fn put_decision(&self, row: i64, decision: &Decision) -> Result<bool, StoreError> {
        let rejection = decision
            .rejection
            .as_ref()
            .map(serde_json::to_string)
            .transpose()
            .map_err(|_| damaged("a rejection can't be written"))?;
        let digests = decision
            .rejection
            .as_ref()
            .and_then(|rejection| rejection.digests);
        let changed = self
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO decision (row, outcome, event_id, complaint_id, revision, \
                 status, handler, tracking_id, duplicate_of, rejection, stored_digest, \
                 refused_digest, answer_missing) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                row,
                outcome_number(decision.outcome),
                decision
                    .event_id
                    .as_ref()
                    .map(|id| id.as_bytes().as_slice()),
                decision
                    .complaint_id
                    .as_ref()
                    .map(|id| id.as_bytes().as_slice()),
                decision.revision,
                decision.status.map(Status::code),
                decision.handler.as_ref().map(InstitutionCode::as_str),
                decision.tracking_id.as_ref().map(TrackingId::as_str),
                decision.duplicate_of as i64,
                rejection,
                digests.map(|(stored, _)| stored.as_bytes().to_vec()),
                digests.map(|(_, refused)| refused.as_bytes().to_vec()),
                decision.answer_missing,
            ])?;
        Ok(changed == 1)
    }
}

/// What was decided about a row, if it was.
pub(super) fn read_decision(
    connection: &Connection,
    row: i64,
) -> Result<Option<Decision>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT outcome, event_id, complaint_id, revision, status, handler, tracking_id, \
             duplicate_of, rejection, stored_digest, refused_digest, answer_missing \
             FROM decision WHERE row = ?1",
        )?
        .query_row([row], |found| Ok(from_row(found)))
        .optional()?;
    found.transpose()
}

fn from_row(row: &Row<'_>) -> Result<Decision, StoreError> {
    let id = |index| -> Result<Option<[u8; 16]>, StoreError> {
        let bytes: Option<Vec<u8>> = row.get(index)?;
        Ok(bytes.map(|bytes| blob16(&bytes)).transpose()?)
    };
    let hash = |index| -> Result<Option<Digest>, StoreError> {
        let bytes: Option<Vec<u8>> = row.get(index)?;
        Ok(bytes.map(|bytes| digest(&bytes)).transpose()?)
    };
    let status: Option<String> = row.get(4)?;
    let handler: Option<String> = row.get(5)?;
    let tracking_id: Option<String> = row.get(6)?;
    let rejection: Option<String> = row.get(8)?;
    let mut rejection: Option<Rejection> = rejection
        .map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|_| damaged("a rejection can't be read"))?;
    if let (Some(rejection), Some(stored), Some(refused)) = (&mut rejection, hash(9)?, hash(10)?) {
        rejection.digests = Some((stored, refused));
    }
    Ok(Decision {
        outcome: outcome_from(row.get(0)?)?,
        event_id: id(1)?.map(EventId::from_bytes),
        complaint_id: id(2)?.map(ComplaintId::from_bytes),
        revision: row.get(3)?,
        status: status
            .map(|code| Status::from_code(&code).ok_or_else(|| damaged("an unknown status")))
            .transpose()?,
        handler: handler
            .map(|code| InstitutionCode::parse(&code))
            .transpose()
            .map_err(|_| damaged("an institution's code"))?,
        tracking_id: tracking_id
            .map(|text| TrackingId::parse(&text))
            .transpose()
            .map_err(|_| damaged("a Tracking ID"))?,
        duplicate_of: row.get::<_, i64>(7)? as u64,
        rejection,
        answer_missing: row.get(11)?,
    })
}
