//! What opening a link tells the store of a node to do: take the hub's head
//! over, set own entries aside and re-append them, fill the gap by a copy.

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::{ComplaintId, Digest, EventId, Micros, Outcome, PartyId},
    exchange::{Place, event_digest, next_chain},
    store::{CopyWanted, IncomingEntry, StoreError, kept::OwnEffect, memory::Fresh},
};

use super::{
    blob16, damaged,
    decisions::read_decision,
    epoch,
    gone::unsendable,
    journal::{NewRow, row_id, submission_chain},
    lookup::{Whose, complaint_row},
    writer::Tx,
};

/// Rows that are re-appended in one transaction.
const REAPPEND_PAGE: u64 = 1_000;

/// A submission's row, without its place.
struct Moving {
    event: Vec<u8>,
    event_id: Option<EventId>,
    complaint_id: Option<ComplaintId>,
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
        // A second call, after a cut, must not end the epoch that it began.
        if self.state(party)?.epoch == epoch {
            return Ok(());
        }
        if let Some(left) = unsendable(self.connection, self.state(party)?, resend_after)? {
            tracing::error!(
                event = "entries_cannot_be_sent_again",
                %party,
                count = left.count,
                first = left.first,
                last = left.last,
                "the hub lacks these and their bytes are not here any more (keep_acknowledged_days): it went back further than they are kept; what it had decided on them still stands here"
            );
        }
        // Without proof of what the hub holds everything goes again, also what
        // earlier epochs brought: its dedup answers what it has.
        if resend_after == 0 {
            self.set_all_aside(party)?;
        } else {
            self.set_aside(party, resend_after)?;
        }
        let mut state = self.state(party)?.clone();
        if state.epoch != 0 {
            let held = state.delivered_acknowledged;
            epoch::keep_ended(self.connection, &state, held, 0)?;
        }
        epoch::enter(self.connection, &mut state, epoch)?;
        *self.state(party)? = state;
        self.touch(party);
        Ok(())
    }

    /// Moves own submissions after a position out of the journal, in their
    /// order; they stay known. What was set aside earlier and waits still is
    /// older: it is appended first, so that everything keeps its order.
    fn set_aside(&mut self, party: &PartyId, after: u64) -> Result<(), StoreError> {
        self.reappend(party, u64::MAX)?;
        self.fresh.push(Fresh::Forget(party.clone()));
        let state = self.state(party)?.clone();
        let head = state.head.position;
        if head <= after {
            return Ok(());
        }
        let aside = self.aside_journal(party)?;
        for position in after + 1..=head {
            let from = row_id(state.submissions, position);
            let to = row_id(aside, state.aside_to + position - after);
            if let Some(moving) = self.moving(from)? {
                self.move_row(party, &moving, from, to)?;
            }
        }
        let state = self.state(party)?;
        state.aside_journal = aside;
        state.aside_to += head - after;
        Ok(())
    }

    /// Moves all own submissions of all epochs out of their journals.
    fn set_all_aside(&mut self, party: &PartyId) -> Result<(), StoreError> {
        self.reappend(party, u64::MAX)?;
        self.fresh.push(Fresh::Forget(party.clone()));
        let rows = self.own_submissions(party)?;
        if rows.is_empty() {
            return Ok(());
        }
        let aside = self.aside_journal(party)?;
        let mut last = self.state(party)?.aside_to;
        for from in rows {
            last += 1;
            if let Some(moving) = self.moving(from)? {
                self.move_row(party, &moving, from, row_id(aside, last))?;
            }
        }
        let state = self.state(party)?;
        state.aside_journal = aside;
        state.aside_to = last;
        Ok(())
    }

    /// Appends what was set aside again, in order; `true`: nothing is left.
    pub(super) fn reappend(&mut self, party: &PartyId, at_most: u64) -> Result<bool, StoreError> {
        let state = self.state(party)?.clone();
        if state.aside_from > state.aside_to {
            return Ok(true);
        }
        self.fresh.push(Fresh::Forget(party.clone()));
        let last = state
            .aside_to
            .min(state.aside_from.saturating_add(at_most) - 1);
        for place in state.aside_from..=last {
            let old = row_id(state.aside_journal, place);
            // A hole: that stretch was to be copied and never was here.
            let Some(moving) = self.moving(old)? else {
                continue;
            };
            let (new, chain) = self.next_submission(party, &event_digest(&moving.event))?;
            self.move_row(party, &moving, old, new)?;
            self.connection
                .prepare_cached("UPDATE submission SET chain = ?2 WHERE id = ?1")?
                .execute(params![new, chain.as_bytes()])?;
        }
        let state = self.state(party)?;
        state.aside_from = last + 1;
        let is_done = state.aside_from > state.aside_to;
        self.touch(party);
        Ok(is_done)
    }

    /// A submission that can be sent again; one whose bytes are gone stays where
    /// it is.
    fn moving(&self, row: i64) -> Result<Option<Moving>, StoreError> {
        let found = self
            .connection
            .prepare_cached("SELECT event, event_id, complaint_id FROM submission WHERE id = ?1 AND event <> x''")?
            .query_row([row], |found| {
                let id = |index| -> Result<Option<[u8; 16]>, rusqlite::Error> {
                    let bytes: Option<Vec<u8>> = found.get(index)?;
                    bytes.map(|bytes| blob16(&bytes)).transpose()
                };
                Ok(Moving {
                    event: found.get(0)?,
                    event_id: id(1)?.map(EventId::from_bytes),
                    complaint_id: id(2)?.map(ComplaintId::from_bytes),
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Moves a submission with its parts, and whatever points to it.
    fn move_row(
        &self,
        party: &PartyId,
        moving: &Moving,
        old: i64,
        new: i64,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE submission SET id = ?2 WHERE id = ?1")?
            .execute([old, new])?;
        // Decided in an epoch that ended: what was said stays said until the
        // hub says it anew.
        self.connection
            .prepare_cached("UPDATE OR REPLACE decision SET row = ?2 WHERE row = ?1")?
            .execute([old, new])?;
        if let Some(event_id) = &moving.event_id {
            self.moved(party, event_id, moving.complaint_id.as_ref(), (old, new))?;
        }
        Ok(())
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
        self.fresh.push(Fresh::Forget(party.clone()));
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
        // After a second opening the stretch may reach over rows that are here.
        match self.chain_of(row)? {
            Some(found) if found == chain => return Ok(()),
            Some(_) => self.take_out(row)?,
            None => {}
        }
        let event = incoming.event.as_ref().ok();
        // Erased with its parts, the digest is no longer there: then the hub,
        // which remembers, answers a repetition.
        let mac = incoming
            .entry
            .handover_digest
            .map(|digest| self.shared.mac(&digest));
        self.put_submission(
            row,
            &NewRow {
                event: &incoming.entry.event,
                event_id: event.map(|event| event.event_id),
                mac,
                complaint_id: event.map(|event| *event.complaint_id.as_bytes()),
                handover_digest: incoming.entry.handover_digest,
                parts: &incoming.entry.parts,
                effect: event.map(OwnEffect::json_of).transpose()?.flatten(),
                chain,
                now: event.map_or(Micros(0), |event| event.recorded_at),
            },
        )?;
        let Some(event) = event else {
            return Ok(());
        };
        // Re-appended meanwhile: the first place is what counts.
        let whose = Whose::Party(party);
        let view = complaint_row(self.connection, whose, &event.complaint_id)?;
        let known = self.known(event, view)?;
        if let Some(later) = known.filter(|known| known.row != row) {
            let places = (later.row, row);
            self.moved(party, &event.event_id, Some(&event.complaint_id), places)?;
            let view = self.view(party, &event.complaint_id, row)?;
            self.put_event_of(view, later.row)?;
        } else {
            self.note_own(event, row, view)?;
        }
        self.level_erasures(party, &event.complaint_id, &event.event_id)?;
        let decision = read_decision(self.connection, row)?;
        if decision.is_some_and(|found| found.outcome == Outcome::Accepted) {
            self.take_own_effect(party, row)?;
        }
        Ok(())
    }

    fn chain_of(&self, row: i64) -> Result<Option<Digest>, StoreError> {
        let chain: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT chain FROM submission WHERE id = ?1")?
            .query_row([row], |found| found.get(0))
            .optional()?;
        Ok(chain.map(|bytes| super::digest(&bytes)).transpose()?)
    }

    fn take_out(&self, row: i64) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM submission WHERE id = ?1", [row])?;
        self.connection
            .execute("DELETE FROM gone WHERE row = ?1", [row])?;
        Ok(())
    }
}
