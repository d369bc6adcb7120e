//! What the hub delivers: inbox, the view of complaints by the hub's word,
//! outcomes of own submissions.

use crate::{
    domain::{
        ComplaintId, Decision, DecisionSet, DeliveryRecord, Event, EventHeader, EventId,
        InstitutionCode, Micros, Outcome, PartyId, Status, TrackingId,
    },
    exchange::{Direction, Place, root_chain},
    store::{
        ReceiveBatch, ReceivedEntry, StoreError,
        kept::{HeaderRow, OwnEffect, READABLE, erased_digest},
        standing::{PartyState, position_of, row_id},
    },
};

use super::world::{History, NewDelivery, Parts, Step, Want, World, of_complaint};

/// Where the hub says that a complaint stands.
struct Standing<'a> {
    revision: u32,
    status: Status,
    handler: Option<&'a InstitutionCode>,
    tracking_id: &'a TrackingId,
    answer_missing: bool,
}

impl World {
    /// Stores deliveries.
    pub(super) fn receive(&mut self, party: &PartyId, batch: &ReceiveBatch) -> Step<Place> {
        let state = self.state(party)?;
        if state.delivered_acknowledged != batch.expected {
            return Err(StoreError::Mismatch(format!(
                "deliveries stand at {}, not at {}",
                state.delivered_acknowledged.position, batch.expected.position
            ))
            .into());
        }
        let (deliveries, first) = (state.deliveries, state.delivered + 1);
        let is_later_epoch = !self.ended_of(party).is_empty();
        for (position, received) in (first..).zip(&batch.entries) {
            let row = row_id(deliveries, position);
            self.step(|world| {
                let again = match is_later_epoch {
                    true => world.receive_again(party, row, received, batch.now)?,
                    false => None,
                };
                match again {
                    None => world.receive_one(party, row, received, batch.now)?,
                    Some(true) if world.state(party)?.consumed + 1 == position => {
                        world.state(party)?.consumed = position;
                    }
                    Some(_) => {}
                }
                Ok(())
            })?;
        }
        let state = self.state(party)?;
        state.delivered = batch.head.position;
        state.delivered_acknowledged = batch.head;
        let mark = (row_id(deliveries, batch.head.position), batch.head.chain);
        self.job().marks.push(mark);
        self.touch(party);
        Ok(batch.head)
    }

    /// Keeps a delivery, with its parts or without them.
    pub(super) fn put_delivery(
        &mut self,
        row: i64,
        received: &ReceivedEntry,
        has_parts: bool,
        (now, flags): (Micros, i64),
    ) {
        let entry = &received.entry;
        let parts = match has_parts {
            true => entry.parts.clone(),
            false => Vec::new(),
        };
        self.parts.set(
            row,
            Parts {
                is_delivery: true,
                parts,
                is_erased: false,
            },
        );
        self.job().deliveries.push(NewDelivery {
            row,
            stored_at: now,
            header: entry.header.clone(),
            event: entry.event.clone(),
            readable: flags as i16,
        });
    }

    fn receive_one(
        &mut self,
        party: &PartyId,
        row: i64,
        received: &ReceivedEntry,
        now: Micros,
    ) -> Step<()> {
        self.put_delivery(row, received, true, (now, READABLE));
        if !received.is_readable() {
            self.unread.set(row, party.clone());
        }
        match &received.record {
            Some(DeliveryRecord::Event(header)) => {
                self.heard_event(party, row, header, received.event.as_ref())
            }
            Some(DeliveryRecord::Decisions(set)) => self.heard_set(party, set),
            None => Ok(()),
        }
    }

    /// Decisions, of whatever epoch.
    pub(super) fn heard_set(&mut self, party: &PartyId, set: &DecisionSet) -> Step<()> {
        let state = self.state(party)?;
        let (submissions, is_ended) = (state.submissions, set.epoch != state.epoch);
        let journal = match is_ended {
            // At a node that has lost its store since: the submissions are not
            // here, what became of them is.
            true => self.journal(party, Direction::Submissions.number(), set.epoch),
            false => submissions,
        };
        let first = row_id(journal, set.first_position);
        for (row, decision) in (first..).zip(&set.decisions) {
            self.step(|world| {
                world.heard_decision(party, row, decision)?;
                if is_ended {
                    world.keep_lost(party, row, decision)?;
                }
                Ok(())
            })?;
        }
        if is_ended {
            return Ok(());
        }
        let through = set.first_position + set.decisions.len() as u64 - 1;
        self.acknowledged_by_decision(party, through)
    }

    /// An event, by the hub's word.
    pub(super) fn heard_event(
        &mut self,
        party: &PartyId,
        row: i64,
        header: &EventHeader,
        event: Option<&Event>,
    ) -> Step<()> {
        let json = HeaderRow::from(header).json()?;
        let complaint = &header.complaint_id;
        let view = self.view(party, complaint)?;
        let revision = (view, header.revision);
        if self.histories.get(&revision).is_none() {
            self.histories.set(
                revision,
                History {
                    row,
                    event_id: *header.event_id.as_bytes(),
                    author: header.party.to_string(),
                    accepted_at: header.accepted_at.0,
                    hops: header.hops,
                    header: json,
                },
            );
        }
        self.stands(
            party,
            complaint,
            &Standing {
                revision: header.revision,
                status: header.status,
                handler: header.handler.as_ref(),
                tracking_id: &header.tracking_id,
                answer_missing: header.answer_missing,
            },
        )?;
        let Some(event) = event else {
            return Ok(());
        };
        self.note_filing(party, complaint, event)?;
        if let Some(effect) = OwnEffect::of(event) {
            self.take_effect(party, complaint, &effect, &header.event_id)?;
        }
        Ok(())
    }

    /// What the hub decided about an own submission.
    pub(super) fn heard_decision(
        &mut self,
        party: &PartyId,
        row: i64,
        decision: &Decision,
    ) -> Step<()> {
        let complaint = decision.complaint_id.as_ref();
        let view = complaint.map(|id| of_complaint(party, id));
        self.need(view.into_iter().chain([Want::Row(row)]))?;
        match self.decisions.get(&row) {
            None => {
                self.decisions.set(row, decision.clone());
                self.count(party, decision.outcome)?;
            }
            Some(_) => {
                if !self.supersede(party, row, decision)? {
                    return Ok(());
                }
            }
        }
        let settled = matches!(decision.outcome, Outcome::Accepted | Outcome::Duplicate);
        if let (true, Some(complaint), Some(status), Some(tracking_id)) =
            (settled, complaint, decision.status, &decision.tracking_id)
        {
            let standing = Standing {
                revision: decision.revision,
                status,
                handler: decision.handler.as_ref(),
                tracking_id,
                answer_missing: decision.answer_missing,
            };
            self.view(party, complaint)?;
            self.stands(party, complaint, &standing)?;
            // A filing has no effect beside what the view says of it.
            if decision.revision > 1 {
                self.take_own_effect(party, row)?;
            }
        }
        if let (Outcome::Duplicate, Some(complaint), Some(event_id)) =
            (decision.outcome, complaint, &decision.event_id)
        {
            self.level_erasures(party, complaint, event_id)?;
        }
        if let (Outcome::Rejected, Some(complaint)) = (decision.outcome, complaint) {
            // A reference that the hub did not link names nothing.
            self.detach(party, complaint, row);
        }
        Ok(())
    }

    fn detach(&mut self, party: &PartyId, complaint: &ComplaintId, row: i64) {
        for name in self.names_of(party, complaint) {
            if self.called.get(&name).is_some_and(|(_, of)| *of == row) {
                self.called.take(&name);
                let of = (party.clone(), *complaint.as_bytes());
                if let Some(names) = self.named.edit(&of) {
                    names.remove(&name.1);
                }
            }
        }
    }

    pub(super) fn count(&mut self, party: &PartyId, outcome: Outcome) -> Step<()> {
        self.state(party)?.counts.count(outcome);
        Ok(())
    }

    pub(super) fn uncount(&mut self, party: &PartyId, outcome: Outcome) -> Step<()> {
        let counts = &mut self.state(party)?.counts;
        let count = match outcome {
            Outcome::Accepted => &mut counts.accepted,
            Outcome::Duplicate => &mut counts.duplicates,
            Outcome::Rejected => &mut counts.rejected,
            Outcome::Parked => &mut counts.parked,
        };
        *count = count.saturating_sub(1);
        Ok(())
    }

    /// The hub said something about this row before. It counts again only if that
    /// was "parked"; `false`: what was said stays.
    fn supersede(&mut self, party: &PartyId, row: i64, decision: &Decision) -> Step<bool> {
        let Some(said) = self.decision(row)?.cloned() else {
            return Ok(false);
        };
        if said.outcome != Outcome::Parked || decision.outcome == Outcome::Parked {
            if &said != decision {
                tracing::warn!(
                    event = "decision_ignored",
                    %party,
                    position = position_of(row),
                    "the hub has decided this before, and that was final: what it says now is kept and changes nothing"
                );
            }
            return Ok(false);
        }
        self.uncount(party, said.outcome)?;
        self.decisions.set(row, decision.clone());
        self.count(party, decision.outcome)?;
        self.note_anew(row);
        Ok(true)
    }

    /// Where the complaint stands, by the hub's word; never backwards within an
    /// epoch. A hub that went back says it anew in the next one.
    fn stands(&mut self, party: &PartyId, complaint: &ComplaintId, now: &Standing<'_>) -> Step<()> {
        let epoch = self.state(party)?.epoch;
        let view = self.edit_view(party, complaint)?;
        if view.revision > now.revision && view.epoch >= epoch {
            return Ok(());
        }
        view.status = Some(now.status.code().to_owned());
        view.handler = now.handler.map(ToString::to_string);
        view.tracking_id = Some(now.tracking_id.as_str().to_owned());
        // Another one than ours, one in a billion billion: the hub's was taken.
        view.number = now.tracking_id.number() as i64;
        view.answer_missing = now.answer_missing;
        view.revision = now.revision;
        view.epoch = epoch;
        Ok(())
    }

    /// An own event was accepted: what it changes here.
    pub(super) fn take_own_effect(&mut self, party: &PartyId, row: i64) -> Step<()> {
        let Some(sub) = self.sub(row)? else {
            return Ok(());
        };
        let (Some(effect), Some(complaint), Some(event_id)) =
            (&sub.effect, sub.complaint_id, sub.event_id)
        else {
            return Ok(());
        };
        let effect = OwnEffect::from_json(effect)?;
        let (by, complaint) = (
            EventId::from_bytes(event_id),
            ComplaintId::from_bytes(complaint),
        );
        self.view(party, &complaint)?;
        self.take_effect(party, &complaint, &effect, &by)
    }

    fn take_effect(
        &mut self,
        party: &PartyId,
        complaint: &ComplaintId,
        effect: &OwnEffect,
        by: &EventId,
    ) -> Step<()> {
        let view = self.edit_view(party, complaint)?;
        view.anonymous = effect.anonymous.unwrap_or(view.anonymous);
        view.confidential = effect.confidential.unwrap_or(view.confidential);
        let view = view.id;
        let Some((event_id, sha256)) = &effect.erases else {
            return Ok(());
        };
        let sha256 = erased_digest(sha256)?;
        // Only rows of this complaint: an erasure names no other's events.
        let mut rows = self.own_rows(party, complaint, event_id)?;
        rows.extend(self.told_row(view, event_id.as_bytes()));
        self.erase_at_node(&rows, &sha256, by)
    }

    /// A decision on `through` acknowledges through it.
    pub(super) fn acknowledged_by_decision(&mut self, party: &PartyId, through: u64) -> Step<()> {
        let state = self.state(party)?.clone();
        if through <= state.acknowledged.position || through > state.head.position {
            return Ok(());
        }
        if let Some(chain) = self.submission_chain(&state, through)? {
            self.state(party)?.acknowledged = Place {
                position: through,
                chain,
            };
        }
        Ok(())
    }

    /// The chain at a position of the submissions.
    pub(super) fn submission_chain(
        &mut self,
        state: &PartyState,
        position: u64,
    ) -> Step<Option<crate::domain::Digest>> {
        if position == 0 {
            let root = root_chain(&state.party, Direction::Submissions, state.epoch);
            return Ok(Some(root));
        }
        if position > state.head.position {
            return Ok(None);
        }
        for known in [state.head, state.acknowledged] {
            if position == known.position {
                return Ok(Some(known.chain));
            }
        }
        let found = self.sub(row_id(state.submissions, position))?;
        Ok(found.map(|sub| sub.chain))
    }

    /// What was said of a row was not final, and another word has just come: it,
    /// and what stands behind it, is noted anew, and waits until the local system
    /// has taken that word over too.
    pub(super) fn note_anew(&mut self, row: i64) {
        let place = (
            crate::store::standing::journal_of(row),
            position_of(row).saturating_sub(1),
        );
        self.job().anew.push(place);
    }
}

/// Positions that an opening or a decision has named, as the database keeps them.
impl World {
    /// The hub holds own submissions through this place.
    pub(super) fn acknowledge(
        &mut self,
        party: &PartyId,
        direction: Direction,
        place: Place,
    ) -> Step<()> {
        if direction == Direction::Deliveries {
            return Ok(());
        }
        let state = self.state(party)?;
        if place.position > state.acknowledged.position && place.position <= state.head.position {
            state.acknowledged = place;
            self.touch(party);
        }
        Ok(())
    }

    /// The local system has taken over this much of an epoch, or of the one in
    /// force. Never goes back, never beyond its end.
    pub(super) fn consume(
        &mut self,
        party: &PartyId,
        epoch: Option<u64>,
        through: u64,
    ) -> Step<u64> {
        let state = self.state(party)?;
        let epoch = epoch.unwrap_or(state.epoch);
        let consumed = if state.epoch == epoch {
            state.consumed = state.consumed.max(through.min(state.delivered));
            state.consumed
        } else if let Some(ended) = self.ended.edit(&(party.clone(), epoch)) {
            ended.consumed = ended.consumed.max(through.min(ended.delivered.position));
            ended.consumed
        } else {
            0
        };
        self.touch(party);
        Ok(consumed)
    }

    /// A node that lost its store takes over how far its local system had come.
    pub(super) fn adopt_consumed(&mut self, party: &PartyId, through: u64) -> Step<()> {
        let state = self.state(party)?;
        state.consumed = state.consumed.max(through);
        self.touch(party);
        Ok(())
    }

    /// Keeps a chain of the deliveries that had to be computed.
    pub(super) fn mark(&mut self, party: &PartyId, place: Place) -> Step<()> {
        let row = row_id(self.state(party)?.deliveries, place.position);
        self.job().marks.push((row, place.chain));
        Ok(())
    }
}
