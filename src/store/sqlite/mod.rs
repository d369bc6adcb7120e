//! The embedded store: SQLite, one file, one writer with group commit.
//!
//! Invariants: every answer comes after a commit with `synchronous=FULL`; one
//! process at a time holds the directory; only this module and those below it
//! know SQL.

mod accept;
mod adapter;
mod again;
mod backup;
mod ceiling;
mod checkpoint;
mod connection;
mod dead_letters;
mod decisions;
mod deliver;
mod directory;
mod enrolment;
mod epoch;
mod erase;
mod file;
mod gone;
mod hub;
mod inbox;
mod journal;
mod keys;
mod lookup;
mod node;
mod node_view;
mod opening;
mod parts;
mod receive;
mod receive_again;
mod view;
mod work_items;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use hmac::{Hmac, Mac as _};
use rusqlite::Connection;
use sha2::Sha256;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    domain::{
        ComplaintId, ComplaintName, Decision, Digest, EventId, Micros, PartyId, Policy, SystemName,
    },
    exchange::{Direction, Place},
    runtime::Clock,
};

use super::{
    Answer, ComplaintRecord, Counts, DeadLetter, EarlierInbox, HeaderEncoder, Heads, JournalEntry,
    LetterName, NewSubmission, Receipt, Registry, Store, StoreError, SubmitRefusal, UnmappedStatus,
    fence::Fence,
    memory::{Expected, Memory},
};
pub use backup::{CopyFacts, backup, check, restore};
pub use ceiling::{SameRows, group_commit_ceiling, same_rows_ceiling};
use connection::{blob16, connect, damaged, digest};
pub use dead_letters::{letters, letters_named};
pub use epoch::recover;
use journal::{fresh_heads, load_state};
use keys::{Db, Keys};
use writer::{Message, QUEUE, Tx, Wakers};

mod migrations {
    refinery::embed_migrations!("src/store/sqlite/migrations");
}

/// Connections that read, and so threads: beyond them readers wait.
const READERS: usize = 4;
/// Marks are kept when so many rows had to be hashed.
const MARK_EVERY: u64 = 1_024;

pub use super::Decide;

/// What the store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// The node of a region.
    Adapter,
    /// The national node.
    Hub,
}

impl NodeRole {
    fn name(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Hub => "hub",
        }
    }
}

/// How to open a store.
pub struct Options {
    /// Where it lives; made if it is missing.
    pub directory: PathBuf,
    /// What it is for; never changes.
    pub role: NodeRole,
    /// Writes headers (hub).
    pub encoder: Arc<dyn HeaderEncoder>,
    /// The operator's numbers (hub).
    pub policy: Policy,
    /// Epochs come from it.
    pub clock: Arc<dyn Clock>,
    /// Random bytes for a new store: 16 of its instance id, 32 of its key.
    pub seed: [u8; 48],
    /// [`crate::domain::decide`], but in tests.
    pub decide: Decide,
}

/// What writer and readers share.
struct Shared {
    is_hub: bool,
    instance_id: [u8; 16],
    dedup_key: Hmac<Sha256>,
    encoder: Arc<dyn HeaderEncoder>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    decide: Decide,
    registry: watch::Sender<Arc<Registry>>,
    wakers: Wakers,
    memory: Memory,
    keys: Keys,
    /// Some party has attached a reference to a complaint that it did not file.
    has_references: AtomicBool,
    fence: Arc<Fence>,
    expected: Expected,
    readers: Mutex<Vec<Connection>>,
    /// Parties whose inbox still holds something of an ended epoch.
    earlier: Mutex<BTreeSet<PartyId>>,
    read_places: Arc<Semaphore>,
    path: PathBuf,
}

impl Shared {
    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    /// By what the same content is known again.
    fn mac(&self, handover_digest: &Digest) -> [u8; 16] {
        crate::store::judging::mac(&self.dedup_key, handover_digest)
    }
}

/// A node's store in one SQLite file.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    // Held for as long as any clone lives.
    _lock: Arc<fs::File>,
}

impl SqliteStore {
    /// Opens the store, making or migrating it if needed, and starts its writer.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if another process holds the directory, or it
    /// belongs to a node of another role; [`StoreError::Unavailable`] if it
    /// can't be written; [`StoreError::Corrupt`] if the file is damaged or gone.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let directory = &options.directory;
        file::make_directory(directory)?;
        let mut lock = file::lock(directory)?;
        let path = directory.join("jembatan.db");
        file::check_presence(&path, &mut lock)?;
        let mut connection = connect(&path).map_err(|error| file::explain(&path, error))?;
        migrations::migrations::runner()
            .run(&mut connection)
            .map_err(|error| file::explain_migration(&connection, &path, &error))?;
        let (instance_id, dedup_key) =
            file::identify(&connection, &options).map_err(|error| file::explain(&path, error))?;
        file::note_presence(&mut lock, &instance_id)?;
        epoch::check_mark(&connection, options.role, directory)?;
        let dedup_key = Hmac::<Sha256>::new_from_slice(&dedup_key)
            .map_err(|_| damaged("the store's own key"))?;
        // A hub tells again what was not consumed: it has no earlier inboxes.
        let earlier = match options.role {
            NodeRole::Adapter => inbox::parties_with_earlier(&connection)?,
            NodeRole::Hub => BTreeSet::new(),
        };
        let has_references = connection
            .prepare("SELECT 1 FROM reference LIMIT 1")?
            .exists([])?;
        let (registry, _) = watch::channel(Arc::new(Registry::default()));
        let shared = Arc::new(Shared {
            is_hub: options.role == NodeRole::Hub,
            instance_id,
            dedup_key,
            encoder: options.encoder,
            policy: options.policy,
            clock: options.clock,
            decide: options.decide,
            registry,
            wakers: Wakers::default(),
            expected: Expected::default(),
            keys: Keys::default(),
            has_references: AtomicBool::new(has_references),
            fence: Arc::default(),
            memory: Memory::new(match options.role {
                NodeRole::Adapter => Direction::Submissions,
                NodeRole::Hub => Direction::Deliveries,
            }),
            readers: Mutex::new(Vec::new()),
            earlier: Mutex::new(earlier),
            read_places: Arc::new(Semaphore::new(READERS)),
            path,
        });
        shared.keys.load(&connection)?;
        shared.reload_registry(&connection);
        let log = checkpoint::Log::of(&mut connection)?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let for_writer = shared.clone();
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run((connection, log), for_writer, waiting))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            shared,
            queue,
            _lock: Arc::new(lock),
        })
    }

    fn earlier(&self) -> MutexGuard<'_, BTreeSet<PartyId>> {
        let earlier = self.shared.earlier.lock();
        earlier.unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in the writer's next transaction.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.write_as(Message::Write, work)
    }

    fn write_as<T: Send + 'static>(
        &self,
        message: fn(writer::Job) -> Message,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let queued = self.enqueue(message, work);
        async move { queued.await?.await.map_err(|_| StoreError::Closed)? }.boxed()
    }

    /// As [`Self::write_as`], in two steps: its place among the writes is taken
    /// first, and the outcome comes after the commit.
    fn enqueue<T: Send + 'static>(
        &self,
        message: fn(writer::Job) -> Message,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>> {
        let (job, told) = writer::job(work);
        let queue = self.queue.clone();
        async move {
            queue
                .send(message(job))
                .await
                .map_err(|_| StoreError::Closed)?;
            Ok(told)
        }
        .boxed()
    }

    /// Reads in a transaction of its own, beside the writer.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db<'_>, &Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let shared = self.shared.clone();
        let queue = self.queue.clone();
        async move {
            if shared.fence.stands() {
                // A queue that is full has no patience either.
                let _ = queue.try_send(Message::Now);
                shared.fence.passed().await;
            }
            let places = shared.read_places.clone();
            let place = places
                .acquire_owned()
                .await
                .map_err(|_| StoreError::Closed)?;
            let task = tokio::task::spawn_blocking(move || {
                // Held to the end of the read, whoever stops waiting for it.
                let _place = place;
                let pooled = shared
                    .readers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop();
                let mut connection = match pooled {
                    Some(connection) => connection,
                    None => connect(&shared.path)?,
                };
                // Before the moment that is read: keys stay in memory for it.
                let reading = shared.keys.reading();
                let transaction = connection.transaction()?;
                let outcome = work(&Db::reader(&transaction, &shared.keys), &shared);
                drop(transaction);
                drop(reading);
                let mut readers = shared
                    .readers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if readers.len() < READERS {
                    readers.push(connection);
                }
                outcome
            });
            task.await
                .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
        }
        .boxed()
    }
}

impl Store for SqliteStore {
    fn instance_id(&self) -> [u8; 16] {
        self.shared.instance_id
    }

    fn watch(&self, party: &PartyId) -> watch::Receiver<u64> {
        self.shared.wakers.watch(party)
    }

    fn heads(&self, party: &PartyId) -> Answer<'_, Heads> {
        if let Some(heads) = self.shared.memory.heads(party) {
            return std::future::ready(Ok(heads)).boxed();
        }
        let party = party.clone();
        self.read(
            move |connection, shared| match load_state(connection, &party)? {
                Some(state) => state.heads(connection, shared.is_hub),
                None => Ok(fresh_heads(&party, 0)),
            },
        )
    }

    fn read(
        &self,
        party: &PartyId,
        direction: Direction,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Answer<'_, Vec<JournalEntry>> {
        let fresh = self
            .shared
            .memory
            .read(party, direction, from, max_entries, max_bytes);
        if let Some(entries) = fresh {
            return std::future::ready(Ok(entries)).boxed();
        }
        let party = party.clone();
        self.read(move |connection, _| match load_state(connection, &party)? {
            Some(state) => {
                journal::read(connection, &state, direction, from, max_entries, max_bytes)
            }
            None => Ok(Vec::new()),
        })
    }

    fn place_at(
        &self,
        party: &PartyId,
        direction: Direction,
        position: u64,
    ) -> Answer<'_, Option<Place>> {
        let name = party.clone();
        let found = self.read(move |connection, _| {
            let Some(state) = load_state(connection, &name)? else {
                return Ok((position == 0).then(|| (Place::root(&name, direction, 0), 0)));
            };
            match direction {
                Direction::Submissions => {
                    let chain = journal::submission_chain(connection, &state, position)?;
                    Ok(chain.map(|chain| (Place { position, chain }, 0)))
                }
                Direction::Deliveries => view::delivery_place(connection, &state, position),
            }
        });
        let party = party.clone();
        async move {
            let Some((place, hashed)) = found.await? else {
                return Ok(None);
            };
            if hashed >= MARK_EVERY {
                self.write(move |tx| tx.mark(&party, place)).await?;
            }
            Ok(Some(place))
        }
        .boxed()
    }

    fn acknowledge(&self, party: &PartyId, direction: Direction, place: Place) -> Answer<'_, ()> {
        self.acknowledged(party.clone(), direction, place).boxed()
    }

    fn consume(&self, party: &PartyId, through: u64) -> Answer<'_, u64> {
        let party = party.clone();
        self.write(move |tx| {
            let state = tx.state(&party)?;
            state.consumed = state.consumed.max(through.min(state.delivered));
            let consumed = state.consumed;
            tx.touch(&party);
            Ok(consumed)
        })
    }

    fn earlier_inboxes(&self, party: &PartyId) -> Answer<'_, Vec<EarlierInbox>> {
        if !self.earlier().contains(party) {
            return std::future::ready(Ok(Vec::new())).boxed();
        }
        let name = party.clone();
        self.read(move |connection, _| inbox::earlier(connection, &name))
    }

    fn knows_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, bool> {
        let party = party.clone();
        self.read(move |connection, _| inbox::knows_epoch(connection, &party, epoch))
    }

    fn read_earlier(
        &self,
        party: &PartyId,
        from: (u64, u64),
        max: (usize, usize),
    ) -> Answer<'_, Vec<JournalEntry>> {
        let party = party.clone();
        self.read(move |connection, _| inbox::read_earlier(connection, &party, from, max))
    }

    fn consume_in(&self, party: &PartyId, epoch: u64, through: u64) -> Answer<'_, u64> {
        let party = party.clone();
        self.write(move |tx| tx.consume_in(&party, epoch, through))
    }

    fn submit(
        &self,
        batch: Vec<NewSubmission>,
        now: Micros,
    ) -> Answer<'_, Vec<Result<Receipt, SubmitRefusal>>> {
        self.write(move |tx| {
            let mut results = Vec::with_capacity(batch.len());
            if tx.shared.is_hub {
                let mut pending = None;
                for new in &batch {
                    results.push(tx.submit_at_hub(new, now, &mut pending)?);
                }
                tx.flush_pending(pending, now)?;
            } else {
                for new in &batch {
                    results.push(tx.submit_own(new, now)?);
                }
            }
            for (new, result) in batch.iter().zip(&results) {
                if result
                    .as_ref()
                    .is_ok_and(|receipt: &Receipt| !receipt.repeated)
                {
                    tx.note_unmapped(&new.event, now)?;
                }
            }
            Ok(results)
        })
    }

    fn find(
        &self,
        party: &PartyId,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Answer<'_, Option<ComplaintId>> {
        let (party, system, name) = (party.clone(), system.clone(), name.clone());
        self.read(move |connection, shared| view::find(connection, shared, &party, &system, &name))
    }

    fn complaint(&self, party: &PartyId, id: &ComplaintId) -> Answer<'_, Option<ComplaintRecord>> {
        let (party, id) = (party.clone(), *id);
        self.read(move |connection, shared| {
            if shared.is_hub {
                shared.complaint_at_hub(connection, &party, &id)
            } else {
                node_view::complaint_at_node(connection, &party, &id)
            }
        })
    }

    fn receipt(
        &self,
        party: &PartyId,
        event: &EventId,
        complaint: &ComplaintId,
    ) -> Answer<'_, Option<Receipt>> {
        let (party, event, complaint) = (party.clone(), *event, *complaint);
        self.read(move |connection, shared| {
            view::receipt(connection, &party, shared.is_hub, &event, &complaint)
        })
    }

    fn expect(&self, event: &EventId) -> oneshot::Receiver<Decision> {
        self.shared.expected.wait(event)
    }

    fn counts(&self, party: &PartyId) -> Answer<'_, Counts> {
        let party = party.clone();
        self.read(move |connection, _| {
            let state = load_state(connection, &party)?;
            Ok(state.map_or_else(Counts::default, |state| state.counts))
        })
    }

    fn unmapped(&self, party: &PartyId, limit: usize) -> Answer<'_, Vec<UnmappedStatus>> {
        let party = party.clone();
        self.read(move |connection, _| work_items::unmapped(connection, &party, limit))
    }

    fn forget_unmapped(&self, party: &PartyId, statuses: Vec<UnmappedStatus>) -> Answer<'_, ()> {
        let party = party.clone();
        self.write(move |tx| tx.forget_unmapped(&party, &statuses))
    }

    fn dead_letters(
        &self,
        only: Option<&PartyId>,
        after: u64,
        limit: usize,
    ) -> Answer<'_, Vec<DeadLetter>> {
        let only = only.cloned();
        self.read(move |connection, shared| {
            let list = if shared.is_hub {
                again::parked
            } else {
                again::unread
            };
            list(connection, only.as_ref(), after, limit)
        })
    }

    fn letters_named(&self, name: &LetterName) -> Answer<'_, Vec<DeadLetter>> {
        let name = name.clone();
        self.read(move |connection, _| dead_letters::named(connection, &name))
    }

    fn unread(&self, party: &PartyId) -> Answer<'_, u64> {
        let party = party.clone();
        self.read(move |connection, _| again::count_unread(connection, &party))
    }

    fn probe(&self) -> Answer<'_, ()> {
        self.write(|tx| {
            let now = tx.shared.now().0;
            tx.connection
                .prepare_cached("UPDATE node SET probed_at = ?1")?
                .execute([now])?;
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let (done, closed) = oneshot::channel();
            if self.queue.send(Message::Close(done)).await.is_ok() {
                let _ = closed.await;
            }
            self.shared
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
        .boxed()
    }
}
