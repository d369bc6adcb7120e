//! Who may use the database: hubs, any number at once, or one operator who
//! begins a new epoch, and nobody beside.
//!
//! Every session of a hub holds a shared lock for as long as it lives, also one
//! whose process is gone and whose statement the server still carries out. Who
//! begins an epoch holds the same lock alone.
//!
//! Invariants: no session of a hub writes while an epoch is begun; no hub goes
//! on that holds something in its memory (links, tokens, places) of an epoch
//! that was ended behind its back, or of a state of the database that was put
//! back to an earlier one. A hub's own row tells: a database that lacks what
//! this hub has committed has gone back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{runtime::random_bytes, store::StoreError};

use super::{
    connect::Line,
    left_behind::LeftBehind,
    rows::number,
    session::{Session, maybe, one, rows},
};

/// How often the lock is asked for alone before its holders are named: the
/// server sees a moment later that a hub has ended.
const ASKED: u32 = 50;
/// The pause between two times.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

const RECOVERING: &str =
    "`jembatan recover` is at work on this database: hubs wait until it has ended";

const BEGUN: &str = "a new epoch was begun while this hub ran: it has to be started anew";
const GONE_BACK: &str = "the database has gone back: it lacks what this hub has committed, which has to be \
     started anew. Stop every hub, look with `jembatan recover --dry-run` at what is kept, begin a new \
     epoch with `jembatan recover`, and start the hubs again";

const SHARED: &str = "SELECT pg_try_advisory_lock_shared(7301, 3)";
const ALONE: &str = "SELECT pg_try_advisory_lock(7301, 3)";
const RECOVERED: &str = "SELECT recovered FROM node";
const OWN_ROW: &str = "SELECT generation, batch FROM replica WHERE id = $1";

/// Lines that a hub's writer may take, also in vain, while it has no answer. The
/// first generation of each hub is drawn from far more.
const LINES_AT_MOST: i64 = 1 << 30;

/// Sessions that hold the lock, and those of programs that do not know it yet.
const OTHERS: &str = "SELECT coalesce(host(a.client_addr), 'this machine'), a.pid, \
         to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') \
     FROM pg_stat_activity a \
     WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() \
         AND (a.application_name = 'jembatan hub' OR a.pid IN ( \
             SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
             WHERE d.datname = current_database() AND l.locktype = 'advisory' \
                 AND l.classid = 7301 AND l.objid = 3 AND l.objsubid = 2 AND l.granted)) \
     ORDER BY a.backend_start";

/// What a hub knows of its database.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// When the last epoch was begun, as it was when this hub opened.
    recovered: u64,
    own: Option<Own>,
}

/// A hub's own row, as it last was for sure. A database that went back may give
/// its id once more, to another hub: that one's generations begin elsewhere.
#[derive(Debug, Clone, Copy)]
struct Own {
    replica: i64,
    generation: i64,
    batch: i64,
}

impl Own {
    /// Whether a row of this id is this hub's, and no older than it was.
    fn is_in(self, generation: i64, batch: i64) -> bool {
        let lines = generation.checked_sub(self.generation);
        batch >= self.batch && lines.is_some_and(|lines| (0..LINES_AT_MOST).contains(&lines))
    }
}

/// What every session of one hub has to pass. An operator's command has none of
/// this: it is not armed.
#[derive(Debug, Default)]
pub(super) struct Guard {
    known: Mutex<Option<Known>>,
    /// Why no session is let in any more.
    pub(super) left_behind: LeftBehind,
}

impl Guard {
    /// From now on this is a hub's, whose session [`come_in`] has let in.
    ///
    /// # Errors
    /// The server's own.
    pub(super) async fn arm(&self, session: &Session) -> Result<(), StoreError> {
        let recovered = number(&one(session, RECOVERED, &[]).await?, 0)?;
        *self.known() = Some(Known {
            recovered,
            own: None,
        });
        Ok(())
    }

    /// This hub's writer has its row.
    pub(super) fn taken(&self, replica: i64, generation: i64, batch: i64) {
        if let Some(known) = &mut *self.known() {
            known.own = Some(Own {
                replica,
                generation,
                batch,
            });
        }
    }

    /// This hub's writer has committed.
    pub(super) fn committed(&self, batch: i64) {
        if let Some(own) = self.known().as_mut().and_then(|known| known.own.as_mut()) {
            own.batch = batch;
        }
    }

    /// This hub's row goes, and the hub with it.
    pub(super) fn leaves(&self) {
        if let Some(known) = &mut *self.known() {
            known.own = None;
        }
    }

    /// Lets a session of this hub in.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: somebody begins a new epoch, or it was begun
    /// since this hub opened, or the database has gone back. Of the last two no
    /// session is let in any more.
    pub(super) async fn admit(&self, session: &Session) -> Result<(), StoreError> {
        // What is committed meanwhile is newer than what is read below.
        let Some(known) = *self.known() else {
            return Ok(());
        };
        if !is_shared(session).await? {
            return Err(StoreError::Unavailable(RECOVERING.to_owned()));
        }
        let recovered = maybe(session, RECOVERED, &[]).await?;
        let recovered = recovered.map(|row| number(&row, 0)).transpose()?;
        let has_gone_back = match known.own {
            None => false,
            Some(own) => match maybe(session, OWN_ROW, &[&own.replica]).await? {
                None => true,
                Some(row) => !own.is_in(row.try_get(0)?, row.try_get(1)?),
            },
        };
        let is_older = recovered.is_none_or(|recovered| recovered < known.recovered);
        if recovered.is_some_and(|recovered| recovered > known.recovered) {
            self.left_behind.end(BEGUN, BEGUN);
        } else if is_older || (has_gone_back && self.has_row(known)) {
            self.left_behind.end(GONE_BACK, GONE_BACK);
        }
        self.left_behind.check()
    }

    /// Whether the row was not taken away by this hub itself meanwhile.
    fn has_row(&self, known: Known) -> bool {
        let now = *self.known();
        let row = |found: Known| found.own.map(|own| own.replica);
        now.is_some_and(|now| row(now) == row(known))
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for as long as somebody begins a new epoch: they hold rows that a hub
/// needs. From then on, for as long as this session lives, nobody does.
///
/// # Errors
/// The server's own.
pub(super) async fn come_in(session: &Session) -> Result<(), StoreError> {
    let mut has_said = false;
    while !is_shared(session).await? {
        if !std::mem::replace(&mut has_said, true) {
            tracing::warn!(event = "store_waited_for", "{RECOVERING}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Whether the lock is held by this session now, beside others.
async fn is_shared(session: &Session) -> Result<bool, StoreError> {
    Ok(one(session, SHARED, &[]).await?.try_get(0)?)
}

/// A hub's row, which it makes when it first writes.
pub(super) const NEW_ROW: &str =
    "INSERT INTO replica (generation) VALUES ($1) RETURNING id, generation, batch";

/// Where the generations of a new row begin.
pub(super) fn first_generation() -> i64 {
    i64::from(u32::from_le_bytes(random_bytes())) * LINES_AT_MOST
}

/// Lets the others in again; if this is not reached they come in when the server
/// has seen that the line is gone.
pub(super) async fn let_others_in(line: &Line) -> Result<(), StoreError> {
    one(line.client(), "SELECT pg_advisory_unlock_all()", &[]).await?;
    Ok(())
}

/// Keeps every hub out for as long as this line lives.
///
/// # Errors
/// [`StoreError::Invalid`] if hubs, or somebody who recovers, are there: who
/// they are.
pub(super) async fn keep_others_out(line: &Line) -> Result<(), StoreError> {
    let session = line.client();
    for again in (0..ASKED).rev() {
        let is_alone: bool = one(session, ALONE, &[]).await?.try_get(0)?;
        let others = rows(session, OTHERS, &[]).await?;
        if is_alone && others.is_empty() {
            return Ok(());
        }
        if again == 0 {
            let names: Vec<String> = others
                .iter()
                .map(|row| {
                    let from: &str = row.try_get(0)?;
                    let (pid, since): (i32, &str) = (row.try_get(1)?, row.try_get(2)?);
                    Ok::<_, tokio_postgres::Error>(format!("{from} (pid {pid}, since {since})"))
                })
                .collect::<Result<_, _>>()?;
            return Err(StoreError::Invalid(format!(
                "hubs, or another `jembatan recover`, are at work on this database: stop every hub \
                 first, and wait until the server has seen it. Its sessions: {}",
                names.join(", ")
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
