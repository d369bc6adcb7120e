//! `jembatan status`: who is behind, why, since when, what to do.

use clap::Args;

use crate::wire::v1;

use super::{
    Done,
    client::{DoorArgs, refused},
    output::{Output, Table, json, line, time, word},
};

/// How the synchronisation stands at a node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan status
  jembatan status --only pemda-33.74
  jembatan status --output json
Columns: sent and received are heads of the party's journals in this epoch; waiting
is for the other end of the link, inbox for the party's local system.
Verdicts: healthy (sehat), behind (tertinggal), stalled (macet), silent (diam),
disconnected (terputus), refused (ditolak), mismatch (tidak cocok),
never_connected (belum pernah tersambung), attention (perlu perhatian),
disabled (dinonaktifkan), no_link (tanpa sambungan: unary, or behind the hub's
own door).")]
pub(super) struct Status {
    #[command(flatten)]
    door: DoorArgs,
    /// Only this party
    #[arg(long, value_name = "PARTY")]
    only: Option<String>,
    /// The same as --output json
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let request = v1::GetSyncStatusRequest {
            party: self.only.unwrap_or_default(),
        };
        let mut health = self.door.health().await?;
        let answer = health.get_sync_status(request).await.map_err(refused)?;
        let status = answer.into_inner();
        if output.is_json(self.json) {
            json(&status)?;
            return Ok(Done::All);
        }
        line(format!("{} {}", status.role, status.software))?;
        let mut table = Table::new([
            "party",
            "verdict",
            "since",
            "sent",
            "received",
            "waiting",
            "inbox",
            "what it means",
        ]);
        let is_hub = status.role == "hub";
        for party in &status.parties {
            table.row(row(party, is_hub));
        }
        table.print()?;
        for party in &status.parties {
            for text in unmapped(party).into_iter().chain(letters(party)) {
                line(text)?;
            }
        }
        for alarm in &status.alarms {
            line(format!("! {}: {}", alarm.reason, alarm.explanation))?;
        }
        if is_hub {
            line(strays(status.orphans, status.in_triage))?;
        }
        Ok(Done::All)
    }
}

/// Complaints that nobody reads for, and those that wait for the national desk.
fn strays(orphans: u64, in_triage: u64) -> String {
    match orphans {
        0 => format!("orphans 0 (must be 0); in national triage {in_triage}"),
        _ => format!(
            "! orphans {orphans} (must be 0): open complaints whose institution nobody reads for: enable its \
             party, or move it (jembatan institutions add CODE --through PARTY); in national triage {in_triage}"
        ),
    }
}

/// That local statuses of a party have no row in its mapping yet: the table
/// has no room for them, and nobody would look for them.
fn unmapped(party: &v1::PartySync) -> Option<String> {
    let found = match party.unmapped_statuses.len() {
        0 => return None,
        1 => "1 unmapped status".to_owned(),
        // A node tells no more than this.
        100.. => "100 or more unmapped statuses".to_owned(),
        many => format!("{many} unmapped statuses"),
    };
    Some(format!(
        "! {}: {found}: see status --output json",
        party.party
    ))
}

/// How many dead letters of a party there are, by kind.
fn letters(party: &v1::PartySync) -> Option<String> {
    let found = party.dead_letters?;
    let kinds = [
        (found.rejected, "rejected"),
        (found.parked, "parked"),
        (found.unreadable, "unreadable"),
    ];
    let told: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    (!told.is_empty()).then(|| {
        format!(
            "{} {}: {}: see jembatan dead-letters list --config FILE",
            // What is rejected is its author's affair.
            if found.parked + found.unreadable > 0 {
                "!"
            } else {
                "-"
            },
            party.party,
            told.join(", ")
        )
    })
}

/// "waiting" is for the other end of the link, "inbox" for the local system at the
/// party's own end: the one is the link's affair, the other is not.
fn row(party: &v1::PartySync, is_hub: bool) -> [String; 8] {
    let verdict = v1::Verdict::try_from(party.verdict).unwrap_or_default();
    let position = |journal: &Option<v1::JournalState>| {
        let head = journal.as_ref().and_then(|journal| journal.head.as_ref());
        head.map_or(0, |head| head.position)
    };
    let sending = if is_hub {
        &party.deliveries
    } else {
        &party.submissions
    };
    let waiting = sending.as_ref().map_or(0, |journal| journal.backlog);
    let inbox = party.deliveries.as_ref().map_or(0, |journal| {
        position(&party.deliveries).saturating_sub(journal.consumed_through)
    });
    // Without a link nothing waits for one.
    let waiting = match verdict {
        v1::Verdict::NoLink => 0,
        _ => waiting,
    };
    [
        party.party.clone(),
        word(verdict.as_str_name(), "VERDICT_"),
        time(party.since.as_ref()),
        position(&party.submissions).to_string(),
        position(&party.deliveries).to_string(),
        waiting.to_string(),
        inbox.to_string(),
        party.explanation.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a party without dead letters, with rejected ones, with others.
    /// Guarantee: counts by kind, and a mark where this operator has to act.
    #[test]
    fn letters_are_counted_by_kind() {
        let mut party = v1::PartySync {
            party: "pemda-33.74".to_owned(),
            ..v1::PartySync::default()
        };
        assert_eq!(letters(&party), None);
        party.dead_letters = Some(v1::DeadLetterCounts {
            rejected: 4,
            ..v1::DeadLetterCounts::default()
        });
        let text = letters(&party).unwrap();
        assert!(text.starts_with("- pemda-33.74: 4 rejected:"), "{text}");
        party.dead_letters = Some(v1::DeadLetterCounts {
            rejected: 4,
            parked: 1,
            unreadable: 2,
        });
        let text = letters(&party).unwrap();
        assert!(text.starts_with("! pemda-33.74: 4 rejected, 1 parked, 2 unreadable"));
    }

    /// Scenario: at a node two hand-overs wait for the hub and five deliveries for the
    /// local system; the hub has three deliveries for that node's party, and one for
    /// a party without a link; orphans.
    /// Guarantee: what waits for the line and what waits for the local system are two
    /// numbers; nothing waits for a line that is not there; orphans are marked, with
    /// what to do.
    #[test]
    fn what_waits_for_whom_is_told_apart() {
        let journal = |head, consumed_through, backlog| {
            Some(v1::JournalState {
                head: Some(v1::Place {
                    position: head,
                    ..v1::Place::default()
                }),
                consumed_through,
                backlog,
                ..v1::JournalState::default()
            })
        };
        let at_the_node = v1::PartySync {
            submissions: journal(9, 0, 2),
            deliveries: journal(8, 3, 5),
            ..v1::PartySync::default()
        };
        let numbers = |party: &v1::PartySync, is_hub| row(party, is_hub)[3..7].join(" ");
        assert_eq!(numbers(&at_the_node, false), "9 8 2 5");
        let mut at_the_hub = v1::PartySync {
            submissions: journal(7, 0, 0),
            deliveries: journal(11, 3, 3),
            ..v1::PartySync::default()
        };
        assert_eq!(numbers(&at_the_hub, true), "7 11 3 8");
        at_the_hub.verdict = v1::Verdict::NoLink as i32;
        assert_eq!(numbers(&at_the_hub, true), "7 11 0 8");
        assert!(strays(0, 4).starts_with("orphans 0"));
        let told = strays(2, 4);
        assert!(told.starts_with("! orphans 2") && told.contains("institutions add"));
    }

    /// Scenario: a party without unmapped statuses, with one, with two.
    /// Guarantee: the table says how many, and where to read them; nothing
    /// where there are none.
    #[test]
    fn unmapped_statuses_are_told() {
        let mut party = v1::PartySync {
            party: "pemda-33.74".to_owned(),
            ..v1::PartySync::default()
        };
        assert_eq!(unmapped(&party), None);
        party.unmapped_statuses.push(v1::UnmappedStatus::default());
        let text = unmapped(&party).unwrap();
        assert!(text.contains("pemda-33.74: 1 unmapped status:"), "{text}");
        party.unmapped_statuses.push(v1::UnmappedStatus::default());
        let text = unmapped(&party).unwrap();
        assert!(
            text.contains("2 unmapped statuses: see status --output json"),
            "{text}"
        );
    }
}
