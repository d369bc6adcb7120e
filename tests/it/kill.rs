//! Real processes, really killed, at random moments, under load.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jembatan::{runtime::random_unit, wire::v1};

use crate::support::{World, complaint, eventually, submit};

const ROUNDS: u32 = 10;
const PER_ROUND: u32 = 100;

/// Scenario: in each of ten rounds a local system hands complaints over at the
/// province's door (they are routed to the city) while the hub, the province's
/// adapter, the city's adapter, or all of them are killed with SIGKILL at a
/// random moment and started again; what gets no answer is sent again.
/// Guarantee: count in = count out: each complaint is at the hub once, its
/// decision comes back once, the city's inbox has each filing once with the
/// content that was handed over, and both ends of every journal are equal.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_and_double_nothing() {
    let mut world = World::new();
    let mut province = world.adapter("pemda-33");
    let mut city = world.adapter("pemda-33.74");
    let mut expected = BTreeMap::new();
    for round in 0..ROUNDS {
        let references: Vec<String> = (0..PER_ROUND).map(|n| format!("K-{round}-{n}")).collect();
        let gateway = province.gateway().await;
        let sending = tokio::spawn(send(gateway, references.clone()));
        let moment = Duration::from_micros((random_unit() * 400_000.0) as u64);
        tokio::time::sleep(moment).await;
        println!("round {round}: kill at {moment:?}");
        match round % 4 {
            0 => world.hub.restart(),
            1 => province.restart(),
            2 => city.restart(),
            _ => {
                world.hub.kill();
                province.restart();
                city.kill();
                world.hub.restart();
                city.restart();
            }
        }
        let unanswered = sending.await.unwrap();
        let unanswered = send(province.gateway().await, unanswered).await;
        assert_eq!(unanswered, Vec::<String>::new(), "the door is open again");
        for reference in references {
            expected.extend([words(complaint(&reference))]);
        }
    }
    let total = u64::from(ROUNDS * PER_ROUND);
    for journal in [v1::Journal::Submissions, v1::Journal::Deliveries] {
        for (party, node) in [("pemda-33", &province), ("pemda-33.74", &city)] {
            eventually("both ends hold the same journal", || async {
                let there = world.hub.place(party, journal).await;
                let here = node.place(party, journal).await;
                let is_whole = party != "pemda-33"
                    || journal != v1::Journal::Submissions
                    || here.position >= total;
                is_whole && here == there
            })
            .await;
        }
    }
    let decisions = decisions(&province).await;
    let ids: BTreeSet<_> = decisions
        .iter()
        .map(|found| found.event_id.clone())
        .collect();
    let accepted = decisions
        .iter()
        .filter(|found| found.outcome == v1::Outcome::Accepted as i32)
        .count();
    assert_eq!(accepted as u64, total, "each is accepted once");
    assert_eq!(ids.len() as u64, total, "each event is one event");
    let filings = filings(&city).await;
    assert_eq!(filings, expected, "the city has each once, word for word");
    let status = world.hub.sync("pemda-33").await;
    let counts = status.counts.unwrap();
    assert_eq!(counts.accepted, total);
    assert_eq!((counts.rejected, counts.parked), (0, 0));
}

/// Sends one after the other; gives back what got no answer.
pub(crate) async fn send(
    mut gateway: v1::gateway_service_client::GatewayServiceClient<tonic::transport::Channel>,
    references: Vec<String>,
) -> Vec<String> {
    let mut unanswered = Vec::new();
    for reference in references {
        if gateway
            .submit(submit(complaint(&reference), 0))
            .await
            .is_err()
        {
            unanswered.push(reference);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    unanswered
}

pub(crate) async fn items(node: &crate::support::Node) -> Vec<v1::InboxItem> {
    let mut gateway = node.gateway().await;
    let mut after = String::new();
    let mut all = Vec::new();
    loop {
        let request = v1::FetchInboxRequest {
            after: after.clone(),
            wait_ms: 0,
            limit: 500,
        };
        let found = gateway
            .fetch_inbox(request)
            .await
            .unwrap()
            .into_inner()
            .items;
        let Some(last) = found.last() else {
            return all;
        };
        after.clone_from(&last.cursor);
        all.extend(found);
    }
}

pub(crate) async fn decisions(node: &crate::support::Node) -> Vec<v1::Decision> {
    let items = items(node).await.into_iter();
    items
        .filter_map(|item| match item.item {
            Some(v1::inbox_item::Item::Decision(decision)) => Some(decision),
            _ => None,
        })
        .collect()
}

/// What [`filings`] must say of a complaint that was handed over.
pub(crate) fn words(filed: v1::NewComplaint) -> (String, [String; 3]) {
    let reporter = filed.reporter.unwrap().name;
    (filed.reference, [filed.title, filed.body, reporter])
}

/// Title, body and reporter by reference; a reference that came twice fails
/// the test.
pub(crate) async fn filings(node: &crate::support::Node) -> BTreeMap<String, [String; 3]> {
    let mut found = BTreeMap::new();
    for item in items(node).await {
        let Some(v1::inbox_item::Item::Event(event)) = item.item else {
            continue;
        };
        let what = event.event.unwrap();
        let content = event.content.unwrap();
        let reporter = event.reporter.unwrap().name;
        let told = [content.title, content.body, reporter];
        let earlier = found.insert(what.reference.clone(), told);
        assert_eq!(earlier, None, "{} came twice", what.reference);
    }
    found
}
