//! Clocks that are wrong: a node's, and the hub's when somebody joins.

use std::sync::Arc;

use jembatan::{
    adapter,
    config::{AdapterConfig, DoorAddress, HubConfig, load},
    hub,
    runtime::{Clock, SystemClock},
    wire::v1,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    joining::{
        NEW, config, enrolling, hands_over, invite, join, pair, refused, register, with_free_doors,
    },
    support::{Node, World, all_items, complaint, eventually, submit},
};

const CITY: &str = "pemda-33.74";
/// In microseconds.
const HOUR: i64 = 3_600_000_000;
const MONTH_SECONDS: u32 = 30 * 86_400;

struct Shifted(i64);

impl Clock for Shifted {
    fn now_micros(&self) -> i64 {
        SystemClock.now_micros() + self.0
    }
}

/// Scenario: a city's node whose clock is ten minutes slow, ten minutes fast, an
/// hour slow and then an hour fast, exchanges with the hub; what it filed under
/// one clock is filed again under the others.
/// Guarantee: everything is accepted in the order in which it was handed over,
/// repetitions are found by their key and not by a time, and the skew is shown
/// at the hub.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_off_by_an_hour_changes_nothing_but_the_skew() {
    let world = World::new();
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let file = world.adapter_file(CITY, "", local);
    let mut filed = 0;
    for shift in [-HOUR / 6, HOUR / 6, -HOUR, HOUR] {
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

/// The hub of a world in this process, with a clock of its own.
struct HubAt {
    stop: CancellationToken,
    ended: JoinHandle<Result<(), hub::HubError>>,
}

impl HubAt {
    async fn start(world: &mut World, shift: i64) -> Self {
        world.hub.kill();
        let file = world.directory.path().join("hub.toml");
        let config: HubConfig = load(&file).unwrap();
        let (ready, addresses) = oneshot::channel();
        let stop = CancellationToken::new();
        let clock = Arc::new(Shifted(shift));
        let ended = tokio::spawn(hub::run(config, clock, ready, stop.clone()));
        let DoorAddress::Tcp(grpc) = addresses.await.unwrap().grpc else {
            panic!("a door on TCP");
        };
        world.hub.grpc = grpc;
        Self { stop, ended }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

/// Scenario: a region joins whose clock is an hour behind the hub's, and one
/// whose clock is an hour ahead of it.
/// Guarantee: both join, are told how far off they are and what to do, and what
/// they hand over is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joining_works_with_a_clock_off_by_an_hour() {
    for (hub_is, said) in [(HOUR, "behind the hub's"), (-HOUR, "ahead of the hub's")] {
        let mut world = enrolling(MONTH_SECONDS);
        let hub = HubAt::start(&mut world, hub_is).await;
        register(&world.hub, NEW);
        let line = invite(&world.hub, NEW, &[]);
        let told = join(&world, &line, "node", &[]).good().err;
        for words in [said, "minutes", "correct it"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let file = config(&world, "node");
        with_free_doors(&file);
        let node = Node::start("adapter", &file);
        hands_over(&node, "CLOCK-1").await;
        drop(node);
        hub.stop().await;
    }
}

/// Scenario: a region joins whose clock is two hours behind the hub's, further
/// than certificates are dated back; then the clock is right.
/// Guarantee: refused with the clock named and what to do; no half settings and
/// no pair; the same line works afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joining_with_a_clock_too_far_behind_names_the_clock() {
    let mut world = enrolling(MONTH_SECONDS);
    let hub = HubAt::start(&mut world, 2 * HOUR).await;
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    let said = join(&world, &line, "node", &[]);
    let words = [
        "clock",
        "behind the hub's",
        "correct",
        "run the same line again",
    ];
    refused(&said, &words);
    assert!(!config(&world, "node").exists(), "no settings");
    assert!(!pair(&world, "node", NEW).exists(), "no pair");
    hub.stop().await;

    let hub = HubAt::start(&mut world, 0).await;
    let again = join(&world, &line, "node", &[]);
    again.good();
    let file = config(&world, "node");
    with_free_doors(&file);
    let node = Node::start("adapter", &file);
    hands_over(&node, "CLOCK-2").await;
    drop(node);
    hub.stop().await;
}
