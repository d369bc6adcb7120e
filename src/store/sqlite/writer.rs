//! The one writer of a store: a thread that joins what waits into one
//! transaction, commits once, and only then answers all.
//!
//! Invariants: an answer comes after COMMIT (`synchronous=FULL`); a job that
//! fails leaves nothing behind and touches none of its neighbours.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{domain::PartyId, store::StoreError};

use super::{Shared, journal::PartyState};

/// Jobs of one transaction, at most.
const JOBS_PER_COMMIT: usize = 512;
/// Jobs that may wait; beyond it callers wait to be let in.
pub(super) const QUEUE: usize = 1_024;

/// Runs inside a transaction.
pub(super) type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Reply + Send>;
/// Runs after the commit, with its result.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What waits for the writer.
pub(super) enum Message {
    /// Something to write.
    Write(Job),
    /// Finish, checkpoint, close.
    Close(oneshot::Sender<()>),
}

/// A transaction that several jobs share.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) shared: &'a Shared,
    /// Party states that this job has loaded; written back at its end.
    pub(super) states: HashMap<PartyId, PartyState>,
    touched: BTreeSet<PartyId>,
    registry_changed: bool,
}

impl Tx<'_> {
    /// This party's journals, mark or decisions changed.
    pub(super) fn touch(&mut self, party: &PartyId) {
        if !self.touched.contains(party) {
            self.touched.insert(party.clone());
        }
    }

    /// The directory changed.
    pub(super) fn registry_changed(&mut self) {
        self.registry_changed = true;
    }

    /// Runs one job so that a failure leaves nothing behind.
    fn guarded<T>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.states.clear();
        self.run("SAVEPOINT job")?;
        let outcome = job(self).and_then(|value| {
            self.save_states()?;
            Ok(value)
        });
        match outcome {
            Ok(value) => {
                self.run("RELEASE job")?;
                Ok(value)
            }
            Err(error) => {
                self.states.clear();
                self.run("ROLLBACK TO job")?;
                self.run("RELEASE job")?;
                Err(error)
            }
        }
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// Makes a job of something that answers.
pub(super) fn job<T: Send + 'static>(
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (tell, told) = oneshot::channel();
    let job: Job = Box::new(move |tx| {
        let outcome = tx.guarded(work);
        Box::new(move |committed| {
            // Nobody waits any more: what was written stays written.
            let _ = tell.send(committed.and(outcome));
        })
    });
    (job, told)
}

/// Runs until it is told to close, or nobody can write any more.
pub(super) fn run(
    mut connection: Connection,
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<Message>,
) {
    let mut closing: Option<oneshot::Sender<()>> = None;
    while closing.is_none() {
        let Some(first) = queue.blocking_recv() else {
            break;
        };
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Write(job) => jobs.push(job),
                Message::Close(done) => {
                    closing = Some(done);
                    break;
                }
            }
            next = if jobs.len() < JOBS_PER_COMMIT {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        commit(&mut connection, &shared, jobs);
    }
    queue.close();
    if let Err(error) = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
        tracing::debug!(event = "checkpoint_at_close", %error);
    }
    drop(connection);
    if let Some(done) = closing {
        let _ = done.send(());
    }
}

fn commit(connection: &mut Connection, shared: &Shared, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let mut replies = Vec::with_capacity(jobs.len());
    let mut touched = BTreeSet::new();
    let mut registry_changed = false;
    let committed = (|| {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut tx = Tx {
                connection: &transaction,
                shared,
                states: HashMap::new(),
                touched: BTreeSet::new(),
                registry_changed: false,
            };
            for job in jobs {
                replies.push(job(&mut tx));
            }
            touched = std::mem::take(&mut tx.touched);
            registry_changed = tx.registry_changed;
        }
        transaction.commit()?;
        Ok::<(), StoreError>(())
    })();
    match &committed {
        Ok(()) => {
            if registry_changed {
                shared.reload_registry(connection);
            }
            for reply in replies {
                reply(Ok(()));
            }
            shared.wakers.wake(&touched);
        }
        Err(error) => {
            tracing::error!(event = "store_commit_failed", %error);
            for reply in replies {
                reply(Err(error.clone()));
            }
        }
    }
}

/// Wakes whoever watches a party.
#[derive(Default)]
pub(super) struct Wakers {
    by_party: Mutex<HashMap<PartyId, watch::Sender<u64>>>,
}

impl Wakers {
    pub(super) fn watch(&self, party: &PartyId) -> watch::Receiver<u64> {
        let mut by_party = self.by_party.lock().unwrap_or_else(PoisonError::into_inner);
        by_party
            .entry(party.clone())
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    fn wake(&self, touched: &BTreeSet<PartyId>) {
        let by_party = self.by_party.lock().unwrap_or_else(PoisonError::into_inner);
        for party in touched {
            if let Some(waker) = by_party.get(party) {
                waker.send_modify(|counter| *counter += 1);
            }
        }
    }
}
