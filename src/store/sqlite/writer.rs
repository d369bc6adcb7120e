//! The one writer of a store: a thread that joins what waits into one
//! transaction, commits once, and only then answers all.
//!
//! Invariants: an answer comes after COMMIT (`synchronous=FULL`); a job that
//! fails, or panics, leaves nothing behind and touches none of its neighbours;
//! when SQLite itself gives a transaction up, everybody in it is told so; what
//! may wait for company does so for [`PATIENCE`] at most, and its answer, too,
//! comes after COMMIT.

use std::{
    collections::{BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake},
    thread::Thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    domain::PartyId,
    store::{StoreError, memory::Fresh},
};

use super::{Shared, checkpoint::Log, deliver::Current, journal::PartyState, keys::Db};

/// Jobs of one transaction, at most.
const JOBS_PER_COMMIT: usize = 512;
/// Jobs that may wait; beyond it callers wait to be let in.
pub(super) const QUEUE: usize = 1_024;
/// How long what may wait does: the peer's acknowledgement of this hand-over
/// and the caller's next hand-over then share a commit, and a caller is not
/// held up by a commit for which nobody waits.
const PATIENCE: Duration = Duration::from_millis(2);

/// Runs inside a transaction, or hears why there is none.
pub(super) type Job = Box<dyn FnOnce(Result<&mut Tx<'_>, StoreError>) -> Reply + Send>;
/// Runs after the commit, with its result.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What waits for the writer.
pub(super) enum Message {
    /// Something to write.
    Write(Job),
    /// Something to write, with the next commit or after [`PATIENCE`].
    Later(Job),
    /// Somebody needs what waits.
    Now,
    /// Finish, checkpoint, close.
    Close(oneshot::Sender<()>),
}

/// A transaction that several jobs share.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Db<'a>,
    pub(super) shared: &'a Shared,
    /// Party states, kept from one transaction to the next: nobody else writes.
    pub(super) states: &'a mut HashMap<PartyId, PartyState>,
    /// States as they were before this job: put back if it fails.
    undo: HashMap<PartyId, Option<PartyState>>,
    /// States to be written before the commit.
    dirty: BTreeSet<PartyId>,
    touched: BTreeSet<PartyId>,
    /// What memory will get after the commit.
    pub(super) fresh: Vec<Fresh>,
    /// Hub: the event that is being decided.
    pub(super) current: Option<Current>,
    registry_changed: bool,
    /// A job could not be undone alone: none of the transaction may stay.
    is_spoilt: bool,
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

    pub(super) fn take_dirty(&mut self) -> BTreeSet<PartyId> {
        std::mem::take(&mut self.dirty)
    }

    /// This job is about to change a party's state.
    pub(super) fn note_state(&mut self, party: &PartyId) {
        if !self.undo.contains_key(party) {
            let before = self.states.get(party).cloned();
            self.undo.insert(party.clone(), before);
        }
        if !self.dirty.contains(party) {
            self.dirty.insert(party.clone());
        }
    }

    /// Runs one job so that a failure leaves nothing behind.
    fn guarded<T>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.is_spoilt || self.connection.is_autocommit() {
            return Err(given_up());
        }
        self.undo.clear();
        let fresh_before = self.fresh.len();
        let keys_before = self.shared.keys.fresh_len();
        self.run("SAVEPOINT job")?;
        let outcome = catch_unwind(AssertUnwindSafe(|| job(self))).unwrap_or_else(|_| {
            tracing::error!(
                event = "store_job_panicked",
                "a bug: this write was undone, the others go on"
            );
            Err(StoreError::Unavailable(
                "an internal error; nothing of this was stored".to_owned(),
            ))
        });
        match outcome {
            Ok(value) => {
                self.end_job("RELEASE job")?;
                Ok(value)
            }
            Err(error) => {
                self.fresh.truncate(fresh_before);
                self.shared.keys.undo_to(keys_before);
                for (party, before) in std::mem::take(&mut self.undo) {
                    match before {
                        Some(state) => self.states.insert(party, state),
                        None => self.states.remove(&party),
                    };
                }
                if !self.connection.is_autocommit() {
                    self.end_job("ROLLBACK TO job")?;
                    self.end_job("RELEASE job")?;
                }
                Err(error)
            }
        }
    }

    fn end_job(&mut self, sql: &str) -> Result<(), StoreError> {
        let ended = self.run(sql);
        self.is_spoilt |= ended.is_err();
        ended
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
        let outcome = tx.and_then(|tx| tx.guarded(work));
        Box::new(move |committed| {
            // Nobody waits any more: what was written stays written.
            let _ = tell.send(committed.and(outcome));
        })
    });
    (job, told)
}

/// Runs until it is told to close, or nobody can write any more.
pub(super) fn run(
    (mut connection, log): (Connection, Log),
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Message>,
) {
    let mut queue = Queue::new(queue);
    let mut states = HashMap::new();
    while let Some(jobs) = queue.next_batch() {
        commit(&mut connection, &shared, &mut states, jobs);
        log.move_if_long(&connection);
    }
    queue.waiting.close();
    if let Err(error) = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
        tracing::debug!(event = "checkpoint_at_close", %error);
    }
    drop(connection);
    if let Some(done) = queue.closing {
        let _ = done.send(());
    }
}

/// What the writer has before it.
struct Queue {
    waiting: mpsc::Receiver<Message>,
    closing: Option<oneshot::Sender<()>>,
    waker: std::task::Waker,
}

/// Wakes the writer's thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Queue {
    /// On the writer's own thread.
    fn new(waiting: mpsc::Receiver<Message>) -> Self {
        Self {
            waiting,
            closing: None,
            waker: Arc::new(Unpark(std::thread::current())).into(),
        }
    }

    /// The jobs of the next transaction; `None`: it is over.
    fn next_batch(&mut self) -> Option<Vec<Job>> {
        if self.closing.is_some() {
            return None;
        }
        let mut jobs = Vec::new();
        // Only while nothing has come that does not wait.
        let mut patience_ends = None;
        let mut next = Some(self.waiting.blocking_recv()?);
        while let Some(message) = next {
            match message {
                Message::Write(job) => {
                    jobs.push(job);
                    patience_ends = None;
                }
                Message::Later(job) => {
                    if jobs.is_empty() {
                        patience_ends = Some(Instant::now() + PATIENCE);
                    }
                    jobs.push(job);
                }
                Message::Now => patience_ends = None,
                Message::Close(done) => {
                    self.closing = Some(done);
                    break;
                }
            }
            next = match patience_ends {
                _ if jobs.len() >= JOBS_PER_COMMIT => None,
                None => self.waiting.try_recv().ok(),
                Some(until) => self.recv_until(until),
            };
        }
        Some(jobs)
    }

    /// Waits no longer than that; also `None` when nobody can send any more.
    fn recv_until(&mut self, until: Instant) -> Option<Message> {
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(message) = self.waiting.poll_recv(&mut context) {
                return message;
            }
            let left = until.checked_duration_since(Instant::now())?;
            std::thread::park_timeout(left);
        }
    }
}

/// SQLite has rolled the transaction back by itself, for example on a full
/// disk: what ran before in it is gone too.
fn given_up() -> StoreError {
    StoreError::Unavailable(
        "the transaction was given up: is the disk full or failing? nothing of this was stored"
            .to_owned(),
    )
}

fn commit(
    connection: &mut Connection,
    shared: &Shared,
    states: &mut HashMap<PartyId, PartyState>,
    jobs: Vec<Job>,
) {
    if jobs.is_empty() {
        return;
    }
    let mut replies = Vec::with_capacity(jobs.len());
    let mut touched = BTreeSet::new();
    let mut registry_changed = false;
    let mut fresh = (BTreeSet::new(), Vec::new());
    let committed =
        match connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) {
            Err(error) => {
                let error = StoreError::from(error);
                replies.extend(jobs.into_iter().map(|job| job(Err(error.clone()))));
                Err(error)
            }
            Ok(transaction) => {
                let db = Db::writer(&transaction, &shared.keys);
                let mut tx = Tx {
                    connection: &db,
                    shared,
                    states: &mut *states,
                    undo: HashMap::new(),
                    dirty: BTreeSet::new(),
                    touched: BTreeSet::new(),
                    fresh: Vec::new(),
                    current: None,
                    registry_changed: false,
                    is_spoilt: false,
                };
                for job in jobs {
                    replies.push(job(Ok(&mut tx)));
                }
                let changed = tx.dirty.clone();
                // Of a transaction that was given up the states must not be
                // saved: that would be a transaction of its own, of heads
                // whose entries are gone.
                let saved = match tx.is_spoilt || transaction.is_autocommit() {
                    true => Err(given_up()),
                    false => tx.save_states(),
                };
                let step = saved.and_then(|()| shared.keys.before_commit(&transaction));
                fresh = (changed, std::mem::take(&mut tx.fresh));
                touched = std::mem::take(&mut tx.touched);
                registry_changed = tx.registry_changed;
                step.and_then(|step| {
                    transaction.commit()?;
                    shared.keys.committed(step);
                    Ok(())
                })
            }
        };
    if committed.is_err() {
        // What is in memory may be ahead of the disk.
        states.clear();
        shared.memory.forget_all();
        shared.keys.rolled_back();
    } else {
        let (changed, fresh) = fresh;
        let states = changed.iter().filter_map(|party| states.get(party));
        shared.memory.publish(states, fresh);
    }
    match &committed {
        Ok(()) => {
            if registry_changed {
                shared.reload_registry(connection);
            }
            // First those who pass it on: a peer waits for them.
            shared.wakers.wake(&touched);
            for reply in replies {
                reply(Ok(()));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Box::new(|_| Box::new(|_| {}))
    }

    /// Jobs of the batches that a writer makes of these messages, and how long
    /// it took over the first.
    fn batches(messages: impl IntoIterator<Item = Message>) -> (Vec<usize>, Duration) {
        let (sender, waiting) = mpsc::channel(QUEUE);
        for message in messages {
            assert!(sender.try_send(message).is_ok());
        }
        let began = Instant::now();
        let mut queue = Queue::new(waiting);
        let first = queue.next_batch().map_or(0, |jobs| jobs.len());
        let took = began.elapsed();
        drop(sender);
        let mut sizes = vec![first];
        while let Some(jobs) = queue.next_batch() {
            sizes.push(jobs.len());
        }
        (sizes, took)
    }

    /// Scenario: what may wait comes alone, with something that does not wait
    /// before or behind it, with a reader that needs it, and at the end.
    /// Guarantee: alone it waits its time and no longer; with company it goes
    /// at once and in the same transaction; order is kept and nothing is left
    /// behind.
    #[test]
    fn what_may_wait_goes_with_the_next_commit() {
        let (alone, took) = batches([Message::Later(job())]);
        assert_eq!(alone, [1]);
        assert!(took >= PATIENCE, "{took:?}");

        let later_first = [Message::Later(job()), Message::Write(job())];
        let (together, _) = batches(later_first);
        assert_eq!(together, [2]);
        let write_first = [Message::Write(job()), Message::Later(job())];
        let (together, _) = batches(write_first);
        assert_eq!(together, [2]);

        let (done, _closed) = oneshot::channel();
        let closing = [Message::Later(job()), Message::Close(done)];
        assert_eq!(batches(closing).0, [1]);
        // Nothing of it is a transaction of nothing.
        assert_eq!(batches([Message::Later(job()), Message::Now]).0, [1]);
    }

    /// Scenario: a message that does not wait comes while the writer waits.
    /// Guarantee: it wakes the writer, which does not wait on.
    #[test]
    fn whoever_does_not_wait_ends_the_waiting() {
        let (sender, waiting) = mpsc::channel(QUEUE);
        let (batch, told) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let mut queue = Queue::new(waiting);
            while let Some(jobs) = queue.next_batch() {
                let _ = batch.send(jobs.len());
            }
        });
        // The writer may look before both have come: some rounds.
        let met = (0..50).any(|_| {
            assert!(sender.blocking_send(Message::Later(job())).is_ok());
            std::thread::park_timeout(PATIENCE / 8);
            assert!(sender.blocking_send(Message::Write(job())).is_ok());
            let first = told.recv();
            if first == Ok(2) {
                return true;
            }
            let _ = told.recv();
            false
        });
        drop(sender);
        assert!(met && writer.join().is_ok());
    }
}
