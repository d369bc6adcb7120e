//! The directory, when callers, lines or the database itself go away; and rows that
//! can't be read.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use super::{
    faults::{prepared, relay},
    *,
};
use crate::{
    domain::{Party, PartyMode},
    store::{
        Store as _,
        conformance::{city, filing, national, province, read_by, registered},
    },
};

use super::super::{directory, journal};

/// Longest wait for what these tests wait for.
const IN_TIME: Duration = Duration::from_secs(30);

/// Scenario: the institution of a city is reached through another party from now on;
/// while its open complaints, more than one page, are told to that one the caller goes
/// away.
/// Guarantee: all of them are told nevertheless, each once, and nothing is left to be
/// done.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_on_when_its_caller_has_gone() {
    const COMPLAINTS: usize = 250;
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let filings = (0..COMPLAINTS).map(|n| filing(&province(), &format!("M-{n}"), "isi", None));
    let filings = filings.collect();
    pair.world.province.submit(filings, at(1)).await.unwrap();
    pair.world.carry_all().await;
    let operator = Operator::at(cluster, &pair.database).await;
    let hold = "BEGIN; SELECT 1 FROM complaint FOR UPDATE";
    operator.client.batch_execute(hold).await.unwrap();
    let changing = tokio::spawn({
        let store = pair.second.clone();
        async move { store.put_institution(read_by(&national())).await }
    });
    let until = Instant::now() + IN_TIME;
    let blocked = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND datname = '{}' AND query LIKE '%jembatan_commit%'",
        pair.database
    );
    while value(cluster, "postgres", &blocked).await == 0 {
        assert!(Instant::now() < until, "a page is being told");
    }
    changing.abort();
    assert!(changing.await.unwrap_err().is_cancelled());
    operator.client.batch_execute("ROLLBACK").await.unwrap();
    let left = "SELECT count(*) FROM retelling";
    while value(cluster, &pair.database, left).await > 0 {
        assert!(Instant::now() < until, "nothing is left to be told");
    }
    let heads = pair.second.heads(&national()).await.unwrap();
    assert_eq!(heads.deliveries, COMPLAINTS as u64);
    operator.leaves().await.unwrap();
}

/// Scenario: a hub has learnt of a party, and has written nothing itself; its database
/// is put back to a moment before.
/// Guarantee: the hub learns what the directory is now, without a hand-over.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_went_back_is_learnt() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    let other = open(&cluster.url(&name), decide).await.unwrap();
    let mut registry = other.registry();
    store
        .put_party(registered(city(), PartyMode::Stream))
        .await
        .unwrap();
    let knows = |registry: &Arc<crate::store::Registry>| {
        let parties = &registry.directory.parties;
        parties.contains_key(&city())
    };
    let learnt = tokio::time::timeout(IN_TIME, registry.wait_for(knows));
    learnt.await.unwrap().unwrap();
    let back = format!(
        "BEGIN; UPDATE node SET directory_version = directory_version - 1; \
         DELETE FROM registered_party WHERE id = '{}'; COMMIT",
        city()
    );
    sql(cluster, &name, &back).await;
    let learnt = tokio::time::timeout(IN_TIME, registry.wait_for(|now| !knows(now)));
    learnt.await.expect("it is learnt").unwrap();
}

/// A relay that cuts a line when its COMMIT has been carried out, and lets nobody
/// through after that until it is told to.
#[derive(Clone)]
struct Cutting {
    is_armed: Arc<AtomicBool>,
    is_open: watch::Sender<bool>,
}

impl Cutting {
    async fn carry(self, mut client: TcpStream, mut server: TcpStream) {
        const COMMIT: &[u8] = b"COMMIT";
        let mut open = self.is_open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        // It is prepared first, and carried out by what comes next.
        let mut is_prepared = false;
        loop {
            tokio::select! {
                came = client.read(&mut up) => {
                    let Ok(count @ 1..) = came else { return };
                    if server.write_all(&up[..count]).await.is_err() {
                        return;
                    }
                    if is_prepared {
                        let _ = server.read(&mut down).await;
                        self.is_open.send_replace(false);
                        return;
                    }
                    let mut found = up[..count].windows(COMMIT.len());
                    is_prepared = found.any(|found| found == COMMIT)
                        && self.is_armed.swap(false, Ordering::SeqCst);
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
}

/// Scenario: the line is cut when a change of the directory has been stored, so that
/// its hub does not know; before it has another line nothing happens, or another hub
/// changes the same party.
/// Guarantee: the first is found and reported as done; of the second what the other hub
/// has said stays, and whoever asked the first one is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_doubt_does_not_undo_a_later_one() {
    let Some(cluster) = shared() else { return };
    for is_overtaken in [false, true] {
        let name = database(cluster).await;
        let cutting = Cutting {
            is_armed: Arc::default(),
            is_open: watch::channel(true).0,
        };
        let carry = cutting.clone();
        let port = relay(cluster.port, move |client, server| {
            carry.clone().carry(client, server)
        });
        let store = prepared(&cluster.tcp_url(&name, port.await)).await;
        let other = open(&cluster.url(&name), decide).await.unwrap();
        let the_city = |enabled| Party {
            enabled,
            ..registered(city(), PartyMode::Stream)
        };
        store.put_party(the_city(true)).await.unwrap();
        cutting.is_armed.store(true, Ordering::SeqCst);
        let changing = tokio::spawn({
            let (store, disabled) = (store.clone(), the_city(false));
            async move { store.put_party(disabled).await }
        });
        let mut is_open = cutting.is_open.subscribe();
        let cut = tokio::time::timeout(IN_TIME, is_open.wait_for(|open| !*open));
        cut.await.expect("it is cut").unwrap();
        if is_overtaken {
            other.put_party(the_city(true)).await.unwrap();
        }
        cutting.is_open.send_replace(true);
        let outcome = changing.await.unwrap();
        let known = directory::read_registry(&other.reader().await.unwrap()).await;
        let known = known.unwrap().registry.directory.parties[&city()].clone();
        match is_overtaken {
            false => outcome.unwrap(),
            true => {
                let why = outcome.unwrap_err().to_string();
                assert!(why.contains("somebody else"), "{why}");
            }
        }
        assert_eq!(known, the_city(is_overtaken));
    }
}

/// Scenario: of two parties whose links look at once the row of one can't be read.
/// Guarantee: only that one's link fails, and it says whose row it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_can_not_be_read_fails_one_link() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    for party in [city(), province()] {
        store.open_session(&party, TOKEN).await.unwrap();
    }
    let damage = format!(
        "UPDATE submission_head SET chain = '\\x00' WHERE party = '{}'",
        city()
    );
    sql(cluster, &name, &damage).await;
    let reader = store.reader().await.unwrap();
    let found = journal::heads_of(&reader, &[&city(), &province()]).await;
    let found = found.unwrap();
    assert!(found[&province()].is_ok());
    let why = found[&city()].clone().unwrap_err();
    assert!(
        matches!(&why, StoreError::Corrupt(what) if what.contains(city().as_str())),
        "{why}"
    );
    let (one, other) = tokio::join!(store.heads(&city()), store.heads(&province()));
    assert_eq!(one.unwrap_err().to_string(), why.to_string());
    other.unwrap();
}

/// Scenario: of two callers whose hand-overs come at once, one is of a party whose row
/// can't be read.
/// Guarantee: that one alone is refused, as damage.
#[tokio::test]
async fn a_row_that_can_not_be_read_refuses_one_caller() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let store = prepared(&cluster.url(&name)).await;
    store
        .put_party(registered(city(), PartyMode::Local))
        .await
        .unwrap();
    let damage = format!(
        "UPDATE submission_head SET chain = '\\x00' WHERE party = '{}'",
        city()
    );
    sql(cluster, &name, &damage).await;
    // Both are handed in before the writer has its turn.
    let one = store.submit(vec![filing(&city(), "R-1", "isi", None)], at(1));
    let other = store.submit(vec![filing(&national(), "R-1", "isi", None)], at(1));
    let (one, other) = tokio::join!(one, other);
    assert!(matches!(one, Err(StoreError::Corrupt(_))), "{one:?}");
    assert!(other.unwrap()[0].is_ok());
}
