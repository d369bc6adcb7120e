//! Sessions of real processes over real TLS: who loses his right, who shares a
//! certificate, and how new certificates are taken into use.

use std::{path::Path, time::Duration};

use jembatan::{
    domain::{Micros, PartyId},
    identity::{Files, Material, Purpose, TrustDomain, show},
    transport::{DialOptions, dial},
    wire::v1::{
        self, exchange_service_client::ExchangeServiceClient,
        gateway_service_client::GatewayServiceClient,
    },
};
use serde_json::Value;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{Node, World, complaint, connected, eventually, now, submit};

const DAY: i64 = 86_400_000_000;
const CRLS: &str = "crls = [\"pki/crl.pem\"]";

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

pub(crate) fn verdict(sync: &v1::PartySync) -> v1::Verdict {
    v1::Verdict::try_from(sync.verdict).unwrap()
}

/// Waits for a verdict whose explanation names this.
pub(crate) async fn stands(node: &Node, party: &str, wanted: v1::Verdict, word: &str) {
    eventually(&format!("{party} is {wanted:?} {word}"), || async {
        let sync = node.sync(party).await;
        verdict(&sync) == wanted && sync.explanation.contains(word)
    })
    .await;
}

pub(crate) async fn healthy(node: &Node, party: &str) {
    stands(node, party, v1::Verdict::Healthy, "").await;
}

/// The lines of a log with this event.
pub(crate) fn events(node: &Node, event: &str) -> Vec<Value> {
    node.log()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == event)
        .collect()
}

fn serial(world: &World, name: &str) -> String {
    show(&world.pki(name), &domain()).unwrap().0.serial
}

/// A channel with a party's present certificate.
async fn channel(world: &World, party: &str) -> Channel {
    let files = Files {
        certificate: world.pki(&format!("{party}.pem")),
        key: world.pki(&format!("{party}.key")),
        roots: world.pki("ca.pem"),
        crls: Vec::new(),
    };
    let purpose = Purpose::Party(PartyId::parse(party).unwrap());
    let material = Material::load(&files, &purpose, &domain(), now()).unwrap();
    let options = DialOptions {
        address: world.links().to_string(),
        name: "localhost".to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(10),
    };
    let dialed = dial(&options, &material, &domain()).await.unwrap();
    dialed.channel
}

/// A unary party.
async fn unary(world: &World, party: &str) -> GatewayServiceClient<Channel> {
    world.issue_party(party);
    GatewayServiceClient::new(channel(world, party).await)
}

/// A client of the stream that says what a test wants.
async fn stream_client(world: &World, party: &str) -> ExchangeServiceClient<Channel> {
    ExchangeServiceClient::new(channel(world, party).await)
}

/// The first frame of a node that has nothing yet.
fn open(party: &str, versions: &[u32]) -> v1::ExchangeRequest {
    let root = |direction| {
        let party = PartyId::parse(party).unwrap();
        let place = jembatan::exchange::Place::root(&party, direction, 1);
        v1::Place {
            position: 0,
            chain: place.chain.as_bytes().to_vec().into(),
        }
    };
    let submissions = root(jembatan::exchange::Direction::Submissions);
    let open = v1::Open {
        versions: versions.to_vec(),
        instance_id: vec![1; 16].into(),
        software: "other/9.0".to_owned(),
        head_chain: submissions.chain.clone(),
        acknowledged: Some(submissions),
        received: Some(root(jembatan::exchange::Direction::Deliveries)),
        sent_at: Some(jembatan::wire::timestamp(now())),
        ..v1::Open::default()
    };
    let frame = v1::Frame {
        kind: Some(v1::frame::Kind::Open(open)),
    };
    v1::ExchangeRequest { frame: Some(frame) }
}

/// Scenario: two parties are connected, a unary one waits for its inbox in a
/// call; then the CA's revocation list, which the hub reads again, names one of
/// the two and the unary one.
/// Guarantee: both are out within seconds, the waiting call included, and can't
/// come back; their own operators are told that it is a revocation, the hub
/// shows it; the third notices nothing; a new certificate opens again.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_ends_what_is_live() {
    let world = World::with_hub_tls(CRLS);
    let city = world.adapter("pemda-33.74");
    let province = world.adapter("pemda-33");
    healthy(&city, "pemda-33.74").await;
    healthy(&province, "pemda-33").await;
    let undisturbed = province.sync("pemda-33").await.since;
    let mut partner = unary(&world, "mitra").await;
    let request = submit(complaint("M-1"), 0);
    partner.submit(request.clone()).await.unwrap();
    let fetch = |after: String| v1::FetchInboxRequest {
        after,
        wait_ms: 30_000,
        limit: 1,
    };
    // Behind the decision on its complaint there is nothing more to come.
    let decided = partner.fetch_inbox(fetch(String::new())).await.unwrap();
    let cursor = decided.into_inner().items.remove(0).cursor;
    let mut waits = partner.clone();
    let waiting = tokio::spawn(async move { waits.fetch_inbox(fetch(cursor)).await });
    // A second call on the same connection: the first one has begun to wait.
    partner.submit(request.clone()).await.unwrap();
    assert!(!waiting.is_finished());
    for name in ["pemda-33.74.pem", "mitra.pem"] {
        let serial = serial(&world, name);
        world.authority.revoke(&serial, now()).unwrap();
    }
    let revoked = v1::Verdict::Refused;
    stands(&city, "pemda-33.74", revoked, "OWN_CERTIFICATE_REVOKED").await;
    stands(&world.hub, "pemda-33.74", revoked, "CERTIFICATE_REVOKED").await;
    eventually("the unary party is out", || async {
        partner.clone().submit(request.clone()).await.is_err()
    })
    .await;
    let cut = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert!(cut.unwrap().unwrap().is_err(), "its waiting call has ended");
    assert_eq!(province.sync("pemda-33").await.since, undisturbed);
    healthy(&province, "pemda-33").await;
    world.issue_party("pemda-33.74");
    healthy(&city, "pemda-33.74").await;
    healthy(&world.hub, "pemda-33.74").await;
}

/// Scenario: the CA forgot to renew its revocation list, and the hub starts
/// with the expired one; later a fresh list comes.
/// Guarantee: who is on it stays out, everybody else comes in, and the hub
/// alarms in log, status and metrics, until the fresh list is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_revocation_list_stays_in_force_and_alarms() {
    let world = World::with_hub_tls(CRLS);
    world.issue_party("pemda-33.74");
    let serial = serial(&world, "pemda-33.74.pem");
    // It promised to be renewed within 30 days, 10 days ago.
    let then = Micros(now().0 - 40 * DAY);
    world.authority.revoke(&serial, then).unwrap();
    let alarms = || async {
        let request = v1::GetSyncStatusRequest::default();
        let answer = world.hub.health().await.get_sync_status(request).await;
        answer.unwrap().into_inner().alarms
    };
    eventually("the alarm", || async {
        let found = alarms().await;
        found.iter().any(|alarm| alarm.reason == "CRL_EXPIRED")
    })
    .await;
    let alarm = alarms().await.remove(0);
    for word in [
        "crl.pem",
        "240 hours ago",
        "stays in force",
        "fetch the new",
    ] {
        assert!(alarm.explanation.contains(word), "{}", alarm.explanation);
    }
    let said = events(&world.hub, "crl_expired");
    assert_eq!(said.len(), 1, "said once, not every two seconds");
    assert_eq!(said[0]["level"], "ERROR");
    assert!(
        metrics(&world.hub)
            .await
            .contains("jembatan_alarms{reason=\"crl_expired\"} 1")
    );
    let province = world.adapter("pemda-33");
    healthy(&province, "pemda-33").await;
    let city = world.adapter_with("city", "pemda-33.74", |file| file);
    let refused = v1::Verdict::Refused;
    stands(&city, "pemda-33.74", refused, "OWN_CERTIFICATE_REVOKED").await;
    let refusals = events(&world.hub, "tls_refused");
    let why = refusals[0]["why"].as_str().unwrap();
    assert!(
        why.contains("party/pemda-33.74") && why.contains(&serial),
        "{why}"
    );
    assert!(
        metrics(&world.hub)
            .await
            .contains("reason=\"certificate_revoked\"} ")
    );

    world.authority.revoke(&serial, now()).unwrap();
    eventually("no alarm any more", || async { alarms().await.is_empty() }).await;
}

async fn metrics(node: &Node) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What both kinds of second machines must lead to: hub and loser alarm, the
/// loser stays away, the winner works.
async fn one_of_two_waits(world: &World, first: &Node, second: &Node, kind: &str) {
    let party = "pemda-33.74";
    let loser = async |node: &Node| {
        let sync = node.sync(party).await;
        verdict(&sync) == v1::Verdict::Refused && sync.explanation.contains("TWO_INSTANCES")
    };
    eventually("one of the two has lost", || async {
        loser(first).await || loser(second).await
    })
    .await;
    let (lost, winner) = if loser(first).await {
        (first, second)
    } else {
        (second, first)
    };
    healthy(winner, party).await;
    stands(&world.hub, party, v1::Verdict::Attention, "TWO_INSTANCES").await;
    let told = world.hub.sync(party).await.explanation;
    assert!(
        told.contains(kind) && told.contains("stop one of them"),
        "{told}"
    );
    for (node, whose) in [(&world.hub, "hub"), (lost, "loser")] {
        let said = events(node, "two_instances_of_one_party");
        assert!(!said.is_empty(), "{whose}: {}", node.log());
        assert_eq!(said[0]["level"], "ERROR", "{whose}");
    }
    // The winner works undisturbed; who flapped every second would be seen in
    // this time.
    let opened = events(&world.hub, "session_opened").len();
    let before = winner.sync(party).await.since;
    let mut door = winner.gateway().await;
    for number in 0..20 {
        let request = submit(complaint(&format!("W-{kind}-{number}")), 20_000);
        let receipt = door.submit(request).await.unwrap().into_inner().receipt;
        assert_eq!(receipt.unwrap().progress, v1::Progress::Accepted as i32);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(events(&world.hub, "session_opened").len(), opened);
    assert_eq!(winner.sync(party).await.since, before);
    assert!(loser(lost).await, "it waits for a minute, and says why");
}

/// Scenario: a second machine, with a data directory of its own, is given a
/// running party's certificate.
/// Guarantee: hub and loser alarm and name it, the loser waits for a minute,
/// the winner works.
#[tokio::test(flavor = "multi_thread")]
async fn two_machines_with_one_certificate() {
    let world = World::new();
    let first = world.adapter("pemda-33.74");
    healthy(&first, "pemda-33.74").await;
    let second = world.adapter_with("second", "pemda-33.74", |file| {
        file.replace("pemda-33.74-data", "second-data")
    });
    one_of_two_waits(&world, &first, &second, "two machines use").await;
}

/// Scenario: a machine is cloned, its data directory with it, and both run.
/// Guarantee: the same; a plain restart of one machine is no alarm.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_machine() {
    let world = World::new();
    let mut first = world.adapter("pemda-33.74");
    healthy(&first, "pemda-33.74").await;
    first.restart();
    healthy(&first, "pemda-33.74").await;
    assert!(events(&world.hub, "two_instances_of_one_party").is_empty());
    first.kill();
    let at = |name: &str| world.directory.path().join(name);
    copy_directory(&at("pemda-33.74-data"), &at("copy-data"));
    first.restart();
    healthy(&first, "pemda-33.74").await;
    let second = world.adapter_with("second", "pemda-33.74", |file| {
        file.replace("pemda-33.74-data", "copy-data")
    });
    one_of_two_waits(&world, &first, &second, "a copy of one data directory").await;
}

/// Scenario: complaints are handed over one after the other, each waiting for
/// the hub's decision, while first the party's certificate and then the hub's
/// is replaced in the running processes.
/// Guarantee: nothing stops: every decision comes within its call, the party's
/// new session is let in before the old one ends, nobody is fenced or waits;
/// the hub's replacement brings the link back at once.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_in_mid_stream() {
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    healthy(&city, "pemda-33.74").await;
    let gateway = city.gateway().await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        let mut number = 0;
        while !*stopped.borrow_and_update() {
            number += 1;
            let began = std::time::Instant::now();
            let request = submit(complaint(&format!("L-{number}")), 20_000);
            let answer = gateway.clone().submit(request).await.unwrap();
            let receipt = answer.into_inner().receipt.unwrap();
            assert_eq!(receipt.progress, v1::Progress::Accepted as i32, "{number}");
            longest = longest.max(began.elapsed());
        }
        (number, longest)
    });
    let connected_since = city.sync("pemda-33.74").await.since;
    for round in 1..=3 {
        world.issue_party("pemda-33.74");
        eventually("the new certificate is in use", || async {
            events(&city, "link_renewed").len() == round
        })
        .await;
        let serial = serial(&world, "pemda-33.74.pem");
        eventually("at the hub too", || async {
            let opened = events(&world.hub, "session_opened");
            opened.last().unwrap()["serial"] == serial
        })
        .await;
    }
    assert_eq!(
        city.sync("pemda-33.74").await.since,
        connected_since,
        "never disconnected"
    );
    let log = city.log();
    for event in ["link_lost", "link_drained", "link_refused"] {
        assert!(events(&city, event).is_empty(), "{event}: {log}");
    }
    let hub = jembatan::identity::Subject::Hub(vec!["localhost".to_owned()]);
    let before = events(&world.hub, "session_opened").len();
    crate::support::issue(&world.authority, "hub", &hub);
    eventually("the hub's new certificate is in use", || async {
        events(&world.hub, "session_opened").len() > before
    })
    .await;
    healthy(&city, "pemda-33.74").await;
    stop.send_replace(true);
    let (number, longest) = load.await.unwrap();
    println!("{number} complaints, the longest took {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let ended = events(&world.hub, "session_ended");
    let why = ended.last().unwrap()["why"].as_str().unwrap();
    assert_eq!(why, "ended by the hub: Reloaded");
    for node in [&city, &world.hub] {
        let contest = events(node, "two_instances_of_one_party");
        assert!(contest.is_empty(), "{}", node.log());
    }
    let counts = world.hub.sync("pemda-33.74").await.counts.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (number, 0));
}

/// Scenario: a node that speaks only a later version of the protocol opens.
/// Guarantee: it is told so with its reason and both versions, and the hub
/// shows the party as refused for that, not for its registration.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_named_at_both_ends() {
    let world = World::new();
    world.issue_party("pemda-33");
    let mut client = stream_client(&world, "pemda-33").await;
    let outbound = tokio_stream::iter([open("pemda-33", &[98, 99])]);
    let mut inbound = client.exchange(outbound).await.unwrap().into_inner();
    let status = inbound.message().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let info = status.get_error_details().error_info().cloned().unwrap();
    assert_eq!(info.reason, "UNSUPPORTED_VERSION");
    assert!(status.message().contains("[98, 99]"), "{status:?}");
    let refused = v1::Verdict::Refused;
    stands(&world.hub, "pemda-33", refused, "UNSUPPORTED_VERSION").await;
    let told = world.hub.sync("pemda-33").await.explanation;
    assert!(
        told.contains("other/9.0") && told.contains("stays there"),
        "{told}"
    );
}

/// Scenario: the hub announced a minimum version; its moment has come, and a
/// node has older software. Then the hub's operator takes it back.
/// Guarantee: the link is refused under that name at both ends, what is handed
/// over meanwhile is kept, and goes out once the node is let in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_version_refuses_the_link_and_keeps_the_queue() {
    let mut world = World::new();
    let city = world.adapter("pemda-33.74");
    healthy(&city, "pemda-33.74").await;
    let file = world.directory.path().join("hub.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let announce = "[announce]\nminimum_version = \"jembatan/99.0.0\"\nminimum_version_from = \"2026-01-01T00:00:00+07:00\"\n";
    std::fs::write(&file, format!("{text}\n{announce}")).unwrap();
    world.hub.restart();
    let refused = v1::Verdict::Refused;
    for node in [&city, &world.hub] {
        stands(node, "pemda-33.74", refused, "SOFTWARE_TOO_OLD").await;
    }
    let told = city.sync("pemda-33.74").await.explanation;
    assert!(told.contains("jembatan/99.0.0"), "{told}");
    assert!(told.contains("what waits here stays here"), "{told}");
    let mut door = city.gateway().await;
    for number in 0..5 {
        let request = submit(complaint(&format!("V-{number}")), 0);
        door.submit(request).await.unwrap();
    }
    let kept = city.sync("pemda-33.74").await.submissions.unwrap();
    assert_eq!(kept.backlog, 5);
    std::fs::write(&file, text).unwrap();
    world.hub.restart();
    // A refused link tries slowly; a new certificate makes it try at once.
    world.issue_party("pemda-33.74");
    eventually("what waited has arrived", || async {
        let place = world.hub.place("pemda-33.74", v1::Journal::Submissions);
        place.await.position == 5
    })
    .await;
}

async fn set_enabled(world: &World, party: &str, enabled: bool) {
    let request = v1::SetPartyEnabledRequest {
        party: party.to_owned(),
        enabled,
    };
    let mut directory = world.hub.directory().await;
    directory.set_party_enabled(request).await.unwrap();
}

/// Scenario: a party has been judged and its stream stands, but it holds its
/// Open back; it is disabled, and only then sends Open.
/// Guarantee: it gets no session: who loses his right between the two is seen
/// by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_lost_before_open_opens_nothing() {
    let world = World::new();
    world.issue_party("pemda-33");
    let mut client = stream_client(&world, "pemda-33").await;
    let (say, said) = tokio::sync::mpsc::channel(1);
    let outbound = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut inbound = client.exchange(outbound).await.unwrap().into_inner();
    set_enabled(&world, "pemda-33", false).await;
    say.send(open("pemda-33", &[1])).await.unwrap();
    let status = inbound.message().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(events(&world.hub, "session_opened").is_empty());
    stands(&world.hub, "pemda-33", v1::Verdict::Disabled, "").await;
}

/// Scenario: a party that the hub does not know, one that is disabled, one that
/// is registered as unary, and one whose certificate the hub has revoked.
/// Guarantee: all four hear the same, to the letter; the hub's log tells them
/// apart, and its status shows those that it knows.
#[tokio::test(flavor = "multi_thread")]
async fn the_refused_can_not_tell_why() {
    let world = World::new();
    for party in ["pemda-99", "pemda-33", "mitra", "pemda-33.74"] {
        world.issue_party(party);
    }
    set_enabled(&world, "pemda-33", false).await;
    let revoke = v1::RevokeCertificateRequest {
        serial: serial(&world, "pemda-33.74.pem"),
        note: "test".to_owned(),
    };
    let mut directory = world.hub.directory().await;
    directory.revoke_certificate(revoke).await.unwrap();
    let heard = async |party: &str| -> (Code, String, Vec<u8>) {
        let mut client = stream_client(&world, party).await;
        let outbound = tokio_stream::iter([open(party, &[1])]);
        let status: Status = client.exchange(outbound).await.unwrap_err();
        let details = status.details().to_vec();
        (status.code(), status.message().to_owned(), details)
    };
    let first = heard("pemda-99").await;
    assert_eq!(first.0, Code::PermissionDenied);
    for (party, reason) in [
        ("pemda-33", "PARTY_DISABLED"),
        ("mitra", "WRONG_MODE"),
        ("pemda-33.74", "CERTIFICATE_REVOKED"),
    ] {
        assert_eq!(heard(party).await, first, "{party}");
        let noted = events(&world.hub, "party_refused");
        let noted = noted.last().unwrap();
        assert_eq!(noted["party"], party);
        assert_eq!(noted["reason"], reason);
    }
    let refused = v1::Verdict::Refused;
    stands(&world.hub, "pemda-33.74", refused, "CERTIFICATE_REVOKED").await;
}

/// Scenario: an adapter of two parties starts while the key of one is not
/// there; then its files come.
/// Guarantee: the node runs: the other party's link is up, and this one stands
/// as refused and says which file; it comes up without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn one_party_without_a_certificate_stops_nobody() {
    let world = World::new();
    world.issue_party("pemda-33");
    let node = world.adapter_with("two", "pemda-33", |text| {
        let second = "[[party]]\nid = \"pemda-33.74\"\ncertificate = \"pki/pemda-33.74.pem\"\nkey = \"pki/pemda-33.74.key\"\n[tls]";
        text.replacen("[tls]", second, 1)
    });
    connected(&world, &node, "pemda-33").await;
    let refused = node.sync("pemda-33.74").await;
    assert_eq!(refused.verdict, v1::Verdict::Refused as i32, "{refused:?}");
    let shown = format!("{refused:?}");
    assert!(shown.contains("FILE_UNREADABLE"), "{shown}");
    assert!(shown.contains("pemda-33.74.pem"), "{shown}");
    world.issue_party("pemda-33.74");
    connected(&world, &node, "pemda-33.74").await;
}
