//! Reading: receipts, complaints and their histories, as one party may see
//! them, and the chains of deliveries.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{
        Complaint, ComplaintId, ComplaintName, Digest, EventHeader, EventId, Micros, PartyId,
        Progress, Reference, SystemName, Telling,
    },
    exchange::{Direction, Entry, Place, delivery_digest},
    store::{
        ComplaintRecord, HistoryRecord, Receipt, StoreError,
        told::{ToldEvent, header, visible},
    },
};

use super::{
    Shared, blob16, damaged,
    decisions::read_decision,
    digest,
    epoch::party_of_row,
    journal::{PartyState, journal_of, load_state, position_of, row_id},
    keys::Db,
    lookup::{Known, Whose, by_tracking_id, complaint_row, filed_row, find_event},
    parts::{readable_bits, unpack},
};

/// Delivery rows that are hashed in one read.
const HASH_PAGE: u64 = 1_000;

/// Event and complaint of a submission.
type IdsRow = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Where a row of a party's submissions stands; `None`: no such row.
pub(super) fn receipt_of_row(
    connection: &Connection,
    state: &PartyState,
    is_hub: bool,
    row: i64,
) -> Result<Option<Receipt>, StoreError> {
    let found: Option<IdsRow> = connection
        .prepare_cached("SELECT event_id, complaint_id FROM submission WHERE id = ?1")?
        .query_row([row], |found| Ok((found.get(0)?, found.get(1)?)))
        .optional()?;
    let Some((Some(event_id), complaint_id)) = found else {
        return Ok(None);
    };
    let decision = read_decision(connection, row)?;
    let complaint_id = match complaint_id {
        Some(bytes) => Some(ComplaintId::from_bytes(blob16(&bytes)?)),
        None => decision.as_ref().and_then(|found| found.complaint_id),
    };
    // What stayed in the journal of an ended epoch the hub holds.
    let is_acknowledged = if journal_of(row) == state.submissions {
        position_of(row) <= state.acknowledged.position
    } else {
        journal_of(row) != state.aside_journal
    };
    let progress = match decision.as_ref().map(|found| found.outcome) {
        Some(outcome) => outcome.progress(),
        None if is_acknowledged || is_hub => Progress::AtHub,
        None => Progress::Stored,
    };
    Ok(Some(Receipt {
        event_id: EventId::from_bytes(blob16(&event_id)?),
        complaint_id: complaint_id.unwrap_or_else(|| ComplaintId::from_bytes([0; 16])),
        progress,
        repeated: false,
        decision,
    }))
}

/// Whether a row stands in a journal of this party, in whatever epoch.
pub(super) fn is_of_party(
    connection: &Connection,
    state: &PartyState,
    row: i64,
) -> Result<bool, StoreError> {
    if journal_of(row) == state.submissions {
        return Ok(true);
    }
    Ok(party_of_row(connection, row)?.as_deref() == Some(state.party.as_str()))
}

/// The receipt of an own event, by its id.
pub(super) fn receipt(
    connection: &Db<'_>,
    party: &PartyId,
    is_hub: bool,
    event: &EventId,
    complaint: &ComplaintId,
) -> Result<Option<Receipt>, StoreError> {
    let Some(state) = load_state(connection, party)? else {
        return Ok(None);
    };
    let whose = if is_hub {
        Whose::Hub
    } else {
        Whose::Party(party)
    };
    let filed = filed_row(connection, whose, complaint)?;
    let known = find_event(connection, event, filed)?;
    let Some(Known { row, .. }) = known else {
        return Ok(None);
    };
    // Ids are derived from the party, but a hub keeps those of all parties.
    if is_hub && !is_of_party(connection, &state, row)? {
        return Ok(None);
    }
    receipt_of_row(connection, &state, is_hub, row)
}

/// The complaint that a name means to a local system of a party.
pub(super) fn find(
    connection: &Db<'_>,
    shared: &Shared,
    party: &PartyId,
    system: &SystemName,
    name: &ComplaintName,
) -> Result<Option<ComplaintId>, StoreError> {
    let whose = if shared.is_hub {
        Whose::Hub
    } else {
        Whose::Party(party)
    };
    let id = match name {
        ComplaintName::Reference(reference) => {
            let filed = ComplaintId::derive(party, system, reference);
            match filed_row(connection, whose, &filed)? {
                Some(_) => Some(filed),
                None => attached(connection, party, system, reference)?,
            }
        }
        ComplaintName::TrackingId(tracking_id) => by_tracking_id(connection, whose, tracking_id)?,
        ComplaintName::Id(id) => Some(*id),
    };
    let Some(id) = id else { return Ok(None) };
    let takes_part = if shared.is_hub {
        let registry = shared.registry.borrow().clone();
        load_complaint(connection, &id)?
            .is_some_and(|complaint| visible(&registry.directory, &complaint, party).is_some())
    } else {
        complaint_row(connection, whose, &id)?.is_some()
    };
    Ok(takes_part.then_some(id))
}

/// The complaint to which a party attached this reference.
pub(super) fn attached(
    connection: &Connection,
    party: &PartyId,
    system: &SystemName,
    reference: &Reference,
) -> Result<Option<ComplaintId>, StoreError> {
    let id: Option<Vec<u8>> = connection
        .prepare_cached(
            "SELECT complaint_id FROM reference \
             WHERE party = ?1 AND system = ?2 AND reference = ?3",
        )?
        .query_row(
            params![party.as_str(), system.as_str(), reference.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    Ok(Some(ComplaintId::from_bytes(blob16(&id)?)))
}

/// The reference that a party attached to a complaint.
pub(super) fn reference_of(
    connection: &Connection,
    party: &PartyId,
    system: Option<&SystemName>,
    id: &ComplaintId,
) -> Result<Option<Reference>, StoreError> {
    // The index must be named: by its primary key SQLite would walk through
    // all references of the party.
    let text: Option<String> = connection
        .prepare_cached(
            "SELECT reference FROM reference INDEXED BY reference_by_complaint \
             WHERE party = ?1 AND complaint_id = ?2 AND (?3 IS NULL OR system = ?3)",
        )?
        .query_row(
            params![
                party.as_str(),
                id.as_bytes(),
                system.map(|system| system.as_str())
            ],
            |row| row.get(0),
        )
        .optional()?;
    text.map(|text| Reference::parse(&text))
        .transpose()
        .map_err(|_| damaged("a reference"))
}

/// A party's reference for a complaint in one of its systems, at an adapter:
/// the origin's own, or one that was attached.
pub(super) fn known_reference(
    connection: &Db<'_>,
    party: &PartyId,
    system: &SystemName,
    id: &ComplaintId,
) -> Result<Option<Reference>, StoreError> {
    if let Some(view) = complaint_row(connection, Whose::Party(party), id)? {
        let own: Option<String> = connection
            .prepare_cached(
                "SELECT origin_reference FROM complaint_view \
                 WHERE id = ?1 AND origin_party = ?2 AND origin_system = ?3",
            )?
            .query_row(params![view, party.as_str(), system.as_str()], |row| {
                row.get(0)
            })
            .optional()?
            .flatten();
        if let Some(own) = own {
            return Reference::parse(&own)
                .map(Some)
                .map_err(|_| damaged("a reference"));
        }
    }
    reference_of(connection, party, Some(system), id)
}

/// Submissions about a complaint: its filing, and what is noted beside it.
pub(super) fn rows_about(
    connection: &Db<'_>,
    whose: Whose<'_>,
    id: &ComplaintId,
) -> Result<Vec<i64>, StoreError> {
    let Some(complaint) = complaint_row(connection, whose, id)? else {
        return Ok(Vec::new());
    };
    let mut rows: Vec<i64> = filed_row(connection, whose, id)?.into_iter().collect();
    let mut statement =
        connection.prepare_cached("SELECT row FROM event_of WHERE complaint = ?1 ORDER BY row")?;
    let others = statement.query_map([complaint], |row| row.get(0))?;
    for row in others {
        let row = row?;
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_unstable();
    Ok(rows)
}

pub(super) fn load_complaint(
    connection: &Db<'_>,
    id: &ComplaintId,
) -> Result<Option<Complaint>, StoreError> {
    complaint_row(connection, Whose::Hub, id)?
        .map(|row| complaint_at(connection, row))
        .transpose()
}

/// The complaint in this row (hub).
pub(super) fn complaint_at(connection: &Connection, row: i64) -> Result<Complaint, StoreError> {
    connection
        .prepare_cached("SELECT state FROM complaint WHERE id = ?1")?
        .query_row([row], |found| {
            let state = found.get_ref(0)?.as_str()?;
            Ok(serde_json::from_str(state))
        })?
        .map_err(|_| damaged("a complaint's state can't be read"))
}

impl Shared {
    /// Row and header of one revision, as a party is told it (hub).
    pub(super) fn header_of(
        &self,
        connection: &Db<'_>,
        complaint: &Complaint,
        revision: u32,
        telling: &Telling,
    ) -> Result<(i64, EventHeader), StoreError> {
        let (row, told) = self.told(connection, complaint, revision)?;
        let decision = read_decision(connection, row)?
            .ok_or_else(|| damaged("a revision without its decision"))?;
        let of = (complaint.id, &complaint.tracking_id);
        Ok((row, header(of, &decision, told, telling)?))
    }

    /// The row of a revision, and what the history says of it.
    fn told(
        &self,
        connection: &Db<'_>,
        complaint: &Complaint,
        revision: u32,
    ) -> Result<(i64, ToldEvent), StoreError> {
        let filed = complaint_row(connection, Whose::Hub, &complaint.id)?
            .ok_or_else(|| damaged("a complaint without its filing"))?;
        let text_of = |bytes: &[u8]| blob16(bytes).map(EventId::from_bytes);
        if revision == 1 {
            return Ok(connection
                .prepare_cached("SELECT event_id, stored_at FROM submission WHERE id = ?1")?
                .query_row([filed], |found| {
                    let told = ToldEvent {
                        event_id: text_of(found.get_ref(0)?.as_blob()?)?,
                        author: complaint.origin.clone(),
                        accepted_at: Micros(found.get(1)?),
                        hops: 0,
                    };
                    Ok((filed, told))
                })?);
        }
        let (row, event_id, author, accepted_at, hops) = connection
            .prepare_cached(
                "SELECT row, event_id, author, accepted_at, hops FROM history \
                 WHERE complaint = ?1 AND revision = ?2",
            )?
            .query_row(params![filed, revision], |found| {
                Ok((
                    found.get::<_, i64>(0)?,
                    text_of(found.get_ref(1)?.as_blob()?)?,
                    found.get::<_, String>(2)?,
                    found.get::<_, i64>(3)?,
                    found.get::<_, u32>(4)?,
                ))
            })?;
        let told = ToldEvent {
            event_id,
            author: PartyId::parse(&author).map_err(|_| damaged("an author"))?,
            accepted_at: Micros(accepted_at),
            hops,
        };
        Ok((row, told))
    }

    /// A complaint at the hub, as a party may see it.
    pub(super) fn complaint_at_hub(
        &self,
        connection: &Db<'_>,
        party: &PartyId,
        id: &ComplaintId,
    ) -> Result<Option<ComplaintRecord>, StoreError> {
        let Some(complaint) = load_complaint(connection, id)? else {
            return Ok(None);
        };
        let registry = self.registry.borrow().clone();
        let Some(telling) = visible(&registry.directory, &complaint, party) else {
            return Ok(None);
        };
        let state = load_state(connection, party)?;
        let mut history = Vec::new();
        let mut last = None;
        for revision in telling.from_revision..=telling.through_revision {
            let (row, header) = self.header_of(connection, &complaint, revision, &telling)?;
            let is_own = &header.party == party;
            let receipt = match (&state, is_own) {
                (Some(state), true) => receipt_of_row(connection, state, true, row)?,
                _ => None,
            };
            history.push(HistoryRecord {
                revision,
                entry: entry_of(connection, row, readable_bits(&telling.readable_parts))?,
                header: Some(header.clone()),
                receipt,
            });
            last = Some(header);
        }
        Ok(Some(ComplaintRecord {
            id: complaint.id,
            tracking_id: Some(complaint.tracking_id.clone()),
            origin: Some((
                complaint.origin.clone(),
                complaint.system.clone(),
                complaint.reference.clone(),
            )),
            status: last.as_ref().map(|header| header.status),
            handler: last.as_ref().and_then(|header| header.handler.clone()),
            revision: last.as_ref().map_or(0, |header| header.revision),
            anonymous: complaint.anonymous,
            confidential: complaint.confidential,
            answer_missing: last.is_some_and(|header| header.answer_missing),
            own_reference: if &complaint.origin == party {
                Some(complaint.reference.clone())
            } else {
                reference_of(connection, party, None, id)?
            },
            history,
        }))
    }
}

/// A submission's or a delivery's event as an entry.
pub(super) fn entry_of(
    connection: &Connection,
    row: i64,
    readable: i64,
) -> Result<Entry, StoreError> {
    let (event, parts): (Vec<u8>, Option<Vec<u8>>) = connection
        .prepare_cached(
            "SELECT event, parts FROM submission WHERE id = ?1 \
             UNION ALL SELECT event, parts FROM delivery WHERE id = ?1",
        )?
        .query_row([row], |found| Ok((found.get(0)?, found.get(1)?)))?;
    Ok(Entry {
        header: Bytes::new(),
        event: Bytes::from(event),
        parts: unpack(parts, readable)?,
        handover_digest: None,
    })
}

/// The chain of the deliveries at a position: from the nearest mark on. Also
/// says how many rows had to be hashed.
pub(super) fn delivery_place(
    connection: &Connection,
    state: &PartyState,
    position: u64,
) -> Result<Option<(Place, u64)>, StoreError> {
    if position > state.delivered {
        return Ok(None);
    }
    let root = Place::root(&state.party, Direction::Deliveries, state.epoch);
    let mut place = connection
        .prepare_cached(
            "SELECT id, chain FROM mark WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(
            [
                row_id(state.deliveries, 0),
                row_id(state.deliveries, position),
            ],
            |row| {
                Ok(Place {
                    position: position_of(row.get(0)?),
                    chain: digest(&row.get::<_, Vec<u8>>(1)?)?,
                })
            },
        )
        .optional()?
        .unwrap_or(root);
    let known = state.delivered_acknowledged;
    if known.position <= position && known.position > place.position {
        place = known;
    }
    let hashed = position - place.position;
    while place.position < position {
        let through = position.min(place.position + HASH_PAGE);
        let before = place.position;
        let mut statement = connection.prepare_cached(
            "SELECT d.header, coalesce(d.event, s.event) FROM delivery d \
             LEFT JOIN submission s ON s.id = d.event_row WHERE d.id BETWEEN ?1 AND ?2 ORDER BY d.id",
        )?;
        let mut rows = statement.query([
            row_id(state.deliveries, place.position + 1),
            row_id(state.deliveries, through),
        ])?;
        while let Some(row) = rows.next()? {
            let header: Vec<u8> = row.get(0)?;
            let event: Option<Vec<u8>> = row.get(1)?;
            let next: Digest = delivery_digest(&header, event.as_deref());
            place = place.after(&next);
        }
        if place.position == before {
            return Err(damaged("a delivery is missing"));
        }
    }
    Ok(Some((place, hashed)))
}
