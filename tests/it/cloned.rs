//! A machine is cloned, and both take in what the other one does not.

use crate::{
    cli::at,
    kill::decisions,
    sessions::{copy_directory, healthy, verdict},
    support::{Node, World, complaint, eventually, same_at_both_ends, submit, submit_many},
};
use jembatan::wire::v1;

const CITY: &str = "pemda-33.74";
const EACH: u64 = 20;

async fn is_away(node: &Node) -> bool {
    let sync = node.sync(CITY).await;
    verdict(&sync) == v1::Verdict::Refused && sync.explanation.contains("TWO_INSTANCES")
}

async fn waiting(node: &Node) -> u64 {
    node.sync(CITY).await.submissions.unwrap().backlog
}

fn references(of: &str) -> Vec<String> {
    (0..EACH).map(|n| format!("{of}-{n}")).collect()
}

async fn takes(node: &Node, references: &[String]) {
    let all = references.iter().map(|name| complaint(name)).collect();
    assert_eq!(submit_many(node, all).await, references.len());
}

/// Scenario: a machine is cloned with its data directory, and both run; local
/// systems hand different complaints over at each, so that both have other
/// content at the same positions, and one complaint at both. The operator does
/// what docs/operate.md says: stops the one that has nothing waiting, and then
/// has only the other one.
/// Guarantee: everything that either accepted is at the hub, once; the one that
/// is left has the journal of both, hears each decision once, and knows each
/// hand-over again.
#[tokio::test(flavor = "multi_thread")]
async fn what_both_of_a_clone_took_in_arrives_once() {
    let world = World::new();
    let mut first = world.adapter(CITY);
    healthy(&first, CITY).await;
    let before = references("BEFORE");
    takes(&first, &before).await;
    let (journal, deliveries) = (v1::Journal::Submissions, v1::Journal::Deliveries);
    same_at_both_ends(&world.hub, &first, CITY, journal, EACH).await;
    same_at_both_ends(&world.hub, &first, CITY, deliveries, 1).await;
    first.kill();
    let place = |name: &str| world.directory.path().join(name);
    copy_directory(&place("pemda-33.74-data"), &place("copy-data"));
    first.start_again();
    healthy(&first, CITY).await;
    let second = world.adapter_with("second", CITY, |file| {
        file.replace("pemda-33.74-data", "copy-data")
    });
    eventually("one of the two is away", || async {
        is_away(&first).await || is_away(&second).await
    })
    .await;
    let (here, there) = (references("HERE"), references("THERE"));
    let both = "BOTH".to_owned();
    tokio::join!(takes(&first, &here), takes(&second, &there));
    for node in [&first, &second] {
        takes(node, std::slice::from_ref(&both)).await;
    }

    // They alternate; whichever has handed its own over goes.
    let is_empty = async |node: &Node| !is_away(node).await && waiting(node).await == 0;
    eventually("one has nothing waiting", || async {
        is_empty(&first).await || is_empty(&second).await
    })
    .await;
    let (mut stops, stays) = match is_empty(&first).await {
        true => (first, second),
        false => (second, first),
    };
    let shown = at(&stays, &["status"]).good().out;
    println!("before the other one stops:\n{shown}");
    assert!(stops.stop());
    let all = 3 * EACH + 2;
    let head = same_at_both_ends(&world.hub, &stays, CITY, journal, all).await;
    assert_eq!(head, all);
    same_at_both_ends(&world.hub, &stays, CITY, deliveries, 1).await;

    let counts = world.hub.sync(CITY).await.counts.unwrap();
    let found = (counts.accepted, counts.duplicates, counts.rejected);
    assert_eq!(found, (3 * EACH + 1, 1, 0));
    let told = decisions(&stays).await;
    let accepted = told
        .iter()
        .filter(|decision| decision.outcome == v1::Outcome::Accepted as i32)
        .map(|decision| decision.event_id.clone());
    let accepted: std::collections::BTreeSet<_> = accepted.collect();
    assert_eq!(accepted.len() as u64, 3 * EACH + 1);
    assert_eq!(told.len() as u64, all, "each is told once");
    let mut door = stays.gateway().await;
    for reference in [before, here, there, vec![both]].concat() {
        let receipt = door.submit(submit(complaint(&reference), 20_000)).await;
        let receipt = receipt.unwrap().into_inner().receipt.unwrap();
        assert!(receipt.repeated_handover, "{reference}: {receipt:?}");
        assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    }
    assert_eq!(stays.place(CITY, journal).await.position, all);
}
