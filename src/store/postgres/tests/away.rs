//! A server that says nothing, that has just recovered, that has no room for one
//! more; somebody in between; replicas whose clocks differ.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    faults::{prepared, relay, submit},
    standby::{standby, standby_is_away},
    *,
};
use crate::{
    domain::Micros,
    runtime::Clock,
    store::{Store as _, conformance::national},
};

/// What a relay does with what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It carries nothing over lines that are there, while told to be silent.
    Silent,
    /// It drops what a session is told to keep, as poolers do.
    Dropping,
}

/// A network, or somebody in it, between a hub and its server.
struct Between {
    port: u16,
    is_silent: Arc<AtomicBool>,
}

impl Between {
    async fn start(server: u16, manner: Manner) -> Self {
        let is_silent = Arc::new(AtomicBool::new(false));
        let silent = is_silent.clone();
        let port = relay(server, move |client, server| {
            carry(client, server, manner, silent.clone())
        });
        Self {
            port: port.await,
            is_silent,
        }
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    manner: Manner,
    silent: Arc<AtomicBool>,
) {
    if manner == Manner::Dropping {
        let mut first = vec![0; 8_192];
        let count = client.read(&mut first).await.unwrap();
        server
            .write_all(&without_options(&first[..count]))
            .await
            .unwrap();
    }
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let (to, bytes) = tokio::select! {
            came = client.read(&mut up) => match came {
                Ok(count @ 1..) => (&mut server, &up[..count]),
                _ => return,
            },
            came = server.read(&mut down) => match came {
                Ok(count @ 1..) => (&mut client, &down[..count]),
                _ => return,
            },
        };
        if silent.load(Ordering::SeqCst) {
            // For ever: this line never comes back.
            std::future::pending::<()>().await;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// A startup message whose `options` are gone: length, version, then names and
/// values, each ended by a zero.
fn without_options(message: &[u8]) -> Vec<u8> {
    let mut kept = message[4..8].to_vec();
    let mut words = message[8..].split(|byte| *byte == 0);
    while let Some(name) = words.next().filter(|name| !name.is_empty()) {
        let value = words.next().unwrap();
        if name != b"options" {
            for word in [name, value] {
                kept.extend_from_slice(word);
                kept.push(0);
            }
        }
    }
    kept.push(0);
    let length = (kept.len() as u32 + 4).to_be_bytes();
    [&length[..], &kept].concat()
}

async fn impatient(url: &str) -> PostgresStore {
    let settings = Settings {
        statement_timeout: Duration::from_secs(1),
        ..settings(url)
    };
    open_with(settings, decide).await.unwrap()
}

/// Scenario: the network between a hub and its server goes silent while readers
/// and writer wait for answers, and carries new lines later.
/// Guarantee: nobody waits for ever: each caller gets an error that may pass;
/// later the same store reads and writes again, over other lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_keeps_nobody() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    prepared(&cluster.url(&name)).await;
    let between = Between::start(cluster.port, Manner::Silent).await;
    let store = impatient(&cluster.tcp_url(&name, between.port)).await;
    submit(&store, 0).await.unwrap();
    // All connections are there, and at work.
    let warm = [
        store.reader().await.unwrap(),
        store.reader().await.unwrap(),
        store.reader().await.unwrap(),
        store.reader().await.unwrap(),
    ];
    drop(warm);
    between.is_silent.store(true, Ordering::SeqCst);
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        readers.spawn(async move { store.heads(&national()).await.map(|_| ()) });
    }
    let readers = tokio::time::timeout(Duration::from_secs(10), readers.join_all()).await;
    for outcome in readers.unwrap() {
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{outcome:?}"
        );
    }
    between.is_silent.store(false, Ordering::SeqCst);
    submit(&store, 1).await.unwrap();
    let heads = store.heads(&national()).await.unwrap();
    assert_eq!(heads.submissions.position, 2);
}

/// Scenario: somebody in between drops the settings that a session is to keep,
/// as a pooler does that shares connections between transactions.
/// Guarantee: refused, and it says what stands there and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_between_is_noticed() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let between = Between::start(cluster.port, Manner::Dropping).await;
    let opened = open(&cluster.tcp_url(&name, between.port), decide).await;
    let why = opened.err().unwrap().to_string();
    assert!(
        why.contains("pooler") && why.contains("server itself"),
        "{why}"
    );
}

/// What a server recovers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    /// All of it was killed.
    Server,
    /// One of its processes was, and it begins anew by itself.
    Process,
}

/// Scenario: a commit waits for the synchronous standby, which is away; the
/// server, or the process that waits, is killed, and recovers, so that the
/// commit can be seen though the standby may not have it; the standby is still
/// away, then nobody has to be waited for.
/// Guarantee: before that nothing is read from the server, so nobody is told
/// what may be lost with it; then all of it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_still_be_lost_is_told_to_nobody() {
    for crash in [Crash::Server, Crash::Process] {
        not_told(crash).await;
    }
}

async fn not_told(crash: Crash) {
    let Some(programs) = programs() else { return };
    let mut cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    submit(&store, 0).await.unwrap();
    standby_is_away(&cluster).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { submit(&store, 1).await }
    });
    let waits = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity \
         WHERE wait_event = 'SyncRep'";
    let mut process = 0;
    while process == 0 {
        process = value(&cluster, "postgres", waits).await;
    }
    match crash {
        Crash::Server => tokio::task::block_in_place(|| {
            cluster.kill();
            cluster.run();
        }),
        Crash::Process => {
            let kill = ["-KILL", &process.to_string()];
            let killed = std::process::Command::new("kill").args(kill).status();
            assert!(killed.unwrap().success());
            let url = cluster.url("postgres");
            // It ends what it has, recovers, and lets somebody in again.
            tokio::time::sleep(Duration::from_millis(200)).await;
            while tokio_postgres::connect(&url, tokio_postgres::NoTls)
                .await
                .is_err()
            {}
        }
    }
    let position = "SELECT position FROM submission_head WHERE party = 'nasional'";
    assert_eq!(value(&cluster, &name, position).await, 2, "it can be seen");
    let read = tokio::time::timeout(Duration::from_secs(2), store.heads(&national())).await;
    assert!(!matches!(&read, Ok(Ok(_))), "{crash:?}: {read:?}");
    assert!(!waiting.is_finished());
    standby(&cluster, "").await;
    assert!(!waiting.await.unwrap().unwrap().repeated);
    let heads = store.heads(&national()).await.unwrap();
    assert_eq!(heads.submissions.position, 2);
}

/// Scenario: a replica begins to change the directory and then stands still,
/// with the directory's lock in its hands.
/// Guarantee: the others go on within seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_stands_still_stops_nobody() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let first = prepared(&cluster.url(&name)).await;
    let second = open(&cluster.url(&name), decide).await.unwrap();
    let mut reader = first.reader().await.unwrap();
    let transaction = reader.transaction().await.unwrap();
    let lock = transaction.query("SELECT pg_advisory_xact_lock(7301, 1)", &[]);
    lock.await.unwrap();
    let began = Instant::now();
    submit(&second, 0).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert!(
        transaction.query("SELECT 1", &[]).await.is_err(),
        "it was ended"
    );
}

/// Scenario: every connection of the server is in use by others, while a hub
/// needs new ones; then some are let go.
/// Guarantee: callers are told what is missing, and may try again; then all
/// goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_free_connection_is_said() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let role = format!("r{}", hex::encode(random_bytes::<8>()));
    let limited = format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 4");
    sql(cluster, "postgres", &limited).await;
    let rights = format!(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
    );
    sql(cluster, &name, &rights).await;
    prepared(&cluster.url(&name)).await;
    let url = cluster
        .url(&name)
        .replace(&format!("user={USER}"), &format!("user={role}"));
    let store = open(&url, decide).await.unwrap();
    // Writer and listener have theirs, and two readers.
    submit(&store, 0).await.unwrap();
    let only = (store.reader().await.unwrap(), store.reader().await.unwrap());
    let why = store.heads(&national()).await.unwrap_err();
    assert!(matches!(why, StoreError::Unavailable(_)), "{why:?}");
    assert!(why.to_string().contains("no connection left"), "{why}");
    drop(only);
    store.heads(&national()).await.unwrap();
}

/// Scenario: many sessions are opened at once, of parties that the store has
/// never seen, with few connections.
/// Guarantee: none waits for a connection that only another one could give
/// back.
#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_open_at_once() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let mut opening = JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        opening.spawn(async move {
            let party = PartyId::parse(&format!("baru-{n}")).unwrap();
            store.open_session(&party, TOKEN).await.unwrap()
        });
    }
    let all = tokio::time::timeout(Duration::from_secs(8), opening.join_all()).await;
    assert_eq!(all.unwrap().len(), 100);
}

/// Scenario: the database is put back to an earlier state while a hub runs:
/// its directory has a smaller version than the hub knows.
/// Guarantee: the hub takes over what the database says, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_went_back_is_taken_over() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    submit(&store, 0).await.unwrap();
    let back = "UPDATE node SET directory_version = directory_version - 1";
    let before = store.shared.known().version;
    sql(cluster, &name, back).await;
    submit(&store, 1).await.unwrap();
    assert_eq!(store.shared.known().version, before - 1);
}

/// A clock that is wrong.
struct Off(i64);

impl Clock for Off {
    fn now_micros(&self) -> i64 {
        SystemClock.now_micros() + self.0
    }
}

/// Scenario: the clocks of two replicas differ by two hours, and both accept
/// from one party and begin others, in turn.
/// Guarantee: positions and revisions are those of the commits, whatever a
/// clock says; each is accepted once, and both name the same chain.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_change_no_order() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    prepared(&cluster.url(&name)).await;
    let two_hours = 7_200_000_000;
    let mut replicas = Vec::new();
    for clock in [Off(-two_hours), Off(0), Off(two_hours)] {
        let replica = PostgresStore::open(Options {
            settings: settings(&cluster.url(&name)),
            encoder: Arc::new(WireHeaders),
            policy: Policy::default(),
            clock: Arc::new(clock),
            seed: random_bytes(),
            decide,
        });
        replicas.push(replica.await.unwrap());
    }
    for n in 0..30 {
        let replica = &replicas[n % 3];
        let now = Micros(replica.shared.now().0);
        let new = super::faults::numbered(n);
        let taken = replica.submit(vec![new], now).await.unwrap();
        assert!(!taken[0].as_ref().unwrap().repeated);
        let party = PartyId::parse(&format!("jam-{n}")).unwrap();
        replica.open_session(&party, TOKEN).await.unwrap();
        for other in &replicas {
            let heads = other.heads(&party).await.unwrap();
            assert!(heads.epoch > 0);
        }
    }
    let mut chains = Vec::new();
    let in_turn: Vec<_> = (0..30)
        .map(|n| Some(super::faults::numbered(n).event.event_id))
        .collect();
    for replica in &replicas {
        let decided = decided(replica, &national()).await;
        let ids: Vec<_> = decided.iter().map(|found| found.event_id).collect();
        assert_eq!(ids, in_turn, "in the order of the commits");
        chains.push(replica.heads(&national()).await.unwrap().submissions);
    }
    assert!(chains.windows(2).all(|pair| pair[0] == pair[1]));
}
