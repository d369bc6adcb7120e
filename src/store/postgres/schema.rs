//! The schema: migrations, and whether this program fits what is there.
//!
//! Expand, then contract: a migration adds; what older programs need stays
//! until a later one takes it away and raises `schema_use.readable_from`. So
//! replicas are updated one by one: migrate first, then restart each. A hub's
//! database and an adapter's have migrations of their own.

use tokio_postgres::error::SqlState;

use crate::store::StoreError;

use super::{
    connect::{Database, Settings},
    error,
    session::{Session, maybe, one},
};

mod migrations {
    refinery::embed_migrations!("src/store/postgres/migrations");
}

mod adapter_migrations {
    refinery::embed_migrations!("src/store/postgres/adapter/migrations");
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

/// Whose store a database holds. The two have nothing in common but the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The national record, which replicas of a hub share.
    Hub,
    /// Outbox and inbox of one adapter.
    Adapter,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Adapter => "adapter",
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::Hub => "a",
            Self::Adapter => "an",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Hub => Self::Adapter,
            Self::Adapter => Self::Hub,
        }
    }

    /// The table of what was applied tells whose database it is.
    fn history(self) -> &'static str {
        match self {
            Self::Hub => "refinery_schema_history",
            Self::Adapter => "adapter_schema_history",
        }
    }

    fn runner(self) -> refinery::Runner {
        let mut runner = match self {
            Self::Hub => migrations::migrations::runner(),
            Self::Adapter => adapter_migrations::migrations::runner(),
        };
        runner.set_migration_table_name(self.history());
        runner
    }
}

fn known(role: Role) -> u32 {
    let runner = role.runner();
    let versions = runner.get_migrations().iter().map(|found| found.version());
    versions.max().map_or(0, |version| version as u32)
}

/// Looks at a hub's database without changing it.
///
/// # Errors
/// It can't be reached or read, or is an adapter's.
pub async fn check(settings: &Settings) -> Result<SchemaState, StoreError> {
    check_as(settings, Role::Hub).await
}

/// As [`check`], of an adapter's database.
///
/// # Errors
/// It can't be reached or read, or is a hub's.
pub async fn check_adapter(settings: &Settings) -> Result<SchemaState, StoreError> {
    check_as(settings, Role::Adapter).await
}

async fn check_as(settings: &Settings, role: Role) -> Result<SchemaState, StoreError> {
    let line = Database::for_operator(settings)?.line().await?;
    state(line.client(), role).await
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

/// Brings a hub's database up to what this program knows; a newer one stays as it is.
///
/// # Errors
/// It can't be reached, is an adapter's, or a migration failed; what was applied
/// before stays.
pub async fn migrate(settings: &Settings) -> Result<SchemaState, StoreError> {
    migrate_as(settings, Role::Hub).await
}

/// As [`migrate`], of an adapter's database.
///
/// # Errors
/// It can't be reached, is a hub's, or a migration failed; what was applied before
/// stays.
pub async fn migrate_adapter(settings: &Settings) -> Result<SchemaState, StoreError> {
    migrate_as(settings, Role::Adapter).await
}

async fn migrate_as(settings: &Settings, role: Role) -> Result<SchemaState, StoreError> {
    // A migration may take its time, and so may the wait for another one's.
    let mut line = Database::for_operator(settings)?.patient_line().await?;
    // The lock ends with the line.
    one(line.client(), "SELECT pg_advisory_lock($1)", &[&MIGRATING]).await?;
    let before = state(line.client(), role).await?;
    if before.found < before.known {
        role.runner()
            .run_async(&mut ***line.client_mut())
            .await
            .map_err(|error| StoreError::Unavailable(migration_failed(&error)))?;
    }
    state(line.client(), role).await
}

/// In the server's words where it was the server: which right is missing, or that its
/// disk is full.
fn migration_failed(error: &refinery::Error) -> String {
    let why = error::beneath(error).unwrap_or_else(|| error.to_string());
    format!("a migration failed, and nothing of it stays: {why}")
}

/// What stands there of the one role's; of the other's it is refused.
async fn state(client: &Session, role: Role) -> Result<SchemaState, StoreError> {
    let other = role.other();
    let is_there = "SELECT to_regclass($1) IS NOT NULL";
    let there = one(client, is_there, &[&other.history()]).await?;
    if there.try_get(0)? {
        return Err(StoreError::Invalid(format!(
            "this database holds the store of {} {}; {} {} needs a database of its own: name another \
             one in [store] url",
            other.article(),
            other.name(),
            role.article(),
            role.name()
        )));
    }
    let sql = match role {
        Role::Hub => "SELECT max(version)::bigint FROM refinery_schema_history",
        Role::Adapter => "SELECT max(version)::bigint FROM adapter_schema_history",
    };
    let found = match maybe(client, sql, &[]).await {
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
        known: known(role),
        readable_from: readable_from as u32,
    })
}

/// Refuses a schema that a hub of this program can't serve from, and says what to do.
pub(super) async fn must_fit(client: &Session) -> Result<(), StoreError> {
    must_fit_as(client, Role::Hub).await
}

/// The same, for a node of this role.
pub(super) async fn must_fit_as(client: &Session, role: Role) -> Result<(), StoreError> {
    let state = state(client, role).await?;
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
