//! What must hold after every schedule.

use std::collections::{BTreeMap, BTreeSet};

use jembatan::{
    domain::{ComplaintId, DeliveryRecord, Outcome, PartyId},
    exchange::Direction,
    store::{HubStore as _, Store},
    wire::decode_header,
};

use super::{nodes::HANDLER, world::World};

/// Revisions of each complaint, in the order in which a party was told them.
type Told = BTreeMap<ComplaintId, Vec<u32>>;

/// Nothing is under way any more: both ends of every journal stand at the same
/// place, by position and by chain.
pub(super) async fn is_settled(world: &World) -> bool {
    let Some(hub) = &world.hub else { return false };
    for adapter in &world.adapters {
        let Some(running) = &adapter.running else {
            return false;
        };
        let here = running.store.heads(&adapter.party).await.unwrap();
        let there = hub.store.heads(&adapter.party).await.unwrap();
        let up = here.submissions == there.submissions
            && here.submissions_acknowledged == here.submissions;
        let down = here.deliveries_acknowledged.position == there.deliveries
            && here.deliveries_acknowledged == there.deliveries_acknowledged;
        if !(here.epoch == there.epoch && up && down) {
            return false;
        }
    }
    true
}

/// Everything, once nothing moves any more.
pub(super) async fn check(world: &World) {
    let hub = &world.hub.as_ref().unwrap().store;
    let orphans = hub.orphans().await.unwrap();
    assert!(orphans.is_empty(), "orphans: {orphans:?}");
    let mut accepted = 0;
    let mut filed = 0;
    for adapter in &world.adapters {
        let counts = hub.counts(&adapter.party).await.unwrap();
        let handed = world.handed(&adapter.party);
        // Count in = count out: each was decided, and once.
        assert_eq!(
            counts.accepted + counts.rejected,
            handed.all,
            "{}: {counts:?}",
            adapter.party
        );
        assert_eq!((counts.duplicates, counts.parked), (0, 0));
        let heads = hub.heads(&adapter.party).await.unwrap();
        assert_eq!(heads.submissions.position, handed.all, "each once");
        // A chain that agrees is worth something if it is there to be asked.
        let store = &adapter.running.as_ref().unwrap().store;
        for direction in [Direction::Submissions, Direction::Deliveries] {
            let head = match direction {
                Direction::Submissions => heads.submissions.position,
                Direction::Deliveries => heads.deliveries,
            };
            let here = store
                .place_at(&adapter.party, direction, head)
                .await
                .unwrap();
            let there = hub.place_at(&adapter.party, direction, head).await.unwrap();
            assert!(here.is_some() && here == there, "{direction:?} differ");
        }
        accepted += counts.accepted;
        filed += handed.filed;
    }
    let mut by_party = BTreeMap::new();
    for adapter in &world.adapters {
        let store = &adapter.running.as_ref().unwrap().store;
        by_party.insert(adapter.party.clone(), told(&**store, &adapter.party).await);
    }
    // The handler was told of every event of every complaint, the others of
    // those of their own; everybody in the hub's order, without gaps.
    let handler = &by_party[&super::nodes::party(HANDLER)];
    assert_eq!(handler.len() as u64, filed, "every complaint has come");
    let events: usize = handler.values().map(Vec::len).sum();
    assert_eq!(events as u64, accepted, "and every event of it");
    let mut seen = BTreeSet::new();
    for (party, told) in &by_party {
        for (complaint, revisions) in told {
            let expected: Vec<u32> = (1..=handler[complaint].len() as u32).collect();
            assert_eq!(revisions, &expected, "{party} on {complaint:?}");
            seen.insert(*complaint);
        }
    }
    assert_eq!(seen.len() as u64, filed);
}

/// What a party's journal of deliveries says of each complaint: the events of
/// others, and the decisions on its own.
async fn told(store: &dyn Store, party: &PartyId) -> Told {
    let mut told = Told::new();
    let mut from = 1;
    loop {
        let read = store.read(party, Direction::Deliveries, from, 1_000, usize::MAX);
        let entries = read.await.unwrap();
        if entries.is_empty() {
            return told;
        }
        from += entries.len() as u64;
        for found in entries {
            let mut note = |complaint, revision| {
                told.entry(complaint).or_default().push(revision);
            };
            match decode_header(&found.entry.header).unwrap() {
                DeliveryRecord::Event(header) => note(header.complaint_id, header.revision),
                DeliveryRecord::Decisions(set) => {
                    let accepted = set.decisions.iter();
                    let accepted = accepted.filter(|one| one.outcome == Outcome::Accepted);
                    accepted.for_each(|one| note(one.complaint_id.unwrap(), one.revision));
                }
            }
        }
    }
}
