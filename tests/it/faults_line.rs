//! Bad lines between real processes: slow, late, stalling, cut, and cut in one
//! direction just when it matters.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use jembatan::{runtime::random_unit, wire::v1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{mpsc, watch},
};

use crate::{
    kill::{decisions, filings, words},
    support::{
        Node, World, all_items, complaint, connected, eventually, same_at_both_ends, submit,
        submit_many,
    },
};

const SUBMISSIONS: v1::Journal = v1::Journal::Submissions;
const DELIVERIES: v1::Journal = v1::Journal::Deliveries;

/// How a line is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    /// Connections live, and new ones are taken.
    pub(crate) is_open: bool,
    /// Nothing comes down from the hub, though the line looks alive.
    pub(crate) is_deaf: bool,
    /// Bytes a second, each way; 0: as they come.
    pub(crate) rate: u64,
    /// Each way.
    pub(crate) delay: Duration,
    /// Share of pieces that are late by 200 ms, as a lost packet is.
    pub(crate) loss: f64,
}

impl Line {
    pub(crate) const GOOD: Self = Self {
        is_open: true,
        is_deaf: false,
        rate: 0,
        delay: Duration::ZERO,
        loss: 0.0,
    };
}

/// A relay in front of the hub.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    line: Arc<watch::Sender<Line>>,
}

impl Relay {
    pub(crate) async fn start(hub: SocketAddr, line: Line) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(watch::channel(line).0);
        let state = line.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let mut line = state.subscribe();
                if !line.borrow_and_update().is_open {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(to) = TcpStream::connect(hub).await else {
                        return;
                    };
                    let (from_read, from_write) = from.into_split();
                    let (to_read, to_write) = to.into_split();
                    tokio::select! {
                        () = carry(from_read, to_write, line.clone(), true) => {}
                        () = carry(to_read, from_write, line.clone(), false) => {}
                        _ = line.wait_for(|line| !line.is_open) => {}
                    }
                });
            }
        });
        Self { address, line }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

/// One direction. The queue between is short, so that a slow line pushes back.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    is_up: bool,
) {
    let (pieces, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(32);
    let state = line.clone();
    let reading = async move {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let now = *state.borrow();
            let late = if random_unit() < now.loss { 200 } else { 0 };
            let due = Instant::now() + now.delay + Duration::from_millis(late);
            if pieces.send((due, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = queue.recv().await {
            tokio::time::sleep_until(due.into()).await;
            let _ = line.wait_for(|line| is_up || !line.is_deaf).await;
            let rate = line.borrow().rate;
            if let Some(micros) = (piece.len() as u64 * 1_000_000).checked_div(rate) {
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// An adapter whose line to the hub is this one.
pub(crate) fn adapter_behind(world: &World, party: &str, hub: SocketAddr) -> Node {
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file(party, "", local);
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(&world.links().to_string(), &hub.to_string());
    std::fs::write(&config, text).unwrap();
    Node::start("adapter", &config)
}

/// Scenario: a line of 256 kbit/s with 400 ms each way, on which one packet in
/// fifty is lost, carries texts of 40 kB each way for several of its dead-after
/// times; heartbeats (four a second here) have to pass beside them.
/// Guarantee: everything arrives within one session: no heartbeat that a large
/// frame holds up ends it, and the node is never taken for dead.
#[tokio::test(flavor = "multi_thread")]
async fn texts_flow_over_a_slow_line_without_a_reconnect_loop() {
    let limits = "[limits]\nheartbeat_interval_ms = 1000\ndead_after_ms = 5000";
    let world = World::with_hub(limits);
    let line = Line {
        rate: 32_000,
        delay: Duration::from_millis(400),
        loss: 0.02,
        ..Line::GOOD
    };
    let relay = Relay::start(world.links(), line).await;
    let city = adapter_behind(&world, "pemda-33.74", relay.address);
    let texts = |name: &str, count: usize| {
        let complaints = (0..count).map(|n| v1::NewComplaint {
            body: "\u{1f6a7}".repeat(10_000),
            ..complaint(&format!("{name}-{n}"))
        });
        complaints.collect::<Vec<_>>()
    };
    let before = connected(&world, &city, "pemda-33.74").await;
    assert_eq!(submit_many(&city, texts("U", 5)).await, 5);
    // Routed to the city, so that as much comes down.
    assert_eq!(submit_many(&world.hub, texts("D", 4)).await, 4);
    let began = Instant::now();
    same_at_both_ends(&world.hub, &city, "pemda-33.74", SUBMISSIONS, 5).await;
    same_at_both_ends(&world.hub, &city, "pemda-33.74", DELIVERIES, 5).await;
    assert!(
        began.elapsed() > Duration::from_secs(4),
        "the line was slow: {:?}",
        began.elapsed()
    );
    assert_eq!(world.sessions("pemda-33.74"), before, "{}", world.hub.log());
}

/// Scenario: the line is cut eight times while complaints are handed over, and while
/// some of them are on their way; now and then it takes connections before and
/// brings nothing back.
/// Guarantee: count in = count out: the city, to which they are routed over the same
/// line, has each once and word for word; the journals are equal at both ends.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_under_load_lose_and_double_nothing() {
    let limits = "[limits]\nheartbeat_interval_ms = 300\ndead_after_ms = 1000";
    let world = World::with_hub(limits);
    let relay = Relay::start(world.links(), Line::GOOD).await;
    let province = adapter_behind(&world, "pemda-33", relay.address);
    let city = adapter_behind(&world, "pemda-33.74", relay.address);
    let (mut total, mut under_way) = (0, 0);
    let mut expected = BTreeMap::new();
    for round in 0..8_u64 {
        let complaints = (0..50).map(|n| complaint(&format!("C-{round}-{n}")));
        expected.extend(complaints.clone().map(words));
        let bad = Line {
            is_open: round % 2 == 0,
            is_deaf: true,
            ..Line::GOOD
        };
        let (taken, ()) = tokio::join!(submit_many(&province, complaints.collect()), async {
            tokio::time::sleep(Duration::from_millis(10 * round)).await;
            relay.set(bad);
        });
        total += taken as u64;
        let own = province.sync("pemda-33").await.submissions.unwrap();
        under_way += u64::from(own.backlog > 0);
        relay.set(Line {
            is_open: false,
            ..Line::GOOD
        });
        relay.set(Line::GOOD);
    }
    assert!(under_way > 0, "no cut came while something was on its way");
    let head = same_at_both_ends(&world.hub, &province, "pemda-33", SUBMISSIONS, total).await;
    assert_eq!(head, total);
    // Decisions travel in sets: only the routed complaints are entries of their own.
    eventually("each is decided", || async {
        decisions(&province).await.len() as u64 >= total
    })
    .await;
    same_at_both_ends(&world.hub, &province, "pemda-33", DELIVERIES, 1).await;
    same_at_both_ends(&world.hub, &city, "pemda-33.74", DELIVERIES, total).await;
    assert_eq!(decisions(&province).await.len() as u64, total);
    assert_eq!(filings(&city).await, expected, "each once, word for word");
    let counts = world.hub.sync("pemda-33").await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (total, 0));
}

/// Scenario: the hub has committed a complaint, but its answer never comes
/// down; then the sender is killed, the line is good again, and the sender is
/// started; its local system sends the same once more.
/// Guarantee: one complaint exists, the sender ends acknowledged, the repeated
/// hand-over is answered with the original result.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_killed_before_it_saw_the_answer() {
    let world = World::new();
    let relay = Relay::start(world.links(), Line::GOOD).await;
    let mut city = adapter_behind(&world, "pemda-33.74", relay.address);
    connected(&world, &city, "pemda-33.74").await;
    relay.set(Line {
        is_deaf: true,
        ..Line::GOOD
    });
    let mut door = city.gateway().await;
    let first = door.submit(submit(complaint("S-1"), 0)).await.unwrap();
    let first = first.into_inner().receipt.unwrap();
    assert_eq!(first.progress, v1::Progress::Stored as i32);
    eventually("the hub has committed", || async {
        world.hub.place("pemda-33.74", SUBMISSIONS).await.position == 1
    })
    .await;
    let own = city.sync("pemda-33.74").await.submissions.unwrap();
    assert_eq!(own.acknowledged.unwrap().position, 0, "no answer came down");
    city.kill();
    relay.set(Line {
        is_open: false,
        ..Line::GOOD
    });
    relay.set(Line::GOOD);
    city.start_again();
    let mut door = city.gateway().await;
    let again = door.submit(submit(complaint("S-1"), 30_000)).await.unwrap();
    let again = again.into_inner().receipt.unwrap();
    assert!(again.repeated_handover);
    assert_eq!(again.event_id, first.event_id);
    assert_eq!(again.progress, v1::Progress::Accepted as i32);
    let own = city.sync("pemda-33.74").await.submissions.unwrap();
    assert_eq!(own.acknowledged.unwrap().position, 1);
    let counts = world.hub.sync("pemda-33.74").await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (1, 0));
    assert_eq!(
        world.hub.place("pemda-33.74", SUBMISSIONS).await.position,
        1
    );
}

/// Scenario: a city's node has acknowledged a complaint to the hub and is
/// killed before its local system has fetched it; the local system fetches it
/// after the restart, the node is killed again before the acknowledgement, and
/// once more after it.
/// Guarantee: the local system gets the complaint, at the second time with the
/// same event id and cursor, and after its acknowledgement not again.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_killed_before_its_local_system_has_it() {
    let world = World::new();
    let mut city = world.adapter("pemda-33.74");
    submit_many(&world.hub, vec![complaint("E-1")]).await;
    eventually("the hub knows that the city has it", || async {
        let sync = world.hub.sync("pemda-33.74").await;
        let acknowledged = sync.deliveries.unwrap().acknowledged;
        acknowledged.is_some_and(|place| place.position == 1)
    })
    .await;
    city.restart();
    let first = all_items(&city).await;
    assert_eq!(first.len(), 1);
    city.restart();
    let second = all_items(&city).await;
    assert_eq!(second, first, "the same, not another one");
    let through = second[0].cursor.clone();
    let request = v1::AcknowledgeInboxRequest { through };
    let mut door = city.gateway().await;
    door.acknowledge_inbox(request).await.unwrap();
    city.restart();
    assert_eq!(all_items(&city).await, Vec::new());
}

/// Scenario: the line still stands, but nothing comes down any more: "connected"
/// as far as TCP can tell, while hand-overs wait; then it flows again.
/// Guarantee: the node says so by itself within its dead-after time, nothing is
/// shown as sent that was not acknowledged, and it recovers by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_carries_nothing_turns_red_by_itself() {
    let limits = "[limits]\nheartbeat_interval_ms = 300\ndead_after_ms = 1500";
    let world = World::with_hub(limits);
    let relay = Relay::start(world.links(), Line::GOOD).await;
    let city = adapter_behind(&world, "pemda-33.74", relay.address);
    connected(&world, &city, "pemda-33.74").await;
    relay.set(Line {
        is_deaf: true,
        ..Line::GOOD
    });
    let began = Instant::now();
    submit_many(&city, vec![complaint("N-1")]).await;
    let red = [
        v1::Verdict::Silent,
        v1::Verdict::Stalled,
        v1::Verdict::Disconnected,
    ];
    eventually("red by itself", || async {
        red.contains(&city.sync("pemda-33.74").await.verdict())
    })
    .await;
    // A look at the clock each second, and this machine.
    let most = Duration::from_millis(1_500) + Duration::from_secs(4);
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
    let sync = city.sync("pemda-33.74").await;
    assert!(!sync.explanation.is_empty(), "{sync:?}");
    assert_eq!(sync.submissions.unwrap().backlog, 1);
    relay.set(Line {
        is_open: false,
        ..Line::GOOD
    });
    relay.set(Line::GOOD);
    connected(&world, &city, "pemda-33.74").await;
    same_at_both_ends(&world.hub, &city, "pemda-33.74", SUBMISSIONS, 1).await;
}

/// Scenario: what the hub decided on a complaint of the province goes to the
/// province and to the city, whose node is away.
/// Guarantee: the hub shows it as delivered to the one and as waiting for the
/// other, for as long as that is so.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_destinations_the_one_that_fails_is_shown() {
    let world = World::new();
    let province = world.adapter("pemda-33");
    let mut city = world.adapter("pemda-33.74");
    connected(&world, &city, "pemda-33.74").await;
    city.kill();
    submit_many(&province, vec![complaint("W-1")]).await;
    let waiting = async |party: &str| {
        let sync = world.hub.sync(party).await;
        sync.deliveries.unwrap().backlog
    };
    eventually("one has it, the other has not", || async {
        let place = province.place("pemda-33", DELIVERIES).await;
        place.position == 1 && waiting("pemda-33").await == 0
    })
    .await;
    assert_eq!(waiting("pemda-33.74").await, 1);
    let verdict = world.hub.sync("pemda-33.74").await.verdict;
    assert_ne!(verdict, v1::Verdict::Healthy as i32);
    city.start_again();
    eventually("it has come", || async {
        waiting("pemda-33.74").await == 0
    })
    .await;
}
