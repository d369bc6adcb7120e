//! Everything that reads bytes or texts of others, each behind the same door: a
//! function that must never panic, whatever it is given. The bounded run of the
//! ordinary tests and the fuzz targets in `fuzz/` share this list.

use std::{path::Path, sync::OnceLock};

use base64::Engine as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use jembatan::{
    config::{AdapterConfig, DirectoryFile, HubConfig, ProxyAddress, parse, parse_status_maps},
    domain::{
        ComplaintId, IdempotencyKey, InstitutionCode, InvitationCode, InvitationLine, Micros,
        PartyId, Policy, Reference, RegionCode, SystemName, TrackingId,
    },
    door::Cursor,
    identity::{
        Authority, Lifetime, PeerIdentity, SigningRequest, Subject, TrustDomain, hub_domain,
        lists_in,
    },
    store::{LetterName, LetterPlace},
    transport::Proxy,
    wire::{self, v1},
};
use prost::Message as _;
use rustls_pki_types::CertificateDer;

pub(crate) type Decoder = fn(&[u8]);

/// By the name of the fuzz target.
pub(crate) const ALL: [(&str, Decoder); 18] = [
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
    ("invitation", invitation),
    ("signing_request", signing_request),
    ("certificate", certificate),
    ("revocations", revocations),
    ("proxy", proxy),
    ("letters", letters),
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

/// An invitation as it is pasted, and the same with a check field that fits, so
/// that a change does not end there.
pub(crate) fn invitation(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let _ = InvitationLine::parse(&text).map_err(|error| error.to_string());
    if let Some((before, _)) = text.rsplit_once('/') {
        let sealed = InvitationLine::sealed(before);
        if let Ok(line) = InvitationLine::parse(&sealed) {
            assert_eq!(InvitationCode::parse(&line.code.reveal()), Ok(line.code));
        }
    }
    if let Ok(code) = InvitationCode::parse(&text) {
        assert_eq!(InvitationCode::parse(&code.reveal()), Ok(code));
    }
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

fn authority() -> &'static Authority {
    static MADE: OnceLock<Authority> = OnceLock::new();
    MADE.get_or_init(|| {
        let name = format!("jembatan-decoders-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let made = Authority::init(&directory, &trust_domain(), Micros(0), true).unwrap();
        // What signs is in memory.
        std::fs::remove_dir_all(&directory).unwrap();
        made
    })
}

/// A request for a certificate: as `Join` and `Renew` take it (DER), and as an
/// operator's `pki sign` (PEM).
pub(crate) fn signing_request(bytes: &[u8]) {
    if let Ok(request) = SigningRequest::read(bytes) {
        let _ = request.key_digest();
    }
    let text = String::from_utf8_lossy(bytes);
    let subject = Subject::Party(PartyId::parse("pemda-33.74").unwrap());
    for pem in [text.into_owned(), pem("CERTIFICATE REQUEST", bytes)] {
        let _ = authority().sign(&pem, &subject, Lifetime::seconds(Micros(0), 60));
    }
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// A peer's certificate and the names in it.
pub(crate) fn certificate(bytes: &[u8]) {
    let certificate = CertificateDer::from(bytes);
    let _ = PeerIdentity::of(&certificate, &trust_domain());
    let _ = hub_domain(&certificate);
}

/// A file of revocation lists, and one whose list this is.
pub(crate) fn revocations(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = lists_in(Path::new("/crl.pem"), &text);
    let _ = lists_in(Path::new("/crl.pem"), &pem("X509 CRL", bytes));
}

/// What a proxy answers, and how one is written into the settings.
pub(crate) fn proxy(bytes: &[u8]) {
    for credentials in [None, Some(("dinas".to_owned(), "rahasia".to_owned()))] {
        let proxy = Proxy {
            address: "proxy.example:3128".to_owned(),
            credentials,
        };
        let heard = proxy.hear(bytes, "hub.example:8443").now_or_never();
        assert!(heard.is_some(), "all of it was there");
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(address) = ProxyAddress::try_from(text) {
        let _ = address.to_string();
    }
}

/// How letters and places in their list are named.
pub(crate) fn letters(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = LetterName::parse(&text);
    if let Some(place) = LetterPlace::parse(&text) {
        assert_eq!(LetterPlace::parse(&place.to_string()), Some(place));
    }
}
