//! The proof: both ends of every journal side by side, counts in and out.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;

use crate::{cli::lab::Node, wire::v1};

use super::{
    load::Ledger,
    people::Person,
    story::Cast,
    tell::Teller,
    world::{CITY, NATIONAL, PROVINCE, World},
};

/// Complaints of the stories; they come on top of the load.
const STORIES: u64 = 4;

/// Events of the four stories that each party handed over come on top of the
/// load; both are counted where they were accepted, so the proof needs only
/// what the doors answered and what the hub holds.
pub(super) async fn prove(
    world: &World,
    cast: &mut Cast,
    ledger: &Ledger,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("The proof");
    teller.doing("comparing both ends of every journal");
    teller.line(
        "   journal                    at the region              at the hub                 the same?",
    );
    let mut differ = 0;
    for (party, node) in [(PROVINCE, &world.province), (CITY, &world.city)] {
        for (journal, name) in [
            (v1::Journal::Submissions, "submissions"),
            (v1::Journal::Deliveries, "deliveries"),
        ] {
            let (here, there) = both_ends(node, &world.hub, party, journal).await?;
            let is_same = here == there && here.position > 0;
            differ += u32::from(!is_same);
            teller.line(format!(
                "   {party:<12} {name:<12}  {}  {}  {}",
                short(&here),
                short(&there),
                if is_same { "yes" } else { "NO" }
            ));
        }
    }
    anyhow::ensure!(differ == 0, "{differ} journals differ");

    teller.doing("reading every inbox from its beginning");
    let mut sum = Counted::default();
    let mut handed_in = 0;
    for (name, person, head) in [
        (
            NATIONAL,
            &mut cast.nation,
            head_of(&world.hub, NATIONAL).await?,
        ),
        (
            PROVINCE,
            &mut cast.province,
            head_of(&world.province, PROVINCE).await?,
        ),
        (CITY, &mut cast.city, head_of(&world.city, CITY).await?),
    ] {
        handed_in += head;
        sum.add(count(name, person, head).await?);
    }
    let Counted {
        accepted,
        duplicates,
        conflicts,
        filings,
        ref tracking_ids,
    } = sum;
    let decided = accepted + duplicates + conflicts;
    teller.line(format!(
        "   counts     handed in {handed_in}, decided and told {decided}: accepted {accepted}, duplicates {duplicates}, conflicts {conflicts}"
    ));
    teller.line(format!(
        "   complaints filed {}, accepted {filings}, different Tracking IDs {}",
        ledger.complaints + STORIES,
        tracking_ids.len()
    ));
    anyhow::ensure!(handed_in == decided, "{handed_in} in, {decided} out");
    anyhow::ensure!(
        filings == tracking_ids.len() as u64 && filings == ledger.complaints + STORIES,
        "{} complaints were filed, {filings} accepted, {} Tracking IDs",
        ledger.complaints + STORIES,
        tracking_ids.len()
    );
    anyhow::ensure!(
        (duplicates, conflicts) == (ledger.duplicates, ledger.conflicts),
        "{} were handed over again and {} with other content; the hub found {duplicates} and {conflicts}",
        ledger.duplicates,
        ledger.conflicts
    );
    let status = world
        .hub
        .health()
        .await?
        .get_sync_status(v1::GetSyncStatusRequest::default())
        .await?
        .into_inner();
    teller.line(format!(
        "   owners     orphans {}; in national triage {} (each with the national desk as its reader)",
        status.orphans, status.in_triage
    ));
    anyhow::ensure!(status.orphans == 0, "{} orphans", status.orphans);
    teller.note(&format!(
        "{} complaints under load, {} of them sent twice; equal chains mean: both ends hold the same bytes, in the same order",
        ledger.complaints, ledger.retries
    ));
    teller.good("nothing lost, nothing doubled, nothing stranded");
    Ok(())
}

async fn place(node: &Node, party: &str, journal: v1::Journal) -> anyhow::Result<v1::Place> {
    let request = v1::GetJournalChainRequest {
        party: party.to_owned(),
        journal: journal as i32,
        position: 0,
    };
    let answer = node.health().await?.get_journal_chain(request).await?;
    answer.into_inner().place.context("no place")
}

/// Both ends; the later one may still be on its way for a moment.
async fn both_ends(
    node: &Node,
    hub: &Node,
    party: &str,
    journal: v1::Journal,
) -> anyhow::Result<(v1::Place, v1::Place)> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let there = place(hub, party, journal).await?;
        let here = place(node, party, journal).await?;
        if here == there || tokio::time::Instant::now() > deadline {
            return Ok((here, there));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn short(place: &v1::Place) -> String {
    let chain = hex::encode(place.chain.get(..6).unwrap_or_default());
    format!("{:>8}  {chain}…  ", place.position)
}

async fn head_of(node: &Node, party: &str) -> anyhow::Result<u64> {
    Ok(place(node, party, v1::Journal::Submissions).await?.position)
}

/// What inboxes say of the submissions.
#[derive(Default)]
struct Counted {
    accepted: u64,
    duplicates: u64,
    conflicts: u64,
    filings: u64,
    tracking_ids: BTreeSet<String>,
}

impl Counted {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.filings += other.filings;
        self.tracking_ids.extend(other.tracking_ids);
    }
}

/// What a local system finds in its inbox: one decision for each submission,
/// no event twice, and each event accepted once, however often it was sent.
async fn count(name: &str, person: &mut Person, head: u64) -> anyhow::Result<Counted> {
    let inbox = person.read_inbox().await?;
    let doubled = inbox.events.values().filter(|times| **times > 1).count();
    anyhow::ensure!(doubled == 0, "{name}: {doubled} events came twice");
    anyhow::ensure!(
        inbox.decisions.len() as u64 == head,
        "{name}: {head} submissions, {} decisions",
        inbox.decisions.len()
    );
    let mut found = Counted::default();
    let mut accepted = BTreeSet::new();
    for decision in &inbox.decisions {
        if decision.outcome == v1::Outcome::Accepted as i32 {
            found.accepted += 1;
            anyhow::ensure!(
                accepted.insert(decision.event_id.clone()),
                "{name}: an event was accepted twice"
            );
            if decision.revision == 1 {
                found.filings += 1;
                found.tracking_ids.insert(decision.tracking_id.clone());
            }
        }
    }
    for decision in &inbox.decisions {
        let reason = decision.rejection.as_ref().map(|found| found.reason);
        match v1::Outcome::try_from(decision.outcome) {
            Ok(v1::Outcome::Accepted) => continue,
            Ok(v1::Outcome::Duplicate) => found.duplicates += 1,
            Ok(v1::Outcome::Rejected) if reason == Some(v1::RejectionReason::Conflict as i32) => {
                found.conflicts += 1;
            }
            _ => anyhow::bail!("{name}: a decision that nobody expected: {reason:?}"),
        }
        anyhow::ensure!(
            accepted.contains(&decision.event_id),
            "{name}: a duplicate or conflict of something that was never accepted"
        );
    }
    Ok(found)
}
