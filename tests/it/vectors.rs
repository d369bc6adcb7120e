//! Test vectors for other languages, replayed by our own code. With
//! `JEMBATAN_WRITE_VECTORS=1` they are written instead.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use jembatan::{
    domain::{ComplaintId, EventId, IdempotencyKey, Micros, PartyId, Reference, SystemName},
    wire::{self, v1},
};
use prost::Message;
use serde_json::{Value, json};

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

/// Compares with the file, or writes it.
pub(crate) fn keep(name: &str, value: &Value) {
    let text = format!("{value:#}\n");
    if std::env::var("JEMBATAN_WRITE_VECTORS").is_ok() {
        fs::write(path(name), text).unwrap();
        return;
    }
    let kept = fs::read_to_string(path(name)).unwrap();
    assert!(
        kept == text,
        "{name} differs: look at what changed before writing it anew"
    );
}

/// What a file of vectors holds; a file that is not there yet holds nothing.
pub(crate) fn read(name: &str) -> Value {
    match fs::read_to_string(path(name)) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(_) => json!([]),
    }
}

pub(crate) fn party() -> PartyId {
    PartyId::parse("pemda-33.74").unwrap()
}

pub(crate) fn system() -> SystemName {
    SystemName::parse("lapor-semar").unwrap()
}

fn time() -> Option<wire::Timestamp> {
    Some(wire::timestamp(Micros(1_790_000_000_123_456)))
}

fn attachments() -> Vec<v1::Attachment> {
    vec![v1::Attachment {
        sha256: Bytes::from_static(&[0xaa; 32]),
        size_bytes: 1_234,
        media_type: "image/jpeg".to_owned(),
    }]
}

/// One body of each kind.
fn bodies() -> Vec<v1::event::Body> {
    use v1::event::Body;
    vec![
        Body::Filed(v1::Filed {
            kind: "complaint".to_owned(),
            category: "road-damage".to_owned(),
            region: "33.74".to_owned(),
            occurred_on: "2026-11-24".to_owned(),
            filed_at: time(),
            channel: "web".to_owned(),
            anonymous: true,
            confidential: false,
            handling: v1::Handling::Route as i32,
            addressed_to: String::new(),
            attachments: attachments(),
            foreign_references: vec![v1::ForeignReference {
                system: "lapor".to_owned(),
                reference: "1234".to_owned(),
            }],
        }),
        Body::Verified(v1::Verified {}),
        Body::Classified(v1::Classified {
            kind: Some("aspiration".to_owned()),
            category: None,
            region: None,
            oversight: Some(true),
        }),
        Body::Forwarded(v1::Forwarded {
            institution: "kl-pu".to_owned(),
            unit: "DPU".to_owned(),
        }),
        Body::Copied(v1::Copied {
            institutions: vec!["kl-pu".to_owned()],
        }),
        Body::Declined(v1::Declined {
            suggested_institution: "pemda-33".to_owned(),
        }),
        Body::HandlingStarted(v1::HandlingStarted {
            unit: "DPU".to_owned(),
        }),
        Body::ProgressReported(v1::ProgressReported {
            attachments: attachments(),
        }),
        Body::InformationRequested(v1::InformationRequested {}),
        Body::ReporterReplied(v1::ReporterReplied {
            attachments: attachments(),
        }),
        Body::Responded(v1::Responded {
            attachments: attachments(),
        }),
        Body::Postponed(v1::Postponed { until: time() }),
        Body::Closed(v1::Closed {}),
        Body::Reopened(v1::Reopened {}),
        Body::Archived(v1::Archived {
            reason: v1::ArchiveReason::Duplicate as i32,
        }),
        Body::Withdrawn(v1::Withdrawn {}),
        Body::Merged(v1::Merged {
            into_complaint_id: Bytes::from_static(&[0xbb; 16]),
        }),
        Body::Rated(v1::Rated { stars: 5 }),
        Body::Escalated(v1::Escalated { consent: true }),
        Body::VisibilityChanged(v1::VisibilityChanged {
            anonymous: Some(false),
            confidential: Some(true),
        }),
        Body::AttachmentAdded(v1::AttachmentAdded {
            attachment: attachments().pop(),
        }),
        Body::PartErased(v1::PartErased {
            event_id: Bytes::from_static(&[0xcc; 16]),
            sha256: Bytes::from_static(&[0xdd; 32]),
        }),
        Body::StatusMirrored(v1::StatusMirrored {
            declined: true,
            ignored: false,
        }),
    ]
}

fn event(body: v1::event::Body) -> v1::Event {
    let key = IdempotencyKey::parse("LS-1").unwrap();
    let reference = Reference::parse("LS-1").unwrap();
    let event_id = EventId::derive(&party(), &system(), &key);
    let complaint_id = ComplaintId::derive(&party(), &system(), &reference);
    v1::Event {
        party: party().as_str().to_owned(),
        system: system().as_str().to_owned(),
        key: "LS-1".to_owned(),
        reference: "LS-1".to_owned(),
        event_id: Bytes::copy_from_slice(event_id.as_bytes()),
        complaint_id: Bytes::copy_from_slice(complaint_id.as_bytes()),
        occurred_at: time(),
        recorded_at: time(),
        time_zone: "Asia/Jakarta".to_owned(),
        expected_revision: Some(3),
        acting_institution: "pemda-33.74".to_owned(),
        audience: v1::Audience::Public as i32,
        parts: vec![v1::PartReference {
            kind: v1::PartKind::Content as i32,
            sha256: Bytes::from_static(&[0x11; 32]),
            size_bytes: 99,
        }],
        local_status: Some(v1::LocalStatus {
            code: "7".to_owned(),
            name: "Diproses".to_owned(),
            mapped: v1::Status::InProgress as i32,
        }),
        body: Some(body),
    }
}

fn golden<M: Message + serde::Serialize>(name: &str, message: &M) -> Value {
    json!({
        "message": name,
        "hex": hex::encode(message.encode_to_vec()),
        "json": serde_json::to_value(message).unwrap(),
    })
}

/// Scenario: an event of each kind, as bytes and as canonical JSON.
/// Guarantee: neither ever changes; the bytes are read back as what they were.
#[test]
fn golden_events_stay_as_they_are() {
    let mut all = Vec::new();
    for body in bodies() {
        let message = event(body);
        let bytes = Bytes::from(message.encode_to_vec());
        let read = wire::decode_event(&bytes).unwrap();
        assert_eq!(wire::encode_event(&read), bytes, "bytes are canonical");
        let json = serde_json::to_string(&message).unwrap();
        let back: v1::Event = serde_json::from_str(&json).unwrap();
        assert_eq!(back, message);
        all.push(golden("jembatan.v1.Event", &message));
    }
    keep("events.json", &Value::Array(all));
}
