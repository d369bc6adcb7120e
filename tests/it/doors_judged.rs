//! Who calls is judged at each call, and what does not fit in is refused.

use std::time::Duration;

use jembatan::{
    domain::{Micros, PartyId},
    identity::{Lifetime, Subject, write_new},
    wire::v1::{self, gateway_service_client::GatewayServiceClient},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    doors::{curl, has, run},
    doors_health::as_party,
    support::{World, complaint, eventually, missing, now, submit},
};

fn streamed(reference: &str) -> v1::SubmitStreamRequest {
    v1::SubmitStreamRequest {
        handover: submit(complaint(reference), 0).handover,
    }
}

fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .unwrap()
        .reason
        .clone()
}

/// Scenario: a unary party with an open stream of hand-overs, and a fetch that
/// waits, is disabled; it goes on sending, and calls.
/// Guarantee: what it sends or waits for from then on is refused with the reason for
/// machines and an Indonesian message; nothing of it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_outlive_the_right_to_it() {
    let world = World::new();
    world.issue_party("mitra");
    let mut gateway = GatewayServiceClient::new(as_party(&world, "mitra").await);
    let (send, items) = tokio::sync::mpsc::channel(4);
    let items = tokio_stream::wrappers::ReceiverStream::new(items);
    send.send(streamed("S-1")).await.unwrap();
    let mut answers = gateway.submit_stream(items).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(matches!(
        first.result,
        Some(v1::submit_stream_response::Result::Receipt(_))
    ));

    let cursor = {
        let answer = gateway.fetch_inbox(v1::FetchInboxRequest::default()).await;
        answer.unwrap().into_inner().items.pop().unwrap().cursor
    };
    // Waits for what comes next, beyond the moment below, and not so long that
    // the hub, two seconds after it, cuts the connection instead.
    let waiting = tokio::spawn({
        let mut gateway = gateway.clone();
        let request = v1::FetchInboxRequest {
            after: cursor,
            wait_ms: 700,
            limit: 0,
        };
        async move { gateway.fetch_inbox(request).await }
    });
    let disable = v1::SetPartyEnabledRequest {
        party: "mitra".to_owned(),
        enabled: false,
    };
    let mut directory = world.hub.directory().await;
    directory.set_party_enabled(disable).await.unwrap();
    send.send(streamed("S-2")).await.unwrap();
    let refused = answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(reason(&refused), "PARTY_NOT_REGISTERED");
    let localized = refused.get_error_details();
    let localized = localized.localized_message().unwrap();
    assert_eq!(localized.locale, "id");
    assert!(
        localized.message.contains("operator pusat"),
        "{localized:?}"
    );

    let refused = gateway
        .submit(submit(complaint("S-3"), 0))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PARTY_NOT_REGISTERED");
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "PARTY_NOT_REGISTERED");
    let head = world.hub.place("mitra", v1::Journal::Submissions).await;
    assert_eq!(head.position, 1, "only what came before");
}

/// Scenario: a unary party keeps its connection open beyond the end of its
/// certificate.
/// Guarantee: calls are refused from then on, and say why.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_does_not_outlive_its_certificate() {
    let world = World::new();
    let ends = Micros(now().0 + 12_000_000);
    let subject = Subject::Party(PartyId::parse("mitra").unwrap());
    let lifetime = Lifetime {
        not_before: Micros(now().0 - 60_000_000),
        not_after: ends,
    };
    let issued = world.authority.issue(&subject, lifetime).unwrap();
    write_new(&world.pki("mitra.key"), &issued.key.unwrap(), true, true).unwrap();
    write_new(&world.pki("mitra.pem"), &issued.certificate, false, true).unwrap();
    let mut gateway = GatewayServiceClient::new(as_party(&world, "mitra").await);
    gateway.submit(submit(complaint("E-1"), 0)).await.unwrap();
    eventually("the certificate has ended", || async { now().0 > ends.0 }).await;
    let refused = gateway
        .submit(submit(complaint("E-2"), 0))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(reason(&refused), "CERTIFICATE_EXPIRED");
}

/// Scenario: a token of the hub's door names a party with a link of its own;
/// another one names a local party that is registered as stream later on.
/// Guarantee: the hub does not start with the first, and says what to do; the
/// second opens nothing from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_at_the_hub_names_no_stream_party() {
    if !has("curl") {
        return missing("curl");
    }
    let token = |party: &str| {
        format!(
            "[[door.token]]\nname = \"t\"\nsha256 = \"{}\"\nparty = \"{party}\"\nsystem = \"s\"\nscopes = [\"submit\", \"inbox\", \"operate\"]\n",
            hex::encode(Sha256::digest("jmb_t"))
        )
    };
    let world = World::with_hub(&token("nasional"));
    let inbox = format!("http://{}/v1/inbox", world.hub.http);
    let bearer = "authorization: Bearer jmb_t";
    assert_eq!(curl(&["-H", bearer, &inbox]).0, 200);
    let uri = format!("http://{}", world.hub.grpc);
    let channel = tonic::transport::Channel::from_shared(uri)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut directory = v1::directory_service_client::DirectoryServiceClient::with_interceptor(
        channel,
        |mut request: tonic::Request<()>| {
            request
                .metadata_mut()
                .insert("authorization", "Bearer jmb_t".parse().unwrap());
            Ok(request)
        },
    );
    let party = v1::Party {
        id: "nasional".to_owned(),
        mode: v1::PartyMode::Stream as i32,
        enabled: true,
        ..v1::Party::default()
    };
    directory
        .put_party(v1::PutPartyRequest { party: Some(party) })
        .await
        .unwrap();
    let (code, problem) = curl(&["-H", bearer, &inbox]);
    assert_eq!(
        (code, &problem["reason"]),
        (403, &json!("PARTY_NOT_REGISTERED")),
        "{problem}"
    );

    let other = tempfile::TempDir::new().unwrap();
    let config = std::fs::read_to_string(world.directory.path().join("hub.toml")).unwrap();
    let config = config
        .replace("\"hub-data\"", &format!("{:?}", other.path().join("data")))
        .replace(&world.links().to_string(), "127.0.0.1:0")
        .replace("party = \"nasional\"", "party = \"pemda-33\"");
    let path = world.directory.path().join("other.toml");
    std::fs::write(&path, config).unwrap();
    let refused = run(
        env!("CARGO_BIN_EXE_jembatan"),
        &["hub", "--config", path.to_str().unwrap()],
    );
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(
        told.contains("door.token \"t\": party pemda-33 is registered as stream"),
        "{told}"
    );
}

/// Scenario: a door with room for one hand-over, which waits because the store
/// is held up; others come, by HTTP and by gRPC, one of them from somebody who
/// reads Indonesian; then the store goes on.
/// Guarantee: they are refused at once, told when to come back, nothing of
/// them is stored; what was in work is finished, and the same again goes in.
#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_and_safe_to_retry() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let door = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nmax_in_flight = 1";
    let config = world.adapter_file("pemda-33.74", "", door);
    let city = crate::support::Node::start("adapter", &config);
    let url = format!("http://{}/v1/complaints", city.http);
    let filing = |reference: &str| {
        json!({"reference": reference, "title": "Jalan rusak", "body": "Jalan berlubang."})
            .to_string()
    };
    let json_type = "content-type: application/json";
    let path = world.directory.path().join("pemda-33.74-data/jembatan.db");
    let other = rusqlite::Connection::open(path).unwrap();
    other.busy_timeout(Duration::from_secs(20)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = std::thread::spawn({
        let (url, body) = (url.clone(), filing("O-1"));
        // One of the others may have been faster: the same again, until it is in.
        move || {
            let deadline = std::time::Instant::now() + crate::support::PATIENCE;
            loop {
                let answer = curl(&["--max-time", "60", "-H", json_type, "-d", &body, &url]);
                if answer.0 == 200 || std::time::Instant::now() > deadline {
                    return answer;
                }
            }
        }
    });
    // Without room the answer comes at once; with it, it would not come.
    let second = filing("O-2");
    let mut told = String::new();
    eventually("refused", || {
        let output = run(
            "curl",
            &[
                "-s",
                "-i",
                "--max-time",
                "1",
                "-H",
                json_type,
                "-H",
                "Accept-Language: id-ID,id;q=0.9",
                "-d",
                &second,
                &url,
            ],
        );
        told = String::from_utf8(output.stdout).unwrap();
        let refused = told.starts_with("HTTP/1.1 429");
        async move { refused }
    })
    .await;
    assert!(told.to_lowercase().contains("retry-after: 2"), "{told}");
    assert!(
        told.to_lowercase().contains("content-language: id"),
        "{told}"
    );
    assert!(
        told.contains("OVERLOADED") && told.contains("aman untuk dikirim lagi"),
        "{told}"
    );
    let mut gateway = city.gateway().await;
    let refused = gateway
        .submit(submit(complaint("O-3"), 0))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "OVERLOADED");
    let details = refused.get_error_details();
    assert!(details.retry_info().unwrap().retry_delay.is_some());

    other.execute_batch("ROLLBACK").unwrap();
    let (code, stored) = first.join().unwrap();
    assert_eq!(code, 200, "{stored}");
    let (code, again) = curl(&["-H", json_type, "-d", &second, &url]);
    assert_eq!(code, 200, "{again}");
    let again = gateway.submit(submit(complaint("O-3"), 0)).await.unwrap();
    let again = again.into_inner().receipt.unwrap();
    assert!(!again.repeated_handover, "nothing of it was stored");
}

/// Scenario: a hub that takes one session; a second party comes, the first renews
/// its session, then leaves.
/// Guarantee: the second is told that the hub takes no more, and keeps its door
/// open; a party that has its session may renew it; when it has left the second
/// gets in by itself and what it kept arrives, once.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_have_a_maximum() {
    let world = World::with_hub("[session]\nmax_sessions = 1");
    let mut first = world.adapter("pemda-33.74");
    let verdict = async |node: &crate::support::Node, party: &str| {
        v1::Verdict::try_from(node.sync(party).await.verdict).unwrap()
    };
    eventually("the first is in", || async {
        verdict(&first, "pemda-33.74").await == v1::Verdict::Healthy
    })
    .await;
    let second = world.adapter("pemda-33");
    eventually("the second is told", || async {
        let sync = second.sync("pemda-33").await;
        sync.explanation.contains("as many sessions as it takes")
    })
    .await;
    let mut door = second.gateway().await;
    door.submit(submit(complaint("M-1"), 0)).await.unwrap();
    world.issue_party("pemda-33.74");
    eventually("the first has renewed its session", || async {
        first.log().contains("tls_reloaded")
            && verdict(&first, "pemda-33.74").await == v1::Verdict::Healthy
    })
    .await;
    let place = world.hub.place("pemda-33", v1::Journal::Submissions).await;
    assert_eq!(place.position, 0, "not processed");
    assert!(first.stop());
    eventually("the second is in, and what it kept is there", || async {
        let place = world.hub.place("pemda-33", v1::Journal::Submissions).await;
        place.position == 1 && verdict(&second, "pemda-33").await == v1::Verdict::Healthy
    })
    .await;
}
