//! What the node of a region writes: hand-overs of its local systems,
//! deliveries of the hub, and what opening a link tells it to do.

use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::{
        ComplaintId, Event, EventBody, EventId, Micros, Outcome, PartyId, Progress, Reference,
        SystemName,
    },
    exchange::{Entry, event_digest},
    store::{
        NewSubmission, Receipt, StoreError, SubmitRefusal, kept::OwnEffect, memory::fresh_entry,
    },
};

use super::{
    blob16, damaged,
    decisions::read_decision,
    journal::{NewRow, position_of},
    lookup::{Known, Whose, complaint_row, filed_row, filed_row_of, is_found_by_complaint},
    view,
    writer::Tx,
};

impl Tx<'_> {
    /// Takes a hand-over at an adapter.
    pub(super) fn submit_own(
        &mut self,
        new: &NewSubmission,
        now: Micros,
    ) -> Result<Result<Receipt, SubmitRefusal>, StoreError> {
        let event = &new.event;
        let mac = self.shared.mac(&new.handover_digest);
        let whose = Whose::Party(&new.party);
        let view = complaint_row(self.connection, whose, &event.complaint_id)?;
        if let Some(repeated) = self.repeated(new, &mac, view)? {
            return Ok(repeated);
        }
        let is_filing = matches!(event.body, EventBody::Filed { .. });
        if !is_filing && view.is_none() {
            return Ok(Err(SubmitRefusal::UnknownComplaint));
        }
        if self.reference_is_taken(event)? {
            return Ok(Err(SubmitRefusal::ReferenceTaken));
        }
        // What was set aside goes before anything newer.
        self.reappend(&new.party, u64::MAX)?;
        let content = event_digest(&new.event_bytes);
        let (row, chain) = self.next_submission(&new.party, &content)?;
        self.put_submission(
            row,
            &NewRow {
                event: &new.event_bytes,
                event_id: Some(event.event_id),
                mac: Some(mac),
                complaint_id: Some(*event.complaint_id.as_bytes()),
                handover_digest: Some(new.handover_digest),
                parts: &new.parts,
                effect: OwnEffect::json_of(event)?,
                chain,
                now,
            },
        )?;
        self.note_own(event, row, view)?;
        let epoch = self.state(&new.party)?.epoch;
        let entry = Entry {
            header: bytes::Bytes::new(),
            event: new.event_bytes.clone(),
            parts: new.parts.clone(),
            handover_digest: Some(new.handover_digest),
        };
        self.fresh
            .push(fresh_entry(&new.party, epoch, position_of(row), now, entry));
        Ok(Ok(Receipt {
            event_id: event.event_id,
            complaint_id: event.complaint_id,
            progress: Progress::Stored,
            repeated: false,
            decision: None,
        }))
    }

    /// The answer to a hand-over that was here before, by its key or, for a
    /// filing, by its reference.
    pub(super) fn repeated(
        &mut self,
        new: &NewSubmission,
        mac: &[u8; 16],
        complaint: Option<i64>,
    ) -> Result<Option<Result<Receipt, SubmitRefusal>>, StoreError> {
        let event = &new.event;
        let mut known = self.known(event, complaint)?;
        if let (None, EventBody::Filed { .. }, Some(complaint)) = (known, &event.body, complaint) {
            known = self.filed_before(&new.party, complaint)?;
        }
        let Some(Known {
            row,
            mac: Some(stored_mac),
        }) = known
        else {
            return Ok(None);
        };
        if &stored_mac != mac {
            let stored = self.stored_event_digest(row)?;
            let refused = event_digest(&new.event_bytes);
            // The very same event is the same content, whatever stands beside it.
            if stored != refused {
                return Ok(Some(Err(SubmitRefusal::Conflict { stored, refused })));
            }
        }
        self.state(&new.party)?.counts.repeated_handovers += 1;
        let mut receipt = self.receipt_of(&new.party, row)?;
        receipt.repeated = true;
        Ok(Some(Ok(receipt)))
    }

    /// The filing of this complaint, unless the hub refused it: a corrected one
    /// may come then.
    fn filed_before(&self, party: &PartyId, complaint: i64) -> Result<Option<Known>, StoreError> {
        let whose = self.whose(party);
        let Some(row) = filed_row_of(self.connection, whose, complaint)? else {
            return Ok(None);
        };
        let decision = read_decision(self.connection, row)?;
        let was_refused = decision.is_some_and(|found| found.outcome == Outcome::Rejected);
        let mac = self.mac_of(row)?;
        Ok((!was_refused).then_some(Known { row, mac }))
    }

    /// Where a row of own submissions stands.
    pub(super) fn receipt_of(&mut self, party: &PartyId, row: i64) -> Result<Receipt, StoreError> {
        let state = self.state(party)?.clone();
        super::view::receipt_of_row(self.connection, &state, self.shared.is_hub, row)?
            .ok_or_else(|| damaged("a submission that dedup knows"))
    }

    fn reference_is_taken(&self, event: &Event) -> Result<bool, StoreError> {
        let Some(reference) = &event.reference else {
            return Ok(false);
        };
        if self
            .attached(&event.party, &event.system, reference)?
            .is_some_and(|found| found != event.complaint_id)
        {
            return Ok(true);
        }
        if let EventBody::Filed { .. } = event.body {
            return Ok(false);
        }
        // The origin's own references name what was filed under them.
        let filed = ComplaintId::derive(&event.party, &event.system, reference);
        let whose = Whose::Party(&event.party);
        let names_another =
            filed != event.complaint_id && filed_row(self.connection, whose, &filed)?.is_some();
        let has_another = view::known_reference(
            self.connection,
            &event.party,
            &event.system,
            &event.complaint_id,
        )?
        .is_some_and(|found| &found != reference);
        Ok(names_another || has_another)
    }

    /// Own events make the complaint and the reference known here; `view` is
    /// its row, if there is one.
    pub(super) fn note_own(
        &self,
        event: &Event,
        row: i64,
        view: Option<i64>,
    ) -> Result<(), StoreError> {
        let view = match (view, &event.body) {
            (None, EventBody::Filed { .. }) => {
                self.note_first(event, row)?;
                if !is_found_by_complaint(event) {
                    self.remember(&event.event_id, row)?;
                }
                return Ok(());
            }
            (None, _) => self.view(&event.party, &event.complaint_id, row)?,
            (Some(view), _) => view,
        };
        if !matches!(event.body, EventBody::Filed { .. }) {
            self.put_event_of(view, row)?;
            if let Some(reference) = &event.reference {
                self.attach(event, reference, row)?;
            }
            return self.remember(&event.event_id, row);
        }
        let earlier: Option<i64> = self
            .connection
            .prepare_cached("SELECT filed_row FROM complaint_view WHERE id = ?1")?
            .query_row([view], |found| found.get(0))?;
        if let Some(earlier) = earlier.filter(|earlier| *earlier != row) {
            // One that the hub refused, or a copy: no longer found by the
            // complaint alone.
            self.put_event_of(view, earlier)?;
            let id: Option<Vec<u8>> = self
                .connection
                .prepare_cached("SELECT event_id FROM submission WHERE id = ?1")?
                .query_row([earlier], |found| found.get(0))
                .optional()?
                .flatten();
            if let Some(id) = id {
                let id = EventId::from_bytes(blob16(&id)?);
                if id != event.event_id {
                    self.remember(&id, earlier)?;
                }
            }
        }
        self.connection
            .prepare_cached("UPDATE complaint_view SET filed_row = ?2 WHERE id = ?1")?
            .execute([view, row])?;
        self.note_filing(view, event)?;
        if !is_found_by_complaint(event) {
            self.remember(&event.event_id, row)?;
        }
        Ok(())
    }

    /// A complaint that this party files, and of which nothing is known yet.
    fn note_first(&self, event: &Event, row: i64) -> Result<(), StoreError> {
        let EventBody::Filed {
            anonymous,
            confidential,
            ..
        } = &event.body
        else {
            return Ok(());
        };
        let put = |view| {
            let mut statement = self.connection.prepare_cached(
                "INSERT OR IGNORE INTO complaint_view (id, complaint_id, party, filed_row, \
                 origin_party, origin_system, origin_reference, anonymous, confidential) \
                 VALUES (?1, ?2, ?3, ?4, ?3, ?5, ?6, ?7, ?8)",
            )?;
            Ok(statement.execute(params![
                view,
                event.complaint_id.as_bytes(),
                event.party.as_str(),
                row,
                event.system.as_str(),
                event.reference.as_ref().map(|found| found.as_str()),
                anonymous,
                confidential
            ])? == 1)
        };
        let view = self.new_view(row, put)?;
        self.put_complaint_key(&event.complaint_id, view)?;
        Ok(())
    }

    /// The complaint to which a party attached this reference.
    pub(super) fn attached(
        &self,
        party: &PartyId,
        system: &SystemName,
        reference: &Reference,
    ) -> Result<Option<ComplaintId>, StoreError> {
        // Only handlers attach any: elsewhere nobody has to look.
        if !self.shared.has_references.load(Ordering::Relaxed) {
            return Ok(None);
        }
        view::attached(self.connection, party, system, reference)
    }

    /// A party's own reference for a complaint that it did not file.
    pub(super) fn attach(
        &self,
        event: &Event,
        reference: &Reference,
        row: i64,
    ) -> Result<(), StoreError> {
        self.shared.has_references.store(true, Ordering::Relaxed);
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO reference (party, system, reference, complaint_id, row) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                event.party.as_str(),
                event.system.as_str(),
                reference.as_str(),
                event.complaint_id.as_bytes(),
                row
            ])?;
        Ok(())
    }

    /// What a filing says of the complaint.
    pub(super) fn note_filing(&self, view: i64, event: &Event) -> Result<(), StoreError> {
        let EventBody::Filed {
            anonymous,
            confidential,
            ..
        } = &event.body
        else {
            return Ok(());
        };
        self.connection
            .prepare_cached(
                "UPDATE complaint_view SET origin_party = ?2, origin_system = ?3, \
                 origin_reference = ?4, anonymous = ?5, confidential = ?6 WHERE id = ?1",
            )?
            .execute(params![
                view,
                event.party.as_str(),
                event.system.as_str(),
                event.reference.as_ref().map(|found| found.as_str()),
                anonymous,
                confidential
            ])?;
        Ok(())
    }
}
