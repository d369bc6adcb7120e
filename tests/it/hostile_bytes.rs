//! Whatever bytes come: no decoder panics. A bounded run on stable beside the
//! fuzz targets in `fuzz/`, which take longer to build.

use std::path::Path;

use jembatan::{
    config::ProxyAddress,
    domain::InvitationLine,
    identity::{PeerIdentity, SigningRequest, TrustDomain, lists_in},
    store::{LetterName, LetterPlace},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::decoders;

/// `JEMBATAN_TEST_FUZZ=1000000` for a long night.
fn cases() -> u32 {
    let asked = std::env::var("JEMBATAN_TEST_FUZZ").ok();
    asked.map_or(300, |text| text.parse().unwrap())
}

/// What to begin with: the golden bytes and JSON of every message, the shipped
/// settings, names, and what other programs make: certificates, requests,
/// revocation lists, answers of a proxy.
fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read(root.join(path)).unwrap();
    let mut seeds = vec![
        read("deploy/hub.toml"),
        read("deploy/adapter.toml"),
        read("deploy/directory.toml"),
        read("examples/legacy-status-map.csv"),
        b"7Q2KX-9M4TR-3AB".to_vec(),
        b"0189f0c2-7b1e-8c3a-9d54-2f6f3a1b2c3d".to_vec(),
        b"18446744073709551615-18446744073709551615.4294967295".to_vec(),
        b"1-7.3".to_vec(),
    ];
    for entry in std::fs::read_dir(root.join("tests/vectors/foreign")).unwrap() {
        seeds.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    for file in ["messages.json", "events.json"] {
        let goldens: Value =
            serde_json::from_slice(&read(&format!("tests/vectors/{file}"))).unwrap();
        for golden in goldens.as_array().unwrap() {
            seeds.push(hex::decode(golden["hex"].as_str().unwrap()).unwrap());
            seeds.push(golden["json"].to_string().into_bytes());
        }
    }
    seeds
}

/// One change: a byte, a stretch that is cut, doubled, or made of something else.
fn change(bytes: &mut Vec<u8>, (kind, place, value): (u8, prop::sample::Index, u8)) {
    if bytes.is_empty() {
        bytes.push(value);
        return;
    }
    let at = place.index(bytes.len());
    let end = (at + 1 + usize::from(value % 16)).min(bytes.len());
    match kind % 6 {
        0 => bytes[at] = value,
        1 => bytes.truncate(at),
        2 => bytes.insert(at, value),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let stretch = bytes[at..end].to_vec();
            bytes.splice(at..at, stretch);
        }
        _ => bytes[at] ^= 1 << (value % 8),
    }
}

/// Scenario: random bytes, and the golden bytes of every message, the shipped
/// settings and names with one to eight random changes, go into every decoder.
/// Guarantee: none panics; what one can read it writes and reads as the same.
#[test]
fn no_decoder_panics() {
    let seeds = seeds();
    for seed in &seeds {
        decoders::ALL.iter().for_each(|(_, decode)| decode(seed));
    }
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let garbage = prop::collection::vec(any::<u8>(), 0..2_000);
    let changes = prop::collection::vec(any::<(u8, prop::sample::Index, u8)>(), 1..9);
    let input = prop_oneof![
        1 => garbage,
        9 => (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes)| {
            changes.into_iter().for_each(|one| change(&mut bytes, one));
            bytes
        }),
    ];
    let many = prop::collection::vec(input, 20);
    TestRunner::new(config)
        .run(&many, |inputs| {
            for bytes in inputs {
                decoders::ALL.iter().for_each(|(_, decode)| decode(&bytes));
            }
            Ok(())
        })
        .unwrap();
}

/// Scenario: the fuzz targets that are there, beside the list of decoders.
/// Guarantee: each decoder has a target of its name.
#[test]
fn every_decoder_has_a_fuzz_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in decoders::ALL {
        let target = std::fs::read_to_string(fuzz.join(format!("targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("decoders::{name}(")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// Scenario: the valid inputs that changes begin with.
/// Guarantee: each is read by its decoder's reader to the end, so that changes go
/// deeper than its first check.
#[test]
fn seeds_of_foreign_bytes_are_valid() {
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/foreign");
    let bytes = |name: &str| std::fs::read(foreign.join(name)).unwrap();
    let text = |name: &str| String::from_utf8(bytes(name)).unwrap();
    InvitationLine::parse(&text("invitation.txt")).unwrap();
    SigningRequest::read(&bytes("signing-request.der")).unwrap();
    let certificate = CertificateDer::from(bytes("certificate.der"));
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let peer = PeerIdentity::of(&certificate, &domain).unwrap();
    assert_eq!(peer.names.len(), 3, "{peer:?}");
    let found = lists_in(Path::new("/crl.pem"), &text("revoked.crl.pem"));
    assert_eq!(found, Ok(1));
    ProxyAddress::try_from(text("proxy-address.txt")).unwrap();
    LetterName::parse(&text("letter-name.txt")).unwrap();
    LetterPlace::parse(&text("letter-place.txt")).unwrap();
}
