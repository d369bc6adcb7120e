//! Finding events and complaints by their ids.
//!
//! Ids are SHA-256 already, so some of their bits are a good key: two narrow
//! tables of integers ([`super::keys`]) hold where things stand. A hit counts only when the row
//! itself says that it is the one; else the next key is tried. Nothing is ever
//! taken out, so a free key ends the search. A filing whose idempotency key is
//! its reference, the usual one, is found by its complaint alone.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{ComplaintId, Event, EventBody, EventId, PartyId, Reference, SystemName, TrackingId},
    store::StoreError,
};

use super::{
    damaged,
    keys::{Db, Table},
    writer::Tx,
};

/// Where an event stands that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) row: i64,
    /// Of its hand-over; `None` where only an erased copy came.
    pub(super) mac: Option<[u8; 16]>,
}

/// Whose view of a complaint: at an adapter one for each party.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose<'a> {
    Hub,
    Party(&'a PartyId),
}

fn event_key(event: &EventId, attempt: i64) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&event.as_bytes()[..8]);
    ((u64::from_be_bytes(first) >> 1) as i64).wrapping_add(attempt) & i64::MAX
}

/// The filing with this reference; an event with the same key has its id.
pub(super) fn filed_with(party: &PartyId, system: &SystemName, key: &str) -> Option<ComplaintId> {
    let reference = Reference::parse(key).ok()?;
    Some(ComplaintId::derive(party, system, &reference))
}

/// Whether the complaint alone is enough to find the event.
pub(super) fn is_found_by_complaint(event: &Event) -> bool {
    let is_filing = matches!(event.body, EventBody::Filed { .. });
    is_filing
        && event
            .reference
            .as_ref()
            .is_some_and(|reference| reference.as_str() == event.key.as_str())
}

/// The row of a complaint (hub: `complaint.id`; adapter: `complaint_view.id`).
pub(super) fn complaint_row(
    db: &Db<'_>,
    whose: Whose<'_>,
    id: &ComplaintId,
) -> Result<Option<i64>, StoreError> {
    for attempt in 0..=u8::MAX {
        let key = TrackingId::number_of(id, attempt) as i64;
        let Some(complaint) = db.at_key(Table::Complaints, key)? else {
            return Ok(None);
        };
        let mut statement = db.prepare_cached(match whose {
            Whose::Hub => "SELECT complaint_id, '' FROM complaint WHERE id = ?1",
            Whose::Party(_) => "SELECT complaint_id, party FROM complaint_view WHERE id = ?1",
        })?;
        let mut rows = statement.query([complaint])?;
        let Some(row) = rows.next()? else { continue };
        let is_this = row.get_ref(0)?.as_blob().ok() == Some(id.as_bytes().as_slice());
        let is_theirs = match whose {
            Whose::Hub => true,
            Whose::Party(party) => row.get_ref(1)?.as_str().ok() == Some(party.as_str()),
        };
        if is_this && is_theirs {
            return Ok(Some(complaint));
        }
    }
    Ok(None)
}

/// The complaint with this Tracking ID.
pub(super) fn by_tracking_id(
    db: &Db<'_>,
    whose: Whose<'_>,
    tracking_id: &TrackingId,
) -> Result<Option<ComplaintId>, StoreError> {
    let sql = match whose {
        Whose::Hub => "SELECT complaint_id FROM complaint WHERE id = ?1",
        Whose::Party(_) => "SELECT complaint_id FROM complaint_view WHERE id = ?1",
    };
    let Some(complaint) = db.at_key(Table::Complaints, tracking_id.number() as i64)? else {
        return Ok(None);
    };
    let found: Option<Vec<u8>> = db
        .prepare_cached(sql)?
        .query_row([complaint], |row| row.get(0))
        .optional()?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(ComplaintId::from_bytes(super::blob16(&found)?)))
}

/// The row of the filing of a complaint.
pub(super) fn filed_row(
    db: &Db<'_>,
    whose: Whose<'_>,
    id: &ComplaintId,
) -> Result<Option<i64>, StoreError> {
    match complaint_row(db, whose, id)? {
        Some(complaint) => filed_row_of(db, whose, complaint),
        None => Ok(None),
    }
}

/// The row of the filing of the complaint in this row.
pub(super) fn filed_row_of(
    connection: &Connection,
    whose: Whose<'_>,
    complaint: i64,
) -> Result<Option<i64>, StoreError> {
    match whose {
        Whose::Hub => Ok(Some(complaint)),
        Whose::Party(_) => Ok(connection
            .prepare_cached("SELECT filed_row FROM complaint_view WHERE id = ?1")?
            .query_row([complaint], |row| row.get(0))?),
    }
}

/// Whether this row holds that event, and its mac.
fn known_at(
    connection: &Connection,
    row: i64,
    event: &EventId,
) -> Result<Option<Known>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT event_id, mac FROM submission WHERE id = ?1")?;
    let mut rows = statement.query([row])?;
    let Some(found) = rows.next()? else {
        return Ok(None);
    };
    if found.get_ref(0)?.as_blob().ok() != Some(event.as_bytes().as_slice()) {
        return Ok(None);
    }
    let mac: Option<Vec<u8>> = found.get(1)?;
    let mac = mac.map(|bytes| super::blob16(&bytes)).transpose()?;
    Ok(Some(Known { row, mac }))
}

/// Where an event stands, if it is known; `filed` are rows of filings that it
/// may be.
pub(super) fn find_event(
    db: &Db<'_>,
    event: &EventId,
    filed: impl IntoIterator<Item = i64>,
) -> Result<Option<Known>, StoreError> {
    for attempt in 0.. {
        let key = event_key(event, attempt);
        let Some(row) = db.at_key(Table::Events, key)? else {
            break;
        };
        if let Some(known) = known_at(db, row, event)? {
            return Ok(Some(known));
        }
        // Another event's, or this one's in a row that is just being committed:
        // a submission that is appended again is never nowhere.
        for earlier in db.earlier_at_key(Table::Events, key)?.into_iter().flatten() {
            if let Some(known) = known_at(db, earlier, event)? {
                return Ok(Some(known));
            }
        }
    }
    for row in filed {
        if let Some(known) = known_at(db, row, event)? {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

impl Tx<'_> {
    pub(super) fn whose<'a>(&self, party: &'a PartyId) -> Whose<'a> {
        if self.shared.is_hub {
            Whose::Hub
        } else {
            Whose::Party(party)
        }
    }

    /// Where this event stands, if it is known here; `complaint` is the row of
    /// its complaint.
    pub(super) fn known(
        &self,
        event: &Event,
        complaint: Option<i64>,
    ) -> Result<Option<Known>, StoreError> {
        let whose = self.whose(&event.party);
        let mut filed = Vec::new();
        if let (EventBody::Filed { .. }, Some(complaint)) = (&event.body, complaint) {
            filed.extend(filed_row_of(self.connection, whose, complaint)?);
        }
        if !is_found_by_complaint(event)
            && let Some(id) = filed_with(&event.party, &event.system, event.key.as_str())
        {
            filed.extend(filed_row(self.connection, whose, &id)?);
        }
        find_event(self.connection, &event.event_id, filed)
    }

    /// Remembers where an event stands, for ever.
    pub(super) fn remember(&self, event: &EventId, row: i64) -> Result<(), StoreError> {
        for attempt in 0..i64::from(u16::MAX) {
            let key = event_key(event, attempt);
            if self.connection.put_key(Table::Events, key, row)? {
                return Ok(());
            }
        }
        Err(damaged("no key is free for an event"))
    }

    /// The event stands in another row from now on.
    pub(super) fn moved(
        &self,
        party: &PartyId,
        event: &EventId,
        complaint: Option<&ComplaintId>,
        (old, new): (i64, i64),
    ) -> Result<(), StoreError> {
        for attempt in 0.. {
            let key = event_key(event, attempt);
            match self.connection.at_key(Table::Events, key)? {
                None => break,
                Some(row) if row == old => {
                    self.connection.set_key(Table::Events, key, new);
                    break;
                }
                Some(_) => {}
            }
        }
        let Some(complaint) = complaint else {
            return Ok(());
        };
        let Some(view) = complaint_row(self.connection, Whose::Party(party), complaint)? else {
            return Ok(());
        };
        self.connection
            .prepare_cached(
                "UPDATE complaint_view SET filed_row = ?3 WHERE id = ?1 AND filed_row = ?2",
            )?
            .execute(params![view, old, new])?;
        self.connection
            .prepare_cached("UPDATE event_of SET row = ?3 WHERE complaint = ?1 AND row = ?2")?
            .execute(params![view, old, new])?;
        self.connection
            .prepare_cached(
                "UPDATE reference SET row = ?4 \
                 WHERE party = ?1 AND complaint_id = ?2 AND row = ?3",
            )?
            .execute(params![party.as_str(), complaint.as_bytes(), old, new])?;
        Ok(())
    }

    /// Makes a complaint findable; says the attempt at which its key was free.
    pub(super) fn put_complaint_key(
        &self,
        id: &ComplaintId,
        complaint: i64,
    ) -> Result<u8, StoreError> {
        for attempt in 0..=u8::MAX {
            let key = TrackingId::number_of(id, attempt) as i64;
            if self.connection.put_key(Table::Complaints, key, complaint)? {
                return Ok(attempt);
            }
        }
        Err(damaged("no Tracking ID is free for a complaint"))
    }

    /// The view of a complaint at an adapter; made if it is not there, because
    /// of what stands in this row.
    pub(super) fn view(
        &self,
        party: &PartyId,
        id: &ComplaintId,
        row: i64,
    ) -> Result<i64, StoreError> {
        if let Some(view) = complaint_row(self.connection, Whose::Party(party), id)? {
            return Ok(view);
        }
        let view = self.new_view(row, |view| {
            let mut statement = self.connection.prepare_cached(
                "INSERT OR IGNORE INTO complaint_view (id, complaint_id, party) \
                 VALUES (?1, ?2, ?3)",
            )?;
            Ok(statement.execute(params![view, id.as_bytes(), party.as_str()])? == 1)
        })?;
        self.put_complaint_key(id, view)?;
        Ok(view)
    }

    /// A view gets the number of the row because of which it is made, so that
    /// a decision on a filing finds it there. Where rows have moved the number
    /// may be taken: then one below all of them.
    pub(super) fn new_view(
        &self,
        row: i64,
        put: impl Fn(i64) -> Result<bool, StoreError>,
    ) -> Result<i64, StoreError> {
        if put(row)? {
            return Ok(row);
        }
        let free: i64 = self
            .connection
            .prepare_cached("SELECT min(0, min(id)) - 1 FROM complaint_view")?
            .query_row([], |found| found.get(0))?;
        match put(free)? {
            true => Ok(free),
            false => Err(damaged("no number is free for a complaint's view")),
        }
    }

    /// A submission belongs to a complaint, beside its filing.
    pub(super) fn put_event_of(&self, complaint: i64, row: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO event_of (complaint, row) VALUES (?1, ?2)")?
            .execute([complaint, row])?;
        Ok(())
    }
}
