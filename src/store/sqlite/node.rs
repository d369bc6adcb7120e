//! What the node of a region writes: hand-overs of its local systems,
//! deliveries of the hub, and what opening a link tells it to do.

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::{Event, EventBody, Micros, Outcome, PartyId, Progress},
    exchange::event_digest,
    store::{NewSubmission, Receipt, StoreError, SubmitRefusal},
};

use super::{
    blob16, damaged,
    decisions::read_decision,
    journal::{NewRow, OwnEffect},
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
        if let Some(repeated) = self.repeated(new, &mac)? {
            return Ok(repeated);
        }
        let is_filing = matches!(event.body, EventBody::Filed { .. });
        if !is_filing && !self.is_known(&new.party, event)? {
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
                complaint_id: Some(*event.complaint_id.as_bytes()),
                handover_digest: Some(new.handover_digest),
                parts: &new.parts,
                effect: effect_json(event)?,
                chain,
                now,
            },
        )?;
        self.remember(&event.event_id, row, &mac)?;
        self.note_own(event, row, Some(&mac))?;
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
    ) -> Result<Option<Result<Receipt, SubmitRefusal>>, StoreError> {
        let event = &new.event;
        let mut known = self.dedup(&event.event_id)?;
        if known.is_none() && matches!(event.body, EventBody::Filed { .. }) {
            known = self.filed_before(&new.party, event)?;
        }
        let Some((row, stored_mac)) = known else {
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

    /// The row and the mac of the filing of this complaint, unless the hub
    /// refused it: a corrected one may come then.
    fn filed_before(
        &self,
        party: &PartyId,
        event: &Event,
    ) -> Result<Option<(i64, [u8; 16])>, StoreError> {
        let sql = if self.shared.is_hub {
            "SELECT filed_row, filed_mac FROM complaint WHERE complaint_id = ?1 AND ?2 <> ''"
        } else {
            "SELECT filed_row, filed_mac FROM complaint_view \
             WHERE complaint_id = ?1 AND party = ?2 AND filed_mac IS NOT NULL"
        };
        let found: Option<(i64, [u8; 16])> = self
            .connection
            .prepare_cached(sql)?
            .query_row(
                params![event.complaint_id.as_bytes(), party.as_str()],
                |row| Ok((row.get(0)?, blob16(&row.get::<_, Vec<u8>>(1)?)?)),
            )
            .optional()?;
        let Some((row, mac)) = found else {
            return Ok(None);
        };
        let decision = read_decision(self.connection, row)?;
        let was_refused = decision.is_some_and(|found| found.outcome == Outcome::Rejected);
        Ok((!was_refused).then_some((row, mac)))
    }

    /// Where a row of own submissions stands.
    pub(super) fn receipt_of(&mut self, party: &PartyId, row: i64) -> Result<Receipt, StoreError> {
        let state = self.state(party)?.clone();
        super::view::receipt_of_row(self.connection, &state, self.shared.is_hub, row)?
            .ok_or_else(|| damaged("a submission that dedup knows"))
    }

    /// Whether the party has heard of the complaint here.
    fn is_known(&self, party: &PartyId, event: &Event) -> Result<bool, StoreError> {
        let is_known = self
            .connection
            .prepare_cached("SELECT 1 FROM complaint_view WHERE party = ?1 AND complaint_id = ?2")?
            .exists(params![party.as_str(), event.complaint_id.as_bytes()])?;
        Ok(is_known)
    }

    fn reference_is_taken(&self, event: &Event) -> Result<bool, StoreError> {
        let Some(reference) = &event.reference else {
            return Ok(false);
        };
        // Two look-ups by key: joined by OR, SQLite would scan the table.
        let names_another = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM reference WHERE party = ?1 AND system = ?2 AND reference = ?3 \
                 AND complaint_id <> ?4",
            )?
            .exists(params![
                event.party.as_str(),
                event.system.as_str(),
                reference.as_str(),
                event.complaint_id.as_bytes()
            ])?;
        let has_another = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM reference WHERE party = ?1 AND complaint_id = ?2 AND system = ?3 \
                 AND reference <> ?4",
            )?
            .exists(params![
                event.party.as_str(),
                event.complaint_id.as_bytes(),
                event.system.as_str(),
                reference.as_str()
            ])?;
        Ok(names_another || has_another)
    }

    /// Own events make the complaint and the reference known here.
    pub(super) fn note_own(
        &self,
        event: &Event,
        row: i64,
        mac: Option<&[u8; 16]>,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO complaint_view (party, complaint_id) VALUES (?1, ?2)",
            )?
            .execute(params![event.party.as_str(), event.complaint_id.as_bytes()])?;
        if let EventBody::Filed { .. } = &event.body {
            self.note_filing(&event.party, event)?;
            self.connection
                .prepare_cached(
                    "UPDATE complaint_view SET filed_row = ?3, filed_mac = ?4 \
                     WHERE party = ?1 AND complaint_id = ?2",
                )?
                .execute(params![
                    event.party.as_str(),
                    event.complaint_id.as_bytes(),
                    row,
                    mac
                ])?;
        }
        if let Some(reference) = &event.reference {
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
        }
        Ok(())
    }

    /// What a filing says of the complaint.
    pub(super) fn note_filing(&self, party: &PartyId, event: &Event) -> Result<(), StoreError> {
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
                "UPDATE complaint_view SET origin_party = ?3, origin_system = ?4, \
                 origin_reference = ?5, anonymous = ?6, confidential = ?7 \
                 WHERE party = ?1 AND complaint_id = ?2",
            )?
            .execute(params![
                party.as_str(),
                event.complaint_id.as_bytes(),
                event.party.as_str(),
                event.system.as_str(),
                event.reference.as_ref().map(|found| found.as_str()),
                anonymous,
                confidential
            ])?;
        Ok(())
    }
}

pub(super) fn effect_json(event: &Event) -> Result<Option<String>, StoreError> {
    OwnEffect::of(event)
        .map(|effect| serde_json::to_string(&effect))
        .transpose()
        .map_err(|_| damaged("an own effect"))
}
