//! Submissions that the hub refused or parked, and deliveries that this node could
//! not read: what a person may have to look at. Read from the node's file, beside
//! the node that runs, or by the node itself.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Params, params};

use crate::{
    domain::PartyId,
    store::{DeadLetter, LetterKind, LetterName, LetterQuery, StoreError},
};

use super::{again::letter, backup::FILE, decisions::read_decision, file};

/// What the store of a data directory holds of what is asked for: what could not
/// be read, then what is parked, then what was rejected; of each the newest first.
///
/// # Errors
/// There is no store, or it can't be read.
pub fn letters(directory: &Path, query: &LetterQuery) -> Result<Vec<DeadLetter>, StoreError> {
    look(directory, |connection| list(connection, query))
}

/// Letters of the store of a data directory that a name means; one that can't be
/// read is found by its place only.
///
/// # Errors
/// There is no store, or it can't be read.
pub fn letters_named(directory: &Path, name: &LetterName) -> Result<Vec<DeadLetter>, StoreError> {
    look(directory, |connection| named(connection, name))
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

// Of each: parties, moments, reasons, then before which (moment, row). Over all
// journals by the order of storing; the partial indexes hold only these few, and
// are used where their own condition stands as it is.
const UNREADABLE: &str = "SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, x'') \
     FROM unread u JOIN journal j ON j.id = u.row >> 36 JOIN delivery d ON d.id = u.row \
     WHERE (?1 IS NULL OR u.party = ?1) AND (?2 IS NULL OR d.stored_at >= ?2) AND ?3 IS NULL \
         AND (d.stored_at, u.row) < (?4, ?5) \
     ORDER BY d.stored_at DESC, u.row DESC LIMIT ?6";
const PARKED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, x'', s.event FROM decision d \
     JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome = 4 AND (?1 IS NULL OR j.party = ?1) AND (?2 IS NULL OR s.stored_at >= ?2) \
         AND ?3 IS NULL AND (s.stored_at, d.row) < (?4, ?5) \
     ORDER BY s.stored_at DESC, d.row DESC LIMIT ?6";
const REJECTED: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, x'', s.event FROM decision d \
     JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome >= 3 AND d.outcome = 3 AND (?1 IS NULL OR j.party = ?1) \
         AND (?2 IS NULL OR s.stored_at >= ?2) \
         AND (?3 IS NULL OR substr(d.rejection -> '$.reason', 1, length(?3)) = ?3) \
         AND (s.stored_at, d.row) < (?4, ?5) \
     ORDER BY s.stored_at DESC, d.row DESC LIMIT ?6";

fn list(connection: &Connection, query: &LetterQuery) -> Result<Vec<DeadLetter>, StoreError> {
    let mut found = Vec::new();
    for (kind, before) in query.stretches() {
        let statement = match kind {
            LetterKind::Unreadable => UNREADABLE,
            LetterKind::Parked => PARKED,
            LetterKind::Rejected => REJECTED,
        };
        let left = query.limit - found.len();
        let values = params![
            query.party.as_ref().map(PartyId::as_str),
            query.since.map(|since| since.0),
            query.reason_begins(),
            before.0,
            before.1,
            i64::try_from(left).unwrap_or(i64::MAX),
        ];
        found.extend(read(connection, statement, values)?);
    }
    Ok(found)
}

const BY_EVENT: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, x'', s.event FROM decision d \
     JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
     WHERE d.outcome >= 3 AND d.event_id = ?1 ORDER BY d.row";
const AT_PLACE: &str = "SELECT d.row, j.party, j.epoch, s.stored_at, x'', s.event FROM journal j \
     JOIN decision d ON d.row = (j.id << 36) | ?3 JOIN submission s ON s.id = d.row \
     WHERE j.party = ?1 AND (?2 IS NULL OR j.epoch = ?2) AND d.outcome >= 3 \
     UNION ALL \
     SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, x'') FROM journal j \
     JOIN unread u ON u.row = (j.id << 36) | ?3 JOIN delivery d ON d.id = u.row \
     WHERE j.party = ?1 AND (?2 IS NULL OR j.epoch = ?2) ORDER BY 1";

/// What a name means, in the order of the journals.
pub(super) fn named(
    connection: &Connection,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    match name {
        LetterName::Event(id) => read(connection, BY_EVENT, params![id.as_bytes()]),
        LetterName::Place {
            party,
            epoch,
            position,
        } => {
            let epoch = epoch.map(|epoch| epoch as i64);
            let values = params![party.as_str(), epoch, *position as i64];
            read(connection, AT_PLACE, values)
        }
    }
}

/// Letters of rows, with what was decided about them.
fn read(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = connection.prepare_cached(statement)?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut letter = letter(row)?;
        // Of a delivery there is none: its row is another one's.
        letter.decision = read_decision(connection, row.get(0)?)?;
        found.push(letter);
    }
    Ok(found)
}
