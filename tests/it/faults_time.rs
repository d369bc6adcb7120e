//! Long outages, and poison in a long queue.

use std::{collections::BTreeSet, time::Duration};

use jembatan::wire::v1;

use crate::{
    hostile_link::{Attacker, entries_of, garbage},
    support::{Node, World, complaint, connected, same_at_both_ends, submit_many},
};

const CITY: &str = "pemda-33.74";
const SUBMISSIONS: v1::Journal = v1::Journal::Submissions;
const DELIVERIES: v1::Journal = v1::Journal::Deliveries;

fn scaled(variable: &str, in_ci: usize) -> usize {
    let asked = std::env::var(variable).ok();
    asked.map_or(in_ci, |text| text.parse().unwrap())
}

fn peak_kb(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Scenario: the hub is away while a region goes on filing (20 000 in CI,
/// `JEMBATAN_TEST_BACKLOG=1000000` for the whole million); in the middle of it
/// its node is stopped with SIGTERM and started, later killed and started;
/// then the hub comes back.
/// Guarantee: the door stays open, count in = count out from the first one on,
/// each decision comes once, and neither node's memory is a million's.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_drains_after_an_outage_with_restarts() {
    let total = scaled("JEMBATAN_TEST_BACKLOG", 20_000);
    let mut world = World::new();
    let mut city = world.adapter(CITY);
    connected(&world, &city, CITY).await;
    world.hub.kill();
    let third = |from: usize, to: usize| (from..to).map(|n| complaint(&format!("Q-{n}")));
    let (first, second) = (total / 3, total / 3 * 2);
    for (from, to) in [(0, first), (first, second), (second, total)] {
        for page in (from..to).step_by(10_000) {
            let page = third(page, to.min(page + 10_000)).collect();
            submit_many(&city, page).await;
        }
        match to {
            to if to == first => {
                assert!(city.stop(), "SIGTERM is an orderly end");
                city.start_again();
            }
            to if to == second => city.restart(),
            _ => {}
        }
    }
    world.hub.start_again();
    city.restart();
    let deadline = std::time::Instant::now() + Duration::from_secs(60 + total as u64 / 500);
    while world.hub.place(CITY, SUBMISSIONS).await.position < total as u64 {
        assert!(std::time::Instant::now() < deadline, "drains in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let head = same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, 1).await;
    assert_eq!(head, total as u64);
    same_at_both_ends(&world.hub, &city, CITY, DELIVERIES, 1).await;
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (total as u64, 0));
    let peaks = [&world.hub, &city].map(peak_kb);
    println!(
        "{total} drained; peaks: hub {} kB, node {} kB",
        peaks[0], peaks[1]
    );
    // Debug builds included; a queue of a million would be a gigabyte.
    assert!(peaks.iter().all(|kb| *kb < 300_000), "{peaks:?}");
}

/// Highest memory of hub and node, in kB, when so many complaints of 8 kB have
/// waited for the hub and then gone there.
async fn peaks_of(count: usize) -> [u64; 2] {
    let mut world = World::new();
    let city = world.adapter(CITY);
    connected(&world, &city, CITY).await;
    world.hub.kill();
    for page in (0..count).step_by(500) {
        let texts = (page..count.min(page + 500)).map(|n| v1::NewComplaint {
            body: "x".repeat(8_000),
            ..complaint(&format!("M-{n}"))
        });
        submit_many(&city, texts.collect()).await;
    }
    world.hub.start_again();
    let count = count as u64;
    assert_eq!(
        same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, count).await,
        count
    );
    same_at_both_ends(&world.hub, &city, CITY, DELIVERIES, 1).await;
    [&world.hub, &city].map(peak_kb)
}

/// Scenario: a queue of 12 000 complaints of 8 kB, 100 MB, and one of a quarter
/// of it, each taken in while the hub is away and then drained.
/// Guarantee: the longer one needs no more memory, at either end: less than a
/// quarter of what it holds more, which is caches that fill up.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_queue() {
    let short = peaks_of(3_000).await;
    let long = peaks_of(12_000).await;
    println!("peaks of hub and node in kB: {short:?}, then {long:?}");
    for (short, long) in short.into_iter().zip(long) {
        assert!(long < short + 18_000, "{short} kB, then {long} kB");
    }
}

/// Scenario: among ten thousand entries of one party every hundredth is
/// garbage.
/// Guarantee: the others flow, the garbage is acknowledged like any other entry
/// and rejected, each with its position and the reason.
#[tokio::test(flavor = "multi_thread")]
async fn poison_among_ten_thousand_stops_nothing() {
    let world = World::new();
    let mut link = Attacker::open(&world, CITY).await;
    let mut poisoned = BTreeSet::new();
    for page in 0..100_u64 {
        let mut entries = entries_of(CITY, page * 100..(page + 1) * 100);
        entries[37] = garbage();
        poisoned.insert(page * 100 + 38);
        link.send_entries(entries).await;
        link.until_acknowledged((page + 1) * 100).await;
    }
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (9_900, 100));
    drop(link);
    let told = Attacker::open(&world, CITY).await.decisions(10_000).await;
    let mut rejected = BTreeSet::new();
    for (position, decision) in told {
        if decision.outcome == v1::Outcome::Rejected as i32 {
            let rejection = decision.rejection.unwrap();
            assert_ne!(rejection.reason, 0, "{rejection:?}");
            assert!(!rejection.text_en.is_empty(), "{rejection:?}");
            rejected.insert(position);
        }
    }
    assert_eq!(rejected, poisoned);
}
