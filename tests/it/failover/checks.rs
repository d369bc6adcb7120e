//! Count in = count out, at the adapters and in the database.

use std::collections::{BTreeMap, BTreeSet};

use jembatan::wire::v1;

use crate::{cli::jembatan, kill::items, replicas::cluster::Cluster, support::Node};

use super::{
    load::All,
    nation::{NATIONAL, Nation, eventually, party},
};

/// Statements that find what must not be there: each says how many.
const ORPHANS: &[(&str, &str)] = &[
    (
        "a complaint without its filing",
        "SELECT count(*) FROM complaint c LEFT JOIN submission s ON s.id = c.id \
         WHERE s.id IS NULL OR s.outcome <> 1",
    ),
    (
        "a complaint that nobody was told of",
        "SELECT count(*) FROM complaint c WHERE NOT EXISTS ( \
             SELECT 1 FROM delivery d JOIN journal j ON j.id = d.id >> 36 \
             WHERE d.event_row = c.id AND j.party = c.handler)",
    ),
    (
        "an accepted submission that is in no history",
        "SELECT count(*) FROM submission s LEFT JOIN history h ON h.row = s.id \
         WHERE s.outcome = 1 AND h.row IS NULL",
    ),
    (
        "a history without its complaint or its submission",
        "SELECT count(*) FROM history h LEFT JOIN submission s ON s.id = h.row \
             LEFT JOIN complaint c ON c.id = h.complaint WHERE s.id IS NULL OR c.id IS NULL",
    ),
    (
        "revisions with a gap",
        "SELECT count(*) FROM (SELECT 1 FROM history GROUP BY complaint \
             HAVING max(revision) <> count(*) OR min(revision) <> 1) gaps",
    ),
    (
        "an event without its key, or a key without its event",
        "SELECT count(*) FROM submission s FULL JOIN event_key k ON k.row = s.id \
         WHERE s.id IS NULL OR (s.outcome = 1 AND k.row IS NULL) OR k.event_id <> s.event_id",
    ),
    (
        "a part without its submission",
        "SELECT count(*) FROM part p LEFT JOIN submission s ON s.id = p.row WHERE s.id IS NULL",
    ),
    (
        "a delivery without its submission",
        "SELECT count(*) FROM delivery d LEFT JOIN submission s ON s.id = d.event_row \
         WHERE d.event_row IS NOT NULL AND s.id IS NULL",
    ),
    (
        "an event that was told twice to one party",
        "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE event_row IS NOT NULL \
             GROUP BY id >> 36, event_row HAVING count(*) > 1) doubles",
    ),
    (
        "a row of no journal",
        "SELECT count(*) FROM (SELECT id FROM submission UNION ALL SELECT id FROM delivery) r \
             LEFT JOIN journal j ON j.id = r.id >> 36 WHERE j.id IS NULL",
    ),
    (
        "submissions with a gap",
        "SELECT count(*) FROM submission_head h WHERE h.position <> ( \
             SELECT count(*) FROM submission s WHERE s.id > h.journal << 36 \
                 AND s.id <= (h.journal << 36) | h.position) \
             OR EXISTS (SELECT 1 FROM submission s WHERE s.id > (h.journal << 36) | h.position \
                 AND s.id >> 36 = h.journal)",
    ),
    (
        "deliveries with a gap",
        "SELECT count(*) FROM delivery_head h WHERE h.position <> ( \
             SELECT count(*) FROM delivery d WHERE d.id > h.journal << 36 \
                 AND d.id <= (h.journal << 36) | h.position) \
             OR EXISTS (SELECT 1 FROM delivery d WHERE d.id > (h.journal << 36) | h.position \
                 AND d.id >> 36 = h.journal)",
    ),
    (
        "a head whose chain is not that of its last row",
        "SELECT count(*) FROM submission_head h \
             JOIN submission s ON s.id = (h.journal << 36) | h.position WHERE s.chain <> h.chain",
    ),
    (
        "something acknowledged beyond what was told",
        "SELECT count(*) FROM delivery_held h JOIN delivery_head d ON d.party = h.party \
         WHERE h.position > d.position OR h.consumed > d.position",
    ),
    (
        "counts that are not those of the rows",
        "SELECT count(*) FROM submission_head h WHERE (accepted, duplicates, rejected, parked) <> ( \
             SELECT count(*) FILTER (WHERE outcome = 1), count(*) FILTER (WHERE outcome = 2), \
                 count(*) FILTER (WHERE outcome = 3), count(*) FILTER (WHERE outcome = 4) \
             FROM submission s WHERE s.id >> 36 = h.journal)",
    ),
    (
        "a Tracking ID twice",
        "SELECT count(*) - count(DISTINCT number) FROM complaint",
    ),
];

/// Waits until everything has arrived, and looks at all of it.
pub(super) async fn count_in_is_count_out(nation: &Nation, cluster: &Cluster, all: &All) {
    let total: usize = all.filed.values().map(Vec::len).sum();
    println!("{total} filed, {} events about them", all.spoken.len());
    assert!(total > 0 && !all.spoken.is_empty());
    arrived(nation, all).await;
    let mut tracking = BTreeMap::new();
    for (number, node) in nation.adapters.iter().enumerate() {
        let own = party(number);
        let Inbox {
            decided,
            mut told,
            heard,
        } = inbox(node).await;
        // Its own: each decided once, accepted; each complaint has an identifier of
        // its own.
        assert_eq!(decided.len(), all.of(&own), "{own}: decisions");
        let events: BTreeSet<_> = decided.iter().map(|found| &found.event_id).collect();
        assert_eq!(events.len(), all.of(&own), "{own}: each event is one");
        for found in &decided {
            assert_eq!(found.outcome, v1::Outcome::Accepted as i32, "{found:?}");
            let of = tracking.insert(found.tracking_id.clone(), found.complaint_id.clone());
            let is_same = of.is_none_or(|of| of == found.complaint_id);
            assert!(is_same, "{} twice", found.tracking_id);
        }
        // The others': each once, and each author's in its order.
        for (author, handed) in &all.filed {
            if *author == own {
                continue;
            }
            let expected: Vec<_> = handed
                .iter()
                .filter(|one| one.to == number)
                .map(|one| one.reference.clone())
                .collect();
            let found = told.remove(author).unwrap_or_default();
            assert_eq!(found, expected, "{own} was told of {author}");
        }
        hears_each_once(&own, heard, all);
    }
    let national = inbox(&nation.hubs[0]).await;
    hears_each_once(NATIONAL, national.heard, all);
    for (what, statement) in ORPHANS {
        let found = cluster.psql("national", statement);
        assert_eq!(found.trim(), "0", "{what}");
    }
    let kept = "SELECT count(*) FROM complaint";
    assert_eq!(cluster.psql("national", kept).trim(), total.to_string());
    let national = format!(
        "SELECT h.accepted, h.duplicates FROM submission_head h WHERE party = '{NATIONAL}'"
    );
    let expected = format!("{}|0", all.of(NATIONAL));
    assert_eq!(cluster.psql("national", &national).trim(), expected);
    // Every chain computed anew from the rows.
    let file = nation.directory.path().join("hub-0.toml");
    let deep = ["store", "check", "--deep", "--config"];
    let deep = jembatan(&[&deep[..], &[file.to_str().unwrap()]].concat()).good();
    assert!(deep.out.contains("is whole"), "{}", deep.out);
}

/// What a node's local system finds in its inbox.
struct Inbox {
    decided: Vec<v1::Decision>,
    /// References of complaints, in order, by author.
    told: BTreeMap<String, Vec<String>>,
    /// Ids of events about complaints.
    heard: Vec<String>,
}

async fn inbox(node: &Node) -> Inbox {
    let mut all = Inbox {
        decided: Vec::new(),
        told: BTreeMap::new(),
        heard: Vec::new(),
    };
    for item in items(node).await {
        match item.item {
            Some(v1::inbox_item::Item::Decision(found)) => all.decided.push(found),
            Some(v1::inbox_item::Item::Event(found)) => {
                let event = found.event.unwrap();
                if !matches!(event.body, Some(v1::event::Body::Filed(_))) {
                    let id = uuid::Uuid::from_slice(&event.event_id).unwrap();
                    all.heard.push(id.to_string());
                    continue;
                }
                let (reference, body) = (event.reference, found.content.unwrap().body);
                assert!(body.contains(&reference), "{reference}: {body}");
                let author = reference.split('_').next().unwrap().to_owned();
                all.told.entry(author).or_default().push(reference);
            }
            _ => {}
        }
    }
    all
}

/// Whatever was said to a party is in its inbox once, and nothing else.
fn hears_each_once(own: &str, mut heard: Vec<String>, all: &All) {
    let to_it = all.spoken.iter().filter(|one| one.to == own);
    let mut expected: Vec<_> = to_it.map(|one| one.event_id.clone()).collect();
    expected.sort();
    heard.sort();
    assert_eq!(heard, expected, "{own} was told of events");
}

/// Both ends of every journal stand at the same place, whichever hub says it.
async fn arrived(nation: &Nation, all: &All) {
    for (number, node) in nation.adapters.iter().enumerate() {
        let own = party(number);
        let least = all.of(&own) as u64;
        for journal in [v1::Journal::Submissions, v1::Journal::Deliveries] {
            for (hub, at_hub) in nation.hubs.iter().enumerate() {
                let what = format!("{own} and hub {hub} hold the same {journal:?}");
                eventually(&what, async || {
                    let (there, here) = (
                        at_hub.place(&own, journal).await,
                        node.place(&own, journal).await,
                    );
                    let is_all = journal != v1::Journal::Submissions || here.position == least;
                    is_all && here == there
                })
                .await;
            }
        }
    }
    eventually("everything that was told is held", async || {
        let mut is_held = true;
        for (number, node) in nation.adapters.iter().enumerate() {
            let own = party(number);
            let here = node.place(&own, v1::Journal::Deliveries).await;
            let there = nation.hubs[0].place(&own, v1::Journal::Deliveries).await;
            is_held &= here == there;
        }
        is_held
    })
    .await;
}
