//! A complaint at an adapter, as one party knows it: by the hub's word, with
//! own events that are not decided yet at its end.

use rusqlite::OptionalExtension as _;

use crate::{
    domain::{
        ComplaintId, EventId, InstitutionCode, Micros, PartyId, Reference, Status, SystemName,
        TrackingId,
    },
    store::{
        ComplaintRecord, HistoryRecord, StoreError,
        kept::{Beside, HeaderRow},
    },
};

use super::{
    blob16, damaged,
    journal::{PartyState, load_state},
    keys::Db,
    lookup::{Whose, complaint_row},
    view::{entry_of, is_of_party, receipt_of_row, reference_of, rows_about},
};

/// A complaint at an adapter, as a party knows it.
pub(super) fn complaint_at_node(
    connection: &Db<'_>,
    party: &PartyId,
    id: &ComplaintId,
) -> Result<Option<ComplaintRecord>, StoreError> {
    let Some(state) = load_state(connection, party)? else {
        return Ok(None);
    };
    let Some(view) = complaint_row(connection, Whose::Party(party), id)? else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT origin_party, origin_system, origin_reference, tracking_id, status, handler, \
         revision, anonymous, confidential, answer_missing FROM complaint_view \
         WHERE id = ?1",
    )?;
    let mut rows = statement.query([view])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let text = |index| row.get::<_, Option<String>>(index);
    let origin = match (text(0)?, text(1)?, text(2)?) {
        (Some(party), Some(system), Some(reference)) => {
            let parsed = (
                PartyId::parse(&party),
                SystemName::parse(&system),
                Reference::parse(&reference),
            );
            match parsed {
                (Ok(party), Ok(system), Ok(reference)) => Some((party, system, reference)),
                _ => return Err(damaged("a complaint's origin")),
            }
        }
        _ => None,
    };
    let own_reference = match &origin {
        Some((origin, _, reference)) if origin == party => Some(reference.clone()),
        _ => reference_of(connection, party, None, id)?,
    };
    let record = ComplaintRecord {
        id: *id,
        tracking_id: text(3)?
            .map(|text| TrackingId::parse(&text))
            .transpose()
            .map_err(|_| damaged("a Tracking ID"))?,
        origin,
        status: text(4)?.and_then(|code| Status::from_code(&code)),
        handler: text(5)?
            .map(|code| InstitutionCode::parse(&code))
            .transpose()
            .map_err(|_| damaged("an institution's code"))?,
        revision: row.get(6)?,
        anonymous: row.get(7)?,
        confidential: row.get(8)?,
        answer_missing: row.get(9)?,
        own_reference,
        history: node_history(connection, &state, view, id)?,
    };
    Ok(Some(record))
}

/// Delivered revisions and own events; what is not decided comes last.
fn node_history(
    connection: &Db<'_>,
    state: &PartyState,
    view: i64,
    id: &ComplaintId,
) -> Result<Vec<HistoryRecord>, StoreError> {
    let mut history = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT revision, row, event_id, author, accepted_at, hops, header FROM history \
         WHERE complaint = ?1",
    )?;
    let mut rows = statement.query([view])?;
    while let Some(found) = rows.next()? {
        let kept = HeaderRow::from_json(&found.get::<_, String>(6)?)?;
        let revision = found.get(0)?;
        history.push(HistoryRecord {
            revision,
            entry: entry_of(connection, found.get(1)?, 3)?,
            header: Some(kept.header(Beside {
                event_id: EventId::from_bytes(blob16(&found.get::<_, Vec<u8>>(2)?)?),
                complaint_id: *id,
                revision,
                author:
                    PartyId::parse(&found.get::<_, String>(3)?).map_err(|_| damaged("an author"))?,
                accepted_at: Micros(found.get(4)?),
                hops: found.get(5)?,
            })),
            receipt: None,
        });
    }
    let mut own = Vec::new();
    for row in rows_about(connection, Whose::Party(&state.party), id)? {
        let found: Option<(Option<Vec<u8>>, bool)> = connection
            .prepare_cached("SELECT event_id, length(event) = 0 FROM submission WHERE id = ?1")?
            .query_row([row], |found| Ok((found.get(0)?, found.get(1)?)))
            .optional()?;
        let (event, is_gone) = found.unwrap_or((None, false));
        own.push((is_gone, row, event));
    }
    // After a re-append, or when it was handed over again, the same event may
    // stand twice: the first whose bytes are here counts.
    own.sort_by_key(|(is_gone, row, _)| (*is_gone, *row));
    let mut seen = Vec::new();
    for (_, row, event) in own {
        let journal_is_own = is_of_party(connection, state, row)?;
        if !journal_is_own || seen.contains(&event) {
            continue;
        }
        seen.push(event);
        let receipt = receipt_of_row(connection, state, false, row)?;
        let revision = receipt
            .as_ref()
            .and_then(|receipt| receipt.decision.as_ref())
            .map_or(0, |decision| decision.revision);
        history.push(HistoryRecord {
            revision,
            entry: entry_of(connection, row, 3)?,
            header: None,
            receipt,
        });
    }
    history.sort_by_key(|step| match step.revision {
        0 => u32::MAX,
        revision => revision,
    });
    Ok(history)
}
