//! Invitations and issued certificates.

use crate::{
    domain::Digest,
    store::{Invitation, InvitationUse, IssuedCertificate, RefusedJoin},
};

use super::world::{Engine, World, at, city, province};

fn invitation(id: &str, made: i64) -> Invitation {
    Invitation {
        id: id.to_owned(),
        party: city(),
        code_digest: Digest::of(b"code"),
        made_at: at(made),
        expires_at: at(made + 100),
        revoked_at: None,
        used: None,
    }
}

pub(super) fn used(
    id: &str,
    second: i64,
    key: u8,
    serial: &str,
) -> (IssuedCertificate, Option<InvitationUse>) {
    let certificate = IssuedCertificate {
        serial: serial.to_owned(),
        digest: Some(Digest::of(serial.as_bytes())),
        party: city(),
        issued_at: at(second),
        ends_at: at(second + 1_000),
        invitation: Some(id.to_owned()),
    };
    let used = InvitationUse {
        at: at(second),
        from: "127.0.0.1".to_owned(),
        key_digest: Digest::of(&[key]),
        serial: serial.to_owned(),
    };
    (certificate, Some(used))
}

/// Scenario: an invitation is used, comes again with the same key and with
/// another one; one is revoked, one has expired, one was never made; one
/// certificate is a renewal.
/// Guarantee: one key only; what is refused leaves nothing behind; the time of
/// the first use and the serial of the last stay; each party's certificates are
/// listed for itself, the newest first.
pub(super) async fn a_code_is_used_once(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let hub = &*world.hub;
    for (id, made) in [("a", 1), ("b", 2), ("c", 3)] {
        hub.put_invitation(invitation(id, made)).await.unwrap();
    }
    assert_eq!(hub.invitation("a").await.unwrap(), Some(invitation("a", 1)));
    assert_eq!(hub.invitation("x").await.unwrap(), None);
    let ids: Vec<String> = hub
        .invitations()
        .await
        .unwrap()
        .into_iter()
        .map(|i| i.id)
        .collect();
    assert_eq!(ids, ["c", "b", "a"]);

    let record = async |(certificate, used)| hub.record_issued(certificate, used).await.unwrap();
    assert!(record(used("a", 10, 7, "s1")).await);
    assert!(!record(used("a", 11, 8, "s2")).await, "another key");
    assert!(record(used("a", 12, 7, "s3")).await, "the same key");
    let found = hub.invitation("a").await.unwrap().unwrap().used.unwrap();
    assert_eq!((found.at, found.serial.as_str()), (at(10), "s3"));

    assert!(hub.revoke_invitation("b", at(20)).await.unwrap());
    assert!(hub.revoke_invitation("b", at(21)).await.unwrap());
    assert!(!hub.revoke_invitation("x", at(21)).await.unwrap());
    let revoked = hub.invitation("b").await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at(20)));
    assert!(!record(used("b", 22, 7, "s4")).await, "revoked");
    assert!(!record(used("c", 103, 7, "s5")).await, "expired");
    assert!(!record(used("x", 10, 7, "s6")).await, "never made");

    let renewal = IssuedCertificate {
        invitation: None,
        digest: None,
        ..used("a", 30, 7, "s7").0
    };
    assert!(record((renewal.clone(), None)).await);
    let issued = hub.issued_to(&city()).await.unwrap();
    assert_eq!(issued[0], renewal, "as an earlier version has kept it");
    assert_eq!(issued[1], used("a", 12, 7, "s3").0);
    let serials: Vec<String> = issued.into_iter().map(|issued| issued.serial).collect();
    assert_eq!(serials, ["s7", "s3", "s1"]);
    assert_eq!(hub.issued_to(&province()).await.unwrap(), []);
}

/// Scenario: of two certificates that one code has led to the first is revoked,
/// then the code comes again with its key; a certificate that no code led to is
/// revoked, and one that was never issued here.
/// Guarantee: with a revoked serial its code goes as well, at that moment and
/// whichever of its certificates it was, and leads to nothing more; the codes
/// of others stay.
pub(super) async fn a_revoked_serial_takes_its_code_along(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let hub = &*world.hub;
    for (id, made) in [("a", 1), ("b", 2)] {
        hub.put_invitation(invitation(id, made)).await.unwrap();
    }
    let record = async |(certificate, used)| hub.record_issued(certificate, used).await.unwrap();
    assert!(record(used("a", 10, 7, "s1")).await);
    assert!(record(used("a", 11, 7, "s2")).await);
    assert!(record(used("b", 12, 7, "s3")).await);
    let renewal = IssuedCertificate {
        invitation: None,
        ..used("b", 13, 7, "s4").0
    };
    assert!(record((renewal, None)).await);

    for (serial, second) in [("s1", 20), ("s4", 21), ("foreign", 22), ("s1", 23)] {
        hub.revoke(serial.to_owned(), String::new(), at(second))
            .await
            .unwrap();
    }
    let revoked = async |id| hub.invitation(id).await.unwrap().unwrap().revoked_at;
    assert_eq!(revoked("a").await, Some(at(20)));
    assert_eq!(revoked("b").await, None);
    assert!(!record(used("a", 24, 7, "s5")).await);
    assert!(record(used("b", 25, 7, "s6")).await);
    let registry = hub.registry().borrow().clone();
    assert!(registry.revoked_serials.contains("s1"));
}

/// Scenario: more attempts are refused than are kept.
/// Guarantee: the newest are listed first, and the list does not grow.
pub(super) async fn what_was_refused_is_kept(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let refused = |n: i64| RefusedJoin {
        at: at(n),
        remote: "192.0.2.1".to_owned(),
        party: "pemda-33.74".to_owned(),
        invitation: (n % 2 == 0).then(|| "a".to_owned()),
        reason: "CODE_UNKNOWN".to_owned(),
    };
    let all = (0..1_008).map(|n| world.hub.note_refused_join(refused(n)));
    futures_util::future::try_join_all(all).await.unwrap();
    for last in [1_008, 1_009] {
        world.hub.note_refused_join(refused(last)).await.unwrap();
    }
    let listed = world.hub.refused_joins().await.unwrap();
    assert_eq!(listed.len(), 100);
    assert_eq!((&listed[0], &listed[1]), (&refused(1_009), &refused(1_008)));
}
