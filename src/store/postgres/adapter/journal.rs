//! Reading journals of one party: where they stand, and their rows.

use bytes::Bytes;
use tokio_postgres::Row;

use crate::{
    domain::{Micros, PartyId},
    exchange::{Direction, Entry, Place, delivery_digest, root_chain},
    store::{
        Counts, EarlierInbox, Heads, JournalEntry, StoreError, ToldBefore, entry_size,
        kept::{PARTLY_TOLD, TOLD_BEFORE},
        parts::unpack,
        standing::{PartyState, fresh_heads, position_of, row_id},
    },
};

use super::{
    super::{
        rows::{digest, number},
        session::{Session, maybe, rows},
    },
    damaged, load,
};

/// Entries of one page.
const PAGE: usize = 1_000;
/// Delivery rows that are hashed in one read.
const HASH_PAGE: u64 = 1_000;

pub(super) const STORED_AT: &str = "SELECT stored_at FROM submission WHERE id = $1";
// The sizes are summed at the server, so that a page of large parts is not sent
// before it is cut; what each part has beside its bytes is left out, so that no entry
// is missing. The first one always comes.
pub(super) const SUBMISSIONS: &str = "SELECT id, stored_at, ''::bytea, event, handover_digest, parts, 3::smallint FROM ( \
         SELECT s.*, sum(octet_length(s.event) + greatest(coalesce(octet_length(s.parts), 0) - 200, 0)) \
             OVER (ORDER BY s.id) AS bytes \
         FROM submission s WHERE s.id BETWEEN $1 AND $2 ORDER BY s.id LIMIT $3) page \
     WHERE bytes <= $4::bigint OR id = $1 ORDER BY id";
pub(super) const DELIVERIES: &str = "SELECT id, stored_at, header, coalesce(event, ''::bytea), NULL::bytea, parts, readable FROM ( \
         SELECT d.*, sum(octet_length(d.header) + coalesce(octet_length(d.event), 0) \
             + greatest(coalesce(octet_length(d.parts), 0) - 200, 0)) OVER (ORDER BY d.id) AS bytes \
         FROM delivery d WHERE d.id BETWEEN $1 AND $2 ORDER BY d.id LIMIT $3) page \
     WHERE bytes <= $4::bigint OR id = $1 ORDER BY id";
pub(super) const TOLD: &str = "SELECT row, place FROM told_decision WHERE row BETWEEN $1 AND $2";
pub(super) const CHAIN: &str = "SELECT chain FROM submission WHERE id = $1";
pub(super) const MARK: &str =
    "SELECT id, chain FROM mark WHERE id BETWEEN $1 AND $2 ORDER BY id DESC LIMIT 1";
pub(super) const CONTENTS: &str =
    "SELECT header, event FROM delivery WHERE id BETWEEN $1 AND $2 ORDER BY id";
pub(super) const LEFT: &str = "SELECT epoch, delivered, consumed FROM ended_epoch \
     WHERE party = $1 AND consumed < delivered ORDER BY epoch";
pub(super) const THEN: &str =
    "SELECT deliveries, delivered FROM ended_epoch WHERE party = $1 AND epoch = $2";
pub(super) const KNOWN: &str =
    "SELECT 1 FROM journal WHERE party = $1 AND direction = 2 AND epoch = $2";

async fn state(client: &Session, party: &PartyId) -> Result<Option<PartyState>, StoreError> {
    let found = maybe(client, load::STATE, &[&vec![party.as_str()]]).await?;
    found.as_ref().map(load::state).transpose()
}

/// Where a party's journals stand.
pub(super) async fn heads(client: &Session, party: &PartyId) -> Result<Heads, StoreError> {
    let Some(state) = state(client, party).await? else {
        return Ok(fresh_heads(party, 0));
    };
    let next = state.row(Direction::Submissions, state.acknowledged.position + 1);
    let oldest = maybe(client, STORED_AT, &[&next]).await?;
    let oldest = oldest.map(|row| row.try_get(0)).transpose()?;
    Ok(state.heads_with(oldest.map(Micros), false))
}

/// Outcomes counted since the store was made.
pub(super) async fn counts(client: &Session, party: &PartyId) -> Result<Counts, StoreError> {
    let state = state(client, party).await?;
    Ok(state.map_or_else(Counts::default, |state| state.counts))
}

/// Entries from a position on, in order and without a gap.
pub(super) async fn read(
    client: &Session,
    party: &PartyId,
    direction: Direction,
    from: u64,
    max: (usize, usize),
) -> Result<Vec<JournalEntry>, StoreError> {
    match state(client, party).await? {
        Some(state) => {
            let head = state.head_of(direction);
            let rows = (state.row(direction, from), state.row(direction, head));
            read_rows(client, direction, rows, max).await
        }
        None => Ok(Vec::new()),
    }
}

/// As [`read`], of the deliveries of an ended epoch.
pub(super) async fn read_earlier(
    client: &Session,
    party: &PartyId,
    (epoch, from): (u64, u64),
    max: (usize, usize),
) -> Result<Vec<JournalEntry>, StoreError> {
    let then = maybe(client, THEN, &[&party.as_str(), &(epoch as i64)]).await?;
    let Some(then) = then else {
        return Ok(Vec::new());
    };
    let deliveries = then.try_get(0)?;
    let rows = (
        row_id(deliveries, from),
        row_id(deliveries, number(&then, 1)?),
    );
    read_rows(client, Direction::Deliveries, rows, max).await
}

async fn read_rows(
    client: &Session,
    direction: Direction,
    (first, last): (i64, i64),
    (max_entries, max_bytes): (usize, usize),
) -> Result<Vec<JournalEntry>, StoreError> {
    let sql = match direction {
        Direction::Submissions => SUBMISSIONS,
        Direction::Deliveries => DELIVERIES,
    };
    let most = max_entries.min(PAGE) as i64;
    let limit = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    let page = rows(client, sql, &[&first, &last, &most, &limit]).await?;
    let mut found: Vec<JournalEntry> = Vec::with_capacity(page.len());
    let mut bytes = 0;
    let mut partly_told = false;
    for (expected, row) in (first..).zip(&page) {
        let (id, flags): (i64, i16) = (row.try_get(0)?, row.try_get(6)?);
        if id != expected {
            break;
        }
        let mut entry = entry(row, i64::from(flags))?;
        bytes += entry_size(&entry.entry);
        if bytes > max_bytes && !found.is_empty() {
            break;
        }
        if i64::from(flags) & TOLD_BEFORE != 0 {
            entry.told_before = ToldBefore::Everything;
        } else if i64::from(flags) & PARTLY_TOLD != 0 {
            entry.told_before = ToldBefore::Decisions(Default::default());
            partly_told = true;
        }
        found.push(entry);
    }
    if partly_told {
        let last = first + found.len() as i64 - 1;
        for row in rows(client, TOLD, &[&first, &last]).await? {
            let (id, place): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
            let entry = found.get_mut((id - first) as usize);
            if let Some(ToldBefore::Decisions(places)) = entry.map(|entry| &mut entry.told_before) {
                places.insert(place as u32);
            }
        }
    }
    Ok(found)
}

fn entry(row: &Row, flags: i64) -> Result<JournalEntry, StoreError> {
    let handover: Option<&[u8]> = row.try_get(4)?;
    Ok(JournalEntry {
        position: position_of(row.try_get(0)?),
        stored_at: Micros(row.try_get(1)?),
        entry: Entry {
            header: Bytes::from(row.try_get::<_, Vec<u8>>(2)?),
            event: Bytes::from(row.try_get::<_, Vec<u8>>(3)?),
            parts: unpack(row.try_get(5)?, flags)?,
            handover_digest: handover.map(digest).transpose()?,
        },
        told_before: ToldBefore::Nothing,
    })
}

/// The chain at a position, and how many rows had to be hashed for it.
pub(super) async fn place_at(
    client: &Session,
    party: &PartyId,
    direction: Direction,
    position: u64,
) -> Result<Option<(Place, u64)>, StoreError> {
    let Some(state) = state(client, party).await? else {
        return Ok((position == 0).then(|| (Place::root(party, direction, 0), 0)));
    };
    match direction {
        Direction::Submissions => {
            let chain = submission_chain(client, &state, position).await?;
            Ok(chain.map(|chain| (Place { position, chain }, 0)))
        }
        Direction::Deliveries => delivery_place(client, &state, position).await,
    }
}

async fn submission_chain(
    client: &Session,
    state: &PartyState,
    position: u64,
) -> Result<Option<crate::domain::Digest>, StoreError> {
    let direction = Direction::Submissions;
    if position == 0 {
        return Ok(Some(root_chain(&state.party, direction, state.epoch)));
    }
    if position > state.head.position {
        return Ok(None);
    }
    for known in [state.head, state.acknowledged] {
        if known.position == position {
            return Ok(Some(known.chain));
        }
    }
    let found = maybe(client, CHAIN, &[&state.row(direction, position)]).await?;
    found.map(|row| digest(row.try_get(0)?)).transpose()
}

/// From the nearest mark on.
async fn delivery_place(
    client: &Session,
    state: &PartyState,
    position: u64,
) -> Result<Option<(Place, u64)>, StoreError> {
    if position > state.delivered {
        return Ok(None);
    }
    let row = |position| row_id(state.deliveries, position);
    let mark = maybe(client, MARK, &[&row(0), &row(position)]).await?;
    let mut place = match mark {
        None => Place::root(&state.party, Direction::Deliveries, state.epoch),
        Some(mark) => Place {
            position: position_of(mark.try_get(0)?),
            chain: digest(mark.try_get(1)?)?,
        },
    };
    let known = state.delivered_acknowledged;
    if known.position <= position && known.position > place.position {
        place = known;
    }
    let hashed = position - place.position;
    while place.position < position {
        let through = position.min(place.position + HASH_PAGE);
        let values = (row(place.position + 1), row(through));
        let page = rows(client, CONTENTS, &[&values.0, &values.1]).await?;
        if page.is_empty() {
            return Err(damaged("a delivery is missing"));
        }
        for found in &page {
            let (header, event): (&[u8], Option<&[u8]>) = (found.try_get(0)?, found.try_get(1)?);
            place = place.after(&delivery_digest(header, event));
        }
    }
    Ok(Some((place, hashed)))
}

/// The inboxes of ended epochs that are not consumed to their end, the oldest first.
pub(super) async fn earlier(
    client: &Session,
    party: &PartyId,
) -> Result<Vec<EarlierInbox>, StoreError> {
    let found = rows(client, LEFT, &[&party.as_str()]).await?;
    let found = found.iter().map(|row| {
        Ok(EarlierInbox {
            epoch: number(row, 0)?,
            head: number(row, 1)?,
            consumed_through: number(row, 2)?,
        })
    });
    found.collect()
}

/// Whether this party has been in this epoch here.
pub(super) async fn knows_epoch(
    client: &Session,
    party: &PartyId,
    epoch: u64,
) -> Result<bool, StoreError> {
    let found = maybe(client, KNOWN, &[&party.as_str(), &(epoch as i64)]).await?;
    Ok(found.is_some())
}
