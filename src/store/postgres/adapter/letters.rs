//! What a person may have to look at: deliveries that this node could not read, and
//! submissions that the hub refused or parked.

use crate::{
    domain::PartyId,
    store::{DeadLetter, LetterName, LetterQuery, StoreError},
};

use super::super::{
    connect::Settings,
    letters::{Statements, line, list, named},
    rows::number,
    schema::Role,
    session::{Session, one},
};

/// Unread deliveries of a party are counted up to this.
const COUNTED: i64 = 1_000;

/// What can be settled here: deliveries that this node could not read.
pub(super) const UNREAD: &str = "SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, ''::bytea), \
         NULL::text \
     FROM unread u JOIN journal j ON j.id = u.row >> 36 JOIN delivery d ON d.id = u.row \
     WHERE u.row > $1 AND d.id > $1 AND ($2::text IS NULL OR u.party = $2) ORDER BY u.row LIMIT $3";
const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM unread WHERE party = $1 LIMIT $2) u";
// Of each: parties, moments, reasons, then before which (moment, row). The partial
// index holds only what was refused or parked.
const UNREADABLE: &str = "SELECT u.row, j.party, j.epoch, d.stored_at, d.header, \
         coalesce(d.event, ''::bytea), NULL::text \
     FROM unread u JOIN journal j ON j.id = u.row >> 36 JOIN delivery d ON d.id = u.row \
     WHERE ($1::text IS NULL OR u.party = $1) AND ($2::bigint IS NULL OR d.stored_at >= $2) \
         AND $3::text IS NULL AND (d.stored_at, u.row) < ($4, $5) \
     ORDER BY d.stored_at DESC, u.row DESC LIMIT $6";
const PARKED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM decision d JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome = 4 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) AND $3::text IS NULL \
         AND (s.stored_at, d.row) < ($4, $5) \
     ORDER BY s.stored_at DESC, d.row DESC LIMIT $6";
const REJECTED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM decision d JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome = 3 AND ($1::text IS NULL OR j.party = $1) \
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
     SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, ''::bytea), NULL::text \
     FROM journal j JOIN unread u ON u.row = (j.id << 36) | $3 JOIN delivery d ON d.id = u.row \
     WHERE j.party = $1 AND ($2::bigint IS NULL OR j.epoch = $2) ORDER BY 1";

/// Of an adapter.
pub(super) const OF_ADAPTER: Statements = Statements {
    unreadable: Some(UNREADABLE),
    parked: PARKED,
    rejected: REJECTED,
    by_event: BY_EVENT,
    at_place: AT_PLACE,
};

/// Deliveries of a party that this node could not read; counted up to a thousand.
pub(super) async fn count_unread(client: &Session, party: &PartyId) -> Result<u64, StoreError> {
    number(&one(client, COUNT, &[&party.as_str(), &COUNTED]).await?, 0)
}

/// What an adapter's database holds of what is asked for: what could not be read,
/// then what is parked, then what was rejected; of each the newest first. Read beside
/// the adapter that runs.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn letters_of_adapter(
    settings: &Settings,
    query: &LetterQuery,
) -> Result<Vec<DeadLetter>, StoreError> {
    let line = line(settings, Role::Adapter).await?;
    list(line.client(), query, &OF_ADAPTER).await
}

/// Letters of an adapter's database that a name means; one that can't be read is found
/// by its place only.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn letters_named_of_adapter(
    settings: &Settings,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    let line = line(settings, Role::Adapter).await?;
    named(line.client(), name, &OF_ADAPTER).await
}
