//! The hub's operator begins a new epoch: who gets what, and nothing twice.

use std::{collections::BTreeMap, fs};

use super::*;
use crate::{
    domain::{DeliveryRecord, Micros, Outcome, PartyId},
    exchange::Direction,
    store::{
        JournalEntry, ToldBefore,
        conformance::{TOKEN, World, at, city, filing, province},
        sqlite::recover,
    },
    wire,
};

/// What a node's door hands over of a party's inbox: each event, and each
/// decision that accepts one, with how often.
async fn handed_over(node: &dyn AdapterStore, party: &PartyId) -> BTreeMap<String, u32> {
    let mut entries: Vec<JournalEntry> = Vec::new();
    for left in node.earlier_inboxes(party).await.unwrap() {
        let from = (left.epoch, left.consumed_through + 1);
        let read = node.read_earlier(party, from, (1_000, usize::MAX));
        entries.extend(read.await.unwrap());
    }
    let from = node.heads(party).await.unwrap().consumed_through + 1;
    let read = node.read(party, Direction::Deliveries, from, 1_000, usize::MAX);
    entries.extend(read.await.unwrap());
    let mut found = BTreeMap::new();
    for entry in entries {
        if entry.told_before == ToldBefore::Everything {
            continue;
        }
        match wire::decode_header(&entry.entry.header).unwrap() {
            DeliveryRecord::Event(header) => {
                *found.entry(header.event_id.to_string()).or_default() += 1;
            }
            DeliveryRecord::Decisions(set) => {
                for (place, decision) in (0..).zip(set.decisions) {
                    let is_told = matches!(&entry.told_before, ToldBefore::Decisions(places) if places.contains(&place));
                    if !is_told && decision.outcome == Outcome::Accepted {
                        let id = decision.event_id.unwrap();
                        *found.entry(id.to_string()).or_default() += 1;
                    }
                }
            }
        }
    }
    found
}

/// As the link does it when the hub is in another epoch than the node.
async fn enter(world: &World, node: &dyn AdapterStore, party: &PartyId) {
    let heads = node.heads(party).await.unwrap();
    let hub = world.hub.open_session(party, TOKEN).await.unwrap();
    assert_ne!(heads.epoch, hub.epoch);
    let received = heads.deliveries_acknowledged.position;
    world
        .hub
        .catch_up(party, heads.epoch, received)
        .await
        .unwrap();
    let ended = world.hub.ended_epoch(party, heads.epoch).await.unwrap();
    let resend_after = ended.map_or(0, |ended| ended.submissions.position);
    node.adopt_epoch(party, hub.epoch, resend_after)
        .await
        .unwrap();
}

/// The hub stops; its file becomes this one, if one is named; its operator
/// begins a new epoch at this second.
async fn recovered(world: &mut World, old: Option<&[u8]>, second: i64) {
    let directory = world.directory.path().join("hub");
    world.hub.close().await;
    let aside = world.directory.path().join(format!("aside-{second}"));
    world.hub = Sqlite.hub(&aside, decide);
    if let Some(old) = old {
        fs::write(directory.join("jembatan.db"), old).unwrap();
    }
    let done = recover(directory.clone(), Micros(at(second).0 * 2), false).unwrap();
    assert!(done.parties.iter().any(|found| found.party == city()));
    world.hub = Arc::new(reopen(&directory, NodeRole::Hub).await.unwrap());
}

async fn submit(world: &World, names: &[&str]) {
    let batch = names
        .iter()
        .map(|name| filing(&province(), name, "isi", None));
    world.province.submit(batch.collect(), at(1)).await.unwrap();
    world.carry_all().await;
}

/// Scenario: a hub with three complaints goes back to them after two more; its
/// operator begins an epoch; the city loses its disk in the new epoch; then the
/// hub goes back once more, behind the epoch that was begun, and another epoch
/// is begun.
/// Guarantee: each time all five are at the hub, once; the author is told of
/// each once and the city is handed each once, also the one that has lost its
/// disk; a new epoch is later than all before.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_told_twice_over_epochs() {
    let mut world = World::new(&Sqlite).await;
    submit(&world, &["E-1", "E-2", "E-3"]).await;
    world.hub.close().await;
    let directory = world.directory.path().join("hub");
    let old = fs::read(directory.join("jembatan.db")).unwrap();
    world.hub = Sqlite.hub(&world.directory.path().join("aside"), decide);
    world.hub = Arc::new(reopen(&directory, NodeRole::Hub).await.unwrap());
    for party in [province(), city()] {
        world.hub.open_session(&party, TOKEN).await.unwrap();
    }
    submit(&world, &["E-4", "E-5"]).await;
    let first = world.hub.heads(&city()).await.unwrap().epoch;

    recovered(&mut world, Some(&old), 1_000).await;
    enter(&world, &*world.city, &city()).await;
    enter(&world, &*world.province, &province()).await;
    world.carry_all().await;
    check(&world, "after the first").await;

    world.city = Sqlite.node(&world.directory.path().join("new-disk"));
    enter(&world, &*world.city, &city()).await;
    world.carry_all().await;
    check(&world, "after the lost disk").await;

    let second = world.hub.heads(&city()).await.unwrap().epoch;
    recovered(&mut world, Some(&old), 2_000).await;
    enter(&world, &*world.province, &province()).await;
    enter(&world, &*world.city, &city()).await;
    world.carry_all().await;
    check(&world, "after the second").await;
    let third = world.hub.heads(&city()).await.unwrap().epoch;
    assert!(first < second && second < third);
}

async fn check(world: &World, when: &str) {
    let counts = world.hub.counts(&province()).await.unwrap();
    assert_eq!(counts.accepted, 5, "{when}");
    for (party, node) in [(province(), &world.province), (city(), &world.city)] {
        let found = handed_over(&**node, &party).await;
        assert_eq!(found.len(), 5, "{when} at {party}: {found:?}");
        let is_once = found.values().all(|count| *count == 1);
        assert!(is_once, "{when} at {party}: {found:?}");
    }
    let there = world.hub.heads(&province()).await.unwrap();
    let here = world.province.heads(&province()).await.unwrap();
    assert_eq!(here.submissions, there.submissions, "{when}");
}

/// Scenario: a store that runs is copied; the copy is opened as a hub's; it is
/// put into a directory that holds something.
/// Guarantee: refused, with what to do; what was there is moved aside only when
/// asked; the copy holds what was answered; a file that is no copy is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_marked_and_writes_nothing_over() {
    use crate::store::sqlite::{backup, restore};
    let world = World::new(&Sqlite).await;
    submit(&world, &["C-1", "C-2"]).await;
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

/// Scenario: three complaints are at the hub, two more after a copy of it; the
/// province has let go of four of the five. The hub goes back to the copy, its
/// operator begins an epoch, and the province enters it; then the province loses
/// its disk.
/// Guarantee: only the one that is still kept in whole is sent again; what was
/// decided on the other one still stands at the node, and nothing is sent empty.
/// After the lost disk receipts and complaints of the ended epoch answer from the
/// decisions, without the bytes, and the door knows by the hub what it is handed
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_of_or_lost_still_has_its_outcome() {
    let mut world = World::new(&Sqlite).await;
    submit(&world, &["E-1", "E-2", "E-3"]).await;
    world.hub.close().await;
    let directory = world.directory.path().join("hub");
    let old = fs::read(directory.join("jembatan.db")).unwrap();
    world.hub = Sqlite.hub(&world.directory.path().join("aside"), decide);
    world.hub = Arc::new(reopen(&directory, NodeRole::Hub).await.unwrap());
    for party in [province(), city()] {
        world.hub.open_session(&party, TOKEN).await.unwrap();
    }
    submit(&world, &["E-4"]).await;
    let last = filing(&province(), "E-5", "isi", None);
    world.province.submit(vec![last], at(50)).await.unwrap();
    world.carry_all().await;
    let heads = world.province.heads(&province()).await.unwrap();
    let taken_over = world.province.consume(&province(), heads.deliveries);
    taken_over.await.unwrap();
    let node = &world.province;
    node.prune(&province(), at(0), at(40)).await.unwrap();
    let pruned = node.prune(&province(), at(50), at(60)).await.unwrap();
    assert_eq!(pruned.entries, 4);

    recovered(&mut world, Some(&old), 1_000).await;
    enter(&world, &*world.province, &province()).await;
    assert_eq!(world.carry_up(&province(), &world.province).await, 1);
    enter(&world, &*world.city, &city()).await;
    world.carry_all().await;
    let counts = world.hub.counts(&province()).await.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (4, 0), "E-4 can't come");
    answers(&world, "E-4", true).await;

    world.province = Sqlite.node(&world.directory.path().join("new-disk"));
    enter(&world, &*world.province, &province()).await;
    world.carry_all().await;
    let there = world.hub.heads(&province()).await.unwrap().submissions;
    let adopted = world.province.adopt(&province(), 0, there).await.unwrap();
    assert!(adopted.copy_wanted.is_some(), "only of the epoch in force");
    for reference in ["E-1", "E-2", "E-3"] {
        answers(&world, reference, false).await;
    }
    let again = filing(&province(), "E-2", "isi", None);
    world.province.submit(vec![again], at(60)).await.unwrap();
    world.carry_all().await;
    let counts = world.hub.counts(&province()).await.unwrap();
    assert_eq!((counts.accepted, counts.duplicates), (4, 1));
    let new = filing(&province(), "E-2", "isi", None);
    let record = world
        .province
        .complaint(&province(), &new.event.complaint_id);
    let history = record.await.unwrap().unwrap().history;
    assert_eq!(history.len(), 1, "{history:?}");
    assert!(!history[0].entry.event.is_empty(), "its bytes are back");
}

/// The province's node answers for a filing by key and by complaint, without its
/// bytes, and has its mac or not.
async fn answers(world: &World, reference: &str, is_known_by_content: bool) {
    let new = filing(&province(), reference, "isi", None);
    let (event, complaint) = (&new.event.event_id, &new.event.complaint_id);
    let node = &world.province;
    let told = node.receipt(&province(), event, complaint).await.unwrap();
    let told = told.unwrap_or_else(|| panic!("no receipt for {reference}"));
    assert_eq!(told.progress, crate::domain::Progress::Accepted);
    let tracking_id = told.decision.unwrap().tracking_id.unwrap();
    let record = node.complaint(&province(), complaint).await.unwrap();
    let record = record.unwrap();
    assert_eq!(record.tracking_id, Some(tracking_id), "{reference}");
    assert_eq!(record.history[0].revision, 1);
    assert!(record.history[0].entry.event.is_empty(), "{reference}");
    if is_known_by_content {
        let again = node.submit(vec![new], at(70)).await.unwrap().remove(0);
        assert!(again.unwrap().repeated, "{reference}");
    }
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

fn breaks_on_poison(
    known: Option<&crate::domain::Complaint>,
    event: &crate::domain::Event,
    context: crate::domain::Context<'_>,
) -> Result<crate::domain::Verdict, crate::domain::Rejection> {
    assert!(!event.key.as_str().contains("poison"), "on purpose");
    decide(known, event, context)
}

/// Scenario: a filing is parked; its hub's operator begins a new epoch, the nodes
/// enter it, and only then it is decided again; then another epoch begins and the
/// hub tells the author everything once more, also that it was parked.
/// Guarantee: the author, whose filing stands in an ended epoch, hears that it is
/// accepted, once, and it stays so; the handler gets it once; nothing counts as
/// parked.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_is_settled_over_epochs() {
    let mut world = World::deciding(&Sqlite, breaks_on_poison).await;
    submit(&world, &["E-1", "poison"]).await;
    recovered(&mut world, None, 1_000).await;
    for (party, node) in [(city(), &world.city), (province(), &world.province)] {
        enter(&world, &**node, &party).await;
    }
    world.carry_all().await;
    let letter = world.hub.dead_letters(None, 0, 10).await.unwrap().remove(0);
    let event = wire::decode_event(&letter.entry.event).unwrap();
    let id = event.event_id.to_string();
    let place = (letter.epoch, letter.position);
    let decided = world
        .hub
        .decide_again(&province(), place, event, at(1_100))
        .await;
    assert_eq!(decided.unwrap().unwrap().outcome, Outcome::Accepted);
    world.carry_all().await;
    check_settled(&world, &id).await;

    recovered(&mut world, None, 2_000).await;
    for (party, node) in [(city(), &world.city), (province(), &world.province)] {
        // As if this epoch's end had never come to the node.
        let heads = node.heads(&party).await.unwrap();
        let hub = world.hub.open_session(&party, TOKEN).await.unwrap();
        world.hub.catch_up(&party, 0, 0).await.unwrap();
        let after = heads.submissions.position.max(1);
        node.adopt_epoch(&party, hub.epoch, after).await.unwrap();
    }
    world.carry_all().await;
    check_settled(&world, &id).await;
}

async fn check_settled(world: &World, id: &str) {
    for (party, node) in [(province(), &world.province), (city(), &world.city)] {
        let found = handed_over(&**node, &party).await;
        assert_eq!(found.len(), 2, "{party}: {found:?}");
        assert_eq!(found.get(id), Some(&1), "{party}: {found:?}");
    }
    for counts in [
        world.hub.counts(&province()).await.unwrap(),
        world.province.counts(&province()).await.unwrap(),
    ] {
        assert_eq!((counts.accepted, counts.parked), (2, 0));
    }
}
