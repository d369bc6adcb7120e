//! What can be reached without a certificate: joining, and nothing else.

use std::{sync::Arc, time::Duration};

use jembatan::{
    domain::InvitationCode,
    identity::{JOIN_PROTOCOL, request},
    transport::{DialOptions, Visit, visit},
    wire::v1::{
        self, attachment_service_client::AttachmentServiceClient,
        directory_service_client::DirectoryServiceClient,
        enrolment_service_client::EnrolmentServiceClient,
        exchange_service_client::ExchangeServiceClient,
        gateway_service_client::GatewayServiceClient,
        sync_health_service_client::SyncHealthServiceClient,
    },
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::client::TlsStream;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::{
    cli::at,
    joining::{NEW, enrolling, forged, invite, join, parsed, register},
    support::{World, eventually, python_with_protobuf},
};

async fn visiting(world: &World, line: &str) -> Visit {
    let options = DialOptions {
        address: world.links().to_string(),
        name: "127.0.0.1".to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(10),
    };
    visit(&options, &parsed(line).root).await.unwrap()
}

/// A request of a fresh key, DER.
pub(crate) fn fresh_request() -> bytes::Bytes {
    let (pem, _) = request("siapa pun").unwrap();
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
    der.unwrap().to_vec().into()
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.map(|info| info.reason.clone()).unwrap_or_default()
}

/// Scenario: somebody without certificate comes as a visitor, and calls every
/// other service that this hub or any hub has, and every other method of the
/// one that he may call.
/// Guarantee: nothing of it is there for him.
#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_can_join_and_nothing_else() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    let channel = visiting(&world, &line).await.channel;
    let mut answers: Vec<(&str, Status)> = Vec::new();
    let mut note = |what, outcome: Result<(), Status>| match outcome {
        Ok(()) => panic!("{what} can be reached without a certificate"),
        Err(status) => answers.push((what, status)),
    };
    let opened = ExchangeServiceClient::new(channel.clone())
        .exchange(tokio_stream::pending::<v1::ExchangeRequest>())
        .await;
    note("exchange", opened.map(drop));
    let mut gateway = GatewayServiceClient::new(channel.clone());
    note(
        "submit",
        gateway.submit(v1::SubmitRequest::default()).await.map(drop),
    );
    let fetched = gateway.fetch_inbox(v1::FetchInboxRequest::default()).await;
    note("inbox", fetched.map(drop));
    let mut directory = DirectoryServiceClient::new(channel.clone());
    let listed = directory.list_parties(v1::ListPartiesRequest {}).await;
    note("directory", listed.map(drop));
    let mut sync = SyncHealthServiceClient::new(channel.clone());
    let status = sync.get_sync_status(v1::GetSyncStatusRequest::default());
    note("sync health", status.await.map(drop));
    let mut attachments = AttachmentServiceClient::new(channel.clone());
    let asked = attachments.get_attachment(v1::GetAttachmentRequest::default());
    note("attachments", asked.await.map(drop));
    let mut health = HealthClient::new(channel.clone());
    let checked = health.check(HealthCheckRequest::default()).await;
    note("health", checked.map(drop));
    let mut enrolment = EnrolmentServiceClient::new(channel.clone());
    let invited = enrolment.invite(v1::InviteRequest::default()).await;
    note("invite", invited.map(drop));
    let listed = enrolment.list_invitations(v1::ListInvitationsRequest {});
    note("invitations", listed.await.map(drop));
    let revoked = enrolment.revoke_invitation(v1::RevokeInvitationRequest::default());
    note("revoke", revoked.await.map(drop));
    let listed = enrolment.list_certificates(v1::ListCertificatesRequest::default());
    note("certificates", listed.await.map(drop));
    let renewed = enrolment.renew(v1::RenewRequest {
        signing_request: fresh_request(),
    });
    note("renew", renewed.await.map(drop));
    assert_eq!(answers.len(), 12);
    for (what, status) in answers {
        assert_eq!(status.code(), Code::Unimplemented, "{what}: {status:?}");
    }
}

/// TLS without a certificate, with these protocols, from an address of this
/// machine.
async fn shake_hands(
    world: &World,
    from: &str,
    protocols: &[&[u8]],
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(world.pki("ca.pem")).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|found| found.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(world.links()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let shaken = connector.connect(name, stream).await;
    shaken.map_err(|error| error.to_string())
}

/// How many bytes the hub answers to the beginning of HTTP/2.
async fn knock(mut stream: TlsStream<TcpStream>) -> Result<usize, String> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream
        .write_all(preface)
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await;
    read.map_err(|error| error.to_string())
}

/// Both, from the usual address.
async fn come(world: &World, protocols: &[&[u8]]) -> Result<usize, String> {
    knock(shake_hands(world, "127.0.0.1", protocols).await?).await
}

/// Scenario: callers without certificate who say nothing of joining, who say
/// that they come for both, and who come to join; a hub that lets people join.
/// Guarantee: only who comes to join and for nothing else gets past TLS; the
/// port stays closed to the others, as without `[enrolment]`.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_stays_closed_to_others() {
    let world = enrolling(86_400);
    for protocols in [&[b"h2".as_slice()][..], &[], &[JOIN_PROTOCOL, b"h2"]] {
        let found = come(&world, protocols).await;
        assert!(found.is_err(), "{protocols:?}: {found:?}");
    }
    assert!(come(&world, &[JOIN_PROTOCOL]).await.unwrap() > 0);
    crate::cli::until("the hub says why", || {
        world.hub.log().contains("NO_CERTIFICATE")
    });
    let off = World::new();
    let found = come(&off, &[JOIN_PROTOCOL]).await;
    assert!(found.is_err(), "{found:?}");
}

/// Scenario: one address opens visits and says nothing on them; more come from
/// there, one comes from another address; then one of the first leaves.
/// Guarantee: an address has four visits and no more, whoever comes from
/// elsewhere is let in meanwhile, the hub's log says why others were not, and a
/// place that was left can be taken again.
#[tokio::test(flavor = "multi_thread")]
async fn one_address_can_not_keep_others_from_joining() {
    let world = enrolling(86_400);
    let visit = |from: &'static str| shake_hands(&world, from, &[JOIN_PROTOCOL]);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(visit("127.0.0.1").await.unwrap());
    }
    // A visitor has its place when its handshake is over at the hub, which may
    // be a moment later than here.
    let is_out = |found: Result<usize, String>| matches!(found, Ok(0) | Err(_));
    eventually("the fifth is refused", async || {
        is_out(come(&world, &[JOIN_PROTOCOL]).await)
    })
    .await;
    assert!(is_out(come(&world, &[JOIN_PROTOCOL]).await));
    let elsewhere = knock(visit("127.0.0.2").await.unwrap()).await;
    assert!(elsewhere.unwrap() > 0, "another address is let in");
    eventually("the log says why", async || {
        world.hub.log().contains("TOO_MANY_VISITORS")
    })
    .await;
    drop(silent.pop());
    eventually("a place that was left is taken", async || {
        come(&world, &[JOIN_PROTOCOL])
            .await
            .is_ok_and(|answer| answer > 0)
    })
    .await;
}

/// Scenario: a foreign client (Python grpcio) with the right root and no
/// certificate calls what a party calls, and what joins.
/// Guarantee: it is not let in at all: what grpcio can offer is HTTP/2 only.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_without_certificate_stays_outside() {
    let Some(python) = python_with_protobuf() else {
        return;
    };
    let world = enrolling(86_400);
    let script = r#"
import sys, grpc
roots = open(sys.argv[2], "rb").read()
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(root_certificates=roots))
for method in ["EnrolmentService/Join", "EnrolmentService/Renew", "GatewayService/Submit", "ExchangeService/Exchange"]:
    call = channel.unary_unary("/jembatan.v1." + method, request_serializer=bytes, response_deserializer=bytes)
    try:
        call(b"", timeout=5)
        print(method, "ANSWERED")
    except grpc.RpcError as error:
        print(method, error.code().name)
"#;
    let address = world.links().to_string().replace("127.0.0.1", "localhost");
    let output = std::process::Command::new(python)
        .args(["-c", script, &address])
        .arg(world.pki("ca.pem"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().count(), 4, "{output:?}");
    for line in said.lines() {
        let outside = line.ends_with("UNAVAILABLE") || line.ends_with("DEADLINE_EXCEEDED");
        assert!(outside, "{said}");
    }
}

/// Scenario: five wrong codes come from one address, guessed for an invitation
/// that is known; then the right one comes from there, and a right one of
/// another party.
/// Guarantee: whoever has guessed waits, with the right code too, and is told
/// how long; all of it stands in the hub's list, without any code.
#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_codes_have_to_wait() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    // The id is right, the secret is not.
    let id = parsed(&line).code.id();
    let guess = InvitationCode::parse(&format!("{id}{}", "0".repeat(32))).unwrap();
    for _ in 0..5 {
        let mut client = EnrolmentServiceClient::new(visiting(&world, &line).await.channel);
        let request = v1::JoinRequest {
            code: guess.reveal(),
            signing_request: fresh_request(),
            party: NEW.to_owned(),
        };
        let status = client.join(request).await.unwrap_err();
        assert_eq!(reason(&status), "CODE_UNKNOWN", "{status:?}");
    }
    let said = join(&world, &line, "node", &[]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("TOO_MANY_WRONG_CODES"), "{}", said.err);
    assert!(said.err.contains("(for "), "{}", said.err);
    let mut client = EnrolmentServiceClient::new(visiting(&world, &line).await.channel);
    let right = v1::JoinRequest {
        code: parsed(&line).code.reveal(),
        signing_request: fresh_request(),
        party: NEW.to_owned(),
    };
    let status = client.join(right).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let wait = status.get_error_details().retry_info().unwrap().retry_delay;
    assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(60)));

    let shown = at(&world.hub, &["parties", "invites", "--output", "json"]).good();
    let refused = shown.json()["refused"].as_array().unwrap().clone();
    assert_eq!(refused.len(), 5);
    assert!(
        refused
            .iter()
            .all(|found| found["invitation"] == id.as_str())
    );
    assert!(!shown.out.contains(&guess.reveal()));
    let unused = forged(&line, |_| {});
    assert_eq!(unused, line, "the line itself is good still");
}

/// Scenario: requests that are none, that are too large, whose signature does
/// not fit; and one that asks for the hub's name.
/// Guarantee: the first are refused by name, and do not use the code up; names
/// of a request are never taken over.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_request_only_the_key_counts() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    let ask = async |signing_request: Vec<u8>| {
        let mut client = EnrolmentServiceClient::new(visiting(&world, &line).await.channel);
        let request = v1::JoinRequest {
            code: parsed(&line).code.reveal(),
            signing_request: signing_request.into(),
            party: NEW.to_owned(),
        };
        client.join(request).await
    };
    let mut forged = fresh_request().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for wrong in [Vec::new(), vec![0x30; 20_000], forged] {
        let status = ask(wrong).await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_UNUSABLE", "{status:?}");
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["hub.example".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    let uri = "spiffe://jembatan.example/hub".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let request = params.serialize_request(&key).unwrap();
    let given = ask(request.der().to_vec()).await.unwrap().into_inner();
    let domain = jembatan::identity::TrustDomain::parse("jembatan.example").unwrap();
    let leaf = CertificateDer::from(given.certificate_chain[0].to_vec());
    let found = jembatan::identity::PeerIdentity::of(&leaf, &domain).unwrap();
    assert_eq!(
        found.uris,
        [format!("spiffe://jembatan.example/party/{NEW}")]
    );
    assert_eq!(found.names, Vec::<String>::new());
}
