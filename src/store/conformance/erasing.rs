//! A part is erased: everywhere where it is, and nowhere else.

use bytes::Bytes;

use crate::{
    domain::{
        ComplaintId, DeliveryRecord, EventBody, EventHeader, Outcome, PartKind, PartState, PartyId,
        RejectionReason, Role, Status, TrackingId,
    },
    exchange::{Direction, Entry, extend},
    store::{NewSubmission, ReceiveBatch, ReceivedEntry, Store},
};

use super::{
    deciding::decisions,
    world::{Engine, World, at, city, event, filing, national, province},
};

fn erases(of: &NewSubmission, kind: PartKind) -> EventBody {
    let part = of.parts.iter().find(|part| part.kind == kind).unwrap();
    EventBody::PartErased {
        event_id: of.event.event_id,
        sha256: part.sha256,
    }
}

/// What a store shows a party of the parts of a complaint's first event.
async fn shown(
    store: &(impl Store + ?Sized),
    party: &PartyId,
    id: &ComplaintId,
    kind: PartKind,
) -> PartState {
    let record = store.complaint(party, id).await.unwrap().unwrap();
    let parts = &record.history[0].entry.parts;
    let found = parts.iter().find(|part| part.kind == kind).unwrap();
    found.state.clone()
}

fn is_erased(state: &PartState) -> bool {
    matches!(state, PartState::Erased(_))
}

async fn journal_of(store: &(impl Store + ?Sized), party: &PartyId) -> Vec<Entry> {
    let read = store.read(party, Direction::Submissions, 1, 1_000, usize::MAX);
    read.await.unwrap().into_iter().map(|e| e.entry).collect()
}

/// Scenario: the origin of one complaint erases a part of another one, by its
/// event and digest; then a part that its own event does not have; then an
/// event that nobody has sent.
/// Guarantee: rejected with the field that is wrong, and the other complaint's
/// texts are still there, at the hub and at its nodes.
pub(super) async fn reaches_only_its_own_complaint(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let own = filing(&province(), "A-1", "isi", None);
    let other = filing(&city(), "C-1", "isi lain", None);
    world
        .province
        .submit(vec![own.clone()], at(1))
        .await
        .unwrap();
    world.city.submit(vec![other.clone()], at(1)).await.unwrap();
    world.carry_all().await;
    let mut no_such_part = erases(&own, PartKind::Content);
    let mut no_such_event = erases(&own, PartKind::Content);
    if let (EventBody::PartErased { sha256, .. }, EventBody::PartErased { event_id, .. }) =
        (&mut no_such_part, &mut no_such_event)
    {
        *sha256 = crate::domain::Digest([7; 32]);
        *event_id = crate::domain::EventId::from_bytes([7; 16]);
    }
    let wrong = [
        erases(&other, PartKind::Content),
        no_such_part,
        no_such_event,
    ];
    for (number, body) in wrong.into_iter().enumerate() {
        let new = event(&province(), &own, &format!("e-{number}"), body);
        world.province.submit(vec![new], at(2)).await.unwrap()[0]
            .as_ref()
            .unwrap();
    }
    world.carry_all().await;
    let refused: Vec<_> = decisions(&world)
        .await
        .into_iter()
        .filter_map(|(_, decision)| decision.rejection)
        .map(|rejection| (rejection.reason, rejection.fields))
        .collect();
    let field = |name: &str| (RejectionReason::InvalidEvent, vec![name.to_owned()]);
    assert_eq!(
        refused,
        [
            field("part_erased.event_id"),
            field("part_erased.sha256"),
            field("part_erased.event_id")
        ]
    );
    for (id, party) in [(&own, province()), (&other, city())] {
        let id = &id.event.complaint_id;
        let at_hub = shown(world.hub.as_ref(), &party, id, PartKind::Content).await;
        assert!(matches!(at_hub, PartState::Present(_)), "{party}");
    }
    let id = &other.event.complaint_id;
    let at_node = shown(world.city.as_ref(), &city(), id, PartKind::Content).await;
    assert!(matches!(at_node, PartState::Present(_)));
}

/// Scenario: a hub (an older one, say) delivers an erasure in one complaint
/// that names an event of another one at this node.
/// Guarantee: the node erases nothing.
pub(super) async fn a_node_erases_only_in_the_complaint_told(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let own = filing(&city(), "C-1", "isi", None);
    world.city.submit(vec![own.clone()], at(1)).await.unwrap();
    world.carry_all().await;
    let foreign = filing(&province(), "A-1", "isi", None);
    let erasing = event(
        &province(),
        &foreign,
        "e-1",
        erases(&own, PartKind::Content),
    );
    let header = EventHeader {
        event_id: erasing.event.event_id,
        complaint_id: erasing.event.complaint_id,
        revision: 2,
        status: Status::Forwarded,
        handler: None,
        tracking_id: TrackingId::derive(&erasing.event.complaint_id, 0),
        party: province(),
        accepted_at: at(3),
        role: Role::Copy,
        readable_parts: vec![PartKind::Content],
        hops: 0,
        answer_missing: false,
    };
    let expected = world
        .city
        .heads(&city())
        .await
        .unwrap()
        .deliveries_acknowledged;
    let entry = Entry {
        header: Bytes::from_static(b"header"),
        event: erasing.event_bytes.clone(),
        parts: erasing.parts.clone(),
        handover_digest: None,
    };
    let batch = ReceiveBatch {
        expected,
        head: extend(
            expected,
            Direction::Deliveries,
            std::slice::from_ref(&entry),
        ),
        entries: vec![ReceivedEntry {
            entry,
            record: Some(DeliveryRecord::Event(header)),
            event: Some(erasing.event),
        }],
        now: at(4),
    };
    world.city.receive(&city(), batch).await.unwrap();
    let id = &own.event.complaint_id;
    let state = shown(world.city.as_ref(), &city(), id, PartKind::Content).await;
    assert!(matches!(state, PartState::Present(_)));
}

/// Scenario: a filing reaches the hub twice (the answer was lost); the city
/// that handled it declines and the national desk takes it; then the origin
/// erases the content; then the node's journal, which has no hand-over digest
/// and no bytes for it any more, is sent again, and so is the first hand-over
/// in full by a node that lost its disk.
/// Guarantee: the bytes are gone at the origin, at the former handler, and in
/// every row at the hub; the former handler is told this one thing and nothing
/// else that happened; repetitions are duplicates of the first, never
/// conflicts, and bring no bytes back.
pub(super) async fn reaches_whoever_held_it(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let filed = filing(&province(), "A-1", "isi", None);
    let id = filed.event.complaint_id;
    world
        .province
        .submit(vec![filed.clone()], at(1))
        .await
        .unwrap();
    let entries = journal_of(world.province.as_ref(), &province()).await;
    world.carry_all().await;
    world.send(&province(), entries.clone()).await;
    let declined = EventBody::Declined {
        suggested_institution: None,
    };
    let declined = event(&city(), &filed, "c-1", declined);
    world.city.submit(vec![declined], at(2)).await.unwrap();
    world.carry_all().await;
    let verified = event(&national(), &filed, "n-1", EventBody::Verified);
    world.hub.submit(vec![verified], at(3)).await.unwrap()[0]
        .as_ref()
        .unwrap();
    world.carry_all().await;
    assert_eq!(world.carry_down(&city(), &world.city).await, 0);

    let erasing = event(
        &province(),
        &filed,
        "e-1",
        erases(&filed, PartKind::Content),
    );
    world.send_new(&province(), &erasing).await;
    let told = world.carry_down(&city(), &world.city).await;
    assert_eq!(told, 1, "the former handler is told of the erasure alone");
    world.carry_down(&province(), &world.province).await;
    let seen = shown(world.city.as_ref(), &city(), &id, PartKind::Content).await;
    assert!(is_erased(&seen), "former handler: {seen:?}");
    let seen = shown(world.city.as_ref(), &city(), &id, PartKind::Reporter).await;
    assert!(!is_erased(&seen), "only the part that was named");

    world
        .send(
            &province(),
            vec![Entry {
                handover_digest: None,
                ..entries[0].clone()
            }],
        )
        .await;
    let new_disk = filing(&province(), "A-1", "isi", None);
    assert_ne!(new_disk.event_bytes, filed.event_bytes, "other salts");
    world.send_new(&province(), &new_disk).await;
    let outcomes: Vec<_> = decisions(&world)
        .await
        .into_iter()
        .map(|(_, decision)| (decision.outcome, decision.duplicate_of))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Outcome::Accepted, 0),
            (Outcome::Duplicate, 1),
            (Outcome::Accepted, 0),
            (Outcome::Duplicate, 1),
            (Outcome::Duplicate, 1)
        ]
    );
    for (place, entry) in journal_of(world.hub.as_ref(), &province())
        .await
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != 2)
    {
        let content = entry
            .parts
            .iter()
            .find(|part| part.kind == PartKind::Content)
            .unwrap();
        assert!(is_erased(&content.state), "row {}", place + 1);
        assert_eq!(entry.handover_digest, None, "row {}", place + 1);
    }
}

/// Scenario: the origin erases its filing's content; later its node sends the
/// erased entry again under a new position, as after a restored backup; the
/// local system hands the same complaint over again.
/// Guarantee: the hub says duplicate, the door repeats the first result, and
/// the node shows nothing but that it is erased.
pub(super) async fn an_erased_entry_stays_a_duplicate(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let node = &world.province;
    let filed = filing(&province(), "A-1", "isi", None);
    let id = filed.event.complaint_id;
    node.submit(vec![filed.clone()], at(1)).await.unwrap();
    world.carry_all().await;
    let erasing = event(
        &province(),
        &filed,
        "e-1",
        erases(&filed, PartKind::Content),
    );
    node.submit(vec![erasing], at(2)).await.unwrap();
    world.carry_all().await;
    assert!(is_erased(
        &shown(node.as_ref(), &province(), &id, PartKind::Content).await
    ));
    let erased = journal_of(node.as_ref(), &province()).await.remove(0);
    assert_eq!(erased.handover_digest, None, "erased with the part");
    world.send(&province(), vec![erased]).await;
    let last = decisions(&world).await.pop().unwrap().1;
    assert_eq!((last.outcome, last.duplicate_of), (Outcome::Duplicate, 1));
    let again = filing(&province(), "A-1", "isi", None);
    let again = node.submit(vec![again], at(3)).await.unwrap().remove(0);
    assert!(again.unwrap().repeated);
}

/// Scenario: a filing; then another text under its reference; then an event
/// about a complaint that nobody filed; then the first filing again.
/// Guarantee: the hub keeps no text of what it rejected, where no erasure would
/// find it; texts of what it accepted, and of its repetition, are there. What
/// was rejected stays known: it gets the same answer again.
pub(super) async fn nothing_is_kept_of_what_was_rejected(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let filed = filing(&province(), "A-1", "isi", None);
    let conflicting = filing(&province(), "A-1", "isi lain", None);
    let nowhere = filing(&province(), "A-2", "isi", None);
    let lost = event(&province(), &nowhere, "e-1", EventBody::Verified);
    for new in [&filed, &conflicting, &lost, &filed, &conflicting] {
        world.send_new(&province(), new).await;
    }
    let outcomes: Vec<_> = decisions(&world)
        .await
        .into_iter()
        .map(|(_, decision)| decision.outcome)
        .collect();
    let (rejected, duplicate) = (Outcome::Rejected, Outcome::Duplicate);
    assert_eq!(
        outcomes,
        [Outcome::Accepted, rejected, rejected, duplicate, rejected]
    );
    let entries = journal_of(world.hub.as_ref(), &province()).await;
    for (entry, outcome) in entries.iter().zip(outcomes) {
        assert!(!entry.parts.is_empty());
        for part in &entry.parts {
            let is_kept = matches!(part.state, PartState::Present(_));
            assert_eq!(is_kept, outcome != rejected, "{outcome:?}: {part:?}");
        }
        assert_eq!(entry.handover_digest.is_some(), outcome != rejected);
    }
}
