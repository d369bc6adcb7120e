//! The hub accepts and decides.

use crate::{
    domain::{
        Context, DeliveryRecord, Event, EventBody, Outcome, PartState, PartyId, RejectionReason,
    },
    exchange::{Direction, Place, entry_digest},
    store::{SessionToken, StoreError},
    wire,
};

use super::world::{Engine, World, at, city, event, filing, garbage, province, tracking_id};

pub(super) async fn decisions(world: &World) -> Vec<(u64, crate::domain::Decision)> {
    decisions_for(world, &province()).await
}

/// Decisions for a party, with the positions of what they decide.
pub(super) async fn decisions_for(
    world: &World,
    party: &PartyId,
) -> Vec<(u64, crate::domain::Decision)> {
    let read = world
        .hub
        .read(party, Direction::Deliveries, 1, 1_000, usize::MAX);
    let mut found = Vec::new();
    for entry in read.await.unwrap() {
        if let Ok(DeliveryRecord::Decisions(set)) = wire::decode_header(&entry.entry.header) {
            for (place, decision) in set.decisions.into_iter().enumerate() {
                found.push((set.first_position + place as u64, decision));
            }
        }
    }
    found
}

/// Scenario: 450 filings in one batch.
/// Guarantee: decisions follow each other without gap, one outcome a position;
/// the city is told of each filing once.
pub(super) async fn answers_each_position_once(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let batch = (0..450).map(|n| filing(&province(), &format!("A-{n}"), "isi", None));
    world.province.submit(batch.collect(), at(1)).await.unwrap();
    assert_eq!(world.carry_up(&province(), &world.province).await, 450);
    let positions: Vec<u64> = decisions(&world).await.iter().map(|(p, _)| *p).collect();
    assert_eq!(positions, (1..=450).collect::<Vec<u64>>());
    assert_eq!(world.carry_down(&city(), &world.city).await, 450);
}

/// Scenario: the same events come again under new positions, with the same
/// content and with other content; the hub's store is opened again between.
/// Guarantee: duplicates get the original result, conflicts both digests, and
/// nothing is delivered twice.
pub(super) async fn duplicates_get_the_original_result(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let first = filing(&province(), "A-1", "isi", None);
    world.province.submit(vec![first], at(1)).await.unwrap();
    world.carry_up(&province(), &world.province).await;
    let original = decisions(&world).await.remove(0).1;
    let resend = async |new: crate::store::NewSubmission| {
        let expected = world.hub.heads(&province()).await.unwrap().submissions;
        let entry = crate::exchange::Entry {
            header: bytes::Bytes::new(),
            event: new.event_bytes,
            parts: new.parts,
            handover_digest: Some(new.handover_digest),
        };
        let batch = world.batch(expected, vec![entry]);
        world.hub.accept(&province(), batch).await.unwrap();
        decisions(&world).await.pop().unwrap().1
    };
    let again = resend(filing(&province(), "A-1", "isi", None)).await;
    assert_eq!((again.outcome, again.duplicate_of), (Outcome::Duplicate, 1));
    assert_eq!(again.tracking_id, original.tracking_id);
    assert_eq!((again.revision, again.handler), (1, original.handler));
    let other = resend(filing(&province(), "A-1", "lain", None)).await;
    let rejection = other.rejection.unwrap();
    assert_eq!(rejection.reason, RejectionReason::Conflict);
    assert!(
        rejection
            .digests
            .is_some_and(|(stored, refused)| stored != refused)
    );
    let third = resend(filing(&province(), "A-1", "isi", Some("other-key"))).await;
    assert_eq!(third.outcome, Outcome::Duplicate);
    assert_eq!(world.carry_down(&city(), &world.city).await, 1);
}

/// Scenario: two filings with the very same texts under two references, and the
/// same matter filed by two parties.
/// Guarantee: a near-duplicate is a matter for people: none is dropped.
pub(super) async fn near_duplicates_are_kept(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let batch = ["A-1", "A-2"].map(|name| filing(&province(), name, "isi", None));
    world.province.submit(batch.to_vec(), at(1)).await.unwrap();
    let same = filing(&city(), "A-1", "isi", None);
    world.city.submit(vec![same], at(1)).await.unwrap();
    world.carry_all().await;
    for (party, accepted) in [(province(), 2), (city(), 1)] {
        let counts = world.hub.counts(&party).await.unwrap();
        assert_eq!((counts.accepted, counts.duplicates), (accepted, 0));
    }
}

/// Scenario: a filing and an entry that was parked come again thirteen months
/// later, after hub and node were opened anew, over the link and at the door;
/// so does the filing's id with another body.
/// Guarantee: the original results (also "parked": nobody decides it twice),
/// and a conflict with both digests that overwrites nothing.
pub(super) async fn thirteen_months_later(engine: &dyn Engine) {
    let mut world = World::deciding(engine, panics_on_poison).await;
    let filed = filing(&province(), "A-1", "isi", None);
    let poison = filing(&province(), "poison", "isi", None);
    let batch = vec![filed.clone(), poison.clone()];
    world.province.submit(batch, at(1)).await.unwrap();
    world.carry_all().await;
    let original = decisions(&world).await.remove(0).1;

    world.reopen(engine, crate::domain::decide).await;
    let later = at(13 * 30 * 24 * 3_600);
    for (new, outcome, position) in [
        (&filed, Outcome::Duplicate, 1),
        (&poison, Outcome::Parked, 2),
    ] {
        world.send_new_at(&province(), new, later).await;
        let again = decisions(&world).await.pop().unwrap().1;
        assert_eq!((again.outcome, again.duplicate_of), (outcome, position));
    }
    let again = decisions(&world).await.remove(2).1;
    assert_eq!(again.tracking_id, original.tracking_id);
    let other = filing(&province(), "A-1", "isi lain", None);
    world.send_new_at(&province(), &other, later).await;
    let refused = decisions(&world).await.pop().unwrap().1;
    let rejection = refused.rejection.unwrap();
    assert_eq!(rejection.reason, RejectionReason::Conflict);
    let digests = [&filed, &other].map(|new| crate::exchange::event_digest(&new.event_bytes));
    assert_eq!(rejection.digests, Some((digests[0], digests[1])));

    let node = &world.province;
    let again = filing(&province(), "A-1", "isi", None);
    let again = node.submit(vec![again], later).await.unwrap().remove(0);
    let again = again.unwrap();
    assert!(again.repeated);
    assert_eq!(again.decision.unwrap().tracking_id, original.tracking_id);
    let other = node.submit(vec![other], later).await.unwrap().remove(0);
    assert!(
        matches!(other, Err(crate::store::SubmitRefusal::Conflict { .. })),
        "{other:?}"
    );
    let id = filed.event.complaint_id;
    let record = world.hub.complaint(&province(), &id).await.unwrap();
    assert_eq!(record.unwrap().history[0].entry.event, filed.event_bytes);
}

/// Scenario: bytes that are no event, and an event of another party, between
/// good ones.
/// Guarantee: each is stored, acknowledged and rejected with its reason; the
/// others hold; a good event of that other party is not blocked later.
pub(super) async fn nothing_poisonous_blocks(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let as_entry = |new: crate::store::NewSubmission| crate::exchange::Entry {
        header: bytes::Bytes::new(),
        event: new.event_bytes,
        parts: new.parts,
        handover_digest: Some(new.handover_digest),
    };
    let mut without_parts = as_entry(filing(&province(), "P-1", "isi", None));
    without_parts.parts.clear();
    let entries = vec![
        as_entry(filing(&province(), "A-1", "isi", None)),
        garbage(),
        as_entry(filing(&city(), "C-1", "isi", None)),
        without_parts,
        as_entry(filing(&province(), "A-2", "isi", None)),
    ];
    let expected = world.hub.heads(&province()).await.unwrap().submissions;
    let batch = world.batch(expected, entries);
    let place = world.hub.accept(&province(), batch).await.unwrap();
    assert_eq!(place.position, 5);
    let reasons: Vec<_> = decisions(&world)
        .await
        .into_iter()
        .map(|(_, decision)| decision.rejection.map(|found| found.reason))
        .collect();
    let wanted = [
        None,
        Some(RejectionReason::Unreadable),
        Some(RejectionReason::ForgedId),
        Some(RejectionReason::InvalidEvent),
        None,
    ];
    assert_eq!(reasons, wanted);
    let own = filing(&city(), "C-1", "isi", None);
    world.city.submit(vec![own], at(1)).await.unwrap();
    world.carry_up(&city(), &world.city).await;
    assert_eq!(world.hub.counts(&city()).await.unwrap().accepted, 1);
}

pub(super) fn panics_on_poison(
    known: Option<&crate::domain::Complaint>,
    event: &Event,
    context: Context<'_>,
) -> Result<crate::domain::Verdict, crate::domain::Rejection> {
    assert!(!event.key.as_str().contains("poison"), "on purpose");
    crate::domain::decide(known, event, context)
}

/// Scenario: deciding one event panics, each time.
/// Guarantee: it is parked and shown, the others flow.
pub(super) async fn a_panic_parks_the_entry(engine: &dyn Engine) {
    let world = World::deciding(engine, panics_on_poison).await;
    let batch = ["A-1", "poison", "A-2"].map(|name| filing(&province(), name, "isi", None));
    world.province.submit(batch.to_vec(), at(1)).await.unwrap();
    world.carry_up(&province(), &world.province).await;
    let outcomes: Vec<Outcome> = decisions(&world)
        .await
        .iter()
        .map(|(_, d)| d.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [Outcome::Accepted, Outcome::Parked, Outcome::Accepted]
    );
    assert_eq!(world.hub.counts(&province()).await.unwrap().parked, 1);
}

/// Scenario: a session writes after another one began; a batch that does not
/// begin at the head.
/// Guarantee: fenced, and mismatch; nothing is stored of either.
pub(super) async fn old_sessions_are_fenced(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let new = filing(&province(), "A-1", "isi", None);
    world.province.submit(vec![new], at(1)).await.unwrap();
    let before = world.hub.heads(&province()).await.unwrap().submissions;
    let read = world
        .province
        .read(&province(), Direction::Submissions, 1, 10, usize::MAX);
    let entries: Vec<_> = read.await.unwrap().into_iter().map(|e| e.entry).collect();
    let wrong = Place {
        position: 4,
        ..before
    };
    let outcome = world
        .hub
        .accept(&province(), world.batch(wrong, entries.clone()))
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Mismatch(_))),
        "{outcome:?}"
    );
    world
        .hub
        .open_session(&province(), SessionToken([9; 16]))
        .await
        .unwrap();
    let outcome = world
        .hub
        .accept(&province(), world.batch(before, entries))
        .await;
    assert!(matches!(outcome, Err(StoreError::Fenced)), "{outcome:?}");
    assert_eq!(
        world.hub.heads(&province()).await.unwrap().submissions,
        before
    );
}

/// Scenario: a complaint from the province through the city to its close.
/// Guarantee: both ends' chains are equal and are what hashing the bytes from
/// the beginning gives; revisions have no gap at anyone; the handler of an open
/// complaint reads it; the city, a handler, may read the reporter.
pub(super) async fn both_ends_prove_the_same_history(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let filed = filing(&province(), "A-1", "isi", None);
    world
        .province
        .submit(vec![filed.clone()], at(1))
        .await
        .unwrap();
    world.carry_all().await;
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let answered = EventBody::Responded {
        attachments: Vec::new(),
    };
    for (key, body) in [
        ("c-1", started),
        ("c-2", answered),
        ("c-3", EventBody::Closed),
    ] {
        let new = event(&city(), &filed, key, body);
        world.city.submit(vec![new], at(2)).await.unwrap()[0]
            .as_ref()
            .unwrap();
        world.carry_all().await;
    }
    for (id, node) in [(province(), &world.province), (city(), &world.city)] {
        for direction in [Direction::Submissions, Direction::Deliveries] {
            let heads = world.hub.heads(&id).await.unwrap();
            let mut place = Place::root(&id, direction, heads.epoch);
            let all = world
                .hub
                .read(&id, direction, 1, 1_000, usize::MAX)
                .await
                .unwrap();
            for entry in &all {
                place = place.after(&entry_digest(direction, &entry.entry));
            }
            let at_hub = world
                .hub
                .place_at(&id, direction, place.position)
                .await
                .unwrap();
            let at_node = node.place_at(&id, direction, place.position).await.unwrap();
            assert_eq!(
                (at_hub, at_node),
                (Some(place), Some(place)),
                "{id} {direction:?}"
            );
        }
        let name = crate::domain::ComplaintName::TrackingId(tracking_id(&filed));
        let system = crate::domain::SystemName::parse("sistem").unwrap();
        let found = node.find(&id, &system, &name).await.unwrap().unwrap();
        let record = node.complaint(&id, &found).await.unwrap().unwrap();
        let revisions: Vec<u32> = record.history.iter().map(|step| step.revision).collect();
        assert_eq!(revisions, [1, 2, 3, 4], "{id}");
        assert_eq!(record.status, Some(crate::domain::Status::Closed));
        let at_hub = world.hub.complaint(&id, &found).await.unwrap().unwrap();
        assert_eq!(at_hub.revision, 4);
        let parts = &record.history[0].entry.parts;
        assert!(
            parts
                .iter()
                .all(|part| matches!(part.state, PartState::Present(_)))
        );
    }
    assert!(world.hub.orphans().await.unwrap().is_empty());
}
