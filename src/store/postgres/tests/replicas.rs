//! Two replicas on one database.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{
        error::Failure,
        writes::{HeadRow, SeenRow, SettledRow, Writer, Writes},
    },
    *,
};
use crate::{
    domain::{EventBody, Institution, InstitutionCode, Outcome, PartyMode},
    store::{
        SessionToken, Store as _,
        conformance::{city, event, filing, national, province, registered},
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
/// accepts a complaint for the city and registers a party.
/// Guarantee: the watcher wakes and the directory is there, soon.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_hear_of_each_other() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let mut deliveries = pair.second.watch(&city());
    let mut registry = pair.second.registry();
    let new = filing(&province(), "P-1", "isi", None);
    let told = async {
        while pair.second.heads(&city()).await.unwrap().deliveries == 0 {
            deliveries.changed().await.unwrap();
        }
    };
    send(&*pair.world.hub, &province(), &[new]).await;
    tokio::time::timeout(SOON, told).await.unwrap();
    let id = PartyId::parse("mitra").unwrap();
    let party = registered(id.clone(), PartyMode::Stream);
    pair.world.hub.put_party(party).await.unwrap();
    let known = registry.wait_for(|known| known.directory.parties.contains_key(&id));
    assert!(tokio::time::timeout(SOON, known).await.is_ok());
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
        let institution = Institution {
            code: InstitutionCode::parse("pemda-33.74").unwrap(),
            name: String::new(),
            parent: None,
            party: national(),
            region: None,
            enabled: true,
        };
        pair.world.hub.put_institution(institution).await.unwrap();
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
/// complaint that stands elsewhere, before something parked was settled, or
/// about something that is not parked, or that come over a line that was given
/// up.
/// Guarantee: the server commits none of them; one that fits it does.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_moved_does_not_commit() {
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let shared = &pair.second.shared;
    let line = shared.database.line().await.unwrap();
    let begin = "INSERT INTO replica DEFAULT VALUES RETURNING id, generation";
    let row = line.client().query_one(begin, &[]).await.unwrap();
    let writer = Writer {
        replica: row.get(0),
        generation: row.get(1),
        batch: 1,
    };
    let version = shared.known().version;
    let by = |directory| Writes {
        directory: Some(directory),
        ..Writes::default()
    };
    by(version).commit(&line, writer).await.unwrap();
    let head = HeadRow {
        party: province().to_string(),
        read_position: 7,
        read_token: Some(TOKEN.0.to_vec()),
        position: 8,
        chain: vec![0; 32],
        accepted: 0,
        duplicates: 0,
        rejected: 0,
        parked: 0,
        repeated: 0,
    };
    let seen = SeenRow { id: 1, version: 1 };
    let settled = |id| SettledRow {
        id,
        outcome: 3,
        decision: "{}".to_owned(),
    };
    let moved = [
        by(version - 1),
        Writes {
            heads: vec![head],
            ..by(version)
        },
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
