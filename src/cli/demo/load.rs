//! Load, and what happens to lines, processes and disks meanwhile.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

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
    /// Handed over again to a node that had forgotten them: the hub has to
    /// find them.
    pub(super) duplicates: u64,
    /// The same with other content.
    pub(super) conflicts: u64,
}

/// Numbered copies of a party's complaints.
pub(super) fn batch(
    records: &[Record],
    party: &str,
    copies: RangeInclusive<u32>,
) -> anyhow::Result<Vec<v1::NewComplaint>> {
    let mut batch = Vec::new();
    for copy in copies {
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
pub(super) async fn send_all(
    gateway: Gateway,
    batch: &[v1::NewComplaint],
    pause: Duration,
    done: &Arc<AtomicU64>,
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
                done.fetch_add(1, Relaxed);
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
        "Load: {all} complaints ({copies} numbered {} of each); a line is cut, a node is killed",
        if copies == 1 { "copy" } else { "copies" }
    ));
    let national = batch(records, NATIONAL, 1..=copies)?;
    let province = batch(records, PROVINCE, 1..=copies)?;
    let city = batch(records, CITY, 1..=copies)?;
    let pause = Duration::from_millis(20);
    let mut ledger = Ledger {
        complaints: (national.len() + province.len() + city.len()) as u64,
        ..Ledger::default()
    };
    let done = teller.counting("stored at the doors:", ledger.complaints);
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
        send_all(nation_door, &national, pause, &done),
        send_all(province_door, &province, pause, &done),
        send_all(city_door, &city, pause, &done),
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
        &done,
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
        teller.doing(&format!("waiting until the hub has decided all of {name}"));
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
