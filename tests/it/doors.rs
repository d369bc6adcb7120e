//! The doors, with the programs that people have: curl and Python.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{World, eventually, missing};

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// Status code and JSON of one call with curl.
pub(crate) fn curl(arguments: &[&str]) -> (u16, Value) {
    let mut all = vec!["-s", "-w", "\n%{http_code}"];
    all.extend(arguments);
    let output = run("curl", &all);
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {text}"));
    (code.parse().unwrap(), body)
}

pub(crate) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Scenario: a city's site with nothing but curl walks all six routes: files,
/// repeats, conflicts, reads, reports, mirrors its status column, reads its
/// inbox and acknowledges it.
/// Guarantee: each does what docs/http.md says, errors are problem+json that
/// name the field, and nothing is doubled.
#[tokio::test(flavor = "multi_thread")]
async fn curl_walks_the_six_routes() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let base = format!("http://{}/v1", city.http);
    let complaints = format!("{base}/complaints");
    let filing = json!({"reference": "A-1", "title": "Jalan rusak", "body": "Jalan berlubang di depan pasar.", "handling": "HANDLING_OWN"}).to_string();
    let json_type = "content-type: application/json";

    let (code, filed) = curl(&[
        "-H",
        json_type,
        "-d",
        &filing,
        &format!("{complaints}?wait=hub"),
    ]);
    assert_eq!(code, 200, "{filed}");
    assert_eq!(filed["progress"], "PROGRESS_ACCEPTED", "{filed}");
    let tracking_id = filed["decision"]["trackingId"].as_str().unwrap().to_owned();
    assert_eq!(tracking_id.len(), 13);

    let (code, again) = curl(&["-H", json_type, "-d", &filing, &complaints]);
    assert_eq!(
        (code, &again["repeatedHandover"]),
        (200, &json!(true)),
        "{again}"
    );
    assert_eq!(again["decision"]["trackingId"], tracking_id.as_str());

    let other = filing.replace("berlubang", "rusak parah");
    let (code, conflict) = curl(&["-H", json_type, "-d", &other, &complaints]);
    assert_eq!(
        (code, &conflict["reason"]),
        (409, &json!("CONFLICT")),
        "{conflict}"
    );
    assert_ne!(conflict["stored_digest"], conflict["refused_digest"]);

    let (code, wrong) = curl(&[
        "-H",
        json_type,
        "-d",
        r#"{"reference":"A-2","body":"x"}"#,
        &complaints,
    ]);
    assert_eq!(code, 400, "{wrong}");
    assert!(wrong["fields"].to_string().contains("title"), "{wrong}");

    let events = format!("{complaints}/A-1/events?wait=hub");
    let started = r#"{"handlingStarted":{"unit":"DPU"}}"#;
    let (code, answer) = curl(&[
        "-H",
        json_type,
        "-H",
        "Idempotency-Key: k-1",
        "-d",
        started,
        &events,
    ]);
    assert_eq!(
        (code, &answer["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{answer}"
    );
    let (code, answer) = curl(&["-H", json_type, "-d", started, &events]);
    assert_eq!(code, 400, "an event needs a key: {answer}");

    let status = format!("{complaints}/A-1/status?wait=hub");
    let strange = r#"{"code":"7","name":"Aneh","time":"2026-11-24T08:00:00+07:00"}"#;
    let (code, unmapped) = curl(&[
        "-X",
        "PUT",
        "-H",
        json_type,
        "-H",
        "Idempotency-Key: k-2",
        "-d",
        strange,
        &status,
    ]);
    assert_eq!(
        (code, &unmapped["progress"]),
        (200, &json!("PROGRESS_ACCEPTED")),
        "{unmapped}"
    );
    assert!(city.log().contains("status_unmapped"), "it is work to do");
    let (code, wrong) = curl(&["-X", "PUT", "-H", json_type, "-d", strange, &status]);
    assert_eq!(code, 400, "a status needs a key: {wrong}");

    let (code, view) = curl(&[&format!("{complaints}/A-1")]);
    assert_eq!(
        (code, &view["status"]),
        (200, &json!("STATUS_IN_PROGRESS")),
        "{view}"
    );
    let history = view["history"].as_array().unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!(
        history[2]["event"]["event"]["localStatus"]["code"], "7",
        "kept as it came"
    );
    let (code, unknown) = curl(&[&format!("{complaints}/nobody-knows")]);
    assert_eq!(
        (code, &unknown["reason"]),
        (404, &json!("UNKNOWN_COMPLAINT"))
    );

    let (code, inbox) = curl(&[&format!("{base}/inbox?wait=5")]);
    assert_eq!(code, 200);
    let items = inbox["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "three decisions: {inbox}");
    let cursor = items[2]["cursor"].as_str().unwrap();
    let (code, _) = curl(&[
        "-H",
        json_type,
        "-d",
        &json!({"through": cursor}).to_string(),
        &format!("{base}/inbox/ack"),
    ]);
    assert_eq!(code, 200);
    let (_, inbox) = curl(&[&format!("{base}/inbox")]);
    assert_eq!(
        inbox
            .get("items")
            .and_then(Value::as_array)
            .map_or(0, Vec::len),
        0
    );

    let (code, ready) = curl(&[&format!("http://{}/readyz", city.http)]);
    assert_eq!((code, &ready["ready"]), (200, &json!(true)), "{ready}");
    let metrics = run(
        "curl",
        &["-s", &format!("http://{}/metrics", world.hub.http)],
    );
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    assert!(metrics.contains("jembatan_orphans 0"), "{metrics}");
    assert!(
        metrics.contains("jembatan_submissions_head_position{party=\"pemda-33.74\"} 3"),
        "{metrics}"
    );
}

/// Scenario: a vendor's Python with grpcio and stubs generated from proto/,
/// registered as unary, over mutual TLS on the hub's own port.
/// Guarantee: submits, repeats, conflicts, fetches and acknowledges as any door
/// does; without a certificate nothing is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_is_a_unary_party() {
    let python = std::env::var("JEMBATAN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let check = Command::new(&python)
        .args(["-c", "import grpc, grpc_tools"])
        .output();
    if !check.is_ok_and(|found| found.status.success()) {
        return missing("a Python with grpcio and grpcio-tools (JEMBATAN_TEST_PYTHON)");
    }
    let world = World::new();
    world.issue_party("mitra");
    let stubs = world.directory.path().join("stubs");
    std::fs::create_dir(&stubs).unwrap();
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let mut arguments = vec![
        "-m".to_owned(),
        "grpc_tools.protoc".to_owned(),
        format!("-I{proto}"),
        format!("--python_out={}", stubs.display()),
        format!("--grpc_python_out={}", stubs.display()),
    ];
    for name in ["complaint", "exchange", "gateway"] {
        arguments.push(format!("jembatan/v1/{name}.proto"));
    }
    let made = Command::new(&python).args(&arguments).output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/unary_party.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(&stubs)
        .arg(world.links().to_string())
        .args([
            world.pki("ca.pem"),
            world.pki("mitra.pem"),
            world.pki("mitra.key"),
        ])
        .arg("localhost")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", world.hub.log());
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{seen:#}");
    assert_eq!(seen["first"]["repeated"], false, "{seen}");
    assert_eq!(seen["again"]["repeated"], true, "{seen}");
    for field in ["event_id", "tracking_id"] {
        assert_eq!(
            seen["again"][field], seen["first"][field],
            "the original result"
        );
    }
    assert_eq!(seen["conflict"]["code"], "ALREADY_EXISTS", "{seen}");
    assert_eq!(seen["invalid"]["code"], "INVALID_ARGUMENT", "{seen}");
    assert_eq!(seen["streamed"], 50);
    assert_eq!(seen["streamed_in_order"], true);
    assert_eq!(seen["streamed_errors"], 0);
    assert_eq!(
        (&seen["decisions"], &seen["accepted"]),
        (&json!(51), &json!(51))
    );
    assert_eq!(seen["left_after_acknowledging"], 0);
    assert_eq!(seen["shown"]["tracking_id"], seen["first"]["tracking_id"]);
    assert_eq!(seen["shown"]["reporter"], "Pelapor Uji 900", "{seen}");
    eventually("the hub has it once", || async {
        let counts = world.hub.sync("mitra").await.counts.unwrap();
        counts.accepted == 51 && counts.rejected == 0 && counts.duplicates == 0
    })
    .await;
}
