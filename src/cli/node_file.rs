//! The configuration of a node of either role, for commands that work on its
//! files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    config::{AdapterConfig, HubConfig, load},
    store::sqlite::NodeRole,
};

/// What commands on a node's files need of its configuration.
pub(super) struct NodeFile {
    pub(super) role: NodeRole,
    pub(super) directory: PathBuf,
}

impl NodeFile {
    /// Reads a configuration file. Which role it is of shows in its tables: an
    /// adapter's names a hub, a hub's says where links come in.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let table: toml::Table =
            toml::from_str(&text).with_context(|| format!("{} is not TOML", path.display()))?;
        let is_adapter = table.contains_key("hub") || table.contains_key("party");
        Ok(if is_adapter {
            Self {
                role: NodeRole::Adapter,
                directory: load::<AdapterConfig>(path)?.directory,
            }
        } else {
            Self {
                role: NodeRole::Hub,
                directory: load::<HubConfig>(path)?.directory,
            }
        })
    }

    /// Reads a hub's configuration file.
    pub(super) fn read_hub(path: &Path) -> anyhow::Result<Self> {
        let found = Self::read(path)?;
        anyhow::ensure!(
            found.role == NodeRole::Hub,
            "{} is an adapter's: only the hub's operator begins an epoch. An adapter that was restored is \
             simply started: its link takes back what the hub has",
            path.display()
        );
        Ok(found)
    }
}
