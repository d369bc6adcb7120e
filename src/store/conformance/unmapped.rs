//! Local statuses without a row in a mapping table.

use std::sync::Arc;

use crate::{
    domain::{EventBody, LocalStatus, PartyId, Status},
    store::{AdapterStore, NewSubmission},
};

use super::world::{Engine, World, at, city, event, own_filing, province};

fn mirrored(
    owner: &PartyId,
    filed: &NewSubmission,
    key: &str,
    mapped: Option<Status>,
    ignored: bool,
) -> NewSubmission {
    let body = EventBody::StatusMirrored {
        declined: false,
        ignored,
    };
    let mut new = event(owner, filed, key, body);
    new.event.local_status = Some(LocalStatus {
        code: format!("code {key}"),
        name: "Aneh".to_owned(),
        mapped,
    });
    new
}

async fn codes(store: &Arc<dyn AdapterStore>, party: &PartyId) -> Vec<(String, u64)> {
    let found = store.unmapped(party, 2_000).await.unwrap();
    found
        .into_iter()
        .map(|found| (found.code, found.count))
        .collect()
}

/// Scenario: statuses that are mapped, that mean nothing here, and that no
/// table has a row for; one of these twice as the same hand-over; more than a
/// party may have; then one gets its row.
/// Guarantee: only unmapped ones are listed, the latest first, each counted
/// once, of their party only; there is an end to them; what has a row is gone.
pub(super) async fn statuses_wait_for_a_row(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let (node, owner) = (&world.city, city());
    let filed = own_filing(&owner, "W-1");
    let submit = async |new: &NewSubmission, second| {
        let stored = node.submit(vec![new.clone()], at(second)).await.unwrap();
        stored.into_iter().next().unwrap().unwrap()
    };
    submit(&filed, 1).await;
    submit(
        &mirrored(&owner, &filed, "a", Some(Status::InProgress), false),
        2,
    )
    .await;
    submit(&mirrored(&owner, &filed, "b", None, true), 3).await;
    assert_eq!(codes(node, &owner).await, []);

    let strange = mirrored(&owner, &filed, "c", None, false);
    submit(&strange, 4).await;
    assert!(submit(&strange, 5).await.repeated);
    submit(&mirrored(&owner, &filed, "d", None, false), 6).await;
    let expected = [("code d".to_owned(), 1), ("code c".to_owned(), 1)];
    assert_eq!(codes(node, &owner).await, expected);
    assert_eq!(codes(node, &province()).await, [], "of this party only");

    let first = node.unmapped(&owner, 1).await.unwrap();
    node.forget_unmapped(&owner, first).await.unwrap();
    assert_eq!(codes(node, &owner).await, expected[1..]);

    let many: Vec<NewSubmission> = (0..1_001)
        .map(|i| mirrored(&owner, &filed, &format!("many-{i:04}"), None, false))
        .collect();
    node.submit(many, at(7)).await.unwrap();
    let kept = codes(node, &owner).await;
    assert_eq!(kept.len(), 1_000);
    assert!(
        kept.iter().all(|(code, _)| code != "code c"),
        "the oldest makes room"
    );
}
