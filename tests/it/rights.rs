//! Who may: certificates revoked, parties disabled, strangers.

use jembatan::wire::v1;

use crate::support::{World, complaint, eventually, submit};

fn verdict(sync: &v1::PartySync) -> v1::Verdict {
    v1::Verdict::try_from(sync.verdict).unwrap()
}

/// Scenario: a connected party is disabled, enabled again, then its
/// certificate is revoked at the hub; at last it gets a new certificate.
/// Guarantee: its live session ends within seconds each time and can't come
/// back, its own operator is told why, the door stays open meanwhile, and with
/// the new certificate (taken into use without a restart) all of it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_or_revoked_party_is_out_within_seconds() {
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let healthy = || async { verdict(&city.sync("pemda-33.74").await) == v1::Verdict::Healthy };
    let refused = || async {
        let sync = city.sync("pemda-33.74").await;
        verdict(&sync) == v1::Verdict::Refused && sync.explanation.contains("PARTY_NOT_REGISTERED")
    };
    eventually("connected", healthy).await;
    let mut directory = world.hub.directory().await;
    let mut set = async |enabled| {
        let party = "pemda-33.74".to_owned();
        let request = v1::SetPartyEnabledRequest { party, enabled };
        directory.set_party_enabled(request).await.unwrap();
    };
    set(false).await;
    eventually("out, and told why", refused).await;
    let mut door = city.gateway().await;
    let stored = door.submit(submit(complaint("R-1"), 0)).await.unwrap();
    assert_eq!(
        stored.into_inner().receipt.unwrap().progress,
        v1::Progress::Stored as i32
    );
    assert_eq!(
        world
            .hub
            .place("pemda-33.74", v1::Journal::Submissions)
            .await
            .position,
        0,
        "nothing came in while it was disabled"
    );
    set(true).await;
    // A refused link retries slowly; new certificates make it try at once.
    let identity = |name: &str| {
        let domain = jembatan::identity::TrustDomain::parse("jembatan.example").unwrap();
        jembatan::identity::show(&world.pki(name), &domain)
            .unwrap()
            .0
    };
    let first = identity("pemda-33.74.pem").serial;
    world.issue_party("pemda-33.74");
    let second = identity("pemda-33.74.pem").serial;
    assert_ne!(first, second);
    eventually("connected again", healthy).await;
    eventually("what waited has arrived", || async {
        world
            .hub
            .place("pemda-33.74", v1::Journal::Submissions)
            .await
            .position
            == 1
    })
    .await;

    let revoke = v1::RevokeCertificateRequest {
        serial: second,
        note: "test".to_owned(),
    };
    let mut directory = world.hub.directory().await;
    directory.revoke_certificate(revoke).await.unwrap();
    eventually("the live session has ended", refused).await;
    world.issue_party("pemda-33.74");
    eventually("a new certificate opens again", healthy).await;
}

/// Scenario: a party whose certificate comes from the right CA, but which the
/// hub has never heard of; and one registered as unary that opens a stream.
/// Guarantee: both are refused alike, the reason stands in the hub's log only.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing() {
    let world = World::new();
    for party in ["pemda-99", "mitra"] {
        let node = world.adapter(party);
        eventually("refused", || async {
            let sync = node.sync(party).await;
            verdict(&sync) == v1::Verdict::Refused
        })
        .await;
        let told = node.sync(party).await.explanation;
        assert!(
            !told.contains("unary") && !told.contains("not registered as"),
            "{told}"
        );
    }
    let log = world.hub.log();
    assert!(log.contains("party pemda-99 is not registered"), "{log}");
    assert!(log.contains("registered as Unary"), "{log}");
}
