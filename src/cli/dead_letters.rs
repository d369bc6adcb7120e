//! `jembatan dead-letters`: what the hub refused or parked.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    domain::{Outcome, PartyId},
    store::sqlite::{DeadLetter, dead_letters},
    wire,
};

use super::{
    Done,
    node_file::NodeFile,
    output::{Output, Table, json, line, moment, or_dash},
};

/// Rows of a list, unless another number is asked for.
const ROWS: usize = 100;
/// Rows that are looked through for one to show.
const MOST: usize = 100_000;

/// What the hub refused or parked, with the reason and what to do
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan dead-letters list --config adapter.toml
  jembatan dead-letters list --config hub.toml --only pemda-33.74 --output json
  jembatan dead-letters show 2847cf27-5287-8f37-b90f-a6d01344cfdc --config adapter.toml
It reads the node's store, while the node runs or not, as the user that it runs
as. A rejected one is not sent again: its author corrects it and hands it over
under a new key. A parked one waits for a corrected version of the hub's
software; its author may hand it over under a new key then.")]
pub(super) enum DeadLetters {
    /// List them, the newest first
    #[command(after_help = "\
Examples:
  jembatan dead-letters list --config adapter.toml
  jembatan dead-letters list --config hub.toml --only pemda-33.74 --output json")]
    List {
        #[command(flatten)]
        node: Node,
        /// Only this party
        #[arg(long, value_name = "PARTY")]
        only: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = ROWS)]
        limit: usize,
    },
    /// Show one
    #[command(after_help = "\
Examples:
  jembatan dead-letters show 2847cf27-5287-8f37-b90f-a6d01344cfdc --config adapter.toml
  jembatan dead-letters show pemda-33.74/12 --config hub.toml")]
    Show {
        /// Its event id, or party/position as the list has it
        which: String,
        #[command(flatten)]
        node: Node,
    },
}

/// Whose store.
#[derive(Debug, Args)]
pub(super) struct Node {
    /// The node's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl DeadLetters {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        match self {
            Self::List { node, only, limit } => {
                let only = only
                    .map(|text| PartyId::parse(&text))
                    .transpose()
                    .context("--only")?;
                list(&read(node, only, limit).await?, output)?;
            }
            Self::Show { which, node } => {
                let all = read(node, None, MOST).await?;
                let found = all.iter().find(|letter| is_named(letter, &which));
                let letter = found.with_context(|| {
                    format!("{which} is not among what was refused or parked here")
                })?;
                json(&value(letter))?;
            }
        }
        Ok(Done::All)
    }
}

async fn read(node: Node, only: Option<PartyId>, limit: usize) -> anyhow::Result<Vec<DeadLetter>> {
    let file = NodeFile::read(&node.config)?;
    let read = move || dead_letters(&file.directory, only.as_ref(), limit);
    Ok(tokio::task::spawn_blocking(read).await??)
}

fn list(letters: &[DeadLetter], output: Output) -> anyhow::Result<()> {
    if output.is_json(false) {
        return letters.iter().try_for_each(|letter| json(&value(letter)));
    }
    let mut table = Table::new(["since", "which", "outcome", "key", "why and what to do"]);
    for letter in letters {
        let value = value(letter);
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        table.row([
            text("since"),
            name(letter),
            text("outcome"),
            or_dash(&text("key")).to_owned(),
            text("explanation"),
        ]);
    }
    table.print()?;
    if letters.is_empty() {
        line("nothing was refused or parked")?;
    }
    Ok(())
}

fn name(letter: &DeadLetter) -> String {
    format!("{}/{}", letter.party, letter.position)
}

fn is_named(letter: &DeadLetter, which: &str) -> bool {
    let id = letter.decision.event_id.as_ref();
    id.is_some_and(|id| id.to_string() == which) || name(letter) == which
}

/// One for machines: ids, reasons and advice; no texts of citizens.
fn value(letter: &DeadLetter) -> serde_json::Value {
    let decision = &letter.decision;
    let rejection = decision.rejection.as_ref();
    let event = wire::decode_event(&letter.event).ok();
    serde_json::json!({
        "which": name(letter),
        "epoch": letter.epoch,
        "since": moment(letter.stored_at),
        "outcome": match decision.outcome {
            Outcome::Parked => "parked",
            _ => "rejected",
        },
        "eventId": decision.event_id.as_ref().map(ToString::to_string),
        "complaintId": decision.complaint_id.as_ref().map(ToString::to_string),
        "system": event.as_ref().map(|event| event.system.as_str()),
        "key": event.as_ref().map(|event| event.key.as_str()),
        "reason": rejection.map(|found| found.reason.code()),
        "fields": rejection.map(|found| found.fields.clone()).unwrap_or_default(),
        "explanation": rejection.map(|found| found.text_en.as_str()),
        "explanationId": rejection.map(|found| found.text_id.as_str()),
    })
}
