//! Submissions that the hub refused or parked, and deliveries that this node could
//! not read: what a person may have to look at. Read from the node's file, beside the node that runs.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use crate::{
    domain::{Micros, PartyId},
    exchange::Entry,
    store::{DeadLetter, StoreError},
};

use super::{again, backup::FILE, damaged, decisions::read_decision, file, journal::position_of};

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
    look(directory, |connection| letters(connection, only, limit))
}

/// Deliveries in the store of a node's data directory that it could not read,
/// and that nobody has settled; the oldest first, at most `limit`.
///
/// # Errors
/// There is no store, or it can't be read.
pub fn unread_deliveries(
    directory: &Path,
    only: Option<&PartyId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    look(directory, |connection| {
        again::unread(connection, only, 0, limit)
    })
}

fn look<T>(
    directory: &Path,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
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
    read(&connection).map_err(|error| file::explain(&path, error))
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
            id: id as u64,
            party: PartyId::parse(&party).map_err(|_| damaged("a party's id"))?,
            epoch: row.get::<_, i64>(2)? as u64,
            position: position_of(id),
            stored_at: Micros(row.get(3)?),
            decision: read_decision(connection, id)?,
            entry: Entry {
                event: row.get::<_, Vec<u8>>(4)?.into(),
                ..Entry::default()
            },
        });
    }
    Ok(found)
}
