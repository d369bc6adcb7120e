//! The store of an adapter in a PostgreSQL database of its own.
//!
//! The same rules as the embedded store's, written over rows in memory
//! ([`world`]): one process writes, one task of it joins what waits into a batch,
//! reads what the batch needs on one trip, and commits it on another. What a link
//! reads right behind the writer comes from memory ([`crate::store::memory`]).
//!
//! Invariants: every answer comes after a commit that the server has made durable;
//! one process at a time writes, and the second is told of the first; a commit whose
//! outcome is unknown is read back before anything is answered.

mod again;
mod alone;
mod commit;
mod copy;
mod erase;
mod hold;
mod journal;
mod letters;
mod load;
mod lookup;
mod moving;
mod own;
mod prune;
mod queue;
mod receive;
mod save;
mod store;
mod table;
mod view;
mod work_items;
mod world;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot};

use crate::{
    domain::PartyId,
    exchange::Direction,
    runtime::Clock,
    store::{
        StoreError,
        fence::Fence,
        memory::{Expected, Memory},
    },
};

use super::{
    connect::{Database, Reader, Settings},
    damaged,
    left_behind::LeftBehind,
    rows::{id16, party},
    schema::{self, Role},
    session::{Session, execute, one, rows},
    watching::Wakers,
};
use alone::{Alone, Tell};
use hold::Process;
pub use letters::{letters_named_of_adapter, letters_of_adapter};
use queue::{Message, Queue};
use world::{Step, World};
use writer::Writer;

/// How to open the store.
pub struct AdapterOptions {
    /// Where the database is, and how it is spoken with.
    pub settings: Settings,
    /// The moments that are noted come from it.
    pub clock: Arc<dyn Clock>,
    /// Random bytes: 16 of a new store's instance id, 32 of its key; the last 8 tell
    /// this process from another.
    pub seed: [u8; 56],
}

/// What writer and readers share.
struct Shared {
    database: Database,
    process: Process,
    instance_id: [u8; 16],
    dedup_key: Hmac<Sha256>,
    clock: Arc<dyn Clock>,
    wakers: Wakers,
    memory: Memory,
    fence: Arc<Fence>,
    expected: Expected,
    /// Parties whose inbox still holds something of an ended epoch.
    earlier: Mutex<BTreeSet<PartyId>>,
    /// Why nothing is written any more.
    left_behind: LeftBehind,
}

/// The store of an adapter in a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresAdapterStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
}

const NODE: &str =
    "INSERT INTO node (instance_id, dedup_key) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const OWN_NODE: &str = "SELECT instance_id, dedup_key FROM node";
const EARLIER: &str = "SELECT DISTINCT party FROM ended_epoch WHERE consumed < delivered";

impl PostgresAdapterStore {
    /// Connects, checks the server and the schema, takes the lock of the one who
    /// writes, and starts the writer. The schema must be there: see
    /// [`super::migrate_adapter`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the server can't be reached or lets nobody in;
    /// [`StoreError::Invalid`] if schema or server do not fit, or another process
    /// keeps its store there.
    pub async fn open(options: AdapterOptions) -> Result<Self, StoreError> {
        let mut token = [0; 8];
        token.copy_from_slice(&options.seed[48..]);
        let process = Process(token);
        let database = Database::for_adapter(&options.settings, &process.name())?;
        let line = database.line().await?;
        schema::must_fit_as(line.client(), Role::Adapter).await?;
        let (instance_id, dedup_key) = identify(line.client(), &options.seed).await?;
        let dedup_key = Hmac::<Sha256>::new_from_slice(&dedup_key)
            .map_err(|_| damaged("the store's own key"))?;
        let shared = Arc::new(Shared {
            database,
            process,
            instance_id,
            dedup_key,
            clock: options.clock,
            wakers: Wakers::default(),
            memory: Memory::new(Direction::Submissions),
            fence: Arc::default(),
            expected: Expected::default(),
            earlier: Mutex::default(),
            left_behind: LeftBehind::default(),
        });
        let writer = Writer::begin(shared.clone()).await?;
        // From now on nobody else writes.
        let earlier = rows(line.client(), EARLIER, &[]).await?;
        let earlier = earlier.iter().map(|row| party(row, 0));
        let earlier = earlier.collect::<Result<_, _>>()?;
        drop(line);
        let (queue, waiting) = mpsc::channel(queue::LENGTH);
        tokio::spawn(writer.run(Queue::new(waiting)));
        let store = Self { shared, queue };
        *store.earlier() = earlier;
        Ok(store)
    }

    /// Comes when this adapter has to be started anew, and says why: another process
    /// has written to its database, or that was put back to an earlier state, while
    /// it ran. What it holds in memory is of another history; nothing is written any
    /// more.
    pub fn left_behind(&self) -> BoxFuture<'static, &'static str> {
        self.shared.left_behind.known()
    }

    fn earlier(&self) -> MutexGuard<'_, BTreeSet<PartyId>> {
        let earlier = self.shared.earlier.lock();
        earlier.unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in the writer's next batch. It may be done more than once: only
    /// the last time counts.
    fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut World) -> Step<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (job, told) = writer::job(Vec::new(), 0, work);
        self.send(Message::Write(job), told)
    }

    fn send<T: Send + 'static>(
        &self,
        message: Message,
        told: oneshot::Receiver<Result<T, StoreError>>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let queue = self.queue.clone();
        async move {
            queue.send(message).await.map_err(|_| StoreError::Closed)?;
            told.await.map_err(|_| StoreError::Closed)?
        }
        .boxed()
    }

    /// Does something in a transaction of its own.
    fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(Tell<T>) -> Alone,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (tell, told) = oneshot::channel();
        self.send(Message::Alone(work(Some(tell))), told)
    }

    /// A connection for reading from a server that shows nothing which could still be
    /// lost, and everything that was told here before.
    async fn reader(&self) -> Result<Reader, StoreError> {
        let shared = &self.shared;
        if shared.fence.stands() {
            // A queue that is full has no patience either.
            let _ = self.queue.try_send(Message::Now);
            shared.fence.passed().await;
        }
        if self.queue.is_closed() {
            return Err(StoreError::Closed);
        }
        shared
            .database
            .settled_reader(|| self.write(|_| Ok(())))
            .await
    }
}

/// Who this store is: made once, with the first opening.
async fn identify(client: &Session, seed: &[u8; 56]) -> Result<([u8; 16], Vec<u8>), StoreError> {
    execute(client, NODE, &[&&seed[..16], &&seed[16..48]]).await?;
    let row = one(client, OWN_NODE, &[]).await?;
    Ok((id16(row.try_get(0)?)?, row.try_get(1)?))
}
