//! Every refusal of TLS, over real handshakes on loopback: what each side's
//! own operator is told, and that the other side learns no more than it
//! should.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jembatan::{
    domain::{Micros, PartyId},
    identity::{Authority, Files, Lifetime, Material, Purpose, Subject, TrustDomain, write_new},
    transport::{DialError, DialOptions, Listener, ListenerOptions, Refusals, dial},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{PATIENCE, eventually, now};

const DAY: i64 = 86_400_000_000;

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

fn party() -> PartyId {
    PartyId::parse("pemda-33").unwrap()
}

/// Two CAs: the one that everybody trusts, and one that nobody does.
struct Lab {
    directory: TempDir,
    ours: Authority,
    theirs: Authority,
}

impl Lab {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let make = |name: &str| {
            Authority::init(&directory.path().join(name), &domain(), now(), false).unwrap()
        };
        Self {
            ours: make("ours"),
            theirs: make("theirs"),
            directory,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate that is valid from and until so many days from now,
    /// loaded in the middle of that time; its holder trusts our CA.
    fn made(&self, authority: &Authority, subject: &Subject, days: (i64, i64)) -> Files {
        let (from, until) = days;
        let lifetime = Lifetime {
            not_before: Micros(now().0 + from * DAY),
            not_after: Micros(now().0 + until * DAY),
        };
        let issued = authority.issue(subject, lifetime).unwrap();
        let name = hex::encode(jembatan::runtime::random_bytes::<4>());
        let key = self.at(&format!("{name}.key"));
        let certificate = self.at(&format!("{name}.pem"));
        write_new(&key, &issued.key.unwrap(), true, false).unwrap();
        write_new(&certificate, &issued.certificate, false, false).unwrap();
        Files {
            certificate,
            key,
            roots: self.roots(),
            crls: Vec::new(),
        }
    }

    /// A node or hub may hold what is not valid now, or not for its own roots:
    /// both are checked when it is loaded.
    fn load(&self, files: &Files, subject: &Subject, at: Micros) -> Material {
        let purpose = match subject {
            Subject::Hub(_) => Purpose::Hub,
            Subject::Door(_) => panic!("a door has no link"),
            Subject::Party(party) => Purpose::Party(party.clone()),
        };
        Material::load(files, &purpose, &domain(), at).unwrap()
    }

    fn good(&self, subject: &Subject) -> Material {
        self.load(&self.made(&self.ours, subject, (-1, 9)), subject, now())
    }

    fn roots(&self) -> PathBuf {
        self.at("ours/ca.pem")
    }

    /// Both CAs in one file: for a side that trusts more than the other.
    fn both_roots(&self) -> PathBuf {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let both = text(&self.roots()) + &text(&self.at("theirs/ca.pem"));
        let path = self.at("both.pem");
        std::fs::write(&path, both).unwrap();
        path
    }
}

fn hub_subject() -> Subject {
    Subject::Hub(vec!["localhost".to_owned()])
}

fn party_subject() -> Subject {
    Subject::Party(party())
}

/// A hub's port, with something behind it that answers.
struct Port {
    address: SocketAddr,
    refusals: Refusals,
    _newest: watch::Sender<Arc<Material>>,
    _stop: DropGuard,
}

impl Port {
    async fn open(material: Material, at: &str, options: ListenerOptions) -> Self {
        let (newest, material) = watch::channel(Arc::new(material));
        let stop = CancellationToken::new();
        let listener = Listener::bind(at.parse().unwrap(), material, domain(), options)
            .await
            .unwrap();
        let address = listener.local_addr();
        let refusals = listener.refusals();
        let incoming = listener.incoming(stop.clone());
        let (_, health) = tonic_health::server::health_reporter();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(health)
                .serve_with_incoming(incoming),
        );
        Self {
            address,
            refusals,
            _newest: newest,
            _stop: stop.drop_guard(),
        }
    }

    async fn hub(material: Material) -> Self {
        Self::open(material, "127.0.0.1:0", ListenerOptions::default()).await
    }

    /// Waits until something was refused, and says what.
    async fn refused(&self) -> BTreeMap<&'static str, u64> {
        let refused = || async { !self.refusals.counts().is_empty() };
        eventually("the hub notes its refusal", refused).await;
        self.refusals.counts()
    }
}

fn to(address: SocketAddr, name: &str) -> DialOptions {
    DialOptions {
        address: address.to_string(),
        name: name.to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(10),
    }
}

/// Dials and makes a call: with TLS 1.3 a refusal of the client's certificate
/// arrives after the handshake.
async fn call(options: &DialOptions, node: &Material) -> Result<(), DialError> {
    let dialed = dial(options, node, &domain()).await?;
    let request = HealthCheckRequest::default();
    let last_words = dialed.last_words;
    match HealthClient::new(dialed.channel).check(request).await {
        Ok(_) => Ok(()),
        Err(status) => Err(last_words.explain().unwrap_or_else(|| panic!("{status:?}"))),
    }
}

/// Scenario: parties that the hub must not let in: a certificate that has
/// ended, one that begins tomorrow, one of another CA, one on the hub's CRL,
/// one made for a server.
/// Guarantee: the hub's operator reads which reason, and whose certificate it
/// was; the node's operator reads what the alert means for *his* certificate;
/// the alert says no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn the_hub_says_why_it_refuses_a_caller_and_the_caller_understands() {
    let lab = Lab::new();
    let subject = party_subject();
    let ended = lab.made(&lab.ours, &subject, (-9, -1));
    let early = lab.made(&lab.ours, &subject, (1, 9));
    let mut foreign = lab.made(&lab.theirs, &subject, (-1, 9));
    foreign.roots = lab.both_roots();
    let revoked = lab.good(&subject);
    lab.ours.revoke(&revoked.identity().serial, now()).unwrap();
    for (node, reason, told, word) in [
        (
            lab.load(&ended, &subject, Micros(now().0 - 2 * DAY)),
            "CERTIFICATE_EXPIRED",
            "OWN_CERTIFICATE_EXPIRED",
            "renew it",
        ),
        (
            lab.load(&early, &subject, Micros(now().0 + 2 * DAY)),
            "CERTIFICATE_NOT_YET_VALID",
            "OWN_CERTIFICATE_EXPIRED",
            "check this machine's clock",
        ),
        // A CA of the same name: the signature fails, and all that travels is
        // "decrypt error".
        (
            lab.load(&foreign, &subject, now()),
            "UNKNOWN_CA",
            "OWN_CERTIFICATE_REFUSED",
            "ask the hub's operator",
        ),
        (
            revoked,
            "CERTIFICATE_REVOKED",
            "OWN_CERTIFICATE_REVOKED",
            "revoked",
        ),
    ] {
        let mut files = lab.made(&lab.ours, &hub_subject(), (-1, 9));
        files.crls = vec![lab.at("ours/crl.pem")];
        let hub = Port::hub(lab.load(&files, &hub_subject(), now())).await;
        let error = call(&to(hub.address, "localhost"), &node)
            .await
            .unwrap_err();
        assert_eq!(hub.refused().await, BTreeMap::from([(reason, 1)]));
        assert_eq!(
            (error.reason, error.needs_a_person),
            (told, true),
            "{error}"
        );
        assert!(error.why.contains(word), "{error}");
        let serial = &node.identity().serial;
        assert!(!error.why.contains(serial.as_str()), "{error}");
    }
}

/// Scenario: the hub's certificate is on the list of its CA, and the node has
/// that list; another hub is of a CA that the node does not know.
/// Guarantee: the node's operator reads why, and the hub's reads what the
/// node's alert means.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_refuses_a_revoked_hub_and_the_hub_hears_it() {
    let lab = Lab::new();
    let hub = lab.good(&hub_subject());
    lab.ours.revoke(&hub.identity().serial, now()).unwrap();
    let mut files = lab.made(&lab.ours, &party_subject(), (-1, 9));
    files.crls = vec![lab.at("ours/crl.pem")];
    let node = lab.load(&files, &party_subject(), now());
    let hub = Port::hub(hub).await;
    let error = call(&to(hub.address, "localhost"), &node)
        .await
        .unwrap_err();
    assert_eq!(error.reason, "CERTIFICATE_REVOKED", "{error}");
    let heard = BTreeMap::from([("OWN_CERTIFICATE_REVOKED", 1)]);
    assert_eq!(hub.refused().await, heard);
}

/// Answers TLS with a certificate of its own CA, as a firewall does that opens
/// TLS, and as any other site would.
async fn stranger(
    ca_name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (SocketAddr, String) {
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, ca_name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    (address, ca.pem())
}

/// Scenario: something on the way opens TLS and shows a certificate of its
/// own; then its CA even stands among the node's roots.
/// Guarantee: both are named as interception, with the name of the CA that did
/// it and what to do, and not as a wrong hub.
#[tokio::test(flavor = "multi_thread")]
async fn interception_is_recognised_and_named() {
    let lab = Lab::new();
    let (address, ca) = stranger("Dinas Inspection CA", &[&rustls::version::TLS13]).await;
    let node = lab.good(&party_subject());
    let error = call(&to(address, "localhost"), &node).await.unwrap_err();
    assert_eq!((error.reason, error.needs_a_person), ("INTERCEPTED", true));
    assert!(error.why.contains("Dinas Inspection CA"), "{error}");
    assert!(error.why.contains("excepted from inspection"), "{error}");

    let mut files = lab.made(&lab.ours, &party_subject(), (-1, 9));
    files.roots = lab.at("with-proxy.pem");
    let roots = std::fs::read_to_string(lab.roots()).unwrap() + &ca;
    std::fs::write(&files.roots, roots).unwrap();
    let trusting = lab.load(&files, &party_subject(), now());
    let error = call(&to(address, "localhost"), &trusting)
        .await
        .unwrap_err();
    assert_eq!(error.reason, "INTERCEPTED", "{error}");
}

/// Scenario: the hub's own certificate comes from a CA that the node does not
/// know, or another party answers at the hub's address.
/// Guarantee: that is not called interception.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_ca_is_no_interception() {
    let lab = Lab::new();
    let node = lab.good(&party_subject());
    let mut files = lab.made(&lab.theirs, &hub_subject(), (-1, 9));
    files.roots = lab.both_roots();
    let hub = Port::hub(lab.load(&files, &hub_subject(), now())).await;
    let error = call(&to(hub.address, "localhost"), &node)
        .await
        .unwrap_err();
    assert_eq!(error.reason, "UNKNOWN_CA", "{error}");
    assert!(error.why.contains("check `roots`"), "{error}");
    let hub = Port::hub(lab.good(&hub_subject())).await;
    let error = call(&to(hub.address, "hub.example"), &node)
        .await
        .unwrap_err();
    assert_eq!(error.reason, "WRONG_NAME", "{error}");
}

/// Scenario: a peer that speaks TLS 1.2 only, at either end; plain HTTP to the
/// TLS port; a node that dials a port of plain HTTP.
/// Guarantee: each is named on the side that sees it, and on the other where
/// there is a word to understand.
#[tokio::test(flavor = "multi_thread")]
async fn old_tls_and_no_tls_are_named() {
    let lab = Lab::new();
    let node = lab.good(&party_subject());
    let (old, _) = stranger("Old", &[&rustls::version::TLS12]).await;
    let error = call(&to(old, "localhost"), &node).await.unwrap_err();
    assert_eq!(error.reason, "TLS_INCOMPATIBLE", "{error}");
    assert!(error.why.contains("TLS 1.3"), "{error}");

    let hub = Port::hub(lab.good(&hub_subject())).await;
    let told = raw_client(&lab, hub.address, &rustls::version::TLS12).await;
    assert!(told.contains("ProtocolVersion"), "{told}");
    assert_eq!(
        hub.refused().await,
        BTreeMap::from([("TLS_INCOMPATIBLE", 1)])
    );

    let hub = Port::hub(lab.good(&hub_subject())).await;
    let mut plain = TcpStream::connect(hub.address).await.unwrap();
    plain
        .write_all(b"GET /v1/complaints HTTP/1.1\r\nHost: hub\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.len() < 16, "an alert and nothing else: {answer:?}");
    assert_eq!(hub.refused().await, BTreeMap::from([("NOT_TLS", 1)]));

    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let mut sink = [0; 4096];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        }
    });
    let error = call(&to(address, "localhost"), &node).await.unwrap_err();
    assert_eq!((error.reason, error.needs_a_person), ("NOT_TLS", true));
    assert!(error.why.contains("check address and port"), "{error}");
}

/// A client without a certificate: what it is told, in its own words.
async fn raw_client(
    lab: &Lab,
    address: SocketAddr,
    version: &'static rustls::SupportedProtocolVersion,
) -> String {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(lab.roots()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    match connector.connect(name, stream).await {
        Err(error) => error.to_string(),
        Ok(mut stream) => {
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            match stream.read_u8().await {
                Err(error) => error.to_string(),
                Ok(byte) => panic!("it was let in, and heard {byte}"),
            }
        }
    }
}

/// Scenario: a caller without a certificate.
/// Guarantee: it gets an alert that says so and not a byte more; the hub notes
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_certificate() {
    let lab = Lab::new();
    let hub = Port::hub(lab.good(&hub_subject())).await;
    let told = raw_client(&lab, hub.address, &rustls::version::TLS13).await;
    assert!(told.contains("CertificateRequired"), "{told}");
    assert_eq!(hub.refused().await, BTreeMap::from([("NO_CERTIFICATE", 1)]));
}

/// Scenario: callers that say nothing occupy every place for handshakes; then
/// a good party comes.
/// Guarantee: they are thrown out in time, noted as slow, and the party gets
/// in.
#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_do_not_keep_others_out() {
    let lab = Lab::new();
    let options = ListenerOptions {
        max_handshakes: 2,
        // Longer than an honest one takes on a machine that is busy.
        handshake_timeout: Duration::from_secs(2),
        ..ListenerOptions::default()
    };
    let hub = Port::open(lab.good(&hub_subject()), "127.0.0.1:0", options).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        slow.push(TcpStream::connect(hub.address).await.unwrap());
    }
    let node = lab.good(&party_subject());
    call(&to(hub.address, "localhost"), &node).await.unwrap();
    for stream in &mut slow {
        let closed = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
        assert!(closed.unwrap().is_err(), "thrown out without a word");
    }
    let noted = BTreeMap::from([("HANDSHAKE_TIMEOUT", 2)]);
    // Each is noted after it was thrown out, and maybe a moment later.
    eventually("both are noted", || async {
        hub.refusals.counts() == noted
    })
    .await;
}

/// Scenario: the hub listens on IPv6 loopback, and its certificate carries
/// that address.
/// Guarantee: the node connects, by address and by name.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_works() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return crate::support::missing("IPv6 on loopback");
    }
    let lab = Lab::new();
    let subject = Subject::Hub(vec!["::1".to_owned(), "localhost".to_owned()]);
    let options = ListenerOptions::default();
    let hub = Port::open(lab.good(&subject), "[::1]:0", options).await;
    let node = lab.good(&party_subject());
    for name in ["::1", "localhost"] {
        call(&to(hub.address, name), &node).await.unwrap();
    }
}
