//! Copies of a store, and the room of what a node lets go of.

use std::fs;

use super::*;
use crate::exchange::Direction;
use crate::store::{
    Store as _,
    conformance::{World, at, filing, province},
    sqlite::recover,
};

/// Scenario: a store that runs is copied; the copy is opened as a hub's; it is
/// put into a directory that holds something.
/// Guarantee: refused, with what to do; what was there is moved aside only when
/// asked; the copy holds what was answered; a file that is no copy is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_marked_and_writes_nothing_over() {
    use crate::store::sqlite::{backup, restore};
    let world = World::new(&Sqlite).await;
    world.file(&["C-1", "C-2"]).await;
    let hub = world.directory.path().join("hub");
    let copy = world.directory.path().join("copy.db");
    let made = backup(&hub, &copy, at(5)).unwrap();
    assert_eq!((made.role.as_str(), made.copied_at), ("hub", Some(at(5))));
    let error = backup(&hub, &copy, at(6)).err().unwrap().to_string();
    assert!(error.contains("nothing is written over"), "{error}");
    let place = world.directory.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("jembatan.db"), "mine").unwrap();
    let put = |force| restore(&copy, &place, NodeRole::Hub, force, at(7));
    let error = put(false).err().unwrap().to_string();
    assert!(error.contains("--force"), "{error}");
    let (_, aside) = put(true).unwrap();
    let mine = fs::read_to_string(aside.unwrap().join("jembatan.db")).unwrap();
    assert_eq!(mine, "mine");
    let error = open(&place, NodeRole::Hub, decide).err().unwrap();
    assert!(error.to_string().contains("jembatan recover"), "{error}");
    let wrong = restore(&copy, &place, NodeRole::Adapter, true, at(8));
    assert!(wrong.err().unwrap().to_string().contains("role"));
    let error = restore(&hub, &place, NodeRole::Hub, true, at(9)).err();
    assert!(error.unwrap().to_string().contains("no mark"));
    let done = recover(place.clone(), at(10), false).unwrap();
    assert_eq!(done.copied_at, Some(at(5)));
    let opened = reopen(&place, NodeRole::Hub).await.unwrap();
    let counts = crate::store::Store::counts(&opened, &province()).await;
    assert_eq!(counts.unwrap().accepted, 2);
}

/// Scenario: three hundred settled filings are let go of, and as many come.
/// Guarantee: their pages are free, and the file takes the new ones without
/// growing by what they need.
#[tokio::test(flavor = "multi_thread")]
async fn the_room_of_what_goes_is_used_again() {
    let world = World::new(&Sqlite).await;
    let submit_many = async |of: &str| {
        let names: Vec<String> = (0..300).map(|n| format!("{of}-{n}")).collect();
        let text = "isi ".repeat(500);
        let batch = names
            .iter()
            .map(|name| filing(&province(), name, &text, None));
        world.province.submit(batch.collect(), at(1)).await.unwrap();
        world.carry_up(&province(), &world.province).await;
        world.carry_down(&province(), &world.province).await;
    };
    let file = world.directory.path().join("province/jembatan.db");
    let pages = |name: &str| -> i64 {
        let connection = crate::store::sqlite::connect(&file).unwrap();
        let found = connection.pragma_query_value(None, name, |row| row.get(0));
        found.unwrap()
    };
    submit_many("A").await;
    let heads = world.province.heads(&province()).await.unwrap();
    let taken_over = world.province.consume(&province(), heads.deliveries);
    taken_over.await.unwrap();
    let before = pages("page_count");
    let node = &world.province;
    node.prune(&province(), at(1), at(1)).await.unwrap();
    let pruned = node.prune(&province(), at(2), at(3)).await.unwrap();
    assert_eq!(pruned.entries, 300);
    let bytes = 8_192 * pages("freelist_count") as u64;
    assert!(bytes > pruned.bytes / 2, "{bytes} of {} free", pruned.bytes);
    submit_many("B").await;
    let grown = 8_192 * (pages("page_count") - before) as u64;
    assert!(grown < pruned.bytes / 2, "grown by {grown} bytes");
}

/// Scenario: a node enters an epoch, and is killed before what it has set aside is
/// appended again; it is started anew, and a link opens.
/// Guarantee: all of it goes again, without a new hand-over.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_goes_again_with_the_next_link() {
    const HANDED_OVER: u64 = 1_500;
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path(), NodeRole::Adapter, decide).unwrap();
    let batch = (0..HANDED_OVER).map(|n| filing(&province(), &format!("A-{n}"), "isi", None));
    node.submit(batch.collect(), at(1)).await.unwrap();
    let entered = node.write(|tx| tx.adopt_epoch(&province(), 7, 0));
    entered.await.unwrap();
    drop(node);
    let node = reopen(directory.path(), NodeRole::Adapter).await.unwrap();
    let heads = node.heads(&province()).await.unwrap();
    assert_eq!(
        (heads.epoch, heads.submissions.position),
        (7, 0),
        "it waits"
    );
    let told = node.acknowledge(&province(), Direction::Submissions, heads.submissions);
    told.await.unwrap();
    let heads = node.heads(&province()).await.unwrap();
    assert_eq!(heads.submissions.position, HANDED_OVER);
    node.close().await;
}
