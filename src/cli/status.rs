//! `jembatan status`: who is behind, why, since when, what to do.

use clap::Args;

use crate::wire::v1;

use super::{
    Done,
    client::{DoorArgs, refused},
};

/// How the synchronisation stands at a node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan status
  jembatan status --json
Verdicts: healthy (sehat), behind (tertinggal), stalled (macet), silent (diam),
disconnected (terputus), refused (ditolak), mismatch (tidak cocok),
never_connected (belum pernah tersambung).")]
pub(super) struct Status {
    #[command(flatten)]
    door: DoorArgs,
    /// Only this party
    #[arg(long, value_name = "PARTY")]
    only: Option<String>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        let request = v1::GetSyncStatusRequest {
            party: self.only.unwrap_or_default(),
        };
        let mut health = self.door.health().await?;
        let answer = health.get_sync_status(request).await.map_err(refused)?;
        let status = answer.into_inner();
        if self.json {
            println!("{}", serde_json::to_string(&status)?);
            return Ok(Done::All);
        }
        println!("{} {}", status.role, status.software);
        println!(
            "{:<20} {:<16} {:<21} {:>10} {:>10} {:>8}  what it means",
            "party", "verdict", "since", "sent", "received", "waiting"
        );
        for party in &status.parties {
            print_party(party);
        }
        if status.role == "hub" {
            println!(
                "orphans {} (must be 0); in national triage {}",
                status.orphans, status.in_triage
            );
        }
        Ok(Done::All)
    }
}

fn print_party(party: &v1::PartySync) {
    let verdict = v1::Verdict::try_from(party.verdict)
        .unwrap_or_default()
        .as_str_name()
        .trim_start_matches("VERDICT_")
        .to_lowercase();
    let since = party
        .since
        .as_ref()
        .filter(|since| since.seconds > 0)
        .and_then(|since| jiff::Timestamp::from_second(since.seconds).ok())
        .map_or_else(|| "-".to_owned(), |since| since.to_string());
    let position = |journal: &Option<v1::JournalState>| {
        journal
            .as_ref()
            .and_then(|journal| journal.head.as_ref())
            .map_or(0, |head| head.position)
    };
    let waiting =
        |journal: &Option<v1::JournalState>| journal.as_ref().map_or(0, |journal| journal.backlog);
    println!(
        "{:<20} {:<16} {:<21} {:>10} {:>10} {:>8}  {}",
        party.party,
        verdict,
        since,
        position(&party.submissions),
        position(&party.deliveries),
        waiting(&party.submissions) + waiting(&party.deliveries),
        party.explanation
    );
}
