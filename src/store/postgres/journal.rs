//! Journals of one party: where they stand, and their rows.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{
    domain::{Micros, PartyId},
    exchange::{Direction, Entry, Place, delivery_digest},
    store::{Counts, Heads, JournalEntry, StoreError, ToldBefore, entry_size},
};

use super::{
    damaged,
    rows::{ALL_READABLE, digest, number, part, party, position_of, row_id},
    session::{Session, execute, maybe, rows},
};

/// Entries of one page.
const PAGE: usize = 1_000;
/// Delivery rows that are hashed in one read.
const HASH_PAGE: u64 = 1_000;
/// A mark is kept when so many rows had to be hashed.
const MARK_EVERY: u64 = 1_024;

pub(super) const STATES: &str = "SELECT s.epoch, s.journal, s.position, s.chain, d.journal, d.position, \
         h.position, h.chain, h.consumed, \
         (SELECT w.stored_at FROM delivery w WHERE w.id = (d.journal << 36) | (h.position + 1)), \
         s.party \
     FROM submission_head s JOIN delivery_head d ON d.party = s.party \
         JOIN delivery_held h ON h.party = s.party WHERE s.party = ANY ($1)";

/// Where a party's journals stand, and under which numbers.
struct State {
    submissions: i64,
    deliveries: i64,
    heads: Heads,
}

async fn state(client: &Session, party: &PartyId) -> Result<Option<State>, StoreError> {
    let found = maybe(client, STATES, &[&[party.as_str()].as_slice()]).await?;
    found.as_ref().map(state_of).transpose()
}

fn state_of(row: &tokio_postgres::Row) -> Result<State, StoreError> {
    let head = Place {
        position: number(row, 2)?,
        chain: digest(row.try_get(3)?)?,
    };
    Ok(State {
        submissions: row.try_get(1)?,
        deliveries: row.try_get(4)?,
        heads: Heads {
            epoch: number(row, 0)?,
            submissions: head,
            // The hub's own head: what it has it holds.
            submissions_acknowledged: head,
            deliveries: number(row, 5)?,
            deliveries_acknowledged: Place {
                position: number(row, 6)?,
                chain: digest(row.try_get(7)?)?,
            },
            consumed_through: number(row, 8)?,
            oldest_waiting: row.try_get::<_, Option<i64>>(9)?.map(Micros),
            copy_wanted: None,
        },
    })
}

/// Where a party's journals stand.
pub(super) async fn heads(client: &Session, party: &PartyId) -> Result<Heads, StoreError> {
    let found = state(client, party).await?;
    Ok(found.map_or_else(|| never_seen(party), |state| state.heads))
}

/// Where the journals of these parties stand; those never seen are not among them. A
/// row that can't be read is one party's, and costs no other one its answer.
pub(super) async fn heads_of(
    client: &Session,
    parties: &[&PartyId],
) -> Result<HashMap<PartyId, Result<Heads, StoreError>>, StoreError> {
    let names: Vec<&str> = parties.iter().map(|party| party.as_str()).collect();
    let found = rows(client, STATES, &[&names]).await?;
    let found = found.iter().map(|row| {
        let party = party(row, 10)?;
        let heads = state_of(row).map(|state| state.heads);
        let heads = heads.map_err(|error| match error {
            StoreError::Corrupt(what) => {
                StoreError::Corrupt(format!("where the journals of {party} stand: {what}"))
            }
            other => other,
        });
        Ok((party, heads))
    });
    found.collect()
}

/// The journals of a party that has none yet.
pub(super) fn never_seen(party: &PartyId) -> Heads {
    let submissions = Place::root(party, Direction::Submissions, 0);
    Heads {
        epoch: 0,
        submissions,
        submissions_acknowledged: submissions,
        deliveries: 0,
        deliveries_acknowledged: Place::root(party, Direction::Deliveries, 0),
        consumed_through: 0,
        oldest_waiting: None,
        copy_wanted: None,
    }
}

// The sizes are summed at the server, so that a page of large parts is not
// sent before it is cut. The first entry always comes.
pub(super) const SUBMISSIONS: &str = "SELECT id, stored_at, event, handover_digest FROM ( \
         SELECT s.*, sum(octet_length(s.event) + 48 + coalesce( \
             (SELECT sum(48 + coalesce(octet_length(p.bytes), 0)) FROM part p WHERE p.row = s.id), \
             0)) OVER (ORDER BY s.id) AS bytes \
         FROM submission s WHERE s.id BETWEEN $1 AND $2 ORDER BY s.id LIMIT $3) page \
     WHERE bytes <= $4::bigint OR id = $1 ORDER BY id";

pub(super) const DELIVERIES: &str = "SELECT id, stored_at, header, event, event_row, readable FROM ( \
         SELECT d.*, s.event, sum(octet_length(d.header) + 48 + coalesce(octet_length(s.event), 0) \
             + coalesce((SELECT sum(48 + CASE WHEN d.readable & (1 << p.kind) <> 0 \
                     THEN coalesce(octet_length(p.bytes), 0) ELSE 0 END) \
                 FROM part p WHERE p.row = d.event_row), 0)) OVER (ORDER BY d.id) AS bytes \
         FROM delivery d LEFT JOIN submission s ON s.id = d.event_row \
         WHERE d.id BETWEEN $1 AND $2 ORDER BY d.id LIMIT $3) page \
     WHERE bytes <= $4::bigint OR id = $1 ORDER BY id";

pub(super) const PARTS: &str =
    "SELECT row, kind, sha256, bytes, erased_by FROM part WHERE row = ANY ($1) ORDER BY row, place";

/// An entry whose parts are still to be read.
struct Found {
    event_row: Option<i64>,
    readable: i16,
    entry: JournalEntry,
}

/// Entries from a position on, in order and without a gap.
pub(super) async fn read(
    client: &Session,
    party: &PartyId,
    direction: Direction,
    from: u64,
    (max_entries, max_bytes): (usize, usize),
) -> Result<Vec<JournalEntry>, StoreError> {
    let Some(state) = state(client, party).await? else {
        return Ok(Vec::new());
    };
    let (sql, journal, head) = match direction {
        Direction::Submissions => (
            SUBMISSIONS,
            state.submissions,
            state.heads.submissions.position,
        ),
        Direction::Deliveries => (DELIVERIES, state.deliveries, state.heads.deliveries),
    };
    let (first, last) = (row_id(journal, from), row_id(journal, head));
    let most = max_entries.min(PAGE) as i64;
    let bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    let page = rows(client, sql, &[&first, &last, &most, &bytes]).await?;
    let mut found = Vec::with_capacity(page.len());
    for row in &page {
        let one = match direction {
            Direction::Submissions => submission(row)?,
            Direction::Deliveries => delivery(row)?,
        };
        if one.entry.position != from + found.len() as u64 {
            break;
        }
        found.push(one);
    }
    add_parts(client, &mut found).await?;
    let mut total = 0;
    let mut entries = Vec::with_capacity(found.len());
    for one in found {
        total += entry_size(&one.entry.entry);
        if total > max_bytes && !entries.is_empty() {
            break;
        }
        entries.push(one.entry);
    }
    Ok(entries)
}

fn submission(row: &tokio_postgres::Row) -> Result<Found, StoreError> {
    let id: i64 = row.try_get(0)?;
    let handover: Option<&[u8]> = row.try_get(3)?;
    Ok(Found {
        event_row: Some(id),
        readable: ALL_READABLE,
        entry: JournalEntry {
            position: position_of(id),
            stored_at: Micros(row.try_get(1)?),
            entry: Entry {
                header: Bytes::new(),
                event: Bytes::copy_from_slice(row.try_get(2)?),
                parts: Vec::new(),
                handover_digest: handover.map(digest).transpose()?,
            },
            told_before: ToldBefore::Nothing,
        },
    })
}

fn delivery(row: &tokio_postgres::Row) -> Result<Found, StoreError> {
    let id: i64 = row.try_get(0)?;
    let event: Option<&[u8]> = row.try_get(3)?;
    Ok(Found {
        event_row: row.try_get(4)?,
        readable: row.try_get(5)?,
        entry: JournalEntry {
            position: position_of(id),
            stored_at: Micros(row.try_get(1)?),
            entry: Entry {
                header: Bytes::copy_from_slice(row.try_get(2)?),
                event: event.map(Bytes::copy_from_slice).unwrap_or_default(),
                parts: Vec::new(),
                handover_digest: None,
            },
            told_before: ToldBefore::Nothing,
        },
    })
}

async fn add_parts(client: &Session, found: &mut [Found]) -> Result<(), StoreError> {
    let owners: Vec<i64> = found.iter().filter_map(|one| one.event_row).collect();
    if owners.is_empty() {
        return Ok(());
    }
    let parts = rows(client, PARTS, &[&owners]).await?;
    for one in found {
        // The rows are sorted by their owner.
        let Some(owner) = one.event_row else { continue };
        let begin = parts.partition_point(|row| row.get::<_, i64>(0) < owner);
        for row in parts.iter().skip(begin) {
            if row.try_get::<_, i64>(0)? != owner {
                break;
            }
            one.entry.entry.parts.push(part(row, 1, one.readable)?);
        }
    }
    Ok(())
}

/// The place at a position of the submissions: its chain stands in the row.
pub(super) async fn submission_place(
    client: &Session,
    party: &PartyId,
    position: u64,
) -> Result<Option<Place>, StoreError> {
    let Some(state) = state(client, party).await? else {
        let root = Place::root(party, Direction::Submissions, 0);
        return Ok((position == 0).then_some(root));
    };
    let head = state.heads.submissions;
    if position == 0 {
        let root = Place::root(party, Direction::Submissions, state.heads.epoch);
        return Ok(Some(root));
    }
    if position >= head.position {
        return Ok((position == head.position).then_some(head));
    }
    let id = row_id(state.submissions, position);
    let row = maybe(client, "SELECT chain FROM submission WHERE id = $1", &[&id]).await?;
    row.map(|row| {
        let chain = digest(row.try_get(0)?)?;
        Ok(Place { position, chain })
    })
    .transpose()
}

pub(super) const NEAREST_MARK: &str =
    "SELECT id, chain FROM mark WHERE id BETWEEN $1 AND $2 ORDER BY id DESC LIMIT 1";

pub(super) const TO_HASH: &str = "SELECT d.header, s.event FROM delivery d \
     LEFT JOIN submission s ON s.id = d.event_row WHERE d.id BETWEEN $1 AND $2 ORDER BY d.id";

/// The place at a position of the deliveries; a long way there is marked.
pub(super) async fn delivery_place(
    client: &Session,
    party: &PartyId,
    position: u64,
) -> Result<Option<Place>, StoreError> {
    let Some((place, hashed)) = walk_to(client, party, position).await? else {
        return Ok(None);
    };
    if hashed >= MARK_EVERY {
        mark(client, party, place).await?;
    }
    Ok(Some(place))
}

/// The place at a position of the deliveries, and how many of them were hashed:
/// from the nearest mark on.
pub(super) async fn walk_to(
    client: &Session,
    party: &PartyId,
    position: u64,
) -> Result<Option<(Place, u64)>, StoreError> {
    let Some(state) = state(client, party).await? else {
        let root = Place::root(party, Direction::Deliveries, 0);
        return Ok((position == 0).then_some((root, 0)));
    };
    if position > state.heads.deliveries {
        return Ok(None);
    }
    let (first, last) = (
        row_id(state.deliveries, 0),
        row_id(state.deliveries, position),
    );
    let mut place = match maybe(client, NEAREST_MARK, &[&first, &last]).await? {
        Some(row) => Place {
            position: position_of(row.try_get(0)?),
            chain: digest(row.try_get(1)?)?,
        },
        None => Place::root(party, Direction::Deliveries, state.heads.epoch),
    };
    let held = state.heads.deliveries_acknowledged;
    if held.position <= position && held.position > place.position {
        place = held;
    }
    let hashed = position - place.position;
    while place.position < position {
        let through = position.min(place.position + HASH_PAGE);
        let before = place.position;
        let first = row_id(state.deliveries, before + 1);
        let last = row_id(state.deliveries, through);
        for row in rows(client, TO_HASH, &[&first, &last]).await? {
            let (header, event): (&[u8], Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
            place = place.after(&delivery_digest(header, event));
        }
        if place.position != through {
            return Err(damaged("a delivery is missing"));
        }
    }
    Ok(Some((place, hashed)))
}

/// A mark is computed anew where it is missing, so no standby is waited for: a
/// reader would hang on one that is away.
const MARK: &str = "INSERT INTO mark (id, chain) SELECT $1::bigint, $2::bytea \
     FROM set_config('synchronous_commit', 'local', true) ON CONFLICT (id) DO NOTHING";

/// Keeps a place of the deliveries that was computed; outside of any transaction.
pub(super) async fn mark(
    client: &Session,
    party: &PartyId,
    place: Place,
) -> Result<(), StoreError> {
    if let Some(state) = state(client, party).await? {
        let id = row_id(state.deliveries, place.position);
        let chain = place.chain.as_bytes().as_slice();
        execute(client, MARK, &[&id, &chain]).await?;
    }
    Ok(())
}

/// The local system has taken over everything through here.
pub(super) async fn consume(
    client: &Session,
    party: &PartyId,
    through: u64,
) -> Result<u64, StoreError> {
    let row = maybe(
        client,
        "UPDATE delivery_held h SET consumed = greatest(h.consumed, least($2, d.position)) \
         FROM delivery_head d WHERE h.party = $1 AND d.party = h.party RETURNING h.consumed",
        &[&party.as_str(), &i64::try_from(through).unwrap_or(i64::MAX)],
    )
    .await?;
    row.map_or(Ok(0), |row| number(&row, 0))
}

/// Whether this party has been in this epoch here.
pub(super) async fn knows_epoch(
    client: &Session,
    party: &PartyId,
    epoch: u64,
) -> Result<bool, StoreError> {
    let found = maybe(
        client,
        "SELECT 1 FROM journal WHERE party = $1 AND direction = 2 AND epoch = $2",
        &[&party.as_str(), &(epoch as i64)],
    )
    .await?;
    Ok(found.is_some())
}

/// Outcomes of a party's submissions.
pub(super) async fn counts(client: &Session, party: &PartyId) -> Result<Counts, StoreError> {
    let row = maybe(
        client,
        "SELECT accepted, duplicates, rejected, parked, repeated FROM submission_head \
         WHERE party = $1",
        &[&party.as_str()],
    )
    .await?;
    let Some(row) = row else {
        return Ok(Counts::default());
    };
    Ok(Counts {
        accepted: number(&row, 0)?,
        duplicates: number(&row, 1)?,
        rejected: number(&row, 2)?,
        parked: number(&row, 3)?,
        repeated_handovers: number(&row, 4)?,
    })
}
