//! `jembatan dead-letters`: what the hub refused or parked, and what a node could
//! not read; and settling it.

mod settle;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    domain::{DeliveryRecord, Outcome, PartyId},
    node::database,
    store::{
        DeadLetter, StoreError, postgres,
        sqlite::{NodeRole, dead_letters, unread_deliveries},
    },
    wire,
};

use crate::cli::{
    Done,
    node_file::NodeFile,
    output::{Output, Table, json, line, moment, or_dash},
};

/// Rows of a list, unless another number is asked for.
const ROWS: usize = 100;
/// Rows that are looked through for one to show.
const MOST: usize = 100_000;

/// What the hub refused or parked, and what this node could not read
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan dead-letters list --config adapter.toml
  jembatan dead-letters list --config hub.toml --only pemda-33.74 --output json
  jembatan dead-letters show 2847cf27-5287-8f37-b90f-a6d01344cfdc --config adapter.toml
  jembatan dead-letters retry --all
  jembatan dead-letters drop pemda-33.74/12 --note 'Uji coba, tidak perlu.'
list and show read the node's store (its file, as the user that it runs as, or its
database), while the node runs or not; retry and drop ask the running node, at its
own door.
rejected: final; its author corrects it and hands it over under a new key.
parked: deciding it failed at the hub; once the hub's software is corrected, retry
decides it again there, and drop rejects it. Its author waits meanwhile.
unreadable: a delivery of a newer hub; once this node is updated, retry reads it.")]
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
        /// Only this kind: rejected, parked, unreadable
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// Only rejected for this reason, for example STALE_REVISION
        #[arg(long)]
        reason: Option<String>,
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
    /// Try again: parked ones at the hub, unreadable ones at an adapter
    #[command(after_help = "\
Examples:
  jembatan dead-letters retry pemda-33.74/12
  jembatan dead-letters retry --all --dry-run
  jembatan dead-letters retry --all --only pemda-33.74 --output json
It asks the running node at its own door. Exit code 3: some failed again.")]
    Retry(settle::Which),
    /// Give up: parked ones are rejected, unreadable ones leave the list
    #[command(after_help = "\
Examples:
  jembatan dead-letters drop pemda-33.74/12 --note 'Uji coba, tidak perlu.'
  jembatan dead-letters drop --all --note '...' --dry-run
It asks the running node at its own door. The note stands in the node's log and,
at the hub, in the decision that the author reads: no personal data.")]
    Drop {
        #[command(flatten)]
        which: settle::Which,
        /// Why, in one line
        #[arg(long)]
        note: String,
    },
}

/// What a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// By the hub: its author corrects it
    Rejected,
    /// The hub could not decide it
    Parked,
    /// This node could not read it
    Unreadable,
}

impl Kind {
    fn of(letter: &DeadLetter) -> Self {
        match letter.decision.as_ref().map(|found| found.outcome) {
            None => Self::Unreadable,
            Some(Outcome::Parked) => Self::Parked,
            Some(_) => Self::Rejected,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Parked => "parked",
            Self::Unreadable => "unreadable",
        }
    }
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
            Self::Retry(which) => return which.retry(output).await,
            Self::Drop { which, note } => return which.drop(note, output).await,
            Self::List {
                node,
                only,
                kind,
                reason,
                limit,
            } => {
                let only = only
                    .map(|text| PartyId::parse(&text))
                    .transpose()
                    .context("--only")?;
                let most = match (kind, &reason) {
                    (None, None) => limit,
                    _ => MOST,
                };
                let mut found = read(node, only, most).await?;
                found.retain(|letter| {
                    kind.is_none_or(|kind| kind == Kind::of(letter))
                        && reason
                            .as_deref()
                            .is_none_or(|wanted| reason_of(letter) == Some(wanted))
                });
                found.truncate(limit);
                list(&found, output)?;
            }
            Self::Show { which, node } => {
                let all = read(node, None, MOST).await?;
                let found = all.iter().find(|letter| is_named(letter, &which));
                let letter = found.with_context(|| {
                    format!("{which} is not among what was refused, parked or unreadable here")
                })?;
                json(&value(letter))?;
            }
        }
        Ok(Done::All)
    }
}

async fn read(node: Node, only: Option<PartyId>, limit: usize) -> anyhow::Result<Vec<DeadLetter>> {
    let file = NodeFile::read(&node.config)?;
    if let Some(store) = &file.store {
        let (settings, only) = (database(store)?, only.as_ref());
        return Ok(match file.role {
            // A hub receives nothing that it could fail to read.
            NodeRole::Hub => postgres::dead_letters(&settings, only, limit).await?,
            NodeRole::Adapter => postgres::dead_letters_of_adapter(&settings, only, limit).await?,
        });
    }
    let read = move || {
        // What this node's own operator has to settle goes first.
        let mut found = unread_deliveries(&file.directory, only.as_ref(), limit)?;
        found.extend(dead_letters(&file.directory, only.as_ref(), limit)?);
        found.truncate(limit);
        Ok::<_, StoreError>(found)
    };
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
        line("nothing was refused or parked, and everything could be read")?;
    }
    Ok(())
}

fn name(letter: &DeadLetter) -> String {
    format!("{}/{}", letter.party, letter.position)
}

fn reason_of(letter: &DeadLetter) -> Option<&'static str> {
    let rejection = letter.decision.as_ref()?.rejection.as_ref()?;
    Some(rejection.reason.code())
}

fn is_named(letter: &DeadLetter, which: &str) -> bool {
    let id = letter.decision.as_ref().and_then(|found| found.event_id);
    id.is_some_and(|id| id.to_string() == which)
        || name(letter) == which
        || format!("{}/{}/{}", letter.party, letter.epoch, letter.position) == which
}

/// One for machines: ids, reasons and advice; no texts of citizens.
fn value(letter: &DeadLetter) -> serde_json::Value {
    let decision = letter.decision.as_ref();
    let rejection = decision.and_then(|found| found.rejection.as_ref());
    let event = wire::decode_event(&letter.entry.event).ok();
    let unreadable = decision.is_none().then(|| why_unreadable(letter));
    let explanation = rejection.map(|found| found.text_en.clone()).or(unreadable);
    serde_json::json!({
        "which": name(letter),
        "epoch": letter.epoch,
        "since": moment(letter.stored_at),
        "outcome": Kind::of(letter).word(),
        "eventId": decision.and_then(|found| found.event_id).map(|id| id.to_string()),
        "complaintId": decision.and_then(|found| found.complaint_id).map(|id| id.to_string()),
        "system": event.as_ref().map(|event| event.system.as_str()),
        "key": event.as_ref().map(|event| event.key.as_str()),
        "reason": rejection.map(|found| found.reason.code()),
        "fields": rejection.map(|found| found.fields.clone()).unwrap_or_default(),
        "explanation": explanation,
        "explanationId": rejection.map(|found| found.text_id.as_str()),
    })
}

/// Why a delivery can't be read; by now it may be possible.
fn why_unreadable(letter: &DeadLetter) -> String {
    let why = match wire::decode_header(&letter.entry.header) {
        Err(error) => Some(error.why),
        Ok(DeliveryRecord::Event(_)) => wire::decode_event(&letter.entry.event)
            .err()
            .map(|error| error.why),
        Ok(DeliveryRecord::Decisions(_)) => None,
    };
    match why {
        Some(why) => format!("this version can't read it ({why}): update this node, then retry"),
        None => "this version can read it: jembatan dead-letters retry".to_owned(),
    }
}
