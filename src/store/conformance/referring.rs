//! A party's own references for complaints that it was given.

use std::sync::Arc;

use crate::{
    domain::{ComplaintName, EventBody, Reference, RejectionReason, SystemName},
    exchange::Direction,
    store::{AdapterStore, SubmitRefusal},
};

use super::{
    deciding::decisions_for,
    world::{Engine, World, at, city, filing, incoming, province, referring},
};

/// Scenario: the city gives one of two complaints a reference of its own; the
/// same reference comes for the other one, and another one for the first: at
/// the node, at the hub, and at the node once its disk was lost and its copy
/// has come back.
/// Guarantee: (party, reference) and complaint belong together one to one:
/// REFERENCE_TAKEN everywhere, and the lost disk forgets none of it.
pub(super) async fn references_survive_a_lost_disk(engine: &dyn Engine) {
    let mut world = World::new(engine).await;
    let [first, second] = ["A-1", "A-2"].map(|name| filing(&province(), name, "isi", None));
    let batch = vec![first.clone(), second.clone()];
    world.province.submit(batch, at(1)).await.unwrap();
    world.carry_all().await;
    let started = || EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let says = |of, key, reference| referring(&city(), of, key, started(), reference);
    let submit = async |node: &Arc<dyn AdapterStore>, new| {
        node.submit(vec![new], at(2)).await.unwrap().remove(0)
    };
    let given = says(&first, "k-1", "SEM-1");
    submit(&world.city, given).await.unwrap();
    let wrong = [(&second, "SEM-1"), (&first, "SEM-2")];
    for (of, reference) in wrong {
        let refused = submit(&world.city, says(of, "k-2", reference)).await;
        assert_eq!(refused, Err(SubmitRefusal::ReferenceTaken), "{reference}");
    }
    world.carry_all().await;

    // As if another node of the city, which knows nothing, had taken them.
    for (place, (of, reference)) in wrong.into_iter().enumerate() {
        let key = ["k-3", "k-4"][place];
        world.send_new(&city(), &says(of, key, reference)).await;
        let (_, decision) = decisions_for(&world, &city()).await.pop().unwrap();
        let reason = decision.rejection.map(|found| found.reason);
        assert_eq!(reason, Some(RejectionReason::ReferenceTaken), "{reference}");
    }

    world.city = engine.node(&world.directory.path().join("new-disk"));
    let heads = world.hub.heads(&city()).await.unwrap();
    let node = &world.city;
    node.adopt_epoch(&city(), heads.epoch, 0).await.unwrap();
    node.adopt(&city(), 0, heads.submissions).await.unwrap();
    let read = world
        .hub
        .read(&city(), Direction::Submissions, 1, 100, usize::MAX);
    let copy = read.await.unwrap().into_iter();
    let copy = copy.map(|found| incoming(found.entry)).collect();
    assert_eq!(node.fill_copy(&city(), 1, copy).await.unwrap(), None);
    world.carry_down(&city(), node).await;
    let name = ComplaintName::Reference(Reference::parse("SEM-1").unwrap());
    let system = SystemName::parse("sistem").unwrap();
    let found = node.find(&city(), &system, &name).await.unwrap();
    assert_eq!(found, Some(first.event.complaint_id));
    for (of, reference) in wrong {
        let refused = submit(node, says(of, "k-5", reference)).await;
        assert_eq!(refused, Err(SubmitRefusal::ReferenceTaken), "{reference}");
    }
}
