//! The store of a hub whose replicas share one PostgreSQL; and, in a room of its own
//! (`adapter`), that of an adapter.
//!
//! A batch takes two trips: what it needs is read without locks, it is decided
//! in memory, and one statement locks, checks that nothing has moved, writes
//! and commits. One task per replica joins what waits from all parties into
//! such batches, so a replica commits one batch at a time.
//!
//! Invariants: every answer comes after a commit that the server has made
//! durable; a commit whose outcome is unknown is read back before anything is
//! answered; no lock is held while a replica thinks; nothing is kept in memory
//! from one batch to the next, since other replicas write as well. Of what the
//! wire is this engine knows no more than the other one.

mod adapter;
mod again;
mod ceiling;
mod connect;
mod decide;
mod decisions;
mod directory;
mod durable;
mod enrolment;
mod enter;
mod epoch;
mod erase;
mod error;
mod guard;
mod hosts;
mod hub;
mod integrity;
mod jobs;
mod journal;
mod left_behind;
mod letters;
mod listen;
mod looking;
mod plan;
mod retell;
mod rows;
mod schema;
mod session;
mod tls;
mod told;
mod view;
mod watching;
mod work_items;
mod world;
mod writer;
mod writes;

#[cfg(test)]
pub(super) mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    domain::{
        ComplaintId, ComplaintName, Decision, Digest, EventId, Micros, PartyId, Policy, SystemName,
    },
    exchange::{Direction, Place},
    runtime::Clock,
};

use super::{
    Answer, ComplaintRecord, Counts, DeadLetter, Decide, EarlierInbox, HeaderEncoder, Heads,
    JournalEntry, LetterName, NewSubmission, Receipt, Registry, Store, StoreError, SubmitRefusal,
    UnmappedStatus,
};
pub use adapter::{
    AdapterOptions, PostgresAdapterStore, letters_named_of_adapter, letters_of_adapter,
};
pub use ceiling::{RowCounts, insert_ceiling, row_counts};
use connect::{Database, Reader};
pub use connect::{Settings, SynchronousCommit, is_reachable, read_password};
pub use epoch::recover;
pub use integrity::{Finding, Integrity, PartyTotals, ReadHeader, check_integrity};
use jobs::{Done, Job, Work};
pub use letters::{letters, letters_named};
use looking::Looks;
pub use schema::{SchemaState, check, check_adapter, is_empty, migrate, migrate_adapter};
use watching::Wakers;

/// Jobs that may wait; beyond it callers wait to be let in.
const QUEUE: usize = 1_024;

/// How often a link looks by itself, should the listener be lost for long.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How to open the store.
pub struct Options {
    /// Where the database is, and how it is spoken with.
    pub settings: Settings,
    /// Writes headers.
    pub encoder: Arc<dyn HeaderEncoder>,
    /// The operator's numbers.
    pub policy: Policy,
    /// Epochs come from it.
    pub clock: Arc<dyn Clock>,
    /// Random bytes for a new store: 16 of its instance id, 32 of its key.
    pub seed: [u8; 48],
    /// [`crate::domain::decide`], but in tests.
    pub decide: Decide,
}

/// The directory, and which one it is.
#[derive(Debug, Clone, Default)]
struct Known {
    version: i64,
    registry: Arc<Registry>,
}

/// What writer, listener and readers share.
struct Shared {
    database: Database,
    instance_id: [u8; 16],
    dedup_key: Hmac<Sha256>,
    encoder: Arc<dyn HeaderEncoder>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    decide: Decide,
    registry: watch::Sender<Arc<Registry>>,
    directory_version: Mutex<i64>,
    wakers: Wakers,
    looks: Looks,
}

impl Shared {
    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    /// By what the same content is known again.
    fn mac(&self, handover_digest: &Digest) -> [u8; 16] {
        crate::store::judging::mac(&self.dedup_key, handover_digest)
    }

    /// The newest directory that this replica has read.
    fn known(&self) -> Known {
        let version = self.directory_version.lock();
        let version = version.unwrap_or_else(PoisonError::into_inner);
        Known {
            version: *version,
            registry: self.registry.borrow().clone(),
        }
    }

    /// Takes a directory over, unless a newer one is there.
    fn learn(&self, known: Known) {
        let version = self.directory_version.lock();
        let mut version = version.unwrap_or_else(PoisonError::into_inner);
        if known.version >= *version {
            *version = known.version;
            self.registry.send_replace(known.registry);
        }
    }

    /// Takes over what the database says now, also where that is older: one that
    /// was put back to an earlier state says less than it did. Unless what was known
    /// when it was read has been replaced meanwhile: that may be newer.
    fn learn_anew(&self, before: i64, known: Known) {
        let version = self.directory_version.lock();
        let mut version = version.unwrap_or_else(PoisonError::into_inner);
        if *version == before {
            *version = known.version;
            self.registry.send_replace(known.registry);
        }
    }
}

/// A replica's hold on the national store.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
    tasks: TaskTracker,
    stop: CancellationToken,
    // The listener ends with the last handle.
    _guard: Arc<DropGuard>,
}

impl PostgresStore {
    /// Connects, checks the server and the schema, and starts writer and
    /// listener. The schema must be there: see [`migrate`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the server can't be reached or lets
    /// nobody in; [`StoreError::Invalid`] if schema or server do not fit.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let database = Database::new(&options.settings)?;
        let line = database.line().await?;
        guard::come_in(line.client()).await?;
        schema::must_fit(line.client()).await?;
        let (instance_id, dedup_key) = directory::identify(line.client(), &options.seed).await?;
        database.guard.arm(line.client()).await?;
        let dedup_key = Hmac::<Sha256>::new_from_slice(&dedup_key)
            .map_err(|_| damaged("the store's own key"))?;
        let known = directory::read_registry(line.client()).await?;
        drop(line);
        let (registry, _) = watch::channel(Arc::new(Registry::default()));
        let shared = Arc::new(Shared {
            database,
            instance_id,
            dedup_key,
            encoder: options.encoder,
            policy: options.policy,
            clock: options.clock,
            decide: options.decide,
            registry,
            directory_version: Mutex::new(0),
            wakers: Wakers::default(),
            looks: Looks::default(),
        });
        shared.learn(known);
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(writer::run(shared.clone(), waiting, stop.clone()));
        tasks.spawn(listen::run(shared.clone(), stop.clone()));
        tasks.close();
        Ok(Self {
            shared,
            queue,
            tasks,
            _guard: Arc::new(stop.clone().drop_guard()),
            stop,
        })
    }

    /// Comes when this hub has to be started anew, and says why: its database was
    /// put back to an earlier state, or a new epoch was begun, while it ran. What
    /// it holds in memory is of another history; the store refuses everything.
    pub fn left_behind(&self) -> BoxFuture<'static, &'static str> {
        self.shared.database.guard.left_behind.known()
    }

    /// Does something in the writer's next batch.
    fn write(&self, work: Work) -> BoxFuture<'static, Result<Done, StoreError>> {
        let (tell, told) = oneshot::channel();
        let queue = self.queue.clone();
        async move {
            let job = Job { work, tell };
            queue.send(job).await.map_err(|_| StoreError::Closed)?;
            told.await.map_err(|_| StoreError::Closed)?
        }
        .boxed()
    }

    /// Does something that goes on when its caller has gone: one that was given up
    /// within its commit would leave that waiting, and one in several steps would be
    /// left half done. A stop of the store ends it.
    fn outliving<T: Send + 'static>(
        &self,
        what: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        async move {
            let done = tasks.spawn(async move {
                tokio::select! {
                    biased;
                    done = what => done,
                    () = stop.cancelled() => Err(StoreError::Closed),
                }
            });
            done.await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(
                    "an internal error; ask again".to_owned(),
                ))
            })
        }
        .boxed()
    }

    /// A connection for reading from a server that shows nothing which could
    /// still be lost.
    async fn reader(&self) -> Result<Reader, StoreError> {
        if self.stop.is_cancelled() {
            return Err(StoreError::Closed);
        }
        self.shared.database.settled_reader(|| self.probe()).await
    }
}

impl Store for PostgresStore {
    fn instance_id(&self) -> [u8; 16] {
        self.shared.instance_id
    }

    fn watch(&self, party: &PartyId) -> watch::Receiver<u64> {
        self.shared.wakers.watch(party)
    }

    /// The listener looks once a second, for all parties at once.
    fn look_every(&self) -> Duration {
        LOOK_EVERY
    }

    fn heads(&self, party: &PartyId) -> Answer<'_, Heads> {
        let party = party.clone();
        async move { self.look(&party).await }.boxed()
    }

    fn read(
        &self,
        party: &PartyId,
        direction: Direction,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Answer<'_, Vec<JournalEntry>> {
        let party = party.clone();
        async move {
            let reader = self.reader().await?;
            journal::read(&reader, &party, direction, from, (max_entries, max_bytes)).await
        }
        .boxed()
    }

    fn place_at(
        &self,
        party: &PartyId,
        direction: Direction,
        position: u64,
    ) -> Answer<'_, Option<Place>> {
        let party = party.clone();
        async move {
            let reader = self.reader().await?;
            match direction {
                Direction::Submissions => {
                    journal::submission_place(&reader, &party, position).await
                }
                Direction::Deliveries => journal::delivery_place(&reader, &party, position).await,
            }
        }
        .boxed()
    }

    fn acknowledge(&self, party: &PartyId, direction: Direction, place: Place) -> Answer<'_, ()> {
        // The hub holds the submissions itself: nobody acknowledges them to it.
        if direction == Direction::Submissions {
            return std::future::ready(Ok(())).boxed();
        }
        let done = self.write(Work::Held(party.clone(), place));
        done.map(|done| done.map(|_| ())).boxed()
    }

    fn consume(&self, party: &PartyId, through: u64) -> Answer<'_, u64> {
        let party = party.clone();
        async move {
            let consumed = journal::consume(&*self.small_write().await?, &party, through).await?;
            self.shared.wakers.changed_here([party]);
            Ok(consumed)
        }
        .boxed()
    }

    fn earlier_inboxes(&self, _: &PartyId) -> Answer<'_, Vec<EarlierInbox>> {
        // A hub tells again what was not consumed: it has no earlier inboxes.
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn knows_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, bool> {
        let party = party.clone();
        async move { journal::knows_epoch(&*self.reader().await?, &party, epoch).await }.boxed()
    }

    fn read_earlier(
        &self,
        _: &PartyId,
        _: (u64, u64),
        _: (usize, usize),
    ) -> Answer<'_, Vec<JournalEntry>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn consume_in(&self, party: &PartyId, epoch: u64, through: u64) -> Answer<'_, u64> {
        let party = party.clone();
        async move {
            let in_force = self.heads(&party).await?.epoch;
            if epoch == in_force {
                return self.consume(&party, through).await;
            }
            Ok(0)
        }
        .boxed()
    }

    fn submit(
        &self,
        batch: Vec<NewSubmission>,
        now: Micros,
    ) -> Answer<'_, Vec<Result<Receipt, SubmitRefusal>>> {
        let done = self.write(Work::Submit(batch, now));
        done.map(|done| done?.receipts()).boxed()
    }

    fn find(
        &self,
        party: &PartyId,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Answer<'_, Option<ComplaintId>> {
        let (party, system, name) = (party.clone(), system.clone(), name.clone());
        async move {
            let reader = self.reader().await?;
            view::find(&reader, &self.shared, &party, &system, &name).await
        }
        .boxed()
    }

    fn complaint(&self, party: &PartyId, id: &ComplaintId) -> Answer<'_, Option<ComplaintRecord>> {
        let (party, id) = (party.clone(), *id);
        async move { view::complaint(&*self.reader().await?, &self.shared, &party, &id).await }
            .boxed()
    }

    fn receipt(
        &self,
        party: &PartyId,
        event: &EventId,
        _: &ComplaintId,
    ) -> Answer<'_, Option<Receipt>> {
        let (party, event) = (party.clone(), *event);
        async move { view::receipt(&*self.reader().await?, &party, &event).await }.boxed()
    }

    fn expect(&self, _: &EventId) -> oneshot::Receiver<Decision> {
        // A hub decides in the commit that stores: the receipt has it already.
        oneshot::channel().1
    }

    fn counts(&self, party: &PartyId) -> Answer<'_, Counts> {
        let party = party.clone();
        async move { journal::counts(&*self.reader().await?, &party).await }.boxed()
    }

    fn unmapped(&self, party: &PartyId, limit: usize) -> Answer<'_, Vec<UnmappedStatus>> {
        let party = party.clone();
        async move { work_items::unmapped(&*self.reader().await?, &party, limit).await }.boxed()
    }

    fn forget_unmapped(&self, party: &PartyId, statuses: Vec<UnmappedStatus>) -> Answer<'_, ()> {
        let party = party.clone();
        async move { work_items::forget(&*self.small_write().await?, &party, &statuses).await }
            .boxed()
    }

    fn dead_letters(
        &self,
        only: Option<&PartyId>,
        after: u64,
        limit: usize,
    ) -> Answer<'_, Vec<DeadLetter>> {
        let only = only.cloned();
        async move {
            let reader = self.reader().await?;
            letters::to_settle(&reader, again::LETTERS, (only.as_ref(), after), limit).await
        }
        .boxed()
    }

    fn letters_named(&self, name: &LetterName) -> Answer<'_, Vec<DeadLetter>> {
        let name = name.clone();
        async move { letters::named(&*self.reader().await?, &name, &letters::OF_HUB).await }.boxed()
    }

    fn unread(&self, _: &PartyId) -> Answer<'_, u64> {
        // A hub receives no deliveries.
        std::future::ready(Ok(0)).boxed()
    }

    fn probe(&self) -> Answer<'_, ()> {
        self.write(Work::Probe).map(|done| done.map(|_| ())).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.stop.cancel();
            self.tasks.wait().await;
            self.shared.database.close();
        }
        .boxed()
    }
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}
