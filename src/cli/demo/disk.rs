//! A node loses its disk while its line is cut and something is unsettled:
//! the hardest case, in which the hub has to recognise what the node forgot.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    cli::{lab::Node, records::Record},
    wire::v1,
};

use super::{
    load::{Ledger, batch, send_all, settle},
    story::Cast,
    tell::Teller,
    world::{CITY, World},
};

/// Complaints that no hub has seen when the disk goes.
const UNSETTLED: usize = 6;
/// Longest wait for the tail to come back.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn lost(
    world: &mut World,
    cast: &mut Cast,
    (records, copies): (&[Record], u32),
    ledger: &mut Ledger,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("The city's line is cut; its node loses its disk with something unsettled");
    let known = batch(records, CITY, 1..=1)?;
    let mut unsettled = batch(records, CITY, copies + 1..=copies + 1)?;
    unsettled.truncate(UNSETTLED);
    let settled_head = submissions_head(&world.city, CITY).await?;
    world.city_line.cut();
    send(cast, &unsettled).await?;
    let head = submissions_head(&world.city, CITY).await?;
    teller.step(
        CITY,
        &format!(
            "line cut; {} more are stored here only: {head} submissions here, {settled_head} at the hub",
            unsettled.len()
        ),
    );

    world.city.kill().await?;
    let data = world.directory.join(format!("{CITY}-data"));
    std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    teller.step(
        CITY,
        "killed, its data directory deleted: all of it is gone here",
    );
    teller.doing("starting again with an empty disk");
    world.city.restart().await?;
    cast.city.moves_to(world.city.gateway().await?);

    // The city's system has no decision on the unsettled ones, so it sends them
    // again; to be sure it sends old ones too, and one by mistake changed.
    let (mut changed, same) = known
        .split_last()
        .map(|(last, same)| (last.clone(), same.to_vec()))
        .context("no example of the city")?;
    changed.body.push_str(" (diubah)");
    let mut again = unsettled.clone();
    again.extend(same.clone());
    again.push(changed);
    send(cast, &again).await?;
    teller.step(
        CITY,
        &format!(
            "the line is still cut; its system sends the {} again, {} that the hub has long had, and one more of those with other content: the empty node knows none of them and stores all {}",
            unsettled.len(),
            same.len(),
            again.len()
        ),
    );
    ledger.complaints += unsettled.len() as u64;
    ledger.duplicates += same.len() as u64;
    ledger.conflicts += 1;

    world.city_line.mend();
    teller.doing("line mended: the node sets its own aside and takes its tail back");
    let wanted = settled_head + again.len() as u64;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while submissions_head(&world.city, CITY).await.unwrap_or(0) < wanted {
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "the tail did not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    settle(&world.city, CITY).await?;
    teller.good(&format!(
        "line mended: the hub was ahead ({settled_head} against {}), so the node set its own aside, took its tail and its whole inbox back, and put its own behind it: {wanted}",
        again.len()
    ));
    tell_decisions(cast, ledger, teller).await
}

async fn send(cast: &Cast, batch: &[v1::NewComplaint]) -> anyhow::Result<()> {
    let done = Arc::new(AtomicU64::new(0));
    let gateway = cast.city.gateway.clone();
    let (stored, failed) = send_all(gateway, batch, Duration::ZERO, &done).await;
    anyhow::ensure!(
        failed.is_empty() && stored.len() == batch.len(),
        "{} of {} got no answer",
        failed.len(),
        batch.len()
    );
    Ok(())
}

/// What the hub, and no door, made of them.
async fn tell_decisions(
    cast: &mut Cast,
    ledger: &Ledger,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let inbox = cast.city.read_inbox().await?;
    let mut outcomes: BTreeMap<i32, Vec<&v1::Decision>> = BTreeMap::new();
    for decision in &inbox.decisions {
        outcomes.entry(decision.outcome).or_default().push(decision);
    }
    let of = |outcome: v1::Outcome| outcomes.get(&(outcome as i32)).cloned().unwrap_or_default();
    let duplicates = of(v1::Outcome::Duplicate);
    anyhow::ensure!(
        duplicates.len() as u64 == ledger.duplicates,
        "{} duplicates were sent, the hub found {}",
        ledger.duplicates,
        duplicates.len()
    );
    let first = duplicates.first().context("no duplicate")?;
    teller.step(
        "pusat",
        &format!(
            "{} duplicates (sudah ada), each answered with its original result, the first: {}, submission {} of this journal",
            duplicates.len(),
            first.tracking_id,
            first.duplicate_of
        ),
    );
    let rejected = of(v1::Outcome::Rejected);
    let conflict = rejected.first().and_then(|found| found.rejection.as_ref());
    let conflict = conflict.context("the hub took other content under a known reference")?;
    anyhow::ensure!(
        conflict.reason == v1::RejectionReason::Conflict as i32
            && conflict.stored_digest != conflict.refused_digest,
        "it was rejected as {}",
        conflict.text_en
    );
    let short = |digest: &[u8]| hex::encode(digest.get(..6).unwrap_or_default());
    teller.step(
        "pusat",
        &format!(
            "1 conflict, refused and kept for a person: stored {}…, refused {}…",
            short(&conflict.stored_digest),
            short(&conflict.refused_digest)
        ),
    );
    Ok(())
}

async fn submissions_head(node: &Node, party: &str) -> anyhow::Result<u64> {
    let request = v1::GetJournalChainRequest {
        party: party.to_owned(),
        journal: v1::Journal::Submissions as i32,
        position: 0,
    };
    let answer = node.health().await?.get_journal_chain(request).await?;
    Ok(answer.into_inner().place.map_or(0, |place| place.position))
}
