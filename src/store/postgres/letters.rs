//! What was rejected or parked, and at an adapter what could not be read: found in
//! the database for an operator's command, beside the nodes that run, or by a node
//! itself. Hub and adapter look alike; where a decision stands their statements know.

use tokio_postgres::{Row, types::ToSql};

use crate::{
    domain::{Micros, PartyId},
    exchange::Entry,
    store::{DeadLetter, LetterKind, LetterName, LetterQuery, StoreError, standing::position_of},
};

use super::{
    connect::{Database, Line, Settings},
    decisions::from_json,
    rows::{number, party},
    schema::{self, Role},
    session::{Session, rows},
};

/// Letters that are settled together, at most.
const PAGE: usize = 1_000;

/// The statements that find letters; each gives the columns of [`letter`].
pub(super) struct Statements {
    /// By party, moment, reason, then before which (moment, row), and how many; the
    /// newest first. `None`: this node receives nothing that it could fail to read.
    pub(super) unreadable: Option<&'static str>,
    /// As `unreadable`.
    pub(super) parked: &'static str,
    /// As `unreadable`.
    pub(super) rejected: &'static str,
    /// By the event.
    pub(super) by_event: &'static str,
    /// By party, epoch, position.
    pub(super) at_place: &'static str,
}

/// Of a hub.
pub(super) const OF_HUB: Statements = Statements {
    unreadable: None,
    parked: PARKED,
    rejected: REJECTED,
    by_event: BY_EVENT,
    at_place: AT_PLACE,
};

// Of each: parties, moments, reasons, then before which (moment, row); by the
// index of what was not accepted.
const PARKED: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, ''::bytea, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome = 4 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) AND $3::text IS NULL \
         AND (s.stored_at, s.id) < ($4, $5) \
     ORDER BY s.stored_at DESC, s.id DESC LIMIT $6";
const REJECTED: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, ''::bytea, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome = 3 AND ($1::text IS NULL OR j.party = $1) \
         AND ($2::bigint IS NULL OR s.stored_at >= $2) \
         AND ($3::text IS NULL \
             OR starts_with((s.decision::json -> 'rejection' -> 'reason')::text, $3)) \
         AND (s.stored_at, s.id) < ($4, $5) \
     ORDER BY s.stored_at DESC, s.id DESC LIMIT $6";

const BY_EVENT: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, ''::bytea, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome >= 3 AND s.event_id = $1 ORDER BY s.id";
const AT_PLACE: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, ''::bytea, s.event, s.decision FROM journal j \
     JOIN submission s ON s.id = (j.id << 36) | $3 \
     WHERE j.party = $1 AND j.direction = 1 AND ($2::bigint IS NULL OR j.epoch = $2) \
         AND s.outcome >= 3 ORDER BY s.id";

/// What a hub's database holds of what is asked for: what is parked, then what was
/// rejected; of each the newest first.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn letters(
    settings: &Settings,
    query: &LetterQuery,
) -> Result<Vec<DeadLetter>, StoreError> {
    list(line(settings, Role::Hub).await?.client(), query, &OF_HUB).await
}

/// Letters of a hub's database that a name means.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn letters_named(
    settings: &Settings,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    named(line(settings, Role::Hub).await?.client(), name, &OF_HUB).await
}

/// A line of an operator's to a database of this role.
pub(super) async fn line(settings: &Settings, role: Role) -> Result<Line, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    schema::must_fit_as(line.client(), role).await?;
    Ok(line)
}

/// What is asked for, kind after kind.
pub(super) async fn list(
    client: &Session,
    query: &LetterQuery,
    of: &Statements,
) -> Result<Vec<DeadLetter>, StoreError> {
    let party = query.party.as_ref().map(PartyId::as_str);
    let since = query.since.map(|since| since.0);
    let reason = query.reason_begins();
    let mut found = Vec::new();
    for (kind, before) in query.stretches() {
        let statement = match kind {
            LetterKind::Unreadable => of.unreadable,
            LetterKind::Parked => Some(of.parked),
            LetterKind::Rejected => Some(of.rejected),
        };
        let Some(statement) = statement else { continue };
        let left = i64::try_from(query.limit - found.len()).unwrap_or(i64::MAX);
        let values: [&(dyn ToSql + Sync); 6] =
            [&party, &since, &reason, &before.0, &before.1, &left];
        for row in rows(client, statement, &values).await? {
            found.push(letter(&row)?);
        }
    }
    Ok(found)
}

/// What a name means, in the order of the journals.
pub(super) async fn named(
    client: &Session,
    name: &LetterName,
    of: &Statements,
) -> Result<Vec<DeadLetter>, StoreError> {
    let found = match name {
        LetterName::Event(id) => rows(client, of.by_event, &[&id.as_bytes().as_slice()]).await?,
        LetterName::Place {
            party,
            epoch,
            position,
        } => {
            let epoch = epoch.map(|epoch| epoch as i64);
            let values: [&(dyn ToSql + Sync); 3] = [&party.as_str(), &epoch, &(*position as i64)];
            rows(client, of.at_place, &values).await?
        }
    };
    found.iter().map(letter).collect()
}

/// What can be settled at this node, in the order of its journals: what a statement
/// finds after an id, of one party or of all, up to so many.
pub(super) async fn to_settle(
    client: &Session,
    statement: &'static str,
    (only, after): (Option<&PartyId>, u64),
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let only = only.map(PartyId::as_str);
    let most = limit.min(PAGE) as i64;
    let found = rows(client, statement, &[&after, &only, &most]).await?;
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
