//! `jembatan backup`: a consistent copy, while the node runs.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::StoreConfig,
    store::sqlite::{CopyFacts, NodeRole, backup},
};

use super::{
    Done,
    node_file::NodeFile,
    now,
    output::{Output, json, line},
};

/// Copy the store of a node while it runs (as the user that the node runs as).
/// The copy is one moment of the store, checked, and marked as a copy
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan backup --config /etc/jembatan/hub.toml /backup/hub-2026-11-24.db
  jembatan backup --config adapter.toml /backup/today/        becomes /backup/today/jembatan.db
  jembatan backup --config hub.toml /backup/now.db --output json
Nothing is written over. The node need not stop, and its writer never waits; it
may also be stopped. A copy holds what citizens wrote: keep it as safe as the
store itself. Certificates and settings are not in it. A store in PostgreSQL is
copied by PostgreSQL's own tools: this command says how.")]
pub(super) struct Backup {
    /// The node's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The file to make, or a directory that is there
    target: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let node = NodeFile::with_store_in_file(&self.config, instead)?;
        let target = self.target;
        let made =
            tokio::task::spawn_blocking(move || backup(&node.directory, &target, now())).await??;
        if output.is_json(false) {
            json(&facts(&made))?;
        } else {
            line(format!(
                "{}: a copy of the {} {}, {} bytes, whole",
                made.path.display(),
                made.role,
                hex::encode(made.instance_id),
                made.bytes
            ))?;
        }
        Ok(Done::All)
    }
}

/// How PostgreSQL's own tools copy it. The url never holds a password.
fn instead(role: NodeRole, store: &StoreConfig) -> String {
    let url = &store.url;
    let (who, chapter) = match role {
        NodeRole::Hub => ("hubs run", "A hub for a nation"),
        NodeRole::Adapter => ("adapter runs", "An adapter on PostgreSQL"),
    };
    format!(
        "While the {who}:\n  \
         pg_basebackup -d '{url}' -D DIRECTORY -c fast -X stream\n    \
         the whole server; with a WAL archive it can be put back to any later moment\n  \
         pg_dump -d '{url}' -Fc -f FILE\n    \
         this database, at one moment\n\
         docs/operate.md, \"{chapter}\", has the whole way, and back"
    )
}

/// What a copy is, for machines.
pub(super) fn facts(copy: &CopyFacts) -> serde_json::Value {
    serde_json::json!({
        "path": copy.path,
        "role": copy.role,
        "instanceId": hex::encode(copy.instance_id),
        "copiedAt": copy.copied_at.map(super::output::moment),
        "bytes": copy.bytes,
    })
}
