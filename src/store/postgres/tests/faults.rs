//! A server that is killed, a line that is cut while it commits, a standby that
//! says nothing.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    standby::{standby, standby_is_away, waiting},
    *,
};
use crate::{
    domain::{Digest, Outcome, PartyId, PartyMode, Progress},
    store::{
        HubStore as _, Invitation, InvitationUse, IssuedCertificate, Receipt, SessionToken,
        Store as _,
        conformance::{filing, national, registered},
    },
};

/// The national party and nobody else.
pub(super) async fn prepared(url: &str) -> PostgresStore {
    let store = open(url, decide).await.unwrap();
    let party = registered(national(), PartyMode::Local);
    store.put_party(party).await.unwrap();
    store.set_national(national()).await.unwrap();
    store
}

pub(super) fn numbered(n: usize) -> NewSubmission {
    filing(&national(), &format!("N-{n}"), "isi", None)
}

pub(super) async fn submit(store: &PostgresStore, n: usize) -> Result<Receipt, StoreError> {
    let mut receipts = store.submit(vec![numbered(n)], at(1)).await?;
    Ok(receipts.remove(0).unwrap())
}

/// Scenario: many callers hand over at once, and the server is killed as by a
/// power cut in the middle; it comes back, and everybody hands over again.
/// Guarantee: whatever was answered as accepted is there; nothing is there
/// twice; the journal is whole; the store needs no restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_was_answered() {
    const CALLERS: usize = 300;
    let Some(programs) = programs() else { return };
    let mut cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let mut calls = JoinSet::new();
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..CALLERS {
        let (store, answered) = (store.clone(), answered.clone());
        calls.spawn(async move {
            // A caller each: they come in a stream, not as one batch.
            for part in 0..4 {
                let number = n * 4 + part;
                if submit(&store, number).await.is_ok() {
                    let _ = answered.send(number);
                }
            }
        });
    }
    drop(answered);
    let mut kept = BTreeSet::new();
    while kept.len() < CALLERS {
        kept.insert(answers.recv().await.unwrap());
    }
    tokio::task::block_in_place(|| {
        cluster.kill();
        cluster.run();
    });
    while let Some(number) = answers.recv().await {
        kept.insert(number);
    }
    calls.join_all().await;
    let everything: Vec<_> = (0..CALLERS * 4).map(numbered).collect();
    let receipts = store.submit(everything, at(2)).await.unwrap();
    for (number, receipt) in receipts.into_iter().enumerate() {
        let receipt = receipt.unwrap();
        assert_eq!(receipt.progress, Progress::Accepted);
        assert!(
            receipt.repeated || !kept.contains(&number),
            "{number} is lost"
        );
    }
    let all = whole(&store, &national(), Direction::Submissions).await;
    assert_eq!(all.len(), CALLERS * 4);
    assert_eq!(decided(&store, &national()).await.len(), CALLERS * 4);
}

/// When a relay cuts the line on which a commit comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The server never sees it.
    Before,
    /// The server carries it out, and its answer is lost.
    After,
}

/// Carries what comes to the port that it says on to a server, in this way.
pub(in crate::store::postgres) async fn relay<F>(
    server: u16,
    carry: impl Fn(TcpStream, TcpStream) -> F + Send + 'static,
) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(carry(client, server));
        }
    });
    port
}

/// A relay that cuts once, at the first commit after it was armed.
struct Relay {
    port: u16,
    is_armed: Arc<AtomicBool>,
}

impl Relay {
    async fn start(server: u16, cut: Cut) -> Self {
        let is_armed = Arc::new(AtomicBool::new(false));
        let armed = is_armed.clone();
        let port = relay(server, move |client, server| {
            carry(client, server, cut, armed.clone())
        });
        Self {
            port: port.await,
            is_armed,
        }
    }
}

/// The title of each complaint of the tests: only a commit carries it.
const TITLE: &[u8] = b"Jalan rusak";

async fn carry(mut client: TcpStream, mut server: TcpStream, cut: Cut, armed: Arc<AtomicBool>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            came = client.read(&mut up) => {
                let Ok(count @ 1..) = came else { return };
                let is_commit = up[..count].windows(TITLE.len()).any(|found| found == TITLE);
                if is_commit && armed.swap(false, Ordering::SeqCst) {
                    if cut == Cut::After {
                        server.write_all(&up[..count]).await.unwrap();
                        // The answer shows that it was carried out.
                        let _ = server.read(&mut down).await;
                    }
                    return;
                }
                if server.write_all(&up[..count]).await.is_err() {
                    return;
                }
            }
            came = server.read(&mut down) => {
                let Ok(count @ 1..) = came else { return };
                if client.write_all(&down[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Scenario: the line is cut while a commit is on it, once before the server
/// has it and once before its answer comes.
/// Guarantee: the caller is answered once, as accepted and not as a repetition;
/// it is stored exactly once; what comes next is stored behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_in_doubt_is_read_back() {
    let Some(cluster) = shared() else { return };
    for cut in [Cut::Before, Cut::After] {
        let name = database(cluster).await;
        let relay = Relay::start(cluster.port, cut).await;
        let store = prepared(&cluster.tcp_url(&name, relay.port)).await;
        submit(&store, 0).await.unwrap();
        relay.is_armed.store(true, Ordering::SeqCst);
        let receipt = submit(&store, 1).await.unwrap();
        assert!(
            !relay.is_armed.load(Ordering::SeqCst),
            "{cut:?}: it was cut"
        );
        assert_eq!(
            (receipt.progress, receipt.repeated),
            (Progress::Accepted, false)
        );
        submit(&store, 2).await.unwrap();
        let decisions = decided(&store, &national()).await;
        let outcomes: Vec<_> = decisions.iter().map(|found| found.outcome).collect();
        assert_eq!(outcomes, [Outcome::Accepted; 3], "{cut:?}");
    }
}

/// Scenario: the synchronous standby is gone while hand-overs commit, one after
/// the other; an operator ends the wait of one, and the server warns; later
/// nobody has to be waited for.
/// Guarantee: what the server has but its standby may not is not answered;
/// once it is known to be safe it is, and it is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_standby_is_waited_for() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let calls = tokio::spawn({
        let (store, answered, stop) = (store.clone(), answered.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                let n = answered.load(Ordering::SeqCst);
                let receipt = submit(&store, n).await.unwrap();
                assert!(!receipt.repeated);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    standby(&cluster, "elsewhere").await;
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while waiting(&cluster, "%jembatan_commit%", true).await == 0 {
        assert!(std::time::Instant::now() < until, "no commit has to wait");
    }
    while waiting(&cluster, "UPDATE replica%", false).await == 0 {
        assert!(std::time::Instant::now() < until, "nobody looks for it");
    }
    let text = "SELECT position FROM submission_head WHERE party = 'nasional'";
    let there = value(&cluster, &name, text).await as usize;
    assert_eq!(
        there,
        answered.load(Ordering::SeqCst) + 1,
        "one is in doubt"
    );
    stop.store(true, Ordering::SeqCst);
    standby(&cluster, "").await;
    calls.await.unwrap();
    assert_eq!(decided(&store, &national()).await.len(), there);
}

/// Scenario: the synchronous standby is gone while a certificate is kept that a
/// code led to; an operator ends the wait, and the server warns that the standby
/// may lack it; later nobody has to be waited for.
/// Guarantee: the certificate is not given while a standby that takes over might
/// know nothing of it, and is once all is safe; it is kept once, and so is that
/// the code was used.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_given_when_the_standby_has_it() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let invitation = Invitation {
        id: "a".to_owned(),
        party: national(),
        code_digest: Digest::of(b"code"),
        made_at: at(1),
        expires_at: at(100),
        revoked_at: None,
        used: None,
    };
    store.put_invitation(invitation).await.unwrap();
    standby_is_away(&cluster).await;
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let certificate = IssuedCertificate {
        serial: "s1".to_owned(),
        digest: Some(Digest::of(b"s1")),
        party: national(),
        issued_at: at(2),
        ends_at: at(50),
        invitation: Some("a".to_owned()),
    };
    let used = InvitationUse {
        at: at(2),
        from: "192.0.2.1".to_owned(),
        key_digest: Digest::of(b"key"),
        serial: "s1".to_owned(),
    };
    let recorded = tokio::spawn({
        let store = store.clone();
        async move { store.record_issued(certificate, Some(used)).await }
    });
    let is_waiting = async |wanted: bool, cancel: bool| {
        while (waiting(&cluster, "%issued_certificate%", cancel).await > 0) != wanted {
            assert!(std::time::Instant::now() < until, "in time");
            assert!(!recorded.is_finished(), "nobody is told yet");
        }
    };
    is_waiting(true, true).await;
    is_waiting(false, false).await;
    is_waiting(true, false).await;
    assert!(!recorded.is_finished(), "nobody is told yet");
    standby(&cluster, "").await;
    assert!(recorded.await.unwrap().unwrap());
    let issued = store.issued_to(&national()).await.unwrap();
    assert_eq!(issued.len(), 1);
    let kept = store.invitation("a").await.unwrap().unwrap();
    assert_eq!(kept.used.unwrap().serial, "s1");
}

/// Scenario: more callers at once than there are connections, and each opens a
/// session as well; a reader that holds one while all others are in use.
/// Guarantee: everybody is answered, and no more connections are open than were
/// allowed: those of readers, the writer's and the listener's.
#[tokio::test(flavor = "multi_thread")]
async fn connections_have_a_limit() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let mut calls = JoinSet::new();
    for n in 0..200 {
        let store = store.clone();
        calls.spawn(async move {
            let party = PartyId::parse(&format!("kota-{n}")).unwrap();
            let token = SessionToken([n as u8; 16]);
            store.open_session(&party, token).await.unwrap();
            submit(&store, n % 20).await.unwrap();
            store.heads(&national()).await.unwrap();
            store.counts(&national()).await.unwrap()
        });
    }
    calls.join_all().await;
    let reader = store.reader().await.unwrap();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
    let open = reader.query_one(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'jembatan hub'",
        &values,
    );
    let open: i64 = open.await.unwrap().get(0);
    assert!((3..=4 + 2).contains(&open), "{open}");
}

/// Scenario: ten callers hand over at the same moment; the server refuses the first
/// commits as it does when transactions get in each other's way, and one of the ten
/// events whenever it comes, as it does with a value that it can't keep.
/// Guarantee: after some attempts each is carried out alone: nine are accepted, the
/// one is refused, with the server's reason; it is taken when the server takes it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_server_refuses_costs_no_neighbour() {
    const CALLERS: usize = 10;
    const POISON: usize = 6;
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let event = hex::encode(numbered(POISON).event.event_id.as_bytes());
    // A sequence does not go back with its transaction.
    let refusing = format!(
        "CREATE SEQUENCE attempt; \
         CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('attempt') <= 5 THEN RAISE 'in the way' USING ERRCODE = '40001'; END IF; \
             RETURN NULL; END $$; \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.event_id = '\\x{event}' THEN RAISE 'no such value' USING ERRCODE = '22021'; END IF; \
             RETURN NEW; END $$; \
         CREATE TRIGGER stumbles BEFORE INSERT ON submission \
             FOR EACH STATEMENT EXECUTE FUNCTION stumble(); \
         CREATE TRIGGER refuses BEFORE INSERT ON submission \
             FOR EACH ROW EXECUTE FUNCTION refuse()"
    );
    sql(cluster, &name, &refusing).await;
    // While this is held they gather.
    let operator = Operator::at(cluster, &name).await;
    let hold = "BEGIN; SELECT pg_advisory_xact_lock(7301, 1)";
    operator.client.batch_execute(hold).await.unwrap();
    let mut calls = JoinSet::new();
    for n in 0..CALLERS {
        let store = store.clone();
        calls.spawn(async move { (n, submit(&store, n).await) });
    }
    let blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while value(cluster, &name, blocked).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    operator.client.batch_execute("COMMIT").await.unwrap();
    operator.leaves().await.unwrap();
    for (n, outcome) in calls.join_all().await {
        match outcome {
            Ok(receipt) => {
                assert_eq!(receipt.progress, Progress::Accepted, "{n}");
                assert_ne!(n, POISON);
            }
            Err(why) => {
                assert_eq!(n, POISON, "{why}");
                assert!(why.to_string().contains("22021"), "{why}");
            }
        }
    }
    sql(cluster, &name, "DROP TRIGGER refuses ON submission").await;
    assert!(!submit(&store, POISON).await.unwrap().repeated);
    let all = whole(&store, &national(), Direction::Submissions).await;
    assert_eq!(all.len(), CALLERS);
}
