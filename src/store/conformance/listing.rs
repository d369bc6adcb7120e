//! What an operator's command lists of letters, and what a name means.

use crate::{
    domain::{DeliveryRecord, EventBody, Micros, RejectionReason},
    exchange::{Direction, extend},
    store::{
        DeadLetter, LetterKind, LetterName, LetterPlace, LetterQuery, NewSubmission, ReceiveBatch,
        ReceivedEntry, Store,
    },
    wire,
};

use super::{
    deciding::panics_on_poison,
    world::{Engine, TOKEN, World, at, city, event, filing, province, received},
};

/// An event about a complaint that nobody knows.
fn about_nothing(key: &str) -> NewSubmission {
    let unknown = filing(&province(), "tidak-ada", "isi", None);
    let unit = "DPU".to_owned();
    event(&city(), &unknown, key, EventBody::HandlingStarted { unit })
}

/// Kind and second of storing of each.
fn shown(found: &[DeadLetter]) -> Vec<(LetterKind, i64)> {
    let second = |letter: &DeadLetter| (letter.stored_at.0 - at(0).0) / 1_000_000;
    found
        .iter()
        .map(|letter| (letter.kind(), second(letter)))
        .collect()
}

/// Scenario: a hub that has parked two of the province (the second is repeated),
/// and rejected one of it and two of the city, is asked for all, by each filter
/// alone and together, and in pages between which another one is rejected.
/// Guarantee: what is parked comes first, then what was rejected, of each the
/// newest first; each filter leaves out what does not fit it; pages have each
/// letter of the first moment once, in the same order.
pub(super) async fn a_list_is_filtered_and_paged(engine: &dyn Engine) {
    let world = World::deciding(engine, panics_on_poison).await;
    let hub_directory = world.directory.path().join("hub");
    let first = filing(&province(), "A-1", "isi", None);
    let other = filing(&province(), "A-2", "lain", Some(first.event.key.as_str()));
    let poison = filing(&province(), "poison-2", "isi", None);
    let all = [
        (5, province(), first),
        (10, province(), filing(&province(), "poison-1", "isi", None)),
        (20, province(), poison.clone()),
        (25, province(), poison),
        (30, province(), other),
        (40, city(), about_nothing("k-1")),
        (50, city(), about_nothing("k-2")),
    ];
    for (second, party, new) in &all {
        world.send_new_at(party, new, at(*second)).await;
    }
    let list = |query: LetterQuery| engine.letters(&hub_directory, &query);
    let any = LetterQuery {
        limit: 100,
        ..LetterQuery::default()
    };
    let (parked, rejected) = (LetterKind::Parked, LetterKind::Rejected);
    let expected = [
        (parked, 25),
        (parked, 20),
        (parked, 10),
        (rejected, 50),
        (rejected, 40),
        (rejected, 30),
    ];
    let found = list(any.clone());
    assert_eq!(shown(&found), expected);
    let repeats: Vec<bool> = found.iter().map(DeadLetter::repeats_another).collect();
    assert_eq!(repeats, [true, false, false, false, false, false]);

    let of = |change: fn(&mut LetterQuery)| {
        let mut query = any.clone();
        change(&mut query);
        shown(&list(query))
    };
    assert_eq!(of(|query| query.party = Some(city())), expected[3..5]);
    assert_eq!(
        of(|query| query.kind = Some(LetterKind::Parked)),
        expected[..3]
    );
    assert_eq!(
        of(|query| query.kind = Some(LetterKind::Rejected)),
        expected[3..]
    );
    assert_eq!(of(|query| query.kind = Some(LetterKind::Unreadable)), []);
    assert_eq!(
        of(|query| query.reason = Some(RejectionReason::Conflict)),
        expected[5..]
    );
    assert_eq!(
        of(|query| query.reason = Some(RejectionReason::UnknownComplaint)),
        expected[3..5]
    );
    assert_eq!(
        of(|query| query.reason = Some(RejectionReason::Unknown(0))),
        []
    );
    assert_eq!(
        of(|query| query.since = Some(at(25))),
        [expected[0], expected[3], expected[4], expected[5]]
    );
    assert_eq!(
        of(|query| query.since = Some(Micros(at(25).0 + 1))),
        expected[3..]
    );
    assert_eq!(of(|query| query.limit = 2), expected[..2]);
    let together = of(|query| {
        query.party = Some(city());
        query.kind = Some(LetterKind::Rejected);
        query.reason = Some(RejectionReason::UnknownComplaint);
        query.since = Some(at(41));
    });
    assert_eq!(together, expected[3..4]);
    let none = of(|query| {
        query.kind = Some(LetterKind::Parked);
        query.reason = Some(RejectionReason::UnknownComplaint);
    });
    assert_eq!(none, []);

    let mut paged = Vec::new();
    let mut query = LetterQuery { limit: 4, ..any };
    loop {
        let page = list(query.clone());
        let Some(last) = page.last() else { break };
        let text = LetterPlace::of(last).to_string();
        query.after = LetterPlace::parse(&text);
        paged.extend(page);
        world
            .send_new_at(&city(), &about_nothing(&text), at(60))
            .await;
    }
    assert_eq!(shown(&paged), expected);
    world.hub.close().await;
}

/// Scenario: something is parked at position 1 of two epochs of a journal; an
/// event of it is repeated.
/// Guarantee: without an epoch the place means both, with it one; the event's id
/// means it and its repetition; other parties, epochs and positions mean nothing;
/// beside a hub that runs, and at the hub itself.
pub(super) async fn a_place_without_its_epoch_means_several(engine: &dyn Engine) {
    let mut world = World::deciding(engine, panics_on_poison).await;
    let directory = world.directory.path().join("hub");
    let new = |name: &str| filing(&province(), name, "isi", None);
    world.send_new(&province(), &new("poison-1")).await;
    let first = world.hub.heads(&province()).await.unwrap().epoch;
    world.stop_hub(engine, "aside").await;
    engine.recover(&directory, Micros(at(1_000).0 * 2), false);
    world.hub = engine.hub(&directory, panics_on_poison);
    let heads = world.hub.open_session(&province(), TOKEN).await.unwrap();
    for _ in 0..2 {
        world.send_new(&province(), &new("poison-2")).await;
    }
    let named = async |text: &str| {
        let name = LetterName::parse(text).unwrap();
        let mut found = world.hub.letters_named(&name).await.unwrap();
        assert_eq!(engine.letters_named(&directory, &name), found, "{text}");
        found.sort_by_key(|letter| letter.id);
        let places = found.iter().map(|letter| (letter.epoch, letter.position));
        places.collect::<Vec<_>>()
    };
    assert_eq!(named("pemda-33/1").await, [(first, 1), (heads.epoch, 1)]);
    for epoch in [first, heads.epoch] {
        assert_eq!(named(&format!("pemda-33/{epoch}/1")).await, [(epoch, 1)]);
    }
    assert_eq!(named("pemda-33/2").await, [(heads.epoch, 2)]);
    let id = new("poison-2").event.event_id.to_string();
    assert_eq!(named(&id).await, [(heads.epoch, 1), (heads.epoch, 2)]);
    let other = new("A-9").event.event_id.to_string();
    for nothing in ["pemda-33/3", "pemda-33.74/1", "pemda-33/5/1", &other] {
        assert_eq!(named(nothing).await, [], "{nothing}");
    }
    world.hub.close().await;
}

/// Scenario: a node could not read the first delivery of two epochs, the last one
/// of which rejects its own first submission.
/// Guarantee: both are listed, before what was rejected; without an epoch the
/// place means all of these, with it those of this epoch.
pub(super) async fn a_node_has_letters_of_two_journals(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let node = &world.province;
    let first = node.heads(&province()).await.unwrap().epoch;
    let unread = |header: &[u8]| ReceivedEntry {
        record: None,
        event: None,
        ..received(crate::exchange::Entry {
            header: header.to_vec().into(),
            ..crate::exchange::Entry::default()
        })
    };
    let deliver = async |entry: ReceivedEntry, second: i64| {
        let heads = node.heads(&province()).await.unwrap();
        let expected = heads.deliveries_acknowledged;
        let batch = ReceiveBatch {
            expected,
            head: extend(
                expected,
                Direction::Deliveries,
                std::slice::from_ref(&entry.entry),
            ),
            entries: vec![entry],
            now: at(second),
        };
        node.receive(&province(), batch).await.unwrap();
    };
    deliver(unread(b"\xff1"), 10).await;
    node.adopt_epoch(&province(), first + 1, 0).await.unwrap();
    let own = filing(&province(), "A-1", "isi", None);
    node.submit(vec![own.clone()], at(20)).await.unwrap();
    deliver(unread(b"\xff2"), 30).await;
    let decision = super::letters::decided(
        &own.event,
        crate::domain::Outcome::Rejected,
        Some(crate::domain::Rejection::unknown_complaint()),
    );
    let set = crate::domain::DecisionSet {
        epoch: first + 1,
        first_position: 1,
        decisions: vec![decision],
    };
    let header = wire::encode_header(&DeliveryRecord::Decisions(set));
    let entry = crate::exchange::Entry {
        header,
        ..crate::exchange::Entry::default()
    };
    deliver(received(entry), 40).await;

    let directory = world.directory.path().join("province");
    let query = LetterQuery {
        limit: 10,
        ..LetterQuery::default()
    };
    let found = engine.node_letters(&directory, &query);
    let (unreadable, rejected) = (LetterKind::Unreadable, LetterKind::Rejected);
    let listed = [(unreadable, 30), (unreadable, 10), (rejected, 20)];
    assert_eq!(shown(&found), listed);
    let store: &dyn Store = &**node;
    for (text, count) in [
        ("pemda-33/1".to_owned(), 3),
        (format!("pemda-33/{first}/1"), 1),
        (format!("pemda-33/{}/1", first + 1), 2),
        ("pemda-33/2".to_owned(), 0),
        (own.event.event_id.to_string(), 1),
    ] {
        let name = LetterName::parse(&text).unwrap();
        let found = store.letters_named(&name).await.unwrap();
        assert_eq!(found.len(), count, "{text}: {found:?}");
        let beside = engine.node_letters_named(&directory, &name);
        assert_eq!(beside, found, "{text}");
    }
}
