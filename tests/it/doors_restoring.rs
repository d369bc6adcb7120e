//! A door whose node is taking back what its lost disk held.

use jembatan::wire::v1;
use serde_json::Value;

use crate::{
    doors::{curl, has},
    faults_line::{Line, Relay, adapter_behind},
    support::{World, complaint, eventually, missing, same_at_both_ends, submit, submit_many},
};

const CITY: &str = "pemda-33.74";

/// Scenario: a node has lost its disk and takes its own complaints back from
/// the hub over a slow line; its local system asks for one of them, hands over
/// an event about it, and asks again when the copy is complete.
/// Guarantee: meanwhile it is told that this node can't say yet, why, and when
/// to come back (503 and UNAVAILABLE with a delay), not that there is no such
/// complaint; a new complaint is taken all the same; in the end the old one is
/// there.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_copies_back_says_so() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let relay = Relay::start(world.links(), Line::GOOD).await;
    let mut city = adapter_behind(&world, CITY, relay.address);
    let long = |n: u32| v1::NewComplaint {
        body: format!("{n} ").repeat(2_000),
        ..complaint(&format!("R-{n}"))
    };
    assert_eq!(submit_many(&city, (0..150).map(long).collect()).await, 150);
    same_at_both_ends(&world.hub, &city, CITY, v1::Journal::Submissions, 150).await;
    city.kill();
    std::fs::remove_dir_all(world.directory.path().join(format!("{CITY}-data"))).unwrap();
    relay.set(Line {
        rate: 32_000,
        ..Line::GOOD
    });
    city.start_again();
    let ask = || {
        let url = format!("http://{}/v1/complaints/R-149", city.http);
        curl(&[&url])
    };
    eventually("the node has begun to copy back", async || ask().0 == 503).await;
    let (code, problem): (u16, Value) = ask();
    assert_eq!((code, &problem["reason"]), (503, &"RESTORING".into()));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("lost its disk"), "{problem}");
    let headers = crate::doors::run(
        "curl",
        &[
            "-sI",
            "-X",
            "GET",
            &format!("http://{}/v1/complaints/R-149", city.http),
        ],
    );
    let headers = String::from_utf8(headers.stdout).unwrap().to_lowercase();
    assert!(headers.contains("retry-after: "), "{headers}");

    let mut door = city.gateway().await;
    let event = v1::NewEvent {
        complaint: Some(v1::ComplaintName {
            name: Some(v1::complaint_name::Name::Reference("R-149".to_owned())),
        }),
        body: Some(v1::new_event::Body::ReporterReplied(Default::default())),
        text: "Masih padam".to_owned(),
        ..v1::NewEvent::default()
    };
    let request = v1::SubmitRequest {
        handover: Some(v1::Handover {
            key: "E-1".to_owned(),
            item: Some(v1::handover::Item::Event(event)),
            ..v1::Handover::default()
        }),
        wait_for_hub_ms: 0,
    };
    let refused = door.submit(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    let details = tonic_types::StatusExt::get_error_details(&refused);
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    door.submit(submit(complaint("NEW-1"), 0)).await.unwrap();

    relay.set(Line::GOOD);
    eventually("the copy is complete", async || ask().0 == 200).await;
    door.submit(request).await.unwrap();
    same_at_both_ends(&world.hub, &city, CITY, v1::Journal::Submissions, 152).await;
}
