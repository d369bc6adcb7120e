//! How the PostgreSQL is reached in which a node keeps its store.

use std::time::Duration;

use crate::{
    config::{CommitLevel, StoreConfig},
    store::{
        StoreError,
        postgres::{Settings, SynchronousCommit, is_reachable},
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
    let password = match &config.password_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                StoreError::Invalid(format!(
                    "the password file {} can't be read: {error}",
                    path.display()
                ))
            })?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned().into())
        }
    };
    Ok(Settings {
        url: config.url.clone(),
        password,
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
