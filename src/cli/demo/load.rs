//! Load, and what happens to lines, processes and disks meanwhile.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};

use crate::{
    cli::{client::Gateway, lab::Node, records::Record},
    wire::v1,
};

use super::{
    story::Cast,
    tell::Teller,
    world::{CITY, NATIONAL, PROVINCE, World},
};

/// Hand-overs of one system at once.
const AT_ONCE: usize = 32;

/// What was handed over and answered "stored".
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) complaints: u64,
    pub(super) retries: u64,
}

fn batch(records: &[Record], party: &str, copies: u32) -> anyhow::Result<Vec<v1::NewComplaint>> {
    let mut batch = Vec::new();
    for copy in 1..=copies {
        for record in records {
            let owner = match record.party.as_deref() {
                Some(PROVINCE) => PROVINCE,
                Some(CITY) => CITY,
                _ => NATIONAL,
            };
            if owner != party {
                continue;
            }
            let mut new = record.complaint()?;
            new.reference = format!("{}#{copy}", record.reference);
            if new.addressed_to.is_empty() {
                new.handling = v1::Handling::Route as i32;
            }
            batch.push(new);
        }
    }
    Ok(batch)
}

/// A local system that sends until each is answered, as every one should.
async fn send_all(
    gateway: Gateway,
    batch: &[v1::NewComplaint],
    pause: Duration,
) -> (BTreeSet<String>, Vec<v1::NewComplaint>) {
    let sent = stream::iter(batch.iter().cloned()).map(|new| {
        let mut gateway = gateway.clone();
        async move {
            tokio::time::sleep(pause).await;
            let request = v1::SubmitRequest {
                handover: Some(v1::Handover {
                    item: Some(v1::handover::Item::Complaint(new.clone())),
                    ..v1::Handover::default()
                }),
                wait_for_hub_ms: 0,
            };
            match gateway.submit(request).await {
                Ok(answer) => {
                    let receipt = answer.into_inner().receipt.unwrap_or_default();
                    Ok(receipt.event_id)
                }
                Err(_) => Err(new),
            }
        }
    });
    let mut stored = BTreeSet::new();
    let mut failed = Vec::new();
    let mut sent = sent.buffer_unordered(AT_ONCE);
    while let Some(outcome) = sent.next().await {
        match outcome {
            Ok(id) => {
                stored.insert(id);
            }
            Err(new) => failed.push(new),
        }
    }
    (stored, failed)
}

/// Sends everything while one line is cut and one node is killed.
pub(super) async fn under_load(
    world: &mut World,
    cast: &mut Cast,
    records: &[Record],
    copies: u32,
    teller: &mut Teller,
) -> anyhow::Result<Ledger> {
    let all = records.len() as u32 * copies;
    teller.chapter(&format!(
        "Load: {all} complaints ({copies} numbered copies of each); a line is cut, a node is killed"
    ));
    let national = batch(records, NATIONAL, copies)?;
    let province = batch(records, PROVINCE, copies)?;
    let city = batch(records, CITY, copies)?;
    let pause = Duration::from_millis(20);
    let mut ledger = Ledger {
        complaints: (national.len() + province.len() + city.len()) as u64,
        retries: 0,
    };
    let (nation_door, province_door, city_door) = (
        cast.nation.gateway.clone(),
        cast.province.gateway.clone(),
        cast.city.gateway.clone(),
    );
    let line = &world.city_line;
    let killed = &mut world.province;
    let disturb = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        line.cut();
        tokio::time::sleep(Duration::from_millis(120)).await;
        killed.kill().await?;
        anyhow::Ok(())
    };
    let (nation, province_sent, city_sent, disturbed) = tokio::join!(
        send_all(nation_door, &national, pause),
        send_all(province_door, &province, pause),
        send_all(city_door, &city, pause),
        disturb,
    );
    disturbed?;
    teller.step(
        CITY,
        &format!(
            "its line was cut under load: the door stayed open, {} of {} stored meanwhile",
            city_sent.0.len(),
            city.len()
        ),
    );
    teller.step(
        PROVINCE,
        &format!(
            "killed (SIGKILL) under load: {} answered before, {} got no answer",
            province_sent.0.len(),
            province_sent.1.len()
        ),
    );
    world.province.restart().await?;
    cast.province.moves_to(world.province.gateway().await?);
    teller.step(PROVINCE, &format!("started again (pid {}); its system sends what got no answer again, under the same references", world.province.pid()));
    world.city_line.mend();
    let (again, failed) = send_all(
        cast.province.gateway.clone(),
        &province_sent.1,
        Duration::ZERO,
    )
    .await;
    ledger.retries += province_sent.1.len() as u64;
    let missing = failed.len() + nation.1.len() + city_sent.1.len();
    anyhow::ensure!(missing == 0, "{missing} hand-overs got no answer");
    let stored = nation.0.len() + city_sent.0.len() + (&province_sent.0 | &again).len();
    anyhow::ensure!(
        stored as u64 == ledger.complaints,
        "{stored} of {} are stored",
        ledger.complaints
    );
    for (node, name) in [(&world.province, PROVINCE), (&world.city, CITY)] {
        settle(node, name).await?;
    }
    teller.good(&format!(
        "all {stored} are stored once and known at the hub"
    ));
    Ok(ledger)
}

/// Waits until a node's submissions are acknowledged and decided.
pub(super) async fn settle(node: &Node, party: &str) -> anyhow::Result<()> {
    let mut health = node.health().await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let request = v1::GetSyncStatusRequest {
            party: party.to_owned(),
        };
        let status = health.get_sync_status(request).await?.into_inner();
        let found = status.parties.into_iter().next().context("no such party")?;
        let counts = found.counts.unwrap_or_default();
        let decided = counts.accepted + counts.duplicates + counts.rejected + counts.parked;
        let submissions = found.submissions.unwrap_or_default();
        let head = submissions.head.map_or(0, |place| place.position);
        if submissions.backlog == 0 && decided >= head && head > 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            anyhow::bail!(
                "{party} did not settle: {} waiting, {decided} of {head} decided; {}",
                submissions.backlog,
                found.explanation
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The city's node loses its disk.
pub(super) async fn lost_disk(
    world: &mut World,
    cast: &mut Cast,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("The city's node loses its disk");
    let head = submissions_head(&world.city, CITY).await?;
    world.city.kill().await?;
    let data = world.directory.join(format!("{CITY}-data"));
    std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    teller.step(
        CITY,
        &format!("killed, its data directory deleted: {head} submissions gone here"),
    );
    world.city.restart().await?;
    cast.city.moves_to(world.city.gateway().await?);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while submissions_head(&world.city, CITY).await.unwrap_or(0) < head {
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "the tail did not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    settle(&world.city, CITY).await?;
    teller.good(&format!("started with an empty disk: took its {head} submissions and its whole inbox back from the hub"));
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
