//! The schema: migrations, and whether this program fits what is there.
//!
//! Expand, then contract: a migration adds; what older programs need stays
//! until a later one takes it away and raises `schema_use.readable_from`. So
//! replicas are updated one by one: migrate first, then restart each.

use tokio_postgres::error::SqlState;

use crate::store::StoreError;

use super::{
    connect::{Database, Settings},
    session::{Session, maybe, one},
};

mod migrations {
    refinery::embed_migrations!("src/store/postgres/migrations");
}

/// Key of the advisory lock under which one program migrates at a time.
const MIGRATING: i64 = 7_301_000;

/// How a database stands towards this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaState {
    /// The last migration that was applied; 0: none.
    pub found: u32,
    /// The last migration that this program knows.
    pub known: u32,
    /// Programs that know this migration, or a later one, may serve.
    pub readable_from: u32,
}

impl SchemaState {
    /// Whether this program may serve from it.
    pub fn fits(self) -> bool {
        self.found >= self.known && self.readable_from <= self.known
    }
}

fn known() -> u32 {
    let runner = migrations::migrations::runner();
    let versions = runner.get_migrations().iter().map(|found| found.version());
    versions.max().map_or(0, |version| version as u32)
}

/// Looks at a database without changing it.
///
/// # Errors
/// It can't be reached or read.
pub async fn check(settings: &Settings) -> Result<SchemaState, StoreError> {
    let line = Database::for_operator(settings)?.line().await?;
    state(line.client()).await
}

/// Whether a database holds nothing but what the server and its extensions put
/// there.
///
/// # Errors
/// It can't be reached or read.
pub async fn is_empty(settings: &Settings) -> Result<bool, StoreError> {
    let line = Database::new(settings)?.line().await?;
    let found = maybe(
        line.client(),
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
             AND d.objid = c.oid AND d.deptype = 'e') LIMIT 1",
        &[],
    );
    Ok(found.await?.is_none())
}

/// Brings a database up to what this program knows; a newer one stays as it is.
///
/// # Errors
/// It can't be reached, or a migration failed; what was applied before stays.
pub async fn migrate(settings: &Settings) -> Result<SchemaState, StoreError> {
    // A migration may take its time, and so may the wait for another one's.
    let mut line = Database::for_operator(settings)?.patient_line().await?;
    // The lock ends with the line.
    one(line.client(), "SELECT pg_advisory_lock($1)", &[&MIGRATING]).await?;
    let before = state(line.client()).await?;
    if before.found < before.known {
        let runner = migrations::migrations::runner();
        runner
            .run_async(&mut ***line.client_mut())
            .await
            .map_err(|error| StoreError::Unavailable(format!("a migration failed: {error}")))?;
    }
    state(line.client()).await
}

async fn state(client: &Session) -> Result<SchemaState, StoreError> {
    let found = maybe(
        client,
        "SELECT max(version)::bigint FROM refinery_schema_history",
        &[],
    )
    .await;
    let found = match found {
        Ok(row) => row
            .map(|row| row.try_get::<_, Option<i64>>(0))
            .transpose()?
            .flatten()
            .unwrap_or_default(),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => 0,
        Err(error) => return Err(error.into()),
    };
    let readable_from = match found {
        0 => 0,
        _ => maybe(client, "SELECT readable_from FROM schema_use", &[])
            .await?
            .map(|row| row.try_get::<_, i32>(0))
            .transpose()?
            .unwrap_or_default(),
    };
    Ok(SchemaState {
        found: found as u32,
        known: known(),
        readable_from: readable_from as u32,
    })
}

/// Refuses a schema that this program can't serve from, and says what to do.
pub(super) async fn must_fit(client: &Session) -> Result<(), StoreError> {
    let state = state(client).await?;
    if state.found < state.known {
        return Err(StoreError::Invalid(format!(
            "the database's schema is at version {} and this program needs {}: run `jembatan \
             store migrate` with this program once, then start it",
            state.found, state.known
        )));
    }
    if !state.fits() {
        return Err(StoreError::Invalid(format!(
            "the database's schema is at version {} and serves programs from version {} on; this \
             one knows {}: install the newer program",
            state.found, state.readable_from, state.known
        )));
    }
    Ok(())
}
