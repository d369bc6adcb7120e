//! A database of an earlier program is brought up to this one.

use std::process::{Command, Output};

use super::{
    integrity::{look, written},
    *,
};
use crate::store::{
    Store as _,
    conformance::{city, filing, national, province},
};

use super::super::check;

/// What an earlier release applied, as it stands in its files.
const EARLIER: [(&str, &str); 4] = [
    ("V1__hub", include_str!("../migrations/V1__hub.sql")),
    ("V2__commit", include_str!("../migrations/V2__commit.sql")),
    (
        "V3__settling",
        include_str!("../migrations/V3__settling.sql"),
    ),
    ("V4__epochs", include_str!("../migrations/V4__epochs.sql")),
];

/// A database as the program of the fourth migration makes it.
async fn earlier(cluster: &Cluster) -> String {
    let name = format!("m{}", hex::encode(random_bytes::<8>()));
    sql(cluster, "postgres", &format!("CREATE DATABASE {name}")).await;
    let mut operator = Operator::at(cluster, &name).await;
    let all = EARLIER.map(|(name, sql)| refinery::Migration::unapplied(name, sql).unwrap());
    let runner = refinery::Runner::new(&all);
    runner.run_async(&mut operator.client).await.unwrap();
    operator.leaves().await.unwrap();
    name
}

fn program(cluster: &Cluster, name: &str, words: &[&str]) -> Output {
    let done = Command::new(cluster.programs.join(name))
        .args(["-h", &cluster.directory.display().to_string()])
        .args(["-p", &cluster.port.to_string(), "-U", USER])
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{name}: {said}");
    done
}

/// Scenario: a database has the migrations of an earlier release, and rows of all
/// kinds: complaints, refusals, repetitions, an erasure, an epoch that has ended.
/// This program is started on it, then migrates it.
/// Guarantee: it does not serve before, and says which side is older and what to do;
/// afterwards the whole record is there, every chain of it, and it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_database_is_brought_up() {
    let Some(cluster) = shared() else { return };
    let from = written(cluster).await;
    let name = earlier(cluster).await;
    let rows = [
        "--data-only",
        "--column-inserts",
        "--exclude-table=refinery_schema_history",
        "--exclude-table=schema_use",
        &from,
    ];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), program(cluster, "pg_dump", &rows).stdout).unwrap();
    let file = file.path().to_str().unwrap();
    let load = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &name, "-f", file];
    program(cluster, "psql", &load);

    let own = settings(&cluster.url(&name));
    let before = check(&own).await.unwrap();
    assert!(before.found == 4 && !before.fits(), "{before:?}");
    let why = open(&cluster.url(&name), decide).await.err().unwrap();
    let why = why.to_string();
    let says = format!("at version 4 and this program needs {}", before.known);
    assert!(why.contains(&says), "{why}");
    assert!(why.contains("`jembatan store migrate`"), "{why}");

    let after = migrate(&own).await.unwrap();
    assert!(after.fits() && after.found == after.known, "{after:?}");
    let hub = open(&cluster.url(&name), decide).await.unwrap();
    let there = open(&cluster.url(&from), decide).await.unwrap();
    for party in [province(), city(), national()] {
        let expected = there.heads(&party).await.unwrap();
        assert_eq!(hub.heads(&party).await.unwrap(), expected, "{party}");
        for direction in [Direction::Submissions, Direction::Deliveries] {
            whole(&hub, &party, direction).await;
        }
    }
    hub.open_session(&province(), TOKEN).await.unwrap();
    let later = filing(&province(), "M-1", "isi", None);
    send(&hub, &province(), &[later]).await;
    hub.close().await;
    there.close().await;
    let found = look(cluster, &name).await;
    assert!(found.is_whole(), "{:?}", found.findings);
}
