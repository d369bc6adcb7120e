//! `jembatan dead-letters`: what the hub refused or parked, and what a node could
//! not read; and settling it.

mod settle;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    domain::{DeliveryRecord, Micros, PartyId, RejectionReason},
    node::database,
    store::{
        DeadLetter, LetterKind, LetterName, LetterPlace, LetterQuery, StoreError, postgres,
        sqlite::{self, NodeRole},
    },
    wire,
};

use crate::cli::{
    Done,
    invitations::seconds,
    node_file::NodeFile,
    now,
    output::{Output, Table, json, line, moment, or_dash},
};

/// Rows of a list, unless another number is asked for.
const ROWS: u32 = 100;
/// Rows of a list at most: they are in memory together.
const MOST: i64 = 10_000;
/// Rows that are looked through at once.
const PAGE: usize = 1_000;

/// What the hub refused or parked, and what this node could not read
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan dead-letters list --config adapter.toml
  jembatan dead-letters list --config hub.toml --only pemda-33.74 --output json
  jembatan dead-letters show 2847cf27-5287-8f37-b90f-a6d01344cfdc --config adapter.toml
  jembatan dead-letters retry --all
  jembatan dead-letters drop pemda-33.74/1790000000/12 --note 'Uji coba, tidak perlu.'
list and show read the node's store (its file, as the user that it runs as, or its
database), while the node runs or not; retry and drop ask the running node, at its
own door.
rejected: final; its author corrects it and hands it over under a new key.
parked: deciding it failed at the hub; once the hub's software is corrected, retry
decides it again there, and drop rejects it. Its author waits meanwhile.
unreadable: a delivery of a newer hub; once this node is updated, retry reads it.")]
pub(super) enum DeadLetters {
    /// List them: unreadable ones, then parked, then rejected; the newest first
    #[command(after_help = "\
Examples:
  jembatan dead-letters list --config adapter.toml
  jembatan dead-letters list --config hub.toml --kind rejected --since 7d
  jembatan dead-letters list --config hub.toml --only pemda-33.74 --output json
Where more than --limit are there the last line says with which --after to go on;
in JSON that is the last letter's \"cursor\".")]
    List {
        #[command(flatten)]
        node: Node,
        /// Only this party
        #[arg(long, value_name = "PARTY", value_parser = party)]
        only: Option<PartyId>,
        /// Only this kind: rejected, parked, unreadable
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// Only rejected for this reason, for example STALE_REVISION
        #[arg(long, value_parser = reason)]
        reason: Option<RejectionReason>,
        /// Only stored here since: 30m, 24h, 7d ago, or a time such as 2026-11-24T09:00:00+07:00
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<Micros>,
        /// At most so many, up to 10 000
        #[arg(long, default_value_t = ROWS, value_parser = clap::value_parser!(u32).range(1..=MOST))]
        limit: u32,
        /// Go on behind this letter: the cursor that the page before ended with
        #[arg(long, value_name = "CURSOR", value_parser = place)]
        after: Option<LetterPlace>,
    },
    /// Show one
    #[command(after_help = "\
Examples:
  jembatan dead-letters show 2847cf27-5287-8f37-b90f-a6d01344cfdc --config adapter.toml
  jembatan dead-letters show pemda-33.74/1790000000/12 --config hub.toml")]
    Show {
        /// Its name as the list has it, party/epoch/position (the epoch may be left out where
        /// only one is meant), or its event id
        which: String,
        /// Only of this kind: rejected, parked, unreadable
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        #[command(flatten)]
        node: Node,
    },
    /// Try again: parked ones at the hub, unreadable ones at an adapter
    #[command(after_help = "\
Examples:
  jembatan dead-letters retry pemda-33.74/1790000000/12
  jembatan dead-letters retry --all --dry-run
  jembatan dead-letters retry --all --only pemda-33.74 --output json
It asks the running node at its own door. Exit code 3: some failed again, or are
not there.")]
    Retry(settle::Which),
    /// Give up: parked ones are rejected, unreadable ones leave the list
    #[command(after_help = "\
Examples:
  jembatan dead-letters drop pemda-33.74/1790000000/12 --note 'Uji coba, tidak perlu.'
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

impl From<Kind> for LetterKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Rejected => Self::Rejected,
            Kind::Parked => Self::Parked,
            Kind::Unreadable => Self::Unreadable,
        }
    }
}

fn party(text: &str) -> Result<PartyId, String> {
    PartyId::parse(text).map_err(|error| error.to_string())
}

fn reason(text: &str) -> Result<RejectionReason, String> {
    let unknown = RejectionReason::Unknown(0);
    let mut all = RejectionReason::ALL.into_iter().chain([unknown]);
    all.find(|reason| reason.code() == text).ok_or_else(|| {
        let codes = RejectionReason::ALL.map(RejectionReason::code);
        format!(
            "{text:?} is none of {}, {}",
            codes.join(", "),
            unknown.code()
        )
    })
}

/// So long ago, or a moment.
fn since(text: &str) -> Result<Micros, String> {
    if let Ok(ago) = seconds(text) {
        return Ok(Micros(now().0 - i64::from(ago) * 1_000_000));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| Micros(time.as_microsecond())).map_err(|_| {
        format!("{text:?} is neither a duration such as 24h or 7d nor a time such as 2026-11-24T09:00:00+07:00")
    })
}

fn place(text: &str) -> Result<LetterPlace, String> {
    LetterPlace::parse(text).ok_or_else(|| {
        format!("{text:?} is no cursor of a list: see its last line, or \"cursor\" in JSON")
    })
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
                since,
                limit,
                after,
            } => {
                let limit = limit as usize;
                let query = LetterQuery {
                    party: only,
                    kind: kind.map(LetterKind::from),
                    reason,
                    since,
                    after,
                    // One more shows whether there is more.
                    limit: limit + 1,
                };
                let mut found = node.letters(query).await?;
                let is_more = found.len() > limit;
                found.truncate(limit);
                list(&found, is_more, output)?;
            }
            Self::Show { which, kind, node } => {
                let found = node.named(&which, kind.map(LetterKind::from)).await?;
                found.iter().try_for_each(|letter| json(&value(letter)))?;
            }
        }
        Ok(Done::All)
    }
}

impl Node {
    async fn letters(self, query: LetterQuery) -> anyhow::Result<Vec<DeadLetter>> {
        let file = NodeFile::read(&self.config)?;
        if let Some(store) = &file.store {
            let settings = database(store)?;
            return Ok(match file.role {
                NodeRole::Hub => postgres::letters(&settings, &query).await?,
                NodeRole::Adapter => postgres::adapter_letters(&settings, &query).await?,
            });
        }
        let read = move || sqlite::letters(&file.directory, &query);
        Ok(tokio::task::spawn_blocking(read).await??)
    }

    /// The one that is named; of an event, all that is about it.
    async fn named(self, which: &str, kind: Option<LetterKind>) -> anyhow::Result<Vec<DeadLetter>> {
        let name = LetterName::parse(which).map_err(|error| anyhow::anyhow!(error.problem))?;
        let file = NodeFile::read(&self.config)?;
        let mut found = match &file.store {
            Some(store) => {
                let settings = database(store)?;
                match file.role {
                    NodeRole::Hub => postgres::letters_named(&settings, &name).await?,
                    NodeRole::Adapter => adapter_about(&settings, &name).await?,
                }
            }
            None => {
                let asked = name.clone();
                let read = move || about(&file.directory, &asked);
                tokio::task::spawn_blocking(read).await??
            }
        };
        found.retain(|letter| kind.is_none_or(|kind| letter.kind() == kind));
        if let Some(ambiguous) = name.ambiguity(which, &found) {
            anyhow::bail!("{} (--kind, where it is the same place)", ambiguous.problem);
        }
        anyhow::ensure!(
            !found.is_empty(),
            "{which} is not among what was refused, parked or unreadable here"
        );
        Ok(found)
    }
}

/// What a name means in a store; of deliveries that could not be read the event is
/// found by looking at each.
fn about(directory: &Path, name: &LetterName) -> Result<Vec<DeadLetter>, StoreError> {
    let mut found = sqlite::letters_named(directory, name)?;
    if !matches!(name, LetterName::Event(_)) {
        return Ok(found);
    }
    let mut query = LetterQuery {
        kind: Some(LetterKind::Unreadable),
        limit: PAGE,
        ..LetterQuery::default()
    };
    loop {
        let page = sqlite::letters(directory, &query)?;
        query.after = page.last().map(LetterPlace::of);
        let is_last = page.len() < PAGE;
        found.extend(page.into_iter().filter(|letter| is_about(letter, name)));
        if is_last {
            return Ok(found);
        }
    }
}

/// The same, in the database of an adapter.
async fn adapter_about(
    settings: &postgres::Settings,
    name: &LetterName,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut found = postgres::adapter_letters_named(settings, name).await?;
    if !matches!(name, LetterName::Event(_)) {
        return Ok(found);
    }
    let mut query = LetterQuery {
        kind: Some(LetterKind::Unreadable),
        limit: PAGE,
        ..LetterQuery::default()
    };
    loop {
        let page = postgres::adapter_letters(settings, &query).await?;
        query.after = page.last().map(LetterPlace::of);
        let is_last = page.len() < PAGE;
        found.extend(page.into_iter().filter(|letter| is_about(letter, name)));
        if is_last {
            return Ok(found);
        }
    }
}

/// Whether it holds the event that is named.
fn is_about(letter: &DeadLetter, name: &LetterName) -> bool {
    let event = wire::decode_event(&letter.entry.event).ok();
    event.is_some_and(|event| name.is_event(&event.event_id))
}

fn list(letters: &[DeadLetter], is_more: bool, output: Output) -> anyhow::Result<()> {
    if output.is_json(false) {
        return letters.iter().try_for_each(|letter| json(&value(letter)));
    }
    let mut table = Table::new(["since", "which", "outcome", "key", "why and what to do"]);
    for letter in letters {
        let value = value(letter);
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        table.row([
            text("since"),
            letter.name(),
            text("outcome"),
            or_dash(&text("key")).to_owned(),
            text("explanation"),
        ]);
    }
    table.print()?;
    match letters.last() {
        None => line("nothing of this was refused, parked or unreadable")?,
        Some(last) if is_more => line(format!("more: --after {}", LetterPlace::of(last)))?,
        Some(_) => {}
    }
    Ok(())
}

/// One for machines: ids, reasons and advice; no texts of citizens.
fn value(letter: &DeadLetter) -> serde_json::Value {
    let decision = letter.decision.as_ref();
    let rejection = decision.and_then(|found| found.rejection.as_ref());
    let event = wire::decode_event(&letter.entry.event).ok();
    let event_id = match decision {
        Some(decision) => decision.event_id,
        None => event.as_ref().map(|event| event.event_id),
    };
    let complaint_id = match decision {
        Some(decision) => decision.complaint_id,
        None => event.as_ref().map(|event| event.complaint_id),
    };
    let unreadable = decision.is_none().then(|| why_unreadable(letter));
    let explanation = rejection.map(|found| found.text_en.clone()).or(unreadable);
    serde_json::json!({
        "which": letter.name(),
        "cursor": LetterPlace::of(letter).to_string(),
        "epoch": letter.epoch,
        "since": moment(letter.stored_at),
        "outcome": letter.kind().word(),
        "eventId": event_id.map(|id| id.to_string()),
        "complaintId": complaint_id.map(|id| id.to_string()),
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
