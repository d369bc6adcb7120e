//! The configuration of a node of either role, for commands that work on its
//! files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    config::{AdapterConfig, HubConfig, StoreConfig, load},
    store::sqlite::NodeRole,
};

/// Reads a hub's settings; of an adapter's file it says so.
pub(super) fn load_hub(path: &Path) -> anyhow::Result<HubConfig> {
    load(path).map_err(|error| match table_of(path) {
        Ok(table) if is_adapters(&table) => {
            anyhow::anyhow!("{error}; this looks like an adapter's file")
        }
        _ => error.into(),
    })
}

/// Reads an adapter's settings; of a hub's file it says so.
pub(super) fn load_adapter(path: &Path) -> anyhow::Result<AdapterConfig> {
    load(path).map_err(|error| match table_of(path) {
        Ok(table) if is_hubs(&table) => anyhow::anyhow!("{error}; this looks like a hub's file"),
        _ => error.into(),
    })
}

fn table_of(path: &Path) -> anyhow::Result<toml::Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not TOML", path.display()))
}

fn is_adapters(table: &toml::Table) -> bool {
    table.contains_key("hub") || table.contains_key("party")
}

fn is_hubs(table: &toml::Table) -> bool {
    let own = ["listen", "national", "directory_file"];
    !is_adapters(table) && own.iter().any(|key| table.contains_key(*key))
}

/// What commands on a node's files need of its configuration.
pub(super) struct NodeFile {
    pub(super) role: NodeRole,
    pub(super) directory: PathBuf,
    /// A PostgreSQL, which has taken the place of a file in the directory.
    pub(super) store: Option<StoreConfig>,
}

impl NodeFile {
    /// Of a node whose store is a file; of one that keeps it in PostgreSQL it says
    /// what to do instead.
    pub(super) fn with_store_in_file(
        path: &Path,
        instead: impl FnOnce(NodeRole, &StoreConfig) -> String,
    ) -> anyhow::Result<Self> {
        let found = Self::read(path)?;
        if let Some(store) = &found.store {
            anyhow::bail!(
                "{} keeps its store in PostgreSQL, whose own tools copy it and put it back. {}",
                path.display(),
                instead(found.role, store)
            );
        }
        Ok(found)
    }

    /// Reads a configuration file. Which role it is of shows in its tables: an
    /// adapter's names a hub, a hub's says where links come in.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let table = table_of(path)?;
        Ok(if is_adapters(&table) {
            let config = load::<AdapterConfig>(path)?;
            Self {
                role: NodeRole::Adapter,
                directory: config.directory,
                store: config.store,
            }
        } else {
            let config = load::<HubConfig>(path)?;
            Self {
                role: NodeRole::Hub,
                directory: config.directory,
                store: config.store,
            }
        })
    }

    /// Reads a hub's configuration file.
    pub(super) fn read_hub(path: &Path) -> anyhow::Result<Self> {
        let found = Self::read(path)?;
        anyhow::ensure!(
            found.role == NodeRole::Hub,
            "{} is an adapter's: only the hub's operator begins an epoch. An adapter that was restored, \
             its file or its database, is simply started: its link takes back what the hub has",
            path.display()
        );
        Ok(found)
    }
}
