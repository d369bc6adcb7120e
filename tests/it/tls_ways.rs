//! Ways to the hub, with real processes: proxies, several addresses, IPv6,
//! parties known by fingerprint, several parties in one process, and
//! certificates that end while they are used.

use std::{net::SocketAddr, sync::Arc};

use base64::Engine as _;
use jembatan::{
    domain::{Micros, PartyId},
    identity::{Authority, Lifetime, Subject, TrustDomain, show, write_new},
    wire::v1,
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional,
    },
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    sessions::{events, healthy, stands, verdict},
    support::{World, complaint, eventually, free_port, missing, now, submit},
};

const CITY: &str = "pemda-33.74";

/// An HTTP proxy that only knows CONNECT. Without the wanted credentials it
/// asks for them; to a host that it does not allow it says no.
pub(crate) struct HttpProxy {
    pub(crate) address: SocketAddr,
    pub(crate) connected: mpsc::UnboundedReceiver<String>,
}

impl HttpProxy {
    pub(crate) async fn start(credentials: Option<&str>, allowed: &'static str) -> Self {
        let wanted = credentials.map(|credentials| {
            let basic = base64::engine::general_purpose::STANDARD.encode(credentials);
            format!("Proxy-Authorization: Basic {basic}\r\n")
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, connected) = mpsc::unbounded_channel();
        let wanted = Arc::new(wanted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, wanted) = (tell.clone(), wanted.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &wanted, allowed, &tell).await;
                });
            }
        });
        Self { address, connected }
    }
}

async fn serve(
    stream: TcpStream,
    wanted: &Option<String>,
    allowed: &str,
    tell: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let has_credentials = wanted.as_ref().is_none_or(|wanted| head.contains(wanted));
    let answer = if !has_credentials {
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"dinas\"\r\n\r\n"
    } else if !target.starts_with(allowed) {
        "HTTP/1.1 403 Forbidden\r\n\r\n"
    } else {
        "HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
    };
    reader.write_all(answer.as_bytes()).await?;
    if answer.contains(" 200 ") {
        let _ = tell.send(target.clone());
        let mut hub = TcpStream::connect(&target).await?;
        let _ = copy_bidirectional(&mut reader, &mut hub).await;
    }
    Ok(())
}

/// Scenario: the only way out is an HTTP proxy that wants a user; the node is
/// configured without, with a wrong one, and with the right one; another proxy
/// forbids the hub's address; what is configured as proxy is none.
/// Guarantee: each failure is said in words that name the proxy and what to
/// do, never the password; with the right user the link carries complaints,
/// through the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy() {
    let world = World::new();
    world.issue_party(CITY);
    let mut proxy = HttpProxy::start(Some("dinas:rahasia@1"), "127.0.0.1:").await;
    let strict = HttpProxy::start(None, "hub.example:").await;
    let silent = world.hub.http;
    let refused = v1::Verdict::Refused;
    for (name, written, words) in [
        (
            "without",
            format!("{}", proxy.address),
            "PROXY_CREDENTIALS: the proxy 127.0.0.1",
        ),
        (
            "wrong",
            format!("http://dinas:rahasia@{}", proxy.address),
            "does not take this user and password",
        ),
        (
            "forbidden",
            format!("http://{}/", strict.address),
            "has to allow CONNECT to this host and port",
        ),
        ("no-proxy", format!("{silent}"), "PROXY_REFUSED"),
    ] {
        let node = world.adapter_with(name, CITY, |file| {
            file.replace("[hub]\n", &format!("[hub]\nproxy = \"{written}\"\n"))
                .replace("pemda-33.74-data", &format!("{name}-data"))
        });
        stands(&node, CITY, refused, words).await;
        assert!(!node.log().contains("rahasia"), "{}", node.log());
    }
    assert!(
        proxy.connected.try_recv().is_err(),
        "nobody got through yet"
    );
    let node = world.adapter_with("right", CITY, |file| {
        let url = format!("http://dinas:rahasia%401@{}", proxy.address);
        file.replace("[hub]\n", &format!("[hub]\nproxy = \"{url}\"\n"))
    });
    healthy(&node, CITY).await;
    assert_eq!(
        proxy.connected.recv().await.unwrap(),
        world.links().to_string(),
        "the hub, as the node's settings name it"
    );
    let mut door = node.gateway().await;
    let answer = door.submit(submit(complaint("P-1"), 20_000)).await.unwrap();
    let receipt = answer.into_inner().receipt.unwrap();
    assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
}

/// Carries bytes to the hub until it is dropped.
async fn relay(at: &str, hub: SocketAddr) -> (SocketAddr, tokio_util::sync::DropGuard) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut lines = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                Ok((mut from, _)) = listener.accept() => {
                    lines.spawn(async move {
                        let mut to = TcpStream::connect(hub).await.unwrap();
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    });
                }
            }
        }
    });
    (address, stop.drop_guard())
}

/// Scenario: the hub has three addresses, one of which nobody listens at and
/// one of which is IPv6; the one in use goes away.
/// Guarantee: the link comes up over one that answers, and goes on over the
/// other when that one is gone.
#[tokio::test(flavor = "multi_thread")]
async fn several_addresses_of_one_hub() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return missing("IPv6 on loopback");
    }
    let world = World::new();
    world.issue_party(CITY);
    let nobody = free_port();
    let (six, six_guard) = relay("[::1]:0", world.links()).await;
    let (four, four_guard) = relay("127.0.0.1:0", world.links()).await;
    let node = world.adapter_with("ways", CITY, |file| {
        let own = format!("address = \"{}\"", world.links());
        file.replace(
            &own,
            &format!("address = \"{nobody}\"\nfallback = [\"{six}\", \"{four}\"]"),
        )
    });
    healthy(&node, CITY).await;
    let opened = events(&world.hub, "session_opened").len();
    drop(six_guard);
    let arrived = async |reference: &str| {
        let mut door = node.gateway().await;
        let answer = door.submit(submit(complaint(reference), 30_000)).await;
        answer.unwrap().into_inner().receipt.unwrap().progress == v1::Progress::Accepted as i32
    };
    assert!(arrived("W-1").await, "over what is left");
    let (six, six_guard) = relay(&six.to_string(), world.links()).await;
    drop(four_guard);
    assert!(arrived("W-2").await, "over {six}");
    assert!(events(&world.hub, "session_opened").len() > opened);
    drop(six_guard);
}

/// A certificate without a name of this trust domain, as a CA makes that knows
/// nothing of SPIFFE; its fingerprint.
fn nameless(world: &World) -> String {
    let text = |name: &str| std::fs::read_to_string(world.pki(name)).unwrap();
    let key = rcgen::KeyPair::from_pem(&text("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&text("ca.pem"), key).unwrap();
    let own = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Dinas Kominfo Kota Semarang");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&own, &issuer).unwrap();
    let pem = |name: &str| world.pki(&format!("{CITY}.{name}"));
    write_new(&pem("key"), &own.serialize_pem(), true, true).unwrap();
    write_new(&pem("pem"), &certificate.pem(), false, true).unwrap();
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    show(&pem("pem"), &domain).unwrap().0.fingerprint
}

/// Scenario: a party's CA issues no such names as ours; its fingerprint is not
/// registered at first, that of its next certificate is; then it is replaced
/// once more, before the fingerprint is registered, and at last by one that is.
/// Guarantee: not registered is not let in, and the hub's log says which
/// fingerprint to register; registered works; the replacement is refused
/// beside the running session, which goes on and shows that it could not be
/// renewed, until a certificate comes whose fingerprint is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_party_known_by_its_fingerprint() {
    let world = World::new();
    let first = nameless(&world);
    let register = async |fingerprints: Vec<String>| {
        let party = v1::Party {
            id: CITY.to_owned(),
            mode: v1::PartyMode::Stream as i32,
            enabled: true,
            certificate_fingerprints: fingerprints,
            ..v1::Party::default()
        };
        let request = v1::PutPartyRequest { party: Some(party) };
        world
            .hub
            .directory()
            .await
            .put_party(request)
            .await
            .unwrap();
    };
    let node = world.adapter_with("print", CITY, |file| file);
    stands(&node, CITY, v1::Verdict::Refused, "PARTY_NOT_REGISTERED").await;
    let refused = events(&world.hub, "party_refused");
    assert!(refused[0]["why"].as_str().unwrap().contains(&first));
    assert!(!node.sync(CITY).await.explanation.contains(&first));
    let second = nameless(&world);
    register(vec![second.clone()]).await;
    healthy(&node, CITY).await;

    let third = nameless(&world);
    stands(&node, CITY, v1::Verdict::Attention, "NOT_RENEWED").await;
    assert_eq!(verdict(&world.hub.sync(CITY).await), v1::Verdict::Healthy);
    let mut door = node.gateway().await;
    let answer = door.submit(submit(complaint("F-1"), 20_000)).await.unwrap();
    let receipt = answer.into_inner().receipt.unwrap();
    assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    // A refused renewal is tried again slowly; another certificate at once.
    let fourth = nameless(&world);
    register(vec![second, third, fourth]).await;
    healthy(&node, CITY).await;
    assert_eq!(events(&node, "link_renewed").len(), 1);
    assert!(events(&node, "link_lost").is_empty(), "{}", node.log());
}

/// Scenario: one process serves two parties, each with its own certificate;
/// the certificate of one is revoked.
/// Guarantee: each has its own link and journals, and only the one is out.
#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_several_parties() {
    let world = World::new();
    world.issue_party(CITY);
    world.issue_party("pemda-33");
    let node = world.adapter_with("both", CITY, |file| {
        let second = r#"
[[party]]
id = "pemda-33"
certificate = "pki/pemda-33.pem"
key = "pki/pemda-33.key"
[tls]"#;
        file.replace("\n[tls]", second)
            .replace(
                "[log]",
                "[[door.token]]\nname = \"city\"\nsha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\nparty = \"pemda-33.74\"\nsystem = \"web\"\nscopes = [\"submit\", \"read\", \"inbox\", \"operate\"]\n[log]",
            )
    });
    let sync = async |party: &str| {
        let mut request = tonic::Request::new(v1::GetSyncStatusRequest {
            party: party.to_owned(),
        });
        let token = "Bearer test".parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        let answer = node.health().await.get_sync_status(request).await;
        answer.unwrap().into_inner().parties.remove(0)
    };
    for party in [CITY, "pemda-33"] {
        eventually(party, || async {
            verdict(&sync(party).await) == v1::Verdict::Healthy
        })
        .await;
        healthy(&world.hub, party).await;
    }
    let mut request = tonic::Request::new(submit(complaint("S-1"), 20_000));
    let token = "Bearer test".parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    node.gateway().await.submit(request).await.unwrap();
    let head = async |party| {
        world
            .hub
            .place(party, v1::Journal::Submissions)
            .await
            .position
    };
    assert_eq!((head(CITY).await, head("pemda-33").await), (1, 0));
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let serial = show(&world.pki("pemda-33.pem"), &domain).unwrap().0.serial;
    let revoke = v1::RevokeCertificateRequest {
        serial,
        note: "test".to_owned(),
    };
    let mut directory = world.hub.directory().await;
    directory.revoke_certificate(revoke).await.unwrap();
    eventually("the one is out", || async {
        verdict(&sync("pemda-33").await) == v1::Verdict::Refused
    })
    .await;
    assert_eq!(verdict(&sync(CITY).await), v1::Verdict::Healthy);
}

/// Scenario: the root is changed while a hub and a node run: the new one is added
/// to everybody's roots, the node and then the hub get certificates under it, and
/// the old one is taken out; complaints are handed over all the while. Then
/// somebody comes with a certificate under the old root.
/// Guarantee: every complaint is decided within its call, and nobody is refused on
/// the way; afterwards only the new root opens the port.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_changed_without_a_pause() {
    let world = World::new();
    let city = world.adapter(CITY);
    healthy(&city, CITY).await;
    let filed = std::cell::Cell::new(0);
    let goes_on = async || {
        let new = complaint(&format!("C-{}", filed.replace(filed.get() + 1)));
        let answer = city.gateway().await.submit(submit(new, 20_000)).await;
        let receipt = answer.unwrap().into_inner().receipt.unwrap();
        assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    };
    let directory = world.directory.path().join("pki2");
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let second = Authority::init(&directory, &domain, now(), false).unwrap();
    let root = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let (old, new) = (root(world.pki("ca.pem")), root(directory.join("ca.pem")));
    let under_the_new = |name: &str, subject: &Subject| {
        crate::support::issue(&second, name, subject);
        for ending in ["key", "pem"] {
            let file = format!("{name}.{ending}");
            std::fs::copy(directory.join(&file), world.pki(&file)).unwrap();
        }
    };
    let reloaded = |node: &crate::support::Node| events(node, "tls_reloaded").len();
    let both = async |before: (usize, usize)| {
        eventually("both have taken the roots over", || async {
            reloaded(&world.hub) > before.0 && reloaded(&city) > before.1
        })
        .await;
    };

    let before = (reloaded(&world.hub), reloaded(&city));
    std::fs::write(world.pki("ca.pem"), format!("{old}{new}")).unwrap();
    both(before).await;
    goes_on().await;
    let party = Subject::Party(PartyId::parse(CITY).unwrap());
    under_the_new(CITY, &party);
    let serial = show(&world.pki(&format!("{CITY}.pem")), &domain)
        .unwrap()
        .0
        .serial;
    eventually("the node uses its new certificate", || async {
        goes_on().await;
        let opened = events(&world.hub, "session_opened");
        opened.last().unwrap()["serial"] == serial
    })
    .await;
    let opened = events(&world.hub, "session_opened").len();
    under_the_new("hub", &Subject::Hub(vec!["localhost".to_owned()]));
    eventually("the hub uses its new certificate", || async {
        goes_on().await;
        events(&world.hub, "session_opened").len() > opened
    })
    .await;
    let before = (reloaded(&world.hub), reloaded(&city));
    std::fs::write(world.pki("ca.pem"), &new).unwrap();
    both(before).await;
    goes_on().await;
    healthy(&city, CITY).await;
    assert_eq!(
        events(&city, "link_refused"),
        Vec::<serde_json::Value>::new()
    );
    assert_eq!(
        events(&world.hub, "tls_refused"),
        Vec::<serde_json::Value>::new()
    );

    world.issue_party("pemda-33");
    let late = world.adapter_with("late", "pemda-33", |text| {
        std::fs::write(world.pki("both.pem"), format!("{old}{new}")).unwrap();
        text.replace("pki/ca.pem", "pki/both.pem")
    });
    stands(&late, "pemda-33", v1::Verdict::Refused, "OWN_CERTIFICATE_").await;
    let refused = events(&world.hub, "tls_refused");
    assert_eq!(refused[0]["reason"], "UNKNOWN_CA");
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (filed.get(), 0));
}

/// Issues a certificate that ends in so many seconds.
fn issue_short(world: &World, name: &str, subject: &Subject, seconds: i64) {
    let lifetime = Lifetime {
        not_before: Micros(now().0 - 3_600_000_000),
        not_after: Micros(now().0 + seconds * 1_000_000),
    };
    let issued = world.authority.issue(subject, lifetime).unwrap();
    write_new(
        &world.pki(&format!("{name}.key")),
        &issued.key.unwrap(),
        true,
        true,
    )
    .unwrap();
    write_new(
        &world.pki(&format!("{name}.pem")),
        &issued.certificate,
        false,
        true,
    )
    .unwrap();
}

/// Scenario: a party's certificate ends while its session runs, and nobody
/// renewed it; then somebody does. Afterwards the same happens to the hub's.
/// Guarantee: the session ends with the certificate, not later; each side's
/// operator is told whose certificate it is; what is handed over meanwhile is
/// kept and goes out with the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_certificate() {
    let world = World::new();
    let subject = Subject::Party(PartyId::parse(CITY).unwrap());
    issue_short(&world, CITY, &subject, 8);
    let node = world.adapter_with("short", CITY, |file| file);
    healthy(&node, CITY).await;
    let refused = v1::Verdict::Refused;
    stands(&node, CITY, refused, "OWN_CERTIFICATE_EXPIRED").await;
    let ended = events(&world.hub, "session_ended");
    // At the first contact a node opens twice: the first end may be that.
    let is_told =
        |end: &serde_json::Value| end["why"].as_str().unwrap().contains("CertificateExpires");
    assert!(ended.iter().any(is_told), "{ended:?}");
    let noted = events(&world.hub, "tls_refused");
    assert_eq!(noted[0]["reason"], "CERTIFICATE_EXPIRED");
    assert!(
        noted[0]["why"]
            .as_str()
            .unwrap()
            .contains("party/pemda-33.74")
    );
    let mut door = node.gateway().await;
    door.submit(submit(complaint("E-1"), 0)).await.unwrap();
    world.issue_party(CITY);
    healthy(&node, CITY).await;

    let hub = Subject::Hub(vec!["localhost".to_owned()]);
    issue_short(&world, "hub", &hub, 9);
    stands(&node, CITY, refused, "CERTIFICATE_EXPIRED: ").await;
    let told = node.sync(CITY).await.explanation;
    assert!(
        told.contains("the certificate of the hub has expired"),
        "{told}"
    );
    let heard = || async {
        let noted = events(&world.hub, "tls_refused");
        noted.last().unwrap()["reason"] == "OWN_CERTIFICATE_EXPIRED"
    };
    eventually("the hub hears it", heard).await;
    crate::support::issue(&world.authority, "hub", &hub);
    world.issue_party(CITY);
    healthy(&node, CITY).await;
    let arrived = || async {
        let place = world.hub.place(CITY, v1::Journal::Submissions).await;
        place.position == 1
    };
    eventually("what waited has arrived", arrived).await;
}

/// Scenario: a proxy that takes the connection and says nothing.
/// Guarantee: the node gives up in time and says who did not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_proxy_is_named() {
    let world = World::new();
    world.issue_party(CITY);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            kept.push(stream);
        }
    });
    let node = world.adapter_with("silent", CITY, |file| {
        file.replace("[hub]\n", &format!("[hub]\nproxy = \"{silent}\"\n"))
    });
    let lost = v1::Verdict::Disconnected;
    stands(&node, CITY, lost, "through the proxy").await;
}
