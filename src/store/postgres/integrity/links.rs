//! Rows that point to others: nothing may point nowhere, and nothing may be kept
//! that was erased or refused.

use crate::store::StoreError;

use super::{super::session::Session, Integrity, NAMED};

/// Kind, what it means, and rows of submissions that it is about.
const OF_ROWS: [(&str, &str, &str); 11] = [
    (
        "part_of_nothing",
        "a part whose submission is gone",
        "SELECT p.row FROM part p WHERE NOT EXISTS (SELECT 1 FROM submission s WHERE s.id = p.row)",
    ),
    (
        "part",
        "the bytes of a part are not what its event names",
        "SELECT p.row FROM part p WHERE p.bytes IS NOT NULL AND sha256(p.bytes) <> p.sha256",
    ),
    (
        "part_kept",
        "a text is there that was erased, or whose submission was rejected",
        "SELECT p.row FROM part p JOIN submission s ON s.id = p.row \
         WHERE p.bytes IS NOT NULL AND (p.erased_by IS NOT NULL OR s.outcome = 3)",
    ),
    (
        "forgotten_event",
        "accepted, but its event would not be known again",
        "SELECT s.id FROM submission s WHERE s.outcome = 1 AND NOT EXISTS \
             (SELECT 1 FROM event_key k WHERE k.event_id = s.event_id AND k.row = s.id)",
    ),
    (
        "key_of_nothing",
        "an event is known by a submission that is gone or another one",
        "SELECT k.row FROM event_key k WHERE NOT EXISTS \
             (SELECT 1 FROM submission s WHERE s.id = k.row AND s.event_id = k.event_id)",
    ),
    (
        "orphan_event",
        "accepted, but in no complaint's history",
        "SELECT s.id FROM submission s WHERE s.outcome = 1 AND NOT EXISTS \
             (SELECT 1 FROM history h WHERE h.row = s.id)",
    ),
    (
        "history_of_nothing",
        "a revision whose submission or complaint is gone, or was not accepted",
        "SELECT h.row FROM history h WHERE NOT EXISTS \
             (SELECT 1 FROM submission s WHERE s.id = h.row AND s.outcome = 1) \
         OR NOT EXISTS (SELECT 1 FROM complaint c WHERE c.id = h.complaint)",
    ),
    (
        "complaint_of_nothing",
        "a complaint whose filing is gone",
        "SELECT c.id FROM complaint c WHERE NOT EXISTS \
             (SELECT 1 FROM submission s WHERE s.id = c.id)",
    ),
    (
        "revisions",
        "a complaint that lacks a revision",
        "SELECT c.id FROM complaint c LEFT JOIN \
             (SELECT complaint, count(*) AS there, max(revision) AS last FROM history \
              GROUP BY complaint) h ON h.complaint = c.id \
         WHERE h.there IS NULL OR h.there <> h.last",
    ),
    (
        "repetition_of_nothing",
        "a repetition of something that is gone",
        "SELECT r.row FROM repetition r WHERE NOT EXISTS \
             (SELECT 1 FROM submission s WHERE s.id = r.row) \
         OR NOT EXISTS (SELECT 1 FROM complaint c WHERE c.id = r.complaint)",
    ),
    (
        "mark_of_nothing",
        "a chain is kept of a delivery that is not there",
        "SELECT m.id FROM mark m WHERE m.id & 68719476735 <> 0 AND NOT EXISTS \
             (SELECT 1 FROM delivery d WHERE d.id = m.id)",
    ),
];

/// Kind, what it means, and names of what it is about.
const OF_NAMES: [(&str, &str, &str); 3] = [
    (
        "reference_of_nothing",
        "a reference to a complaint that is gone, by its id",
        "SELECT encode(r.complaint_id, 'hex') FROM reference r WHERE NOT EXISTS \
             (SELECT 1 FROM complaint c WHERE c.complaint_id = r.complaint_id)",
    ),
    (
        "head",
        "a party that lacks the head of one of its journals",
        "SELECT p.party FROM (SELECT party FROM submission_head UNION SELECT party FROM \
             delivery_head UNION SELECT party FROM delivery_held UNION SELECT party FROM journal \
             UNION SELECT id FROM registered_party) p \
         WHERE NOT EXISTS (SELECT 1 FROM submission_head s JOIN journal j ON j.id = s.journal \
                 WHERE s.party = p.party AND j.party = p.party AND j.epoch = s.epoch) \
             OR NOT EXISTS (SELECT 1 FROM delivery_head d JOIN journal j ON j.id = d.journal \
                 JOIN submission_head s ON s.party = d.party AND s.epoch = d.epoch \
                 WHERE d.party = p.party AND j.party = p.party AND j.epoch = d.epoch) \
             OR NOT EXISTS (SELECT 1 FROM delivery_held h JOIN delivery_head d ON d.party = h.party \
                 WHERE h.party = p.party AND h.position <= d.position)",
    ),
    (
        "institution_of_nobody",
        "an institution whose party is not registered",
        "SELECT i.code FROM institution i WHERE NOT EXISTS \
             (SELECT 1 FROM registered_party p WHERE p.id = i.json::json ->> 'party')",
    ),
];

/// Everything that points somewhere.
pub(super) async fn check(session: &Session, found: &mut Integrity) -> Result<(), StoreError> {
    for (kind, why, of) in OF_ROWS {
        // By the names that an operator knows.
        let sql = format!(
            "SELECT coalesce(j.party || '/' || j.epoch || '/', '?/?/') || (w.row & 68719476735) \
             FROM (SELECT DISTINCT row FROM ({of}) q(row)) w \
             LEFT JOIN journal j ON j.id = w.row >> 36 ORDER BY w.row LIMIT {NAMED}"
        );
        named(session, (kind, why), &sql, found).await?;
    }
    for (kind, why, of) in OF_NAMES {
        let sql = format!("SELECT w.name FROM ({of}) w(name) ORDER BY w.name LIMIT {NAMED}");
        named(session, (kind, why), &sql, found).await?;
    }
    Ok(())
}

async fn named(
    session: &Session,
    (kind, why): (&'static str, &str),
    sql: &str,
    found: &mut Integrity,
) -> Result<(), StoreError> {
    for row in session.within(session.query(sql, &[])).await? {
        found.find(kind, row.try_get::<_, String>(0)?, why);
    }
    Ok(())
}
