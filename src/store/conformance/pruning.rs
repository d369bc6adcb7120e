//! What was settled long ago lets go of its bytes, and of nothing else.

use crate::{
    domain::{EventBody, Progress},
    exchange::Direction,
    store::{NewSubmission, Pruned, SubmitRefusal},
};

use super::{
    deciding::panics_on_poison,
    world::{Engine, World, at, event, filing, own_filing, province},
};

async fn is_here(world: &World, position: u64) -> bool {
    let read = world
        .province
        .read(&province(), Direction::Submissions, position, 1, usize::MAX);
    let entry = read.await.unwrap().remove(0).entry;
    assert_eq!(entry.event.is_empty(), entry.parts.is_empty(), "{position}");
    !entry.event.is_empty()
}

async fn prune(world: &World, before: i64, now: i64) -> u64 {
    let node = &world.province;
    let pruned = node.prune(&province(), at(before), at(now)).await.unwrap();
    assert_eq!(pruned.entries == 0, pruned.bytes == 0, "{pruned:?}");
    pruned.entries
}

async fn consume(world: &World) {
    let heads = world.province.heads(&province()).await.unwrap();
    let node = &world.province;
    node.consume(&province(), heads.deliveries).await.unwrap();
}

async fn again(world: &World, new: NewSubmission) -> Result<crate::store::Receipt, SubmitRefusal> {
    let taken = world.province.submit(vec![new], at(5_000)).await.unwrap();
    taken.into_iter().next().unwrap()
}

/// Scenario: a node with a filing, an event about it, a parked filing and a
/// young one, all decided; and one that waits. The node is told to let go before
/// and after its local system takes the decisions over, and once more.
/// Guarantee: nothing goes that is not taken over, parked, young, or waits, or
/// that was stored long ago and decided only lately; what goes takes its parts
/// along. Receipts, the complaint, repetitions and conflicts
/// (with the digest that was stored) answer as before, chains are the same, and
/// what waits is sent.
pub(super) async fn only_what_is_settled_goes(engine: &dyn Engine) {
    let world = World::deciding(engine, panics_on_poison).await;
    let node = &world.province;
    let filed = own_filing(&province(), "A-1");
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let started = event(&province(), &filed, "k-1", started);
    let poison = filing(&province(), "poison", "isi", None);
    let young = filing(&province(), "A-2", "isi", None);
    for (new, second) in [(&filed, 1), (&started, 2), (&poison, 3), (&young, 900)] {
        let taken = node.submit(vec![new.clone()], at(second)).await.unwrap();
        assert!(taken[0].is_ok(), "{taken:?}");
    }
    world.carry_all().await;
    let waits = filing(&province(), "A-3", "isi", None);
    node.submit(vec![waits], at(4)).await.unwrap();
    let before = node.complaint(&province(), &filed.event.complaint_id);
    let before = before.await.unwrap().unwrap();
    let place = async |position| {
        let found = node.place_at(&province(), Direction::Submissions, position);
        found.await.unwrap()
    };
    let chains = [place(1).await, place(2).await, place(5).await];

    let mut none = prune(&world, 500, 600).await;
    none += prune(&world, 650, 690).await;
    assert_eq!(none, 0, "nobody took the decisions over");
    consume(&world).await;
    assert_eq!(prune(&world, 1, 700).await, 0, "all are younger");
    assert_eq!(prune(&world, 500, 800).await, 0, "decided at 600 only");
    assert_eq!(prune(&world, 650, 900).await, 2);
    let here = [is_here(&world, 1), is_here(&world, 2), is_here(&world, 3)];
    assert_eq!(
        futures_util::future::join_all(here).await,
        [false, false, true]
    );
    assert!(is_here(&world, 4).await && is_here(&world, 5).await);
    assert_eq!(
        node.prune(&province(), at(650), at(910)).await.unwrap(),
        Pruned::default()
    );

    assert_eq!([place(1).await, place(2).await, place(5).await], chains);
    for new in [&filed, &started] {
        let told = node.receipt(&province(), &new.event.event_id, &new.event.complaint_id);
        assert_eq!(told.await.unwrap().unwrap().progress, Progress::Accepted);
        let told = again(&world, new.clone()).await.unwrap();
        assert!(told.repeated && told.decision.is_some());
    }
    let after = node.complaint(&province(), &filed.event.complaint_id);
    let mut after = after.await.unwrap().unwrap();
    for (then, now) in before.history.iter().zip(&mut after.history) {
        assert!(now.entry.event.is_empty() && now.entry.parts.is_empty());
        now.entry = then.entry.clone();
    }
    assert_eq!(after, before, "all but the bytes");
    let other = again(&world, filing(&province(), "A-1", "isi lain", None)).await;
    let stored = crate::exchange::event_digest(&filed.event_bytes);
    assert!(
        matches!(&other, Err(SubmitRefusal::Conflict { stored: found, .. }) if *found == stored),
        "{other:?}"
    );
    assert_eq!(world.carry_up(&province(), node).await, 1);
    world.carry_all().await;
    consume(&world).await;
    assert_eq!(prune(&world, 1_000, 3_000).await, 1, "that was young");
    assert_eq!(prune(&world, 3_500, 4_000).await, 1, "that waited");
}

/// Scenario: a parked filing was noted, taken over and passed by; then it is
/// decided again, and the local system has not heard of that yet when the node is
/// told to let go, and has later.
/// Guarantee: its text stays until the second word was taken over, for as long
/// after that was noted as any; then it goes, as what was never parked.
pub(super) async fn what_is_decided_again_waits_again(engine: &dyn Engine) {
    let mut world = World::deciding(engine, panics_on_poison).await;
    let poison = filing(&province(), "poison", "isi", None);
    let after = filing(&province(), "A-1", "isi", None);
    let batch = vec![poison.clone(), after];
    world.province.submit(batch, at(1)).await.unwrap();
    world.carry_all().await;
    consume(&world).await;
    assert_eq!(prune(&world, 1, 100).await, 0, "noted");
    assert_eq!(prune(&world, 150, 200).await, 1, "all but what is parked");
    world.reopen(engine, crate::domain::decide).await;
    let epoch = world.province.heads(&province()).await.unwrap().epoch;
    let again = world
        .hub
        .decide_again(&province(), (epoch, 1), poison.event.clone(), at(210));
    assert!(again.await.unwrap().is_some());
    world.carry_down(&province(), &world.province).await;
    for (before, now) in [(250, 300), (350, 400), (450, 500)] {
        assert_eq!(prune(&world, before, now).await, 0, "not taken over");
        assert!(is_here(&world, 1).await);
    }
    consume(&world).await;
    assert_eq!(prune(&world, 250, 510).await, 0, "noted at 300");
    assert_eq!(prune(&world, 550, 600).await, 1);
    assert!(!is_here(&world, 1).await);
}

/// Scenario: 2 100 settled filings, more than one page.
/// Guarantee: all of them go in one call.
pub(super) async fn pages_follow_each_other(engine: &dyn Engine) {
    let world = World::new(engine).await;
    for page in 0..3 {
        let batch = (0..700).map(|n| own_filing(&province(), &format!("A-{page}-{n}")));
        world.province.submit(batch.collect(), at(1)).await.unwrap();
        world.carry_up(&province(), &world.province).await;
        world.carry_down(&province(), &world.province).await;
    }
    consume(&world).await;
    assert_eq!(prune(&world, 1, 1).await, 0, "noted, and no more");
    assert_eq!(prune(&world, 2, 3).await, 2_100);
}
