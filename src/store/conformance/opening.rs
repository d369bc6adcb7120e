//! What opening a link does to a node's store.

use crate::{
    domain::{ComplaintName, Outcome, Progress, Reference, SystemName},
    exchange::Direction,
    store::StoreError,
};

use super::world::{Engine, World, at, filing, incoming, province};

/// Scenario: a node loses its disk after thirty submissions, starts empty,
/// takes the hub's head over and is sent copies in two pages; once a page comes
/// that does not fit.
/// Guarantee: the journal is whole again and ends in the hub's chain, own
/// references are known, and an old complaint handed over again is a
/// repetition with its original result.
pub(super) async fn a_lost_disk_comes_back(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    let batch = (0..30).map(|n| filing(&province(), &format!("L-{n}"), "isi", None));
    world.province.submit(batch.collect(), at(1)).await.unwrap();
    world.carry_all().await;
    let hub_heads = world.hub.heads(&province()).await.unwrap();
    world.province = engine.node(&world.directory.path().join("new-disk"));
    let node = &world.province;
    node.adopt_epoch(&province(), hub_heads.epoch, 0)
        .await
        .unwrap();
    let heads = node
        .adopt(&province(), 0, hub_heads.submissions)
        .await
        .unwrap();
    assert_eq!(heads.submissions, hub_heads.submissions);
    let page = async |from, most| {
        let read = world
            .hub
            .read(&province(), Direction::Submissions, from, most, usize::MAX);
        let entries = read.await.unwrap().into_iter();
        entries.map(|e| incoming(e.entry)).collect::<Vec<_>>()
    };
    let left = node
        .fill_copy(&province(), 1, page(1, 20).await)
        .await
        .unwrap();
    assert_eq!(left.map(|left| (left.first, left.last)), Some((21, 30)));
    let wrong = node.fill_copy(&province(), 21, page(1, 10).await).await;
    assert!(matches!(wrong, Err(StoreError::Mismatch(_))), "{wrong:?}");
    let left = node
        .fill_copy(&province(), 21, page(21, 100).await)
        .await
        .unwrap();
    assert_eq!(left, None);
    world.carry_down(&province(), node).await;
    let name = ComplaintName::Reference(Reference::parse("L-7").unwrap());
    let system = SystemName::parse("sistem").unwrap();
    assert!(
        node.find(&province(), &system, &name)
            .await
            .unwrap()
            .is_some()
    );
    let again = filing(&province(), "L-7", "isi", None);
    let again = node
        .submit(vec![again], at(3))
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((again.repeated, again.progress), (true, Progress::Accepted));
    assert_eq!(
        node.heads(&province()).await.unwrap().submissions.position,
        30
    );
}

/// Scenario: a node restored from an old backup (five of ten submissions)
/// accepts three others offline, then meets the hub.
/// Guarantee: the hub's ten stand, the three go again behind them in their
/// order and are accepted once; no acknowledged position gets other content.
pub(super) async fn what_was_set_aside_goes_again(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    let old = engine.node(&world.directory.path().join("backup"));
    let epoch = world.hub.heads(&province()).await.unwrap().epoch;
    old.adopt_epoch(&province(), epoch, 0).await.unwrap();
    for n in 0..10 {
        let new = filing(&province(), &format!("B-{n}"), "isi", None);
        if n < 5 {
            // Byte for byte: a backup holds what the node had.
            old.submit(vec![new.clone()], at(1)).await.unwrap();
        }
        world.province.submit(vec![new], at(1)).await.unwrap();
    }
    world.carry_up(&province(), &world.province).await;
    let hub_heads = world.hub.heads(&province()).await.unwrap();
    let tenth = hub_heads.submissions;
    world.province = old;
    let node = &world.province;
    for n in 0..3 {
        let new = filing(&province(), &format!("OFFLINE-{n}"), "isi", None);
        node.submit(vec![new], at(2)).await.unwrap();
    }
    let heads = node.adopt(&province(), 5, tenth).await.unwrap();
    assert_eq!(
        heads.submissions.position, 13,
        "re-appended behind the hub's head"
    );
    assert_eq!(heads.submissions_acknowledged, tenth);
    assert_eq!(world.carry_up(&province(), node).await, 3);
    let counts = world.hub.counts(&province()).await.unwrap();
    assert_eq!(
        (counts.accepted, counts.duplicates, counts.rejected),
        (13, 0, 0)
    );
    let at_ten = world
        .hub
        .place_at(&province(), Direction::Submissions, 10)
        .await
        .unwrap();
    assert_eq!(at_ten, Some(tenth));
    let page = world
        .hub
        .read(&province(), Direction::Submissions, 6, 100, usize::MAX);
    let entries: Vec<_> = page.await.unwrap().into_iter().take(5).collect();
    let copy = entries.into_iter().map(|e| incoming(e.entry)).collect();
    assert_eq!(node.fill_copy(&province(), 6, copy).await.unwrap(), None);
    let all = node
        .read(&province(), Direction::Submissions, 1, 100, usize::MAX)
        .await
        .unwrap();
    assert_eq!(all.len(), 13);
}

/// Scenario: a node loses its disk; in the same epoch its local system hands
/// something else over under a key that it used before, and waits; the node meets
/// the hub, takes its head over, and is told again what was decided about that
/// key then; at last what came now is decided.
/// Guarantee: whoever waits hears the decision on what was handed over, not the
/// one of then.
pub(super) async fn who_waits_hears_nothing_of_the_lost_disk(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    let then = filing(&province(), "A-1", "isi", Some("k-1"));
    let first = filing(&province(), "A-0", "isi", None);
    let batch = vec![first, then];
    world.province.submit(batch, at(1)).await.unwrap();
    world.carry_all().await;
    let hub = world.hub.heads(&province()).await.unwrap();
    world.province = engine.node(&world.directory.path().join("new-disk"));
    let node = &world.province;
    node.adopt_epoch(&province(), hub.epoch, 0).await.unwrap();
    let new = filing(&province(), "A-1", "isi lain", Some("k-1"));
    let mut told = node.expect(&new.event.event_id);
    node.submit(vec![new], at(2)).await.unwrap();
    node.adopt(&province(), 0, hub.submissions).await.unwrap();
    world.carry_down(&province(), node).await;
    assert!(told.try_recv().is_err(), "that was another hand-over");
    world.carry_up(&province(), node).await;
    world.carry_down(&province(), node).await;
    assert_eq!(told.await.unwrap().outcome, Outcome::Rejected);
}
