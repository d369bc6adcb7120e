//! Honest health: red when the store can't write or a key is unusable, service
//! by service, and why.

use std::time::Duration;

use jembatan::{
    domain::PartyId,
    identity::{Files, Material, Purpose, TrustDomain},
    transport::{DialOptions, dial},
};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    doors::{curl, has, run},
    support::{Node, World, complaint, eventually, missing, now, submit},
};

async fn door_health(node: &Node) -> HealthClient<Channel> {
    let uri = format!("http://{}", node.grpc);
    HealthClient::new(Channel::from_shared(uri).unwrap().connect().await.unwrap())
}

/// The mutual-TLS port, as a party reaches it.
pub(crate) async fn as_party(world: &World, party: &str) -> Channel {
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let files = Files {
        certificate: world.pki(&format!("{party}.pem")),
        key: world.pki(&format!("{party}.key")),
        roots: world.pki("ca.pem"),
        crls: Vec::new(),
    };
    let purpose = Purpose::Party(PartyId::parse(party).unwrap());
    let material = Material::load(&files, &purpose, &domain, now()).unwrap();
    let options = DialOptions {
        address: world.links().to_string(),
        name: "localhost".to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(20),
    };
    dial(&options, &material, &domain).await.unwrap().channel
}

async fn check(client: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let service = service.to_owned();
    let answer = client.check(HealthCheckRequest { service }).await.unwrap();
    answer.into_inner().status()
}

fn ready(node: &Node) -> (u16, Value) {
    curl(&[&format!("http://{}/readyz", node.http)])
}

fn metrics(node: &Node) -> String {
    let output = run("curl", &["-s", &format!("http://{}/metrics", node.http)]);
    String::from_utf8(output.stdout).unwrap()
}

fn problem(ready: &Value, name: &str) -> String {
    let checks = ready["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["check"] == name);
    found.unwrap()["why"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Scenario: another program holds the store's file, so that the node can't
/// write; somebody watches the gateway service, somebody hands over; then it lets
/// go, and the same is handed over again.
/// Guarantee: the watcher is told NOT_SERVING, and SERVING again afterwards; the
/// caller is told that nothing was stored, and may send it again; /readyz names the
/// store; sync health, which tells of such trouble, stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_write_turns_the_door_red() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let mut health = door_health(&city).await;
    let service = "jembatan.v1.GatewayService".to_owned();
    let watch = health.watch(HealthCheckRequest { service }).await.unwrap();
    let mut watch = watch.into_inner();
    let mut told = async || watch.message().await.unwrap().unwrap().status();
    while told().await != ServingStatus::Serving {}

    let path = world.directory.path().join("pemda-33.74-data/jembatan.db");
    let other = rusqlite::Connection::open(path).unwrap();
    other.busy_timeout(Duration::from_secs(20)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let red = tokio::time::timeout(Duration::from_secs(60), told()).await;
    assert_eq!(red.unwrap(), ServingStatus::NotServing);
    let (code, answer) = ready(&city);
    assert_eq!((code, &answer["ready"]), (503, &json!(false)), "{answer}");
    assert!(!problem(&answer, "store").is_empty(), "{answer}");
    assert_eq!(problem(&answer, "certificate pemda-33.74"), "");
    // The services of a port are told one after the other.
    eventually("the whole port is red", || {
        let mut health = health.clone();
        async move { check(&mut health, "").await == ServingStatus::NotServing }
    })
    .await;
    assert_eq!(
        check(&mut health, "jembatan.v1.SyncHealthService").await,
        ServingStatus::Serving
    );

    let mut gateway = city.gateway().await;
    let refused = gateway.submit(submit(complaint("H-1"), 0)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");

    other.execute_batch("ROLLBACK").unwrap();
    let green = tokio::time::timeout(Duration::from_secs(60), told()).await;
    assert_eq!(green.unwrap(), ServingStatus::Serving);
    let again = gateway.submit(submit(complaint("H-1"), 0)).await.unwrap();
    let again = again.into_inner().receipt.unwrap();
    assert!(!again.repeated_handover, "nothing was stored");
}

/// Scenario: the hub's key file is damaged while it runs, then repaired; a
/// party asks for health on the mutual-TLS port, and for reflection.
/// Guarantee: what needs the certificate is NOT_SERVING and /readyz says which
/// file; the national door, which needs none, goes on; metrics show failures,
/// days left, verdicts and sessions; all is green again afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_key_turns_the_links_red() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    world.issue_party("mitra");
    let links = HealthClient::new(as_party(&world, "mitra").await);
    let mut door = door_health(&world.hub).await;
    let exchange = "jembatan.v1.ExchangeService";
    for service in ["", exchange, "jembatan.v1.GatewayService"] {
        eventually("serving", || {
            let mut links = links.clone();
            async move { check(&mut links, service).await == ServingStatus::Serving }
        })
        .await;
    }
    for service in [
        "",
        "jembatan.v1.DirectoryService",
        "jembatan.v1.SyncHealthService",
    ] {
        eventually("the door serves", || {
            let mut door = door.clone();
            async move { check(&mut door, service).await == ServingStatus::Serving }
        })
        .await;
    }
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
            as_party(&world, "mitra").await,
        );
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
    };
    let answer = reflection
        .server_reflection_info(tokio_stream::iter([ask]))
        .await;
    let answer = answer
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert!(format!("{answer:?}").contains(exchange));

    let _city = world.adapter("pemda-33.74");
    let key = std::fs::read(world.pki("hub.key")).unwrap();
    std::fs::write(world.pki("hub.key"), "damaged").unwrap();
    eventually("the exchange is red", || {
        let mut links = links.clone();
        async move { check(&mut links, exchange).await == ServingStatus::NotServing }
    })
    .await;
    assert_eq!(
        check(&mut door, "jembatan.v1.GatewayService").await,
        ServingStatus::Serving,
        "the national door needs no certificate"
    );
    let (code, answer) = ready(&world.hub);
    assert_eq!(code, 503, "{answer}");
    assert!(
        problem(&answer, "certificate hub").contains("hub.key"),
        "{answer}"
    );
    eventually("the city's session is counted", || async {
        metrics(&world.hub).contains("jembatan_sessions 1")
    })
    .await;
    let text = metrics(&world.hub);
    for line in [
        "jembatan_certificate_reload_failures_total{certificate=\"hub\"} 1",
        "jembatan_certificate_files_unusable{certificate=\"hub\"} 1",
        "jembatan_link_verdict{party=\"pemda-33.74\",verdict=\"healthy\"} 1",
        "jembatan_link_verdict{party=\"pemda-33.74\",verdict=\"stalled\"} 0",
        "jembatan_link_verdict{party=\"pemda-33\",verdict=\"never_connected\"} 1",
        "jembatan_entries_waiting{party=\"pemda-33.74\"} 0",
        "jembatan_oldest_waiting_seconds{party=\"pemda-33.74\"} 0",
        "jembatan_orphans 0",
        "jembatan_in_triage 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let left = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("jembatan_certificate_expires_seconds{certificate=\"hub\"} ")
        })
        .unwrap();
    let left: i64 = left.parse().unwrap();
    assert!((29 * 86_400..=30 * 86_400).contains(&left), "{left}");

    std::fs::write(world.pki("hub.key"), key).unwrap();
    eventually("green again", || async { ready(&world.hub).0 == 200 }).await;
    eventually("and the exchange", || {
        let mut links = links.clone();
        async move { check(&mut links, exchange).await == ServingStatus::Serving }
    })
    .await;
}
