//! Two hubs as processes of their own, on one PostgreSQL that the test starts.

#[path = "../../src/store/postgres/tests/cluster.rs"]
pub(crate) mod cluster;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jembatan::{
    domain::Policy,
    link::WireHeaders,
    runtime::SystemClock,
    store::{
        Store as _,
        postgres::{Options, PostgresStore, Settings, SynchronousCommit},
    },
    wire::v1,
};

use crate::{
    cli::{at, jembatan},
    kill::{decisions, items},
    letters,
    support::{Node, World, complaint, eventually, free_port, now, submit_many},
};
use cluster::{Cluster, programs};

/// A server with an empty database, and the settings of a hub that uses it.
pub(crate) fn database(directory: &Path) -> Option<(Cluster, String, PathBuf)> {
    let cluster = Cluster::start(&programs()?, &[]);
    let made = std::process::Command::new("createdb")
        .args(["-h", &cluster.directory.display().to_string()])
        .args(["-p", &cluster.port.to_string()])
        .args(["-U", cluster::USER, "national"])
        .output();
    assert!(made.unwrap().status.success());
    let table = format!("[store]\nurl = \"{}\"\n", cluster.url("national"));
    let file = directory.join("store.toml");
    std::fs::write(&file, &table).unwrap();
    Some((cluster, table, file))
}

/// Settings of a second hub beside the first, and the address of its links.
pub(crate) fn second_hub(world: &World) -> (PathBuf, String) {
    let settings = std::fs::read_to_string(world.directory.path().join("hub.toml")).unwrap();
    let other = free_port().to_string();
    let second = world.directory.path().join("second.toml");
    let settings = settings.replace(&world.links().to_string(), &other);
    std::fs::write(&second, settings).unwrap();
    (second, other)
}

/// Settings of an adapter that knows both.
pub(crate) fn with_both(world: &World, second: &(PathBuf, String), text: String) -> String {
    let own = format!("address = \"{}\"", world.links());
    text.replace(&own, &format!("{own}\nfallback = [\"{}\"]", second.1))
}

/// Scenario: a hub on an empty database; then `store check` and `store migrate`.
/// Guarantee: the hub refuses and says what to do; migrating makes it fit;
/// commands that work on a store's files name what to run instead, and the others
/// say what they find.
#[test]
fn a_hub_says_what_its_database_needs() {
    let directory = tempfile::tempdir().unwrap();
    let Some((_cluster, _, file)) = database(directory.path()) else {
        return;
    };
    let file = file.to_str().unwrap();
    let checked = jembatan(&["store", "check", "--config", file]);
    assert_eq!(checked.code, 1);
    assert!(checked.err.contains("store migrate"), "{}", checked.err);
    let json = ["store", "migrate", "--config", file, "--output", "json"];
    assert_eq!(jembatan(&json).good().json()["fits"], true);
    jembatan(&["store", "check", "--config", file]).good();
    let copy = directory.path().join("copy.db");
    let refused = jembatan(&["backup", "--config", file, copy.to_str().unwrap()]);
    assert!(refused.err.contains("pg_basebackup"), "{}", refused.err);
    let refused = jembatan(&["restore", copy.to_str().unwrap(), "--config", file]);
    assert!(refused.err.contains("pg_restore"), "{}", refused.err);
    let refused = jembatan(&["recover", "--config", file]);
    assert!(refused.err.contains("no hub has ever"), "{}", refused.err);
    let list = jembatan(&["dead-letters", "list", "--config", file]).good();
    assert!(
        list.out.contains("nothing of this was refused"),
        "{}",
        list.out
    );
    let deep = jembatan(&["store", "check", "--deep", "--config", file]).good();
    assert!(deep.out.contains("is whole"), "{}", deep.out);
}

/// Scenario: two hubs share a database; the adapters of province and city know
/// both. While complaints are handed over, the hub that has the links is
/// killed, comes back, and then the other one is killed.
/// Guarantee: count in = count out: the parties move to the hub that lives,
/// each complaint is accepted once and is in the city's inbox once, and both
/// ends of every journal are equal.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_loses_and_doubles_nothing() {
    const EACH: usize = 150;
    let directory = tempfile::tempdir().unwrap();
    let Some((_cluster, table, file)) = database(directory.path()) else {
        return;
    };
    jembatan(&["store", "migrate", "--config", file.to_str().unwrap()]).good();
    let mut world = World::with_hub(&table);
    let second = second_hub(&world);
    let both = |text| with_both(&world, &second, text);
    let mut second = Node::start("hub", &second.0);
    for party in ["pemda-33", "pemda-33.74"] {
        world.issue_party(party);
    }
    let province = world.adapter_with("province", "pemda-33", both);
    let city = world.adapter_with("city", "pemda-33.74", both);
    let mut expected = BTreeMap::new();
    for round in 0..3 {
        let references = (0..EACH).map(|n| format!("R-{round}-{n}"));
        let batch: Vec<_> = references.map(|reference| complaint(&reference)).collect();
        for new in &batch {
            expected.insert(new.reference.clone(), new.body.clone());
        }
        assert_eq!(submit_many(&province, batch).await, EACH);
        // Some of them are decided, and more are on their way.
        eventually("some are decided", || async {
            decisions(&province).await.len() > round * EACH
        })
        .await;
        match round {
            0 => world.hub.restart(),
            1 => second.restart(),
            _ => {}
        }
    }
    eventually("everything is decided", || async {
        decisions(&province).await.len() == 3 * EACH
    })
    .await;
    let accepted = decisions(&province).await;
    assert!(
        accepted
            .iter()
            .all(|found| found.outcome == v1::Outcome::Accepted as i32)
    );
    for hub in [&world.hub, &second] {
        for (party, node) in [("pemda-33", &province), ("pemda-33.74", &city)] {
            for journal in [v1::Journal::Submissions, v1::Journal::Deliveries] {
                eventually("both ends hold the same journal", || async {
                    hub.place(party, journal).await == node.place(party, journal).await
                })
                .await;
            }
        }
    }
    let mut found = BTreeMap::new();
    for item in items(&city).await {
        if let Some(v1::inbox_item::Item::Event(event)) = item.item {
            let (event, content) = (event.event.unwrap(), event.content.unwrap());
            let again = found.insert(event.reference.clone(), content.body);
            assert_eq!(again, None, "{} came twice", event.reference);
        }
    }
    assert_eq!(found, expected);
    assert!(world.hub.stop() && second.stop(), "both end in order");
}

/// As a replica of another version would leave it that can't decide these.
pub(crate) async fn park(url: String, references: &[&str]) {
    let store = PostgresStore::open(Options {
        settings: Settings {
            url,
            password_file: None,
            roots: None,
            certificate: None,
            key: None,
            synchronous_commit: SynchronousCommit::On,
            connections: 1,
            statement_timeout: Duration::from_secs(30),
        },
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: [7; 48],
        decide: letters::broken,
    });
    let store = store.await.unwrap();
    let batch = references.iter().map(|name| letters::filing(name));
    let taken = store.submit(batch.collect(), now()).await.unwrap();
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    store.close().await;
}

/// Scenario: a hub on PostgreSQL, where another replica could not decide two
/// filings. The operator looks, has one decided again and gives the other up.
/// Guarantee: looking names both; each is settled, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_on_a_database_settles_its_letters() {
    let directory = tempfile::tempdir().unwrap();
    let Some((cluster, table, file)) = database(directory.path()) else {
        return;
    };
    jembatan(&["store", "migrate", "--config", file.to_str().unwrap()]).good();
    let mut world = World::with_hub(&table);
    park(cluster.url("national"), &["L-1", "L-2"]).await;
    let retry = ["dead-letters", "retry", "--output", "json"];
    let look = at(&world.hub, &[&retry[..], &["--all", "--dry-run"]].concat());
    let look = look.good().lines();
    assert_eq!(look.len(), 2, "{look:?}");
    let which = look[0]["eventId"].as_str().unwrap();
    let done = at(&world.hub, &[&retry[..], &[which]].concat());
    let done = done.good().lines();
    assert_eq!(done[0]["decision"]["outcome"], "OUTCOME_ACCEPTED");
    let drop = ["dead-letters", "drop", "pemda-33/2", "--output", "json"];
    let noted = [&drop[..], &["--note", "Uji coba."]].concat();
    let done = at(&world.hub, &noted).good().lines();
    assert_eq!(done[0]["decision"]["outcome"], "OUTCOME_REJECTED");
    let rest = at(&world.hub, &[&retry[..], &["--all", "--dry-run"]].concat());
    assert!(rest.good().lines().is_empty());
    assert!(world.hub.stop());
}
