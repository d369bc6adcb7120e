//! Sends what a batch writes, and its COMMIT, on one trip.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, MaybeDone, maybe_done},
};
use postgres_types::ToSql;
use tokio_postgres::Statement;

use super::{
    super::{error::Failure, session::Session},
    save::{Columns, FENCE, Statements},
};

impl Statements {
    /// Commits them on one trip, or nothing: behind a fence, or in a transaction that
    /// has begun already and has passed it.
    pub(super) async fn commit(
        self,
        session: &Session,
        fence: Option<(i64, i64)>,
    ) -> Result<(), Failure> {
        let is_new = fence.is_some();
        let fence = fence.map(|(generation, batch)| {
            let columns: Columns = vec![Box::new(generation), Box::new(batch)];
            (FENCE, columns)
        });
        let mut statements = Vec::new();
        for (sql, columns) in fence.into_iter().chain(self.0) {
            // The line has prepared it: nothing is waited for.
            let statement = session.within(session.prepare_cached(sql)).await?;
            statements.push((statement, columns));
        }
        session.unsettled();
        let ended = session.within(async {
            let mut asked: Vec<Asked<'_>> = Vec::new();
            if is_new {
                asked.push(maybe_done(Box::pin(session.batch_execute("BEGIN"))));
            }
            for (statement, columns) in &statements {
                asked.push(maybe_done(Box::pin(sent(session, statement, columns))));
            }
            all_leave(&mut asked).await?;
            asked.push(maybe_done(Box::pin(session.batch_execute("COMMIT"))));
            poll_fn(|cx| match polled(&mut asked, cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            Ok(asked.iter_mut().find_map(error_of))
        });
        let failed = ended.await?;
        session.settled();
        // If one failed, COMMIT has ended the transaction with nothing.
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// A statement that has left, or is about to.
type Asked<'a> = MaybeDone<BoxFuture<'a, Result<(), tokio_postgres::Error>>>;

/// Sends all of them, in their order.
///
/// # Errors
/// One could not be written, so that it has not left: nothing may be committed.
async fn all_leave(asked: &mut [Asked<'_>]) -> Result<(), tokio_postgres::Error> {
    poll_fn(|cx| {
        polled(asked, cx);
        Poll::Ready(())
    })
    .await;
    asked.iter_mut().find_map(error_of).map_or(Ok(()), Err)
}

/// Whether all have their answers.
fn polled(asked: &mut [Asked<'_>], cx: &mut Context<'_>) -> bool {
    let mut is_done = true;
    for one in asked {
        is_done &= one.poll_unpin(cx).is_ready();
    }
    is_done
}

fn error_of(asked: &mut Asked<'_>) -> Option<tokio_postgres::Error> {
    let mut asked = Pin::new(asked);
    match asked.as_mut().output_mut()? {
        Ok(()) => None,
        Err(_) => asked.take_output()?.err(),
    }
}

/// A statement that was prepared before.
async fn sent(
    session: &Session,
    statement: &Statement,
    columns: &Columns,
) -> Result<(), tokio_postgres::Error> {
    let values: Vec<&(dyn ToSql + Sync)> = columns
        .iter()
        .map(|column| &**column as &(dyn ToSql + Sync))
        .collect();
    session.execute(statement, &values).await?;
    Ok(())
}
