//! Where the hub's store is: in a directory of its own, or in a PostgreSQL that
//! replicas share.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    config::{CommitLevel, HubConfig, StoreConfig},
    domain::decide,
    link::WireHeaders,
    runtime::{Clock, random_bytes},
    store::{
        HubStore, StoreError,
        postgres::{self, PostgresStore, Settings, SynchronousCommit},
        sqlite::{self, NodeRole, SqliteStore},
    },
};

/// How long a database that can't be reached is left alone between two looks.
const WAIT: Duration = Duration::from_secs(1);

/// Waits for a database that is away, before a port is open behind which nobody
/// would answer.
pub(super) async fn reached(config: &HubConfig) -> Result<(), StoreError> {
    if let Some(store) = &config.store {
        let settings = database(store)?;
        while !postgres::is_reachable(&settings).await? {
            tokio::time::sleep(WAIT).await;
        }
    }
    Ok(())
}

/// A store, and what ends the hub that has it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn HubStore>,
    /// Comes, with the reason, when the store's history is another one than the
    /// hub's.
    pub(super) left_behind: BoxFuture<'static, &'static str>,
}

/// Opens the store that the settings name; waits for whoever begins a new epoch.
pub(super) async fn open(config: &HubConfig, clock: Arc<dyn Clock>) -> Result<Opened, StoreError> {
    if let Some(store) = &config.store {
        let options = postgres::Options {
            settings: database(store)?,
            encoder: Arc::new(WireHeaders),
            policy: config.policy.clone(),
            clock,
            seed: random_bytes(),
            decide,
        };
        let store = PostgresStore::open(options).await?;
        return Ok(Opened {
            left_behind: store.left_behind(),
            store: Arc::new(store),
        });
    }
    let options = sqlite::Options {
        directory: config.directory.clone(),
        role: NodeRole::Hub,
        encoder: Arc::new(WireHeaders),
        policy: config.policy.clone(),
        clock,
        seed: random_bytes(),
        decide,
    };
    Ok(Opened {
        store: Arc::new(SqliteStore::open(options)?),
        // Nobody else writes to its file.
        left_behind: std::future::pending().boxed(),
    })
}

/// How the database is reached.
///
/// # Errors
/// The file with the password can't be read.
pub fn database(config: &StoreConfig) -> Result<Settings, StoreError> {
    // Here it is said at once; a line reads it anew.
    if let Some(path) = &config.password_file {
        postgres::read_password(path)?;
    }
    Ok(Settings {
        url: config.url.clone(),
        password_file: config.password_file.clone(),
        roots: config.roots.clone(),
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        synchronous_commit: match config.synchronous_commit {
            CommitLevel::On => SynchronousCommit::On,
            CommitLevel::RemoteApply => SynchronousCommit::RemoteApply,
            CommitLevel::RemoteWrite => SynchronousCommit::RemoteWrite,
        },
        connections: config.connections as usize,
        statement_timeout: Duration::from_secs(u64::from(config.statement_timeout_seconds)),
    })
}
