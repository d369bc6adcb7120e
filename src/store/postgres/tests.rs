//! The suite on PostgreSQL, and what is PostgreSQL's own. Every server here is
//! started by the tests.

pub(crate) mod cluster;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use crate::{
    domain::{Policy, decide},
    link::WireHeaders,
    runtime::{SystemClock, random_bytes},
    store::{
        AdapterStore, Decide, HubStore, StoreError,
        conformance::{self, Engine},
        sqlite,
    },
};
use cluster::{Cluster, USER, programs};

use super::{Options, PostgresStore, Settings, SynchronousCommit, migrate};

/// A database that has the schema and nothing else.
const TEMPLATE: &str = "pattern";

/// The server that most tests share; `None`: its programs are not installed.
fn shared() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let found = CLUSTER.get_or_init(|| Some(Cluster::start(&programs()?, 200)));
    if found.is_none() {
        eprintln!("did not run: no programs of a PostgreSQL server are installed");
    }
    found.as_ref()
}

/// Carries out a statement as the operator would.
async fn sql(cluster: &Cluster, database: &str, statement: &str) {
    let url = cluster.url(database);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let task = tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
    drop(client);
    task.await.unwrap().unwrap();
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

fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned().into(),
        roots: None,
        certificate: None,
        key: None,
        synchronous_commit: SynchronousCommit::On,
        connections: 4,
        statement_timeout: Duration::from_secs(30),
    }
}

async fn open(url: &str, decide: Decide) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(Options {
        settings: settings(url),
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    })
    .await
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
        // The suite opens stores as files are opened.
        let (name, store) =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opened));
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
