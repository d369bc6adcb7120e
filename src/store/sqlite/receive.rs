//! What the node of a region writes when the hub delivers: inbox, the view of
//! complaints by the hub's word, outcomes of own submissions.

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::{
        ComplaintId, Decision, DeliveryRecord, Event, EventHeader, EventId, InstitutionCode,
        Micros, Outcome, PartyId, Status, TrackingId,
    },
    exchange::{Direction, Place},
    store::{
        ReceiveBatch, ReceivedEntry, StoreError,
        kept::{HeaderRow, OwnEffect, READABLE, erased_digest},
    },
};

use super::{
    blob16,
    journal::{row_id, submission_chain},
    keys::Table,
    parts::pack,
    writer::Tx,
};

/// Where the hub says that a complaint stands.
struct Standing<'a> {
    revision: u32,
    status: Status,
    handler: Option<&'a InstitutionCode>,
    tracking_id: &'a TrackingId,
    answer_missing: bool,
}

/// Effect, complaint and event of an own submission.
type EffectRow = (Option<String>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Tx<'_> {
    /// Stores deliveries.
    pub(super) fn receive(
        &mut self,
        party: &PartyId,
        batch: &ReceiveBatch,
    ) -> Result<Place, StoreError> {
        let state = self.state(party)?;
        if state.delivered_acknowledged != batch.expected {
            return Err(StoreError::Mismatch(format!(
                "deliveries stand at {}, not at {}",
                state.delivered_acknowledged.position, batch.expected.position
            )));
        }
        let first = state.delivered + 1;
        let is_later_epoch = self.has_ended_epochs(party)?;
        for (place, received) in batch.entries.iter().enumerate() {
            let position = first + place as u64;
            let row = self.state(party)?.row(Direction::Deliveries, position);
            let again = match is_later_epoch {
                true => self.receive_again(party, row, received, batch.now)?,
                false => None,
            };
            match again {
                None => self.receive_one(party, row, received, batch.now)?,
                Some(true) if self.state(party)?.consumed + 1 == position => {
                    self.state(party)?.consumed = position;
                }
                Some(_) => {}
            }
        }
        let state = self.state(party)?;
        state.delivered = batch.head.position;
        state.delivered_acknowledged = batch.head;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO mark (id, chain) VALUES (?1, ?2)")?
            .execute(params![
                row_id(self.state(party)?.deliveries, batch.head.position),
                batch.head.chain.as_bytes()
            ])?;
        self.touch(party);
        Ok(batch.head)
    }

    pub(super) fn put_delivery(
        &self,
        row: i64,
        received: &ReceivedEntry,
        parts: Option<Vec<u8>>,
        (now, flags): (Micros, i64),
    ) -> Result<(), StoreError> {
        let entry = &received.entry;
        let event = (!entry.event.is_empty()).then_some(&*entry.event);
        self.connection
            .prepare_cached(
                "INSERT INTO delivery (id, stored_at, header, event, readable, parts) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![row, now.0, &*entry.header, event, flags, parts])?;
        Ok(())
    }

    fn receive_one(
        &mut self,
        party: &PartyId,
        row: i64,
        received: &ReceivedEntry,
        now: Micros,
    ) -> Result<(), StoreError> {
        let parts = pack(&received.entry.parts);
        self.put_delivery(row, received, parts, (now, READABLE))?;
        if !received.is_readable() {
            self.note_unread(party, row)?;
        }
        match &received.record {
            Some(DeliveryRecord::Event(header)) => {
                self.heard_event(party, row, header, received.event.as_ref())
            }
            Some(DeliveryRecord::Decisions(set)) => {
                let state = self.state(party)?;
                if set.epoch != state.epoch {
                    return self.heard_of_ended(party, set);
                }
                let first = state.row(Direction::Submissions, set.first_position);
                for (row, decision) in (first..).zip(&set.decisions) {
                    self.heard_decision(party, row, decision)?;
                }
                let through = set.first_position + set.decisions.len() as u64 - 1;
                self.acknowledged_by_decision(party, through)
            }
            None => Ok(()),
        }
    }

    pub(super) fn heard_event(
        &mut self,
        party: &PartyId,
        row: i64,
        header: &EventHeader,
        event: Option<&Event>,
    ) -> Result<(), StoreError> {
        let json = HeaderRow::from(header).json()?;
        let view = self.view(party, &header.complaint_id, row)?;
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO history (complaint, revision, row, event_id, \
                 author, accepted_at, hops, header) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                view,
                header.revision,
                row,
                header.event_id.as_bytes(),
                header.party.as_str(),
                header.accepted_at.0,
                header.hops,
                json
            ])?;
        self.stands(
            party,
            view,
            &header.complaint_id,
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
        self.note_filing(view, event)?;
        if let Some(effect) = OwnEffect::of(event) {
            let by = &header.event_id;
            self.take_effect(party, view, &event.complaint_id, &effect, by)?;
        }
        Ok(())
    }

    pub(super) fn heard_decision(
        &mut self,
        party: &PartyId,
        row: i64,
        decision: &Decision,
    ) -> Result<(), StoreError> {
        if self.put_decision(row, decision)? {
            self.count(party, decision.outcome)?;
        } else if !self.supersede(party, row, decision)? {
            return Ok(());
        }
        let settled = matches!(decision.outcome, Outcome::Accepted | Outcome::Duplicate);
        if let (true, Some(complaint), Some(status), Some(tracking_id)) = (
            settled,
            &decision.complaint_id,
            decision.status,
            &decision.tracking_id,
        ) {
            let standing = Standing {
                revision: decision.revision,
                status,
                handler: decision.handler.as_ref(),
                tracking_id,
                answer_missing: decision.answer_missing,
            };
            let is_filing = decision.revision == 1;
            if !(is_filing && self.stands(party, row, complaint, &standing)?) {
                let view = self.view(party, complaint, row)?;
                self.stands(party, view, complaint, &standing)?;
            }
            // A filing has no effect beside what the view says of it.
            if decision.revision > 1 {
                self.take_own_effect(party, row)?;
            }
        }
        if let (Outcome::Duplicate, Some(complaint), Some(event_id)) =
            (decision.outcome, &decision.complaint_id, &decision.event_id)
        {
            self.level_erasures(party, complaint, event_id)?;
        }
        if decision.outcome == Outcome::Rejected {
            // A reference that the hub did not link names nothing.
            self.connection
                .prepare_cached(
                    "DELETE FROM reference WHERE party = ?1 AND complaint_id = ?2 AND row = ?3",
                )?
                .execute(params![
                    party.as_str(),
                    decision
                        .complaint_id
                        .as_ref()
                        .map(|id| id.as_bytes().as_slice()),
                    row
                ])?;
        }
        Ok(())
    }

    /// Where the complaint stands, by the hub's word; never backwards within
    /// an epoch. A hub that went back says it anew in the next one. `false`: it
    /// stands already, or that row is not this complaint's view.
    fn stands(
        &mut self,
        party: &PartyId,
        view: i64,
        complaint: &ComplaintId,
        now: &Standing<'_>,
    ) -> Result<bool, StoreError> {
        let epoch = self.state(party)?.epoch as i64;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE complaint_view SET status = ?3, handler = ?4, tracking_id = ?5, \
                 answer_missing = ?6, revision = ?2, epoch = ?7 \
                 WHERE id = ?1 AND (revision <= ?2 OR epoch < ?7) \
                 AND complaint_id = ?8 AND party = ?9",
            )?
            .execute(params![
                view,
                now.revision,
                now.status.code(),
                now.handler.map(|code| code.as_str()),
                now.tracking_id.as_str(),
                now.answer_missing,
                epoch,
                complaint.as_bytes(),
                party.as_str()
            ])?;
        if changed == 0 {
            return Ok(false);
        }
        // One in a billion billion: the hub's key is not ours.
        let number = now.tracking_id.number();
        if number != TrackingId::number_of(complaint, 0) {
            let db = self.connection;
            db.put_key(Table::Complaints, number as i64, view)?;
        }
        Ok(true)
    }

    /// An own event was accepted: what it changes here.
    pub(super) fn take_own_effect(&mut self, party: &PartyId, row: i64) -> Result<(), StoreError> {
        let found: Option<EffectRow> = self
            .connection
            .prepare_cached("SELECT effect, complaint_id, event_id FROM submission WHERE id = ?1")?
            .query_row([row], |found| {
                Ok((found.get(0)?, found.get(1)?, found.get(2)?))
            })
            .optional()?;
        let Some((Some(effect), Some(complaint), Some(event_id))) = found else {
            return Ok(());
        };
        let effect = OwnEffect::from_json(&effect)?;
        let by = EventId::from_bytes(blob16(&event_id)?);
        let complaint = ComplaintId::from_bytes(blob16(&complaint)?);
        let view = self.view(party, &complaint, row)?;
        self.take_effect(party, view, &complaint, &effect, &by)
    }

    fn take_effect(
        &mut self,
        party: &PartyId,
        view: i64,
        complaint: &ComplaintId,
        effect: &OwnEffect,
        by: &EventId,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE complaint_view SET anonymous = coalesce(?2, anonymous), \
                 confidential = coalesce(?3, confidential) WHERE id = ?1",
            )?
            .execute(params![view, effect.anonymous, effect.confidential])?;
        let Some((event_id, sha256)) = &effect.erases else {
            return Ok(());
        };
        let sha256 = erased_digest(sha256)?;
        // Only rows of this complaint: an erasure names no other's events.
        let mut rows = self.own_rows(party, complaint, event_id)?;
        let delivered: Option<i64> = self
            .connection
            .prepare_cached("SELECT row FROM history WHERE complaint = ?1 AND event_id = ?2")?
            .query_row(params![view, event_id.as_bytes()], |row| row.get(0))
            .optional()?;
        let delivered = match delivered {
            Some(row) => Some(row),
            None => self.told_row(view, event_id.as_bytes())?,
        };
        rows.extend(delivered);
        self.erase_at_node(&rows, &sha256, by)
    }

    /// A decision on `through` acknowledges through it.
    pub(super) fn acknowledged_by_decision(
        &mut self,
        party: &PartyId,
        through: u64,
    ) -> Result<(), StoreError> {
        let state = self.state(party)?.clone();
        if through <= state.acknowledged.position || through > state.head.position {
            return Ok(());
        }
        if let Some(chain) = submission_chain(self.connection, &state, through)? {
            self.state(party)?.acknowledged = Place {
                position: through,
                chain,
            };
        }
        Ok(())
    }
}
