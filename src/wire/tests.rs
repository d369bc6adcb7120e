//! Conversions there and back; what can't be read says which field.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::{
    compose, decode_content, decode_event, decode_header, encode_event, encode_header,
    frame_from_proto, frame_to_proto, handover_from_proto, handover_to_proto, v1,
};
use crate::{
    domain::*,
    exchange::{Acknowledgement, CopyRequest, Direction, Entries, Entry, Frame, Place},
};

fn party() -> PartyId {
    PartyId::parse("pemda-33.74").unwrap()
}

fn system() -> SystemName {
    SystemName::parse("lapor-semar").unwrap()
}

fn institution() -> InstitutionCode {
    InstitutionCode::parse("kl-pu").unwrap()
}

fn attachment() -> impl Strategy<Value = Attachment> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(sha256, size_bytes)| Attachment {
        sha256: Digest(sha256),
        size_bytes,
        media_type: "image/jpeg".to_owned(),
    })
}

fn attachments() -> impl Strategy<Value = Vec<Attachment>> {
    prop::collection::vec(attachment(), 0..3)
}

fn time() -> impl Strategy<Value = Micros> {
    (-62_135_596_800_000_000..=253_402_300_799_999_999_i64).prop_map(Micros)
}

/// Every kind but filed (a door takes that as a complaint) and unknown.
fn body() -> impl Strategy<Value = EventBody> {
    prop_oneof![
        Just(EventBody::Verified),
        (any::<Option<bool>>(), prop::option::of("[a-z]{1,9}")).prop_map(|(oversight, kind)| {
            EventBody::Classified {
                kind,
                category: None,
                region: None,
                oversight,
            }
        }),
        (any::<bool>(), "[A-Z ]{0,9}").prop_map(|(to, unit)| EventBody::Forwarded {
            institution: to.then(institution),
            unit,
        }),
        Just(EventBody::Copied {
            institutions: vec![institution()]
        }),
        any::<bool>().prop_map(|to| EventBody::Declined {
            suggested_institution: to.then(institution)
        }),
        "[A-Z]{0,9}".prop_map(|unit| EventBody::HandlingStarted { unit }),
        attachments().prop_map(|attachments| EventBody::ProgressReported { attachments }),
        Just(EventBody::InformationRequested),
        attachments().prop_map(|attachments| EventBody::ReporterReplied { attachments }),
        attachments().prop_map(|attachments| EventBody::Responded { attachments }),
        prop::option::of(time()).prop_map(|until| EventBody::Postponed { until }),
        Just(EventBody::Closed),
        Just(EventBody::Reopened),
        (0..8_usize).prop_map(|place| EventBody::Archived {
            reason: ArchiveReason::ALL[place]
        }),
        Just(EventBody::Withdrawn),
        any::<[u8; 16]>().prop_map(|id| EventBody::Merged {
            into: ComplaintId::from_bytes(id)
        }),
        any::<u8>().prop_map(|stars| EventBody::Rated { stars }),
        any::<bool>().prop_map(|consent| EventBody::Escalated { consent }),
        (any::<Option<bool>>(), any::<Option<bool>>()).prop_map(|(anonymous, confidential)| {
            EventBody::VisibilityChanged {
                anonymous,
                confidential,
            }
        }),
        attachment().prop_map(|attachment| EventBody::AttachmentAdded { attachment }),
        (any::<[u8; 16]>(), any::<[u8; 32]>()).prop_map(|(id, sha256)| EventBody::PartErased {
            event_id: EventId::from_bytes(id),
            sha256: Digest(sha256),
        }),
        (any::<bool>(), any::<bool>())
            .prop_map(|(declined, ignored)| EventBody::StatusMirrored { declined, ignored }),
    ]
}

fn filed() -> impl Strategy<Value = EventBody> {
    (time(), any::<bool>(), any::<bool>(), attachments()).prop_map(
        |(filed_at, anonymous, confidential, attachments)| EventBody::Filed {
            kind: "complaint".to_owned(),
            category: CategoryCode::parse("road-damage").ok(),
            region: RegionCode::parse("33.74").ok(),
            occurred_on: "2026-11-24".to_owned(),
            filed_at,
            channel: "web".to_owned(),
            anonymous,
            confidential,
            handling: Handling::Addressed,
            addressed_to: Some(institution()),
            attachments,
            foreign_references: vec![ForeignReference {
                system: "lapor".to_owned(),
                reference: "1234".to_owned(),
            }],
        },
    )
}

fn event(body: EventBody, at: Micros, expected_revision: Option<u32>) -> Event {
    let key = IdempotencyKey::parse("kunci 1").unwrap();
    let reference = Reference::parse("A-1").unwrap();
    Event {
        event_id: EventId::derive(&party(), &system(), &key),
        complaint_id: ComplaintId::derive(&party(), &system(), &reference),
        party: party(),
        system: system(),
        key,
        reference: Some(reference),
        occurred_at: at,
        recorded_at: at,
        time_zone: "Asia/Jakarta".to_owned(),
        expected_revision,
        acting_institution: Some(institution()),
        audience: Audience::Institutions,
        parts: vec![PartReference {
            kind: PartKind::Content,
            sha256: Digest([3; 32]),
            size_bytes: 77,
        }],
        local_status: Some(LocalStatus {
            code: "7".to_owned(),
            name: "Diproses".to_owned(),
            mapped: Some(Status::InProgress),
        }),
        body,
    }
}

proptest! {
    /// Scenario: events of every kind.
    /// Guarantee: their bytes mean the same event again.
    #[test]
    fn events_come_back(body in prop_oneof![body(), filed()], at in time(), expected in any::<Option<u32>>()) {
        let event = event(body, at, expected);
        prop_assert_eq!(decode_event(&encode_event(&event)), Ok(event));
    }

    /// Scenario: what a local system hands over, of every kind, as a client
    /// sends it.
    /// Guarantee: the door reads the same; a key of another system is refused.
    #[test]
    fn hand_overs_come_back(body in body(), text in "\\PC{0,40}", expected in any::<Option<u32>>()) {
        let mut new = NewEvent::new(ComplaintName::Reference(Reference::parse("A-1").unwrap()), body);
        new.text = text;
        new.expected_revision = expected;
        let handover = Handover {
            system: system(),
            key: IdempotencyKey::parse("k").ok(),
            item: Item::Event(Box::new(new)),
        };
        let message = handover_to_proto(&handover);
        prop_assert_eq!(handover_from_proto(message.clone(), Some(&system())), Ok(handover));
        let other = SystemName::parse("other").unwrap();
        prop_assert!(handover_from_proto(message, Some(&other)).is_err());
    }

    /// Scenario: any bytes.
    /// Guarantee: reading never panics.
    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = decode_event(&bytes);
        let _ = decode_header(&bytes);
        let _ = decode_content(&bytes);
        if let Ok(frame) = v1::Frame::decode(bytes) {
            let _ = frame_from_proto(frame);
        }
    }
}

/// Scenario: an event of a kind that a later version has.
/// Guarantee: it is read as unknown, its bytes stay as they are.
#[test]
fn a_later_kind_is_unknown_and_no_error() {
    let mut bytes = encode_event(&event(EventBody::Unknown, Micros(0), None)).to_vec();
    // Field 90, length-delimited, empty: a body that v1 does not have.
    bytes.extend_from_slice(&[0xd2, 0x05, 0x00]);
    let found = decode_event(&Bytes::from(bytes)).unwrap();
    assert_eq!(found.body, EventBody::Unknown);
}

/// Scenario: events that break a limit.
/// Guarantee: unreadable, with the field in the answer.
#[test]
fn what_is_wrong_names_its_field() {
    let good = super::event_to_proto(&event(EventBody::Verified, Micros(0), None));
    type Break = fn(&mut v1::Event);
    let cases: [(&str, Break); 8] = [
        ("party", |e| e.party = "Upper Case".to_owned()),
        ("event_id", |e| e.event_id = Bytes::from_static(b"short")),
        ("occurred_at", |e| e.occurred_at = None),
        ("audience", |e| e.audience = 99),
        ("parts.sha256", |e| e.parts[0].sha256 = Bytes::new()),
        ("parts.size_bytes", |e| {
            e.parts[0].size_bytes = PART_BYTES as u32 + 1;
        }),
        ("parts", |e| {
            e.parts = vec![e.parts[0].clone(); PARTS_PER_EVENT + 1];
        }),
        ("key", |e| e.key = "x".repeat(129)),
    ];
    for (field, spoil) in cases {
        let mut spoiled = good.clone();
        spoil(&mut spoiled);
        let error = decode_event(&Bytes::from(spoiled.encode_to_vec())).unwrap_err();
        assert_eq!(error.fields, [field], "{}", error.why);
    }
    let large = Bytes::from(vec![0; EVENT_BYTES + 1]);
    assert!(decode_event(&large).unwrap_err().why.contains("at most"));
}

/// Scenario: frames and headers with every field set.
/// Guarantee: they come back; a frame without entries, or of no journal, is
/// refused and says so.
#[test]
fn frames_and_headers_come_back() {
    let place = Place {
        position: 7,
        chain: Digest([9; 32]),
    };
    let entry = Entry {
        header: Bytes::from_static(b"h"),
        event: Bytes::from_static(b"e"),
        parts: vec![
            Part {
                kind: PartKind::Content,
                sha256: Digest([1; 32]),
                state: PartState::Present(Bytes::from_static(b"0123456789abcdefX")),
            },
            Part {
                kind: PartKind::Reporter,
                sha256: Digest([2; 32]),
                state: PartState::Erased(EventId::from_bytes([5; 16])),
            },
        ],
        handover_digest: Some(Digest([4; 32])),
    };
    let entries = Entries {
        direction: Direction::Submissions,
        epoch: 3,
        first_position: 8,
        previous_chain: place.chain,
        entries: vec![entry],
        copy: true,
    };
    for frame in [
        Frame::Entries(entries.clone()),
        Frame::Acknowledgement(Acknowledgement {
            direction: Direction::Deliveries,
            epoch: 3,
            place,
        }),
        Frame::CopyRequest(CopyRequest {
            epoch: 3,
            first_position: 1,
            last_position: 9,
        }),
    ] {
        assert_eq!(frame_from_proto(frame_to_proto(frame.clone())), Ok(frame));
    }
    let empty = Frame::Entries(Entries {
        entries: Vec::new(),
        ..entries
    });
    let error = frame_from_proto(frame_to_proto(empty)).unwrap_err();
    assert_eq!(error.field, "entries.entries");

    let complaint = ComplaintId::from_bytes([8; 16]);
    let header = DeliveryRecord::Event(EventHeader {
        event_id: EventId::from_bytes([7; 16]),
        complaint_id: complaint,
        revision: 4,
        status: Status::Responded,
        handler: None,
        tracking_id: TrackingId::derive(&complaint, 0),
        party: party(),
        accepted_at: Micros(1_790_000_000_000_001),
        role: Role::Copy,
        readable_parts: vec![PartKind::Content],
        hops: 2,
        answer_missing: true,
    });
    assert_eq!(decode_header(&encode_header(&header)), Ok(header));
    let conflict = Rejection::conflict(Digest([1; 32]), Digest([2; 32]));
    let decisions = DeliveryRecord::Decisions(DecisionSet {
        epoch: 3,
        first_position: 12,
        decisions: vec![Decision {
            outcome: Outcome::Rejected,
            event_id: None,
            complaint_id: None,
            revision: 0,
            status: None,
            handler: None,
            tracking_id: None,
            duplicate_of: 0,
            rejection: Some(conflict),
            answer_missing: false,
        }],
    });
    assert_eq!(decode_header(&encode_header(&decisions)), Ok(decisions));
}

/// Scenario: a set of three decisions, of which a newer hub rejects one for a
/// reason, and decides one with an outcome, that this version does not have.
/// Guarantee: all three can be read: the first as ever, the second as rejected
/// for a reason whose number is kept and passed on, the third as parked, so
/// that nobody sends it again; each says so in two languages.
#[test]
fn what_a_newer_hub_decides_costs_no_neighbour() {
    let decision = |outcome: i32, reason: Option<i32>| v1::Decision {
        outcome,
        event_id: Bytes::from_static(&[1; 16]),
        rejection: reason.map(|reason| v1::Rejection {
            reason,
            ..v1::Rejection::default()
        }),
        ..v1::Decision::default()
    };
    let (accepted, rejected) = (v1::Outcome::Accepted as i32, v1::Outcome::Rejected as i32);
    let set = v1::Decisions {
        epoch: 1,
        first_position: 1,
        decisions: vec![
            decision(accepted, None),
            decision(rejected, Some(4_711)),
            decision(77, None),
        ],
    };
    let header = v1::DeliveryHeader {
        record: Some(v1::delivery_header::Record::Decisions(set)),
    };
    let read = decode_header(&Bytes::from(header.encode_to_vec())).unwrap();
    let DeliveryRecord::Decisions(set) = &read else {
        panic!("{read:?}");
    };
    let outcomes: Vec<Outcome> = set.decisions.iter().map(|found| found.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Accepted, Outcome::Rejected, Outcome::Parked]
    );
    let rejection = set.decisions[1].rejection.as_ref().unwrap();
    assert_eq!(rejection.reason, RejectionReason::Unknown(4_711));
    for (found, number) in set.decisions[1..].iter().zip(["4711", "77"]) {
        let told = found.rejection.as_ref().unwrap();
        assert!(told.text_en.contains(number), "{}", told.text_en);
        assert!(told.text_id.contains(number), "{}", told.text_id);
    }
    let passed_on = super::decision_to_proto(&set.decisions[1]);
    assert_eq!(passed_on.rejection.unwrap().reason, 4_711);
}

/// Scenario: an entry with a part of the greatest size and one a byte larger.
/// Guarantee: the first travels, the second is left out, the entry stays.
#[test]
fn a_part_beyond_its_limit_is_left_out() {
    let part = |bytes: usize| v1::Part {
        kind: v1::PartKind::Content as i32,
        sha256: Bytes::from_static(&[1; 32]),
        state: Some(v1::part::State::Content(Bytes::from(vec![0; bytes]))),
    };
    let frame = v1::Frame {
        kind: Some(v1::frame::Kind::Entries(v1::Entries {
            journal: v1::Journal::Submissions as i32,
            epoch: 1,
            first_position: 1,
            previous_chain: Bytes::from_static(&[2; 32]),
            entries: vec![v1::Entry {
                parts: vec![part(PART_BYTES), part(PART_BYTES + 1)],
                ..v1::Entry::default()
            }],
            copy: false,
        })),
    };
    let Ok(Frame::Entries(entries)) = frame_from_proto(frame) else {
        panic!("a frame is never refused for a part")
    };
    let parts = &entries.entries[0].parts;
    assert_eq!(parts.len(), 1);
    assert!(matches!(&parts[0].state, PartState::Present(bytes) if bytes.len() == PART_BYTES));
}

/// Scenario: limits of a hub whose policy is 77 events, and of one that tells
/// none.
/// Guarantee: told as they are; what is not told is the default of v1.
#[test]
fn limits_are_told_as_they_are() {
    let own = Limits {
        events_per_complaint: 77,
        window_entries: 8,
        ..Limits::default()
    };
    let told = super::limits_to_proto(&own);
    assert_eq!(told.events_per_complaint, 77);
    assert_eq!(super::frame::limits_from(told), own);
    let silent = super::frame::limits_from(v1::Limits::default());
    assert_eq!(silent, Limits::default());
}

/// Scenario: a filing with personal data is composed twice.
/// Guarantee: the event holds no text of it, only digests; salts differ, so
/// the parts' digests do; the hand-over digest is the same.
#[test]
fn personal_data_stays_out_of_events() {
    let mut new = NewComplaint::new(Reference::parse("A-1").unwrap());
    new.title = "Judul rahasia".to_owned();
    new.body = "Isi rahasia".to_owned();
    new.reporter.name = "Pelapor Uji 900".to_owned();
    new.reporter.nik = "3374000000000900".to_owned();
    let handover = Handover {
        system: system(),
        key: None,
        item: Item::Complaint(Box::new(new)),
    };
    let composing = super::Composing {
        party: &party(),
        now: Micros(1),
        time_zone: "Asia/Jakarta",
        complaint_id: None,
    };
    let mut count = 0;
    let mut salt = || {
        count += 1;
        [count; 16]
    };
    let first = compose(handover.clone(), composing, &mut salt).unwrap();
    let second = compose(handover.clone(), composing, &mut salt).unwrap();
    let text = String::from_utf8_lossy(&first.event_bytes).into_owned();
    for secret in ["rahasia", "Pelapor", "3374000000000900"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(first.parts.len(), 2);
    assert_ne!(first.parts[0].sha256, second.parts[0].sha256);
    assert_eq!(first.event.event_id, second.event.event_id);
}
