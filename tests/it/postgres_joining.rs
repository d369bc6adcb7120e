//! Joining at a hub of several replicas: what one has written on a line, the
//! others know.

use jembatan::wire::v1;

use crate::{
    cli::at,
    joining::{
        NEW, certificates, config, forged, hands_over, invitations, invite, join, refused,
        register, state_of, with_free_doors,
    },
    replicas::{database, second_hub},
    support::{Node, World, connected, eventually},
};

/// Scenario: two hubs on one database. A party is registered and invited at one;
/// the region joins at the other, starts its adapter there and files a complaint.
/// The line is used again, at either hub, with another key; another line is taken
/// back at one hub and used at the other. Then the certificate is revoked at the
/// hub that has neither issued it nor has the link.
/// Guarantee: both hubs tell the same story of a line: who used it, and which
/// certificate it led to; it works once wherever it is used; the revocation ends
/// the link at the other hub.
#[tokio::test(flavor = "multi_thread")]
async fn invited_at_one_hub_and_joined_at_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let Some((_cluster, table, file)) = database(directory.path()) else {
        return;
    };
    crate::cli::jembatan(&["store", "migrate", "--config", file.to_str().unwrap()]).good();
    let enrolment = r#"
[enrolment]
ca_certificate = "pki/ca.pem"
ca_key = "pki/ca.key"
addresses = ["LINKS"]
"#;
    let mut world = World::with_hub(&format!("{table}{enrolment}"));
    let (settings, links) = second_hub(&world);
    let mut second = Node::start("hub", &settings);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    assert_eq!(state_of(&second, &line), "INVITATION_STATE_OPEN");

    let there = forged(&line, |line| line.addresses = vec![links.clone()]);
    join(&world, &there, "node", &[]).good();
    for hub in [&world.hub, &second] {
        assert_eq!(state_of(hub, &line), "INVITATION_STATE_USED");
        assert_eq!(certificates(hub, NEW).len(), 1);
    }
    let issued = certificates(&world.hub, NEW);
    let serial = issued[0]["serial"].as_str().unwrap();
    let named = invitations(&world.hub)["invitations"][0]["serial"].clone();
    assert_eq!(named.as_str(), Some(serial));
    eventually("the hub that has signed says so", async || {
        second.log().contains("\"party_joined\"")
    })
    .await;
    for line in [&line, &there] {
        let again = join(&world, line, "thief", &[]);
        refused(&again, &["CODE_USED", "works once"]);
    }

    let other = invite(&second, NEW, &[]);
    let id = crate::joining::parsed(&other).code.id();
    at(&second, &["parties", "invite", "--revoke", &id]).good();
    refused(&join(&world, &other, "late", &[]), &["CODE_REVOKED"]);

    let config = config(&world, "node");
    with_free_doors(&config);
    let node = Node::start("adapter", &config);
    connected(&world, &node, NEW).await;
    hands_over(&node, "J-1").await;
    assert_eq!(
        world.sessions(NEW),
        0,
        "the line's address is the second hub's"
    );

    at(&world.hub, &["parties", "revoke", serial]).good();
    eventually("out", || async {
        node.sync(NEW).await.verdict == v1::Verdict::Refused as i32
    })
    .await;
    eventually("both know", || async {
        certificates(&second, NEW)[0]["revoked"] == true
    })
    .await;
    // Neither does the line lead to another certificate now, at any hub.
    for line in [&line, &there] {
        let again = join(&world, line, "node", &["--force"]);
        refused(&again, &["CODE_REVOKED"]);
    }
    assert!(world.hub.stop() && second.stop());
}
