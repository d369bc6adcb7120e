//! A synchronous standby that is away: no commit has an answer until it is back.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{
    faults::{prepared, submit},
    *,
};
use crate::{
    domain::PartyMode,
    store::{DirectoryChange, RefusedJoin, Store as _, conformance::registered},
};

use super::super::is_reachable;

/// Longest wait for what these tests wait for.
const IN_TIME: Duration = Duration::from_secs(60);

/// How many backends wait for a standby with a statement like this; they are
/// told to stop waiting if `cancel`.
pub(in crate::store::postgres) async fn waiting(
    cluster: &Cluster,
    statement: &str,
    cancel: bool,
) -> i64 {
    let what = match cancel {
        true => "count(pg_cancel_backend(pid))",
        false => "count(*)",
    };
    let text = format!(
        "SELECT {what} FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '{statement}'"
    );
    value(cluster, "postgres", &text).await
}

/// Names the standby that commits wait for.
pub(in crate::store::postgres) async fn standby(cluster: &Cluster, names: &str) {
    let text = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
    sql(cluster, "postgres", &text).await;
    sql(cluster, "postgres", "SELECT pg_reload_conf()").await;
}

/// Commits wait for a standby that is not there, from now on: the server reads its
/// settings when it gets round to it.
pub(in crate::store::postgres) async fn standby_is_away(cluster: &Cluster) {
    standby(cluster, "elsewhere").await;
    let until = Instant::now() + IN_TIME;
    let mut trials = JoinSet::new();
    loop {
        assert!(Instant::now() < until, "no commit has to wait");
        let url = cluster.url("postgres");
        trials.spawn(async move {
            let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
            let (client, connection) = connected.unwrap();
            let task = tokio::spawn(connection);
            let trial = "SELECT pg_logical_emit_message(true, 'trial', '')";
            client.batch_execute(trial).await.unwrap();
            drop(client);
            task.await.unwrap().unwrap();
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        if waiting(cluster, "%trial%", true).await > 0 {
            break;
        }
    }
    while trials.try_join_next().is_some() || !trials.is_empty() {
        waiting(cluster, "%trial%", true).await;
    }
}

fn party(n: usize) -> PartyId {
    PartyId::parse(&format!("kota-{n}")).unwrap()
}

/// Scenario: whoever starts a hub asks again and again whether its database is
/// ready, while the synchronous standby is away; then it is back.
/// Guarantee: it is not, for as long as no commit would be durable; of all who ask,
/// also at once, and who give up, one leaves something that waits at the server;
/// then it is ready by itself, and nothing waits any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_starts_waits_for_a_standby() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let settings = settings(&cluster.url(&name));
    assert!(is_reachable(&settings).await.unwrap());
    standby_is_away(&cluster).await;
    for _ in 0..4 {
        let (one, other) = tokio::join!(is_reachable(&settings), is_reachable(&settings));
        assert!(!one.unwrap() && !other.unwrap());
        assert_eq!(waiting(&cluster, "%", false).await, 1);
    }
    standby(&cluster, "").await;
    let until = Instant::now() + IN_TIME;
    while !is_reachable(&settings).await.unwrap() {
        assert!(Instant::now() < until, "it is ready");
    }
    assert_eq!(waiting(&cluster, "%", false).await, 0);
}

/// Scenario: while the synchronous standby is away local systems acknowledge their
/// inboxes again and again, strangers are refused, links keep places; there are
/// four connections for readers.
/// Guarantee: readers are answered at once, and so is what no standby has to have;
/// what has to be durable is refused as something that may pass; what waits at the
/// server does not grow with each try; later all of it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn readers_are_served_while_a_standby_is_away() {
    const PARTIES: usize = 12;
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    prepared(&cluster.url(&name)).await.close().await;
    let settings = Settings {
        statement_timeout: Duration::from_secs(1),
        ..settings(&cluster.url(&name))
    };
    let store = open_with(settings, decide).await.unwrap();
    for n in 0..PARTIES {
        store.open_session(&party(n), TOKEN).await.unwrap();
    }
    let place = store.heads(&party(0)).await.unwrap();
    standby_is_away(&cluster).await;
    for round in 0..3 {
        let mut consuming = JoinSet::new();
        for n in 0..PARTIES {
            let store = store.clone();
            consuming.spawn(async move { store.consume(&party(n), 0).await });
        }
        let until = Instant::now() + IN_TIME;
        while waiting(&cluster, "%", false).await == 0 {
            assert!(Instant::now() < until, "something waits");
        }
        // Each of them has had its turn by now, if there was one.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reading = async {
            for n in 0..PARTIES {
                store.heads(&party(n)).await.unwrap();
            }
            let refused = RefusedJoin {
                at: at(1),
                remote: "192.0.2.1".to_owned(),
                party: "x".to_owned(),
                invitation: Some("y".to_owned()),
                reason: "z".to_owned(),
            };
            store.note_refused_join(refused).await.unwrap();
            let held = place.deliveries_acknowledged;
            store.mark(&party(0), held).await.unwrap();
        };
        let read = tokio::time::timeout(Duration::from_secs(2), reading).await;
        assert!(read.is_ok(), "round {round}");
        for outcome in consuming.join_all().await {
            assert!(
                matches!(outcome, Err(StoreError::Unavailable(_))),
                "{outcome:?}"
            );
        }
        // Two that were sent at once, and the one that writes nothing.
        let left = waiting(&cluster, "%", false).await;
        assert!((1..=3).contains(&left), "round {round}: {left}");
    }
    standby(&cluster, "").await;
    let until = Instant::now() + IN_TIME;
    while store.consume(&party(0), 0).await.is_err() {
        assert!(Instant::now() < until, "it goes on");
    }
    assert_eq!(store.refused_joins().await.unwrap().len(), 3);
}

/// Scenario: a certificate is revoked, and a party registered, while the synchronous
/// standby is away; an operator ends the wait of each, and the server warns that the
/// standby may lack it; later nobody has to be waited for.
/// Guarantee: neither is reported as done while a standby that takes over might
/// know nothing of it, and both are once all is safe.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_reported_when_the_standby_has_it() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    standby_is_away(&cluster).await;
    let until = Instant::now() + IN_TIME;
    let changing = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .revoke("0a".to_owned(), "lost".to_owned(), at(2))
                .await
        }
    });
    let is_waiting = async |wanted: bool, cancel: bool| {
        while (waiting(&cluster, "COMMIT", cancel).await > 0) != wanted {
            assert!(Instant::now() < until, "in time");
            assert!(!changing.is_finished(), "nobody is told yet");
        }
    };
    is_waiting(true, true).await;
    is_waiting(false, false).await;
    is_waiting(true, false).await;
    assert!(!changing.is_finished(), "nobody is told yet");
    standby(&cluster, "").await;
    changing.await.unwrap().unwrap();
    let registry = store.registry().borrow().clone();
    assert!(registry.revoked_serials.contains("0a"));
}

/// Scenario: a directory of a thousand parties, each with an institution, is taken
/// over while a hub and another one serve.
/// Guarantee: it is one change, which both know.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_is_one_change() {
    const PARTIES: usize = 1_000;
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let other = open(&cluster.url(&name), decide).await.unwrap();
    let version = "SELECT directory_version FROM node";
    let before = value(cluster, &name, version).await;
    let institution = |n: usize| crate::domain::Institution {
        code: crate::domain::InstitutionCode::parse(&format!("kota-{n}")).unwrap(),
        name: String::new(),
        parent: None,
        party: party(n),
        region: None,
        enabled: true,
    };
    let change = DirectoryChange {
        parties: (0..PARTIES)
            .map(|n| registered(party(n), PartyMode::Stream))
            .collect(),
        institutions: (0..PARTIES).map(institution).collect(),
        ..DirectoryChange::default()
    };
    let began = Instant::now();
    store.change_directory(change).await.unwrap();
    eprintln!("{PARTIES} parties in {:?}", began.elapsed());
    assert_eq!(value(cluster, &name, version).await, before + 1);
    let until = Instant::now() + IN_TIME;
    for hub in [&store, &other] {
        let knows = || hub.registry().borrow().directory.institutions.len();
        while knows() < PARTIES {
            assert!(Instant::now() < until, "both know");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let asked = "SELECT count(*) FROM retelling";
    assert_eq!(value(cluster, &name, asked).await, 0, "nothing is left");
}

/// Scenario: somebody holds what a hand-over needs and does not let it go, as a
/// commit does that waits for a standby; then it is let go.
/// Guarantee: the caller is told within half a minute what is waited for, not that
/// others were faster; the same hand-over is accepted later.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_commit_holds_is_said() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let operator = Operator::at(cluster, &name).await;
    let hold = "BEGIN; SELECT pg_advisory_xact_lock(7301, 1)";
    operator.client.batch_execute(hold).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(45), submit(&store, 0)).await;
    let why = told.unwrap().unwrap_err();
    assert!(matches!(why, StoreError::Unavailable(_)), "{why:?}");
    assert!(why.to_string().contains("earlier commit"), "{why}");
    operator.leaves().await.unwrap();
    assert!(!submit(&store, 0).await.unwrap().repeated);
}
