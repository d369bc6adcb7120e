//! The hub's store in a PostgreSQL database that the caller names.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    cli::{lab, node_file::load_hub},
    node,
    store::postgres::{RowCounts, Settings, insert_ceiling, is_empty, migrate, row_counts},
};

use super::report::{Ceiling, FullSpeed, Reached, Replicas};

/// Events of one transaction of the ceiling.
const PER_COMMIT: usize = 256;

/// What the hub's file says of its store; empty: its own directory.
pub(super) fn table(url: Option<&str>, password: Option<&Path>) -> anyhow::Result<String> {
    let Some(url) = url else {
        return Ok(String::new());
    };
    let mut table = format!("\n[store]\nurl = {url:?}\n");
    if let Some(path) = password {
        let path = std::path::absolute(path)?;
        table.push_str(&format!(
            "password_file = {:?}\n",
            path.display().to_string()
        ));
    }
    Ok(table)
}

/// Makes the schema in an empty database.
///
/// # Errors
/// It can't be reached, or holds something already.
pub(super) async fn prepare(
    directory: &Path,
    table: &str,
    may_be_used: bool,
) -> anyhow::Result<()> {
    let settings = settings(directory, table)?;
    anyhow::ensure!(
        may_be_used || is_empty(&settings).await?,
        "the database holds tables already, and the fleet's parties and complaints would stay in \
         it: make an empty one (createdb fleet) and name that, or say --not-empty"
    );
    migrate(&settings).await?;
    Ok(())
}

/// What stands in the database now; without one `None`.
pub(super) async fn standing(directory: &Path, table: &str) -> anyhow::Result<Option<RowCounts>> {
    if table.is_empty() {
        return Ok(None);
    }
    Ok(Some(row_counts(&settings(directory, table)?).await?))
}

/// Writes what the hub has written since then once more, without the hub.
pub(super) async fn ceiling(
    directory: &Path,
    table: &str,
    since: RowCounts,
    one: &FullSpeed,
    replicas: Option<&Replicas>,
) -> anyhow::Result<Ceiling> {
    let (events, took) = insert_ceiling(&settings(directory, table)?, since, PER_COMMIT).await?;
    let per_second = events as f64 / took.as_secs_f64().max(1e-9);
    let percent = |speed: &FullSpeed| speed.acknowledged_per_second / per_second * 100.0;
    Ok(Ceiling {
        events,
        per_commit: PER_COMMIT,
        per_second,
        reached_percent: Reached {
            one: percent(one),
            replicas: replicas.map(|replicas| percent(&replicas.speed)),
        },
    })
}

fn settings(directory: &Path, table: &str) -> anyhow::Result<Settings> {
    let file = directory.join("database.toml");
    std::fs::write(&file, format!("{}{table}", lab::hub_file()))?;
    let config = load_hub(&file)?;
    Ok(node::database(&config.store.context("no [store]")?)?)
}
