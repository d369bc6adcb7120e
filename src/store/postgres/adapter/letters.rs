//! What a person may have to look at: deliveries that this node could not read, and
//! submissions that the hub refused or parked.

use tokio_postgres::{Row, types::ToSql};

use crate::{
    domain::{Micros, PartyId},
    exchange::Entry,
    store::{DeadLetter, LetterKind, LetterName, LetterQuery, StoreError, standing::position_of},
};

use super::super::{
    connect::{Database, Line, Settings},
    decisions::from_json,
    rows::{number, party},
    schema::{self, Role},
    session::{Session, one, rows},
};

/// Letters that are read at once, at most.
const PAGE: usize = 1_000;
/// Unread deliveries of a party are counted up to this.
const COUNTED: i64 = 1_000;

pub(super) const UNREAD: &str = "SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, ''::bytea), \
         NULL::text \
     FROM unread u JOIN journal j ON j.id = u.row >> 36 JOIN delivery d ON d.id = u.row \
     WHERE u.row > $1 AND ($2::text IS NULL OR u.party = $2) ORDER BY u.row LIMIT $3";
pub(super) const COUNT: &str =
    "SELECT count(*) FROM (SELECT 1 FROM unread WHERE party = $1 LIMIT $2) u";
// Of each: parties, moments, reasons, then before which (moment, row); the few that
// were not accepted have an index.
const UNREADABLE: &str = "SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, ''::bytea), \
         NULL::text \
     FROM unread u JOIN journal j ON j.id = u.row >> 36 JOIN delivery d ON d.id = u.row \
     WHERE ($1::text IS NULL OR u.party = $1) AND ($2::bigint IS NULL OR d.stored_at >= $2) \
         AND $3::text IS NULL AND (d.stored_at, u.row) < ($4, $5) \
     ORDER BY d.stored_at DESC, u.row DESC LIMIT $6";
const PARKED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM decision d JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome >= 3 AND d.outcome = 4 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) AND $3::text IS NULL \
         AND (s.stored_at, d.row) < ($4, $5) \
     ORDER BY s.stored_at DESC, d.row DESC LIMIT $6";
const REJECTED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM decision d JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome >= 3 AND d.outcome = 3 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) \
         AND ($3::text IS NULL \
             OR starts_with((d.decision::json -> 'rejection' -> 'reason')::text, $3)) \
         AND (s.stored_at, d.row) < ($4, $5) \
     ORDER BY s.stored_at DESC, d.row DESC LIMIT $6";
const BY_EVENT: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM decision d JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome >= 3 AND s.event_id = $1 ORDER BY d.row";
const AT_PLACE: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM journal j JOIN decision d ON d.row = (j.id << 36) | $3 JOIN submission s ON s.id = d.row \
     WHERE j.party = $1 AND ($2::bigint IS NULL OR j.epoch = $2) AND d.outcome >= 3 \
     UNION ALL \
     SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, ''::bytea), NULL \
     FROM journal j JOIN unread u ON u.row = (j.id << 36) | $3 JOIN delivery d ON d.id = u.row \
     WHERE j.party = $1 AND ($2::bigint IS NULL OR j.epoch = $2) ORDER BY 1";

/// What can be settled at this node: deliveries that it could not read, in the order
/// of their journals, after an id.
pub(super) async fn unread(
    client: &Session,
    only: Option<&PartyId>,
    after: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let (after, limit) = (after as i64, limit.min(PAGE) as i64);
    let only = only.map(PartyId::as_str);
    let found = rows(client, UNREAD, &[&after, &only, &limit]).await?;
    found.iter().map(letter).collect()
}

/// Deliveries of a party that this node could not read; counted up to a thousand.
pub(super) async fn count_unread(client: &Session, party: &PartyId) -> Result<u64, StoreError> {
    number(&one(client, COUNT, &[&party.as_str(), &COUNTED]).await?, 0)
}

/// What an adapter's database holds of what is asked for: what could not be read, then
/// what is parked, then what was rejected; of each the newest first. Read beside the
/// adapter that runs.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn adapter_letters(
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
            LetterKind::Unreadable => UNREADABLE,
            LetterKind::Parked => PARKED,
            LetterKind::Rejected => REJECTED,
        };
        let left = i64::try_from(query.limit - found.len()).unwrap_or(i64::MAX);
        let values: [&(dyn ToSql + Sync); 6] =
            [&party, &since, &reason, &before.0, &before.1, &left];
        for row in rows(line.client(), statement, &values).await? {
            found.push(letter(&row)?);
        }
    }
    Ok(found)
}

/// Letters of an adapter's database that a name means; one that can't be read is found
/// by its place only.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn adapter_letters_named(
    settings: &Settings,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    named(line(settings).await?.client(), name).await
}

async fn line(settings: &Settings) -> Result<Line, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    schema::must_fit_as(line.client(), Role::Adapter).await?;
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
    found.iter().map(letter).collect()
}

/// A letter of its columns: row, party, epoch, when it was stored, header, event, what
/// was decided.
fn letter(row: &Row) -> Result<DeadLetter, StoreError> {
    let id: i64 = row.try_get(0)?;
    let decision: Option<&str> = row.try_get(6)?;
    Ok(DeadLetter {
        id: id as u64,
        party: party(row, 1)?,
        epoch: number(row, 2)?,
        position: position_of(id),
        stored_at: Micros(row.try_get(3)?),
        decision: decision.map(from_json).transpose()?,
        entry: Entry {
            header: row.try_get::<_, Vec<u8>>(4)?.into(),
            event: row.try_get::<_, Vec<u8>>(5)?.into(),
            ..Entry::default()
        },
    })
}
