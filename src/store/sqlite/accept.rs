//! The hub decides: one submission after the other, inside the writer's
//! transaction, against what is there.
//!
//! Invariants: one rejection never touches a neighbour; an entry is always
//! stored, whatever becomes of it; deciding that panics parks the entry.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::{
        Complaint, ComplaintId, Context, Decision, Digest, Event, EventBody, Micros, Outcome, Part,
        PartyId, Rejection, TrackingId, Verdict, check_identity,
    },
    exchange::event_digest,
    store::{
        IncomingEntry, StoreError,
        judging::{check_parts, refused, state_json},
        told::Pending,
    },
};

use super::{
    blob16, damaged,
    decisions::read_decision,
    deliver::Current,
    gone::gone_digest,
    journal::{NewRow, position_of},
    lookup::{Known, Whose, complaint_row, is_found_by_complaint},
    view::{complaint_at, load_complaint, reference_of},
    writer::Tx,
};

/// Panics after which an entry is parked.
const ATTEMPTS: usize = 3;

/// What deciding needs of an entry.
pub(super) struct Candidate<'a> {
    pub(super) row: i64,
    /// Digest of the event's bytes.
    pub(super) content: Digest,
    pub(super) event: &'a Event,
    pub(super) parts: &'a [Part],
    pub(super) mac: [u8; 16],
    pub(super) now: Micros,
}

impl Tx<'_> {
    /// Stores and decides one entry of a party; the decision joins `pending`.
    pub(super) fn accept_one(
        &mut self,
        party: &PartyId,
        incoming: &IncomingEntry,
        now: Micros,
        pending: &mut Option<Pending>,
    ) -> Result<Decision, StoreError> {
        let entry = &incoming.entry;
        let content = event_digest(&entry.event);
        let handover_digest = entry.handover_digest.unwrap_or(content);
        let mac = self.shared.mac(&handover_digest);
        let (row, chain) = self.next_submission(party, &content)?;
        let event = incoming.event.as_ref();
        self.put_submission(
            row,
            &NewRow {
                event: &entry.event,
                event_id: event.ok().map(|event| event.event_id),
                mac: Some(mac),
                complaint_id: None,
                handover_digest: Some(handover_digest),
                parts: &entry.parts,
                effect: None,
                chain,
                now,
            },
        )?;
        self.current = Some(Current {
            row,
            event: entry.event.clone(),
            parts: entry.parts.clone(),
        });
        let decision = match event {
            Err(unreadable) => refused(
                None,
                Rejection::unreadable(&unreadable.why, unreadable.fields.clone()),
            ),
            Ok(event) => {
                let candidate = Candidate {
                    row,
                    content,
                    event,
                    parts: &entry.parts,
                    mac,
                    now,
                };
                self.decide(party, &candidate)?
            }
        };
        if decision.outcome != Outcome::Accepted {
            self.put_decision(row, &decision)?;
        }
        if decision.outcome == Outcome::Rejected {
            self.withhold_parts(row)?;
        }
        self.count(party, decision.outcome)?;
        self.pend(party, position_of(row), decision.clone(), pending, now)?;
        Ok(decision)
    }

    /// The decision, with everything that follows from it.
    fn decide(
        &mut self,
        party: &PartyId,
        candidate: &Candidate<'_>,
    ) -> Result<Decision, StoreError> {
        let event = candidate.event;
        if let Err(rejection) = check_identity(event, party) {
            // These ids are not the party's: they are not remembered either.
            return Ok(refused(None, rejection));
        }
        let complaint = complaint_row(self.connection, Whose::Hub, &event.complaint_id)?;
        if let Some(known) = self.known_event(candidate, complaint)? {
            return Ok(known);
        }
        let (decision, is_accepted) = self.judge(candidate, complaint)?;
        if !(is_accepted && is_found_by_complaint(event)) {
            self.remember(&event.event_id, candidate.row)?;
        }
        Ok(decision)
    }

    /// Decides an event that is not known here, or was parked; whether it was
    /// accepted now. An accepted one has its decision kept.
    pub(super) fn judge(
        &mut self,
        candidate: &Candidate<'_>,
        complaint: Option<i64>,
    ) -> Result<(Decision, bool), StoreError> {
        let event = candidate.event;
        Ok(match self.decide_new(candidate, complaint)? {
            Ok(verdict) => (self.accepted(candidate, complaint, verdict)?, true),
            Err(Refusal::Duplicate(decision)) => (*decision, false),
            Err(Refusal::Rejected(rejection)) => (refused(Some(event), rejection), false),
            Err(Refusal::Parked) => (
                Decision {
                    outcome: Outcome::Parked,
                    ..refused(Some(event), Rejection::parked(&event.event_id))
                },
                false,
            ),
        })
    }

    /// The same event was here before: the original result, or a conflict.
    fn known_event(
        &mut self,
        candidate: &Candidate<'_>,
        complaint: Option<i64>,
    ) -> Result<Option<Decision>, StoreError> {
        let event = candidate.event;
        let Some(Known { row, mac }) = self.known(event, complaint)? else {
            return Ok(None);
        };
        if mac != Some(candidate.mac) {
            // An erased entry comes again without its hand-over digest: then
            // the event's own bytes say that it is the same.
            let stored = self.stored_event_digest(row)?;
            if stored != candidate.content {
                return Ok(Some(refused(
                    Some(event),
                    Rejection::conflict(stored, candidate.content),
                )));
            }
        }
        self.note_repetition(&event.complaint_id, row, candidate.row)?;
        self.original(row).map(Some)
    }

    /// The result of an earlier submission, as the answer to its repetition.
    pub(super) fn original(&self, row: i64) -> Result<Decision, StoreError> {
        let mut decision = read_decision(self.connection, row)?
            .ok_or_else(|| damaged("a submission without its decision"))?;
        if decision.outcome == Outcome::Accepted {
            decision.outcome = Outcome::Duplicate;
        }
        if decision.duplicate_of == 0 {
            decision.duplicate_of = position_of(row);
        }
        Ok(decision)
    }

    /// Decides an event that was not here before.
    fn decide_new(
        &mut self,
        candidate: &Candidate<'_>,
        complaint: Option<i64>,
    ) -> Result<Result<Verdict, Refusal>, StoreError> {
        let event = candidate.event;
        if let Err(rejection) = check_parts(candidate.event, candidate.parts) {
            return Ok(Err(Refusal::Rejected(rejection)));
        }
        let known: Option<Complaint> = match complaint {
            Some(row) => {
                if let EventBody::Filed { .. } = event.body {
                    return Ok(Err(self.filed_again(candidate, row)?));
                }
                Some(complaint_at(self.connection, row)?)
            }
            None => None,
        };
        if let Err(rejection) = self.check_reference(event, known.as_ref())? {
            return Ok(Err(Refusal::Rejected(rejection)));
        }
        let registry = self.shared.registry.borrow().clone();
        let merge_target = match &event.body {
            EventBody::Merged { into } => load_complaint(self.connection, into)?,
            _ => None,
        };
        let context = Context {
            directory: &registry.directory,
            policy: &self.shared.policy,
            merge_target: merge_target.as_ref(),
        };
        let decide = self.shared.decide;
        for _ in 0..ATTEMPTS {
            // A panic is a bug in deciding: it must not block the journal.
            let outcome = catch_unwind(AssertUnwindSafe(|| decide(known.as_ref(), event, context)));
            match outcome {
                Ok(Ok(verdict)) => {
                    let checked = self.check_erasure(event)?;
                    return Ok(checked.map(|()| verdict).map_err(Refusal::Rejected));
                }
                Ok(Err(rejection)) => return Ok(Err(Refusal::Rejected(rejection))),
                Err(_) => {}
            }
        }
        tracing::error!(
            event = "entry_parked",
            event_id = %event.event_id,
            party = %event.party,
            "deciding this event panicked: it is parked, the others flow"
        );
        Ok(Err(Refusal::Parked))
    }

    /// A second filing for a known reference is a duplicate or a conflict,
    /// whatever its key.
    fn filed_again(
        &mut self,
        candidate: &Candidate<'_>,
        filed_row: i64,
    ) -> Result<Refusal, StoreError> {
        if self.mac_of(filed_row)? == Some(candidate.mac) {
            self.note_repetition(&candidate.event.complaint_id, filed_row, candidate.row)?;
            let mut decision = self.original(filed_row)?;
            decision.event_id = Some(candidate.event.event_id);
            return Ok(Refusal::Duplicate(Box::new(decision)));
        }
        Ok(Refusal::Rejected(Rejection::conflict(
            self.stored_event_digest(filed_row)?,
            candidate.content,
        )))
    }

    /// (party, reference) and complaint belong together, one to one.
    fn check_reference(
        &self,
        event: &Event,
        complaint: Option<&Complaint>,
    ) -> Result<Result<(), Rejection>, StoreError> {
        let Some(reference) = &event.reference else {
            return Ok(Ok(()));
        };
        let taken = || Ok(Err(Rejection::reference_taken(reference.as_str())));
        if self
            .attached(&event.party, &event.system, reference)?
            .is_some_and(|found| found != event.complaint_id)
        {
            return taken();
        }
        let Some(complaint) = complaint else {
            return Ok(Ok(()));
        };
        // The origin's own references name what was filed under them.
        let filed = ComplaintId::derive(&event.party, &event.system, reference);
        let names_another = filed != event.complaint_id
            && complaint_row(self.connection, Whose::Hub, &filed)?.is_some();
        let is_origin = complaint.origin == event.party && complaint.system == event.system;
        let has_another = (is_origin && &complaint.reference != reference)
            || reference_of(
                self.connection,
                &event.party,
                Some(&event.system),
                &event.complaint_id,
            )?
            .is_some_and(|found| &found != reference);
        if names_another || has_another {
            return taken();
        }
        Ok(Ok(()))
    }

    /// The event holds: complaint, history, references, deliveries.
    fn accepted(
        &mut self,
        candidate: &Candidate<'_>,
        known: Option<i64>,
        verdict: Verdict,
    ) -> Result<Decision, StoreError> {
        let event = candidate.event;
        let Verdict {
            mut complaint,
            tellings,
        } = verdict;
        let is_filing = complaint.revision == 1;
        let complaint_row = if is_filing {
            let attempt = self.put_complaint_key(&complaint.id, candidate.row)?;
            complaint.tracking_id = TrackingId::derive(&complaint.id, attempt);
            candidate.row
        } else {
            known.ok_or_else(|| damaged("a complaint that was decided on"))?
        };
        self.put_complaint(complaint_row, &complaint)?;
        if !is_filing {
            self.connection
                .prepare_cached(
                    "INSERT INTO history (complaint, revision, row, event_id, author, \
                     accepted_at, hops) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    complaint_row,
                    complaint.revision,
                    candidate.row,
                    event.event_id.as_bytes(),
                    event.party.as_str(),
                    candidate.now.0,
                    complaint.hops
                ])?;
        }
        let is_origins = complaint.origin == event.party && complaint.system == event.system;
        if let Some(reference) = event.reference.as_ref().filter(|_| !is_origins) {
            self.attach(event, reference, candidate.row)?;
        }
        if let EventBody::PartErased { event_id, sha256 } = &event.body {
            self.erase_at_hub(&complaint.id, event_id, sha256, &event.event_id)?;
        }
        let decision = Decision {
            outcome: Outcome::Accepted,
            event_id: Some(event.event_id),
            complaint_id: Some(complaint.id),
            revision: complaint.revision,
            status: Some(complaint.status),
            handler: complaint.handler.clone(),
            tracking_id: Some(complaint.tracking_id.clone()),
            duplicate_of: 0,
            rejection: None,
            answer_missing: complaint.answer_missing,
        };
        // Told from the rows: this revision's must be there as well.
        self.put_decision(candidate.row, &decision)?;
        for telling in &tellings {
            self.tell(&complaint, telling, candidate.now)?;
        }
        Ok(decision)
    }

    fn put_complaint(&self, row: i64, complaint: &Complaint) -> Result<(), StoreError> {
        if complaint.revision > 1 {
            return self.put_complaint_state(row, complaint);
        }
        self.connection
            .prepare_cached(
                "INSERT INTO complaint (id, complaint_id, is_open, handler, state) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                row,
                complaint.id.as_bytes(),
                complaint.status.is_open(),
                complaint.handler.as_ref().map(|code| code.as_str()),
                state_json(complaint)?
            ])?;
        Ok(())
    }

    /// A complaint that is there already, as it stands now.
    pub(super) fn put_complaint_state(
        &self,
        row: i64,
        complaint: &Complaint,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE complaint SET is_open = ?2, handler = ?3, state = ?4 WHERE id = ?1",
            )?
            .execute(params![
                row,
                complaint.status.is_open(),
                complaint.handler.as_ref().map(|code| code.as_str()),
                state_json(complaint)?
            ])?;
        Ok(())
    }

    pub(super) fn count(&mut self, party: &PartyId, outcome: Outcome) -> Result<(), StoreError> {
        self.state(party)?.counts.count(outcome);
        Ok(())
    }

    /// The mac of a row's hand-over.
    pub(super) fn mac_of(&self, row: i64) -> Result<Option<[u8; 16]>, StoreError> {
        let mac: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT mac FROM submission WHERE id = ?1")?
            .query_row([row], |found| found.get(0))
            .optional()?
            .flatten();
        Ok(mac.map(|bytes| blob16(&bytes)).transpose()?)
    }

    pub(super) fn stored_event_digest(&self, row: i64) -> Result<Digest, StoreError> {
        if let Some(found) = gone_digest(self.connection, row)? {
            return Ok(found);
        }
        let event: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT event FROM submission WHERE id = ?1")?
            .query_row([row], |found| found.get(0))
            .optional()?;
        Ok(event.map_or_else(Digest::default, |bytes| event_digest(&bytes)))
    }
}

/// Why a new event does not become a revision.
enum Refusal {
    Duplicate(Box<Decision>),
    Rejected(Rejection),
    Parked,
}
