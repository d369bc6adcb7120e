//! The national desk: it sees, overrules and merges what never stood in triage.

use crate::{
    domain::{
        ComplaintId, ComplaintName, EventBody, InstitutionCode, PartKind, PartState, Progress,
        RejectionReason, Status, SystemName,
    },
    store::NewSubmission,
};

use super::world::{
    Engine, World, at, city, event, filing, national, own_filing, province, tracking_id,
};

/// What the national desk does at the hub's door.
async fn at_the_desk(world: &World, new: NewSubmission) -> Result<u32, RejectionReason> {
    let receipt = world.hub.submit(vec![new], at(5)).await.unwrap().remove(0);
    let receipt = receipt.unwrap();
    let decision = receipt.decision.unwrap();
    match receipt.progress {
        Progress::Accepted => Ok(decision.revision),
        _ => Err(decision.rejection.unwrap().reason),
    }
}

async fn deliveries(world: &World) -> u64 {
    world.hub.heads(&national()).await.unwrap().deliveries
}

/// Scenario: a complaint goes straight to the city; the national desk looks it
/// up by Tracking ID and by id, forwards it to the province, and the province
/// works on. The province looks up a complaint that is the city's own.
/// Guarantee: the desk sees the whole history with its texts but not who the
/// reporter is; by overruling it takes part: it gets each revision that it has
/// not had, and what comes of it. Others still find nothing that is not theirs.
pub(super) async fn the_national_desk_reads_and_overrules(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let filed = filing(&province(), "A-1", "isi", None);
    let own = filing(&city(), "C-1", "isi", None);
    world
        .province
        .submit(vec![filed.clone()], at(1))
        .await
        .unwrap();
    world.city.submit(vec![own.clone()], at(1)).await.unwrap();
    world.carry_all().await;
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let started = event(&city(), &filed, "c-1", started);
    world.city.submit(vec![started], at(2)).await.unwrap();
    world.carry_all().await;
    assert_eq!(deliveries(&world).await, 0, "it never stood in triage");

    let system = SystemName::parse("lapor").unwrap();
    let id = filed.event.complaint_id;
    for name in [
        ComplaintName::TrackingId(tracking_id(&filed)),
        ComplaintName::Id(id),
    ] {
        let found = world.hub.find(&national(), &system, &name).await.unwrap();
        assert_eq!(found, Some(id));
    }
    let hidden: [(_, ComplaintId); 2] = [
        (province(), own.event.complaint_id),
        (national(), ComplaintId::from_bytes([9; 16])),
    ];
    for (party, id) in hidden {
        let name = ComplaintName::Id(id);
        let found = world.hub.find(&party, &system, &name).await.unwrap();
        assert_eq!(found, None, "{party}");
        assert_eq!(world.hub.complaint(&party, &id).await.unwrap(), None);
    }
    let record = world.hub.complaint(&national(), &id).await.unwrap();
    let record = record.unwrap();
    assert_eq!((record.revision, record.history.len()), (2, 2));
    for part in &record.history[0].entry.parts {
        match part.kind {
            PartKind::Content => assert!(matches!(part.state, PartState::Present(_))),
            PartKind::Reporter => assert_eq!(part.state, PartState::Withheld),
        }
    }

    let to_the_province = EventBody::Forwarded {
        institution: Some(InstitutionCode::parse("pemda-33").unwrap()),
        unit: String::new(),
    };
    let overruling = event(&national(), &filed, "n-1", to_the_province);
    assert_eq!(at_the_desk(&world, overruling).await, Ok(3));
    let before = deliveries(&world).await;
    assert_eq!(before, 3, "two revisions and the decision");
    world.carry_all().await;
    let verified = event(&province(), &filed, "p-1", EventBody::Verified);
    world.province.submit(vec![verified], at(6)).await.unwrap();
    world.carry_all().await;
    assert_eq!(deliveries(&world).await, before + 1);
}

/// Scenario: the national desk merges a complaint of the province into one
/// that the city brought: first into one that does not exist, then into
/// itself, then properly; then another one into the merged one.
/// Guarantee: refused, refused, accepted, refused. Who takes part in either is
/// told: here the city, which had never seen the one that ends, gets its whole
/// history.
pub(super) async fn merging_tells_both_sides(engine: &dyn Engine) {
    let world = World::new(engine).await;
    // The province handles it: the city takes no part.
    let ends = own_filing(&province(), "A-1");
    let goes_on = filing(&city(), "C-1", "isi", None);
    world
        .province
        .submit(vec![ends.clone()], at(1))
        .await
        .unwrap();
    world
        .city
        .submit(vec![goes_on.clone()], at(1))
        .await
        .unwrap();
    world.carry_all().await;
    let merged = |into, key: &str, of: &NewSubmission| {
        event(&national(), of, key, EventBody::Merged { into })
    };
    let nowhere = ComplaintId::from_bytes([9; 16]);
    let (first, second) = (ends.event.complaint_id, goes_on.event.complaint_id);
    let wrong = [(nowhere, "m-1"), (first, "m-2")];
    for (into, key) in wrong {
        let outcome = at_the_desk(&world, merged(into, key, &ends)).await;
        assert_eq!(outcome, Err(RejectionReason::InvalidEvent), "{key}");
    }
    let outcome = at_the_desk(&world, merged(second, "m-3", &ends)).await;
    assert_eq!(outcome, Ok(2));
    let outcome = at_the_desk(&world, merged(first, "m-4", &goes_on)).await;
    assert_eq!(outcome, Err(RejectionReason::IllegalMove));
    world.carry_all().await;
    for (party, node) in [(province(), &world.province), (city(), &world.city)] {
        let record = node.complaint(&party, &first).await.unwrap().unwrap();
        assert_eq!(record.status, Some(Status::Merged), "{party}");
        let revisions: Vec<u32> = record.history.iter().map(|step| step.revision).collect();
        assert_eq!(revisions, [1, 2], "{party}");
    }
}
