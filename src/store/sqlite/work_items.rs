//! Local statuses that no mapping table has a row for: noted in the commit
//! that stores the hand-over, so that none is forgotten and none counted twice.

use rusqlite::{Connection, params};

use crate::{
    domain::{Event, Micros, PartyId, SystemName},
    store::{StoreError, UnmappedStatus},
};

use super::{damaged, writer::Tx};

/// Kept of one party, at most: whoever puts a number into a code would else
/// fill the store. The one that was not seen for longest makes room.
const PER_PARTY: u64 = 1_000;

impl Tx<'_> {
    /// Notes the local status of an event that was just stored, if it has to
    /// be looked at.
    pub(super) fn note_unmapped(&mut self, event: &Event, now: Micros) -> Result<(), StoreError> {
        let Some(status) = event.unmapped_status() else {
            return Ok(());
        };
        let party = event.party.as_str();
        let key = params![
            party,
            event.system.as_str(),
            status.code,
            status.name,
            now.0
        ];
        let known = self
            .connection
            .prepare_cached(
                "UPDATE work_item SET count = count + 1, last_seen = ?5
                 WHERE party = ?1 AND system = ?2 AND code = ?3 AND name = ?4",
            )?
            .execute(key)?;
        if known > 0 {
            return Ok(());
        }
        self.connection
            .prepare_cached("INSERT INTO work_item VALUES (?1, ?2, ?3, ?4, 1, ?5)")?
            .execute(key)?;
        self.connection
            .prepare_cached(
                "DELETE FROM work_item WHERE (party, system, code, name) IN (
                     SELECT party, system, code, name FROM work_item WHERE party = ?1
                     ORDER BY last_seen DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![party, PER_PARTY as i64])?;
        Ok(())
    }

    /// They have a row now.
    pub(super) fn forget_unmapped(
        &mut self,
        party: &PartyId,
        statuses: &[UnmappedStatus],
    ) -> Result<(), StoreError> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM work_item
             WHERE party = ?1 AND system = ?2 AND code = ?3 AND name = ?4",
        )?;
        for found in statuses {
            delete.execute(params![
                party.as_str(),
                found.system.as_str(),
                found.code,
                found.name
            ])?;
        }
        Ok(())
    }
}

/// The latest first.
pub(super) fn unmapped(
    connection: &Connection,
    party: &PartyId,
    limit: usize,
) -> Result<Vec<UnmappedStatus>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT system, code, name, count, last_seen FROM work_item
         WHERE party = ?1 ORDER BY last_seen DESC, system, code, name LIMIT ?2",
    )?;
    let rows = select.query_map(params![party.as_str(), limit as i64], |row| {
        let count: i64 = row.get(3)?;
        Ok((
            row.get::<_, String>(0)?,
            row.get(1)?,
            row.get(2)?,
            count.unsigned_abs(),
            Micros(row.get(4)?),
        ))
    })?;
    rows.map(|row| {
        let (system, code, name, count, last_seen) = row?;
        let system =
            SystemName::parse(&system).map_err(|_| damaged("a work item's local system"))?;
        Ok(UnmappedStatus {
            system,
            code,
            name,
            count,
            last_seen,
        })
    })
    .collect()
}
