//! Moves what the write-ahead log holds into the file. SQLite would do so
//! within the commit that makes the log long, and everybody in that commit
//! would wait for it; here they have had their answers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rusqlite::Connection;

use crate::store::StoreError;

/// Pages in the log from which on it is moved: 64 MiB. Pages that change often
/// are then written into the file once for many commits.
const PAGES: u32 = 8_192;

/// How long the log of the writer's connection is.
pub(super) struct Log {
    pages: Arc<AtomicU32>,
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
        Ok(Self { pages })
    }

    /// After a commit and its answers. What somebody still reads stays for the
    /// next time.
    pub(super) fn move_if_long(&self, connection: &Connection) {
        if self.pages.load(Ordering::Relaxed) < PAGES {
            return;
        }
        let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = moved {
            // Everything is in the log; the next commit tries again.
            tracing::warn!(event = "checkpoint_failed", %error);
        }
    }
}
