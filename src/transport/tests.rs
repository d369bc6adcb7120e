//! Real handshakes over loopback: who gets in, and what each side is told.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Micros, PartyId},
    identity::{
        Authority, Files, Lifetime, Material, PeerRole, Purpose, Subject, TrustDomain, write_new,
    },
    runtime::{Clock as _, SystemClock},
};

use super::{DialError, DialOptions, Listener, ListenerOptions, dial};

const DAY: i64 = 86_400_000_000;

fn now() -> Micros {
    Micros(SystemClock.now_micros())
}

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

fn party() -> PartyId {
    PartyId::parse("pemda-33").unwrap()
}

fn hub_subject() -> Subject {
    Subject::Hub(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
}

/// Files of one side, issued by an authority for a time around now, in days.
fn files(
    authority: &Authority,
    roots: &Path,
    subject: &Subject,
    days: (i64, i64),
    name: &str,
) -> Files {
    let lifetime = Lifetime {
        not_before: Micros(now().0 + days.0 * DAY),
        not_after: Micros(now().0 + days.1 * DAY),
    };
    let issued = authority.issue(subject, lifetime).unwrap();
    let at = |ending: &str| authority.directory().join(format!("{name}.{ending}"));
    write_new(&at("key"), &issued.key.unwrap(), true, true).unwrap();
    write_new(&at("pem"), &issued.certificate, false, true).unwrap();
    Files {
        certificate: at("pem"),
        key: at("key"),
        roots: roots.join("ca.pem"),
        crls: Vec::new(),
    }
}

struct Pki {
    _directory: tempfile::TempDir,
    ours: Authority,
    theirs: Authority,
}

fn pki() -> Pki {
    let directory = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        Authority::init(&directory.path().join(name), &domain(), now(), false).unwrap()
    };
    Pki {
        ours: make("ours"),
        theirs: make("theirs"),
        _directory: directory,
    }
}

impl Pki {
    fn hub(&self) -> Files {
        files(
            &self.ours,
            self.ours.directory(),
            &hub_subject(),
            (-1, 30),
            "hub",
        )
    }

    fn party(&self) -> Files {
        let subject = Subject::Party(party());
        files(
            &self.ours,
            self.ours.directory(),
            &subject,
            (-1, 30),
            "party",
        )
    }
}

fn load(files: &Files, purpose: &Purpose, at: Micros) -> Arc<Material> {
    Arc::new(Material::load(files, purpose, &domain(), at).unwrap())
}

/// Dials a listener once: what the node is told, and which party came in.
async fn meet(
    hub: Arc<Material>,
    node: &Material,
    name: &str,
) -> (Result<(), DialError>, Option<PeerRole>) {
    let (_newest, material) = watch::channel(hub);
    let stop = CancellationToken::new();
    let address = "127.0.0.1:0".parse().unwrap();
    let options = ListenerOptions::default();
    let listener = Listener::bind(address, material, domain(), options)
        .await
        .unwrap();
    let dialling = DialOptions {
        address: listener.local_addr().to_string(),
        name: name.to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(5),
    };
    let mut incoming = listener.incoming(stop.clone());
    let came = tokio::spawn(async move {
        let next = tokio::time::timeout(Duration::from_secs(2), incoming.next()).await;
        let connection = next.ok().flatten()?.ok()?;
        use tonic::transport::server::Connected as _;
        let role = connection.connect_info().identity.role.clone();
        // Held for a moment: a channel needs somebody who listens.
        tokio::time::sleep(Duration::from_millis(300)).await;
        role
    });
    let dialed = dial(&dialling, node, &domain()).await.map(drop);
    let role = came.await.unwrap();
    stop.cancel();
    (dialed, role)
}

/// Scenario: both certificates are good.
/// Guarantee: the hub knows the party by its URI.
#[tokio::test]
async fn a_good_party_gets_in() {
    let pki = pki();
    let hub = load(&pki.hub(), &Purpose::Hub, now());
    let node = load(&pki.party(), &Purpose::Party(party()), now());
    let (_, role) = meet(hub, &node, "localhost").await;
    assert_eq!(role, Some(PeerRole::Party(party())));
}

/// Scenario: a certificate of the hub that has ended, one that begins
/// tomorrow, one of another CA, one for another name, and one that is a
/// party's; the node checks each.
/// Guarantee: nobody gets in, and the node's operator reads why.
#[tokio::test]
async fn the_node_says_why_it_refuses_a_hub() {
    let pki = pki();
    let node = load(&pki.party(), &Purpose::Party(party()), now());
    let ours = pki.ours.directory();
    let issued = |days, name| files(&pki.ours, ours, &hub_subject(), days, name);
    let yesterday = Micros(now().0 - 2 * DAY);
    let tomorrow = Micros(now().0 + 2 * DAY);
    let ended = load(&issued((-9, -1), "ended"), &Purpose::Hub, yesterday);
    let early = load(&issued((1, 9), "early"), &Purpose::Hub, tomorrow);
    let mut foreign = files(
        &pki.theirs,
        pki.theirs.directory(),
        &hub_subject(),
        (-1, 9),
        "f",
    );
    let foreign_own = load(&foreign, &Purpose::Hub, now());
    foreign.roots = ours.join("ca.pem");
    let good = load(&pki.hub(), &Purpose::Hub, now());
    for (hub, name, reason, word) in [
        (ended, "localhost", "CERTIFICATE_EXPIRED", "expired"),
        (early, "localhost", "CERTIFICATE_NOT_YET_VALID", "clock"),
        (foreign_own, "localhost", "UNKNOWN_CA", "intercepting"),
        (good, "hub.example", "WRONG_NAME", "name"),
    ] {
        let (told, role) = meet(hub, &node, name).await;
        let error = told.unwrap_err();
        assert_eq!(
            (error.reason, error.needs_a_person),
            (reason, true),
            "{error}"
        );
        assert!(error.why.contains(word), "{error}");
        assert_eq!(role, None);
    }
}

/// Scenario: a party of another CA; one that the hub's CRL names.
/// Guarantee: the connection never comes out of the listener.
#[tokio::test]
async fn the_hub_lets_no_stranger_and_no_revoked_one_in() {
    let pki = pki();
    let mut foreign = files(
        &pki.theirs,
        pki.theirs.directory(),
        &Subject::Party(party()),
        (-1, 9),
        "p",
    );
    let own = load(&foreign, &Purpose::Party(party()), now());
    drop(own);
    // It trusts our hub, but its own certificate is of another CA.
    let both = format!(
        "{}{}",
        std::fs::read_to_string(pki.ours.directory().join("ca.pem")).unwrap(),
        std::fs::read_to_string(pki.theirs.directory().join("ca.pem")).unwrap()
    );
    foreign.roots = pki.theirs.directory().join("both.pem");
    std::fs::write(&foreign.roots, both).unwrap();
    let stranger = load(&foreign, &Purpose::Party(party()), now());
    let hub = load(&pki.hub(), &Purpose::Hub, now());
    let (_, role) = meet(hub, &stranger, "localhost").await;
    assert_eq!(role, None);

    let node = load(&pki.party(), &Purpose::Party(party()), now());
    pki.ours.revoke(&node.identity().serial, now()).unwrap();
    let mut with_list = pki.hub();
    with_list.crls = vec![pki.ours.directory().join("crl.pem")];
    let hub = load(&with_list, &Purpose::Hub, now());
    let (_, role) = meet(hub, &node, "localhost").await;
    assert_eq!(role, None);
    let fresh = load(&pki.party(), &Purpose::Party(party()), now());
    let hub = load(&with_list, &Purpose::Hub, now());
    let (_, role) = meet(hub, &fresh, "localhost").await;
    assert_eq!(role, Some(PeerRole::Party(party())), "others still get in");
}

/// Scenario: nobody listens.
/// Guarantee: it is said, and that it may pass by itself.
#[tokio::test]
async fn an_unreachable_hub_is_no_alarm() {
    let pki = pki();
    let node = load(&pki.party(), &Purpose::Party(party()), now());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    let options = DialOptions {
        address,
        name: "localhost".to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(5),
    };
    let error = dial(&options, &node, &domain()).await.unwrap_err();
    assert_eq!(
        (error.reason, error.needs_a_person),
        ("HUB_UNREACHABLE", false)
    );
}
