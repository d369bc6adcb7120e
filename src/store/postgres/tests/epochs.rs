//! Who may be at work while an epoch begins, and who may go on after it.

use futures_util::FutureExt as _;

use super::*;
use crate::store::{
    Store as _,
    conformance::{city, filing, province},
    postgres::{connect::Database, guard::keep_others_out},
};

/// Later than any clock of a test.
fn later() -> Micros {
    Micros(at(0).0 * 2)
}

async fn begin(cluster: &Cluster, database: &str) -> Result<Recovered, StoreError> {
    recover(&settings(&cluster.url(database)), later(), false).await
}

/// As the operator would who stops the server's sessions, or a network that is cut.
async fn cut_off(cluster: &Cluster, database: &str) {
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    );
    sql(cluster, "postgres", &cut).await;
}

/// Whether this hub ends up refusing for good, and tells whoever has it to end.
async fn is_left_behind(hub: &PostgresStore) -> bool {
    for _ in 0..100 {
        match hub.probe().await {
            Err(error) if error.to_string().contains("started anew") => {
                let read = hub.heads(&city()).await;
                let told = hub.left_behind().now_or_never();
                return read.is_err() && told.is_some();
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    false
}

/// Scenario: `recover` on a database that two hubs serve from; on one that nobody
/// has served from; and by two operators at once.
/// Guarantee: refused, with the sessions that are in the way, and nothing has
/// changed; both operators' epochs begin one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_begins_alone() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let before = pair.world.hub.heads(&city()).await.unwrap();
    let refused = begin(cluster, &pair.database)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("stop every hub"), "{refused}");
    assert!(refused.contains("pid"), "{refused}");
    assert_eq!(pair.world.hub.heads(&city()).await.unwrap(), before);

    let empty = database(cluster).await;
    let refused = begin(cluster, &empty).await.unwrap_err().to_string();
    assert!(refused.contains("no hub has ever served"), "{refused}");

    pair.world.hub.close().await;
    pair.second.close().await;
    let (one, other) = tokio::join!(
        begin(cluster, &pair.database),
        begin(cluster, &pair.database)
    );
    let mut ended = [one.unwrap(), other.unwrap()].map(|done| done.parties[0].ended_epoch);
    ended.sort_unstable();
    assert_eq!(ended[1], (later().0 / 1_000_000) as u64);
}

/// Scenario: a hub has no connection for a while, and an epoch begins meanwhile;
/// another hub starts after it.
/// Guarantee: the first one writes and reads nothing any more, whatever it has
/// in its memory, and tells its owner to end; the other one serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_missed_the_new_epoch_is_left_behind() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    pair.world.hub.close().await;
    let filed = filing(&province(), "E-1", "isi", None);
    send(&*pair.second, &province(), &[filed]).await;
    let url = cluster.url(&pair.database);
    // The hub may come back before the lock is taken: then once more.
    for _ in 0..20 {
        cut_off(cluster, &pair.database).await;
        if begin(cluster, &pair.database).await.is_ok() {
            break;
        }
    }
    assert!(is_left_behind(&pair.second).await);
    let fresh = open(&url, decide).await.unwrap();
    let heads = fresh.heads(&province()).await.unwrap();
    assert_eq!(heads.epoch, (later().0 / 1_000_000) as u64);
    fresh.close().await;
}

/// Scenario: a database is put back to an earlier state under a hub that runs on.
/// Guarantee: the hub notices by what it has committed itself, before it writes
/// or reads anything there, and says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_under_a_hub_is_noticed() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    pair.world.hub.close().await;
    let name = &pair.database;
    let filed = filing(&province(), "E-1", "isi", None);
    send(&*pair.second, &province(), &[filed]).await;
    // A copy of a database that is in use is not made: the copy is of a moment
    // without a session, and the hub comes back after it.
    let old = format!("old_{name}");
    for _ in 0..50 {
        cut_off(cluster, name).await;
        let copy = format!("CREATE DATABASE {old} TEMPLATE {name}");
        if try_sql(cluster, "postgres", &copy).await.is_ok() {
            break;
        }
    }
    let filed = filing(&province(), "E-2", "isi", None);
    for _ in 0..50 {
        let expected = pair.second.heads(&province()).await;
        if let Ok(heads) = expected {
            let batch = frame(heads.submissions, std::slice::from_ref(&filed));
            if pair.second.accept(&province(), batch).await.is_ok() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stored = value(cluster, name, "SELECT count(*) FROM submission").await;
    assert_eq!(stored, 2);
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    sql(cluster, "postgres", &drop).await;
    let rename = format!("ALTER DATABASE {old} RENAME TO {name}");
    sql(cluster, "postgres", &rename).await;
    assert!(is_left_behind(&pair.second).await);
    assert_eq!(
        value(cluster, name, "SELECT count(*) FROM submission").await,
        1
    );
    let done = begin(cluster, name).await.unwrap();
    let of_province = done.parties.iter().find(|found| found.party == province());
    assert_eq!(of_province.unwrap().submissions, 1);
}

/// Scenario: an operator begins a new epoch of a large record, which takes longer
/// than a statement of a hub may wait for a lock; a hub is started meanwhile.
/// Guarantee: it waits until the operator is done, and serves; it does not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_started_meanwhile_waits() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    pair.world.hub.close().await;
    pair.second.close().await;
    let url = cluster.url(&pair.database);
    let operator = Database::for_operator(&settings(&url)).unwrap();
    let operator = operator.patient_line().await.unwrap();
    keep_others_out(&operator).await.unwrap();
    let begin = "BEGIN; UPDATE node SET recovered = recovered + 1";
    operator.client().batch_execute(begin).await.unwrap();
    let starting = tokio::spawn(async move { open(&url, decide).await });
    // Longer than it would wait for the row.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!starting.is_finished(), "it waits");
    operator.client().batch_execute("COMMIT").await.unwrap();
    drop(operator);
    let hub = starting.await.unwrap().unwrap();
    hub.probe().await.unwrap();
    hub.close().await;
}

/// Scenario: a database goes back behind a hub that is cut off from it, to before
/// the hub's row was there; another hub gets the same row's number, and commits
/// more than the first one had; then the first one reaches the database again.
/// Guarantee: it knows that the row is not its own, and ends; the other one's
/// commits stand.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_another_hubs_is_noticed() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let url = cluster.url(&name);
    let first = open(&url, decide).await.unwrap();
    first.probe().await.unwrap();
    let row = value(cluster, &name, "SELECT id FROM replica").await;
    let back = format!("DELETE FROM replica; ALTER TABLE replica ALTER id RESTART WITH {row}");
    sql(cluster, &name, &back).await;
    let other = open(&url, decide).await.unwrap();
    for _ in 0..5 {
        other.probe().await.unwrap();
    }
    assert_eq!(value(cluster, &name, "SELECT id FROM replica").await, row);
    let ahead = "SELECT batch FROM replica";
    assert!(value(cluster, &name, ahead).await >= 5);
    cut_off(cluster, &name).await;
    assert!(is_left_behind(&first).await);
    other.probe().await.unwrap();
    other.close().await;
}

/// Scenario: a program that knows nothing of ended epochs, after one has ended.
/// Guarantee: the schema shuts it out; what was refused is listed without a hub.
#[tokio::test(flavor = "multi_thread")]
async fn older_programs_are_shut_out_by_an_ended_epoch() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let first = filing(&province(), "E-1", "isi", None);
    let second = filing(&province(), "E-2", "lain", Some(first.event.key.as_str()));
    send(&*pair.second, &province(), &[first, second]).await;
    pair.world.hub.close().await;
    pair.second.close().await;
    let readable = "SELECT readable_from::bigint FROM schema_use";
    assert_eq!(value(cluster, &pair.database, readable).await, 1);
    begin(cluster, &pair.database).await.unwrap();
    assert_eq!(value(cluster, &pair.database, readable).await, 4);
    let settings = settings(&cluster.url(&pair.database));
    let mut query = LetterQuery {
        limit: 10,
        ..LetterQuery::default()
    };
    let found = letters(&settings, &query).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].position, &found[0].party), (2, &province()));
    query.party = Some(city());
    assert_eq!(letters(&settings, &query).await.unwrap(), Vec::new());
}
