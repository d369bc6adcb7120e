//! The file is damaged, cut short, or gone.

use std::fs;

use super::*;
use crate::store::{
    Store,
    conformance::{at, city, filing},
};

/// A store's directory with fifty submissions, closed.
async fn filled() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NodeRole::Adapter, decide).unwrap();
    let batch = (0..50).map(|n| filing(&city(), &format!("F-{n}"), "isi", None));
    store.submit(batch.collect(), at(1)).await.unwrap();
    store.close().await;
    directory
}

/// Waits until nobody holds the store any more: then it is a wrong role that
/// keeps it from opening, and nothing is changed by trying.
async fn released(directory: &Path) {
    let error = reopen(directory, NodeRole::Hub).await.err().unwrap();
    assert!(error.to_string().contains("role"), "{error}");
}

/// Scenario: the file's first page is garbage; all of it is text; it is cut in
/// half; it is empty; it is gone; only its log is left of it.
/// Guarantee: opening fails each time, and says which file, what is wrong and
/// what to do; nothing is made or written in its place, so that a later look at
/// the file still finds what was there.
#[tokio::test]
async fn a_damaged_store_is_named_and_never_begun_anew() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("first page", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[..4_096].fill(0xa5);
            fs::write(path, bytes).unwrap();
        }),
        ("text", |path| fs::write(path, "no database").unwrap()),
        ("cut short", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("only its log", |path| {
            fs::rename(path, path.with_extension("db-wal")).unwrap();
            fs::write(path.with_file_name("lock"), "").unwrap();
        }),
    ];
    for (what, damage) in damages {
        let directory = filled().await;
        let path = directory.path().join("jembatan.db");
        released(directory.path()).await;
        damage(&path);
        let before = fs::read(&path).ok();
        let error = reopen(directory.path(), NodeRole::Adapter).await;
        let error = error.err().expect(what);
        assert!(matches!(error, StoreError::Corrupt(_)), "{what}: {error:?}");
        let text = error.to_string();
        for said in [&*path.display().to_string(), "restore", "backup"] {
            assert!(text.contains(said), "{what}: {text}");
        }
        assert_eq!(fs::read(&path).ok(), before, "{what}: it was touched");
    }
}

/// Scenario: a page in the middle is garbage, found when it is read.
/// Guarantee: an error that says damaged, not an empty answer.
#[tokio::test]
async fn damage_in_the_middle_is_an_error() {
    let directory = filled().await;
    let path = directory.path().join("jembatan.db");
    released(directory.path()).await;
    let mut bytes = fs::read(&path).unwrap();
    let root: i64 = {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'submission'";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let from = (root as usize - 1) * 8_192;
    bytes[from..from + 8_192].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let store = reopen(directory.path(), NodeRole::Adapter).await.unwrap();
    let direction = crate::exchange::Direction::Submissions;
    let outcome = Store::read(&store, &city(), direction, 1, 100, usize::MAX).await;
    assert!(
        matches!(outcome, Err(StoreError::Corrupt(_))),
        "{outcome:?}"
    );
}

/// Scenario: root puts a copy in place, in an empty data directory of the service's
/// user, and over a store that is there. (Needs root: nobody else gives files away.)
/// Guarantee: what the node opens belongs to the directory's owner, and only he
/// reads it: the service starts.
#[tokio::test]
async fn what_root_restores_is_the_directorys_owners() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let from = filled().await;
    let place = tempfile::tempdir().unwrap();
    let (copy, data) = (place.path().join("copy.db"), place.path().join("data"));
    crate::store::sqlite::backup(from.path(), &copy, at(2)).unwrap();
    fs::create_dir(&data).unwrap();
    if let Err(error) = chown(&data, Some(4_242), Some(4_243)) {
        let is_required = std::env::var("CI").as_deref() == Ok("true");
        assert!(!is_required, "root is required with CI=true: {error}");
        #[allow(clippy::print_stderr)]
        {
            eprintln!("NOT RUN: only root gives files away ({error})");
        }
        return;
    }
    for second in [3, 4] {
        crate::store::sqlite::restore(&copy, &data, NodeRole::Adapter, true, at(second)).unwrap();
        for name in ["jembatan.db", "lock"] {
            let found = fs::metadata(data.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (4_242, 4_243), "{name}");
        }
        let mode = fs::metadata(data.join("jembatan.db")).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
