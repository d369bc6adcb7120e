//! Two replicas settle what is parked, and issue certificates, at once.

use super::*;
use crate::{
    domain::{
        Complaint, Context, Digest, Event, EventBody, Outcome, Rejection, Verdict as Decided,
    },
    store::{
        Invitation, InvitationUse, IssuedCertificate, Store as _,
        conformance::{city, event, filing, province},
    },
};

fn cannot(_: Option<&Complaint>, _: &Event, _: Context<'_>) -> Result<Decided, Rejection> {
    panic!("a bug, on purpose")
}

async fn parked_rows(cluster: &Cluster, database: &str) -> i64 {
    let count = "SELECT count(*) FROM submission WHERE outcome = 4";
    value(cluster, database, count).await
}

/// Scenario: a version that can't decide has parked a filing. Both replicas, of a
/// version that can, decide it again, or both give it up, while its author's
/// link brings it again and again; all at the same moment, and that many times.
/// Guarantee: it is settled once: one replica says so, the other finds nothing
/// parked. Whatever repeats it gets its result, whichever came first; nothing
/// stays parked, counts fit, and the journals are whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_settled_once() {
    const ROUNDS: usize = 12;
    const REPETITIONS: usize = 4;
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let older = open(&cluster.url(&pair.database), cannot).await.unwrap();
    let (first, second): (&dyn HubStore, &dyn HubStore) = (&*pair.world.hub, &*pair.second);
    let author = province();
    for round in 0..ROUNDS {
        let new = filing(&author, &format!("P-{round}"), "isi", None);
        send(&older, &author, std::slice::from_ref(&new)).await;
        let letter = first.dead_letters(None, 0, 10).await.unwrap().remove(0);
        let place = (letter.epoch, letter.position);
        let is_dropped = round % 2 == 0;
        let settle = async |hub: &dyn HubStore| {
            let settled = if is_dropped {
                hub.drop_parked(&author, place, Rejection::dropped("uji coba"), at(200))
            } else {
                hub.decide_again(&author, place, new.event.clone(), at(200))
            };
            settled.await.unwrap()
        };
        let repeat = async {
            for _ in 0..REPETITIONS {
                send(second, &author, std::slice::from_ref(&new)).await;
            }
        };
        let (here, there, ()) = tokio::join!(settle(first), settle(second), repeat);
        let said = [here, there];
        let outcomes: Vec<_> = said.iter().flatten().map(|found| found.outcome).collect();
        let expected = if is_dropped {
            Outcome::Rejected
        } else {
            Outcome::Accepted
        };
        assert_eq!(outcomes, [expected], "round {round}");
        assert_eq!(parked_rows(cluster, &pair.database).await, 0);
        if is_dropped {
            continue;
        }
        let replied = EventBody::ReporterReplied {
            attachments: Vec::new(),
        };
        let reply = event(&author, &new, &format!("r-{round}"), replied);
        send(first, &author, &[reply]).await;
    }
    let counts = first.counts(&author).await.unwrap();
    let (half, repetitions) = (ROUNDS as u64 / 2, REPETITIONS as u64);
    assert_eq!((counts.accepted, counts.parked), (2 * half, 0));
    assert_eq!(counts.duplicates, repetitions * half);
    assert_eq!(counts.rejected, (1 + repetitions) * half);
    whole(second, &author, Direction::Deliveries).await;
    let told = whole(second, &city(), Direction::Deliveries).await;
    assert_eq!(told.len(), ROUNDS, "each filing and each reply, once");
    assert_eq!(first.dead_letters(None, 0, 10).await.unwrap(), Vec::new());
    older.close().await;
}

/// Scenario: one code is used at both replicas at the same moment, with two keys.
/// Guarantee: one of them gets its certificate, and nothing is kept of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_leads_to_one_key() {
    const ROUNDS: i64 = 12;
    let Some(cluster) = shared() else { return };
    let pair = Pair::new(cluster).await;
    let hubs: [&dyn HubStore; 2] = [&*pair.world.hub, &*pair.second];
    for round in 0..ROUNDS {
        let id = format!("i-{round}");
        let open = Invitation {
            id: id.clone(),
            party: city(),
            code_digest: Digest::of(b"code"),
            made_at: at(1),
            expires_at: at(100),
            revoked_at: None,
            used: None,
        };
        hubs[0].put_invitation(open).await.unwrap();
        let issue = async |hub: &dyn HubStore, key: u8| {
            let serial = format!("{round}-{key}");
            let certificate = IssuedCertificate {
                serial: serial.clone(),
                digest: None,
                party: city(),
                issued_at: at(10 + round),
                ends_at: at(1_000),
                invitation: Some(id.clone()),
            };
            let used = InvitationUse {
                at: at(10),
                from: "127.0.0.1".to_owned(),
                key_digest: Digest::of(&[key]),
                serial,
            };
            hub.record_issued(certificate, Some(used)).await.unwrap()
        };
        let (here, there) = tokio::join!(issue(hubs[0], 1), issue(hubs[1], 2));
        assert!(here != there, "round {round}: {here}, {there}");
        let used = hubs[1].invitation(&id).await.unwrap().unwrap().used;
        let key = if here { 1 } else { 2 };
        assert_eq!(used.unwrap().serial, format!("{round}-{key}"));
    }
    let issued = hubs[0].issued_to(&city()).await.unwrap();
    assert_eq!(issued.len(), ROUNDS as usize);
}
