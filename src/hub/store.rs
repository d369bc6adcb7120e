//! Where the hub's store is: in a directory of its own, or in a PostgreSQL that
//! replicas share.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    config::HubConfig,
    domain::decide,
    link::WireHeaders,
    node::database,
    runtime::{Clock, random_bytes},
    store::{
        HubStore, StoreError,
        postgres::{self, PostgresStore},
        sqlite::{self, NodeRole, SqliteStore},
    },
};

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
