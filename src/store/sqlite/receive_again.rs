//! What the hub tells a node again in a later epoch. The node knows it again by
//! the event, not by its place, and does not hand it over a second time.
//!
//! Invariants: what was handed to the local system in an earlier epoch, or
//! waits for it there, is not handed over in this one; the hub's word in this
//! epoch counts for revision, status and handler, also where it had said
//! something else before; parts of an event are kept once.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{Decision, DecisionSet, DeliveryRecord, Micros, Outcome, PartyId},
    exchange::Direction,
    store::{
        ReceivedEntry, StoreError, ToldBefore,
        kept::{PARTLY_TOLD, READABLE, TOLD_BEFORE, says_the_same},
    },
};

use super::{
    decisions::read_decision,
    journal::{journal_of, row_id},
    lookup::{Whose, filed_row, find_event},
    writer::Tx,
};

/// What of a delivery an earlier epoch brought already.
pub(super) fn told_before(
    connection: &Connection,
    row: i64,
    flags: i64,
) -> Result<ToldBefore, StoreError> {
    if flags & TOLD_BEFORE != 0 {
        return Ok(ToldBefore::Everything);
    }
    if flags & PARTLY_TOLD == 0 {
        return Ok(ToldBefore::Nothing);
    }
    let mut statement =
        connection.prepare_cached("SELECT place FROM told_decision WHERE row = ?1")?;
    let places = statement.query_map([row], |found| found.get(0))?;
    Ok(ToldBefore::Decisions(places.collect::<Result<_, _>>()?))
}

impl Tx<'_> {
    /// Stores a delivery that an earlier epoch may have brought: whether it
    /// had. `None`: it had not, and nothing was stored.
    pub(super) fn receive_again(
        &mut self,
        party: &PartyId,
        row: i64,
        received: &ReceivedEntry,
        now: Micros,
    ) -> Result<Option<bool>, StoreError> {
        let flags = READABLE | TOLD_BEFORE;
        match &received.record {
            Some(DeliveryRecord::Event(header)) => {
                let view = self.view(party, &header.complaint_id, row)?;
                let id = header.event_id.as_bytes();
                let Some((first, revision)) = self.told_event(view, id)? else {
                    self.make_room(view, header.revision, id)?;
                    return Ok(None);
                };
                self.put_delivery(row, received, None, (now, flags))?;
                if revision != Some(header.revision) {
                    self.make_room(view, header.revision, id)?;
                    // With the row in which its parts are.
                    self.heard_event(party, first, header, received.event.as_ref())?;
                }
                Ok(Some(true))
            }
            Some(DeliveryRecord::Decisions(set)) => {
                let told = self.decided_again(party, set)?;
                let is_all = told.len() == set.decisions.len();
                let flags = match told.is_empty() {
                    _ if is_all => flags,
                    true => READABLE,
                    false => READABLE | PARTLY_TOLD,
                };
                self.put_delivery(row, received, None, (now, flags))?;
                if !is_all {
                    self.note_told(row, &told)?;
                }
                Ok(Some(is_all))
            }
            None => Ok(None),
        }
    }

    fn note_told(&self, row: i64, places: &[u32]) -> Result<(), StoreError> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO told_decision (row, place) VALUES (?1, ?2)")?;
        for place in places {
            insert.execute(params![row, place])?;
        }
        Ok(())
    }

    /// Takes decisions. Places of those that say nothing that was not said.
    fn decided_again(
        &mut self,
        party: &PartyId,
        set: &DecisionSet,
    ) -> Result<Vec<u32>, StoreError> {
        let state = self.state(party)?;
        let is_current = set.epoch == state.epoch;
        let journal = match is_current {
            true => state.submissions,
            false => self.journal(party, Direction::Submissions.number(), set.epoch)?,
        };
        let first = row_id(journal, set.first_position);
        let mut told = Vec::new();
        for (place, decision) in (0..).zip(&set.decisions) {
            if !self.decided_one(party, first + i64::from(place), decision)? {
                told.push(place);
            }
        }
        if is_current {
            let through = set.first_position + set.decisions.len() as u64 - 1;
            self.acknowledged_by_decision(party, through)?;
        }
        Ok(told)
    }

    fn decided_one(
        &mut self,
        party: &PartyId,
        row: i64,
        decision: &Decision,
    ) -> Result<bool, StoreError> {
        let stands_there: Option<Option<Vec<u8>>> = self
            .connection
            .prepare_cached("SELECT event_id FROM submission WHERE id = ?1")?
            .query_row([row], |found| found.get(0))
            .optional()?;
        let id = decision.event_id.as_ref().map(|id| id.as_bytes().to_vec());
        let has_moved = match stands_there {
            Some(found) => found.is_some() && id.is_some() && found != id,
            None => self.stands_elsewhere(party, decision)?,
        };
        let is_ended = journal_of(row) != self.state(party)?.submissions;
        if has_moved {
            // It was sent again, and is decided where it stands now.
            return Ok(false);
        }
        if let Some(said) = read_decision(self.connection, row)? {
            // What was parked in an ended epoch and decided since is told again
            // from its beginning.
            let is_overtaken = is_ended && decision.outcome == Outcome::Parked;
            if is_overtaken || says_the_same(&said, decision) {
                return Ok(false);
            }
            self.uncount(party, said.outcome)?;
            self.take_decision(row)?;
            self.note_anew(row)?;
        }
        self.heard_decision(party, row, decision)?;
        if is_ended {
            self.keep_lost(party, row, decision)?;
        }
        Ok(true)
    }

    /// Whether the event that was decided stands in another row. A node that
    /// has lost its disk has none.
    fn stands_elsewhere(&self, party: &PartyId, decision: &Decision) -> Result<bool, StoreError> {
        let (Some(event), Some(complaint)) = (&decision.event_id, &decision.complaint_id) else {
            return Ok(false);
        };
        let filed = filed_row(self.connection, Whose::Party(party), complaint)?;
        Ok(find_event(self.connection, event, filed)?.is_some())
    }

    /// The row of a delivered event that has no revision any more.
    pub(super) fn told_row(&self, view: i64, event_id: &[u8]) -> Result<Option<i64>, StoreError> {
        Ok(self.told_event(view, event_id)?.map(|(row, _)| row))
    }
}
