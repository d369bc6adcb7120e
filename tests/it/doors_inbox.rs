//! The inbox: what can't be read does not block, and how fresh it is.

use jembatan::wire::v1;
use serde_json::Value;

use crate::{
    doors::{curl, has},
    support::{Node, World, complaint, eventually, missing, now, submit},
};

fn inbox(node: &Node, query: &str) -> Value {
    let (code, answer) = curl(&[&format!("http://{}/v1/inbox{query}", node.http)]);
    assert_eq!(code, 200, "{answer}");
    answer
}

fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().cloned().unwrap_or_default()
}

/// Scenario: three decisions stand in the inbox, and the header of the second
/// is one that this version does not know.
/// Guarantee: it comes as an item of its own that says so, the third does not
/// wait for it, cursors go on over it, and it is still there to be read again.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_does_not_block() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let mut gateway = city.gateway().await;
    for reference in ["I-1", "I-2", "I-3"] {
        let answer = gateway.submit(submit(complaint(reference), 30_000)).await;
        let receipt = answer.unwrap().into_inner().receipt.unwrap();
        assert!(receipt.decision.is_some(), "{receipt:?}");
    }
    eventually("all are here", || async {
        items(&inbox(&city, "")).len() == 3
    })
    .await;
    let path = world.directory.path().join("pemda-33.74-data/jembatan.db");
    let other = rusqlite::Connection::open(path).unwrap();
    other
        .busy_timeout(std::time::Duration::from_secs(20))
        .unwrap();
    let changed = other
        .execute(
            "UPDATE delivery SET header = x'ffffff' WHERE id = (SELECT id FROM delivery ORDER BY id LIMIT 1 OFFSET 1)",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    let found = items(&inbox(&city, ""));
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[1]["unreadable"]["reason"], "UNREADABLE", "{found:?}");
    assert!(found[2].get("decision").is_some(), "{found:?}");
    let cursor = |item: &Value| item["cursor"].as_str().unwrap().to_owned();
    let after = items(&inbox(&city, &format!("?after={}", cursor(&found[1]))));
    assert_eq!(after, found[2..]);
    let one = items(&inbox(
        &city,
        &format!("?after={}&limit=1", cursor(&found[0])),
    ));
    assert_eq!(one, found[1..2], "kept, and alone it is an answer too");
}

/// Scenario: a thousand and one decisions wait, and a system asks for as many
/// as it can get.
/// Guarantee: a page has 1 000 items, as the contract says, and the next one
/// the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_a_thousand_items() {
    let world = World::new();
    let mut gateway = world.hub.gateway().await;
    let requests = (0..1_001).map(|i| v1::SubmitStreamRequest {
        handover: submit(complaint(&format!("T-{i}")), 0).handover,
    });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut answers = gateway.submit_stream(requests).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let mut fetch = async |after: String| {
        let request = v1::FetchInboxRequest {
            after,
            wait_ms: 0,
            limit: 5_000,
        };
        gateway.fetch_inbox(request).await.unwrap().into_inner()
    };
    let first = fetch(String::new()).await;
    assert_eq!(first.items.len(), 1_000);
    assert!(first.complete_up_to.is_none());
    let rest = fetch(first.items[999].cursor.clone()).await;
    assert_eq!(rest.items.len(), 1);
    assert!(rest.complete_up_to.is_some());
}

/// Scenario: an inbox that is read to its end while the link is up, half of
/// one, and one after the hub was killed; and the hub's own door.
/// Guarantee: "complete up to" is told only by an answer that reaches the end,
/// only while it is known, moves on with the hub's heartbeats, and stands in
/// the status too.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_says_how_fresh_it_is() {
    if !has("curl") {
        return missing("curl");
    }
    let mut world = World::new();
    let city = world.adapter("pemda-33.74");
    let mut gateway = city.gateway().await;
    for reference in ["F-1", "F-2"] {
        gateway
            .submit(submit(complaint(reference), 30_000))
            .await
            .unwrap();
    }
    let complete = |node: &Node, query: &str| {
        let answer = inbox(node, query);
        answer["completeUpTo"]
            .as_str()
            .map(|text| text.parse::<jiff::Timestamp>().unwrap())
    };
    eventually("it is known", || async { complete(&city, "").is_some() }).await;
    let first = complete(&city, "").unwrap();
    assert!(
        complete(&city, "?limit=1").is_none(),
        "there is more to fetch"
    );
    eventually("it moves on with the heartbeats", || async {
        complete(&city, "").is_some_and(|later| later > first)
    })
    .await;
    assert!(city.sync("pemda-33.74").await.complete_up_to.is_some());
    let asked = jiff::Timestamp::from_microsecond(now().0).unwrap();
    assert!(
        complete(&world.hub, "").unwrap() >= asked,
        "the hub has everything"
    );
    world.hub.kill();
    eventually("it is not known any more", || async {
        complete(&city, "").is_none()
    })
    .await;
    assert!(city.sync("pemda-33.74").await.complete_up_to.is_none());
}
