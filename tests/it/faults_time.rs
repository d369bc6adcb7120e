//! Long outages, clocks that are wrong, and what an older release left behind.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use jembatan::{
    adapter,
    config::{AdapterConfig, load},
    runtime::{Clock, SystemClock},
    wire::v1,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    hostile_link::{Attacker, entries_of, garbage},
    support::{
        Node, World, all_items, complaint, connected, eventually, same_at_both_ends, submit,
        submit_many,
    },
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
/// each decision comes once, and neither node's memory grows with the queue.
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

struct Shifted(i64);

impl Clock for Shifted {
    fn now_micros(&self) -> i64 {
        SystemClock.now_micros() + self.0
    }
}

/// Scenario: a city's node whose clock is ten minutes slow, and then ten
/// minutes fast, exchanges with the hub; what it filed under one clock is filed
/// again under the other.
/// Guarantee: everything is accepted in the order in which it was handed over,
/// repetitions are found by their key and not by a time, and the skew is shown
/// at the hub.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_off_by_ten_minutes_changes_nothing_but_the_skew() {
    const TEN_MINUTES: i64 = 600_000_000;
    let world = World::new();
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let file = world.adapter_file(CITY, "", local);
    let mut filed = 0;
    for shift in [-TEN_MINUTES, TEN_MINUTES] {
        let config: AdapterConfig = load(&file).unwrap();
        let (ready, addresses) = oneshot::channel();
        let stop = CancellationToken::new();
        let clock = Arc::new(Shifted(shift));
        let node = tokio::spawn(adapter::run(config, clock, ready, stop.clone()));
        let addresses = addresses.await.unwrap();
        let uri = format!("http://{}", addresses.grpc);
        let channel = tonic::transport::Channel::from_shared(uri).unwrap();
        let channel = channel.connect().await.unwrap();
        let mut door = v1::gateway_service_client::GatewayServiceClient::new(channel);
        for n in 0..20 {
            let request = submit(complaint(&format!("T-{n}")), 30_000);
            let receipt = door.submit(request).await.unwrap().into_inner();
            let receipt = receipt.receipt.unwrap();
            assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
            assert_eq!(receipt.repeated_handover, filed > 0, "T-{n}");
        }
        filed += 20;
        eventually("the hub shows the skew", || async {
            let skew = world.hub.sync(CITY).await.clock_skew_ms;
            (skew - shift / 1_000).abs() < 30_000
        })
        .await;
        stop.cancel();
        node.await.unwrap().unwrap();
    }
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (20, 0));
    let city = Node::start("adapter", &file);
    let decided = all_items(&city)
        .await
        .into_iter()
        .filter_map(|item| match item.item {
            Some(v1::inbox_item::Item::Decision(decision)) => Some(decision.event_id),
            _ => None,
        });
    let decided: Vec<String> = decided.map(|id| uuid_of(&id)).collect();
    let mut in_order = Vec::new();
    for n in 0..20 {
        let request = submit(complaint(&format!("T-{n}")), 0);
        let receipt = city.gateway().await.submit(request).await.unwrap();
        in_order.push(receipt.into_inner().receipt.unwrap().event_id);
    }
    assert_eq!(decided, in_order);
}

fn uuid_of(id: &[u8]) -> String {
    let id: [u8; 16] = id.try_into().unwrap();
    jembatan::domain::EventId::from_bytes(id).to_string()
}

/// Where the fixture of a release is kept.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

const QUEUED: usize = 12;

/// Scenario: a store as release 0.1 left it, with twelve hand-overs that no hub
/// has seen, is opened by this version. `JEMBATAN_MAKE_FIXTURES=1` makes the
/// file again, which is right only before a release.
/// Guarantee: all of it drains, each once; the keys of then are still known.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_release_0_1_drains_after_an_upgrade() {
    let mut world = World::new();
    world.hub.kill();
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file(CITY, "", local);
    let data = world.directory.path().join(format!("{CITY}-data"));
    let kept = fixture("adapter-0.1.db");
    let reference = |n: usize| format!("UPGRADE-{n}");
    if std::env::var_os("JEMBATAN_MAKE_FIXTURES").is_some() {
        let mut old = Node::start("adapter", &config);
        submit_many(
            &old,
            (0..QUEUED).map(|n| complaint(&reference(n))).collect(),
        )
        .await;
        assert!(old.stop());
        let database = rusqlite::Connection::open(data.join("jembatan.db")).unwrap();
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&kept);
        database
            .execute("VACUUM INTO ?1", [kept.to_str().unwrap()])
            .unwrap();
        drop(database);
        drop(old);
        std::fs::remove_dir_all(&data).unwrap();
    }
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(&kept, data.join("jembatan.db")).unwrap();
    world.hub.start_again();
    let city = Node::start("adapter", &config);
    let head = same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, QUEUED as u64).await;
    assert_eq!(head, QUEUED as u64);
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (QUEUED as u64, 0));
    let mut door = city.gateway().await;
    for n in 0..QUEUED {
        let request = submit(complaint(&reference(n)), 30_000);
        let receipt = door.submit(request).await.unwrap().into_inner();
        let receipt = receipt.receipt.unwrap();
        assert!(receipt.repeated_handover, "{receipt:?}");
        assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    }
}
