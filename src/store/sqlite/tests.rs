//! The suite on SQLite, and what is SQLite's own.

mod epochs;
mod faults;
mod files;
mod keys;
mod memory;
mod power;
mod power_links;

use std::{path::Path, sync::Arc};

use crate::{
    domain::{Micros, Policy, decide},
    link::WireHeaders,
    runtime::{SystemClock, random_bytes},
    store::{
        AdapterStore, DeadLetter, HubStore, LetterName, LetterQuery, Recovered, StoreError,
        conformance::{self, Engine, Kept},
    },
};

use super::{Decide, NodeRole, Options, SqliteStore, letters, letters_named, recover};

struct Sqlite;

/// Opens a store whose last process has just ended.
async fn reopen(directory: &Path, role: NodeRole) -> Result<SqliteStore, StoreError> {
    for _ in 0..500 {
        match open(directory, role, decide) {
            // The writer's thread lets go a moment after the last handle.
            Err(error) if error.to_string().contains("another process") => {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            outcome => return outcome,
        }
    }
    open(directory, role, decide)
}

fn open(directory: &Path, role: NodeRole, decide: Decide) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(Options {
        directory: directory.to_owned(),
        role,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    })
}

impl Engine for Sqlite {
    fn hub(&self, directory: &Path, decide: Decide) -> Arc<dyn HubStore> {
        Arc::new(once_let_go(|| open(directory, NodeRole::Hub, decide)).unwrap())
    }

    fn node(&self, directory: &Path) -> Arc<dyn AdapterStore> {
        Arc::new(open(directory, NodeRole::Adapter, decide).unwrap())
    }

    fn keep(&self, directory: &Path) -> Kept {
        Kept(std::fs::read(directory.join("jembatan.db")).unwrap())
    }

    fn put_back(&self, directory: &Path, kept: &Kept) {
        std::fs::write(directory.join("jembatan.db"), &kept.0).unwrap();
    }

    fn recover(&self, directory: &Path, now: Micros, dry_run: bool) -> Recovered {
        once_let_go(|| recover(directory.to_owned(), now, dry_run)).unwrap()
    }

    fn letters(&self, directory: &Path, query: &LetterQuery) -> Vec<DeadLetter> {
        letters(directory, query).unwrap()
    }

    fn letters_named(&self, directory: &Path, name: &LetterName) -> Vec<DeadLetter> {
        letters_named(directory, name).unwrap()
    }
}

/// Does something with a store whose last process has just ended: the writer's
/// thread lets go a moment after the last handle.
#[expect(
    clippy::disallowed_methods,
    reason = "the suite opens stores as files are opened"
)]
fn once_let_go<T>(mut act: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..500 {
        match act() {
            Err(error) if error.to_string().contains("another process") => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            outcome => return outcome,
        }
    }
    act()
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_contract_of_stores() {
    conformance::run(&Sqlite).await;
}

/// Scenario: a second process on the same directory; a hub's directory opened
/// as an adapter's.
/// Guarantee: refused, with what to do.
#[tokio::test]
async fn one_process_and_one_role_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), NodeRole::Hub, decide).unwrap();
    let second = open(directory.path(), NodeRole::Hub, decide).err().unwrap();
    assert!(second.to_string().contains("another process"), "{second}");
    drop(first);
    let mut outcome = open(directory.path(), NodeRole::Adapter, decide);
    // The writer's thread lets go a moment after the last handle.
    for _ in 0..100 {
        match &outcome {
            Err(error) if error.to_string().contains("another process") => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                outcome = open(directory.path(), NodeRole::Adapter, decide);
            }
            _ => break,
        }
    }
    let error = outcome.err().unwrap();
    assert!(error.to_string().contains("another directory"), "{error}");
}

/// Scenario: the library that is linked in, and a connection as it is opened.
/// Guarantee: not one of the versions with the WAL-reset bug (3.7.0–3.51.2);
/// commits are synced.
#[test]
fn sqlite_is_sound_and_syncs() {
    assert!(
        rusqlite::version_number() >= 3_051_003,
        "{}",
        rusqlite::version()
    );
    let directory = tempfile::tempdir().unwrap();
    let connection = super::connect(&directory.path().join("x.db")).unwrap();
    let pragma = |name: &str| -> String {
        connection
            .pragma_query_value(None, name, |row| {
                row.get::<_, rusqlite::types::Value>(0)
                    .map(|v| format!("{v:?}"))
            })
            .unwrap()
    };
    assert!(pragma("journal_mode").contains("wal"));
    assert!(pragma("synchronous").contains('2'), "FULL");
}

/// Scenario: many callers read at once, each for a while.
/// Guarantee: no more connections and threads are in use than there are
/// places; nobody is refused.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "it runs on a reader's thread, and being slow is the point"
)]
async fn readers_wait_for_a_place() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NodeRole::Hub, decide).unwrap();
    let reading = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let reads = (0..32).map(|_| {
        let reading = reading.clone();
        store.read(move |_, _| {
            let now = reading.0.fetch_add(1, Ordering::SeqCst) + 1;
            reading.1.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(20));
            reading.0.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    });
    let all = futures_util::future::join_all(reads).await;
    assert!(all.into_iter().all(|outcome| outcome.is_ok()));
    let most = reading.1.load(Ordering::SeqCst);
    assert!(most <= super::READERS, "{most} at once");
}
