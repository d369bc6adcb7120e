//! Two replicas on one database.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

use super::{
    super::{
        connect::Line,
        error::Failure,
        listen::LOOK_EVERY,
        writes::{DeliveryRow, HeadRow, SeenRow, SettledRow, Writer, Writes},
    },
    *,
};
use crate::{
    domain::{EventBody, Outcome, PartyMode},
    store::{
        SessionToken, Store as _,
        conformance::{city, event, filing, national, province, read_by, registered},
    },
};

/// Longest wait for what another replica has to hear.
const SOON: Duration = Duration::from_secs(20);

fn started() -> EventBody {
    EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    }
}

fn replied() -> EventBody {
    EventBody::ReporterReplied {
        attachments: Vec::new(),
    }
}

/// Scenario: the province's link is at one replica, the city's at the other,
/// and the national application hands over at both. In each round the province
/// files and speaks about an earlier complaint, while the city speaks about the
/// same one; all at the same moment.
/// Guarantee: each hand-over is decided exactly once and accepted; revisions
/// have no gap; both replicas name the same chains, which are those of the
/// bytes.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_keep_one_record() {
    const ROUNDS: usize = 12;
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let (first, second) = (&*pair.world.hub, &*pair.second);
    let (origin, handler) = (province(), city());
    let mut before = filing(&origin, "P-0", "isi", None);
    send(first, &origin, std::slice::from_ref(&before)).await;
    for round in 1..=ROUNDS {
        let filed = filing(&province(), &format!("P-{round}"), "isi", None);
        let spoken = event(&province(), &before, &format!("p-{round}"), replied());
        let answered = event(&city(), &before, &format!("c-{round}"), started());
        let desk = ["a", "b"].map(|at| filing(&national(), &format!("{at}-{round}"), "isi", None));
        let [here, there] = desk;
        let batch = [filed.clone(), spoken];
        let own = [answered];
        let (_, _, here, there) = tokio::join!(
            send(first, &origin, &batch),
            send(second, &handler, &own),
            first.submit(vec![here], at(1)),
            second.submit(vec![there], at(1)),
        );
        for receipts in [here, there] {
            let decision = receipts.unwrap().remove(0).unwrap().decision.unwrap();
            assert_eq!(decision.outcome, Outcome::Accepted);
        }
        before = filed;
    }
    for (party, expected) in [
        (province(), 1 + 2 * ROUNDS),
        (city(), ROUNDS),
        (national(), 2 * ROUNDS),
    ] {
        for hub in [first, second as &dyn HubStore] {
            let decisions = decided(hub, &party).await;
            assert_eq!(decisions.len(), expected, "{party}");
            let all = decisions.iter();
            assert!(all.clone().all(|found| found.outcome == Outcome::Accepted));
            let submitted = whole(hub, &party, Direction::Submissions).await;
            assert_eq!(submitted.len(), expected, "{party}");
            let revisions: BTreeSet<_> = all
                .map(|found| (found.complaint_id, found.revision))
                .collect();
            assert_eq!(revisions.len(), expected, "{party}: each revision once");
        }
    }
    let id = before.event.complaint_id;
    let last = first.complaint(&province(), &id).await.unwrap();
    assert_eq!(last, second.complaint(&province(), &id).await.unwrap());
}

/// Scenario: the province's session moves to the other replica; the first one
/// has a frame in hand.
/// Guarantee: the old session is fenced and stores nothing; the new one goes on
/// at the head; a repetition of the old frame is answered as such.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moved_is_fenced_everywhere() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let new = filing(&province(), "P-1", "isi", None);
    let heads = pair.world.hub.heads(&province()).await.unwrap();
    let old = frame(heads.submissions, std::slice::from_ref(&new));
    let token = SessionToken([9; 16]);
    let moved = pair.second.open_session(&province(), token).await.unwrap();
    assert_eq!(moved.submissions, heads.submissions);
    let fenced = pair.world.hub.accept(&province(), old.clone()).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)), "{fenced:?}");
    let taken = AcceptBatch { token, ..old };
    let place = pair
        .second
        .accept(&province(), taken.clone())
        .await
        .unwrap();
    assert_eq!(place.position, 1);
    let again = pair.second.accept(&province(), taken).await;
    assert!(matches!(again, Err(StoreError::Mismatch(_))), "{again:?}");
    let seen = pair.world.hub.heads(&province()).await.unwrap();
    assert_eq!(seen.submissions, place);
}

/// Scenario: one replica watches the city and knows the directory; the other
/// accepts complaints for the city, one after the other, and registers a party.
/// Guarantee: the watcher is told, long before it would look by itself, and the
/// directory is there, soon.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_hear_of_each_other() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let mut deliveries = pair.second.watch(&city());
    let mut registry = pair.second.registry();
    let mut took = Vec::new();
    for n in 1..=10 {
        let new = filing(&province(), &format!("P-{n}"), "isi", None);
        deliveries.mark_unchanged();
        let began = std::time::Instant::now();
        send(&*pair.world.hub, &province(), &[new]).await;
        told(&pair.second, &mut deliveries, n).await;
        took.push(began.elapsed());
    }
    took.sort();
    // Each begins just after a look, so that without being told it would take one
    // second.
    assert!(took[5] < LOOK_EVERY / 2, "{took:?}");
    let id = PartyId::parse("mitra").unwrap();
    let party = registered(id.clone(), PartyMode::Stream);
    pair.world.hub.put_party(party).await.unwrap();
    let known = registry.wait_for(|known| known.directory.parties.contains_key(&id));
    assert!(tokio::time::timeout(SOON, known).await.is_ok());
}

/// Waits until a replica that watches the city is woken, and shows so many deliveries
/// to it.
async fn told(store: &PostgresStore, watched: &mut watch::Receiver<u64>, count: u64) {
    let waiting = async {
        loop {
            watched.changed().await.unwrap();
            if store.heads(&city()).await.unwrap().deliveries >= count {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}

/// Scenario: a replica commits something for the city, and ends before it has said
/// so to anybody.
/// Guarantee: the others find it when they look.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_said_is_found_by_looking() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let line = pair.second.shared.database.line().await.unwrap();
    let writer = own_row(&line).await;
    let mut deliveries = pair.second.watch(&city());
    for count in 1..=3 {
        let unsaid = DeliveryRow {
            party: city().to_string(),
            stored_at: 0,
            header: Vec::new(),
            event_row: None,
            readable: 0,
        };
        let writes = Writes {
            deliveries: vec![unsaid],
            ..Writes::default()
        };
        deliveries.mark_unchanged();
        writes.commit(&line, writer).await.unwrap();
        told(&pair.second, &mut deliveries, count).await;
    }
}

/// The row of a replica that this line belongs to.
async fn own_row(line: &Line) -> Writer {
    let begin = "INSERT INTO replica DEFAULT VALUES RETURNING id, generation";
    let row = line.client().query_one(begin, &[]).await.unwrap();
    Writer {
        replica: row.get(0),
        generation: row.get(1),
        batch: 1,
    }
}

/// Scenario: while one replica accepts one complaint after the other for the
/// city's institution, the other one gives that institution to the national
/// party.
/// Guarantee: whenever a complaint was decided, the new reader is told it once:
/// a batch that was decided by the old directory does not commit after the new
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn no_complaint_slips_through_a_change_of_reader() {
    const FILINGS: usize = 60;
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let filing_on = async {
        for n in 0..FILINGS {
            let new = filing(&province(), &format!("P-{n}"), "isi", None);
            send(&*pair.second, &province(), &[new]).await;
        }
    };
    let moving = async {
        // In the middle of it.
        let mut heads = pair.world.hub.watch(&province());
        while pair
            .world
            .hub
            .heads(&province())
            .await
            .unwrap()
            .submissions
            .position
            < 10
        {
            heads.changed().await.unwrap();
        }
        pair.world
            .hub
            .put_institution(read_by(&national()))
            .await
            .unwrap();
    };
    tokio::join!(filing_on, moving);
    let mut told = Vec::new();
    for entry in whole(&*pair.world.hub, &national(), Direction::Deliveries).await {
        if let Ok(DeliveryRecord::Event(header)) = wire::decode_header(&entry.entry.header) {
            told.push(header.complaint_id);
        }
    }
    let different: BTreeSet<_> = told.iter().collect();
    assert_eq!((told.len(), different.len()), (FILINGS, FILINGS));
    assert_eq!(pair.world.hub.orphans().await.unwrap(), Vec::new());
}

/// Scenario: batches that were decided by an older directory, by a head or a
/// complaint that stands elsewhere, in a session that was taken over, before something parked was settled, or
/// about something that is not parked, or that come over a line that was given
/// up.
/// Guarantee: the server commits none of them; one that fits it does.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_moved_does_not_commit() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let shared = &pair.second.shared;
    let line = shared.database.line().await.unwrap();
    let writer = own_row(&line).await;
    let version = shared.known().version;
    let by = |directory| Writes {
        directory: Some(directory),
        ..Writes::default()
    };
    by(version).commit(&line, writer).await.unwrap();
    let stands = pair.second.heads(&province()).await.unwrap().submissions;
    let head = |position: u64, token: Option<[u8; 16]>| HeadRow {
        party: province().to_string(),
        read_position: position as i64,
        read_token: token.map(Vec::from),
        position: position as i64,
        chain: stands.chain.0.to_vec(),
        accepted: 0,
        duplicates: 0,
        rejected: 0,
        parked: 0,
        repeated: 0,
    };
    let heads = |head| Writes {
        heads: vec![head],
        ..by(version)
    };
    let fits = heads(head(stands.position, Some(TOKEN.0)));
    fits.commit(&line, writer).await.unwrap();
    let seen = SeenRow { id: 1, version: 1 };
    let settled = |id| SettledRow {
        id,
        outcome: 3,
        decision: "{}".to_owned(),
    };
    let moved = [
        by(version - 1),
        heads(head(stands.position + 7, Some(TOKEN.0))),
        // The same place, and the session of somebody else, or nobody's.
        heads(head(stands.position, Some([9; 16]))),
        heads(head(stands.position, None)),
        Writes {
            seen: vec![seen],
            ..by(version)
        },
        Writes {
            settled: vec![settled(7)],
            ..by(version)
        },
    ];
    for writes in moved {
        let outcome = writes.commit(&line, writer).await;
        assert!(matches!(outcome, Err(Failure::Moved)), "{writes:?}");
    }
    let parked = "INSERT INTO submission (id, stored_at, mac, event, chain, outcome, decision) \
                  VALUES (7, 0, '', '', '', 4, '{}')";
    sql(cluster, &pair.database, parked).await;
    let settling = Writes {
        settled: vec![settled(7)],
        ..by(version)
    };
    settling.commit(&line, writer).await.unwrap();
    for writes in [by(version), settling] {
        let outcome = writes.commit(&line, writer).await;
        assert!(matches!(outcome, Err(Failure::Moved)), "{writes:?}");
    }
    let version = version + 1;
    let given_up = Writer {
        generation: writer.generation - 1,
        ..writer
    };
    let outcome = by(version).commit(&line, given_up).await;
    assert!(matches!(outcome, Err(Failure::Lost(_))), "{outcome:?}");
}
