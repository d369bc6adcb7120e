//! Submissions that the hub refused or parked: what a person may have to look
//! at. Read from the node's file, beside the node that runs.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, params};

use crate::{
    domain::{Decision, Micros, PartyId},
    store::StoreError,
};

use super::{backup::FILE, damaged, decisions::read_decision, file, journal::position_of};

/// A submission that did not become a revision of its complaint.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Who handed it over.
    pub party: PartyId,
    /// In which epoch of its journal; at a node, 0 while it waits to go again.
    pub epoch: u64,
    /// Where in its journal.
    pub position: u64,
    /// When this node stored it.
    pub stored_at: Micros,
    /// What the hub said.
    pub decision: Decision,
    /// The event, as its author wrote it.
    pub event: Bytes,
}

/// Rejected and parked submissions in the store of a data directory, the newest
/// first, at most `limit`; of one party, if it is named.
///
/// # Errors
/// There is no store, or it can't be read.
pub fn dead_letters(
    directory: &Path,
    only: Option<&PartyId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let path = directory.join(FILE);
    if !path.is_file() {
        return Err(StoreError::Invalid(format!(
            "{} is not there: is this the configuration of a node that has run?",
            path.display()
        )));
    }
    let how = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, how)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "query_only", true)?;
    letters(&connection, only, limit).map_err(|error| file::explain(&path, error))
}

fn letters(
    connection: &Connection,
    only: Option<&PartyId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    // By the order of storing, over all journals; the index holds only these.
    let mut statement = connection.prepare(
        "SELECT d.row, j.party, j.epoch, s.stored_at, s.event FROM decision d \
         JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
         WHERE d.outcome >= 3 AND (?1 IS NULL OR j.party = ?1) \
         ORDER BY s.stored_at DESC, d.row DESC LIMIT ?2",
    )?;
    let mut rows = statement.query(params![only.map(PartyId::as_str), limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let party: String = row.get(1)?;
        found.push(DeadLetter {
            party: PartyId::parse(&party).map_err(|_| damaged("a party's id"))?,
            epoch: row.get::<_, i64>(2)? as u64,
            position: position_of(id),
            stored_at: Micros(row.get(3)?),
            decision: read_decision(connection, id)?.ok_or_else(|| damaged("a decision"))?,
            event: Bytes::from(row.get::<_, Vec<u8>>(4)?),
        });
    }
    Ok(found)
}
