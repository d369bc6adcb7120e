//! A bad disk beneath the hub, while adapters hand over.

use std::{collections::BTreeMap, path::Path, process::Command};

use jembatan::wire::v1;

use crate::{
    doors::has,
    faults_disk::{Injected, is_root, readiness},
    kill::{decisions, filings, words},
    support::{
        Node, World, complaint, connected, eventually, missing, same_at_both_ends, submit,
        submit_many,
    },
};

const PROVINCE: &str = "pemda-33";
const CITY: &str = "pemda-33.74";
/// Complaints that each party hands over, before and during the trouble.
const EACH: usize = 40;

fn long(reference: &str) -> v1::NewComplaint {
    let mut new = complaint(reference);
    new.body.push_str(&"x".repeat(9_000));
    new
}

fn many(name: &str) -> Vec<v1::NewComplaint> {
    (0..EACH).map(|n| long(&format!("{name}-{n}"))).collect()
}

/// No adapter was told of more than the hub has.
async fn nothing_false_was_acknowledged(hub: &Node, adapters: &[(&str, &Node)]) {
    for (party, node) in adapters {
        let own = node.sync(party).await.submissions.unwrap();
        let told = own.acknowledged.unwrap().position;
        let there = hub.place(party, v1::Journal::Submissions).await.position;
        assert!(told <= there, "{party}: {told} of {there}");
    }
}

/// Two adapters hand over before, during and after trouble at the hub's disk,
/// which `begin` makes and `end` takes away; `why` is what the hub says of it.
async fn survives<T>(
    world: &World,
    why: &str,
    begin: impl AsyncFnOnce() -> T,
    end: impl FnOnce(T),
) {
    let hub = &world.hub;
    let (province, city) = (world.adapter(PROVINCE), world.adapter(CITY));
    let adapters = [(PROVINCE, &province), (CITY, &city)];
    for (party, node) in adapters {
        connected(world, node, party).await;
        submit_many(node, many(&format!("A-{party}"))).await;
        same_at_both_ends(hub, node, party, v1::Journal::Submissions, EACH as u64).await;
    }
    eventually("green", || async { readiness(hub).0 == 200 }).await;
    let pid = hub.pid();

    let trouble = begin().await;
    for (party, node) in adapters {
        let stored = submit_many(node, many(&format!("B-{party}"))).await;
        assert_eq!(stored, EACH, "an adapter's door stays open");
    }
    eventually("red, with the reason", || async {
        nothing_false_was_acknowledged(hub, &adapters).await;
        let (code, answer) = readiness(hub);
        let checks = answer["checks"].as_array().cloned().unwrap_or_default();
        let says = |check: &serde_json::Value| {
            let said = check["why"].as_str().unwrap_or_default();
            check["check"] == "store" && said.contains(why)
        };
        code == 503 && checks.iter().any(says)
    })
    .await;
    let mut door = hub.gateway().await;
    let refused = door.submit(submit(long("N-refused"), 0)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    for (party, node) in adapters {
        let own = node.sync(party).await.submissions.unwrap();
        assert!(own.backlog > 0, "{party} keeps what the hub can't store");
        let here = node.place(party, v1::Journal::Submissions).await.position;
        assert_eq!(here, 2 * EACH as u64, "{party} keeps everything");
    }
    nothing_false_was_acknowledged(hub, &adapters).await;
    end(trouble);

    eventually("green again", || async { readiness(hub).0 == 200 }).await;
    assert_eq!(hub.pid(), pid);
    let total = 2 * EACH as u64;
    for (party, node) in adapters {
        let head = same_at_both_ends(hub, node, party, v1::Journal::Submissions, total).await;
        assert_eq!(head, total, "{party}: count in = count out");
        // Decisions travel in sets: their number says nothing of the journal's length.
        eventually("each is decided", || async {
            decisions(node).await.len() as u64 >= total
        })
        .await;
        same_at_both_ends(hub, node, party, v1::Journal::Deliveries, 1).await;
        assert_eq!(decisions(node).await.len() as u64, total, "{party}: once");
        let counts = hub.sync(party).await.counts.unwrap();
        let counts = (counts.accepted, counts.duplicates, counts.rejected);
        assert_eq!(counts, (total, 0, 0), "{party}");
    }
    let handed_over = ["A", "B"].map(|part| many(&format!("{part}-{PROVINCE}")));
    let expected: BTreeMap<_, _> = handed_over.into_iter().flatten().map(words).collect();
    assert_eq!(filings(&city).await, expected, "each once, word for word");
}

/// Scenario: each fdatasync of the hub says EIO while two adapters hand over;
/// then the disk works again.
/// Guarantee: the hub acknowledges nothing that it has not stored, is red and says
/// why, and lives; the adapters take and keep everything; afterwards the hub is
/// green by itself, count in = count out, word for word.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_of_the_hub_loses_nothing() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let error = "error=EIO";
    let Some(injected) = Injected::at(&world.hub, error).await else {
        return;
    };
    drop(injected);
    let begin = async || Injected::at(&world.hub, error).await.unwrap();
    survives(&world, "I/O", begin, drop).await;
}

/// A hub whose data stands on a small disk in a mount namespace of its own, and
/// where that disk is seen from outside; `None`: it can't be made here.
fn on_a_small_disk() -> Option<(World, std::path::PathBuf)> {
    if !has("unshare") || !is_root() || !has("curl") {
        missing("unshare and curl, as root");
        return None;
    }
    let mut world = World::new();
    world.hub.kill();
    let data = world.directory.path().join("hub-data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    let script = "mount -t tmpfs -o size=16m none \"$0\" && chmod 700 \"$0\" && exec \"$@\"";
    let before = ["unshare", "-m", "sh", "-c", script, data.to_str().unwrap()];
    let before = before.map(str::to_owned);
    let config = world.directory.path().join("hub.toml");
    world.hub = Node::start_under(&before, "hub", &config);
    let inside = format!("/proc/{}/root{}", world.hub.pid(), data.display());
    Some((world, inside.into()))
}

/// Scenario: the hub's disk of 16 MiB is filled while two adapters hand over;
/// then there is room again.
/// Guarantee: as with a disk that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_hub_loses_nothing() {
    let Some((world, inside)) = on_a_small_disk() else {
        return;
    };
    let filler = Path::new(&inside).join("filler");
    let begin = async || {
        let filled = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "count=512"])
            .arg(format!("of={}", filler.display()))
            .output()
            .unwrap();
        assert!(!filled.status.success(), "the disk is full");
    };
    let end = |()| std::fs::remove_file(&filler).unwrap();
    survives(&world, "full", begin, end).await;
}

/// Scenario: the hub's disk turns read-only under it, as a kernel makes it after an
/// error, while two adapters hand over; then it may be written again. (No mount
/// can be made read-only by request while files on it are open for writing.)
/// Guarantee: as with a disk that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_the_hub_that_turns_read_only_loses_nothing() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let data = world.directory.path().join("hub-data");
    let files = ["jembatan.db", "jembatan.db-wal"].map(|name| data.join(name));
    let calls = "write,pwrite64,ftruncate,fsync,fdatasync";
    let read_only = async || Injected::on(&world.hub, calls, &files, "error=EROFS").await;
    let Some(injected) = read_only().await else {
        return;
    };
    drop(injected);
    let begin = async || read_only().await.unwrap();
    survives(&world, "I/O", begin, drop).await;
}
