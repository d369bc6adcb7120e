//! What goes wrong while the store writes.

use super::*;
use crate::{
    exchange::{Direction, Place, entry_digest},
    store::{
        NewSubmission, Receipt, Store, SubmitRefusal,
        conformance::{at, city, filing},
    },
};

pub(super) fn node(directory: &Path) -> SqliteStore {
    open(directory, NodeRole::Adapter, decide).unwrap()
}

pub(super) fn numbered(n: usize) -> NewSubmission {
    // Long enough that a page holds few of them.
    let text = format!("isi {n} {}", "x".repeat(2_000));
    filing(&city(), &format!("N-{n}"), &text, None)
}

pub(super) async fn submit(
    store: &SqliteStore,
    new: NewSubmission,
) -> Result<Result<Receipt, SubmitRefusal>, StoreError> {
    let mut results = store.submit(vec![new], at(1)).await?;
    Ok(results.remove(0))
}

/// The store may grow by so many pages from now on.
async fn limit_pages(store: &SqliteStore, more: i64) -> Result<(), StoreError> {
    let limited = store.write(move |tx| {
        let pages: i64 = tx
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))?;
        let most = format!("PRAGMA max_page_count = {}", pages.saturating_add(more));
        tx.connection.query_row(&most, [], |_| Ok(()))?;
        Ok(())
    });
    limited.await
}

/// Entries of the city's submissions; their chain is that of the head.
async fn whole_journal(store: &SqliteStore) -> usize {
    let heads = store.heads(&city()).await.unwrap();
    let mut place = Place::root(&city(), Direction::Submissions, heads.epoch);
    loop {
        let from = place.position + 1;
        let page = Store::read(
            store,
            &city(),
            Direction::Submissions,
            from,
            1_000,
            usize::MAX,
        );
        let page = page.await.unwrap();
        if page.is_empty() {
            break;
        }
        for entry in page {
            place = place.after(&entry_digest(Direction::Submissions, &entry.entry));
        }
    }
    assert_eq!(place, heads.submissions);
    place.position as usize
}

/// Scenario: sixty callers at once while the disk has room for few, then more, pages
/// only; then there is room again, and all of them come once more.
/// Guarantee: whoever was told "stored" is there, whoever got an error left
/// nothing behind, and the error says unavailable; then everything flows, and
/// count in = count out.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_loses_nothing_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = node(directory.path());
    let (mut told, mut failed) = (0, 0);
    for round in 0..6 {
        limit_pages(&store, 6 + 12 * round).await.unwrap();
        let numbers: Vec<usize> = (0..60).map(|n| round as usize * 60 + n).collect();
        let calls = numbers.iter().map(|n| submit(&store, numbered(*n)));
        let outcomes = futures_util::future::join_all(calls).await;
        limit_pages(&store, 1_000_000).await.unwrap();
        for (n, outcome) in numbers.iter().zip(outcomes) {
            let was_told = match &outcome {
                Ok(receipt) => {
                    assert!(!receipt.as_ref().unwrap().repeated);
                    true
                }
                Err(StoreError::Unavailable(why)) => {
                    assert!(why.contains("full"), "{why}");
                    false
                }
                Err(other) => panic!("{other:?}"),
            };
            let again = submit(&store, numbered(*n)).await.unwrap().unwrap();
            assert_eq!(again.repeated, was_told, "submission {n}");
            match was_told {
                true => told += 1,
                false => failed += 1,
            }
        }
    }
    assert!(told > 0 && failed > 0, "{told} told, {failed} failed");
    assert_eq!(whole_journal(&store).await, told + failed);
}

/// Scenario: another process holds the file's write lock when the writer wants
/// to begin, for longer than it waits.
/// Guarantee: callers hear "unavailable", not that the store is closed; when
/// the lock is gone the store goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_can_t_begin_is_told_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = node(directory.path());
    let impatient = store.write(|tx| {
        let short = std::time::Duration::from_millis(20);
        Ok(tx.connection.busy_timeout(short)?)
    });
    impatient.await.unwrap();
    let other = rusqlite::Connection::open(directory.path().join("jembatan.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let calls = (0..5).map(|n| submit(&store, numbered(n)));
    for outcome in futures_util::future::join_all(calls).await {
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{outcome:?}"
        );
    }
    other.execute_batch("ROLLBACK").unwrap();
    let again = submit(&store, numbered(0)).await.unwrap().unwrap();
    assert!(!again.repeated);
    assert_eq!(whole_journal(&store).await, 1);
}

/// Scenario: a write panics in the middle, after it has changed rows, among
/// forty others of the same moment.
/// Guarantee: it alone fails and leaves nothing; the others are stored; the
/// store goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_panics_takes_nobody_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = node(directory.path());
    for round in 0..5 {
        let calls = (0..40).map(|n| submit(&store, numbered(round * 40 + n)));
        let panicking = store.write(move |tx| -> Result<(), StoreError> {
            tx.state(&city())?.counts.parked = 99;
            tx.connection.execute("DELETE FROM submission", [])?;
            tx.connection.execute("DELETE FROM complaint_key", [])?;
            panic!("on purpose");
        });
        let (outcomes, panicked) =
            futures_util::future::join(futures_util::future::join_all(calls), panicking).await;
        assert!(
            matches!(panicked, Err(StoreError::Unavailable(_))),
            "{panicked:?}"
        );
        for outcome in outcomes {
            assert!(!outcome.unwrap().unwrap().repeated);
        }
    }
    assert_eq!(whole_journal(&store).await, 200);
    assert_eq!(store.counts(&city()).await.unwrap().parked, 0);
    store.probe().await.unwrap();
}

/// Scenario: the commit itself fails after every job has done its work: a
/// deferred constraint is broken.
/// Guarantee: nobody of that transaction is told "stored", nothing of it is
/// there, and the next one is as ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_told_to_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = node(directory.path());
    let schema = store.write(|tx| {
        tx.connection.execute_batch(
            "CREATE TABLE a (id INTEGER PRIMARY KEY); \
             CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED);",
        )?;
        Ok(())
    });
    schema.await.unwrap();
    let new = numbered(0);
    let failing = store.write(move |tx| {
        let stored = tx.submit_own(&new, at(1))?;
        assert!(stored.is_ok());
        tx.connection.execute("INSERT INTO b VALUES (1)", [])?;
        Ok(())
    });
    let outcome = failing.await;
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
    assert_eq!(whole_journal(&store).await, 0);
    let again = submit(&store, numbered(0)).await.unwrap().unwrap();
    assert!(!again.repeated);
}
