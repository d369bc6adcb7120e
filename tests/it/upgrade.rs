//! What earlier versions of this program left behind.

use std::path::PathBuf;

use jembatan::wire::v1;

use crate::support::{Node, World, complaint, same_at_both_ends, submit, submit_many};

const CITY: &str = "pemda-33.74";
const SUBMISSIONS: v1::Journal = v1::Journal::Submissions;

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
    if std::env::var_os("JEMBATAN_MAKE_FIXTURES").is_some() {
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
