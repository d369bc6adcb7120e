//! What local systems hand over.

use crate::{
    domain::{ComplaintId, Event, EventBody, Micros, PartyId, Progress},
    exchange::{Entry, Place, event_digest, next_chain},
    store::{
        NewSubmission, Receipt, SubmitRefusal,
        kept::OwnEffect,
        memory::fresh_entry,
        standing::{position_of, row_id},
    },
};

use super::{
    damaged,
    lookup::{Known, is_filing},
    work_items,
    world::{NewSub, Parts, Step, Sub, Want, World, of_complaint, of_event},
};

/// One more row of own submissions.
pub(super) struct NewRow<'a> {
    pub(super) sub: Sub,
    pub(super) new: NewSub,
    pub(super) parts: &'a [crate::domain::Part],
}

impl World {
    /// Takes a batch of hand-overs; each has its own outcome.
    pub(super) fn submit(
        &mut self,
        batch: &[NewSubmission],
        now: Micros,
    ) -> Step<Vec<Result<Receipt, SubmitRefusal>>> {
        let mut results = Vec::with_capacity(batch.len());
        for new in batch {
            let result = self.step(|world| world.submit_own(new, now))?;
            let is_new = |result: &Result<Receipt, SubmitRefusal>| {
                result.as_ref().is_ok_and(|receipt| !receipt.repeated)
            };
            if result.as_ref().is_some_and(is_new) {
                work_items::note(self.job(), &new.event, now);
            }
            results.extend(result);
        }
        Ok(results)
    }

    fn submit_own(
        &mut self,
        new: &NewSubmission,
        now: Micros,
    ) -> Step<Result<Receipt, SubmitRefusal>> {
        let event = &new.event;
        self.need_for(event)?;
        let mac = self.mac(&new.handover_digest);
        if let Some(repeated) = self.repeated(new, &mac)? {
            return Ok(repeated);
        }
        let is_known = self.view_of(&new.party, &event.complaint_id)?.is_some();
        if !is_filing(event) && !is_known {
            return Ok(Err(SubmitRefusal::UnknownComplaint));
        }
        if self.reference_is_taken(event)? {
            return Ok(Err(SubmitRefusal::ReferenceTaken));
        }
        let state = self.state(&new.party)?;
        // What was set aside goes before anything newer: the writer sees to it.
        if state.aside_from <= state.aside_to {
            return Err(damaged("something newer than what was set aside").into());
        }
        let content = event_digest(&new.event_bytes);
        let (row, chain) = self.next_submission(&new.party, &content)?;
        self.put_submission(
            row,
            NewRow {
                sub: Sub {
                    event_id: Some(*event.event_id.as_bytes()),
                    mac: Some(mac),
                    complaint_id: Some(*event.complaint_id.as_bytes()),
                    effect: OwnEffect::json_of(event)?,
                    chain,
                    is_gone: false,
                },
                new: NewSub {
                    stored_at: now,
                    event: new.event_bytes.clone(),
                    handover_digest: Some(new.handover_digest),
                },
                parts: &new.parts,
            },
        );
        self.note_own(event, row)?;
        let epoch = self.state(&new.party)?.epoch;
        let entry = Entry {
            header: bytes::Bytes::new(),
            event: new.event_bytes.clone(),
            parts: new.parts.clone(),
            handover_digest: Some(new.handover_digest),
        };
        let fresh = fresh_entry(&new.party, epoch, position_of(row), now, entry);
        self.job().fresh.push(fresh);
        Ok(Ok(Receipt {
            event_id: event.event_id,
            complaint_id: event.complaint_id,
            progress: Progress::Stored,
            repeated: false,
            decision: None,
        }))
    }

    /// Everything that taking an event looks at first.
    pub(super) fn need_for(&mut self, event: &Event) -> Step<()> {
        let party = &event.party;
        let mut wants = vec![
            Want::Party(party.clone()),
            of_event(&event.event_id),
            of_complaint(party, &event.complaint_id),
        ];
        if let Some(reference) = &event.reference {
            let (system, name) = (event.system.clone(), reference.clone());
            wants.push(Want::Called(party.clone(), system, name));
            if !is_filing(event) {
                let filed = ComplaintId::derive(party, &event.system, reference);
                wants.push(of_complaint(party, &filed));
            }
        }
        self.need(wants)
    }

    /// The answer to a hand-over that was here before, by its key or, for a filing,
    /// by its reference.
    fn repeated(
        &mut self,
        new: &NewSubmission,
        mac: &[u8; 16],
    ) -> Step<Option<Result<Receipt, SubmitRefusal>>> {
        let event = &new.event;
        let mut known = self.find_event(&event.event_id)?;
        if known.is_none() && is_filing(event) {
            known = self.filed_before(&new.party, &event.complaint_id)?;
        }
        let Some(Known {
            row,
            mac: Some(stored_mac),
        }) = known
        else {
            return Ok(None);
        };
        if &stored_mac != mac {
            self.need([Want::Digest(row)])?;
            let stored = self.digests.get(&row).copied().unwrap_or_default();
            let refused = event_digest(&new.event_bytes);
            // The very same event is the same content, whatever stands beside it.
            if stored != refused {
                return Ok(Some(Err(SubmitRefusal::Conflict { stored, refused })));
            }
        }
        self.state(&new.party)?.counts.repeated_handovers += 1;
        let mut receipt = self
            .receipt_of(&new.party, row)?
            .ok_or_else(|| damaged("a submission that dedup knows"))?;
        receipt.repeated = true;
        Ok(Some(Ok(receipt)))
    }

    fn reference_is_taken(&mut self, event: &Event) -> Step<bool> {
        let Some(reference) = &event.reference else {
            return Ok(false);
        };
        let (party, system, complaint) = (&event.party, &event.system, &event.complaint_id);
        let attached = self.attached(party, system, reference)?;
        if attached.is_some_and(|found| found != *complaint) {
            return Ok(true);
        }
        if is_filing(event) {
            return Ok(false);
        }
        // The origin's own references name what was filed under them.
        let filed = ComplaintId::derive(party, system, reference);
        let names_another = filed != *complaint && self.filed_row(party, &filed)?.is_some();
        let known = self.known_reference(party, system, complaint)?;
        let has_another = known.is_some_and(|found| &found != reference);
        Ok(names_another || has_another)
    }

    /// Where the next submission of a party goes, and the chain there.
    fn next_submission(
        &mut self,
        party: &PartyId,
        digest: &crate::domain::Digest,
    ) -> Step<(i64, crate::domain::Digest)> {
        let state = self.state(party)?;
        state.head = Place {
            position: state.head.position + 1,
            chain: next_chain(&state.head.chain, digest),
        };
        let row = row_id(state.submissions, state.head.position);
        let chain = state.head.chain;
        self.touch(party);
        Ok((row, chain))
    }

    /// Puts a row at a place of a submissions journal, with its parts.
    pub(super) fn put_submission(&mut self, row: i64, put: NewRow<'_>) {
        self.digests.set(row, event_digest(&put.new.event));
        self.parts.set(
            row,
            Parts {
                is_delivery: false,
                parts: put.parts.to_vec(),
                is_erased: false,
            },
        );
        self.subs.set(row, put.sub);
        self.job().submissions.insert(row, put.new);
    }

    /// Own events make the complaint and the reference known here.
    pub(super) fn note_own(&mut self, event: &Event, row: i64) -> Step<()> {
        let (party, complaint) = (&event.party, &event.complaint_id);
        let view = self.view(party, complaint)?;
        if !is_filing(event) {
            self.events_of.set((view, row), ());
            if let Some(reference) = &event.reference {
                self.attach(event, reference, row)?;
            }
            return self.remember(&event.event_id, row);
        }
        let earlier = self.filed_row(party, complaint)?;
        if let Some(earlier) = earlier.filter(|earlier| *earlier != row) {
            // One that the hub refused, or a copy: found beside the filing.
            self.events_of.set((view, earlier), ());
        }
        self.edit_view(party, complaint)?.filed_row = Some(row);
        self.note_filing(party, complaint, event)?;
        self.remember(&event.event_id, row)
    }

    /// A party's own reference for a complaint that it did not file.
    fn attach(
        &mut self,
        event: &Event,
        reference: &crate::domain::Reference,
        row: i64,
    ) -> Step<()> {
        let (party, system, complaint) = (&event.party, &event.system, &event.complaint_id);
        let is_taken = self.attached(party, system, reference)?.is_some()
            || self.reference_of(party, Some(system), complaint)?.is_some();
        if !is_taken {
            let name = (party.clone(), system.clone(), reference.clone());
            self.called.set(name, (*complaint.as_bytes(), row));
            let of = (party.clone(), *complaint.as_bytes());
            let mut names = self.named.get(&of).cloned().unwrap_or_default();
            names.insert(system.clone(), reference.clone());
            self.named.set(of, names);
        }
        Ok(())
    }

    /// What a filing says of a complaint, whoever filed it.
    pub(super) fn note_filing(
        &mut self,
        party: &PartyId,
        complaint: &ComplaintId,
        event: &Event,
    ) -> Step<()> {
        let EventBody::Filed {
            anonymous,
            confidential,
            ..
        } = &event.body
        else {
            return Ok(());
        };
        let view = self.edit_view(party, complaint)?;
        view.origin_party = Some(event.party.to_string());
        view.origin_system = Some(event.system.to_string());
        view.origin_reference = event.reference.as_ref().map(ToString::to_string);
        view.anonymous = *anonymous;
        view.confidential = *confidential;
        Ok(())
    }
}
