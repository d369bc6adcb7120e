//! How every connection to a store is made, and the small conversions between
//! columns and values.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, config::DbConfig};

use crate::{domain::Digest, store::StoreError};

pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // Plans must not depend on bound values: statements would be compiled anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Of a new store. Five events to a page instead of two: fewer and fuller
    // pages to write; twice as large again makes small commits slow.
    connection.pragma_update(None, "page_size", 8_192)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update(None, "wal_autocheckpoint", 8_192)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// What is stored is not what was stored.
pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

pub(super) fn blob16(bytes: &[u8]) -> Result<[u8; 16], rusqlite::Error> {
    bytes
        .try_into()
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, bytes.len() as i64))
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest, rusqlite::Error> {
    Digest::from_slice(bytes).ok_or(rusqlite::Error::IntegralValueOutOfRange(
        0,
        bytes.len() as i64,
    ))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
