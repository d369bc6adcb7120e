//! Moves what the write-ahead log holds into the file. SQLite would do so
//! within the commit that makes the log long, and everybody in that commit
//! would wait for it; here they have had their answers.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rusqlite::Connection;

use crate::store::StoreError;

/// Pages in the log from which on it is moved: 64 MiB. Pages that change often
/// are then written into the file once for many commits.
const PAGES: u32 = 8_192;

/// How long the log of the writer's connection is.
pub(super) struct Log {
    pages: Arc<AtomicU32>,
    /// From so many pages on it is tried again after a failure.
    retry_from: Cell<u32>,
}

impl Log {
    /// Takes the task over from SQLite on this connection.
    pub(super) fn of(connection: &mut Connection) -> Result<Self, StoreError> {
        let pages = Arc::new(AtomicU32::new(0));
        let counted = pages.clone();
        // A hook of one's own replaces SQLite's, which does the same in the commit.
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            counted.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            pages,
            retry_from: Cell::new(PAGES),
        })
    }

    /// After a commit and its answers. What somebody still reads stays for the
    /// next time.
    pub(super) fn move_if_long(&self, connection: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.retry_from.get() {
            return;
        }
        let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        self.retry_from.set(PAGES);
        if let Err(error) = moved {
            // Everything is in the log; a later commit tries again.
            self.retry_from.set(pages.saturating_add(PAGES / 8));
            tracing::warn!(event = "checkpoint_failed", %error);
        }
    }
}
