//! Own submissions of a node whose bytes are not here: let go of once they were
//! settled for long enough, or never come back to a lost disk.
//!
//! Invariants: the row stays, with id, mac and chain, so that dedup, receipts
//! and opening work as ever; bytes go only when the hub has acknowledged and
//! decided the submission for good and the local system has taken the decision
//! over; such a row is never sent again.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{Decision, Digest, Micros, Outcome, PartyId},
    exchange::event_digest,
    store::{Pruned, StoreError, memory::Fresh},
};

use super::{
    digest,
    journal::{NewRow, PartyState, journal_of, position_of, row_id},
    lookup::{Whose, complaint_row, filed_row, find_event},
    writer::Tx,
};

/// Rows that are looked at in one transaction, at most.
const PAGE: i64 = 1_000;
/// Longest time for them: whoever waits for the writer waits behind it.
const PAGE_MICROS: i64 = 50_000;

/// How far a journal was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pruning {
    journal: i64,
    pruned_through: u64,
    settled_through: u64,
    decided_through: u64,
    deliveries: i64,
    delivered: u64,
    noted_at: i64,
}

/// A row that may be let go of.
struct Row {
    id: i64,
    stored_at: i64,
    outcome: Option<i64>,
    size_bytes: i64,
}

/// What stays of a row: when it was stored, event, mac, complaint, chain, effect.
type Kept = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<u8>,
    Option<String>,
);

/// Own submissions that an older hub can't be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsendable {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// The digest of the event of a row whose bytes are gone, if it ever was here.
pub(super) fn gone_digest(connection: &Connection, row: i64) -> Result<Option<Digest>, StoreError> {
    let found: Option<Vec<u8>> = connection
        .prepare_cached("SELECT digest FROM gone WHERE row = ?1")?
        .query_row([row], |found| found.get(0))
        .optional()?
        .flatten();
    Ok(found.map(|bytes| digest(&bytes)).transpose()?)
}

/// What of a journal, after a position, is not here any more.
pub(super) fn unsendable(
    connection: &Connection,
    state: &PartyState,
    after: u64,
) -> Result<Option<Unsendable>, StoreError> {
    let (count, first, last): (i64, Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT count(*), min(row), max(row) FROM gone WHERE row BETWEEN ?1 AND ?2",
        )?
        .query_row(
            [
                row_id(state.submissions, after + 1),
                row_id(state.submissions, state.head.position),
            ],
            |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?)),
        )?;
    Ok(first.zip(last).map(|(first, last)| Unsendable {
        count: count as u64,
        first: position_of(first),
        last: position_of(last),
    }))
}

impl Tx<'_> {
    /// The journals of own submissions of a party, the oldest first.
    pub(super) fn submission_journals(&self, party: &PartyId) -> Result<Vec<i64>, StoreError> {
        let mut journals = self.connection.prepare_cached(
            "SELECT id FROM journal WHERE party = ?1 AND direction = 1 ORDER BY epoch",
        )?;
        let journals = journals.query_map([party.as_str()], |row| row.get(0))?;
        Ok(journals.collect::<Result<_, _>>()?)
    }

    /// Before a run: which submissions of this journal are settled by now. The
    /// deliveries that brought decisions are not looked for: at each run it is
    /// noted what was decided and where the deliveries stood then, and once the
    /// local system has taken those over, the decisions are among them. How long
    /// ago counts from that note, not from when a submission was stored: one
    /// that waited for weeks has to stay for as long after it was decided.
    pub(super) fn note_settled(
        &mut self,
        party: &PartyId,
        journal: i64,
        (before, now): (Micros, Micros),
    ) -> Result<(), StoreError> {
        let state = self.state(party)?.clone();
        let has_earlier = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM ended_epoch WHERE party = ?1 AND consumed < delivered LIMIT 1",
            )?
            .exists([party.as_str()])?;
        let is_taken_over = |found: &Pruning| {
            !has_earlier
                && found.deliveries == state.deliveries
                && found.delivered <= state.consumed
        };
        let mut found = self.pruning(journal)?;
        let is_settled = is_taken_over(&found) && found.noted_at < before.0;
        if is_settled {
            found.settled_through = found.settled_through.max(found.decided_through);
        }
        if is_settled || found.deliveries != state.deliveries {
            let decided: Option<i64> = self
                .connection
                .prepare_cached(
                    "SELECT row FROM decision WHERE row BETWEEN ?1 AND ?2 \
                     ORDER BY row DESC LIMIT 1",
                )?
                .query_row([row_id(journal, 0), row_id(journal + 1, 0) - 1], |row| {
                    row.get(0)
                })
                .optional()?;
            found.decided_through = decided.map_or(0, position_of);
            found.deliveries = state.deliveries;
            found.delivered = state.delivered;
            found.noted_at = now.0;
        }
        self.put_pruning(found)
    }

    /// Lets go of a page of bytes that were stored before a moment; `false`:
    /// nothing is left to look at in this journal.
    pub(super) fn prune_page(
        &mut self,
        party: &PartyId,
        journal: i64,
        before: Micros,
        pruned: &mut Pruned,
    ) -> Result<bool, StoreError> {
        let state = self.state(party)?.clone();
        let mut at = self.pruning(journal)?;
        let through = last_settled(&state, &at);
        let began = self.shared.now().0;
        let rows = self.rows_to_prune(journal, (at.pruned_through, through))?;
        let is_page = rows.len() as i64 == PAGE;
        let mut is_cut = false;
        let mut is_young = false;
        for row in rows {
            is_young = row.stored_at >= before.0;
            is_cut = self.shared.now().0 - began > PAGE_MICROS;
            if is_young || is_cut {
                break;
            }
            at.pruned_through = position_of(row.id);
            // Accepted, duplicate, rejected: what is parked may be decided yet.
            let is_final = matches!(row.outcome, Some(1..=3));
            if is_final && row.size_bytes > 0 {
                pruned.entries += 1;
                pruned.bytes += self.let_go(row.id)?;
            }
        }
        // Memory keeps no longer what the disk has let go of.
        self.fresh.push(Fresh::Forget(party.clone()));
        self.put_pruning(at)?;
        Ok(!is_young && (is_page || is_cut))
    }

    /// What was said of a row was not final, and another word has just come: it,
    /// and what stands behind it, is noted anew, and waits until the local system
    /// has taken that word over too. A row that was passed by as not final is come
    /// by again.
    pub(super) fn note_anew(&self, row: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE pruning SET pruned_through = min(pruned_through, ?2), \
                 settled_through = min(settled_through, ?2), \
                 decided_through = min(decided_through, ?2) WHERE journal = ?1",
            )?
            .execute([journal_of(row), position_of(row) as i64 - 1])?;
        Ok(())
    }

    fn rows_to_prune(
        &self,
        journal: i64,
        (after, through): (u64, u64),
    ) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.id, s.stored_at, d.outcome, length(s.event) FROM submission s \
             LEFT JOIN decision d ON d.row = s.id \
             WHERE s.id BETWEEN ?1 AND ?2 ORDER BY s.id LIMIT ?3",
        )?;
        let (first, last) = (row_id(journal, after + 1), row_id(journal, through));
        let rows = statement.query_map([first, last, PAGE], |found| {
            Ok(Row {
                id: found.get(0)?,
                stored_at: found.get(1)?,
                outcome: found.get(2)?,
                size_bytes: found.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The bytes of an event and of its parts; how many they were. The row is
    /// taken out and put back: one that only shrinks leaves its page to itself,
    /// half empty, for ever.
    fn let_go(&self, row: i64) -> Result<u64, StoreError> {
        let (event, parts, kept): (Vec<u8>, i64, Kept) = self
            .connection
            .prepare_cached(
                "SELECT event, coalesce(length(parts), 0), stored_at, event_id, mac, \
                 complaint_id, chain, effect FROM submission WHERE id = ?1",
            )?
            .query_row([row], |found| {
                let kept = (
                    found.get(2)?,
                    found.get(3)?,
                    found.get(4)?,
                    found.get(5)?,
                    found.get(6)?,
                    found.get(7)?,
                );
                Ok((found.get(0)?, found.get(1)?, kept))
            })?;
        self.note_gone(row, Some(event_digest(&event)))?;
        self.connection
            .prepare_cached("DELETE FROM submission WHERE id = ?1")?
            .execute([row])?;
        let (stored_at, event_id, mac, complaint_id, chain, effect) = kept;
        self.connection
            .prepare_cached(
                "INSERT INTO submission (id, stored_at, event_id, mac, complaint_id, event, \
                 chain, effect) VALUES (?1, ?2, ?3, ?4, ?5, x'', ?6, ?7)",
            )?
            .execute(params![
                row,
                stored_at,
                event_id,
                mac,
                complaint_id,
                chain,
                effect
            ])?;
        Ok(parts as u64 + event.len() as u64)
    }

    fn note_gone(&self, row: i64, digest: Option<Digest>) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO gone (row, digest) VALUES (?1, ?2)")?
            .execute(params![
                row,
                digest.as_ref().map(|digest| digest.as_bytes().as_slice())
            ])?;
        Ok(())
    }

    fn pruning(&self, journal: i64) -> Result<Pruning, StoreError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT pruned_through, settled_through, decided_through, deliveries, delivered, \
                 noted_at FROM pruning WHERE journal = ?1",
            )?
            .query_row([journal], |found| {
                let number = |index| found.get::<_, i64>(index).map(|value| value as u64);
                Ok(Pruning {
                    journal,
                    pruned_through: number(0)?,
                    settled_through: number(1)?,
                    decided_through: number(2)?,
                    deliveries: found.get(3)?,
                    delivered: number(4)?,
                    noted_at: found.get(5)?,
                })
            })
            .optional()?;
        Ok(found.unwrap_or(Pruning {
            journal,
            pruned_through: 0,
            settled_through: 0,
            decided_through: 0,
            deliveries: 0,
            delivered: 0,
            noted_at: 0,
        }))
    }

    fn put_pruning(&self, at: Pruning) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO pruning (journal, pruned_through, settled_through, \
                 decided_through, deliveries, delivered, noted_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                at.journal,
                at.pruned_through as i64,
                at.settled_through as i64,
                at.decided_through as i64,
                at.deliveries,
                at.delivered as i64,
                at.noted_at
            ])?;
        Ok(())
    }

    /// A submission of an ended epoch that was lost with a disk: its event is
    /// known by its id from now on, so that receipts and the complaint answer
    /// from the decision. Without a mac a repetition goes to the hub, which
    /// knows what it was.
    pub(super) fn keep_lost(
        &mut self,
        party: &PartyId,
        row: i64,
        decision: &Decision,
    ) -> Result<(), StoreError> {
        let (Some(event_id), Some(complaint)) = (&decision.event_id, &decision.complaint_id) else {
            return Ok(());
        };
        let whose = Whose::Party(party);
        let filed = filed_row(self.connection, whose, complaint)?;
        let is_here =
            self.has_submission(row)? || find_event(self.connection, event_id, filed)?.is_some();
        if is_here {
            return Ok(());
        }
        self.put_submission(
            row,
            &NewRow {
                event: &[],
                event_id: Some(*event_id),
                mac: None,
                complaint_id: Some(*complaint.as_bytes()),
                handover_digest: None,
                parts: &[],
                effect: None,
                chain: Digest::default(),
                now: self.shared.now(),
            },
        )?;
        self.note_gone(row, None)?;
        self.remember(event_id, row)?;
        // A complaint is known here by what was accepted of it.
        let Some(view) = complaint_row(self.connection, whose, complaint)? else {
            return Ok(());
        };
        let is_filing = decision.outcome == Outcome::Accepted && decision.revision == 1;
        if !is_filing {
            return self.put_event_of(view, row);
        }
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE complaint_view SET filed_row = ?2 WHERE id = ?1 AND filed_row IS NULL",
            )?
            .execute([view, row])?;
        match changed {
            1 => Ok(()),
            _ => self.put_event_of(view, row),
        }
    }
}

/// The last position that may be let go of: settled, acknowledged, and not
/// beyond a stretch that is still being copied.
fn last_settled(state: &PartyState, at: &Pruning) -> u64 {
    if at.journal != state.submissions {
        return at.settled_through;
    }
    let copied = state.copy.map_or(u64::MAX, |copy| copy.first - 1);
    at.settled_through
        .min(state.acknowledged.position)
        .min(copied)
}
