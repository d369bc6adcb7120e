//! What earlier versions of this program left behind, and what later ones do.

use std::path::{Path, PathBuf};

use jembatan::wire::v1;

use crate::{
    cli::{at, jembatan},
    kill::{filings, items},
    letters::park,
    support::{
        Node, World, complaint, connected, eventually, same_at_both_ends, submit, submit_many,
    },
};

const CITY: &str = "pemda-33.74";
const PROVINCE: &str = "pemda-33";
const SUBMISSIONS: v1::Journal = v1::Journal::Submissions;
const DELIVERIES: v1::Journal = v1::Journal::Deliveries;

/// With this set the tests make their fixtures anew, first.
const MAKE: &str = "JEMBATAN_MAKE_FIXTURES";

/// Where the fixture of a release is kept.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

const QUEUED: usize = 12;

/// Scenario: a store as release 0.1 left it, with twelve hand-overs that no hub
/// has seen, is opened by this version. `JEMBATAN_MAKE_FIXTURES=1` makes the
/// file again, which is right only before a release.
/// Guarantee: all of it drains, each once; the keys of then are still known.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_release_0_1_drains_after_an_upgrade() {
    let mut world = World::new();
    world.hub.kill();
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file(CITY, "", local);
    let data = world.directory.path().join(format!("{CITY}-data"));
    let kept = fixture("adapter-0.1.db");
    let reference = |n: usize| format!("UPGRADE-{n}");
    if std::env::var_os(MAKE).is_some() {
        let mut old = Node::start("adapter", &config);
        submit_many(
            &old,
            (0..QUEUED).map(|n| complaint(&reference(n))).collect(),
        )
        .await;
        assert!(old.stop());
        let database = rusqlite::Connection::open(data.join("jembatan.db")).unwrap();
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&kept);
        database
            .execute("VACUUM INTO ?1", [kept.to_str().unwrap()])
            .unwrap();
        drop(database);
        drop(old);
        std::fs::remove_dir_all(&data).unwrap();
    }
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(&kept, data.join("jembatan.db")).unwrap();
    world.hub.start_again();
    let city = Node::start("adapter", &config);
    let head = same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, QUEUED as u64).await;
    assert_eq!(head, QUEUED as u64);
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (QUEUED as u64, 0));
    let mut door = city.gateway().await;
    for n in 0..QUEUED {
        let request = submit(complaint(&reference(n)), 30_000);
        let receipt = door.submit(request).await.unwrap().into_inner();
        let receipt = receipt.receipt.unwrap();
        assert!(receipt.repeated_handover, "{receipt:?}");
        assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    }
}

fn names(of: &str, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("{of}-{n}")).collect()
}

async fn takes(node: &Node, references: &[String]) {
    let all = references.iter().map(|name| complaint(name)).collect();
    assert_eq!(submit_many(node, all).await, references.len());
}

fn vacuum_into(data: &Path, target: &Path) {
    let database = rusqlite::Connection::open(data.join("jembatan.db")).unwrap();
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(target);
    let target = target.to_str().unwrap();
    database.execute("VACUUM INTO ?1", [target]).unwrap();
}

/// Makes `tests/fixtures/store-9`: the stores of a hub and of a city's adapter,
/// as `a_hub_and_an_adapter_of_schema_9_go_on` says. Only ever with the program
/// whose schema it is named after.
async fn make_fixtures_of_schema_9() {
    let mut world = World::new();
    let (mut province, mut city) = (world.adapter(PROVINCE), world.adapter(CITY));
    connected(&world, &city, CITY).await;
    takes(&province, &names("P", 0, 5)).await;
    same_at_both_ends(&world.hub, &province, PROVINCE, SUBMISSIONS, 5).await;
    eventually("the city has the first of the province's", || async {
        filings(&city).await.len() == 5
    })
    .await;
    same_at_both_ends(&world.hub, &city, CITY, DELIVERIES, 1).await;
    let through = items(&city).await.pop().unwrap().cursor;
    let request = v1::AcknowledgeInboxRequest { through };
    let mut door = city.gateway().await;
    door.acknowledge_inbox(request).await.unwrap();
    // The hub has to know how far the city's system is.
    eventually("the hub knows what was taken over", || async {
        let deliveries = world.hub.sync(CITY).await.deliveries.unwrap();
        deliveries.head.unwrap().position == deliveries.consumed_through
    })
    .await;
    // An epoch ends: its number is the second in which it began.
    let began = city.sync(CITY).await.submissions.unwrap().epoch;
    assert!(world.hub.stop());
    let hub_file = world.directory.path().join("hub.toml");
    jembatan(&["recover", "--config", hub_file.to_str().unwrap()]).good();
    world.hub.start_again();
    // They would come by themselves, but not hurry.
    province.restart();
    city.restart();
    takes(&province, &names("P", 5, 10)).await;
    takes(&city, &names("C", 0, 4)).await;
    for (node, party) in [(&province, PROVINCE), (&city, CITY)] {
        eventually("the new epoch", || async {
            node.sync(party).await.submissions.unwrap().epoch > began
        })
        .await;
        same_at_both_ends(&world.hub, node, party, SUBMISSIONS, 4).await;
        same_at_both_ends(&world.hub, node, party, DELIVERIES, 1).await;
    }
    eventually("the city has all of the province's", || async {
        filings(&city).await.len() == 5
    })
    .await;
    assert!(world.hub.stop());
    park(&world, &["PARKED"]).await;
    takes(&city, &names("Q", 0, 4)).await;
    assert!(city.stop());
    let data = |name: &str| world.directory.path().join(name);
    vacuum_into(&data("hub-data"), &fixture("store-9/hub.db"));
    vacuum_into(&data("pemda-33.74-data"), &fixture("store-9/adapter.db"));
}

/// Scenario: the stores of a hub and of an adapter, as a program of schema 9
/// left them, plain files, are opened by this one: an ended epoch, decisions and
/// deliveries, five filings that the city's system has not taken over, a letter
/// that was parked, four hand-overs that no hub has seen. The province comes
/// with an empty disk.
/// Guarantee: everything flows on: the queue drains, each once; the inbox holds
/// the five, once; the letter is decided; keys of then are known; chains are
/// equal at both ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_and_an_adapter_of_schema_9_go_on() {
    if std::env::var_os(MAKE).is_some() {
        make_fixtures_of_schema_9().await;
    }
    let mut world = World::new();
    assert!(world.hub.stop());
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file(CITY, "", local);
    for (kept, data) in [("hub", "hub-data"), ("adapter", "pemda-33.74-data")] {
        let data = world.directory.path().join(data);
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir(&data).unwrap();
        let kept = fixture(&format!("store-9/{kept}.db"));
        std::fs::copy(kept, data.join("jembatan.db")).unwrap();
    }
    world.hub.start_again();
    let (city, province) = (Node::start("adapter", &config), world.adapter(PROVINCE));
    for (node, party) in [(&city, CITY), (&province, PROVINCE)] {
        same_at_both_ends(&world.hub, node, party, SUBMISSIONS, 6).await;
        same_at_both_ends(&world.hub, node, party, DELIVERIES, 1).await;
    }
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (8, 0));
    let told: Vec<String> = filings(&city).await.into_keys().collect();
    assert_eq!(told, names("P", 5, 10));

    let letters = world.hub.sync(PROVINCE).await.dead_letters.unwrap();
    assert_eq!(letters.parked, 1);
    let retry = ["dead-letters", "retry", "--all", "--output", "json"];
    let done = at(&world.hub, &retry).good().lines();
    assert_eq!(done[0]["decision"]["outcome"], "OUTCOME_ACCEPTED");
    let counts = world.hub.sync(PROVINCE).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.parked), (11, 0));

    let mut door = city.gateway().await;
    for reference in [names("C", 0, 4), names("Q", 0, 4)].concat() {
        let receipt = door.submit(submit(complaint(&reference), 30_000)).await;
        let receipt = receipt.unwrap().into_inner().receipt.unwrap();
        assert!(receipt.repeated_handover, "{receipt:?}");
        assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    }
    takes(&province, &names("P", 10, 12)).await;
    eventually("what is new comes through", || async {
        filings(&city).await.len() == 7
    })
    .await;
}

/// Scenario: a newer program has changed the schema of a hub's and of an
/// adapter's store; then this one is started with them, as after a roll-back.
/// Then the copy from before the update is put back.
/// Guarantee: refused, with the file, the reason and what to do; the file is not
/// touched; from the copy everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_leaves_a_newer_store_alone() {
    let mut world = World::new();
    let mut city = world.adapter(CITY);
    takes(&city, &names("A", 0, 3)).await;
    same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, 3).await;
    same_at_both_ends(&world.hub, &city, CITY, DELIVERIES, 1).await;
    assert!(city.stop() && world.hub.stop());
    for (role, name) in [("hub", "hub"), ("adapter", CITY)] {
        let place = |ending: &str| world.directory.path().join(format!("{name}{ending}"));
        let (config, copy) = (place(".toml"), place("-copy.db"));
        let (config, copy) = (config.to_str().unwrap(), copy.to_str().unwrap());
        jembatan(&["backup", "--config", config, copy]).good();
        let file = place("-data").join("jembatan.db");
        let newer = rusqlite::Connection::open(&file).unwrap();
        let history = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             SELECT version + 1, 'of_the_future', applied_on, '1'
             FROM refinery_schema_history ORDER BY version DESC LIMIT 1";
        assert_eq!(newer.execute(history, []).unwrap(), 1);
        newer.close().unwrap();
        let before = std::fs::read(&file).unwrap();
        let said = jembatan(&[role, "--config", config]);
        assert_eq!(said.code, 1, "{}", said.err);
        let file_name = file.to_str().unwrap();
        for words in [
            file_name,
            "newer version",
            "of_the_future",
            "docs/operate.md",
        ] {
            assert!(said.err.contains(words), "{words}: {}", said.err);
        }
        assert!(std::fs::read(&file).unwrap() == before, "{role} touched it");
        jembatan(&["restore", copy, "--config", config, "--force"]).good();
    }
    let hub_file = world.directory.path().join("hub.toml");
    jembatan(&["recover", "--config", hub_file.to_str().unwrap()]).good();
    world.hub.start_again();
    city.start_again();
    takes(&city, &names("B", 0, 3)).await;
    eventually("what is new goes through", || async {
        world.hub.sync(CITY).await.counts.unwrap().accepted == 6
    })
    .await;
}
