//! `jembatan store`: the schema of the PostgreSQL that hub replicas share.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    hub::database,
    store::postgres::{SchemaState, Settings, check, migrate},
};

use super::{
    Done,
    node_file::load_hub,
    output::{Output, json, line},
};

/// The schema of the PostgreSQL that hub replicas share. A hub in a directory
/// of its own needs none of this
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan store check --config hub.toml        can this program serve from it?
  jembatan store migrate --config hub.toml      once, and with each new release")]
pub(super) enum Store {
    /// Bring the schema up to what this program knows. Hubs that run go on
    #[command(after_help = "\
Examples:
  jembatan store migrate --config hub.toml      then restart the hubs, one by one
The user of the url makes tables and functions in the database that is there. One
migrates at a time; a second one waits and finds nothing left to do.")]
    Migrate(Where),
    /// Say whether this program can serve from the database; changes nothing
    #[command(after_help = "\
Examples:
  jembatan store check --config hub.toml        exit code 1: it can't
  jembatan store check --config hub.toml --output json")]
    Check(Where),
}

#[derive(Debug, Args)]
pub(super) struct Where {
    /// The hub's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl Store {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let state = match &self {
            Self::Migrate(place) => migrate(&settings(&place.config)?).await?,
            Self::Check(place) => check(&settings(&place.config)?).await?,
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
        Ok(Done::All)
    }
}

fn settings(path: &Path) -> anyhow::Result<Settings> {
    let config = load_hub(path)?;
    let store = config.store.with_context(|| {
        format!(
            "{} has no [store]: its store is the directory {}, which the hub migrates itself",
            path.display(),
            config.directory.display()
        )
    })?;
    Ok(database(&store)?)
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
