//! `jembatan store`: the schema of the PostgreSQL that hub replicas share, or that an
//! adapter has of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    node::database,
    store::{
        postgres::{
            Integrity, SchemaState, Settings, check, check_adapter, check_integrity, migrate,
            migrate_adapter,
        },
        sqlite::NodeRole,
    },
    wire,
};

use super::{
    Done,
    node_file::NodeFile,
    output::{Output, Table, json, line},
};

/// The schema of the PostgreSQL that hub replicas share, or that an adapter has of
/// its own. A node in a directory of its own needs none of this
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan store check --config hub.toml        can this program serve from it?
  jembatan store migrate --config hub.toml      once, and with each new release
  jembatan store migrate --config adapter.toml  the same, of an adapter's database")]
pub(super) enum Store {
    /// Bring the schema up to what this program knows. Nodes that run go on
    #[command(after_help = "\
Examples:
  jembatan store migrate --config hub.toml      then restart the hubs, one by one
  jembatan store migrate --config adapter.toml  then restart the adapter
The user of the url makes tables and functions in the database that is there. One
migrates at a time; a second one waits and finds nothing left to do.")]
    Migrate(Where),
    /// Say whether this program can serve from the database; changes nothing
    #[command(after_help = "\
Examples:
  jembatan store check --config hub.toml        exit code 1: it can't
  jembatan store check --config hub.toml --deep --output json
--deep reads the whole record as it is at one moment, while hubs run or not: chains
are computed anew, every submission must have its decision, nothing may point nowhere
or be kept that was erased, and somebody must read for every open complaint. Exit
code 1: something was found. It takes as long as the record is large. Of a hub's
record only: an adapter's journals are compared with the hub's at every opening.")]
    Check {
        #[command(flatten)]
        place: Where,
        /// Read the whole record, and say what is damaged, where
        #[arg(long)]
        deep: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Where {
    /// The node's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl Store {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let (Self::Migrate(place) | Self::Check { place, .. }) = &self;
        let (role, settings) = settings(&place.config)?;
        if let (Self::Check { deep: true, .. }, NodeRole::Adapter) = (&self, role) {
            anyhow::bail!(
                "--deep reads a hub's record; an adapter's journals are compared with the hub's at \
                 every opening of its links, and with every acknowledgement"
            );
        }
        let state = match (&self, role) {
            (Self::Migrate(_), NodeRole::Hub) => migrate(&settings).await?,
            (Self::Migrate(_), NodeRole::Adapter) => migrate_adapter(&settings).await?,
            (Self::Check { .. }, NodeRole::Hub) => check(&settings).await?,
            (Self::Check { .. }, NodeRole::Adapter) => check_adapter(&settings).await?,
        };
        if output.is_json(false) {
            json(&serde_json::json!({
                "found": state.found, "known": state.known,
                "readableFrom": state.readable_from, "fits": state.fits(),
            }))?;
        } else {
            line(format!(
                "the schema is at version {}; this program knows {}",
                state.found, state.known
            ))?;
        }
        anyhow::ensure!(state.fits(), "{}", what_to_do(state));
        if let Self::Check { deep: true, .. } = &self {
            let read_header =
                |header: &[u8]| wire::decode_header(&bytes::Bytes::copy_from_slice(header)).ok();
            let found = check_integrity(&settings, read_header).await?;
            tell(&found, output)?;
        }
        Ok(Done::All)
    }
}

fn tell(found: &Integrity, output: Output) -> anyhow::Result<()> {
    if output.is_json(false) {
        json(&value(found))?;
    } else {
        let mut table = Table::new([
            "party",
            "epochs",
            "submissions",
            "accepted",
            "duplicates",
            "rejected",
            "parked",
            "deliveries",
        ]);
        for party in &found.parties {
            table.row([
                party.party.to_string(),
                party.epochs.to_string(),
                party.submissions.to_string(),
                party.accepted.to_string(),
                party.duplicates.to_string(),
                party.rejected.to_string(),
                party.parked.to_string(),
                party.deliveries.to_string(),
            ]);
        }
        table.print()?;
        for one in &found.findings {
            line(format!("{} {}: {}", one.kind, one.place, one.why))?;
        }
        for (kind, count) in &found.more {
            line(format!("{kind}: {count} more"))?;
        }
        if found.is_whole() {
            line("every chain, decision and reference is whole")?;
        }
    }
    let count = found.findings.len() as u64 + found.more.values().sum::<u64>();
    anyhow::ensure!(
        found.is_whole(),
        "{count} things are not as they should be. An orphan waits for a party that reads for its \
         institution. The rest is damage: keep a copy of the database as it is, and see \
         docs/operate.md, \"A hub for a nation\""
    );
    Ok(())
}

fn value(found: &Integrity) -> serde_json::Value {
    let parties = found.parties.iter().map(|party| {
        serde_json::json!({
            "party": party.party.as_str(), "epochs": party.epochs,
            "submissions": party.submissions, "deliveries": party.deliveries,
            "accepted": party.accepted, "duplicates": party.duplicates,
            "rejected": party.rejected, "parked": party.parked,
        })
    });
    let findings = found
        .findings
        .iter()
        .map(|one| serde_json::json!({ "kind": one.kind, "place": one.place, "why": one.why }));
    serde_json::json!({
        "isWhole": found.is_whole(),
        "parties": parties.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
        "more": found.more,
    })
}

fn settings(path: &Path) -> anyhow::Result<(NodeRole, Settings)> {
    let node = NodeFile::read(path)?;
    let store = node.store.with_context(|| {
        format!(
            "{} has no [store]: its store is the directory {}, which the node migrates itself",
            path.display(),
            node.directory.display()
        )
    })?;
    Ok((node.role, database(&store)?))
}

fn what_to_do(state: SchemaState) -> String {
    if state.found < state.known {
        "the schema is older than this program: run `jembatan store migrate`".to_owned()
    } else {
        format!(
            "the schema serves programs that know version {} or later: install the newer program",
            state.readable_from
        )
    }
}
