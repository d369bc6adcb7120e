//! Copies of a store: made while its node runs, marked, checked, put in place.
//!
//! Invariants: a copy is one moment of the store, whole or not there; it
//! carries a mark of its own, so that a hub never serves from it by mistake;
//! nothing that is there is written over unless a person says so.
//!
//! The copy is read through a connection of its own that holds one snapshot:
//! the node's writer never waits for it. Meanwhile the write-ahead log can't
//! be folded in, so it grows by what is written while the copy is made.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, backup::Backup};

use crate::{domain::Micros, store::StoreError};

use super::{
    NodeRole, connect,
    epoch::own_row,
    file::{self, lock, make_directory},
    migrations,
};

/// The store's file in a data directory, and the usual name of its copy.
pub(super) const FILE: &str = "jembatan.db";
/// Pages of one step: 4 MiB.
const STEP_PAGES: i32 = 1_024;

/// What a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFacts {
    /// Where it stands.
    pub path: PathBuf,
    /// Of a node of which role.
    pub role: String,
    /// Of which instance.
    pub instance_id: [u8; 16],
    /// When it was made.
    pub copied_at: Option<Micros>,
    /// Its size.
    pub bytes: u64,
}

/// Copies the store of a data directory, whether its node runs or not, into a
/// file, or into a directory under the name of a store.
///
/// # Errors
/// [`StoreError::Invalid`] if something stands there already, or there is no
/// store; [`StoreError::Unavailable`] if it can't be read or written.
pub fn backup(directory: &Path, target: &Path, now: Micros) -> Result<CopyFacts, StoreError> {
    let source = directory.join(FILE);
    if !source.is_file() {
        return Err(StoreError::Invalid(format!(
            "{} is not there: is this the configuration of a node that has run?",
            source.display()
        )));
    }
    let target = if target.is_dir() {
        target.join(FILE)
    } else {
        target.to_owned()
    };
    refuse_existing(&target)?;
    let unfinished = target.with_extension("unfinished");
    let made = copy(&source, &unfinished, now)
        .and_then(|()| check(&unfinished))
        .and_then(|facts| {
            // Linking refuses what came to stand there meanwhile.
            fs::hard_link(&unfinished, &target)
                .map_err(|error| cant(&target, "be made", &error))?;
            Ok(facts)
        });
    let _ = fs::remove_file(&unfinished);
    let facts = made?;
    sync_directory_of(&target)?;
    Ok(CopyFacts {
        path: target,
        ..facts
    })
}

fn copy(source: &Path, target: &Path, now: Micros) -> Result<(), StoreError> {
    let from = Connection::open_with_flags(
        source,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    from.busy_timeout(Duration::from_secs(10))?;
    // One snapshot for all steps: what the node writes meanwhile is not in it.
    from.execute_batch("BEGIN; SELECT count(*) FROM node;")
        .map_err(|error| file::explain(source, error.into()))?;
    let made = private_file(target)?;
    drop(made);
    let mut to = Connection::open(target)?;
    {
        let backup = Backup::new(&from, &mut to)?;
        loop {
            use rusqlite::backup::StepResult;
            match backup.step(STEP_PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::yield_now(),
            }
        }
    }
    from.execute_batch("COMMIT")?;
    // One file, without a log beside it.
    to.pragma_update(None, "journal_mode", "DELETE")?;
    to.pragma_update(None, "synchronous", "FULL")?;
    migrations::migrations::runner()
        .run(&mut to)
        .map_err(|error| file::explain_migration(&to, target, &error))?;
    to.execute("UPDATE node SET copied_at = ?1", [now.0])?;
    to.close().map_err(|(_, error)| error)?;
    fs::File::open(target)
        .and_then(|file| file.sync_all())
        .map_err(|error| cant(target, "be written", &error))
}

/// Says what a copy is, once SQLite has found it whole.
///
/// # Errors
/// [`StoreError::Invalid`] if it is no copy; [`StoreError::Corrupt`] if it is
/// damaged.
pub fn check(copy: &Path) -> Result<CopyFacts, StoreError> {
    let no_copy = |why: String| {
        StoreError::Invalid(format!(
            "{} is not a copy that `jembatan backup` made: {why}",
            copy.display()
        ))
    };
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| no_copy(error.to_string()))?;
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| no_copy(error.to_string()))?;
    if verdict != "ok" {
        return Err(StoreError::Corrupt(format!(
            "the copy {} ({verdict}): use an older one",
            copy.display()
        )));
    }
    let (role, instance_id) = own_row(&connection).map_err(|error| no_copy(error.to_string()))?;
    let copied_at: Option<i64> = connection
        .query_row("SELECT copied_at FROM node", [], |row| row.get(0))
        .map_err(|_| no_copy("it comes from an older version without the mark".to_owned()))?;
    if copied_at.is_none() {
        return Err(no_copy("it carries no mark".to_owned()));
    }
    let bytes = fs::metadata(copy).map_or(0, |found| found.len());
    Ok(CopyFacts {
        path: copy.to_owned(),
        role,
        instance_id,
        copied_at: copied_at.map(Micros),
        bytes,
    })
}

/// Puts a copy into a data directory, still marked. What stands there is moved
/// into a directory beside it, and only with `force`.
///
/// # Errors
/// [`StoreError::Invalid`] if the copy is of a node of another role, a node
/// runs there, or the directory holds a store and `force` is not given.
pub fn restore(
    copy: &Path,
    directory: &Path,
    role: NodeRole,
    force: bool,
    now: Micros,
) -> Result<(CopyFacts, Option<PathBuf>), StoreError> {
    let copy = if copy.is_dir() {
        copy.join(FILE)
    } else {
        copy.to_owned()
    };
    let facts = check(&copy)?;
    if facts.role != role.name() {
        return Err(StoreError::Invalid(format!(
            "{} is of a node of the role {:?}; this configuration is of the role {:?}",
            copy.display(),
            facts.role,
            role.name()
        )));
    }
    let is_new = !directory.is_dir();
    make_directory(directory)?;
    let mut held = lock(directory)?;
    let before: Vec<PathBuf> = ["jembatan.db", "jembatan.db-wal", "jembatan.db-shm"]
        .iter()
        .map(|name| directory.join(name))
        .filter(|path| path.exists())
        .collect();
    let has_more = !is_new
        && fs::read_dir(directory)
            .map_err(|error| cant(directory, "be read", &error))?
            .flatten()
            .any(|entry| entry.file_name() != "lock");
    if has_more && !force {
        return Err(StoreError::Invalid(format!(
            "{} is not empty: with --force what is there is moved aside, and nothing is deleted",
            directory.display()
        )));
    }
    let aside = if before.is_empty() {
        None
    } else {
        let aside = directory.join(format!("replaced-{}", now.0 / 1_000_000));
        make_directory(&aside)?;
        for path in before {
            if let Some(name) = path.file_name() {
                fs::rename(&path, aside.join(name))
                    .map_err(|error| cant(&path, "be moved aside", &error))?;
            }
        }
        Some(aside)
    };
    let place = directory.join(FILE);
    let unfinished = place.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut to = private_file(&unfinished)?;
    // As root, which stops and starts the service: its user must be able to open it.
    for file in [&to, &held] {
        give_to_owner(directory, file)
            .map_err(|error| cant(directory, "give what is restored to its owner", &error))?;
    }
    fs::File::open(&copy)
        .and_then(|mut from| std::io::copy(&mut from, &mut to))
        .and_then(|_| to.sync_all())
        .and_then(|()| fs::rename(&unfinished, &place))
        .map_err(|error| cant(&place, "be written", &error))?;
    sync_directory_of(&place)?;
    file::note_presence(&mut held, &facts.instance_id)?;
    Ok((facts, aside))
}

/// Opens the store of a node that does not run, and keeps one from starting.
pub(super) fn open_existing(
    directory: &Path,
    role: NodeRole,
) -> Result<(fs::File, Connection), StoreError> {
    let path = directory.join(FILE);
    if !path.is_file() {
        return Err(StoreError::Invalid(format!(
            "{} is not there: nothing to recover",
            path.display()
        )));
    }
    let held = lock(directory)?;
    let mut connection = connect(&path).map_err(|error| file::explain(&path, error))?;
    migrations::migrations::runner()
        .run(&mut connection)
        .map_err(|error| file::explain_migration(&connection, &path, &error))?;
    let (found, _) = own_row(&connection)?;
    if found != role.name() {
        return Err(StoreError::Invalid(format!(
            "{} is of a node of the role {found:?}: only the hub's operator begins an epoch",
            path.display()
        )));
    }
    Ok((held, connection))
}

fn refuse_existing(target: &Path) -> Result<(), StoreError> {
    if target.exists() {
        return Err(StoreError::Invalid(format!(
            "{} is there already: name another file, nothing is written over",
            target.display()
        )));
    }
    Ok(())
}

/// Gives a file to the user and group of the data directory, whose node opens it.
#[cfg(unix)]
fn give_to_owner(directory: &Path, file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let (wanted, found) = (fs::metadata(directory)?, file.metadata()?);
    if wanted.uid() == found.uid() {
        return Ok(());
    }
    fchown(file, Some(wanted.uid()), Some(wanted.gid()))
}

#[cfg(not(unix))]
fn give_to_owner(_: &Path, _: &fs::File) -> std::io::Result<()> {
    Ok(())
}

/// A new file that only its owner reads: it holds what citizens wrote.
fn private_file(path: &Path) -> Result<fs::File, StoreError> {
    let mut how = fs::OpenOptions::new();
    how.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        how.mode(0o600);
    }
    how.open(path)
        .map_err(|error| cant(path, "be made", &error))
}

fn sync_directory_of(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().filter(|found| !found.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::File::open(parent)
        .and_then(|found| found.sync_all())
        .map_err(|error| cant(parent, "be written", &error))
}

fn cant(path: &Path, what: &str, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{} can't {what}: {error}", path.display()))
}
