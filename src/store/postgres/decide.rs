//! The hub decides: one submission after the other, in order, against the
//! state in memory. Nothing here waits or knows SQL.
//!
//! Invariants: one rejection never touches a neighbour; an entry is always
//! stored, whatever becomes of it; deciding that panics parks the entry; what
//! one entry of a batch changes the next one sees.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    domain::{
        ComplaintId, Context, Decision, Digest, Directory, Event, EventBody, Micros, Outcome, Part,
        PartyId, Rejection, TrackingId, Verdict, check_identity,
    },
    store::{
        StoreError,
        judging::{check_parts, refused},
    },
};

use super::{
    Shared, damaged,
    plan::{Plan, Tell},
    rows::position_of,
    world::{Revision, Standing, Stored, TRACKING_ATTEMPTS, World},
};

/// Panics after which an entry is parked.
const ATTEMPTS: usize = 3;

/// A batch that is being decided.
pub(super) struct Deciding<'a> {
    pub(super) shared: &'a Shared,
    pub(super) directory: &'a Directory,
    pub(super) world: World,
    pub(super) plan: Plan,
}

/// What deciding needs of an entry.
pub(super) struct Candidate<'a> {
    pub(super) row: i64,
    pub(super) content: Digest,
    pub(super) event: &'a Event,
    pub(super) parts: &'a [Part],
    pub(super) mac: [u8; 16],
    /// When it was stored: later readers are told this as well.
    pub(super) accepted_at: Micros,
    pub(super) now: Micros,
}

/// Why a new event does not become a revision.
enum Refusal {
    Duplicate(Box<Decision>),
    Rejected(Rejection),
    Parked,
}

impl Deciding<'_> {
    /// The decision, with everything that follows from it; and whether the
    /// event's id leads here from now on.
    pub(super) fn decide(
        &mut self,
        party: &PartyId,
        candidate: &Candidate<'_>,
    ) -> Result<(Decision, bool), StoreError> {
        let event = candidate.event;
        if let Err(rejection) = check_identity(event, party) {
            // These ids are not the party's: they are not remembered either.
            return Ok((refused(None, rejection), false));
        }
        if let Some(known) = self.known_event(candidate)? {
            return Ok((known, false));
        }
        Ok((self.judge(candidate)?, true))
    }

    /// Decides an event that is not known here, or was parked.
    pub(super) fn judge(&mut self, candidate: &Candidate<'_>) -> Result<Decision, StoreError> {
        let event = candidate.event;
        Ok(match self.decide_new(candidate)? {
            Ok(verdict) => self.accepted(candidate, verdict)?,
            Err(Refusal::Duplicate(decision)) => *decision,
            Err(Refusal::Rejected(rejection)) => refused(Some(event), rejection),
            Err(Refusal::Parked) => Decision {
                outcome: Outcome::Parked,
                ..refused(Some(event), Rejection::parked(&event.event_id))
            },
        })
    }

    /// The same event was here before: the original result, or a conflict.
    fn known_event(&mut self, candidate: &Candidate<'_>) -> Result<Option<Decision>, StoreError> {
        let event = candidate.event;
        let Some(row) = self.world.events.get(&event.event_id).copied() else {
            return Ok(None);
        };
        let stored = self.stored(row)?;
        // An erased entry comes again without its hand-over digest: then the
        // event's own bytes say that it is the same.
        if stored.mac != candidate.mac && stored.content != candidate.content {
            let conflict = Rejection::conflict(stored.content, candidate.content);
            return Ok(Some(refused(Some(event), conflict)));
        }
        self.note_repetition(&event.complaint_id, row, candidate.row)?;
        self.original(row).map(Some)
    }

    /// The result of an earlier submission, as the answer to its repetition.
    pub(super) fn original(&self, row: i64) -> Result<Decision, StoreError> {
        let mut decision = self.stored(row)?.decision.clone();
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
    ) -> Result<Result<Verdict, Refusal>, StoreError> {
        let event = candidate.event;
        if let Err(rejection) = check_parts(candidate.event, candidate.parts) {
            return Ok(Err(Refusal::Rejected(rejection)));
        }
        let known = self.world.complaints.get(&event.complaint_id);
        if let (Some(standing), EventBody::Filed { .. }) = (known, &event.body) {
            let row = standing.row;
            return Ok(Err(self.filed_again(candidate, row)?));
        }
        if self.is_reference_taken(event, known) {
            let reference = event.reference.as_ref().map_or("", |found| found.as_str());
            let taken = Rejection::reference_taken(reference);
            return Ok(Err(Refusal::Rejected(taken)));
        }
        let merge_target = match &event.body {
            EventBody::Merged { into } => self.world.complaints.get(into),
            _ => None,
        };
        let context = Context {
            directory: self.directory,
            policy: &self.shared.policy,
            merge_target: merge_target.map(|standing| &standing.complaint),
        };
        let known = known.map(|standing| &standing.complaint);
        let decide = self.shared.decide;
        for _ in 0..ATTEMPTS {
            // A panic is a bug in deciding: it must not block the journal.
            let outcome = catch_unwind(AssertUnwindSafe(|| decide(known, event, context)));
            match outcome {
                Ok(Ok(verdict)) => {
                    let checked = self.check_erasure(event);
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
    fn filed_again(&mut self, candidate: &Candidate<'_>, row: i64) -> Result<Refusal, StoreError> {
        let stored = self.stored(row)?;
        if stored.mac != candidate.mac {
            let conflict = Rejection::conflict(stored.content, candidate.content);
            return Ok(Refusal::Rejected(conflict));
        }
        self.note_repetition(&candidate.event.complaint_id, row, candidate.row)?;
        let mut decision = self.original(row)?;
        decision.event_id = Some(candidate.event.event_id);
        Ok(Refusal::Duplicate(Box::new(decision)))
    }

    /// (party, reference) and complaint belong together, one to one.
    fn is_reference_taken(&self, event: &Event, known: Option<&Standing>) -> bool {
        let Some(reference) = &event.reference else {
            return false;
        };
        let name = (event.party.clone(), event.system.clone(), reference.clone());
        let attached = self.world.attached.get(&name);
        if attached.is_some_and(|found| found != &event.complaint_id) {
            return true;
        }
        let Some(Standing { complaint, .. }) = known else {
            return false;
        };
        // The origin's own references name what was filed under them.
        let filed = ComplaintId::derive(&event.party, &event.system, reference);
        let names_another =
            filed != event.complaint_id && self.world.complaints.contains_key(&filed);
        let is_origin = complaint.origin == event.party && complaint.system == event.system;
        let place = (
            event.party.clone(),
            event.system.clone(),
            event.complaint_id,
        );
        let named = self.world.named.get(&place);
        let has_another = (is_origin && &complaint.reference != reference)
            || named.is_some_and(|found| found != reference);
        names_another || has_another
    }

    /// The event holds: complaint, history, references, deliveries.
    fn accepted(
        &mut self,
        candidate: &Candidate<'_>,
        verdict: Verdict,
    ) -> Result<Decision, StoreError> {
        let event = candidate.event;
        let Verdict {
            mut complaint,
            tellings,
        } = verdict;
        let known = self.world.complaints.get(&complaint.id);
        let (row, read_version) = known.map_or((candidate.row, None), |standing| {
            (standing.row, standing.read_version)
        });
        if known.is_none() {
            complaint.tracking_id = self.free_tracking_id(&complaint.id)?;
        }
        let (revision, hops) = (complaint.revision, complaint.hops);
        self.plan
            .histories
            .push((row, revision, candidate.row, hops));
        let is_origins = complaint.origin == event.party && complaint.system == event.system;
        if let Some(reference) = event.reference.as_ref().filter(|_| !is_origins) {
            let name = (event.party.clone(), event.system.clone(), reference.clone());
            if !self.world.attached.contains_key(&name) {
                let (party, system, reference) = name;
                let attached = (party, system, reference, complaint.id);
                self.plan.references.push(attached.clone());
                let (party, system, reference, id) = attached;
                self.world.attach(party, system, reference, id);
            }
        }
        if let EventBody::PartErased { event_id, sha256 } = &event.body {
            self.erase(&complaint.id, row, event_id, sha256, event.event_id);
        }
        let decision = Decision {
            outcome: Outcome::Accepted,
            event_id: Some(event.event_id),
            complaint_id: Some(complaint.id),
            revision,
            status: Some(complaint.status),
            handler: complaint.handler.clone(),
            tracking_id: Some(complaint.tracking_id.clone()),
            duplicate_of: 0,
            rejection: None,
            answer_missing: complaint.answer_missing,
        };
        self.world.history.insert(
            (row, revision),
            Revision {
                row: candidate.row,
                event_id: event.event_id,
                author: event.party.clone(),
                accepted_at: candidate.accepted_at,
                hops,
                decision: decision.clone(),
            },
        );
        let tells = tellings.into_iter().map(|telling| Tell::Event {
            complaint_row: row,
            tracking_id: complaint.tracking_id.clone(),
            telling,
            now: candidate.now,
        });
        self.plan.tells.extend(tells);
        let standing = Standing {
            row,
            read_version,
            complaint,
            is_changed: true,
        };
        let id = standing.complaint.id;
        self.world.complaints.insert(id, standing);
        Ok(decision)
    }

    fn free_tracking_id(&mut self, id: &ComplaintId) -> Result<TrackingId, StoreError> {
        for attempt in 0..TRACKING_ATTEMPTS {
            if self
                .world
                .numbers
                .insert(TrackingId::number_of(id, attempt))
            {
                return Ok(TrackingId::derive(id, attempt));
            }
        }
        Err(damaged("no Tracking ID is free for a complaint"))
    }

    pub(super) fn stored(&self, row: i64) -> Result<&Stored, StoreError> {
        self.world
            .stored
            .get(&row)
            .ok_or_else(|| damaged("a submission that dedup knows"))
    }
}
