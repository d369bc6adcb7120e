//! What a person may have to look at: deliveries that this node could not read, and
//! submissions that the hub refused or parked.

use tokio_postgres::Row;

use crate::{
    domain::{Micros, PartyId},
    exchange::Entry,
    store::{DeadLetter, StoreError, standing::position_of},
};

use super::super::{
    connect::{Database, Settings},
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
// The index holds only these.
pub(super) const REFUSED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, ''::bytea, s.event, d.decision \
     FROM decision d JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome >= 3 AND ($1::text IS NULL OR j.party = $1) \
     ORDER BY s.stored_at DESC, d.row DESC LIMIT $2";

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

/// Of an adapter's database: deliveries that it could not read, the oldest first, then
/// submissions that the hub refused or parked, the newest first; at most `limit`, of
/// one party, if it is named. Read beside the adapter that runs.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn dead_letters_of_adapter(
    settings: &Settings,
    only: Option<&PartyId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    let client = line.client();
    schema::must_fit_as(client, Role::Adapter).await?;
    let mut found: Vec<DeadLetter> = Vec::new();
    while found.len() < limit {
        let after = found.last().map_or(0, |last| last.id);
        let page = unread(client, only, after, limit - found.len()).await?;
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    let only = only.map(PartyId::as_str);
    let left = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
    let refused = rows(client, REFUSED, &[&only, &left]).await?;
    for row in &refused {
        found.push(letter(row)?);
    }
    Ok(found)
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
