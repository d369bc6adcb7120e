//! What a person settles: parked submissions at the hub, unread deliveries at a
//! node.

use crate::{
    domain::{
        Decision, DecisionSet, DeliveryRecord, Event, EventBody, Outcome, PartState, PartyId,
        Progress, Rejection, RejectionReason,
    },
    exchange::{Direction, Entry, extend},
    store::{DeadLetter, NewSubmission, Receipt, ReceiveBatch, ReceivedEntry, Store},
    wire,
};

use super::{
    deciding::{decisions, panics_on_poison},
    world::{Engine, World, at, city, event, filing, own_filing, province, received},
};

/// A world whose hub could not decide one of three filings of the province; all
/// of it is told to the nodes.
async fn parked(engine: &dyn Engine) -> (World, NewSubmission) {
    let world = World::deciding(engine, panics_on_poison).await;
    let poison = filing(&province(), "poison", "isi", None);
    let batch = vec![
        filing(&province(), "A-1", "isi", None),
        poison.clone(),
        filing(&province(), "A-2", "isi", None),
    ];
    world.province.submit(batch, at(1)).await.unwrap();
    world.carry_all().await;
    let counts = world.hub.counts(&province()).await.unwrap();
    assert_eq!((counts.accepted, counts.parked), (2, 1));
    (world, poison)
}

async fn letters(store: &dyn Store) -> Vec<DeadLetter> {
    store.dead_letters(None, 0, 10).await.unwrap()
}

async fn receipt(store: &dyn Store, of: &NewSubmission) -> Receipt {
    let found = store.receipt(&province(), &of.event.event_id, &of.event.complaint_id);
    found.await.unwrap().unwrap()
}

/// Scenario: a parked filing, which came twice, is decided again: by the version
/// that could not, then by one that can, then once more.
/// Guarantee: it stays parked and nobody is told, first; then it is accepted, the
/// handler gets it, its author hears the second decision for both positions, and
/// "parked" stands nowhere any more; a third time there is nothing to decide.
pub(super) async fn what_was_parked_is_decided_again(engine: &dyn Engine) {
    let (mut world, poison) = parked(engine).await;
    // As if another node of the party had taken it.
    world.send_new(&province(), &poison).await;
    world.carry_down(&province(), &world.province).await;
    let found = letters(&*world.hub).await;
    assert_eq!(found.len(), 1, "the repetition follows the first");
    let place = (found[0].epoch, found[0].position);
    let event = wire::decode_event(&found[0].entry.event).unwrap();
    let before = world.hub.heads(&province()).await.unwrap().deliveries;
    let again = world
        .hub
        .decide_again(&province(), place, event.clone(), at(300));
    assert_eq!(again.await.unwrap().unwrap().outcome, Outcome::Parked);
    let after = world.hub.heads(&province()).await.unwrap().deliveries;
    assert_eq!(after, before, "nobody is told");
    assert_eq!(letters(&*world.hub).await.len(), 1);

    world.reopen(engine, crate::domain::decide).await;
    let again = world
        .hub
        .decide_again(&province(), place, event.clone(), at(400));
    assert_eq!(again.await.unwrap().unwrap().outcome, Outcome::Accepted);
    assert_eq!(world.carry_down(&city(), &world.city).await, 1);
    world.carry_down(&province(), &world.province).await;
    let node: &dyn Store = &*world.province;
    for store in [&*world.hub as &dyn Store, node] {
        let counts = store.counts(&province()).await.unwrap();
        assert_eq!(
            (counts.accepted, counts.duplicates, counts.parked),
            (3, 1, 0)
        );
        let told = receipt(store, &poison).await;
        assert_eq!(told.progress, Progress::Accepted);
        assert!(told.decision.unwrap().tracking_id.is_some());
    }
    let last = decisions(&world).await.pop().unwrap();
    assert_eq!((last.0, last.1.outcome), (4, Outcome::Duplicate));
    assert_eq!(last.1.duplicate_of, 2);
    let repeated = node_submit(&world, poison).await;
    assert!(repeated.repeated);
    assert!(letters(&*world.hub).await.is_empty());
    let third = world.hub.decide_again(&province(), place, event, at(500));
    assert_eq!(third.await.unwrap(), None);
}

async fn node_submit(world: &World, new: NewSubmission) -> Receipt {
    let taken = world.province.submit(vec![new], at(2)).await.unwrap();
    taken.into_iter().next().unwrap().unwrap()
}

/// Scenario: a parked filing is given up; then its author corrects it under a new
/// key.
/// Guarantee: it is rejected at both ends, with the note in both languages; the
/// hub keeps no text of it; the corrected one is accepted under the same
/// reference.
pub(super) async fn what_was_parked_is_given_up(engine: &dyn Engine) {
    let (mut world, poison) = parked(engine).await;
    let letter = letters(&*world.hub).await.remove(0);
    let place = (letter.epoch, letter.position);
    let rejection = Rejection::dropped("uji coba");
    let dropped = world
        .hub
        .drop_parked(&province(), place, rejection.clone(), at(300));
    assert_eq!(dropped.await.unwrap().unwrap().outcome, Outcome::Rejected);
    let dropped = world
        .hub
        .drop_parked(&province(), place, rejection, at(301));
    assert_eq!(dropped.await.unwrap(), None);
    world.carry_down(&province(), &world.province).await;
    let told = receipt(&*world.province, &poison).await;
    assert_eq!(told.progress, Progress::Rejected);
    let why = told.decision.unwrap().rejection.unwrap();
    assert_eq!(why.reason, RejectionReason::InvalidEvent);
    assert!(why.text_en.contains("uji coba") && why.text_id.contains("uji coba"));
    let read = world
        .hub
        .read(&province(), Direction::Submissions, 1, 10, usize::MAX);
    let entry = read.await.unwrap().remove(1);
    assert_eq!(entry.position, place.1);
    let is_kept = |part: &crate::domain::Part| matches!(part.state, PartState::Present(_));
    assert!(!entry.entry.parts.is_empty() && !entry.entry.parts.iter().any(is_kept));
    world.reopen(engine, crate::domain::decide).await;
    let corrected = filing(&province(), "poison", "isi lain", Some("kunci-baru"));
    node_submit(&world, corrected.clone()).await;
    world.carry_all().await;
    let told = receipt(&*world.province, &corrected).await;
    assert_eq!(told.progress, Progress::Accepted);
}

/// Hands entries to a node behind what it has.
async fn deliver(world: &World, party: &PartyId, entries: Vec<ReceivedEntry>) {
    let expected = world.province.heads(party).await.unwrap();
    let expected = expected.deliveries_acknowledged;
    let all: Vec<Entry> = entries.iter().map(|found| found.entry.clone()).collect();
    let batch = ReceiveBatch {
        expected,
        head: extend(expected, Direction::Deliveries, &all),
        entries,
        now: at(200),
    };
    world.province.receive(party, batch).await.unwrap();
}

/// What a hub says about an event without saying where its complaint stands.
pub(super) fn decided(event: &Event, outcome: Outcome, rejection: Option<Rejection>) -> Decision {
    Decision {
        outcome,
        event_id: Some(event.event_id),
        complaint_id: Some(event.complaint_id),
        revision: 0,
        status: None,
        handler: None,
        tracking_id: None,
        duplicate_of: 0,
        rejection,
        answer_missing: false,
    }
}

fn saying(epoch: u64, position: u64, decision: Decision) -> ReceivedEntry {
    let set = DecisionSet {
        epoch,
        first_position: position,
        decisions: vec![decision],
    };
    received(Entry {
        header: wire::encode_header(&DeliveryRecord::Decisions(set)),
        ..Entry::default()
    })
}

/// Scenario: a node that has lost its disk is in a later epoch; its local system
/// hands something over under a key that it used before, and waits; the hub tells
/// again what it decided about that key then, and decides what came now.
/// Guarantee: whoever waits hears the decision on what was handed over, not the
/// one of then.
pub(super) async fn who_waits_hears_of_this_epoch(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let node = &world.province;
    let ended = node.heads(&province()).await.unwrap().epoch;
    node.adopt_epoch(&province(), ended + 1, 0).await.unwrap();
    let new = filing(&province(), "A-1", "isi lain", Some("k-1"));
    node.submit(vec![new.clone()], at(1)).await.unwrap();
    let mut told = node.expect(&new.event.event_id);
    let then = decided(&new.event, Outcome::Accepted, None);
    deliver(&world, &province(), vec![saying(ended, 1, then)]).await;
    assert!(told.try_recv().is_err(), "that was another hand-over");
    let why = Some(Rejection::unknown_complaint());
    let now = decided(&new.event, Outcome::Rejected, why);
    deliver(&world, &province(), vec![saying(ended + 1, 1, now)]).await;
    assert_eq!(told.await.unwrap().outcome, Outcome::Rejected);
}

/// Scenario: a hub (a strange one) says about an accepted submission that it is
/// rejected, then that it is parked.
/// Guarantee: only "parked" is not final: what was accepted stays so, and is
/// counted once.
pub(super) async fn what_is_final_stays(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let new = filing(&province(), "A-1", "isi", None);
    world
        .province
        .submit(vec![new.clone()], at(1))
        .await
        .unwrap();
    world.carry_all().await;
    let epoch = world.province.heads(&province()).await.unwrap().epoch;
    for outcome in [Outcome::Rejected, Outcome::Parked] {
        let why = Some(Rejection::unknown_complaint());
        let decision = decided(&new.event, outcome, why);
        deliver(&world, &province(), vec![saying(epoch, 1, decision)]).await;
        let told = receipt(&*world.province, &new).await;
        assert_eq!(told.progress, Progress::Accepted, "after {outcome:?}");
    }
    let counts = world.province.counts(&province()).await.unwrap();
    assert_eq!((counts.accepted, counts.rejected, counts.parked), (1, 0, 0));
}

/// Scenario: the city files and starts work; the province, which is in copy by
/// hand here, gets both, and its version can read neither the first header nor
/// the decision on its own filing between them; a later version reads them.
/// Guarantee: they are acknowledged, listed and counted; read again, the own
/// filing is accepted and the complaint is known with both revisions, and stands
/// where the later one had put it; the second time there is nothing to read;
/// what is given up leaves the list and changes nothing.
pub(super) async fn what_could_not_be_read_is_read_again(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let filed = own_filing(&city(), "C-1");
    world.city.submit(vec![filed.clone()], at(1)).await.unwrap();
    let started = event(
        &city(),
        &filed,
        "c-1",
        EventBody::HandlingStarted {
            unit: "DPU".to_owned(),
        },
    );
    world.carry_all().await;
    world.city.submit(vec![started], at(2)).await.unwrap();
    world.carry_all().await;
    let own = filing(&province(), "P-1", "isi", None);
    node_submit(&world, own.clone()).await;
    world.carry_up(&province(), &world.province).await;
    let decided = world
        .hub
        .read(&province(), Direction::Deliveries, 1, 10, usize::MAX);
    let decided = received(decided.await.unwrap().remove(0).entry);
    let complaint = world.hub.complaint(&city(), &filed.event.complaint_id);
    let told: Vec<ReceivedEntry> = complaint
        .await
        .unwrap()
        .unwrap()
        .history
        .into_iter()
        .map(|step| {
            received(Entry {
                header: wire::encode_header(&DeliveryRecord::Event(step.header.unwrap())),
                ..step.entry
            })
        })
        .collect();
    let not_read = |found: &ReceivedEntry| ReceivedEntry {
        record: None,
        event: None,
        ..found.clone()
    };
    let entries = vec![
        not_read(&told[0]),
        not_read(&decided),
        told[1].clone(),
        not_read(&told[1]),
    ];
    deliver(&world, &province(), entries).await;
    let node = &world.province;
    assert_eq!(node.unread(&province()).await.unwrap(), 3);
    let found = letters(&**node).await;
    let positions: Vec<u64> = found.iter().map(|letter| letter.position).collect();
    assert_eq!(positions, [1, 2, 4]);
    assert!(found.iter().all(|letter| letter.decision.is_none()));
    assert_eq!(found[1].entry.header, decided.entry.header);

    let epoch = found[0].epoch;
    let still = node.read_again(&province(), (epoch, 1), not_read(&told[0]));
    assert!(!still.await.unwrap(), "it still can't be read");
    for (position, what) in [(1, &told[0]), (2, &decided)] {
        let read = node.read_again(&province(), (epoch, position), what.clone());
        assert!(read.await.unwrap(), "{position}");
        let read = node.read_again(&province(), (epoch, position), what.clone());
        assert!(!read.await.unwrap(), "{position}, once more");
    }
    let told = receipt(&**node, &own).await;
    assert_eq!(told.progress, Progress::Accepted);
    let record = node.complaint(&province(), &filed.event.complaint_id);
    let record = record.await.unwrap().unwrap();
    assert_eq!(record.revision, 2, "never set back");
    assert_eq!(record.status, Some(crate::domain::Status::InProgress));
    let revisions: Vec<u32> = record.history.iter().map(|step| step.revision).collect();
    assert_eq!(revisions, [1, 2]);
    assert!(record.origin.is_some());
    assert!(node.drop_unread(&province(), (epoch, 4)).await.unwrap());
    assert!(!node.drop_unread(&province(), (epoch, 4)).await.unwrap());
    assert_eq!(node.unread(&province()).await.unwrap(), 0);
    assert!(letters(&**node).await.is_empty());
}
