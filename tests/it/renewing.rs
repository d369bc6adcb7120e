//! Certificates that renew themselves over the live link, with short lives.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jembatan::{
    domain::PartyId,
    identity::{
        Authority, Files, Lifetime, Material, Purpose, Subject, TrustDomain, show, write_new,
    },
    transport::{DialOptions, dial},
    wire::v1::{self, enrolment_service_client::EnrolmentServiceClient},
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    cli::{at, until},
    joining::{
        NEW, certificates, enrolling, invite, join, joined, pair, register, with_free_doors,
    },
    support::{Node, PATIENCE, World, all_items, complaint, connected, eventually, issue, submit},
    visitors::fresh_request,
};

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

fn serial(path: &Path) -> String {
    show(path, &domain()).unwrap().0.serial
}

/// Scenario: an adapter whose certificates live for 30 s files complaints
/// without a pause, and gets others' answers, until it has used three of them.
/// Guarantee: each is renewed while its predecessor is good; no complaint is
/// lost or doubled, none waits for a renewal, and the link is never refused;
/// the key is a fresh one each time and its owner's alone.
#[tokio::test(flavor = "multi_thread")]
async fn renewal_in_mid_stream_under_load() {
    let world = enrolling(30);
    register(&world.hub, NEW);
    let node = joined(&world, NEW, "node");
    connected(&world, &node, NEW).await;
    let pair = pair(&world, "node", NEW);
    let mut serials = BTreeSet::from([serial(&pair)]);
    let mut keys = BTreeSet::from([key_of(&pair)]);
    let mut door = node.gateway().await;
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut filed = 0;
    while serials.len() < 3 {
        assert!(Instant::now() < deadline, "renewed in time: {}", node.log());
        let mut new = complaint(&format!("R-{filed}"));
        new.handling = v1::Handling::Own as i32;
        let answer = door.submit(submit(new, 20_000)).await.unwrap();
        let receipt = answer.into_inner().receipt.unwrap();
        assert_eq!(receipt.progress, v1::Progress::Accepted as i32, "{filed}");
        filed += 1;
        serials.insert(serial(&pair));
        keys.insert(key_of(&pair));
    }
    assert_eq!(keys.len(), 3, "a fresh key each time");
    eventually("the last one is in use", || async {
        node.log().matches("\"link_renewed\"").count() >= 2
    })
    .await;
    let place = world.hub.place(NEW, v1::Journal::Submissions).await;
    assert_eq!(place.position, filed, "each arrived once");
    let issued = certificates(&world.hub, NEW);
    let kept: BTreeSet<String> = issued
        .iter()
        .map(|found| found["serial"].as_str().unwrap().to_owned())
        .collect();
    assert!(serials.is_subset(&kept), "the hub keeps every serial");
    let log = node.log();
    for never in ["link_refused", "tls_reload_failed", "link_unreachable"] {
        assert!(!log.contains(never), "{never}: {log}");
    }
    let left: Vec<_> = std::fs::read_dir(pair.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 2, "pair and roots, nothing half done: {left:?}");
    assert!(all_items(&node).await.len() < filed as usize + 1);
}

fn key_of(pair: &Path) -> String {
    let text = std::fs::read_to_string(pair).unwrap();
    text.split("-----BEGIN CERTIFICATE")
        .next()
        .unwrap()
        .to_owned()
}

/// Scenario: one adapter serves two parties that joined, each with its own
/// line; the second's certificate and key are two files.
/// Guarantee: both renew.
#[tokio::test(flavor = "multi_thread")]
async fn each_party_of_a_node_renews() {
    let world = enrolling(24);
    for party in [NEW, "pemda-13"] {
        register(&world.hub, party);
    }
    for (party, name) in [(NEW, "node"), ("pemda-13", "second")] {
        let line = invite(&world.hub, party, &[]);
        join(&world, &line, name, &[]).good();
    }
    let both = std::fs::read_to_string(pair(&world, "second", "pemda-13")).unwrap();
    let begin = both.find("-----BEGIN CERTIFICATE").unwrap();
    let split = world.directory.path().join("split.crt");
    let key = world.directory.path().join("split.key");
    std::fs::write(&split, &both[begin..]).unwrap();
    jembatan::identity::write_new(&key, &both[..begin], true, false).unwrap();
    let config = world.directory.path().join("node.toml");
    with_free_doors(&config);
    let more = "\n[[party]]\nid = \"pemda-13\"\ncertificate = \"split.crt\"\nkey = \"split.key\"\n";
    let text = std::fs::read_to_string(&config).unwrap() + more;
    std::fs::write(&config, text).unwrap();
    let first = [serial(&pair(&world, "node", NEW)), serial(&split)];
    let _node = Node::start("adapter", &config);
    until("both have renewed", || {
        let log = world.hub.log();
        let renewed = |party: &str| {
            let event = format!("\"certificate_renewed\",\"party\":\"{party}\"");
            log.contains(&event)
        };
        renewed(NEW) && renewed("pemda-13")
    });
    until("in place", || {
        serial(&split) != first[1] && serial(&pair(&world, "node", NEW)) != first[0]
    });
}

/// Scenario: the hub's CA is not at hand when a certificate is due; then it
/// comes back.
/// Guarantee: the link goes on meanwhile; when a sixth is left status and
/// metrics alarm and say what to do; once the CA is back the certificate is
/// renewed and the alarm is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_renewed_alarms() {
    let world = enrolling(54);
    register(&world.hub, NEW);
    let node = joined(&world, NEW, "node");
    connected(&world, &node, NEW).await;
    std::fs::rename(world.pki("ca.key"), world.pki("aside")).unwrap();
    let alarms = || async {
        let request = v1::GetSyncStatusRequest::default();
        let answer = node.health().await.get_sync_status(request).await.unwrap();
        let alarms = answer.into_inner().alarms;
        alarms
            .into_iter()
            .find(|alarm| alarm.reason == "CERTIFICATE_NOT_RENEWED")
    };
    eventually("alarmed", || async { alarms().await.is_some() }).await;
    let alarm = alarms().await.unwrap();
    assert!(alarm.explanation.contains("CA can't sign"), "{alarm:?}");
    assert!(alarm.explanation.contains("pki renew"), "{alarm:?}");
    let metrics = metrics(&node).await;
    assert!(
        metrics.contains("jembatan_alarms{reason=\"certificate_not_renewed\"} 1"),
        "{metrics}"
    );
    assert!(
        node.log().matches("\"renewal_failed\"").count() > 2,
        "tried again"
    );
    std::fs::rename(world.pki("aside"), world.pki("ca.key")).unwrap();
    eventually("renewed", || async { alarms().await.is_none() }).await;
    eventually("in use", || async {
        node.log().contains("\"link_renewed\"")
    })
    .await;
}

/// Scenario: a certificate that was issued by hand comes near its end at a hub
/// without `[enrolment]`; its directory can't be written either.
/// Guarantee: the hub is asked once, nothing is counted as a failure, and there
/// is no alarm beside those that there were before.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_elsewhere_is_left_alone() {
    let world = World::new();
    let party = "pemda-33.74";
    let lifetime = Lifetime::seconds(crate::support::now(), 36);
    let subject = Subject::Party(PartyId::parse(party).unwrap());
    let issued = world.authority.issue(&subject, lifetime).unwrap();
    let (key, certificate) = (world.pki("pemda-33.74.key"), world.pki("pemda-33.74.pem"));
    jembatan::identity::write_new(&key, &issued.key.unwrap(), true, false).unwrap();
    jembatan::identity::write_new(&certificate, &issued.certificate, false, false).unwrap();
    // A directory of this name: nothing can be written there.
    std::fs::create_dir(world.pki("pemda-33.74.pem.unchecked")).unwrap();
    let node = world.adapter_with("node", party, |settings| settings);
    connected(&world, &node, party).await;
    eventually("almost ended", || async {
        let text = metrics(&node).await;
        let lines = text.lines().filter_map(|line| {
            line.strip_prefix("jembatan_certificate_expires_seconds{certificate=\"pemda-33.74\"} ")
        });
        let left: Vec<i64> = lines.filter_map(|left| left.parse().ok()).collect();
        left.iter().any(|left| *left < 4)
    })
    .await;
    eventually("it says once that another one did it", async || {
        node.log().matches("\"renewed_elsewhere\"").count() == 1
    })
    .await;
    let text = metrics(&node).await;
    assert!(
        text.contains("_renewal_failures_total{certificate=\"pemda-33.74\"} 0"),
        "{text}"
    );
    assert!(!text.contains("certificate_not_renewed"), "{text}");
}

async fn metrics(node: &Node) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut door = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n";
    door.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    door.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A renewal by hand, with the certificate in these files.
async fn renew(world: &World, files: Files, party: &str) -> Result<(), Status> {
    let purpose = Purpose::Party(PartyId::parse(party).unwrap());
    let material = Material::load(&files, &purpose, &domain(), crate::support::now()).unwrap();
    let options = DialOptions {
        address: world.links().to_string(),
        name: "localhost".to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(10),
    };
    let dialed = dial(&options, &material, &domain()).await.unwrap();
    let request = v1::RenewRequest {
        signing_request: fresh_request(),
    };
    let mut client = EnrolmentServiceClient::new(dialed.channel);
    client.renew(request).await.map(drop)
}

fn reason(outcome: Result<(), Status>) -> (Code, String) {
    let status = outcome.unwrap_err();
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default())
}

/// Scenario: a renewal by a party that is disabled, by one whose certificate is
/// revoked, by one whose certificate another CA has issued (of the same name,
/// trusted by the hub), at a hub without `[enrolment]`, and too often.
/// Guarantee: each is refused under its own name, and nothing is issued.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_connect_can_not_renew() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    join(&world, &line, "node", &[]).good();
    let pair = pair(&world, "node", NEW);
    let files = Files {
        certificate: pair.clone(),
        key: pair.clone(),
        roots: world.pki("ca.pem"),
        crls: Vec::new(),
    };
    at(&world.hub, &["parties", "disable", NEW]).good();
    let found = reason(renew(&world, files.clone(), NEW).await);
    assert_eq!(
        found,
        (Code::PermissionDenied, "PARTY_NOT_REGISTERED".into())
    );
    at(&world.hub, &["parties", "enable", NEW]).good();
    for _ in 0..5 {
        renew(&world, files.clone(), NEW).await.unwrap();
    }
    let found = reason(renew(&world, files.clone(), NEW).await);
    assert_eq!(found, (Code::ResourceExhausted, "TOO_MANY_RENEWALS".into()));
    assert_eq!(certificates(&world.hub, NEW).len(), 6);
    at(&world.hub, &["parties", "revoke", &serial(&pair)]).good();
    let found = reason(renew(&world, files, NEW).await);
    assert_eq!(
        found,
        (Code::PermissionDenied, "PARTY_NOT_REGISTERED".into())
    );

    // A hub whose [enrolment] has another CA than its parties so far.
    let mut other = enrolling(86_400);
    let directory = other.directory.path().join("pki2");
    let second = Authority::init(&directory, &domain(), crate::support::now(), false).unwrap();
    let both = std::fs::read_to_string(other.pki("ca.pem")).unwrap()
        + &std::fs::read_to_string(second.directory().join("ca.pem")).unwrap();
    std::fs::write(other.pki("both.pem"), both).unwrap();
    let party = "pemda-33";
    let subject = Subject::Party(PartyId::parse(party).unwrap());
    issue(&second, party, &subject);
    let config = other.directory.path().join("hub.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("roots = \"pki/ca.pem\"", "roots = \"pki/both.pem\"");
    std::fs::write(&config, text).unwrap();
    other.hub.restart();
    let foreign = Files {
        certificate: directory.join(format!("{party}.pem")),
        key: directory.join(format!("{party}.key")),
        roots: other.pki("both.pem"),
        crls: Vec::new(),
    };
    let found = reason(renew(&other, foreign, party).await);
    assert_eq!(
        found,
        (Code::FailedPrecondition, "NOT_FROM_ENROLMENT".into())
    );

    let off = World::new();
    off.issue_party(party);
    let files = Files {
        certificate: off.pki("pemda-33.pem"),
        key: off.pki("pemda-33.key"),
        roots: off.pki("ca.pem"),
        crls: Vec::new(),
    };
    let found = reason(renew(&off, files, party).await);
    assert_eq!(found, (Code::FailedPrecondition, "ENROLMENT_OFF".into()));
}

/// Scenario: a party has joined; then the hub gets another CA, whose root
/// everybody has, and the party renews what the old one issued; somebody renews
/// a certificate that the old one issued by hand, and one to which it gave the
/// serial number of the certificate that the hub had issued.
/// Guarantee: what the hub has issued is renewed by whatever CA it has; what it
/// has not issued is not, whatever its number.
#[tokio::test(flavor = "multi_thread")]
async fn another_ca_goes_on_with_what_was_issued() {
    let mut world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    join(&world, &line, "node", &[]).good();
    let directory = world.directory.path().join("pki2");
    Authority::init(&directory, &domain(), crate::support::now(), false).unwrap();
    let both = std::fs::read_to_string(world.pki("ca.pem")).unwrap()
        + &std::fs::read_to_string(directory.join("ca.pem")).unwrap();
    std::fs::write(world.pki("both.pem"), both).unwrap();
    let config = world.directory.path().join("hub.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text
        .replace("roots = \"pki/ca.pem\"", "roots = \"pki/both.pem\"")
        .replace("= \"pki/ca.", "= \"pki2/ca.");
    std::fs::write(&config, text).unwrap();
    world.hub.restart();

    let pair = pair(&world, "node", NEW);
    let files = Files {
        certificate: pair.clone(),
        key: pair.clone(),
        roots: world.pki("both.pem"),
        crls: Vec::new(),
    };
    let forged = forged(&world, &serial(&pair));
    let forged = Files {
        certificate: forged.clone(),
        key: forged,
        ..files.clone()
    };
    let found = reason(renew(&world, forged, NEW).await);
    let not_ours = (Code::FailedPrecondition, "NOT_FROM_ENROLMENT".to_owned());
    assert_eq!(found, not_ours);
    renew(&world, files, NEW).await.unwrap();
    assert_eq!(certificates(&world.hub, NEW).len(), 2);

    let party = "pemda-33";
    world.issue_party(party);
    let by_hand = Files {
        certificate: world.pki("pemda-33.pem"),
        key: world.pki("pemda-33.key"),
        roots: world.pki("both.pem"),
        crls: Vec::new(),
    };
    let found = reason(renew(&world, by_hand, party).await);
    assert_eq!(found, not_ours);
}

/// A certificate of the party that has joined, by the CA in `pki`, with a serial
/// number of somebody's choice.
fn forged(world: &World, serial: &str) -> PathBuf {
    let read = |name: &str| std::fs::read_to_string(world.pki(name)).unwrap();
    let ca = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca).unwrap();
    let mut params = CertificateParams::default();
    let uri = domain().party_uri(&PartyId::parse(NEW).unwrap());
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.serial_number = Some(hex::decode(serial).unwrap().into());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let made = params.signed_by(&key, &issuer).unwrap();
    let pair = world.pki("forged.pem");
    write_new(&pair, &(key.serialize_pem() + &made.pem()), true, true).unwrap();
    pair
}
