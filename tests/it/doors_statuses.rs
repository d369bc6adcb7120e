//! Mirrored statuses: by any name of a complaint, by the table of the local
//! system that speaks, and what no table has a row for.

use jembatan::wire::v1;
use serde_json::{Value, json};

use crate::{
    doors::{curl, has, run},
    support::{Node, World, eventually, missing},
};

const JSON: &str = "content-type: application/json";

fn file(node: &Node, reference: &str, query: &str, more: &Value) -> Value {
    let mut body =
        json!({"reference": reference, "title": "Jalan rusak", "body": "Jalan berlubang."});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let url = format!("http://{}/v1/complaints?wait=hub{query}", node.http);
    let (code, filed) = curl(&["-H", JSON, "-d", &body.to_string(), &url]);
    assert_eq!(
        (code, &filed["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{filed}"
    );
    filed
}

fn mirror(node: &Node, name: &str, key: &str, status: &str, query: &str) -> (u16, Value) {
    let key = format!("Idempotency-Key: {key}");
    let url = format!(
        "http://{}/v1/complaints/{name}/status?wait=hub{query}",
        node.http
    );
    curl(&["-X", "PUT", "-H", JSON, "-H", &key, "-d", status, &url])
}

/// Scenario: a city was given a complaint by the province and has no reference
/// of its own for it; it mirrors its status column and reports an event by
/// Tracking ID, by id, and by the reference that it attaches at last.
/// Guarantee: each name that a complaint is read by is taken.
#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_a_complaint_is_taken() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let province = world.adapter("pemda-33");
    let city = world.adapter("pemda-33.74");
    let to_city = json!({"handling": "HANDLING_ADDRESSED", "addressedTo": "pemda-33.74"});
    let filed = file(&province, "P-1", "", &to_city);
    let id = filed["complaintId"].as_str().unwrap().to_owned();
    let tracking = format!(
        "tracking:{}",
        filed["decision"]["trackingId"].as_str().unwrap()
    );
    let read = |name: &str| curl(&[&format!("http://{}/v1/complaints/{name}", city.http)]);
    eventually("the city has it", || async { read(&id).0 == 200 }).await;
    let status = r#"{"code":"7","name":"Aneh"}"#;
    for (key, name) in [("m-1", tracking.as_str()), ("m-2", id.as_str())] {
        assert_eq!(read(name).0, 200, "{name}");
        let (code, answer) = mirror(&city, name, key, status, "");
        assert_eq!(
            (code, &answer["progress"]),
            (200, &json!("PROGRESS_ACCEPTED")),
            "{answer}"
        );
    }
    let event = |name: &str, key: &str, body: &str| {
        let key = format!("Idempotency-Key: {key}");
        let url = format!("http://{}/v1/complaints/{name}/events?wait=hub", city.http);
        curl(&["-H", JSON, "-H", &key, "-d", body, &url])
    };
    let (code, answer) = event(
        &tracking,
        "e-1",
        r#"{"ownReference":"K-77","handlingStarted":{}}"#,
    );
    assert_eq!(
        (code, &answer["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{answer}"
    );
    let (code, answer) = mirror(&city, "K-77", "m-3", status, "");
    assert_eq!(
        (code, &answer["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{answer}"
    );
    let (code, answer) = mirror(&city, "tracking:0000000000000", "m-4", status, "");
    assert!(matches!(code, 400 | 404), "{answer}");
}

async fn unmapped(node: &Node, party: &str) -> Vec<v1::UnmappedStatus> {
    node.sync(party).await.unmapped_statuses
}

/// Scenario: a city with two systems that say "3" and mean different things,
/// and one of which says "9", which no table knows; the same hand-over comes
/// twice; then the table gets a row and the node starts again.
/// Guarantee: each system is read by its own rows; what is unmapped is stored,
/// counted once and listed with its system, in status and metrics, over a
/// restart, until the table has a row.
#[tokio::test(flavor = "multi_thread")]
async fn each_system_is_read_by_its_own_table() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let table = world.directory.path().join("map.csv");
    let rows = "system,raw_code,raw_name,canonical,note\n\
                one,3,,in_progress,\n\
                two,3,,verified,\n";
    std::fs::write(&table, rows).unwrap();
    let of_party = "status_map = \"map.csv\"\n[[party.system]]\nname = \"one\"\n[[party.system]]\nname = \"two\"";
    let door = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file("pemda-33.74", of_party, door);
    let mut city = Node::start("adapter", &config);
    for (system, canonical) in [("one", "STATUS_IN_PROGRESS"), ("two", "STATUS_VERIFIED")] {
        let query = format!("&system={system}");
        file(&city, "W-1", &query, &json!({"handling": "HANDLING_OWN"}));
        // The first word of a party is where it stands; the second one moves.
        for key in ["w-1", "w-2"] {
            let (code, answer) = mirror(&city, "W-1", key, r#"{"code":"3"}"#, &query);
            assert_eq!(
                (code, &answer["progress"]),
                (200, &json!("PROGRESS_ACCEPTED")),
                "{answer}"
            );
        }
        let url = format!("http://{}/v1/complaints/W-1?system={system}", city.http);
        let (_, view) = curl(&[&url]);
        assert_eq!(view["status"], canonical, "{system}: {view}");
    }
    assert_eq!(unmapped(&city, "pemda-33.74").await, []);

    let strange = r#"{"code":"9","name":"Aneh"}"#;
    for key in ["w-9", "w-9", "w-10"] {
        let (code, answer) = mirror(&city, "W-1", key, strange, "&system=two");
        assert_eq!(code, 200, "{answer}");
    }
    city.restart();
    let found = unmapped(&city, "pemda-33.74").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let found = &found[0];
    let told = (
        found.reason.as_str(),
        found.system.as_str(),
        found.code.as_str(),
        found.name.as_str(),
    );
    assert_eq!(told, ("UNMAPPED_STATUS", "two", "9", "Aneh"));
    assert_eq!(found.count, 2, "a repeated hand-over is not counted again");
    assert!(found.last_seen.is_some());
    let metrics = run("curl", &["-s", &format!("http://{}/metrics", city.http)]);
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    let line = "jembatan_unmapped_statuses{party=\"pemda-33.74\"} 1";
    assert!(metrics.contains(line), "{metrics}");

    std::fs::write(&table, format!("{rows}two,9,,responded,\n")).unwrap();
    city.restart();
    assert_eq!(unmapped(&city, "pemda-33.74").await, [], "the work is done");
}

/// Scenario: the national application, behind the hub's own door, with a
/// mapping table and a zone of its own in the hub's settings.
/// Guarantee: its codes are read by that table, its days counted in that zone,
/// and what is unmapped is listed at the hub.
#[tokio::test(flavor = "multi_thread")]
async fn parties_behind_the_hub_have_tables_and_zones_too() {
    if !has("curl") {
        return missing("curl");
    }
    let tables = tempfile::TempDir::new().unwrap();
    let table = tables.path().join("national.csv");
    let rows = "system,raw_code,raw_name,canonical,note\nlapor,proses,,verified,\n";
    std::fs::write(&table, rows).unwrap();
    let world = World::with_hub(&format!(
        "[[party]]\nid = \"nasional\"\ntime_zone = \"Asia/Jayapura\"\nstatus_map = {table:?}"
    ));
    let hub = &world.hub;
    file(hub, "N-1", "", &json!({}));
    let (code, answer) = mirror(hub, "N-1", "n-1", r#"{"code":"proses"}"#, "");
    assert_eq!(
        (code, &answer["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{answer}"
    );
    let (_, view) = curl(&[&format!("http://{}/v1/complaints/N-1", hub.http)]);
    let event = &view["history"][1]["event"]["event"];
    assert_eq!(event["localStatus"]["mapped"], "STATUS_VERIFIED", "{view}");
    assert_eq!(event["timeZone"], "Asia/Jayapura", "{view}");
    let (code, answer) = mirror(hub, "N-1", "n-2", r#"{"code":"lain"}"#, "");
    assert_eq!(code, 200, "{answer}");
    let found = unmapped(hub, "nasional").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].system.as_str(), found[0].code.as_str()),
        ("lapor", "lain")
    );
}
