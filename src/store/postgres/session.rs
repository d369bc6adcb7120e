//! A connection, and how long an answer over it may take.
//!
//! The server ends a statement that takes too long, but not one whose answer
//! can't come: a machine that stands still, a network that says nothing. So
//! every statement has a time of its own at this end as well, and all of a
//! server's are given up at once when another one has taken its place.
//!
//! Invariant: a connection that still owes an answer serves nobody else.

use std::{
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use tokio::{sync::watch, time::sleep};
use tokio_postgres::{Error, Row, Statement, error::SqlState, types::ToSql};

use super::hosts::Serving;

/// Why a statement has no answer.
#[derive(Debug)]
pub(super) enum QueryError {
    /// The server says why, or the connection was lost.
    Server(Error),
    /// No answer came in time, or the server was left for another one.
    Silent,
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl QueryError {
    /// What the server calls it.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Server(error) => error.code(),
            Self::Silent => None,
        }
    }
}

/// A connection to the server.
pub(super) struct Session {
    client: ClientWrapper,
    /// Which server this is, and since when it runs.
    serving: Serving,
    /// The server that is used; another one has taken this one's place when it
    /// changes.
    used: watch::Receiver<u64>,
    used_at_first: u64,
    limit: Duration,
    /// Statements that have no answer, also those that nobody waits for.
    owed: AtomicUsize,
}

impl Session {
    pub(super) fn new(
        client: ClientWrapper,
        serving: Serving,
        (used, used_at_first): (watch::Receiver<u64>, u64),
        limit: Duration,
    ) -> Self {
        Self {
            client,
            serving,
            used,
            used_at_first,
            limit,
            owed: AtomicUsize::new(0),
        }
    }

    /// Which server this is, and since when it runs.
    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Answers may take as long as they like from now on.
    pub(super) fn wait_for_ever(&mut self) {
        self.limit = Duration::MAX;
    }

    /// Whether somebody else may have it.
    pub(super) fn is_fit(&self) -> bool {
        !self.client.is_closed()
            && self.owed.load(Ordering::SeqCst) == 0
            && *self.used.borrow() == self.used_at_first
    }

    /// Something that can't be given up halfway begins, for example a
    /// transaction; until [`Session::settled`] the connection serves nobody else.
    pub(super) fn unsettled(&self) {
        self.owed.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended well.
    pub(super) fn settled(&self) {
        self.owed.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits for an answer, but not for ever.
    ///
    /// # Errors
    /// The server's own, or that it says nothing.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, QueryError> {
        self.unsettled();
        let mut used = self.used.clone();
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = sleep(self.limit) => return Err(QueryError::Silent),
            Ok(_) = used.wait_for(|now| *now != self.used_at_first) => {
                return Err(QueryError::Silent);
            }
        };
        self.settled();
        Ok(answer?)
    }
}

impl Deref for Session {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

/// A statement, which is prepared once per connection, and what is asked of it.
async fn asked<'a, T, A>(
    session: &'a Session,
    sql: &'static str,
    ask: impl FnOnce(&'a Session, Statement) -> A,
) -> Result<T, QueryError>
where
    A: Future<Output = Result<T, Error>>,
{
    let answer = async { ask(session, session.prepare_cached(sql).await?).await };
    session.within(answer).await
}

/// The rows of a statement.
pub(super) async fn rows(
    session: &Session,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, QueryError> {
    asked(session, sql, async |session, sql| {
        session.query(&sql, values).await
    })
    .await
}

/// The row of a statement that has one or none.
pub(super) async fn maybe(
    session: &Session,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, QueryError> {
    asked(session, sql, async |session, sql| {
        session.query_opt(&sql, values).await
    })
    .await
}

/// The row of a statement that always has one.
pub(super) async fn one(
    session: &Session,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Row, QueryError> {
    asked(session, sql, async |session, sql| {
        session.query_one(&sql, values).await
    })
    .await
}

/// Carries a statement out.
pub(super) async fn execute(
    session: &Session,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, QueryError> {
    asked(session, sql, async |session, sql| {
        session.execute(&sql, values).await
    })
    .await
}
