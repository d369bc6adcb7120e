//! The suite on PostgreSQL, and what is PostgreSQL's own. Every server here is
//! started by the tests.
#![allow(clippy::print_stderr, reason = "a test says that it did not run")]

mod away;
pub(crate) mod cluster;
mod directory;
mod encrypted;
mod epochs;
pub(super) mod faults;
mod integrity;
mod lines;
mod migrating;
pub(super) mod plans;
mod refusals;
mod replicas;
mod settling;
pub(super) mod standby;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use crate::{
    domain::{Decision, DeliveryRecord, Micros, PartyId, Policy, decide},
    exchange::{Direction, Entry, Place, entry_digest, extend},
    link::WireHeaders,
    runtime::{SystemClock, random_bytes},
    store::{
        AcceptBatch, AdapterStore, DeadLetter, Decide, HubStore, IncomingEntry, JournalEntry,
        LetterName, LetterQuery, NewSubmission, Recovered, StoreError,
        conformance::{self, Engine, Kept, TOKEN, World, at},
        sqlite,
    },
    wire,
};
use cluster::{Cluster, USER, programs};

use super::{
    Options, PostgresStore, Settings, SynchronousCommit, letters, letters_named, migrate, recover,
};

/// A database that has the schema and nothing else.
const TEMPLATE: &str = "pattern";

/// The server that most tests share; `None`: its programs are not installed.
pub(super) fn shared() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let found = CLUSTER.get_or_init(|| Some(Cluster::start(&programs()?, &[])));
    found.as_ref()
}

/// A session of the operator's own.
pub(super) struct Operator {
    client: tokio_postgres::Client,
    task: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Operator {
    pub(super) async fn at(cluster: &Cluster, database: &str) -> Self {
        let url = cluster.url(database);
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        let task = tokio::spawn(connection);
        Self { client, task }
    }

    /// How the session has ended.
    pub(super) async fn leaves(self) -> Result<(), tokio_postgres::Error> {
        drop(self.client);
        self.task.await.unwrap()
    }
}

/// Carries out a statement as the operator would.
pub(super) async fn sql(cluster: &Cluster, database: &str, statement: &str) {
    try_sql(cluster, database, statement).await.unwrap();
}

pub(super) async fn try_sql(
    cluster: &Cluster,
    database: &str,
    statement: &str,
) -> Result<(), tokio_postgres::Error> {
    let operator = Operator::at(cluster, database).await;
    let said = operator.client.batch_execute(statement).await;
    // Whoever ends its own session is told so.
    let _ = operator.leaves().await;
    said
}

/// The number that a statement finds.
pub(super) async fn value(cluster: &Cluster, database: &str, statement: &str) -> i64 {
    let operator = Operator::at(cluster, database).await;
    let found = operator.client.query_one(statement, &[]).await.unwrap();
    operator.leaves().await.unwrap();
    found.get(0)
}

impl Cluster {
    /// Gives files to the server's user.
    fn give(path: &Path) {
        if cluster::is_root() {
            let given = std::process::Command::new("chown")
                .args(["-R", "nobody:nogroup"])
                .arg(path)
                .status();
            assert!(given.unwrap().success());
        }
    }

    /// The url of a database, over TCP at this port, in the clear.
    pub(crate) fn tcp_url(&self, database: &str, port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{database}?sslmode=disable")
    }
}

/// A fresh database with the schema.
async fn database(cluster: &Cluster) -> String {
    static TEMPLATES: tokio::sync::Mutex<Vec<PathBuf>> = tokio::sync::Mutex::const_new(Vec::new());
    let mut templates = TEMPLATES.lock().await;
    if !templates.contains(&cluster.directory) {
        sql(cluster, "postgres", &format!("CREATE DATABASE {TEMPLATE}")).await;
        migrate(&settings(&cluster.url(TEMPLATE))).await.unwrap();
        templates.push(cluster.directory.clone());
    }
    let name = format!("d{}", hex::encode(random_bytes::<8>()));
    // One at a time: a pattern is copied while nobody looks at it.
    sql(
        cluster,
        "postgres",
        &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}"),
    )
    .await;
    name
}

pub(super) fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        password_file: None,
        roots: None,
        certificate: None,
        key: None,
        synchronous_commit: SynchronousCommit::On,
        connections: 4,
        statement_timeout: Duration::from_secs(30),
    }
}

async fn open(url: &str, decide: Decide) -> Result<PostgresStore, StoreError> {
    open_with(settings(url), decide).await
}

async fn open_with(settings: Settings, decide: Decide) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(Options {
        settings,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    })
    .await
}

/// Two replicas on one database, and the nodes that they serve.
struct Pair {
    world: World,
    database: String,
    second: Arc<PostgresStore>,
}

impl Pair {
    async fn new(cluster: &'static Cluster) -> Self {
        let engine = Postgres {
            cluster,
            databases: Mutex::default(),
        };
        let world = World::new(&engine).await;
        let directory = world.directory.path().join("hub");
        let database = engine.databases.lock().unwrap()[&directory].clone();
        let second = open(&cluster.url(&database), decide).await.unwrap();
        Self {
            world,
            database,
            second: Arc::new(second),
        }
    }
}

/// Submissions come over a link at this replica, behind what is there.
async fn send(hub: &dyn HubStore, party: &PartyId, new: &[NewSubmission]) {
    let expected = hub.heads(party).await.unwrap().submissions;
    hub.accept(party, frame(expected, new)).await.unwrap();
}

/// Submissions as a link brings them.
fn frame(expected: Place, new: &[NewSubmission]) -> AcceptBatch {
    let entries: Vec<Entry> = new
        .iter()
        .map(|new| Entry {
            header: bytes::Bytes::new(),
            event: new.event_bytes.clone(),
            parts: new.parts.clone(),
            handover_digest: Some(new.handover_digest),
        })
        .collect();
    AcceptBatch {
        token: TOKEN,
        expected,
        head: extend(expected, Direction::Submissions, &entries),
        entries: entries
            .into_iter()
            .zip(new)
            .map(|(entry, new)| IncomingEntry {
                entry,
                event: Ok(new.event.clone()),
            })
            .collect(),
        now: at(100),
    }
}

/// All entries of a journal, without a gap; hashing them from the beginning
/// gives the chain that the store names.
async fn whole(hub: &dyn HubStore, party: &PartyId, direction: Direction) -> Vec<JournalEntry> {
    let heads = hub.heads(party).await.unwrap();
    let mut place = Place::root(party, direction, heads.epoch);
    let mut all = Vec::new();
    loop {
        let from = place.position + 1;
        let page = hub.read(party, direction, from, 1_000, usize::MAX);
        let page = page.await.unwrap();
        if page.is_empty() {
            break;
        }
        for entry in page {
            place = place.after(&entry_digest(direction, &entry.entry));
            assert_eq!(entry.position, place.position, "{party} {direction:?}");
            all.push(entry);
        }
    }
    let head = match direction {
        Direction::Submissions => heads.submissions.position,
        Direction::Deliveries => heads.deliveries,
    };
    assert_eq!(place.position, head, "{party} {direction:?}");
    let named = hub.place_at(party, direction, head).await.unwrap();
    assert_eq!(named, Some(place), "{party} {direction:?}");
    all
}

/// What a party was decided, by position: each exactly once and in order.
async fn decided(hub: &dyn HubStore, party: &PartyId) -> Vec<Decision> {
    let mut found = Vec::new();
    for entry in whole(hub, party, Direction::Deliveries).await {
        if let Ok(DeliveryRecord::Decisions(set)) = wire::decode_header(&entry.entry.header) {
            assert_eq!(set.first_position, found.len() as u64 + 1, "{party}");
            found.extend(set.decisions);
        }
    }
    found
}

/// Hubs on PostgreSQL; the nodes of regions keep SQLite.
struct Postgres {
    cluster: &'static Cluster,
    databases: Mutex<HashMap<PathBuf, String>>,
}

impl Engine for Postgres {
    fn hub(&self, directory: &Path, decide: Decide) -> Arc<dyn HubStore> {
        let known = self.databases.lock().unwrap().get(directory).cloned();
        let opened = async {
            let name = match known {
                Some(name) => name,
                None => database(self.cluster).await,
            };
            let store = open(&self.cluster.url(&name), decide).await.unwrap();
            (name, store)
        };
        let (name, store) = wait(opened);
        let mut databases = self.databases.lock().unwrap();
        databases.insert(directory.to_owned(), name);
        Arc::new(store)
    }

    fn node(&self, directory: &Path) -> Arc<dyn AdapterStore> {
        let node = sqlite::SqliteStore::open(sqlite::Options {
            directory: directory.to_owned(),
            role: sqlite::NodeRole::Adapter,
            encoder: Arc::new(WireHeaders),
            policy: Policy::default(),
            clock: Arc::new(SystemClock),
            seed: random_bytes(),
            decide,
        });
        Arc::new(node.unwrap())
    }

    fn keep(&self, directory: &Path) -> Kept {
        let from = self.name_of(directory);
        Kept(self.copied(&from).into_bytes())
    }

    fn put_back(&self, directory: &Path, kept: &Kept) {
        let name = self.copied(std::str::from_utf8(&kept.0).unwrap());
        let mut databases = self.databases.lock().unwrap();
        databases.insert(directory.to_owned(), name);
    }

    fn recover(&self, directory: &Path, now: Micros, dry_run: bool) -> Recovered {
        let settings = settings(&self.cluster.url(&self.name_of(directory)));
        wait(recover(&settings, now, dry_run)).unwrap()
    }

    fn letters(&self, directory: &Path, query: &LetterQuery) -> Vec<DeadLetter> {
        match self.settings_of(directory) {
            Some(settings) => wait(letters(&settings, query)).unwrap(),
            None => sqlite::letters(directory, query).unwrap(),
        }
    }

    fn letters_named(&self, directory: &Path, name: &LetterName) -> Vec<DeadLetter> {
        match self.settings_of(directory) {
            Some(settings) => wait(letters_named(&settings, name)).unwrap(),
            None => sqlite::letters_named(directory, name).unwrap(),
        }
    }
}

impl Postgres {
    /// `None`: a node's, which has SQLite.
    fn settings_of(&self, directory: &Path) -> Option<Settings> {
        let databases = self.databases.lock().unwrap();
        let name = databases.get(directory)?;
        Some(settings(&self.cluster.url(name)))
    }

    fn name_of(&self, directory: &Path) -> String {
        self.databases.lock().unwrap()[directory].clone()
    }

    /// A copy of a database that nobody uses; its name.
    fn copied(&self, from: &str) -> String {
        let name = format!("d{}", hex::encode(random_bytes::<8>()));
        let copy = format!("CREATE DATABASE {name} TEMPLATE {from}");
        wait(sql(self.cluster, "postgres", &copy));
        name
    }
}

/// The suite opens stores as files are opened.
pub(super) fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract_of_stores() {
    let Some(cluster) = shared() else { return };
    let engine = Postgres {
        cluster,
        databases: Mutex::default(),
    };
    conformance::run(&engine).await;
}
