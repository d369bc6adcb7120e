//! The plans that the server really makes: costs stay flat as history grows.

use super::*;
use crate::{
    domain::{EventBody, Rejection},
    store::{
        Store as _,
        conformance::{city, event, filing, national, province},
    },
};

/// Tables that grow with the past.
const GROWING: [&str; 12] = [
    "submission",
    "event_key",
    "part",
    "complaint",
    "history",
    "repetition",
    "reference",
    "delivery",
    "mark",
    "journal",
    "work_item",
    "issued_certificate",
];

/// Indexes of what is open: the past is not in them.
const FEW: [&str; 3] = ["submission_letter", "submission_parked", "complaint_open"];

/// A past of fifty thousand submissions of other parties.
const PAST: &str = "
INSERT INTO journal (party, direction, epoch)
    SELECT 'past-' || n, 1 + n % 2, n FROM generate_series(1, 5000) n;
INSERT INTO submission (id, stored_at, event_id, mac, event, chain, outcome, decision)
    SELECT (1000::bigint << 36) | n, n, substr(sha256(n::text::bytea), 1, 16), '', repeat('x', 300)::bytea, '', 1, '{}'
    FROM generate_series(1, 50000) n;
INSERT INTO event_key SELECT event_id, id FROM submission WHERE mac = '';
INSERT INTO part SELECT id, 0, 0, '', repeat('y', 300)::bytea, NULL FROM submission WHERE mac = '';
INSERT INTO complaint (id, complaint_id, number, version, is_open, handler, state)
    SELECT (1000::bigint << 36) | n, substr(sha256(n::text::bytea), 1, 16), n, 1, n % 10 = 0, 'x-' || n % 50, repeat('z', 300)
    FROM generate_series(1, 50000) n;
INSERT INTO history SELECT id, 1, id, 0 FROM complaint WHERE handler LIKE 'x-%';
INSERT INTO repetition SELECT id, id FROM complaint WHERE handler LIKE 'x-%';
INSERT INTO reference SELECT 'past-' || number, 's', number::text, complaint_id FROM complaint WHERE handler LIKE 'x-%';
INSERT INTO delivery SELECT (2000::bigint << 36) | n, n, repeat('h', 100)::bytea, (1000::bigint << 36) | n, 3
    FROM generate_series(1, 50000) n;
INSERT INTO mark SELECT id, '' FROM delivery WHERE id > (2000::bigint << 36);
INSERT INTO issued_certificate SELECT n::text, 'past-' || n % 5000, n, n FROM generate_series(1, 50000) n;
INSERT INTO work_item SELECT 'past-' || n, 's', 'c', 'n', 1, n FROM generate_series(1, 5000) n;
";

/// Scenario: a replica does everything that a hub does all day, in an empty
/// database and often enough that the server keeps its plans; the database gets a
/// past of which the server has no statistics; the replica goes on by the plans
/// that it has, and by new ones when the server has looked at the tables.
/// Guarantee: no statement walks through a table that grows, nor through one of
/// its indexes, and none is compiled.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_walks_through_the_past() {
    let Some(programs) = programs() else { return };
    let explain = [
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
        "log_min_messages=warning",
        "jit_above_cost=0",
        // Planning for a cold disk, as on a day when much is asked.
        "autovacuum=off",
    ];
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&programs, &explain)));
    let pair = Pair::new(cluster).await;
    let hub = &*pair.second;
    day(cluster, &pair, "empty").await;
    sql(cluster, &pair.database, PAST).await;
    let begin = cluster.log.lock().unwrap().len();
    day(cluster, &pair, "kept").await;
    sql(cluster, &pair.database, "ANALYZE").await;
    day(cluster, &pair, "anew").await;
    hub.close().await;
    let log = cluster.log.lock().unwrap()[begin..].join("\n");
    assert!(
        log.contains("INSERT INTO submission"),
        "the function's own plans are there"
    );
    assert!(!log.contains("JIT:"), "nothing is compiled first");
    nothing_walks(&log, &GROWING);
    nothing_walks_an_index(&log, &GROWING);
    pair.world.hub.close().await;
}

/// No plan in the log reads the whole of one of these tables.
pub(in crate::store::postgres) fn nothing_walks(log: &str, growing: &[&str]) {
    nothing_of(log, growing, |table| {
        log.find(&format!("Seq Scan on {table} "))
    });
}

/// Nor of an index of it, but those of a few of its rows: the line below an index scan
/// says by what it finds its rows.
fn nothing_walks_an_index(log: &str, growing: &[&str]) {
    nothing_of(log, growing, |table| {
        let by_index = format!(" on {table} ");
        let mut scans = log.match_indices(&by_index).filter(|(at, _)| {
            let from = log[..*at].rfind('\n').unwrap_or(0);
            let mut rest = log[*at..].lines();
            rest.next();
            let condition = rest.next().unwrap_or_default();
            let line = &log[from..*at];
            let is_of_few = FEW.iter().any(|index| line.contains(index));
            line.contains("Index") && !is_of_few && !condition.contains("Index Cond:")
        });
        scans.next().map(|(at, _)| at)
    });
}

/// Of none of these tables there is what is looked for; the plan says where there is.
fn nothing_of(log: &str, growing: &[&str], find: impl Fn(&str) -> Option<usize>) {
    for table in growing {
        let found = find(table).map(|at| {
            let from = log[..at].rfind("Query Text").unwrap_or(at);
            &log[from..log.len().min(at + 1_500)]
        });
        assert_eq!(found, None, "{table}");
    }
}

/// Everything that a hub does all day.
async fn day(cluster: &Cluster, pair: &Pair, name: &str) {
    let hub = &*pair.second;
    let mut before = filing(&province(), &format!("P-{name}"), "isi", None);
    send(hub, &province(), std::slice::from_ref(&before)).await;
    for n in 1..=12 {
        let filed = filing(&province(), &format!("P-{name}-{n}"), "isi", None);
        let replied = EventBody::ReporterReplied {
            attachments: Vec::new(),
        };
        let part = before.parts[0].sha256;
        let erased = EventBody::PartErased {
            event_id: before.event.event_id,
            sha256: part,
        };
        let batch = [
            filed.clone(),
            event(&province(), &before, &format!("r-{name}-{n}"), replied),
            before.clone(),
            event(&province(), &before, &format!("e-{name}-{n}"), erased),
        ];
        send(hub, &province(), &batch).await;
        let started = EventBody::HandlingStarted {
            unit: "DPU".to_owned(),
        };
        let answered = event(&city(), &before, &format!("c-{name}-{n}"), started);
        send(hub, &city(), &[answered]).await;
        let own = filing(&national(), &format!("N-{name}-{n}"), "isi", None);
        hub.submit(vec![own], at(1)).await.unwrap();
        let heads = hub.heads(&city()).await.unwrap();
        let place = hub.place_at(&city(), Direction::Deliveries, heads.deliveries);
        let place = place.await.unwrap().unwrap();
        hub.acknowledge(&city(), Direction::Deliveries, place)
            .await
            .unwrap();
        hub.consume(&city(), heads.deliveries).await.unwrap();
        for direction in [Direction::Submissions, Direction::Deliveries] {
            let page = hub.read(&province(), direction, 1, 100, 1_000_000);
            assert!(!page.await.unwrap().is_empty());
        }
        let id = before.event.complaint_id;
        assert!(hub.complaint(&city(), &id).await.unwrap().is_some());
        let event_id = &before.event.event_id;
        assert!(
            hub.receipt(&province(), event_id, &id)
                .await
                .unwrap()
                .is_some()
        );
        hub.in_triage().await.unwrap();
        hub.orphans().await.unwrap();
        hub.issued_to(&city()).await.unwrap();
        assert!(hub.dead_letters(None, 0, 10).await.unwrap().is_empty());
        let operators = settings(&cluster.url(&pair.database));
        let query = LetterQuery {
            limit: 10,
            ..LetterQuery::default()
        };
        let found = letters(&operators, &query).await;
        assert!(found.unwrap().is_empty());
        for name in ["pemda-33/1", "d796c993-73f8-8a4d-bbd9-50feae044c33"] {
            let name = LetterName::parse(name).unwrap();
            assert!(hub.letters_named(&name).await.unwrap().is_empty());
        }
        hub.catch_up(&province(), 1, n).await.unwrap();
        assert!(hub.ended_epoch(&province(), n).await.unwrap().is_none());
        let none = hub.drop_parked(&province(), (1, n), Rejection::dropped("-"), at(1));
        assert_eq!(none.await.unwrap(), None);
        before = filed;
    }
}
