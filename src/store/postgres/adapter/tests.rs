//! The suite on an adapter's PostgreSQL, and what is its own.

mod edges;
mod faults;
mod plans;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    domain::{Micros, Policy},
    link::WireHeaders,
    runtime::{SystemClock, random_bytes},
    store::{
        AdapterStore, DeadLetter, Decide, HubStore, LetterName, LetterQuery, Recovered, StoreError,
        conformance::{self, Engine, Kept, World},
        sqlite::{self, NodeRole, SqliteStore},
    },
};

use super::{
    super::{
        Settings, migrate_adapter,
        tests::{cluster::Cluster, settings, shared, sql, wait},
    },
    AdapterOptions, PostgresAdapterStore, adapter_letters, adapter_letters_named,
};

/// A database that has an adapter's schema and nothing else.
const TEMPLATE: &str = "adapter_pattern";

/// A fresh database with the schema.
async fn database(cluster: &Cluster) -> String {
    static TEMPLATES: tokio::sync::Mutex<Vec<PathBuf>> = tokio::sync::Mutex::const_new(Vec::new());
    let mut templates = TEMPLATES.lock().await;
    if !templates.contains(&cluster.directory) {
        sql(cluster, "postgres", &format!("CREATE DATABASE {TEMPLATE}")).await;
        migrate_adapter(&settings(&cluster.url(TEMPLATE)))
            .await
            .unwrap();
        templates.push(cluster.directory.clone());
    }
    let name = format!("a{}", hex::encode(random_bytes::<8>()));
    // One at a time: a pattern is copied while nobody looks at it.
    let copy = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    sql(cluster, "postgres", &copy).await;
    name
}

async fn open(url: &str) -> Result<PostgresAdapterStore, StoreError> {
    open_with(settings(url)).await
}

async fn open_with(settings: Settings) -> Result<PostgresAdapterStore, StoreError> {
    PostgresAdapterStore::open(AdapterOptions {
        settings,
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
    })
    .await
}

/// Nodes on PostgreSQL; the hub keeps SQLite.
struct Nodes {
    cluster: &'static Cluster,
    databases: Mutex<HashMap<PathBuf, String>>,
}

impl Nodes {
    fn on(cluster: &'static Cluster) -> Self {
        Self {
            cluster,
            databases: Mutex::default(),
        }
    }

    fn database_of(&self, directory: &Path) -> String {
        self.databases.lock().unwrap()[directory].clone()
    }
}

impl Engine for Nodes {
    fn hub(&self, directory: &Path, decide: Decide) -> Arc<dyn HubStore> {
        let opened = || {
            SqliteStore::open(sqlite::Options {
                directory: directory.to_owned(),
                role: NodeRole::Hub,
                encoder: Arc::new(WireHeaders),
                policy: Policy::default(),
                clock: Arc::new(SystemClock),
                seed: random_bytes(),
                decide,
            })
        };
        Arc::new(once_let_go(opened).unwrap())
    }

    fn node(&self, directory: &Path) -> Arc<dyn AdapterStore> {
        let known = self.databases.lock().unwrap().get(directory).cloned();
        let name = known.unwrap_or_else(|| wait(database(self.cluster)));
        let store = wait(open(&self.cluster.url(&name))).unwrap();
        let mut databases = self.databases.lock().unwrap();
        databases.insert(directory.to_owned(), name);
        Arc::new(store)
    }

    fn keep(&self, directory: &Path) -> Kept {
        Kept(std::fs::read(directory.join("jembatan.db")).unwrap())
    }

    fn put_back(&self, directory: &Path, kept: &Kept) {
        std::fs::write(directory.join("jembatan.db"), &kept.0).unwrap();
    }

    fn recover(&self, directory: &Path, now: Micros, dry_run: bool) -> Recovered {
        once_let_go(|| sqlite::recover(directory.to_owned(), now, dry_run)).unwrap()
    }

    fn letters(&self, directory: &Path, query: &LetterQuery) -> Vec<DeadLetter> {
        sqlite::letters(directory, query).unwrap()
    }

    fn letters_named(&self, directory: &Path, name: &LetterName) -> Vec<DeadLetter> {
        sqlite::letters_named(directory, name).unwrap()
    }

    fn node_letters(&self, directory: &Path, query: &LetterQuery) -> Vec<DeadLetter> {
        let settings = settings(&self.cluster.url(&self.database_of(directory)));
        wait(adapter_letters(&settings, query)).unwrap()
    }

    fn node_letters_named(&self, directory: &Path, name: &LetterName) -> Vec<DeadLetter> {
        let settings = settings(&self.cluster.url(&self.database_of(directory)));
        wait(adapter_letters_named(&settings, name)).unwrap()
    }
}

/// Does something with a hub's file whose last process has just ended: the writer's
/// thread lets go a moment after the last handle.
fn once_let_go<T>(mut act: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..500 {
        match act() {
            Err(error) if error.to_string().contains("another process") => {
                wait(tokio::time::sleep(Duration::from_millis(2)));
            }
            outcome => return outcome,
        }
    }
    act()
}

/// Scenario: the suite of all engines, with every node on a PostgreSQL database.
/// Guarantee: a node on PostgreSQL keeps the contract that SQLite keeps.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract_of_an_adapters_store() {
    let Some(cluster) = shared() else { return };
    conformance::run(&Nodes::on(cluster)).await;
}

/// A hub, nodes on PostgreSQL, and the name of the province's database.
async fn world(cluster: &'static Cluster) -> (World, String) {
    let nodes = Nodes::on(cluster);
    let world = World::new(&nodes).await;
    let name = nodes.database_of(&world.directory.path().join("province"));
    (world, name)
}
