//! What PostgreSQL does with the same rows and nothing else: the ceiling that
//! the benchmark compares with.

use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use futures_util::future::try_join_all;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::store::StoreError;

use super::{
    connect::{Database, Line, Settings},
    damaged,
};

/// What an event leaves behind, in the order in which a hub writes it.
const TABLES: [&str; 6] = [
    "submission",
    "event_key",
    "part",
    "complaint",
    "history",
    "delivery",
];

/// The rows of this many events are taken, at most: they stand in memory.
const EVENTS: i64 = 60_000;

/// A row, or an array of rows, as the server sends and takes it.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// An array of one dimension, in the server's binary form.
fn array(element: u32, rows: &[Raw]) -> Raw {
    let mut bytes = Vec::with_capacity(20 + rows.iter().map(|row| row.0.len() + 4).sum::<usize>());
    for word in [1, 0, element, rows.len() as u32, 1] {
        bytes.put_u32(word);
    }
    for row in rows {
        bytes.put_u32(row.0.len() as u32);
        bytes.extend_from_slice(&row.0);
    }
    Raw(bytes)
}

/// How many rows each table has, so that what comes later can be told apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowCounts([i64; TABLES.len()]);

/// Counts what is there.
///
/// # Errors
/// The database can't be reached.
pub async fn row_counts(settings: &Settings) -> Result<RowCounts, StoreError> {
    counts(&line_of(settings).await?).await
}

/// Counting and copying take as long as they take.
async fn line_of(settings: &Settings) -> Result<Line, StoreError> {
    Database::for_operator(settings)?.patient_line().await
}

async fn counts(line: &Line) -> Result<RowCounts, StoreError> {
    let mut counts = RowCounts::default();
    for (table, count) in TABLES.into_iter().zip(&mut counts.0) {
        let sql = format!("SELECT count(*) FROM {table}");
        *count = line.client().query_one(&sql, &[]).await?.try_get(0)?;
    }
    Ok(counts)
}

/// Writes what a hub has written since then once more, into tables of the same
/// columns and indexes that were empty, `per_commit` events a transaction, by one connection
/// and without any of a hub's own work: no look-ups, no deciding, no heads. Says
/// how many events that were, and how long it took.
///
/// # Errors
/// The database can't be reached, or its user may not make a schema.
pub async fn insert_ceiling(
    settings: &Settings,
    since: RowCounts,
    per_commit: usize,
) -> Result<(u64, Duration), StoreError> {
    let line = line_of(settings).await?;
    let now = counts(&line).await?;
    let client = line.client();
    client
        .batch_execute("DROP SCHEMA IF EXISTS ceiling CASCADE; CREATE SCHEMA ceiling")
        .await?;
    let new: Vec<i64> = now
        .0
        .iter()
        .zip(since.0)
        .map(|(now, then)| now - then)
        .collect();
    let events = new.first().map_or(0, |all| EVENTS.min(*all));
    let commits = (events.unsigned_abs() as usize).div_ceil(per_commit).max(1);
    let mut inserts = Vec::new();
    for ((table, skip), count) in TABLES.into_iter().zip(since.0).zip(&new) {
        // In the order in which they were written; of an event all that it left.
        let take = count * events / new.first().copied().unwrap_or(1).max(1);
        client
            .batch_execute(&format!(
                "CREATE TABLE ceiling.{table} (LIKE {table} INCLUDING ALL)"
            ))
            .await?;
        let found = client
            .query(
                &format!("SELECT t FROM {table} t OFFSET $1::bigint LIMIT $2::bigint"),
                &[&skip, &take],
            )
            .await?;
        let Some(first) = found.first() else { continue };
        let element = first.columns().first().map(|column| column.type_().oid());
        let element = element.ok_or_else(|| damaged("a table without columns"))?;
        let rows = found
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<Raw>, _>>()?;
        // Every transaction gets its share of each table.
        let share = |commit: usize| commit * rows.len() / commits;
        let arrays: Vec<Raw> = (0..commits)
            .map(|commit| array(element, &rows[share(commit)..share(commit + 1)]))
            .collect();
        let insert = client
            .prepare(&format!(
                "INSERT INTO ceiling.{table} SELECT * FROM unnest($1::{table}[]) \
                 ON CONFLICT DO NOTHING"
            ))
            .await?;
        inserts.push((insert, arrays));
    }
    let began = Instant::now();
    for commit in 0..commits {
        // One trip for all statements, and one for the commit.
        client.batch_execute("BEGIN").await?;
        let all = inserts.iter().map(|(insert, arrays)| async move {
            client.execute(insert, &[&arrays[commit]]).await
        });
        try_join_all(all).await?;
        client.batch_execute("COMMIT").await?;
    }
    let took = began.elapsed();
    client.batch_execute("DROP SCHEMA ceiling CASCADE").await?;
    Ok((events.unsigned_abs(), took))
}
