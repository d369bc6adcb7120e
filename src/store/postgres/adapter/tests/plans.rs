//! The plans that the server really makes: costs stay flat as history grows.

use super::*;
use crate::{
    domain::EventBody,
    exchange::Direction,
    store::{
        LetterQuery,
        conformance::{at, event, filing, province},
        postgres::{
            letters_of_adapter,
            tests::{cluster::programs, plans::nothing_walks},
        },
    },
};

/// Tables that grow with the past.
const GROWING: [&str; 16] = [
    "submission",
    "event_key",
    "delivery",
    "mark",
    "decision",
    "complaint_view",
    "event_of",
    "history",
    "told_before",
    "told_decision",
    "reference",
    "unread",
    "gone",
    "work_item",
    "journal",
    "pruning",
];

/// A past of fifty thousand submissions of other parties.
const PAST: &str = "
INSERT INTO journal (id, party, direction, epoch)
    SELECT 100000 + n, 'past-' || n, 1 + n % 2, n FROM generate_series(1, 5000) n;
INSERT INTO submission (id, stored_at, event_id, mac, complaint_id, event, chain)
    SELECT (100001::bigint << 36) | n, n, substr(sha256(n::text::bytea), 1, 16), '', substr(sha256(n::text::bytea), 1, 16),
        repeat('x', 300)::bytea, sha256(''::bytea)
    FROM generate_series(1, 50000) n;
INSERT INTO event_key SELECT event_id, id FROM submission WHERE mac = '';
INSERT INTO decision SELECT id, CASE WHEN id % 1000 = 0 THEN 3 ELSE 1 END, '{\"outcome\":\"accepted\"}' FROM submission;
INSERT INTO complaint_view (id, complaint_id, party, number, filed_row, revision, anonymous, confidential, answer_missing, epoch)
    SELECT 1000000 + n, substr(sha256(n::text::bytea), 1, 16), 'past-1', n, (100001::bigint << 36) | n, 1, false, false, false, 1
    FROM generate_series(1, 50000) n;
INSERT INTO history SELECT id, 1, filed_row, complaint_id, 'past-1', 1, 0, '{}' FROM complaint_view WHERE party = 'past-1';
INSERT INTO event_of SELECT id, filed_row FROM complaint_view WHERE party = 'past-1';
INSERT INTO told_before SELECT id, complaint_id, filed_row FROM complaint_view WHERE party = 'past-1';
INSERT INTO reference SELECT 'past-1', 's', number::text, complaint_id, filed_row FROM complaint_view WHERE party = 'past-1';
INSERT INTO delivery SELECT (100002::bigint << 36) | n, n, repeat('h', 100)::bytea, NULL, 3, NULL FROM generate_series(1, 50000) n;
INSERT INTO mark SELECT id, '' FROM delivery;
INSERT INTO told_decision SELECT id, 1 FROM delivery;
INSERT INTO unread SELECT id, 'past-1' FROM delivery WHERE id % 10 = 0;
INSERT INTO gone SELECT id, NULL FROM submission WHERE mac = '';
INSERT INTO pruning SELECT n, 0, 0, 0, 0, 0, 0 FROM generate_series(100001, 105000) n;
INSERT INTO work_item SELECT 'past-' || n, 's', 'c', 'n', 1, n FROM generate_series(1, 5000) n;
ANALYZE;
";

/// Scenario: a database with a past, and an adapter that does everything that it does
/// all day, often enough that the server keeps its plans; then a new epoch, and letting
/// go.
/// Guarantee: no statement walks through a table that grows, but what an operator asks
/// for by hand.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_walks_through_the_past() {
    let Some(programs) = programs() else { return };
    let explain = [
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
        "log_min_messages=warning",
        "autovacuum=off",
    ];
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&programs, &explain)));
    let (world, name) = world(cluster).await;
    let url = cluster.url(&name);
    world.province.close().await;
    sql(cluster, &name, PAST).await;
    let node: Arc<dyn AdapterStore> = Arc::new(open(&url).await.unwrap());
    // Opening reads where every party stands; nothing does so later.
    let begin = cluster.log.lock().unwrap().len();
    let party = province();
    let mut before = filing(&party, "P-0", "isi", None);
    node.submit(vec![before.clone()], at(1)).await.unwrap();
    for n in 1..=12 {
        let filed = filing(&party, &format!("P-{n}"), "isi", None);
        let started = EventBody::HandlingStarted {
            unit: "DPU".to_owned(),
        };
        let erased = EventBody::PartErased {
            event_id: before.event.event_id,
            sha256: before.parts[0].sha256,
        };
        let batch = vec![
            filed.clone(),
            event(&party, &before, &format!("s-{n}"), started),
            event(&party, &before, &format!("e-{n}"), erased),
            before.clone(),
            filing(&party, &format!("P-{}", n - 1), "isi lain", None),
        ];
        node.submit(batch, at(n)).await.unwrap();
        world.carry_up(&party, &node).await;
        world.carry_down(&party, &node).await;
        let heads = node.heads(&party).await.unwrap();
        node.consume(&party, heads.deliveries).await.unwrap();
        for direction in [Direction::Submissions, Direction::Deliveries] {
            let page = node.read(&party, direction, 1, 100, 1_000_000);
            assert!(!page.await.unwrap().is_empty());
            let place = node.place_at(&party, direction, 1).await.unwrap();
            assert!(place.is_some());
        }
        let (id, event_id) = (before.event.complaint_id, before.event.event_id);
        let record = node.complaint(&party, &id).await.unwrap().unwrap();
        assert_eq!(record.status.is_some(), record.revision > 0);
        assert!(
            node.receipt(&party, &event_id, &id)
                .await
                .unwrap()
                .is_some()
        );
        let system = before.event.system.clone();
        let reference = before.event.reference.clone().unwrap();
        let names = [
            crate::domain::ComplaintName::Reference(reference),
            crate::domain::ComplaintName::Id(id),
            crate::domain::ComplaintName::TrackingId(record.tracking_id.unwrap()),
        ];
        for name in names {
            assert_eq!(node.find(&party, &system, &name).await.unwrap(), Some(id));
        }
        node.unmapped(&party, 10).await.unwrap();
        assert_eq!(node.unread(&party).await.unwrap(), 0);
        assert!(
            node.dead_letters(Some(&party), 0, 10)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(node.knows_epoch(&party, heads.epoch).await.unwrap());
        node.prune(&party, at(n), at(n + 1)).await.unwrap();
        before = filed;
    }
    let epoch = node.heads(&party).await.unwrap().epoch;
    for n in 1..=6 {
        node.adopt_epoch(&party, epoch + n, n % 2).await.unwrap();
        node.earlier_inboxes(&party).await.unwrap();
    }
    node.close().await;
    let end = cluster.log.lock().unwrap().len();
    let log = cluster.log.lock().unwrap()[begin..end].join("\n");
    assert!(
        log.contains("UPDATE event_key k SET row = m.target"),
        "the function's own plans are there"
    );
    nothing_walks(&log, &GROWING);
    let query = LetterQuery {
        limit: 10_000,
        ..LetterQuery::default()
    };
    let letters = letters_of_adapter(&settings(&url), &query).await;
    let mut letters = letters.unwrap();
    let all = letters.len();
    letters.retain(|letter| letter.party != party);
    let own = all - letters.len();
    assert_eq!(letters.len(), 5_000 + 50, "of the past");
    let query = LetterQuery {
        party: Some(party),
        ..query
    };
    let only = letters_of_adapter(&settings(&url), &query).await;
    assert_eq!(only.unwrap().len(), own);
    world.city.close().await;
}
