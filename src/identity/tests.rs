//! Files, names and the small CA.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Micros, PartyId},
    runtime::{Clock as _, SystemClock},
};

use super::{
    Authority, DoorFiles, DoorMaterial, Files, IdentityError, Lifetime, Material, PeerIdentity,
    PeerRole, Purpose, ReloadState, Subject, TrustDomain, can_install, finish_install, install,
    request, show, watch_files, write_new,
};

fn now() -> Micros {
    Micros(SystemClock.now_micros())
}

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

fn party(id: &str) -> PartyId {
    PartyId::parse(id).unwrap()
}

struct Lab {
    directory: tempfile::TempDir,
    authority: Authority,
}

fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::init(&directory.path().join("ca"), &domain(), now(), false).unwrap();
    Lab {
        directory,
        authority,
    }
}

impl Lab {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, id: &str) -> Files {
        self.issue_to(id, &Subject::Party(party(id)))
    }

    /// Under this name.
    fn issue_to(&self, name: &str, subject: &Subject) -> Files {
        let lifetime = Lifetime::days(now(), 30);
        let issued = self.authority.issue(subject, lifetime).unwrap();
        let files = Files {
            certificate: self.at(&format!("{name}.pem")),
            key: self.at(&format!("{name}.key")),
            roots: self.at("ca/ca.pem"),
            crls: Vec::new(),
        };
        write_new(&files.key, &issued.key.unwrap(), true, true).unwrap();
        write_new(&files.certificate, &issued.certificate, false, true).unwrap();
        files
    }
}

fn load(files: &Files, id: &str, at: Micros) -> Result<Material, IdentityError> {
    Material::load(files, &Purpose::Party(party(id)), &domain(), at)
}

/// Scenario: a key is written, then read by everybody; files are written twice.
/// Guarantee: mode 0600, an exposed key is refused with the cure, nothing is
/// overwritten by surprise, a CA least of all.
#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = lab();
    let files = lab.issue("pemda-33");
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(mode(&lab.at("ca/ca.key")), 0o600);
    assert_eq!(mode(&lab.at("ca")), 0o700);
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = load(&files, "pemda-33", now()).unwrap_err();
    assert_eq!(error.reason, "KEY_EXPOSED");
    assert!(error.why.contains("chmod 600"), "{error}");
    let before = fs::read(lab.at("ca/ca.key")).unwrap();
    let again = Authority::init(&lab.at("ca"), &domain(), now(), false)
        .err()
        .unwrap();
    assert_eq!(again.reason, "FILE_EXISTS");
    assert_eq!(fs::read(lab.at("ca/ca.key")).unwrap(), before);
}

/// Scenario: a set of files with one thing wrong at a time.
/// Guarantee: each is refused as a whole, naming the file and what to do.
#[test]
fn a_set_is_checked_as_a_whole() {
    let lab = lab();
    let other = lab.issue("pemda-52");
    let good = lab.issue("pemda-33");
    assert!(load(&good, "pemda-33", now()).is_ok());
    let mixed = Files {
        key: other.key.clone(),
        ..good.clone()
    };
    let stranger = Authority::init(&lab.at("other-ca"), &domain(), now(), false).unwrap();
    let unknown = Files {
        roots: stranger.directory().join("ca.pem"),
        ..good.clone()
    };
    let late = Micros(now().0 + 40 * 86_400_000_000);
    let early = Micros(now().0 - 2 * 86_400_000_000);
    for (files, id, at, reason, word) in [
        (&mixed, "pemda-33", now(), "KEY_MISMATCH", "pemda-52.key"),
        (&unknown, "pemda-33", now(), "UNKNOWN_CA", "roots"),
        (&other, "pemda-33", now(), "WRONG_NAME", "pemda-52"),
        (&good, "pemda-33", late, "CERTIFICATE_EXPIRED", "clock"),
        (
            &good,
            "pemda-33",
            early,
            "CERTIFICATE_NOT_YET_VALID",
            "clock",
        ),
    ] {
        let error = load(files, id, at).unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.why.contains(word), "{error}");
    }
}

/// Scenario: a region makes a key and a request; the hub's operator signs it
/// for the party that the operator means.
/// Guarantee: the certificate fits the region's key and names that party, not
/// what the request says; the authority never saw the key.
#[test]
fn a_key_never_leaves_its_region() {
    let lab = lab();
    let (csr, key) = request("hub").unwrap();
    let subject = Subject::Party(party("pemda-33.74"));
    let lifetime = Lifetime::days(now(), 90);
    let signed = lab.authority.sign(&csr, &subject, lifetime).unwrap();
    assert_eq!(signed.key, None);
    let files = Files {
        certificate: lab.at("c.pem"),
        key: lab.at("c.key"),
        roots: lab.at("ca/ca.pem"),
        crls: Vec::new(),
    };
    write_new(&files.certificate, &signed.certificate, false, false).unwrap();
    write_new(&files.key, &key, true, false).unwrap();
    let material = load(&files, "pemda-33.74", now()).unwrap();
    let role = material.identity().role.clone();
    assert_eq!(role, Some(PeerRole::Party(party("pemda-33.74"))));
    let (shown, what) = show(&files.certificate, &domain()).unwrap();
    assert_eq!((what, shown.days_left(now())), ("party", 89));
    assert!(
        lab.authority
            .sign("no request", &subject, lifetime)
            .is_err()
    );
}

/// Scenario: the same certificate in the eyes of another trust domain.
/// Guarantee: it names nobody there.
#[test]
fn another_trust_domain_names_nobody_here() {
    let lab = lab();
    let files = lab.issue("pemda-33");
    let material = load(&files, "pemda-33", now()).unwrap();
    let other = TrustDomain::parse("other.example").unwrap();
    let seen = PeerIdentity::of(&material.chain()[0], &other).unwrap();
    assert_eq!(seen.role, None);
    assert!(TrustDomain::parse("Upper.Example").is_err());
}

/// Key and certificate in one text, as a renewal writes them.
fn pair(authority: &Authority, id: &str, days: i64) -> String {
    let subject = Subject::Party(party(id));
    let issued = authority.issue(&subject, Lifetime::days(now(), days));
    let issued = issued.unwrap();
    issued.key.unwrap() + &issued.certificate
}

fn serial(files: &Files) -> String {
    show(&files.certificate, &domain()).unwrap().0.serial
}

/// Scenario: a renewal was cut after its pair had been kept, where certificate
/// and key are two files and where they are one: before anything was put in
/// place, and between key and certificate.
/// Guarantee: the next start puts the whole pair in place, and cleans up.
#[test]
fn a_renewal_that_was_cut_is_finished() {
    let lab = lab();
    let me = Purpose::Party(party("pemda-33"));
    let two = lab.issue("pemda-33");
    let one = Files {
        certificate: lab.at("one.pem"),
        key: lab.at("one.pem"),
        ..two.clone()
    };
    let first = pair(&lab.authority, "pemda-33", 30);
    write_new(&one.certificate, &first, true, false).unwrap();
    for (files, is_half_done) in [(&two, false), (&two, true), (&one, false)] {
        let next = pair(&lab.authority, "pemda-33", 60);
        let mut kept = files.certificate.clone().into_os_string();
        kept.push(".next");
        let kept = PathBuf::from(kept);
        write_new(&kept, &next, true, false).unwrap();
        if is_half_done {
            let end = next.find("-----BEGIN CERTIFICATE").unwrap();
            write_new(&files.key, &next[..end], true, true).unwrap();
            assert!(load(files, "pemda-33", now()).is_err(), "half a pair");
        }
        let before = serial(files);
        finish_install(files, &me, &domain(), now()).unwrap();
        let found = load(files, "pemda-33", now()).unwrap();
        assert_ne!(found.identity().serial, before);
        assert!(!kept.exists());
        // The next one must be newer than this one.
        let older = pair(&lab.authority, "pemda-33", 20);
        install(files, &older, &me, &domain(), now()).unwrap();
    }
}

/// Scenario: what lies where a cut renewal leaves its pair is another party's,
/// of another CA, of a key that does not fit, expired, no PEM at all, and older
/// than what is in use.
/// Guarantee: none of it is put in place, what is in use stays, and why is said;
/// what is only older is cleaned away.
#[test]
fn a_stale_renewal_is_not_installed() {
    let lab = lab();
    let me = Purpose::Party(party("pemda-33"));
    let files = lab.issue("pemda-33");
    let before = (fs::read(&files.certificate), fs::read(&files.key));
    let before = (before.0.unwrap(), before.1.unwrap());
    let stranger = Authority::init(&lab.at("other-ca"), &domain(), now(), false).unwrap();
    let (one, other) = (
        pair(&lab.authority, "pemda-33", 60),
        pair(&lab.authority, "pemda-33", 60),
    );
    let end = |text: &str| text.find("-----BEGIN CERTIFICATE").unwrap();
    let mixed = one[..end(&one)].to_owned() + &other[end(&other)..];
    let kept = lab.at("pemda-33.pem.next");
    for (next, reason) in [
        (pair(&lab.authority, "pemda-52", 60), "WRONG_NAME"),
        (pair(&stranger, "pemda-33", 60), "UNKNOWN_CA"),
        (mixed, "KEY_MISMATCH"),
        (pair(&lab.authority, "pemda-33", 0), "CERTIFICATE_EXPIRED"),
        ("half a fi".to_owned(), "FILE_UNREADABLE"),
    ] {
        write_new(&kept, &next, true, true).unwrap();
        let error = finish_install(&files, &me, &domain(), Micros(now().0 + 1_000_000));
        let error = error.unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.why.contains("pemda-33.pem.next"), "{error}");
        assert_eq!(fs::read(&files.certificate).unwrap(), before.0);
        assert_eq!(fs::read(&files.key).unwrap(), before.1);
    }
    write_new(&kept, &pair(&lab.authority, "pemda-33", 20), true, true).unwrap();
    finish_install(&files, &me, &domain(), now()).unwrap();
    assert_eq!(fs::read(&files.certificate).unwrap(), before.0);
    assert!(!kept.exists());
}

/// Scenario: a renewal looks whether it could put its files in place: where the
/// directory of the key can't be written, that of the certificate, and none.
/// Guarantee: it knows before a key is signed, by the name of the file, and
/// leaves nothing behind.
#[test]
fn both_directories_must_be_writable() {
    let lab = lab();
    let mut files = lab.issue("pemda-33");
    for name in ["keys", "certificates"] {
        fs::create_dir(lab.at(name)).unwrap();
    }
    files.key = lab.at("keys/t.key");
    files.certificate = lab.at("certificates/t.pem");
    can_install(&files).unwrap();
    for name in ["keys/t.key.unchecked", "certificates/t.pem.unchecked"] {
        // A directory of this name: nothing can be written there.
        fs::create_dir(lab.at(name)).unwrap();
        let error = can_install(&files).unwrap_err();
        assert!(error.why.contains(name), "{error}");
        fs::remove_dir(lab.at(name)).unwrap();
        let (place, _) = name.split_once('/').unwrap();
        assert_eq!(fs::read_dir(lab.at(place)).unwrap().count(), 0);
    }
}

/// Scenario: a certificate for doors, taken into use as a hub's, as a party's,
/// and as a door's.
/// Guarantee: it opens doors only: it names nobody, and is no client's.
#[test]
fn a_doors_certificate_is_a_servers_only() {
    let lab = lab();
    let files = lab.issue_to("door", &Subject::Door(vec!["localhost".to_owned()]));
    let as_hub = Material::load(&files, &Purpose::Hub, &domain(), now());
    assert_eq!(as_hub.unwrap_err().reason, "WRONG_NAME");
    let as_party = load(&files, "pemda-33", now());
    assert_eq!(as_party.unwrap_err().reason, "WRONG_PURPOSE");
    let door = DoorFiles {
        certificate: files.certificate,
        key: files.key,
    };
    let door = DoorMaterial::load(&door, &domain(), now()).unwrap();
    assert_eq!(door.identity().names, ["localhost"]);
    assert_eq!(door.identity().role, None);
}

/// Scenario: many visitors say hello to a hub, which then has a new set.
/// Guarantee: the settings for them are made once a set.
#[test]
fn settings_for_visitors_are_made_once() {
    let lab = lab();
    let files = lab.issue_to("hub", &Subject::Hub(vec!["localhost".to_owned()]));
    let load = || Material::load(&files, &Purpose::Hub, &domain(), now()).unwrap();
    let (one, next) = (load(), load());
    let made = one.visitor_config().unwrap();
    assert!(Arc::ptr_eq(&made, &one.visitor_config().unwrap()));
    assert!(!Arc::ptr_eq(&made, &next.visitor_config().unwrap()));
    assert_eq!(one.own_root().unwrap(), next.own_root().unwrap());
}

/// Scenario: files change: to a new certificate, then to a pair that does not
/// fit together.
/// Guarantee: the new one is taken into use without a restart; the mismatched
/// pair is not, and the failure is counted and kept for people.
#[tokio::test]
async fn reloading_takes_whole_sets_only() {
    let lab = lab();
    let files = lab.issue("pemda-33");
    let first = load(&files, "pemda-33", now()).unwrap();
    let first_serial = first.identity().serial.clone();
    let (newest, mut material) = watch::channel(Arc::new(first));
    let (state, mut states) = watch::channel(ReloadState::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch_files(
        newest,
        state,
        (files.clone(), Purpose::Party(party("pemda-33")), domain()),
        Arc::new(SystemClock),
        Duration::from_millis(10),
        stop.clone(),
    ));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let patience = Duration::from_secs(20);
    lab.issue("pemda-33");
    let reloaded = states.wait_for(|state| state.reloads > 0);
    tokio::time::timeout(patience, reloaded)
        .await
        .unwrap()
        .unwrap();
    let second_serial = material.borrow_and_update().identity().serial.clone();
    assert_ne!(first_serial, second_serial);
    let other = lab.issue("pemda-52");
    fs::copy(&other.key, &files.key).unwrap();
    let failed = states.wait_for(|state| state.failures > 0 && state.last_error.is_some());
    let failed = tokio::time::timeout(patience, failed)
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert!(failed.last_error.unwrap().contains("is not the key of"));
    assert_eq!(
        material.borrow().identity().serial,
        second_serial,
        "the old set stays"
    );
    stop.cancel();
    task.await.unwrap();
}

/// Scenario: a new key comes that everybody may read; the operator runs the
/// chmod that the refusal advises, and changes nothing else.
/// Guarantee: the new set is taken into use, and the refusal is over: one
/// failure, however often the files were looked at meanwhile.
#[cfg(unix)]
#[tokio::test]
async fn a_refused_set_is_tried_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = lab();
    let files = lab.issue("pemda-33");
    let first = load(&files, "pemda-33", now()).unwrap();
    let (newest, material) = watch::channel(Arc::new(first));
    let (state, mut states) = watch::channel(ReloadState::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch_files(
        newest,
        state,
        (files.clone(), Purpose::Party(party("pemda-33")), domain()),
        Arc::new(SystemClock),
        Duration::from_millis(10),
        stop.clone(),
    ));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let exposed = lab.at("exposed.key");
    let issued = lab
        .authority
        .issue(
            &Subject::Party(party("pemda-33")),
            Lifetime::days(now(), 30),
        )
        .unwrap();
    fs::write(&exposed, issued.key.unwrap()).unwrap();
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&exposed, &files.key).unwrap();
    write_new(&files.certificate, &issued.certificate, false, true).unwrap();
    let patience = Duration::from_secs(20);
    let is_exposed = |state: &ReloadState| {
        let why = state.last_error.as_deref();
        why.is_some_and(|why| why.contains("chmod 600"))
    };
    let failed = states.wait_for(is_exposed);
    let failed = tokio::time::timeout(patience, failed).await.unwrap();
    let failures = failed.unwrap().failures;
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    let taken = states.wait_for(|state| state.reloads == 1 && state.last_error.is_none());
    let taken = tokio::time::timeout(patience, taken)
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert!(taken.failures - failures <= 1, "said once a change");
    let (shown, _) = show(&files.certificate, &domain()).unwrap();
    assert_eq!(material.borrow().identity().serial, shown.serial);
    stop.cancel();
    task.await.unwrap();
}

/// Scenario: a revocation list of 20,000 certificates; the settings of 400
/// handshakes are made by it.
/// Guarantee: the list is read once and shared: they take less time than loading
/// the set took, not 400 times as long.
#[test]
fn a_long_list_is_read_once() {
    const HANDSHAKES: u32 = 400;
    let lab = lab();
    let serials: Vec<(String, i64)> = (0..20_000_u32)
        .map(|n| (format!("41{n:030x}"), now().0))
        .collect();
    let kept = serde_json::json!({"number": 1, "serials": serials});
    fs::write(lab.at("ca/revoked.json"), kept.to_string()).unwrap();
    lab.authority.revoke("42", now()).unwrap();
    let files = Files {
        crls: vec![lab.at("ca/crl.pem")],
        ..lab.issue("pemda-33")
    };
    let began = std::time::Instant::now();
    let material = load(&files, "pemda-33", now()).unwrap();
    let loading = began.elapsed();
    let began = std::time::Instant::now();
    for _ in 0..HANDSHAKES / 2 {
        material.server_config().unwrap();
        material.client_config().unwrap();
    }
    let making = began.elapsed();
    assert!(making < loading * 2, "{making:?}, loading took {loading:?}");
}
