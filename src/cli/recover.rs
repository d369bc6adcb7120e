//! `jembatan recover`: the hub's operator begins a new epoch after the hub went
//! back.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::RetentionConfig,
    domain::Micros,
    node::database,
    store::{Recovered, RecoveredParty, postgres, sqlite},
};

use super::{
    Done,
    node_file::NodeFile,
    now,
    output::{Output, Table, json, line, moment},
};

const DAY_MICROS: i64 = 86_400_000_000;
const KEPT: &str =
    "every complaint, decision and Tracking ID in it, and what it knows of duplicates";
const COMES_AGAIN: &str = "by itself, from each adapter that holds it";
/// What no adapter sends again.
const LOST: [&str; 2] = [
    "what parties without an adapter (behind the hub's own door, and unary) have handed over since, unless their \
     systems hand it over again, under the same keys",
    "parties, institutions and revoked certificates entered since: enter them again before the links open",
];

/// Begin a new epoch for every party, after the hub was restored from an older
/// state. The hub must not run; of several on one PostgreSQL, none of them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan recover --config hub.toml --dry-run     what is kept, sent again, lost
  jembatan recover --config hub.toml
  jembatan recover --config hub.toml --output json
When: `jembatan hub` refuses to serve from a copy, or links stop as HUB_BEHIND or
JOURNAL_FORKED after the hub's files, or its database, were put back by other means.
What: complaints, decisions, Tracking IDs and the memory of duplicates stay;
journals begin at 1; each adapter, when it next connects, sends again what the
hub lacks, and hands nothing over twice.")]
pub(super) struct Recover {
    /// The hub's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Only say what would be kept, sent again and lost
    #[arg(long)]
    dry_run: bool,
}

impl Recover {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let node = NodeFile::read_hub(&self.config)?;
        let dry_run = self.dry_run;
        let done = match &node.store {
            Some(store) => postgres::recover(&database(store)?, now(), dry_run).await?,
            None => {
                let recover = move || sqlite::recover(node.directory, now(), dry_run);
                tokio::task::spawn_blocking(recover).await??
            }
        };
        if output.is_json(false) {
            json(&value(&done, dry_run))?;
            return Ok(Done::All);
        }
        say(&done, dry_run)?;
        Ok(Done::All)
    }
}

fn value(done: &Recovered, dry_run: bool) -> serde_json::Value {
    let parties: Vec<_> = done
        .parties
        .iter()
        .map(|party| {
            let RecoveredParty {
                party,
                ended_epoch,
                epoch,
                submissions,
                deliveries,
                told_again,
            } = party;
            serde_json::json!({
                "party": party.as_str(), "endedEpoch": ended_epoch, "epoch": epoch,
                "submissions": submissions, "deliveries": deliveries, "toldAgain": told_again,
                "comesAgainFrom": submissions + 1,
            })
        })
        .collect();
    serde_json::json!({
        "dryRun": dry_run,
        "copiedAt": done.copied_at.map(moment),
        "newest": done.newest.map(moment),
        "tooOld": done.newest.and_then(|newest| too_old(newest, now())),
        "invitationsTakenBack": done.invitations,
        "kept": KEPT,
        "comesAgain": COMES_AGAIN,
        "lost": LOST,
        "parties": parties,
    })
}

/// Nodes keep what was acknowledged for a time; a copy that is older than that
/// lacks what nobody can send again.
fn too_old(newest: Micros, now: Micros) -> Option<String> {
    let kept_days = RetentionConfig::default().keep_acknowledged_days;
    let days = (now.0 - newest.0) / DAY_MICROS;
    (days >= i64::from(kept_days)).then(|| {
        let kept_since = Micros(now.0 - i64::from(kept_days) * DAY_MICROS);
        format!(
            "LOST for good, unless a newer copy is found: that is {days} days ago, and adapters keep what was settled \
             for {kept_days} days ([retention] keep_acknowledged_days, if nothing else is set there). What they handed \
             over between {} and {} and had settled they can't send again: each names it in its log \
             (entries_cannot_be_sent_again)",
            moment(newest),
            moment(kept_since)
        )
    })
}

/// Positions that are kept of a journal.
fn through(last: u64) -> String {
    match last {
        0 => "none".to_owned(),
        last => format!("1-{last}"),
    }
}

fn say(done: &Recovered, dry_run: bool) -> anyhow::Result<()> {
    if let Some(copied_at) = done.copied_at {
        line(format!("the store is a copy of {}", moment(copied_at)))?;
    }
    if let Some(newest) = done.newest {
        line(format!("the newest thing in it is of {}", moment(newest)))?;
        if let Some(warning) = too_old(newest, now()) {
            line(warning)?;
        }
    }
    let mut table = Table::new(["party", "epoch", "kept", "comes again", "told again"]);
    for party in &done.parties {
        table.row([
            party.party.to_string(),
            format!("{} -> {}", party.ended_epoch, party.epoch),
            format!(
                "submissions {}, deliveries {}",
                through(party.submissions),
                through(party.deliveries)
            ),
            format!("submissions from {} on", party.submissions + 1),
            party.told_again.to_string(),
        ]);
    }
    table.print()?;
    line(format!("kept: {KEPT}"))?;
    line(format!("comes again: {COMES_AGAIN}"))?;
    for lost in LOST {
        line(format!("lost: {lost}"))?;
    }
    if done.invitations > 0 {
        line(format!(
            "taken back: {} open invitations, since one may have been used after that moment: invite again",
            done.invitations
        ))?;
    }
    line(match dry_run {
        true => "nothing was changed; without --dry-run this epoch begins",
        false => "the new epoch has begun: start the hub; adapters come back by themselves",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: copies whose newest thing is 34 and 36 days old, while adapters
    /// keep 35 days.
    /// Guarantee: the older one's operator is told what nobody can send again;
    /// the younger one's is not troubled.
    #[test]
    fn a_copy_older_than_what_is_kept_is_called_so() {
        let now = Micros(100 * DAY_MICROS);
        let of_age = |days: i64| too_old(Micros(now.0 - days * DAY_MICROS), now);
        assert_eq!(of_age(34), None);
        let text = of_age(36).unwrap();
        assert!(text.contains("36 days ago"), "{text}");
        assert!(text.contains("can't send again"), "{text}");
    }
}
