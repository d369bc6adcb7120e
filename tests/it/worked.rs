//! Worked hashes: a chain of real events and one of real delivery headers, ids,
//! Tracking IDs, parts and hand-over digests, with every intermediate value;
//! recomputed by Python and shown in docs/protocol.md.

use std::{fs, path::Path, process::Command};

use jembatan::{
    domain::{
        ComplaintId, ComplaintName, Decision, DecisionSet, DeliveryRecord, Digest, EventBody,
        EventHeader, EventId, Handling, Handover, IdempotencyKey, InstitutionCode, Item, Micros,
        NewComplaint, NewEvent, Outcome, Part, PartKind, PartState, PartyId, Reference, RegionCode,
        Role, Status, SystemName, TrackingId,
    },
    exchange::{Direction, Place, delivery_digest, event_digest, root_chain},
    wire::{self, Composed, Composing},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    support::missing,
    vectors::{keep, party, path, read, system},
};

const EPOCH: u64 = 1_790_000_000;
const NAME: &str = "LS-2026-000001";
/// Second after second: each thing has a moment of its own.
fn at(second: i64) -> Micros {
    Micros((1_790_000_000 + second) * 1_000_000)
}

fn sha(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn len16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn complaint_id() -> ComplaintId {
    ComplaintId::derive(&party(), &system(), &Reference::parse(NAME).unwrap())
}

/// What is handed over, and its fields as `handover_digest` takes them.
fn handovers() -> [(Handover, Vec<(&'static str, String)>); 3] {
    let mut new = NewComplaint::new(Reference::parse(NAME).unwrap());
    new.title = "Jalan berlubang".to_owned();
    new.body = "Sudah sebulan.".to_owned();
    new.region = Some(RegionCode::parse("33.74").unwrap());
    new.latitude = Some(-6.9903);
    new.longitude = Some(110.4229);
    new.anonymous = true;
    new.handling = Handling::Route;
    new.reporter.name = "Pelapor Uji 900".to_owned();
    let filing = Handover {
        system: system(),
        key: None,
        item: Item::Complaint(Box::new(new)),
    };
    let filing_fields = vec![
        ("item", "complaint".to_owned()),
        ("reference", NAME.to_owned()),
        ("title", "Jalan berlubang".to_owned()),
        ("body", "Sudah sebulan.".to_owned()),
        ("region", "33.74".to_owned()),
        ("latitude", format!("{:016x}", (-6.9903_f64).to_bits())),
        ("longitude", format!("{:016x}", 110.4229_f64.to_bits())),
        ("anonymous", "true".to_owned()),
        ("handling", "route".to_owned()),
        ("reporter.name", "Pelapor Uji 900".to_owned()),
    ];
    let name = ComplaintName::Reference(Reference::parse(NAME).unwrap());
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let started = event(NewEvent::new(name.clone(), started), "K-1");
    let started_fields = vec![
        ("item", "handling_started".to_owned()),
        ("complaint.reference", NAME.to_owned()),
        ("unit", "DPU".to_owned()),
    ];
    let responded = EventBody::Responded {
        attachments: Vec::new(),
    };
    let mut responded = NewEvent::new(name, responded);
    responded.text = "Sudah diperbaiki.".to_owned();
    responded.expected_revision = Some(2);
    let responded_fields = vec![
        ("item", "responded".to_owned()),
        ("complaint.reference", NAME.to_owned()),
        ("expected_revision", "2".to_owned()),
        ("text", "Sudah diperbaiki.".to_owned()),
    ];
    [
        (filing, filing_fields),
        (started, started_fields),
        (event(responded, "K-2"), responded_fields),
    ]
}

fn event(new: NewEvent, key: &str) -> Handover {
    Handover {
        system: system(),
        key: Some(IdempotencyKey::parse(key).unwrap()),
        item: Item::Event(Box::new(new)),
    }
}

/// Composes as a node does, with salts that are always the same.
fn compose(owner: &PartyId, handover: &Handover, second: i64) -> Composed {
    let composing = Composing {
        party: owner,
        now: at(second),
        time_zone: "Asia/Jakarta",
        complaint_id: Some(complaint_id()),
    };
    let mut salt = second as u8 * 16;
    let composed = wire::compose(handover.clone(), composing, || {
        salt += 1;
        [salt; 16]
    });
    composed.unwrap()
}

fn decided(event: &Composed, revision: u32, status: Status) -> Decision {
    Decision {
        outcome: Outcome::Accepted,
        event_id: Some(event.event.event_id),
        complaint_id: Some(complaint_id()),
        revision,
        status: Some(status),
        handler: Some(InstitutionCode::parse(party().as_str()).unwrap()),
        tracking_id: Some(TrackingId::derive(&complaint_id(), 0)),
        duplicate_of: 0,
        rejection: None,
        answer_missing: false,
    }
}

/// Decisions on 1 and 2, an event of the national desk, a decision on 3.
fn deliveries(submissions: &[Composed]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let national = PartyId::parse("nasional").unwrap();
    let classified = EventBody::Classified {
        kind: None,
        category: None,
        region: None,
        oversight: Some(true),
    };
    let classified = NewEvent::new(ComplaintName::Id(complaint_id()), classified);
    let mut handover = event(classified, "N-1");
    handover.system = SystemName::parse("lapor").unwrap();
    let classified = compose(&national, &handover, 5);
    let set = |first_position, decisions| {
        DeliveryRecord::Decisions(DecisionSet {
            epoch: EPOCH,
            first_position,
            decisions,
        })
    };
    let first = set(
        1,
        vec![
            decided(&submissions[0], 1, Status::Received),
            decided(&submissions[1], 2, Status::InProgress),
        ],
    );
    let header = DeliveryRecord::Event(EventHeader {
        event_id: classified.event.event_id,
        complaint_id: complaint_id(),
        revision: 3,
        status: Status::InProgress,
        handler: Some(InstitutionCode::parse(party().as_str()).unwrap()),
        tracking_id: TrackingId::derive(&complaint_id(), 0),
        party: national,
        accepted_at: at(6),
        role: Role::Origin,
        readable_parts: vec![PartKind::Content, PartKind::Reporter],
        hops: 0,
        answer_missing: false,
    });
    let last = set(3, vec![decided(&submissions[2], 4, Status::Responded)]);
    let bytes = |record| wire::encode_header(&record).to_vec();
    vec![
        (bytes(first), Vec::new()),
        (bytes(header), classified.event_bytes.to_vec()),
        (bytes(last), Vec::new()),
    ]
}

/// A journal from its root, every input and every hash beside it.
fn chain(direction: Direction, entries: &[(Vec<u8>, Vec<u8>)]) -> Value {
    let mut place = Place::root(&party(), direction, EPOCH);
    let name = party();
    let root = [
        b"jembatan/1 journal\0".as_slice(),
        &len16(name.as_str().as_bytes()),
        &[direction.number()],
        &EPOCH.to_be_bytes(),
    ]
    .concat();
    assert_eq!(place.chain, root_chain(&party(), direction, EPOCH));
    assert_eq!(place.chain, sha(&root));
    let mut steps = vec![json!({
        "position": 0,
        "chain_input_hex": hex::encode(root),
        "chain": place.chain.to_string(),
    })];
    for (header, event) in entries {
        let carried = event_digest(event);
        let (digest, input) = match direction {
            Direction::Submissions => (carried, [b"\x01".as_slice(), event].concat()),
            Direction::Deliveries => {
                let carried = match event.is_empty() {
                    true => [0; 32],
                    false => *carried.as_bytes(),
                };
                let input = [b"\x02".as_slice(), sha(header).as_bytes(), &carried].concat();
                let event = (!event.is_empty()).then_some(event.as_slice());
                (delivery_digest(header, event), input)
            }
        };
        assert_eq!(digest, sha(&input));
        let next = [*place.chain.as_bytes(), *digest.as_bytes()].concat();
        place = place.after(&digest);
        assert_eq!(place.chain, sha(&next));
        let mut step = json!({
            "position": place.position,
            "event_hex": hex::encode(event),
            "digest_input_hex": hex::encode(input),
            "digest": digest.to_string(),
            "chain_input_hex": hex::encode(next),
            "chain": place.chain.to_string(),
        });
        if direction == Direction::Deliveries {
            step["header_hex"] = hex::encode(header).into();
            step["header_sha256"] = sha(header).to_string().into();
        }
        steps.push(step);
    }
    json!({"party": party(), "direction": direction.number(), "epoch": EPOCH, "steps": steps})
}

fn ids(name: &str) -> Value {
    let key = IdempotencyKey::parse(name).unwrap();
    let reference = Reference::parse(name).unwrap();
    let complaint = ComplaintId::derive(&party(), &system(), &reference);
    let input = |label: &str| {
        let fields = [party().as_str(), system().as_str(), name].map(|text| len16(text.as_bytes()));
        [label.as_bytes(), b"\0", &fields.concat()].concat()
    };
    let (event, filed) = (input("jembatan/1 event"), input("jembatan/1 complaint"));
    let tracking = [
        b"jembatan/1 tracking\0",
        complaint.as_bytes().as_slice(),
        &[0],
    ]
    .concat();
    json!({
        "party": party(), "system": system(), "name": name,
        "event_input_hex": hex::encode(&event),
        "event_sha256": sha(&event).to_string(),
        "event_id": EventId::derive(&party(), &system(), &key).to_string(),
        "complaint_input_hex": hex::encode(&filed),
        "complaint_sha256": sha(&filed).to_string(),
        "complaint_id": complaint.to_string(),
        "tracking_input_hex": hex::encode(&tracking),
        "tracking_sha256": sha(&tracking).to_string(),
        "tracking_id": TrackingId::derive(&complaint, 0).as_str(),
    })
}

fn handover(handover: &Handover, fields: &[(&str, String)]) -> Value {
    let mut input = b"jembatan/1 handover\0".to_vec();
    for (name, value) in fields {
        input.extend(len16(name.as_bytes()));
        input.extend((value.len() as u32).to_be_bytes());
        input.extend(value.as_bytes());
    }
    assert_eq!(handover.digest(), sha(&input), "{fields:?}");
    json!({
        "fields": fields,
        "input_hex": hex::encode(input),
        "digest": handover.digest().to_string(),
    })
}

fn part(position: usize, part: &Part) -> Value {
    let PartState::Present(bytes) = &part.state else {
        panic!("a part that was just made is present")
    };
    let (salt, message) = bytes.split_at(16);
    json!({
        "of_submission": position,
        "kind": match part.kind { PartKind::Content => "content", PartKind::Reporter => "reporter" },
        "salt_hex": hex::encode(salt),
        "message_hex": hex::encode(message),
        "bytes_hex": hex::encode(bytes),
        "size_bytes": bytes.len(),
        "sha256": part.sha256.to_string(),
    })
}

/// Scenario: three hand-overs made into events and parts, and what the hub
/// delivers about them; ids of names with blanks and accents.
/// Guarantee: every hash is what it was, and the SHA-256 of the input beside it.
#[test]
fn worked_hashes_stay_as_they_are() {
    let handed = handovers();
    let submissions: Vec<Composed> = (1..)
        .zip(&handed)
        .map(|(second, (handover, _))| compose(&party(), handover, second))
        .collect();
    let entries: Vec<_> = submissions
        .iter()
        .map(|made| (Vec::new(), made.event_bytes.to_vec()))
        .collect();
    let parts: Vec<Value> = (1..)
        .zip(&submissions)
        .flat_map(|(n, made)| made.parts.iter().map(move |found| part(n, found)))
        .collect();
    let digests: Vec<Value> = handed
        .iter()
        .map(|(handed, fields)| handover(handed, fields))
        .collect();
    let names = [NAME, "kunci dengan spasi", "ñ-é"];
    let worked = json!({
        "ids": names.map(ids),
        "handovers": digests,
        "parts": parts,
        "chains": [
            chain(Direction::Submissions, &entries),
            chain(Direction::Deliveries, &deliveries(&submissions)),
        ],
    });
    keep("worked.json", &worked);
}

/// Scenario: a program in another language, with nothing but its own SHA-256.
/// Guarantee: it finds every hash of worked.json, and every chain in every
/// frame of every transcript.
#[test]
fn python_finds_the_same_hashes() {
    let Ok(output) = Command::new("python3").arg(path("verify.py")).output() else {
        return missing("python3");
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "8 places, 3 ids, 3 hand-overs, 3 parts, 13 transcripts";
    assert!(said.contains(expected), "{said}");
}

/// What docs/protocol.md has to print: name and value, line by line.
fn lines(worked: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let first = &worked["ids"][0];
    let mut lines = vec![
        ("event_id".to_owned(), text(&first["event_id"])),
        ("complaint_id".to_owned(), text(&first["complaint_id"])),
        ("tracking id".to_owned(), text(&first["tracking_id"])),
        (
            "hand-over".to_owned(),
            text(&worked["handovers"][0]["digest"]),
        ),
        ("part".to_owned(), text(&worked["parts"][0]["sha256"])),
    ];
    for (name, chain) in ["submissions", "deliveries"].iter().zip(0..) {
        let steps = worked["chains"][chain]["steps"].as_array().unwrap();
        lines.push((format!("{name} 0"), text(&steps[0]["chain"])));
        for step in &steps[1..] {
            let position = &step["position"];
            lines.push((format!("digest {position}"), text(&step["digest"])));
            lines.push((format!("chain {position}"), text(&step["chain"])));
        }
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:<14} {value}\n"))
        .collect()
}

fn block<'a>(text: &'a str, fence: &str) -> &'a str {
    let (_, after) = text.split_once(&format!("```{fence}\n")).unwrap();
    after.split_once("```").unwrap().0
}

/// Scenario: the section "Worked hashes" of docs/protocol.md: its program is
/// run, and what it takes and prints is laid beside worked.json.
/// Guarantee: the same bytes go in, the same values come out and are shown.
#[test]
fn the_document_works_out_the_same() {
    let worked = read("worked.json");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let document = fs::read_to_string(document).unwrap();
    let (_, section) = document.split_once("\n## 15. Worked hashes").unwrap();
    let shown = block(section, "text");
    assert_eq!(shown, lines(&worked));
    let program = block(section, "python");
    let packed: String = program.split_whitespace().collect();
    for chain in worked["chains"].as_array().unwrap() {
        for step in &chain["steps"].as_array().unwrap()[1..] {
            for field in ["event_hex", "header_hex"] {
                let hex = step[field].as_str().unwrap_or_default();
                assert!(packed.contains(hex), "{field} of {}", step["position"]);
            }
        }
    }
    let Ok(output) = Command::new("python3").args(["-c", program]).output() else {
        return missing("python3");
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
}
