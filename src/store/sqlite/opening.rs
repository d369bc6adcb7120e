//! What opening a link tells the store of a node to do: take the hub's head
//! over, set own entries aside and re-append them, fill the gap by a copy.

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::{Digest, Micros, Outcome, PartyId},
    exchange::{Direction, Place, event_digest, next_chain},
    store::{CopyWanted, IncomingEntry, StoreError},
};

use super::{
    damaged,
    decisions::read_decision,
    journal::{NewRow, row_id, submission_chain},
    node::effect_json,
    writer::Tx,
};

/// Rows that are re-appended in one transaction.
const REAPPEND_PAGE: u64 = 1_000;

/// A submission's row, without its place.
struct AsideRow {
    event: Vec<u8>,
    event_id: Option<Vec<u8>>,
}

impl Tx<'_> {
    /// Opening, rules 3 and 4.
    pub(super) fn adopt(
        &mut self,
        party: &PartyId,
        keep_through: u64,
        head: Place,
    ) -> Result<(), StoreError> {
        if head.position <= keep_through {
            let state = self.state(party)?;
            if head.position > state.acknowledged.position {
                state.acknowledged = head;
            }
            return Ok(());
        }
        self.set_aside(party, keep_through)?;
        let state = self.state(party)?;
        // A stretch that waited to be copied before goes on being wanted.
        let first = state.copy.map_or(keep_through + 1, |copy| copy.first);
        state.copy = Some(CopyWanted {
            first: first.min(keep_through + 1),
            last: head.position,
            end_chain: head.chain,
        });
        state.head = head;
        state.acknowledged = head;
        self.touch(party);
        Ok(())
    }

    /// Enters an epoch that the hub began.
    pub(super) fn adopt_epoch(
        &mut self,
        party: &PartyId,
        epoch: u64,
        resend_after: u64,
    ) -> Result<(), StoreError> {
        self.set_aside(party, resend_after)?;
        let submissions = self.journal(party, Direction::Submissions.number(), epoch)?;
        let deliveries = self.journal(party, Direction::Deliveries.number(), epoch)?;
        let state = self.state(party)?;
        state.epoch = epoch;
        state.submissions = submissions;
        state.deliveries = deliveries;
        state.head = Place::root(party, Direction::Submissions, epoch);
        state.acknowledged = state.head;
        state.delivered = 0;
        state.delivered_acknowledged = Place::root(party, Direction::Deliveries, epoch);
        state.consumed = 0;
        state.copy = None;
        self.touch(party);
        Ok(())
    }

    /// Moves own submissions after a position out of the journal, in their
    /// order; they stay known to dedup.
    fn set_aside(&mut self, party: &PartyId, after: u64) -> Result<(), StoreError> {
        let aside = self.aside_journal(party)?;
        let state = self.state(party)?.clone();
        let head = state.head.position;
        if head <= after {
            return Ok(());
        }
        // What was set aside earlier and waits still is older, unless it came
        // from this very journal: a crash in between; both stay in order.
        let from = row_id(state.submissions, after + 1);
        let shift = row_id(aside, state.aside_to + 1) - from;
        let last = row_id(state.submissions, head);
        // Old places of the journal may have been refilled by a copy.
        self.connection.execute(
            "UPDATE part SET id = id + ?1 * 4 WHERE id BETWEEN ?2 * 4 AND ?3 * 4 + 3",
            params![shift, from, last],
        )?;
        self.connection.execute(
            "UPDATE submission SET id = id + ?1 WHERE id BETWEEN ?2 AND ?3",
            params![shift, from, last],
        )?;
        let state = self.state(party)?;
        state.aside_journal = aside;
        state.aside_to += head - after;
        Ok(())
    }

    /// Appends what was set aside again, in order; `false`: some is left.
    pub(super) fn reappend(&mut self, party: &PartyId, at_most: u64) -> Result<bool, StoreError> {
        let state = self.state(party)?.clone();
        if state.aside_from > state.aside_to {
            return Ok(true);
        }
        let last = state.aside_to.min(
            state
                .aside_from
                .saturating_add(at_most.min(i64::MAX as u64 / 2))
                - 1,
        );
        for place in state.aside_from..=last {
            let old = row_id(state.aside_journal, place);
            let found = self
                .connection
                .prepare_cached("SELECT event, event_id FROM submission WHERE id = ?1")?
                .query_row([old], |row| {
                    Ok(AsideRow {
                        event: row.get(0)?,
                        event_id: row.get(1)?,
                    })
                })
                .optional()?;
            // A hole: that stretch was to be copied and never was here.
            let Some(found) = found else { continue };
            let (new, chain) = self.next_submission(party, &event_digest(&found.event))?;
            self.connection
                .prepare_cached("UPDATE submission SET id = ?2, chain = ?3 WHERE id = ?1")?
                .execute(params![old, new, chain.as_bytes()])?;
            self.connection
                .prepare_cached(
                    "UPDATE part SET id = id + (?2 - ?1) * 4 \
                     WHERE id BETWEEN ?1 * 4 AND ?1 * 4 + 3",
                )?
                .execute([old, new])?;
            if let Some(event_id) = found.event_id {
                self.connection
                    .prepare_cached("UPDATE dedup SET row = ?2 WHERE event_id = ?1")?
                    .execute(params![event_id, new])?;
            }
            self.connection
                .prepare_cached(
                    "UPDATE complaint_view SET filed_row = ?2 \
                     WHERE party = ?3 AND filed_row = ?1",
                )?
                .execute(params![old, new, party.as_str()])?;
        }
        let state = self.state(party)?;
        state.aside_from = last + 1;
        self.touch(party);
        let state = self.state(party)?;
        Ok(state.aside_from > state.aside_to)
    }

    /// A page of [`Tx::reappend`].
    pub(super) fn reappend_page(&mut self, party: &PartyId) -> Result<bool, StoreError> {
        self.reappend(party, REAPPEND_PAGE)
    }

    /// Puts copied submissions into their gap.
    pub(super) fn fill_copy(
        &mut self,
        party: &PartyId,
        first: u64,
        entries: &[IncomingEntry],
    ) -> Result<Option<CopyWanted>, StoreError> {
        let state = self.state(party)?.clone();
        let Some(wanted) = state.copy else {
            return Ok(None);
        };
        if first != wanted.first || entries.is_empty() {
            return Err(StoreError::Mismatch(format!(
                "a copy from {first} on came, but {} is wanted",
                wanted.first
            )));
        }
        let mut chain = submission_chain(self.connection, &state, first - 1)?
            .ok_or_else(|| damaged("the chain before a copy"))?;
        let mut position = first;
        for incoming in entries.iter().take((wanted.last - first + 1) as usize) {
            chain = next_chain(&chain, &event_digest(&incoming.entry.event));
            let row = row_id(state.submissions, position);
            self.put_copy(party, row, incoming, chain)?;
            position += 1;
        }
        let left = (position <= wanted.last).then_some(CopyWanted {
            first: position,
            ..wanted
        });
        if left.is_none() && chain != wanted.end_chain {
            return Err(StoreError::Mismatch(
                "the copy does not end in the chain that the hub had named".to_owned(),
            ));
        }
        self.state(party)?.copy = left;
        self.touch(party);
        Ok(left)
    }

    fn put_copy(
        &mut self,
        party: &PartyId,
        row: i64,
        incoming: &IncomingEntry,
        chain: Digest,
    ) -> Result<(), StoreError> {
        let event = incoming.event.as_ref().ok();
        self.put_submission(
            row,
            &NewRow {
                event: &incoming.entry.event,
                event_id: event.map(|event| event.event_id),
                complaint_id: event.map(|event| *event.complaint_id.as_bytes()),
                handover_digest: incoming.entry.handover_digest,
                parts: &incoming.entry.parts,
                effect: event.map(effect_json).transpose()?.flatten(),
                chain,
                now: event.map_or(Micros(0), |event| event.recorded_at),
            },
        )?;
        let Some(event) = event else {
            return Ok(());
        };
        // Erased with its parts, the digest is no longer there: then the hub,
        // which remembers, answers a repetition.
        let mac = incoming
            .entry
            .handover_digest
            .map(|digest| self.shared.mac(&digest));
        match (self.dedup(&event.event_id)?, &mac) {
            (None, Some(mac)) => self.remember(&event.event_id, row, mac)?,
            (None, None) => {}
            // Re-appended meanwhile: the first place is what counts.
            (Some(_), _) => {
                self.connection
                    .prepare_cached("UPDATE dedup SET row = ?2 WHERE event_id = ?1")?
                    .execute(params![event.event_id.as_bytes(), row])?;
            }
        }
        self.note_own(event, row, mac.as_ref())?;
        self.level_erasures(event.complaint_id.as_bytes(), &event.event_id)?;
        let decision = read_decision(self.connection, row)?;
        if decision.is_some_and(|found| found.outcome == Outcome::Accepted) {
            self.take_own_effect(party, row)?;
        }
        Ok(())
    }
}
