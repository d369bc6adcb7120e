//! What was rejected or parked: read from the database for an operator's command,
//! beside the hubs that run, or by a hub itself. A hub receives nothing that it
//! could fail to read.

use tokio_postgres::types::ToSql;

use crate::{
    domain::PartyId,
    store::{DeadLetter, LetterKind, LetterName, LetterQuery, StoreError},
};

use super::{
    again,
    connect::{Database, Line, Settings},
    schema,
    session::{Session, rows},
};

// Of each: parties, moments, reasons, then before which (moment, row); by the
// index of what was not accepted.
const PARKED: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome = 4 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) AND $3::text IS NULL \
         AND (s.stored_at, s.id) < ($4, $5) \
     ORDER BY s.stored_at DESC, s.id DESC LIMIT $6";
const REJECTED: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome = 3 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) \
         AND ($3::text IS NULL \
             OR starts_with((s.decision::json -> 'rejection' -> 'reason')::text, $3)) \
         AND (s.stored_at, s.id) < ($4, $5) \
     ORDER BY s.stored_at DESC, s.id DESC LIMIT $6";

const BY_EVENT: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome >= 3 AND s.event_id = $1 ORDER BY s.id";
const AT_PLACE: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, s.event, s.decision FROM journal j \
     JOIN submission s ON s.id = (j.id << 36) | $3 \
     WHERE j.party = $1 AND j.direction = 1 AND ($2::bigint IS NULL OR j.epoch = $2) \
         AND s.outcome >= 3 ORDER BY s.id";

/// What the database holds of what is asked for: what is parked, then what was
/// rejected; of each the newest first.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn letters(
    settings: &Settings,
    query: &LetterQuery,
) -> Result<Vec<DeadLetter>, StoreError> {
    let line = line(settings).await?;
    let party = query.party.as_ref().map(PartyId::as_str);
    let since = query.since.map(|since| since.0);
    let reason = query.reason_begins();
    let mut found = Vec::new();
    for (kind, before) in query.stretches() {
        let statement = match kind {
            LetterKind::Unreadable => continue,
            LetterKind::Parked => PARKED,
            LetterKind::Rejected => REJECTED,
        };
        let left = i64::try_from(query.limit - found.len()).unwrap_or(i64::MAX);
        let values: [&(dyn ToSql + Sync); 6] =
            [&party, &since, &reason, &before.0, &before.1, &left];
        for row in rows(line.client(), statement, &values).await? {
            found.push(again::letter(&row)?);
        }
    }
    Ok(found)
}

/// Letters of a database that a name means.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn letters_named(
    settings: &Settings,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    named(line(settings).await?.client(), name).await
}

async fn line(settings: &Settings) -> Result<Line, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    schema::must_fit(line.client()).await?;
    Ok(line)
}

/// What a name means, in the order of the journals.
pub(super) async fn named(
    client: &Session,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    let found = match name {
        LetterName::Event(id) => rows(client, BY_EVENT, &[&id.as_bytes().as_slice()]).await?,
        LetterName::Place {
            party,
            epoch,
            position,
        } => {
            let epoch = epoch.map(|epoch| epoch as i64);
            let values: [&(dyn ToSql + Sync); 3] = [&party.as_str(), &epoch, &(*position as i64)];
            rows(client, AT_PLACE, &values).await?
        }
    };
    found.iter().map(again::letter).collect()
}
