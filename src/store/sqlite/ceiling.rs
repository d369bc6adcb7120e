//! What SQLite does with the same rows and nothing else: the ceiling that the
//! benchmark compares with.

use std::{path::Path, time::Duration, time::Instant};

use sha2::{Digest as _, Sha256};

use crate::store::StoreError;

use super::connect;

/// Writes `rows` rows of `row_bytes` with a sequential key, and a narrow
/// random key beside each, `per_commit` a transaction, with the settings of
/// the store; says how long it took.
///
/// # Errors
/// The file can't be written.
pub fn group_commit_ceiling(
    directory: &Path,
    rows: usize,
    row_bytes: usize,
    per_commit: usize,
) -> Result<Duration, StoreError> {
    let mut connection = connect(&directory.join("ceiling.db"))?;
    connection.execute_batch(
        "CREATE TABLE wide (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
         CREATE TABLE narrow (key BLOB PRIMARY KEY, row INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    )?;
    let bytes = vec![7u8; row_bytes];
    let keys: Vec<[u8; 32]> = (0..rows)
        .map(|row| Sha256::digest(row.to_be_bytes()).into())
        .collect();
    let began = Instant::now();
    for (batch, keys) in keys.chunks(per_commit).enumerate() {
        let transaction = connection.transaction()?;
        {
            let mut wide = transaction.prepare_cached("INSERT INTO wide VALUES (?1, ?2)")?;
            let mut narrow = transaction.prepare_cached("INSERT INTO narrow VALUES (?1, ?2)")?;
            for (place, key) in keys.iter().enumerate() {
                let row = (batch * per_commit + place) as i64;
                wide.execute(rusqlite::params![row, bytes])?;
                narrow.execute(rusqlite::params![&key[..16], row])?;
            }
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}
