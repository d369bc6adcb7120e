//! `jembatan restore`: a copy takes the place of a lost store.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    config::StoreConfig,
    store::sqlite::{NodeRole, restore},
};

use super::{
    Done,
    backup::facts,
    node_file::NodeFile,
    now,
    output::{Output, json, line},
};

/// Put a copy that `jembatan backup` made in place of a lost store. The node must
/// not run
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan restore /backup/hub-2026-11-24.db --config hub.toml
  jembatan restore /backup/today --config adapter.toml
  jembatan restore /backup/now.db --config hub.toml --force   what is there is moved aside
The copy is checked first: whole, of this role, made by `jembatan backup`. A hub
then needs `jembatan recover` before it serves; an adapter is simply started:
its link takes back from the hub what the copy lacks.")]
pub(super) struct Restore {
    /// The copy, or the directory that it stands in
    copy: PathBuf,
    /// The node's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The data directory holds something: move its store aside
    #[arg(long)]
    force: bool,
}

/// How it is put back by PostgreSQL's own tools.
fn instead(role: NodeRole, store: &StoreConfig, config: &Path) -> String {
    let (url, config) = (&store.url, config.display());
    let who = match role {
        NodeRole::Hub => "every hub",
        NodeRole::Adapter => "the adapter",
    };
    let put_back = format!(
        "Stop {who}. A base backup takes the place of the server's data directory while the server \
         is stopped (with a WAL archive: restore_command and recovery.signal). A dump goes into a fresh \
         database of that name:\n  \
         pg_restore -d '{url}' --exit-on-error FILE\n"
    );
    match role {
        NodeRole::Hub => format!(
            "{put_back}Then, before a hub starts:\n  \
             jembatan recover --config {config} --dry-run\n  \
             jembatan recover --config {config}\n\
             docs/operate.md, \"A hub for a nation\", has the whole way"
        ),
        NodeRole::Adapter => format!(
            "{put_back}Then start the adapter: its link takes back from the hub what the copy lacks. \
             What the hub had not acknowledged since the copy is lost: fail over to a standby, or \
             restore to the last moment of the archive, where there is one.\n\
             docs/operate.md, \"An adapter on PostgreSQL\", has the whole way"
        ),
    }
}

impl Restore {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let node = NodeFile::with_store_in_file(&self.config, |role, store| {
            instead(role, store, &self.config)
        })?;
        let (role, directory) = (node.role, node.directory.clone());
        let (copy, config, force) = (self.copy, self.config, self.force);
        let (found, aside) =
            tokio::task::spawn_blocking(move || restore(&copy, &directory, role, force, now()))
                .await??;
        if output.is_json(false) {
            let mut value = facts(&found);
            value["directory"] = serde_json::json!(node.directory);
            value["movedAside"] = serde_json::json!(aside);
            json(&value)?;
            return Ok(Done::All);
        }
        if let Some(aside) = aside {
            line(format!("what was there is in {}", aside.display()))?;
        }
        line(format!(
            "{} holds the copy {}; next: {}",
            node.directory.display(),
            found.path.display(),
            match role {
                NodeRole::Hub =>
                    format!("jembatan recover --config {} --dry-run", config.display()),
                NodeRole::Adapter => "start the adapter".to_owned(),
            }
        ))?;
        Ok(Done::All)
    }
}
