//! Copies made while a node is written to.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use jembatan::wire::v1;

use crate::{
    cli::jembatan,
    recovery::{path, told},
    support::{World, complaint, eventually, same_at_both_ends, submit},
};

const PROVINCE: &str = "pemda-33";
const SUBMISSIONS: v1::Journal = v1::Journal::Submissions;
/// Copies of each of the two.
const COPIES: usize = 4;

/// Scenario: a local system hands over without a pause while the adapter and the hub
/// are copied, four times each.
/// Guarantee: each copy is whole and holds at least all that was answered before it
/// was begun; nobody is refused meanwhile; with the hub put back to its last copy
/// everything is decided once, and the chains are equal at both ends.
#[tokio::test(flavor = "multi_thread")]
async fn copies_made_under_load_are_whole() {
    let mut world = World::new();
    let province = world.adapter(PROVINCE);
    let (stop, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut door = province.gateway().await;
    let (until, count) = (stop.clone(), answered.clone());
    let load = tokio::spawn(async move {
        while !until.load(Relaxed) {
            let n = count.load(Relaxed);
            let new = submit(complaint(&format!("W-{n}")), 0);
            door.submit(new).await.unwrap();
            count.store(n + 1, Relaxed);
        }
    });
    let directory = world.directory.path().to_owned();
    let place = |name: &str| directory.join(name);
    let (hub_file, adapter_file) = (place("hub.toml"), place("pemda-33.toml"));
    let settings = std::fs::read_to_string(&hub_file).unwrap();
    let mut grew = 0;
    for copy in 0..COPIES {
        let first = world.hub.place(PROVINCE, SUBMISSIONS).await.position;
        eventually("the hub is written to", || async {
            world.hub.place(PROVINCE, SUBMISSIONS).await.position > first
        })
        .await;
        let before = world.hub.place(PROVINCE, SUBMISSIONS).await.position;
        let made = place(&format!("hub-{copy}.db"));
        jembatan(&["backup", "--config", path(&hub_file), path(&made)]).good();
        let after = world.hub.place(PROVINCE, SUBMISSIONS).await.position;
        grew += usize::from(after > before);
        submissions_in(&made);
        let other = place(&format!("other-{copy}.toml"));
        let data = format!("directory = \"other-{copy}\"");
        let text = settings.replace("directory = \"hub-data\"", &data);
        std::fs::write(&other, text).unwrap();
        jembatan(&["restore", path(&made), "--config", path(&other)]).good();
        let look = ["recover", "--config", path(&other), "--dry-run"];
        let look = jembatan(&[&look[..], &["--output", "json"]].concat()).good();
        let parties = look.json()["parties"].as_array().unwrap().clone();
        let found = parties.iter().find(|found| found["party"] == PROVINCE);
        let there = found.unwrap()["submissions"].as_u64().unwrap();
        assert!(
            (before..=after).contains(&there),
            "{before} {there} {after}"
        );

        let before = answered.load(Relaxed);
        let made = place(&format!("adapter-{copy}.db"));
        jembatan(&["backup", "--config", path(&adapter_file), path(&made)]).good();
        let there = submissions_in(&made);
        assert!(there >= before, "{there} of {before}");
    }
    assert!(grew > 0, "no copy was made while the hub was written to");
    stop.store(true, Relaxed);
    load.await.unwrap();
    let total = answered.load(Relaxed) as u64;
    let head = same_at_both_ends(&world.hub, &province, PROVINCE, SUBMISSIONS, total).await;
    assert_eq!(head, total);

    // The hub goes back to its last copy: what it lacks comes again, and its
    // chains are those of the adapter, or the link would stop.
    world.hub.kill();
    let made = place(&format!("hub-{}.db", COPIES - 1));
    let restore = [
        "restore",
        path(&made),
        "--config",
        path(&hub_file),
        "--force",
    ];
    jembatan(&restore).good();
    jembatan(&["recover", "--config", path(&hub_file)]).good();
    world.hub.restart();
    eventually("each is decided, once", || async {
        told(&province).await.len() as u64 == total
    })
    .await;
    for journal in [SUBMISSIONS, v1::Journal::Deliveries] {
        same_at_both_ends(&world.hub, &province, PROVINCE, journal, 1).await;
    }
}

/// Submissions in a copy that SQLite finds whole.
fn submissions_in(copy: &Path) -> usize {
    let database = rusqlite::Connection::open(copy).unwrap();
    let check = "PRAGMA integrity_check";
    let state: String = database.query_row(check, [], |row| row.get(0)).unwrap();
    assert_eq!(state, "ok");
    let count = "SELECT count(*) FROM submission";
    let count: i64 = database.query_row(count, [], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}
