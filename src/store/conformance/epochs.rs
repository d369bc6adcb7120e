//! The hub's operator begins a new epoch: who gets what, and nothing twice.

use std::collections::BTreeMap;

use crate::{
    domain::{DeliveryRecord, Micros, Outcome, PartyId, decide},
    exchange::Direction,
    store::{AdapterStore, Invitation, JournalEntry, ToldBefore},
    wire,
};

use super::world::{Engine, Kept, TOKEN, World, at, city, filing, national, province};

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

/// The hub stops; its store becomes what was kept, if that is named; its operator
/// begins a new epoch at this second.
async fn recovered(engine: &dyn Engine, world: &mut World, old: Option<&Kept>, second: i64) {
    let directory = world.directory.path().join("hub");
    world.stop_hub(engine, &format!("aside-{second}")).await;
    if let Some(old) = old {
        engine.put_back(&directory, old);
    }
    let now = Micros(at(second).0 * 2);
    let look = engine.recover(&directory, now, true);
    let done = engine.recover(&directory, now, false);
    assert_eq!(look, done, "looking changes nothing");
    assert!(done.parties.iter().any(|found| found.party == city()));
    world.hub = engine.hub(&directory, decide);
}

/// What the hub holds now is kept; it goes on.
async fn keep(engine: &dyn Engine, world: &mut World) -> Kept {
    let directory = world.directory.path().join("hub");
    world.stop_hub(engine, "aside").await;
    let old = engine.keep(&directory);
    world.hub = engine.hub(&directory, decide);
    for party in [province(), city()] {
        world.hub.open_session(&party, TOKEN).await.unwrap();
    }
    old
}

/// Scenario: a hub with three complaints goes back to them after two more; its
/// operator begins an epoch; the city loses its disk in the new epoch; then the
/// hub goes back once more, behind the epoch that was begun, and another epoch
/// is begun.
/// Guarantee: each time all five are at the hub, once; the author is told of
/// each once and the city is handed each once, also the one that has lost its
/// disk; a new epoch is later than all before.
pub(super) async fn nothing_is_lost_or_told_twice_over_epochs(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    world.file(&["E-1", "E-2", "E-3"]).await;
    let old = keep(engine, &mut world).await;
    world.file(&["E-4", "E-5"]).await;
    let first = world.hub.heads(&city()).await.unwrap().epoch;

    recovered(engine, &mut world, Some(&old), 1_000).await;
    enter(&world, &*world.city, &city()).await;
    enter(&world, &*world.province, &province()).await;
    world.carry_all().await;
    check(&world, "after the first").await;

    world.city = engine.node(&world.directory.path().join("new-disk"));
    enter(&world, &*world.city, &city()).await;
    world.carry_all().await;
    check(&world, "after the lost disk").await;

    let second = world.hub.heads(&city()).await.unwrap().epoch;
    recovered(engine, &mut world, Some(&old), 2_000).await;
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

/// Scenario: three complaints are at the hub, two more after a copy of it; the
/// province has let go of four of the five. The hub goes back to the copy, its
/// operator begins an epoch, and the province enters it; then the province loses
/// its disk.
/// Guarantee: only the one that is still kept in whole is sent again; what was
/// decided on the other one still stands at the node, and nothing is sent empty.
/// After the lost disk receipts and complaints of the ended epoch answer from the
/// decisions, without the bytes, and the door knows by the hub what it is handed
/// again.
pub(super) async fn what_was_let_go_of_or_lost_still_has_its_outcome(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    world.file(&["E-1", "E-2", "E-3"]).await;
    let old = keep(engine, &mut world).await;
    world.file(&["E-4"]).await;
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

    recovered(engine, &mut world, Some(&old), 1_000).await;
    enter(&world, &*world.province, &province()).await;
    assert_eq!(world.carry_up(&province(), &world.province).await, 1);
    enter(&world, &*world.city, &city()).await;
    world.carry_all().await;
    let counts = world.hub.counts(&province()).await.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (4, 0), "E-4 can't come");
    answers(&world, "E-4", true).await;

    world.province = engine.node(&world.directory.path().join("new-disk"));
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
pub(super) async fn what_was_parked_is_settled_over_epochs(engine: &dyn Engine) {
    let mut world = World::deciding(engine, breaks_on_poison).await;
    world.file(&["E-1", "poison"]).await;
    recovered(engine, &mut world, None, 1_000).await;
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

    recovered(engine, &mut world, None, 2_000).await;
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

/// Scenario: a code nobody has used and one that was used are in a state to which
/// the hub goes back; its operator begins an epoch.
/// Guarantee: the first leads to no certificate any more: somebody may have used
/// it since, and a code works once.
pub(super) async fn open_invitations_are_taken_back(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    let invitation = |id: &str| Invitation {
        id: id.to_owned(),
        party: city(),
        code_digest: crate::domain::Digest::of(b"code"),
        made_at: at(1),
        expires_at: Micros(at(10_000).0 * 2),
        revoked_at: None,
        used: None,
    };
    for id in ["used", "open"] {
        world.hub.put_invitation(invitation(id)).await.unwrap();
    }
    let (certificate, used) = super::enrolling::used("used", 2, 7, "s1");
    assert!(world.hub.record_issued(certificate, used).await.unwrap());
    recovered(engine, &mut world, None, 1_000).await;
    for (id, is_revoked) in [("used", false), ("open", true)] {
        let found = world.hub.invitation(id).await.unwrap().unwrap();
        assert_eq!(found.revoked_at.is_some(), is_revoked, "{id}");
    }
}

/// Scenario: of what a party behind the hub's own door was told its system has
/// taken one over; an epoch begins; it hands over one that it handed over before,
/// and a new one.
/// Guarantee: what it has not taken over stands at the beginning of the new epoch,
/// in its order and byte for byte; the old one is known again, and the new one is
/// decided at the first position.
pub(super) async fn what_nobody_has_taken_over_is_told_again(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    let own = |name: &str| filing(&national(), name, "isi", None);
    for name in ["N-1", "N-2", "N-3"] {
        world.hub.submit(vec![own(name)], at(1)).await.unwrap();
    }
    let told = async |world: &World, from: u64| -> Vec<bytes::Bytes> {
        let read = world
            .hub
            .read(&national(), Direction::Deliveries, from, 100, usize::MAX);
        let read = read.await.unwrap().into_iter();
        read.map(|entry| entry.entry.header).collect()
    };
    world.hub.consume(&national(), 1).await.unwrap();
    let left = told(&world, 2).await;
    assert_eq!(left.len(), 2);
    recovered(engine, &mut world, None, 1_000).await;
    let heads = world.hub.heads(&national()).await.unwrap();
    assert_eq!((heads.submissions.position, heads.deliveries), (0, 2));
    assert_eq!(told(&world, 1).await, left);

    let batch = vec![own("N-2"), own("N-4")];
    let receipts = world.hub.submit(batch, at(2)).await.unwrap();
    let repeated: Vec<bool> = receipts
        .into_iter()
        .map(|receipt| receipt.unwrap().repeated)
        .collect();
    assert_eq!(repeated, [true, false]);
    let heads = world.hub.heads(&national()).await.unwrap();
    assert_eq!((heads.submissions.position, heads.deliveries), (1, 3));
}
