//! What SQLite does with the same rows and nothing else: the ceiling that the
//! benchmark compares with.

use std::{path::Path, time::Duration, time::Instant};

use rusqlite::types::Value;
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

/// Rows of one table, and how to write one.
struct Kept {
    insert: String,
    rows: Vec<Vec<Value>>,
}

/// What is taken from a store for [`same_rows_ceiling`].
pub struct SameRows {
    schema: Vec<String>,
    tables: Vec<Kept>,
    /// Submissions among the rows.
    pub events: usize,
}

impl SameRows {
    /// Reads at most so many submissions of a store that nobody has open, and of
    /// every other table the same share.
    ///
    /// # Errors
    /// The file can't be read, or has no submissions.
    pub fn read(store: &Path, events: usize) -> Result<Self, StoreError> {
        let connection = connect(store)?;
        let count = |table: &str| -> Result<usize, StoreError> {
            let sql = format!("SELECT count(*) FROM \"{table}\"");
            let count: i64 = connection.query_row(&sql, [], first)?;
            usize::try_from(count).map_err(|_| StoreError::Corrupt(format!("{count} rows")))
        };
        let all = count("submission")?;
        if all == 0 {
            return Err(StoreError::Invalid(
                "there are no rows to write again".to_owned(),
            ));
        }
        let events = events.min(all);
        let texts = |sql| -> Result<Vec<String>, StoreError> {
            let mut statement = connection.prepare(sql)?;
            let found = statement.query_map([], first)?;
            Ok(found.collect::<Result<_, _>>()?)
        };
        let own = "sql IS NOT NULL AND name NOT LIKE 'sqlite%'";
        let schema = format!("SELECT sql FROM sqlite_schema WHERE {own}");
        let names = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND {own}");
        let (schema, names) = (texts(&schema)?, texts(&names)?);
        let mut tables = Vec::new();
        for name in names {
            let share = (count(&name)? * events).div_ceil(all);
            let sql = format!("SELECT * FROM \"{name}\" LIMIT {share}");
            let mut statement = connection.prepare(&sql)?;
            let columns = statement.column_count();
            let rows = statement
                .query_map([], |row| (0..columns).map(|place| row.get(place)).collect())?;
            let rows = rows.collect::<Result<_, _>>()?;
            let values = vec!["?"; columns].join(", ");
            let insert = format!("INSERT INTO \"{name}\" VALUES ({values})");
            tables.push(Kept { insert, rows });
        }
        Ok(Self {
            schema,
            tables,
            events,
        })
    }
}

/// Writes the rows of a store once more, into the same tables and indexes of a new
/// file, so many events a commit, with the settings of the store and without its
/// logic: no look-up, no decision, nothing encoded. Says how long it took.
///
/// # Errors
/// The file can't be written.
pub fn same_rows_ceiling(
    directory: &Path,
    kept: &SameRows,
    per_commit: usize,
) -> Result<Duration, StoreError> {
    let mut connection = connect(&directory.join("same-rows.db"))?;
    for sql in &kept.schema {
        connection.execute_batch(sql)?;
    }
    let commits = kept.events.div_ceil(per_commit);
    let began = Instant::now();
    for commit in 0..commits {
        let transaction = connection.transaction()?;
        for Kept { insert, rows } in &kept.tables {
            let share = |commit| rows.len() * commit / commits;
            let mut insert = transaction.prepare_cached(insert)?;
            for row in rows.get(share(commit)..share(commit + 1)).unwrap_or(&[]) {
                insert.execute(rusqlite::params_from_iter(row))?;
            }
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}

fn first<T: rusqlite::types::FromSql>(row: &rusqlite::Row<'_>) -> rusqlite::Result<T> {
    row.get(0)
}
