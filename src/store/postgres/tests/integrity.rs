//! A record that holds together is called so, and damage is named.

use super::*;
use crate::{
    domain::EventBody,
    store::{
        Store as _,
        conformance::{city, event, filing, national, province},
        postgres::{Integrity, check_integrity},
    },
};

pub(super) async fn look(cluster: &Cluster, database: &str) -> Integrity {
    let read = |header: &[u8]| wire::decode_header(&bytes::Bytes::copy_from_slice(header)).ok();
    let settings = settings(&cluster.url(database));
    check_integrity(&settings, read).await.unwrap()
}

/// A record with everything in it: an answered complaint, a repetition, a
/// refusal, an erasure, a mark, an own door, and an epoch that has ended.
pub(super) async fn written(cluster: &'static Cluster) -> String {
    let mut pair = Pair::new(cluster).await;
    let hub = pair.second.clone();
    let filed = filing(&province(), "I-1", "isi", None);
    let conflict = filing(&province(), "I-x", "lain", Some(filed.event.key.as_str()));
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let erased = EventBody::PartErased {
        event_id: filed.event.event_id,
        sha256: filed.parts[0].sha256,
    };
    let batch = [filed.clone(), filed.clone(), conflict];
    send(&*hub, &province(), &batch).await;
    send(&*hub, &city(), &[event(&city(), &filed, "c-1", started)]).await;
    let last = [
        event(&province(), &filed, "e-1", erased),
        filing(&province(), "I-2", "isi", None),
    ];
    send(&*hub, &province(), &last).await;
    let own = filing(&national(), "N-1", "isi", None);
    hub.submit(vec![own], at(1)).await.unwrap();
    let place = hub.place_at(&city(), Direction::Deliveries, 2);
    let place = place.await.unwrap().unwrap();
    hub.mark(&city(), place).await.unwrap();
    hub.acknowledge(&city(), Direction::Deliveries, place)
        .await
        .unwrap();
    pair.world.hub.close().await;
    hub.close().await;
    recover(&settings(&cluster.url(&pair.database)), at(5_000), false)
        .await
        .unwrap();
    let hub = open(&cluster.url(&pair.database), decide).await.unwrap();
    hub.open_session(&province(), TOKEN).await.unwrap();
    let later = filing(&province(), "I-3", "isi", None);
    send(&hub, &province(), &[later]).await;
    hub.close().await;
    std::mem::take(&mut pair.database)
}

/// Scenario: a record with everything in it is looked at; then, each on a copy of
/// its own, one thing is damaged by hand: bytes of an event, a chain, a decision,
/// a header, a part, a key, a position that is gone, a head, a counter, a state,
/// what was never told, an institution that is gone.
/// Guarantee: whole before, with its counts; each damage is found under its kind
/// and at its place, and for machines by the same word.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named() {
    let Some(cluster) = shared() else { return };
    let whole = written(cluster).await;
    let found = look(cluster, &whole).await;
    assert_eq!(found.findings, Vec::new());
    let of_province = found.parties.iter().find(|all| all.party == province());
    let of_province = of_province.unwrap();
    assert_eq!((of_province.epochs, of_province.submissions), (2, 6));
    assert_eq!((of_province.accepted, of_province.duplicates), (4, 1));
    assert_eq!((of_province.rejected, of_province.parked), (1, 0));

    let row = |position: u64| {
        format!(
            "(SELECT (min(id) << 36) | {position} FROM journal \
             WHERE party = 'pemda-33' AND direction = 1)"
        )
    };
    let delivered = "(SELECT (min(id) << 36) | 2 FROM journal \
         WHERE party = 'pemda-33.74' AND direction = 2)";
    let set = |table: &str, change: &str, id: &str| {
        format!("UPDATE {table} SET {change} WHERE id = {id}")
    };
    let damages = [
        (
            set("submission", "event = event || '\\x00'", &row(2)),
            "chain",
            "/2",
        ),
        (
            set("submission", "chain = sha256('')", &row(1)),
            "chain",
            "/1",
        ),
        (
            set("submission", "outcome = 2", &row(3)),
            "decision",
            "/3",
        ),
        (
            set("submission", "decision = '{'", &row(1)),
            "decision",
            "/1",
        ),
        (
            format!("DELETE FROM submission WHERE id = {}", row(4)),
            "gap",
            "/4",
        ),
        (
            format!("DELETE FROM submission WHERE id = {}", row(1)),
            "complaint_of_nothing",
            "/1",
        ),
        (
            set("delivery", "header = header || header", delivered),
            "chain",
            "/2",
        ),
        (
            set("delivery", "header = '\\xff'", delivered),
            "header",
            "/2",
        ),
        (
            format!("DELETE FROM delivery WHERE id = {delivered}"),
            "gap",
            "/2",
        ),
        (
            set("delivery", "event_row = 77", delivered),
            "delivery_of_nothing",
            "/2",
        ),
        (
            format!("UPDATE part SET bytes = '\\x00' WHERE row = {}", row(5)),
            "part",
            "/5",
        ),
        (
            format!("UPDATE part SET bytes = '\\x00' WHERE row = {}", row(3)),
            "part_kept",
            "/3",
        ),
        (
            format!("DELETE FROM event_key WHERE row = {}", row(5)),
            "forgotten_event",
            "/5",
        ),
        (
            format!("DELETE FROM history WHERE row = {}", row(5)),
            "orphan_event",
            "/5",
        ),
        (
            format!("DELETE FROM history WHERE row = {} AND revision = 1", row(1)),
            "revisions",
            "/1",
        ),
        (
            "UPDATE submission_head SET position = position + 1 WHERE party = 'pemda-33'".to_owned(),
            "head",
            "/2",
        ),
        (
            "UPDATE submission_head SET accepted = 9 WHERE party = 'pemda-33'".to_owned(),
            "count",
            "pemda-33",
        ),
        (
            "UPDATE ended_epoch SET delivered_chain = sha256('') WHERE party = 'pemda-33'".to_owned(),
            "head",
            "pemda-33/",
        ),
        (
            format!("UPDATE complaint SET is_open = false WHERE id = {}", row(5)),
            "complaint",
            "-",
        ),
        (
            "DELETE FROM institution WHERE code = 'pemda-33.74'".to_owned(),
            "orphan",
            "-",
        ),
        (
            "DELETE FROM delivery_held WHERE party = 'pemda-33'".to_owned(),
            "head",
            "pemda-33",
        ),
        (
            // The last decision of the epoch in force, as if never told.
            "DELETE FROM delivery WHERE id = (SELECT (journal << 36) | position FROM delivery_head \
             WHERE party = 'pemda-33')"
                .to_owned(),
            "untold",
            "/1",
        ),
    ];
    for (damage, kind, place) in damages {
        let name = format!("d{}", hex::encode(random_bytes::<8>()));
        let copy = format!("CREATE DATABASE {name} TEMPLATE {whole}");
        sql(cluster, "postgres", &copy).await;
        sql(cluster, &name, &damage).await;
        let found = look(cluster, &name).await;
        let is_named = |one: &super::super::Finding| one.kind == kind && one.place.contains(place);
        assert!(
            found.findings.iter().any(is_named),
            "{damage}: {kind} {place} is not in {:?}",
            found.findings
        );
        sql(cluster, "postgres", &format!("DROP DATABASE {name}")).await;
    }
}
