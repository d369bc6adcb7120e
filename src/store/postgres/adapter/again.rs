//! What comes a second time: what the hub tells again in a later epoch, and what
//! could not be read when it came.
//!
//! Invariants: what was handed to the local system in an earlier epoch, or waits for
//! it there, is not handed over in this one; the hub's word in this epoch counts for
//! revision, status and handler, also where it had said something else before;
//! parts of an event are kept once.

use crate::{
    domain::{
        Decision, DecisionSet, DeliveryRecord, Digest, Event, EventHeader, Micros, Outcome, PartyId,
    },
    exchange::Direction,
    store::{
        ReceivedEntry,
        kept::{PARTLY_TOLD, READABLE, TOLD_BEFORE, says_the_same},
        standing::{journal_of, row_id},
    },
};

use super::{
    own::NewRow,
    world::{History, NewSub, Step, Sub, Want, World, of_complaint, of_event},
};

impl World {
    /// Stores a delivery that an earlier epoch may have brought: whether it had.
    /// `None`: it had not, and nothing was stored.
    pub(super) fn receive_again(
        &mut self,
        party: &PartyId,
        row: i64,
        received: &ReceivedEntry,
        now: Micros,
    ) -> Step<Option<bool>> {
        let flags = READABLE | TOLD_BEFORE;
        match &received.record {
            Some(DeliveryRecord::Event(header)) => {
                let view = self.view(party, &header.complaint_id)?;
                let id = header.event_id.as_bytes();
                let Some((first, revision)) = self.told_event(view, id) else {
                    self.make_room(view, header.revision, id);
                    return Ok(None);
                };
                self.put_delivery(row, received, false, (now, flags));
                if revision != Some(header.revision) {
                    self.make_room(view, header.revision, id);
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
                self.put_delivery(row, received, false, (now, flags));
                if !is_all {
                    let places = told.into_iter().map(|place| (row, place));
                    self.job().told.extend(places);
                }
                Ok(Some(is_all))
            }
            None => Ok(None),
        }
    }

    /// Takes decisions. Places of those that say nothing that was not said.
    fn decided_again(&mut self, party: &PartyId, set: &DecisionSet) -> Step<Vec<u32>> {
        let state = self.state(party)?;
        let is_current = set.epoch == state.epoch;
        let submissions = state.submissions;
        let journal = match is_current {
            true => submissions,
            false => self.journal(party, Direction::Submissions.number(), set.epoch),
        };
        let first = row_id(journal, set.first_position);
        let mut told = Vec::new();
        for (place, decision) in (0..).zip(&set.decisions) {
            let row = first + i64::from(place);
            let is_new = self.step(|world| world.decided_one(party, row, decision))?;
            if is_new == Some(false) {
                told.push(place);
            }
        }
        if is_current {
            let through = set.first_position + set.decisions.len() as u64 - 1;
            self.acknowledged_by_decision(party, through)?;
        }
        Ok(told)
    }

    fn decided_one(&mut self, party: &PartyId, row: i64, decision: &Decision) -> Step<bool> {
        let event = decision.event_id.as_ref().map(of_event);
        let complaint = decision.complaint_id.as_ref();
        let complaint = complaint.map(|id| of_complaint(party, id));
        self.need(event.into_iter().chain(complaint).chain([Want::Row(row)]))?;
        let id = decision.event_id.as_ref().map(|id| *id.as_bytes());
        let has_moved = match self.subs.get(&row) {
            Some(sub) => sub.event_id.is_some() && id.is_some() && sub.event_id != id,
            // A node that has lost its store has none.
            None => self.stands_elsewhere(decision)?,
        };
        if has_moved {
            // It was sent again, and is decided where it stands now.
            return Ok(false);
        }
        let is_ended = journal_of(row) != self.state(party)?.submissions;
        if let Some(said) = self.decision(row)?.cloned() {
            // What was parked in an ended epoch and decided since is told again
            // from its beginning.
            let is_overtaken = is_ended && decision.outcome == Outcome::Parked;
            if is_overtaken || says_the_same(&said, decision) {
                return Ok(false);
            }
            self.uncount(party, said.outcome)?;
            self.decisions.take(&row);
            self.note_anew(row);
        }
        self.heard_decision(party, row, decision)?;
        if is_ended {
            self.keep_lost(party, row, decision)?;
        }
        Ok(true)
    }

    /// Whether the event that was decided stands in another row.
    fn stands_elsewhere(&mut self, decision: &Decision) -> Step<bool> {
        match (&decision.event_id, &decision.complaint_id) {
            (Some(event), Some(_)) => Ok(self.find_event(event)?.is_some()),
            _ => Ok(false),
        }
    }

    /// The row in which this event was delivered before, and the revision that it
    /// had then, if it still has one. It is known with its complaint.
    pub(super) fn told_event(&self, view: i64, event_id: &[u8; 16]) -> Option<(i64, Option<u32>)> {
        let told = self.history_of(view).into_iter();
        let mut told = told.filter(|(_, found)| &found.event_id == event_id);
        if let Some((revision, found)) = told.next() {
            return Some((found.row, Some(revision)));
        }
        let row = self.told_before.get(&(view, *event_id))?;
        Some((*row, None))
    }

    /// The row of a delivered event, whether or not it has a revision.
    pub(super) fn told_row(&self, view: i64, event_id: &[u8; 16]) -> Option<i64> {
        self.told_event(view, event_id).map(|(row, _)| row)
    }

    /// Revisions of a complaint that is here, as they were delivered.
    pub(super) fn history_of(&self, view: i64) -> Vec<(u32, History)> {
        let all = self.histories.range((view, 0)..=(view, u32::MAX));
        let all = all.into_iter();
        all.map(|((_, revision), found)| (revision, found))
            .collect()
    }

    /// In this epoch a revision is another event's. The one that had it is
    /// remembered as told, and an older revision of this event goes.
    fn make_room(&mut self, view: i64, revision: u32, event_id: &[u8; 16]) {
        for (found, history) in self.history_of(view) {
            let is_this = &history.event_id == event_id;
            if (found == revision) == is_this {
                continue;
            }
            if found == revision {
                let of = (view, history.event_id);
                if self.told_before.get(&of).is_none() {
                    self.told_before.set(of, history.row);
                }
                self.histories.take(&(view, found));
            } else if is_this {
                self.histories.take(&(view, found));
            }
        }
    }

    /// A submission of an ended epoch that was lost with a store: its event is known
    /// by its id from now on, so that receipts and the complaint answer from the
    /// decision. Without a mac a repetition goes to the hub, which knows what it
    /// was.
    pub(super) fn keep_lost(&mut self, party: &PartyId, row: i64, decision: &Decision) -> Step<()> {
        let (Some(event_id), Some(complaint)) = (&decision.event_id, &decision.complaint_id) else {
            return Ok(());
        };
        self.need([
            of_event(event_id),
            of_complaint(party, complaint),
            Want::Row(row),
        ])?;
        if self.sub(row)?.is_some() || self.find_event(event_id)?.is_some() {
            return Ok(());
        }
        let stored_at = self.now();
        self.put_submission(
            row,
            NewRow {
                sub: Sub {
                    event_id: Some(*event_id.as_bytes()),
                    mac: None,
                    complaint_id: Some(*complaint.as_bytes()),
                    effect: None,
                    chain: Digest::default(),
                    is_gone: true,
                },
                new: NewSub {
                    stored_at,
                    event: bytes::Bytes::new(),
                    handover_digest: None,
                },
                parts: &[],
            },
        );
        self.job().gone.push(row);
        self.remember(event_id, row)?;
        // A complaint is known here by what was accepted of it.
        let Some(view) = self.view_of(party, complaint)? else {
            return Ok(());
        };
        let (view, is_unfiled) = (view.id, view.filed_row.is_none());
        let is_filing = decision.outcome == Outcome::Accepted && decision.revision == 1;
        if is_filing && is_unfiled {
            self.edit_view(party, complaint)?.filed_row = Some(row);
        } else {
            self.events_of.set((view, row), ());
        }
        Ok(())
    }

    /// Takes from a delivery what could not be read when it came. `false`: it is not
    /// among those, or still can't be read.
    pub(super) fn read_again(
        &mut self,
        party: &PartyId,
        place: (u64, u64),
        received: &ReceivedEntry,
    ) -> Step<bool> {
        let row = self.delivery_row(party, place)?;
        let Some(row) = row.filter(|_| received.is_readable()) else {
            return Ok(false);
        };
        if !self.take_unread(row)? {
            return Ok(false);
        }
        match &received.record {
            Some(DeliveryRecord::Event(header)) => {
                self.heard_late(party, row, header, received.event.as_ref())?;
            }
            Some(DeliveryRecord::Decisions(set)) => self.heard_set(party, set)?,
            None => {}
        }
        self.touch(party);
        Ok(true)
    }

    /// Nobody waits for this one any more. `false`: it is not among those that could
    /// not be read.
    pub(super) fn drop_unread(&mut self, party: &PartyId, place: (u64, u64)) -> Step<bool> {
        match self.delivery_row(party, place)? {
            Some(row) => self.take_unread(row),
            None => Ok(false),
        }
    }

    fn delivery_row(
        &mut self,
        party: &PartyId,
        (epoch, position): (u64, u64),
    ) -> Step<Option<i64>> {
        self.need([Want::Party(party.clone())])?;
        let journal = (party.clone(), Direction::Deliveries.number(), epoch);
        let journal = self.journals.get(&journal);
        Ok(journal.map(|journal| row_id(*journal, position)))
    }

    fn take_unread(&mut self, row: i64) -> Step<bool> {
        self.need([Want::Unread(row)])?;
        let is_there = self.unread.get(&row).is_some();
        if is_there {
            self.unread.take(&row);
        }
        Ok(is_there)
    }

    /// An event whose turn was long ago: it never sets a complaint back.
    fn heard_late(
        &mut self,
        party: &PartyId,
        row: i64,
        header: &EventHeader,
        event: Option<&Event>,
    ) -> Step<()> {
        let complaint = &header.complaint_id;
        let view = self.view(party, complaint)?;
        let told = self.told_event(view, header.event_id.as_bytes());
        if told.is_some_and(|(first, _)| first != row) {
            // Another epoch has brought it meanwhile, and it could be read.
            return Ok(());
        }
        let stood = self.edit_view(party, complaint)?.clone();
        self.heard_event(party, row, header, event)?;
        if stood.revision > header.revision {
            let view = self.edit_view(party, complaint)?;
            view.revision = stood.revision;
            view.epoch = stood.epoch;
            view.status = stood.status;
            view.handler = stood.handler;
            view.tracking_id = stood.tracking_id;
            view.number = stood.number;
            view.answer_missing = stood.answer_missing;
        }
        Ok(())
    }
}
