//! What sessions keep, so that nobody who is gone holds anything for long, and what
//! is read anew for each of them.

use futures_util::FutureExt as _;

use super::*;
use crate::store::Store as _;
use cluster::GUARDED;

use super::super::{connect::Database, session::one};

/// What the server keeps for a session, as it says it itself.
async fn kept(line: &super::super::connect::Line, names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for name in names {
        let sql = format!("SHOW {name}");
        let row = line.client().query_one(&sql, &[]).await.unwrap();
        found.push(row.get(0));
    }
    found
}

const ASKING: [&str; 4] = [
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_user_timeout",
];

const WAITING: [&str; 5] = [
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "client_connection_check_interval",
    "statement_timeout",
    "lock_timeout",
];

/// Scenario: a hub's session and an operator's, over TCP and over a socket in the
/// file system.
/// Guarantee: over TCP the server asks within seconds whether the other end is
/// there, instead of within hours; an operator's session may work as long as it
/// likes, and is ended when it does nothing for a minute.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_is_gone_holds_locks_for_long() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let over_tcp = settings(&cluster.tcp_url(&name, cluster.port));
    let over_socket = settings(&cluster.url(&name));
    for settings in [&over_tcp, &over_socket] {
        let hub = Database::new(settings).unwrap().line().await.unwrap();
        let operator = Database::for_operator(settings).unwrap();
        let operator = operator.patient_line().await.unwrap();
        for line in [&hub, &operator] {
            let expected = match std::ptr::eq(settings, &raw const over_tcp) {
                true => ["10", "5", "3", "25000"],
                false => ["0", "0", "0", "0"],
            };
            assert_eq!(kept(line, &ASKING).await, expected);
        }
        let expected = ["1min", "1min", "10s", "0", "0"];
        assert_eq!(kept(&operator, &WAITING).await, expected);
        let expected = ["5s", "0", "0", "30s", "5s"];
        assert_eq!(kept(&hub, &WAITING).await, expected);
    }
}

/// Scenario: an operator's command waits for a statement that takes long, and is
/// killed, so that its line is closed; hubs wait for what it holds.
/// Guarantee: the server ends the statement within seconds, and with it what it
/// holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_nobody_waits_for_ends() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let settings = settings(&cluster.tcp_url(&name, cluster.port));
    let line = Database::for_operator(&settings).unwrap();
    let line = line.patient_line().await.unwrap();
    one(line.client(), "SELECT pg_try_advisory_lock(7301, 3)", &[])
        .await
        .unwrap();
    let sleeping = one(line.client(), "SELECT pg_sleep(600)", &[]);
    let cut = tokio::time::timeout(Duration::from_millis(300), sleeping).await;
    assert!(cut.is_err(), "it takes long");
    drop(line);
    // Until then it waits for whoever it takes to be an operator at work.
    let url = cluster.url(&name);
    let opened = tokio::time::timeout(Duration::from_secs(60), open(&url, decide));
    opened.await.unwrap().unwrap();
}

/// Scenario: the password of the database's user is changed while a hub runs: in
/// the server first, then in the file that the settings name.
/// Guarantee: in between new connections are refused, and it is said; with the new
/// file they are made, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_needs_no_restart() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let name = database(&cluster).await;
    let role = format!(
        "CREATE ROLE {GUARDED} LOGIN PASSWORD 'first'; GRANT ALL ON DATABASE {name} TO {GUARDED}"
    );
    sql(&cluster, "postgres", &role).await;
    let rights = format!(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO {GUARDED}; \
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {GUARDED}"
    );
    sql(&cluster, &name, &rights).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first\n").unwrap();
    let settings = Settings {
        password_file: Some(file.path().to_owned()),
        ..settings(&format!(
            "postgres://{GUARDED}@127.0.0.1:{}/{name}?sslmode=disable",
            cluster.port
        ))
    };
    let store = open_with(settings, decide).await.unwrap();
    store.probe().await.unwrap();
    let change = format!("ALTER ROLE {GUARDED} PASSWORD 'second'");
    sql(&cluster, "postgres", &change).await;
    let database = &store.shared.database;
    let why = database.line().await.err().unwrap();
    assert!(why.needs_a_person(), "{why:?}");
    std::fs::write(file.path(), "second\n").unwrap();
    database.line().await.unwrap();
    std::fs::remove_file(file.path()).unwrap();
    let why = StoreError::from(database.line().await.err().unwrap());
    assert!(why.to_string().contains("password file"), "{why}");
    assert!(store.left_behind().now_or_never().is_none());
}
