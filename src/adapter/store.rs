//! Where the adapter's store is: in a directory of its own, or in a PostgreSQL
//! database of its own.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    config::AdapterConfig,
    domain::{Policy, decide},
    link::WireHeaders,
    node::database,
    runtime::{Clock, random_bytes},
    store::{
        AdapterStore, StoreError,
        postgres::{AdapterOptions, PostgresAdapterStore},
        sqlite::{NodeRole, Options, SqliteStore},
    },
};

/// A store, and what ends the adapter that has it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn AdapterStore>,
    /// Comes, with the reason, when the store's history is another one than the
    /// adapter's.
    pub(super) left_behind: BoxFuture<'static, &'static str>,
}

/// Opens the store that the settings name.
pub(super) async fn open(
    config: &AdapterConfig,
    clock: Arc<dyn Clock>,
) -> Result<Opened, StoreError> {
    if let Some(store) = &config.store {
        let store = PostgresAdapterStore::open(AdapterOptions {
            settings: database(store)?,
            clock,
            seed: random_bytes(),
        })
        .await?;
        return Ok(Opened {
            left_behind: store.left_behind(),
            store: Arc::new(store),
        });
    }
    let store = SqliteStore::open(Options {
        directory: config.directory.clone(),
        role: NodeRole::Adapter,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock,
        seed: random_bytes(),
        decide,
    })?;
    Ok(Opened {
        store: Arc::new(store),
        // Nobody else writes to its file.
        left_behind: std::future::pending().boxed(),
    })
}
