//! Small writes beside the writer's, and what becomes of them while the server
//! waits for a standby that is away: a commit has no answer then, whatever asks
//! for it, and its session stays at the server until the standby is back.
//!
//! Invariants: what a caller is told is done is on the standbys; small writes
//! never hold all connections of readers; after one that had no answer no other
//! is sent before a commit that writes nothing was answered, and of those one at a
//! time waits, whoever sent it. So what waits at the server does not grow with the
//! time that a standby is away.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::types::ToSql;

use crate::store::StoreError;

use super::{
    PostgresStore,
    connect::{Database, Line, READER_WITHIN, Reader},
    error::Failure,
    session::{QueryError, Session, execute, one},
    writer::{LOOK_FOR, RECONNECT_PAUSE},
};

/// How long the commit that writes nothing is waited for.
const PROBED_WITHIN: Duration = Duration::from_secs(2);
/// The pause after another one was found waiting.
const PROBED_AGAIN: Duration = Duration::from_millis(50);

/// A commit that writes nothing that anybody reads, unless another one is waiting
/// already. Its lock is let go after the commit, so also whoever has lost the line
/// on which it waits keeps others from waiting beside it.
const PROBE: &str = "SELECT CASE WHEN pg_try_advisory_xact_lock(7301, 4) \
         THEN pg_logical_emit_message(true, 'jembatan', ''::text) END IS NOT NULL";

/// What small writes share.
pub(super) struct SmallWrites {
    /// Whose turn it is for a line of its own.
    turn: tokio::sync::Mutex<()>,
    /// Connections of readers that may write at once.
    at_once: Arc<Semaphore>,
    /// One had no answer, and none has been answered since.
    is_unanswered: Arc<AtomicBool>,
}

impl SmallWrites {
    /// For a pool of so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            at_once: Arc::new(Semaphore::new((connections / 2).max(1))),
            is_unanswered: Arc::default(),
        }
    }
}

/// A connection on which something small may be written.
pub(super) struct SmallWrite {
    reader: Reader,
    is_unanswered: Arc<AtomicBool>,
    _turn: OwnedSemaphorePermit,
}

impl Deref for SmallWrite {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.reader
    }
}

impl Drop for SmallWrite {
    fn drop(&mut self) {
        // It owes an answer, or is lost: its commit may be waiting.
        if !self.reader.is_fit() {
            self.is_unanswered.store(true, Ordering::SeqCst);
        }
    }
}

impl PostgresStore {
    /// A connection for a small write whose session nobody hears warn: what it says
    /// is done a later commit that is not warned of makes durable.
    pub(super) async fn small_write(&self) -> Result<SmallWrite, StoreError> {
        let small = &self.shared.database.small;
        let turn = small.at_once.clone().acquire_owned();
        let turn = timeout(READER_WITHIN, turn).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Failure::Blocked.into_error());
        };
        let write = SmallWrite {
            reader: self.reader().await?,
            is_unanswered: small.is_unanswered.clone(),
            _turn: turn,
        };
        match self.shared.database.is_answering(&write).await? {
            true => Ok(write),
            false => Err(Failure::Blocked.into_error()),
        }
    }
}

impl Database {
    /// Carries out a statement that may be carried out again, until the server
    /// says without a warning that it is durable; how many rows it touched.
    ///
    /// # Errors
    /// The server's own, or that it was not made durable in time.
    pub(super) async fn execute_durably(
        &self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        let _turn = self.turn().await?;
        let mut tries = Tries::begin();
        loop {
            let outcome = async {
                let line = self.line_for_small_write().await?;
                let count = execute(line.client(), sql, values).await;
                self.is_durable(&line, count.map_err(Failure::from))
            };
            if let Some(answer) = tries.settled(outcome.await).await {
                return answer;
            }
        }
    }

    /// One at a time, each over a line of its own.
    pub(super) async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, StoreError> {
        let turn = timeout(self.limit(), self.small.turn.lock()).await;
        turn.map_err(|_| Failure::Blocked.into_error())
    }

    /// A line whose warnings are read.
    pub(super) async fn line_for_small_write(&self) -> Result<Line, Failure> {
        let line = self.line().await;
        let line = line.map_err(|error| Failure::Lost(error.in_flight().to_string()))?;
        match self.is_answering(line.client()).await? {
            true => Ok(line),
            false => Err(Failure::Blocked),
        }
    }

    /// What was written over such a line, if the server did not warn.
    pub(super) fn is_durable<T>(
        &self,
        line: &Line,
        outcome: Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !line.client().is_fit() {
            self.small.is_unanswered.store(true, Ordering::SeqCst);
        }
        match outcome {
            Ok(_) if line.is_doubtful() => Err(Failure::Lost(
                "the server does not know whether its standbys have it".to_owned(),
            )),
            outcome => outcome,
        }
    }

    /// After a small write that had no answer, whether commits have answers again.
    async fn is_answering(&self, session: &Session) -> Result<bool, QueryError> {
        let is_unanswered = &self.small.is_unanswered;
        if is_unanswered.load(Ordering::SeqCst) && is_answered(session).await? {
            is_unanswered.store(false, Ordering::SeqCst);
        }
        Ok(!is_unanswered.load(Ordering::SeqCst))
    }
}

/// Whether a commit over this session is answered. If it is not, one at most waits
/// at the server, of all that have asked.
pub(super) async fn is_answered(session: &Session) -> Result<bool, QueryError> {
    let until = Instant::now() + PROBED_WITHIN;
    while Instant::now() < until {
        let Ok(answer) = timeout_at(until, one(session, PROBE, &[])).await else {
            break;
        };
        if answer?.try_get(0)? {
            return Ok(true);
        }
        // Another one is waiting, perhaps for no longer than usual.
        sleep(PROBED_AGAIN).await;
    }
    Ok(false)
}

/// Something that may be carried out again, until the server says without a
/// warning that it is durable.
///
/// As with a batch of the writer, what the server warns of (a standby may lack it)
/// or does not answer counts as unknown. Carried out once more it writes once
/// more, and so waits for the standbys once more: once that went well, it is on
/// them.
pub(super) struct Tries {
    until: Instant,
    /// One of them may have been stored.
    is_in_doubt: bool,
}

impl Tries {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + LOOK_FOR,
            is_in_doubt: false,
        }
    }

    /// What one time has come to; `None`, after a pause: once more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it takes longer than the writer would look
    /// for a batch: it may have been stored.
    pub(super) async fn settled<T>(
        &mut self,
        outcome: Result<T, Failure>,
    ) -> Option<Result<T, StoreError>> {
        let why = match outcome {
            Ok(done) => return Some(Ok(done)),
            Err(Failure::Lost(why)) => {
                self.is_in_doubt = true;
                tracing::warn!(event = "write_in_doubt", %why);
                StoreError::Unavailable(why)
            }
            Err(failure @ (Failure::Moved | Failure::Blocked)) => failure.into_error(),
            Err(failure) => return Some(Err(failure.into_error())),
        };
        if Instant::now() >= self.until {
            let why = match (why, self.is_in_doubt) {
                (StoreError::Unavailable(why), true) => StoreError::Unavailable(format!(
                    "{why}; whether it was stored is not known; ask again"
                )),
                (why, _) => why,
            };
            return Some(Err(why));
        }
        sleep(RECONNECT_PAUSE).await;
        None
    }
}
