//! Bad input at the HTTP door, and two things that once went wrong there:
//! references that look like ids, and a page that ends within a delivery.

use std::io::Write as _;

use jembatan::wire::v1;
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use crate::{
    doors::{curl, has},
    support::{World, complaint, eventually, missing, submit, submit_many},
};

const CITY: &str = "pemda-33.74";
const JSON: &str = "content-type: application/json";

fn filing(change: impl FnOnce(&mut Value)) -> String {
    let mut new = json!({
        "reference": "D-1", "title": "Jalan rusak", "body": "Jalan berlubang.",
        "handling": "HANDLING_OWN",
    });
    change(&mut new);
    new.to_string()
}

/// Scenario: at the HTTP door: no JSON, half of one, a NUL in a text, broken
/// UTF-8, an unknown field, an unknown enum value, a number as text, each text
/// beyond its limit, a NIK as key and as reference, a body of 2 MB, a form, no
/// content type, a wrong method, a wrong route, a wrong query, wrong cursors, a
/// key that is not ASCII, and a reference with a NUL in the path.
/// Guarantee: each answer is problem+json with the right status, a reason, a
/// detail and, where there is one, the field; nothing is stored; a good filing
/// right after is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named_and_harms_nothing() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter(CITY);
    let base = format!("http://{}/v1", city.http);
    let complaints = format!("{base}/complaints");
    let directory = tempfile::tempdir().unwrap();
    let nik = "3374000000000001";
    // Body, field that is named: as it stands in the JSON, or `request`, if it is
    // no JSON at all.
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"jalan rusak".to_vec(), "request"),
        (filing(|_| ()).as_bytes()[..40].to_vec(), "request"),
        ([filing(|_| ()).as_bytes(), b"}"].concat(), "request"),
        (Vec::new(), "request"),
        (b"\"\\ud800\"".to_vec(), "request"),
        (b"[]".to_vec(), "request"),
        (filing(|new| new["body"] = "a\0b".into()).into(), "body"),
        (
            filing(|_| ())
                .replace("berlubang", "X")
                .replace('X', "\u{fffd}")
                .into_bytes()
                .into_iter()
                .filter(|byte| *byte != 0xbf)
                .collect(),
            "request",
        ),
        (filing(|new| new["jalan"] = 1.into()).into(), "jalan"),
        (filing(|new| new["body"] = 1.into()).into(), "body"),
        (
            filing(|new| new["handling"] = "HANDLING_MAYBE".into()).into(),
            "handling",
        ),
        (filing(|new| new["handling"] = 99.into()).into(), "handling"),
        (
            filing(|new| new["latitude"] = "north".into()).into(),
            "latitude",
        ),
        (
            filing(|new| new["reporter"] = json!({"name": [1]})).into(),
            "reporter.name",
        ),
        (
            filing(|new| new["foreignReferences"] = json!([{}, {"system": 7}])).into(),
            "foreignReferences[1].system",
        ),
        (
            filing(|new| new["localStatus"] = json!({"mapped": "STATUS_DONE"})).into(),
            "localStatus.mapped",
        ),
        (filing(|new| new["latitude"] = 91.into()).into(), "latitude"),
        (filing(|new| new["title"] = "".into()).into(), "title"),
        (
            filing(|new| new["title"] = "x".repeat(256).into()).into(),
            "title",
        ),
        (
            filing(|new| new["body"] = "x".repeat(10_001).into()).into(),
            "body",
        ),
        (
            filing(|new| new["channel"] = "x".repeat(65).into()).into(),
            "channel",
        ),
        (
            filing(|new| new["reference"] = nik.into()).into(),
            "reference",
        ),
        (
            filing(|new| new["reference"] = "".into()).into(),
            "complaint.reference",
        ),
        (
            filing(|new| new["reference"] = "x".repeat(129).into()).into(),
            "complaint.reference",
        ),
        (
            filing(|new| {
                new["foreignReferences"] =
                    json!([{"system": "x", "reference": "y".repeat(200_000)}]);
            })
            .into(),
            "foreign_references.reference",
        ),
        (
            filing(|new| new["localStatus"] = json!({"code": "x".repeat(65)})).into(),
            "local_status.code",
        ),
    ];
    let send = |body: &[u8], more: &[&str]| {
        let path = directory.path().join("body");
        std::fs::File::create(&path)
            .unwrap()
            .write_all(body)
            .unwrap();
        let data = format!("@{}", path.display());
        let mut all = vec!["--data-binary", &data];
        all.extend(more);
        all.push(&complaints);
        curl(&all)
    };
    for (n, (body, field)) in bodies.iter().enumerate() {
        let (code, problem) = send(body, &["-H", JSON]);
        let said = format!("case {n}: {code} {problem}");
        assert_eq!(code, 400, "{said}");
        assert_eq!(problem["reason"], "INVALID_ARGUMENT", "{said}");
        let fields = problem["fields"].as_array().unwrap();
        let names: Vec<&str> = fields
            .iter()
            .map(|found| found["field"].as_str().unwrap())
            .collect();
        assert_eq!(names, [*field], "{said}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{said}");
    }
    let good = filing(|_| ());
    let key = format!("idempotency-key: {nik}");
    let large = filing(|new| new["body"] = "x".repeat(2_000_000).into());
    let form = "content-type: application/x-www-form-urlencoded";
    let others: Vec<((u16, Value), u16, &str)> = vec![
        (
            send(good.as_bytes(), &["-H", JSON, "-H", &key]),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            send(
                good.as_bytes(),
                &["-H", JSON, "-H", "idempotency-key: \u{e9}"],
            ),
            400,
            "INVALID_ARGUMENT",
        ),
        (send(large.as_bytes(), &["-H", JSON]), 413, "TOO_LARGE"),
        (
            send(good.as_bytes(), &["-H", form]),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            send(good.as_bytes(), &["-H", "content-type:"]),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            curl(&["-X", "DELETE", &complaints]),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (curl(&[&format!("{base}/nothing")]), 404, "NOT_FOUND"),
        (
            curl(&[&format!("{base}/inbox?limit=many")]),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            curl(&[&format!("{base}/inbox?after=yesterday")]),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            curl(&[&format!("{base}/inbox?after=99999999999999999999-1")]),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            curl(&[&format!("{complaints}/a%00b")]),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            curl(&[&format!("{complaints}/%ff%fe")]),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            curl(&[&format!("{complaints}/NONE")]),
            404,
            "UNKNOWN_COMPLAINT",
        ),
        (
            curl(&[
                "-H",
                JSON,
                "-d",
                "{\"through\": \"7\"}",
                &format!("{base}/inbox/ack"),
            ]),
            400,
            "INVALID_ARGUMENT",
        ),
    ];
    for (n, ((code, problem), status, reason)) in others.into_iter().enumerate() {
        assert_eq!(
            (code, &problem["reason"]),
            (status, &json!(reason)),
            "{n}: {problem}"
        );
        assert_eq!(problem["status"], status, "{n}: {problem}");
        assert!(problem["title"].is_string(), "{n}: {problem}");
    }
    let place = city.place(CITY, v1::Journal::Submissions).await;
    assert_eq!(place.position, 0, "nothing of all that was stored");
    let (code, filed) = curl(&["-H", JSON, "-d", &good, &format!("{complaints}?wait=hub")]);
    assert_eq!(
        (code, &filed["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{filed}"
    );
}

/// Scenario: a system numbers its complaints with UUIDs; it shows one, tells an
/// event and mirrors a status by that reference, and by the complaint's id.
/// Guarantee: the reference is a reference, though it looks like an id; the id
/// still names the same complaint.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_may_look_like_an_id() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter(CITY);
    let complaints = format!("http://{}/v1/complaints", city.http);
    let reference = "0189f0c2-7b1e-7c3a-9d54-2f6f3a1b2c3d";
    let body = filing(|new| new["reference"] = reference.into());
    let (code, filed) = curl(&["-H", JSON, "-d", &body, &format!("{complaints}?wait=hub")]);
    assert_eq!(code, 200, "{filed}");
    let id = filed["complaintId"].as_str().unwrap();
    assert_ne!(id, reference);
    for (n, name) in [reference, id].into_iter().enumerate() {
        let (code, shown) = curl(&[&format!("{complaints}/{name}")]);
        assert_eq!((code, &shown["complaintId"]), (200, &json!(id)), "{shown}");
        let key = format!("idempotency-key: U-{n}");
        let note = json!({"text": "Sudah dilihat.", "progressReported": {}}).to_string();
        let events = format!("{complaints}/{name}/events");
        let (code, told) = curl(&["-H", JSON, "-H", &key, "-d", &note, &events]);
        assert_eq!((code, &told["complaintId"]), (200, &json!(id)), "{told}");
        let key = format!("idempotency-key: S-{n}");
        let status = format!("{complaints}/{name}/status");
        let code_of = json!({"code": format!("{n}")}).to_string();
        let (code, told) = curl(&["-X", "PUT", "-H", JSON, "-H", &key, "-d", &code_of, &status]);
        assert_eq!((code, &told["complaintId"]), (200, &json!(id)), "{told}");
    }
    let (code, _) = curl(&[&format!(
        "{complaints}/ffffffff-7b1e-7c3a-9d54-2f6f3a1b2c3d"
    )]);
    assert_eq!(code, 404);
}

/// Scenario: the hub's decisions on three hundred filings come in few
/// deliveries; a local system fetches pages of seven, without a cursor of its
/// own, and acknowledges the last item of each.
/// Guarantee: it gets through, each decision once; it never turns in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn small_pages_of_large_deliveries_come_to_an_end() {
    let mut world = World::new();
    let city = world.adapter(CITY);
    world.hub.kill();
    let filings = (0..300).map(|n| v1::NewComplaint {
        handling: v1::Handling::Own as i32,
        ..complaint(&format!("P-{n}"))
    });
    submit_many(&city, filings.collect()).await;
    world.hub.start_again();
    eventually("all is decided", || async {
        let counts = world.hub.sync(CITY).await.counts.unwrap();
        let (there, here) = (
            world.hub.place(CITY, v1::Journal::Deliveries).await,
            city.place(CITY, v1::Journal::Deliveries).await,
        );
        counts.accepted == 300 && here == there
    })
    .await;
    let deliveries = city.place(CITY, v1::Journal::Deliveries).await.position;
    assert!(deliveries < 300, "several decisions in one: {deliveries}");
    let mut door = city.gateway().await;
    let mut seen = Vec::new();
    for _ in 0..300 {
        let request = v1::FetchInboxRequest {
            after: String::new(),
            wait_ms: 0,
            limit: 7,
        };
        let items = door.fetch_inbox(request).await.unwrap().into_inner().items;
        let Some(last) = items.last() else { break };
        assert!(items.len() <= 7);
        let through = last.cursor.clone();
        let request = v1::AcknowledgeInboxRequest {
            through: through.clone(),
        };
        let answer = door.acknowledge_inbox(request).await.unwrap().into_inner();
        assert_eq!(answer.through, through);
        seen.extend(items.into_iter().filter_map(|item| match item.item {
            Some(v1::inbox_item::Item::Decision(decision)) => Some(decision.event_id),
            _ => None,
        }));
    }
    let once: std::collections::BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!((seen.len(), once.len()), (300, 300));
}

fn named_fields(refused: &tonic::Status) -> Vec<String> {
    let found = refused.get_error_details();
    let fields = found.bad_request().unwrap().field_violations.iter();
    fields.map(|found| found.field.clone()).collect()
}

fn handed_over(item: v1::handover::Item) -> v1::SubmitRequest {
    v1::SubmitRequest {
        handover: Some(v1::Handover {
            item: Some(item),
            key: "K-1".to_owned(),
            ..v1::Handover::default()
        }),
        wait_for_hub_ms: 0,
    }
}

/// Scenario: a newer client sends 99 in each enumeration of a request at the gRPC
/// doors: handling, audience, mapped status of a complaint and of an event, reason
/// of an archive, mode of a party, journal; then the same with nothing set.
/// Guarantee: each 99 is refused by its name, and none is taken for the default;
/// nothing of it is stored; what is not set is the default.
#[tokio::test(flavor = "multi_thread")]
async fn an_enum_value_that_is_not_known_is_refused() {
    use v1::{handover::Item, new_event::Body};
    const NEWER: i32 = 99;
    let world = World::new();
    let city = world.adapter(CITY);
    let mut gateway = city.gateway().await;
    gateway.submit(submit(complaint("D-0"), 0)).await.unwrap();
    let status = |mapped| {
        Some(v1::LocalStatus {
            code: "7".to_owned(),
            mapped,
            ..v1::LocalStatus::default()
        })
    };
    let filing = || complaint("D-1");
    let event = || v1::NewEvent {
        complaint: Some(v1::ComplaintName {
            name: Some(v1::complaint_name::Name::Reference("D-0".to_owned())),
        }),
        text: "Catatan.".to_owned(),
        body: Some(Body::Verified(v1::Verified {})),
        ..v1::NewEvent::default()
    };
    let items = [
        (
            Item::Complaint(v1::NewComplaint {
                handling: NEWER,
                ..filing()
            }),
            "complaint.handling",
        ),
        (
            Item::Complaint(v1::NewComplaint {
                handling: NEWER,
                addressed_to: CITY.to_owned(),
                ..filing()
            }),
            "complaint.handling",
        ),
        (
            Item::Complaint(v1::NewComplaint {
                local_status: status(NEWER),
                ..filing()
            }),
            "complaint.local_status.mapped",
        ),
        (
            Item::Event(v1::NewEvent {
                audience: NEWER,
                ..event()
            }),
            "event.audience",
        ),
        (
            Item::Event(v1::NewEvent {
                local_status: status(NEWER),
                ..event()
            }),
            "event.local_status.mapped",
        ),
        (
            Item::Event(v1::NewEvent {
                body: Some(Body::Archived(v1::Archived { reason: NEWER })),
                ..event()
            }),
            "archived.reason",
        ),
    ];
    for (item, field) in items {
        let refused = gateway.submit(handed_over(item)).await.expect_err(field);
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
        assert_eq!(named_fields(&refused), [field], "{refused}");
    }
    let party = |id: &str, mode| v1::PutPartyRequest {
        party: Some(v1::Party {
            id: id.to_owned(),
            mode,
            enabled: true,
            ..v1::Party::default()
        }),
    };
    let mut directory = world.hub.directory().await;
    let refused = directory.put_party(party("mitra-2", NEWER)).await;
    assert_eq!(named_fields(&refused.unwrap_err()), ["party.mode"]);
    let chain = v1::GetJournalChainRequest {
        party: CITY.to_owned(),
        journal: NEWER,
        position: 0,
    };
    let refused = city.health().await.get_journal_chain(chain).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("journal"), "{refused}");
    let place = city.place(CITY, v1::Journal::Submissions).await;
    assert_eq!(place.position, 1, "nothing of it is stored");

    // Not set.
    let item = v1::NewComplaint {
        handling: 0,
        local_status: status(0),
        ..filing()
    };
    gateway.submit(submit(item, 0)).await.unwrap();
    gateway
        .submit(handed_over(Item::Event(event())))
        .await
        .unwrap();
    directory.put_party(party("mitra-2", 0)).await.unwrap();
}
