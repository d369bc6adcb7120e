//! How the PostgreSQL is reached in which a node keeps its store.

use std::time::Duration;

use crate::{
    config::{CommitLevel, StoreConfig},
    store::{
        StoreError,
        postgres::{Settings, SynchronousCommit, is_reachable, read_password},
    },
};

/// How long a database that can't be reached is left alone between two looks.
const WAIT: Duration = Duration::from_secs(1);

/// Waits for a database that is away, before a port is open behind which nobody
/// would answer. At once where the store is in a directory.
///
/// # Errors
/// It will not pass by itself: a person has to act.
pub async fn reached(store: Option<&StoreConfig>) -> Result<(), StoreError> {
    if let Some(store) = store {
        let settings = database(store)?;
        while !is_reachable(&settings).await? {
            tokio::time::sleep(WAIT).await;
        }
    }
    Ok(())
}

/// How the database is reached.
///
/// # Errors
/// The file with the password can't be read.
pub fn database(config: &StoreConfig) -> Result<Settings, StoreError> {
    // Here it is said at once; a line reads it anew.
    if let Some(path) = &config.password_file {
        read_password(path)?;
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
