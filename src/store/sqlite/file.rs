//! The store's file: is it there, and is it whole? A store that was here once
//! is never silently begun anew, and a damaged one is never written over.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::StoreError;

use super::{Options, blob16, damaged};

const WHAT_TO_DO: &str = "leave the file as it is and restore the directory from a backup (docs/operate.md); \
     the node of a region may also begin in a new, empty directory: it takes back from the hub what the hub has";

fn lost(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!("{} {what}: {WHAT_TO_DO}", path.display()))
}

/// Only its owner may look into it.
pub(super) fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let failed = |error| {
        StoreError::Unavailable(format!(
            "the data directory {} can't be made: {error}",
            directory.display()
        ))
    };
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// One process at a time: a second one would decide beside the first.
pub(super) fn lock(directory: &Path) -> Result<fs::File, StoreError> {
    let path = directory.join("lock");
    let mut how = fs::OpenOptions::new();
    // Not emptied: what stands in it says that a store was made here.
    how.read(true).append(true).create(true);
    let file = how.open(&path).map_err(|error| {
        StoreError::Unavailable(format!("{} can't be made: {error}", path.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Invalid(format!(
            "another process uses the data directory {}: stop it, or configure another directory",
            directory.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::Unavailable(format!(
            "{} can't be locked: {error}",
            path.display()
        ))),
    }
}

/// Refuses a directory that has held a store whose file is gone or empty:
/// SQLite would make a new one in its place.
///
/// # Errors
/// [`StoreError::Corrupt`], with what to do.
pub(super) fn check_presence(path: &Path, lock: &mut fs::File) -> Result<(), StoreError> {
    let length = fs::metadata(path).map_or(0, |found| found.len());
    if length > 0 {
        return Ok(());
    }
    let mut held = String::new();
    // Unreadable says nothing about the store.
    let _ = lock.read_to_string(&mut held);
    let has_log = fs::metadata(path.with_extension("db-wal")).is_ok_and(|found| found.len() > 0);
    if held.trim().is_empty() && !has_log {
        return Ok(());
    }
    Err(lost(
        path,
        "is missing or empty, although this directory has held a store",
    ))
}

/// Notes in the lock file that a store has been made here.
pub(super) fn note_presence(lock: &mut fs::File, instance_id: &[u8; 16]) -> Result<(), StoreError> {
    let is_noted = lock.metadata().is_ok_and(|found| found.len() > 0);
    if is_noted {
        return Ok(());
    }
    writeln!(lock, "{}", hex::encode(instance_id))
        .and_then(|()| lock.sync_all())
        .map_err(|error| {
            StoreError::Unavailable(format!("the lock file can't be written: {error}"))
        })
}

/// Says where the damage is and what to do; other errors stay as they are.
pub(super) fn explain(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(why) => lost(path, &format!("is damaged ({why})")),
        other => other,
    }
}

/// Why a migration failed: a newer program's file, a damaged one, or something
/// that may pass.
pub(super) fn explain_migration(
    connection: &Connection,
    path: &Path,
    error: &refinery::Error,
) -> StoreError {
    use refinery::error::Kind;
    if let Kind::MissingVersion(migration) | Kind::DivergentVersion(migration, _) = error.kind() {
        return StoreError::Invalid(format!(
            "{} was written by a newer version of this program (its schema has {migration}, which this one does not know), and is left as it is: \
             start the newer version, or put back the copy that was made before the update (docs/operate.md, \"Updates and the way back\")",
            path.display()
        ));
    }
    let found: Result<String, StoreError> = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(StoreError::from);
    match found {
        Ok(verdict) if verdict == "ok" => {
            StoreError::Unavailable(format!("migrating {}: {error}", path.display()))
        }
        Ok(_) => lost(path, "is damaged"),
        Err(error) => explain(path, error),
    }
}

/// What makes this store itself: made once.
pub(super) fn identify(
    connection: &Connection,
    options: &Options,
) -> Result<([u8; 16], Vec<u8>), StoreError> {
    let (instance, key) = options.seed.split_at(16);
    connection.execute(
        "INSERT OR IGNORE INTO node (one, role, instance_id, dedup_key) VALUES (1, ?1, ?2, ?3)",
        params![options.role.name(), instance, key],
    )?;
    let found: Option<(String, Vec<u8>, Vec<u8>)> = connection
        .query_row("SELECT role, instance_id, dedup_key FROM node", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let (role, instance_id, dedup_key) = found.ok_or_else(|| damaged("the node's own row"))?;
    if role != options.role.name() {
        return Err(StoreError::Invalid(format!(
            "the data directory {} belongs to a node of the role {role:?}; this one is of the role {:?}: configure another directory",
            options.directory.display(),
            options.role.name()
        )));
    }
    Ok((blob16(&instance_id)?, dedup_key))
}
