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
            "what it means",
        ]);
        for party in &status.parties {
            table.row(row(party));
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
        if status.role == "hub" {
            line(format!(
                "orphans {} (must be 0); in national triage {}",
                status.orphans, status.in_triage
            ))?;
        }
        Ok(Done::All)
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
            "{} {}: {}: see jembatan dead-letters list",
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

fn row(party: &v1::PartySync) -> [String; 7] {
    let verdict = v1::Verdict::try_from(party.verdict).unwrap_or_default();
    let position = |journal: &Option<v1::JournalState>| {
        let head = journal.as_ref().and_then(|journal| journal.head.as_ref());
        head.map_or(0, |head| head.position)
    };
    let waiting =
        |journal: &Option<v1::JournalState>| journal.as_ref().map_or(0, |journal| journal.backlog);
    [
        party.party.clone(),
        word(verdict.as_str_name(), "VERDICT_"),
        time(party.since.as_ref()),
        position(&party.submissions).to_string(),
        position(&party.deliveries).to_string(),
        (waiting(&party.submissions) + waiting(&party.deliveries)).to_string(),
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
