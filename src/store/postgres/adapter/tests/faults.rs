//! A server that is killed, lines that are cut while they commit.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    super::{super::writer::LOOK_FOR, alone::Alone},
    *,
};
use crate::{
    exchange::{Direction, Place, event_digest},
    store::{
        NewSubmission, Receipt, Store as _,
        conformance::{at, city, filing},
        postgres::tests::{
            cluster::programs,
            faults::relay,
            standby::{standby, standby_is_away, waiting},
            value,
        },
    },
};

fn numbered(n: usize) -> NewSubmission {
    filing(&city(), &format!("N-{n}"), "isi", None)
}

async fn submit(store: &PostgresAdapterStore, n: usize) -> Result<Receipt, StoreError> {
    let mut receipts = store.submit(vec![numbered(n)], at(1)).await?;
    Ok(receipts.remove(0).unwrap())
}

/// Entries of the city's submissions; their chain is that of the head.
async fn whole(store: &PostgresAdapterStore) -> usize {
    let heads = store.heads(&city()).await.unwrap();
    let mut place = Place::root(&city(), Direction::Submissions, heads.epoch);
    let mut seen = BTreeSet::new();
    loop {
        let from = place.position + 1;
        let page = store.read(&city(), Direction::Submissions, from, 1_000, usize::MAX);
        let page = page.await.unwrap();
        if page.is_empty() {
            break;
        }
        for entry in page {
            place = place.after(&event_digest(&entry.entry.event));
            let event = crate::wire::decode_event(&entry.entry.event).unwrap();
            assert!(seen.insert(event.event_id.to_string()), "twice");
        }
    }
    assert_eq!(place, heads.submissions);
    place.position as usize
}

/// Many callers hand over in a stream for as long as something is done; then everything
/// comes once more. What was answered is there, and nothing is there twice.
async fn under_load(store: &PostgresAdapterStore, meanwhile: impl Future<Output = ()>) {
    const CALLERS: usize = 40;
    const MOST: usize = 10_000;
    let mut calls = JoinSet::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for caller in 0..CALLERS {
        let (store, answered, is_over) = (store.clone(), answered.clone(), is_over.clone());
        calls.spawn(async move {
            let numbers = caller * MOST..(caller + 1) * MOST;
            let mut tried = Vec::new();
            for number in numbers.take_while(|_| !is_over.load(Ordering::SeqCst)) {
                tried.push(number);
                match submit(&store, number).await {
                    Ok(_) => answered.send(number).unwrap(),
                    // Its store is away.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
            tried
        });
    }
    drop(answered);
    let mut kept = BTreeSet::new();
    while kept.len() < CALLERS {
        kept.insert(answers.recv().await.unwrap());
    }
    meanwhile.await;
    is_over.store(true, Ordering::SeqCst);
    let tried: Vec<usize> = calls.join_all().await.into_iter().flatten().collect();
    while let Some(number) = answers.recv().await {
        kept.insert(number);
    }
    let everything = tried.iter().map(|number| numbered(*number)).collect();
    let receipts = store.submit(everything, at(2)).await.unwrap();
    for (number, receipt) in tried.iter().zip(receipts) {
        let is_there = receipt.unwrap().repeated;
        assert!(is_there || !kept.contains(number), "{number} is lost");
    }
    assert_eq!(whole(store).await, tried.len());
}

/// The store takes hand-overs again, and so there are some in flight.
async fn at_work(store: &PostgresAdapterStore) {
    while store.probe().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Scenario: many callers hand over at once, and the server is killed as by a power cut,
/// four times; it comes back each time, and everybody hands over again.
/// Guarantee: whatever was answered is there; nothing is there twice; the journal is
/// whole; the store takes its lock again and needs no restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_was_answered() {
    let Some(programs) = programs() else { return };
    let mut cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let store = open(&cluster.url(&name)).await.unwrap();
    under_load(&store, async {
        for _ in 0..4 {
            tokio::task::block_in_place(|| {
                cluster.kill();
                cluster.run();
            });
            at_work(&store).await;
        }
    })
    .await;
    store.close().await;
}

/// Scenario: a synchronous standby is away when something is handed over; the commit
/// waits at the server for longer than its caller's answer takes. Then the server does
/// without it, and the same comes again.
/// Guarantee: what is on no standby is answered as not known and seen by nobody, and the
/// commit that waits is not ended; afterwards it is there once.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_standby_has_is_not_seen() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let hasty = Settings {
        statement_timeout: Duration::from_secs(2),
        ..settings(&cluster.url(&name))
    };
    let store = open_with(hasty).await.unwrap();
    submit(&store, 0).await.unwrap();
    standby_is_away(&cluster).await;
    let waiting_caller = tokio::spawn({
        let store = store.clone();
        async move { submit(&store, 1).await }
    });
    while waiting(&cluster, "%", false).await == 0 {
        assert!(!waiting_caller.is_finished(), "it has to wait");
    }
    // Longer than an answer may take, and than the lock is asked for.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(waiting(&cluster, "%", false).await, 1, "it still waits");
    let rows = "SELECT count(*) FROM submission";
    assert_eq!(value(&cluster, &name, rows).await, 1, "nobody sees it");
    standby(&cluster, "").await;
    let outcome = waiting_caller.await.unwrap();
    assert!(outcome.is_ok(), "it is found to be there: {outcome:?}");
    assert!(submit(&store, 1).await.unwrap().repeated);
    assert_eq!(whole(&store).await, 2);
    store.close().await;
}

/// Scenario: the lines of a store are cut at the server, again and again, while many
/// callers hand over.
/// Guarantee: as with a killed server: of a commit whose answer was lost it is found out
/// whether it was made, and nothing is answered before.
#[tokio::test(flavor = "multi_thread")]
async fn cut_lines_lose_nothing_and_double_nothing() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = open(&cluster.url(&name)).await.unwrap();
    let cut = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    );
    let was_cut = AtomicBool::new(false);
    under_load(&store, async {
        for _ in 0..20 {
            let lines = value(cluster, "postgres", &cut).await;
            was_cut.fetch_or(lines > 0, Ordering::SeqCst);
            at_work(&store).await;
        }
    })
    .await;
    assert!(was_cut.into_inner());
    store.close().await;
}

/// Scenario: a store closes and opens again, with hand-overs, deliveries, an ended
/// epoch and an inbox that was not taken over.
/// Guarantee: it says the same as before, and goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_a_restart() {
    let Some(cluster) = shared() else { return };
    let nodes = Nodes::on(cluster);
    let mut world = World::new(&nodes).await;
    world.file(&["R-1", "R-2"]).await;
    let party = crate::store::conformance::province();
    let epoch = world.province.heads(&party).await.unwrap().epoch;
    world
        .province
        .adopt_epoch(&party, epoch + 1, 2)
        .await
        .unwrap();
    let seen = async |world: &World| {
        let node = &world.province;
        (
            node.heads(&party).await.unwrap(),
            node.counts(&party).await.unwrap(),
            node.earlier_inboxes(&party).await.unwrap(),
            node.instance_id(),
        )
    };
    let before = seen(&world).await;
    assert_eq!(before.2.len(), 1, "the inbox of the ended epoch");
    world.province.close().await;
    world.province = nodes.node(&world.directory.path().join("province"));
    assert_eq!(seen(&world).await, before);
    let new = filing(&party, "R-3", "isi", None);
    let taken = world.province.submit(vec![new], at(5)).await.unwrap();
    assert!(!taken[0].as_ref().unwrap().repeated);
    let heads = world.province.heads(&party).await.unwrap();
    assert_eq!(heads.submissions.position, 1);
    world.province.close().await;
}

/// Scenario: an epoch is entered, and before what was set aside is appended again the
/// store fails; then a link opens.
/// Guarantee: it goes again, all of it and in its order, without a new hand-over.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_goes_again_with_the_next_link() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = open(&cluster.url(&name)).await.unwrap();
    const HANDED_OVER: usize = 1_500;
    let batch = (0..HANDED_OVER).map(numbered).collect();
    store.submit(batch, at(1)).await.unwrap();
    let entered = store.alone(|tell| Alone::AdoptEpoch(city(), (7, 0), tell));
    entered.await.unwrap();
    assert_eq!(whole(&store).await, 0, "it waits");
    let hubs = Place::root(&city(), Direction::Submissions, 7);
    let told = store.acknowledge(&city(), Direction::Submissions, hubs);
    told.await.unwrap();
    assert_eq!(whole(&store).await, HANDED_OVER);
    store.close().await;
}

/// Scenario: of two callers whose hand-overs come at once, one repeats an event whose
/// row can't be read.
/// Guarantee: that one alone is refused, as damage.
#[tokio::test]
async fn a_row_that_can_not_be_read_refuses_who_asks_for_it() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = open(&cluster.url(&name)).await.unwrap();
    submit(&store, 0).await.unwrap();
    store.close().await;
    let damage = "UPDATE submission SET chain = '\\x00'";
    sql(cluster, &name, damage).await;
    let store = open(&cluster.url(&name)).await.unwrap();
    // Both are handed in before the writer has its turn.
    let (one, other) = tokio::join!(submit(&store, 0), submit(&store, 1));
    assert!(matches!(one, Err(StoreError::Corrupt(_))), "{one:?}");
    assert!(!other.unwrap().repeated);
    store.close().await;
}

/// Scenario: the server says nothing any more while something is handed over: what comes
/// there is taken, and nothing comes back.
/// Guarantee: its caller is told in time, and not after the time of all attempts.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_keeps_no_caller() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let is_silent = Arc::new(AtomicBool::new(false));
    let port = relay(cluster.port, {
        let is_silent = is_silent.clone();
        move |client, server| until_silent(client, server, is_silent.clone())
    });
    let hasty = Settings {
        statement_timeout: Duration::from_secs(5),
        ..settings(&cluster.tcp_url(&name, port.await))
    };
    let store = open_with(hasty).await.unwrap();
    submit(&store, 0).await.unwrap();
    is_silent.store(true, Ordering::SeqCst);
    let database = &store.shared.database;
    let attempt = database.line_within() + database.limit();
    let began = std::time::Instant::now();
    let outcome = submit(&store, 1).await;
    let after = began.elapsed();
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
    // The first attempt finds its line silent; what comes then is bounded.
    let most = LOOK_FOR + 2 * attempt;
    assert!(after < most, "{after:?}, and {most:?} at most");
}

/// Carries bytes until nothing is to come through any more, both ways.
async fn until_silent(mut client: TcpStream, mut server: TcpStream, is_silent: Arc<AtomicBool>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let (count, is_up) = tokio::select! {
            came = client.read(&mut up) => (came, true),
            came = server.read(&mut down) => (came, false),
        };
        let Ok(count @ 1..) = count else { return };
        if is_silent.load(Ordering::SeqCst) {
            continue;
        }
        let written = match is_up {
            true => server.write_all(&up[..count]).await,
            false => client.write_all(&down[..count]).await,
        };
        if written.is_err() {
            return;
        }
    }
}
