//! Everything that reads bytes or texts of others, each behind the same door: a
//! function that must never panic, whatever it is given. The bounded run of the
//! ordinary tests and the fuzz targets in `fuzz/` share this list.

use std::path::Path;

use bytes::Bytes;
use jembatan::{
    config::{AdapterConfig, DirectoryFile, HubConfig, parse, parse_status_maps},
    domain::{
        ComplaintId, IdempotencyKey, InstitutionCode, PartyId, Policy, Reference, RegionCode,
        SystemName, TrackingId,
    },
    door::Cursor,
    wire::{self, v1},
};
use prost::Message as _;

pub(crate) type Decoder = fn(&[u8]);

/// By the name of the fuzz target.
pub(crate) const ALL: [(&str, Decoder); 12] = [
    ("event", event),
    ("header", header),
    ("frame", frame),
    ("parts", parts),
    ("handover", handover),
    ("handover_json", handover_json),
    ("cursor", cursor),
    ("hub_config", hub_config),
    ("adapter_config", adapter_config),
    ("directory_file", directory_file),
    ("status_map", status_map),
    ("names", names),
];

/// An event: what can be read is written and read as the same.
pub(crate) fn event(bytes: &[u8]) {
    if let Ok(event) = wire::decode_event(&Bytes::copy_from_slice(bytes)) {
        let again = wire::decode_event(&wire::encode_event(&event));
        assert_eq!(again, Ok(event));
    }
}

/// A delivery's header, likewise.
pub(crate) fn header(bytes: &[u8]) {
    if let Ok(record) = wire::decode_header(&Bytes::copy_from_slice(bytes)) {
        let again = wire::decode_header(&wire::encode_header(&record));
        assert_eq!(again, Ok(record));
    }
}

/// A frame, likewise.
pub(crate) fn frame(bytes: &[u8]) {
    let Ok(message) = v1::Frame::decode(bytes) else {
        return;
    };
    if let Ok(frame) = wire::frame_from_proto(message) {
        let again = wire::frame_from_proto(wire::frame_to_proto(frame.clone()));
        assert_eq!(again, Ok(frame));
    }
}

/// Parts: salt and message.
pub(crate) fn parts(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = wire::decode_content(&bytes);
    let _ = wire::decode_reporter(&bytes);
}

fn hand_over(message: v1::Handover) {
    if let Ok(handover) = wire::handover_from_proto(message, None) {
        let _ = handover.validate(&Policy::default());
        let digest = handover.digest();
        let again = wire::handover_from_proto(wire::handover_to_proto(&handover), None);
        assert_eq!(again.map(|found| found.digest()), Ok(digest));
    }
}

/// A hand-over in protobuf, through all its checks.
pub(crate) fn handover(bytes: &[u8]) {
    if let Ok(message) = v1::Handover::decode(bytes) {
        hand_over(message);
    }
}

/// The bodies of the HTTP door.
pub(crate) fn handover_json(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<v1::Handover>(bytes) {
        hand_over(message);
    }
    if let Ok(new) = serde_json::from_slice::<v1::NewComplaint>(bytes) {
        hand_over(v1::Handover {
            item: Some(v1::handover::Item::Complaint(new)),
            ..v1::Handover::default()
        });
    }
    if let Ok(new) = serde_json::from_slice::<v1::NewEvent>(bytes) {
        hand_over(v1::Handover {
            item: Some(v1::handover::Item::Event(new)),
            ..v1::Handover::default()
        });
    }
    let _ = serde_json::from_slice::<v1::AcknowledgeInboxRequest>(bytes);
}

/// Cursors that callers bring back.
pub(crate) fn cursor(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(cursor) = Cursor::parse("after", &text) {
        assert_eq!(Cursor::parse("after", &cursor.to_string()), Ok(cursor));
        assert!(cursor.first_unread() > cursor.whole_deliveries());
    }
}

/// The hub's settings.
pub(crate) fn hub_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse::<HubConfig>(Path::new("/hub.toml"), &text).map_err(|error| error.to_string());
}

/// An adapter's settings.
pub(crate) fn adapter_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse::<AdapterConfig>(Path::new("/adapter.toml"), &text)
        .map_err(|error| error.to_string());
}

/// A directory file.
pub(crate) fn directory_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse::<DirectoryFile>(Path::new("/directory.toml"), &text)
        .map_err(|error| error.to_string());
}

/// A mapping table of local statuses.
pub(crate) fn status_map(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse_status_maps(Path::new("/map.csv"), &text).map_err(|error| error.to_string());
}

/// Tracking IDs and every other name that somebody types.
pub(crate) fn names(bytes: &[u8]) {
    let text = &String::from_utf8_lossy(bytes);
    if let Ok(id) = TrackingId::parse(text) {
        assert_eq!(TrackingId::parse(id.as_str()), Ok(id));
    }
    let _ = ComplaintId::from_text(text);
    let _ = Reference::parse(text);
    let _ = IdempotencyKey::parse(text);
    let _ = PartyId::parse(text);
    let _ = SystemName::parse(text);
    let _ = InstitutionCode::parse(text);
    let _ = RegionCode::parse(text);
}
