//! What stands in memory behind the writer is what stands on disk.

use crate::{
    exchange::Direction,
    store::{JournalEntry, Store as _},
};

use super::{
    super::{SqliteStore, journal},
    faults::{node, numbered, submit},
};
use crate::store::conformance::city;

/// What the disk says, whatever memory knows.
async fn on_disk(store: &SqliteStore, from: u64, most: usize) -> Vec<JournalEntry> {
    let read = store.read(move |connection, _| {
        let state = journal::load_state(connection, &city())?.unwrap();
        journal::read(
            connection,
            &state,
            Direction::Submissions,
            from,
            most,
            usize::MAX,
        )
    });
    read.await.unwrap()
}

async fn read(store: &SqliteStore, from: u64, most: usize) -> Vec<JournalEntry> {
    let party = city();
    let read = crate::store::Store::read(
        store,
        &party,
        Direction::Submissions,
        from,
        most,
        usize::MAX,
    );
    read.await.unwrap()
}

/// Scenario: a reader follows the writer; it falls behind, goes back to the
/// beginning, and goes on; the store forgets everything in between.
/// Guarantee: at every step memory says what the disk says, entries and heads.
#[tokio::test(flavor = "multi_thread")]
async fn memory_says_what_the_disk_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = node(directory.path());
    let mut from = 1;
    for n in 0..40 {
        submit(&store, numbered(n)).await.unwrap().unwrap();
        if n % 10 == 9 {
            store.shared.memory.forget_all();
        }
        // It reads on at two of three steps only.
        if n % 3 == 0 {
            continue;
        }
        let entries = read(&store, from, 100).await;
        assert_eq!(entries, on_disk(&store, from, 100).await, "from {from}");
        assert_eq!(entries.len() as u64, n as u64 + 2 - from);
        from = n as u64 + 2;
        let heads = store.heads(&city()).await.unwrap();
        store.shared.memory.forget_all();
        assert_eq!(heads, store.heads(&city()).await.unwrap());
    }
    assert_eq!(read(&store, from + 1, 100).await, Vec::new(), "nothing yet");
    assert_eq!(read(&store, 1, 7).await, on_disk(&store, 1, 7).await);
}
