//! What comes in: frames of links and hand-overs at the hub's own door, and
//! how each entry is stored, decided and answered.

use crate::{
    domain::{
        Decision, Digest, Event, EventBody, Micros, PARTS_PER_EVENT, PartState, PartyId, Rejection,
    },
    exchange::{Entry, Place, event_digest},
    store::{
        AcceptBatch, IncomingEntry, NewSubmission, Receipt, StoreError, SubmitRefusal,
        judging::refused,
        told::{Pending, pend},
    },
};

use super::{
    damaged,
    decide::{Candidate, Deciding},
    plan::{NewRow, Tell},
    rows::{position_of, row_id},
    world::{Head, Stored, StoredPart},
};

impl Deciding<'_> {
    /// Takes a frame of a party. What is wrong with the frame itself shows
    /// before anything of it is taken.
    pub(super) fn accept(
        &mut self,
        party: &PartyId,
        batch: &AcceptBatch,
    ) -> Result<Place, StoreError> {
        let head = self.head(party)?;
        if head.token != Some(batch.token) {
            return Err(StoreError::Fenced);
        }
        if head.place != batch.expected {
            return Err(StoreError::Mismatch(format!(
                "submissions stand at {}, not at {}",
                head.place.position, batch.expected.position
            )));
        }
        let contents: Vec<Digest> = batch
            .entries
            .iter()
            .map(|incoming| event_digest(&incoming.entry.event))
            .collect();
        let end = contents
            .iter()
            .fold(head.place, |place, content| place.after(content));
        if end != batch.head {
            return Err(StoreError::Mismatch(
                "the entries do not end in the chain that was named".to_owned(),
            ));
        }
        let mut pending = None;
        for (incoming, content) in batch.entries.iter().zip(contents) {
            self.accept_one(party, incoming, content, batch.now, &mut pending)?;
        }
        self.flush(pending, batch.now);
        Ok(end)
    }

    /// Takes hand-overs of parties that stand behind the hub's own door, or
    /// are unary, and decides them at once.
    pub(super) fn submit(
        &mut self,
        batch: &[NewSubmission],
        now: Micros,
    ) -> Result<Vec<Result<Receipt, SubmitRefusal>>, StoreError> {
        let mut results = Vec::with_capacity(batch.len());
        let mut pending = None;
        for new in batch {
            results.push(self.submit_one(new, now, &mut pending)?);
        }
        self.flush(pending, now);
        Ok(results)
    }

    fn submit_one(
        &mut self,
        new: &NewSubmission,
        now: Micros,
        pending: &mut Option<Pending>,
    ) -> Result<Result<Receipt, SubmitRefusal>, StoreError> {
        let content = event_digest(&new.event_bytes);
        if let Some(repeated) = self.repeated(new, content)? {
            return Ok(repeated);
        }
        let incoming = IncomingEntry {
            entry: Entry {
                header: bytes::Bytes::new(),
                event: new.event_bytes.clone(),
                parts: new.parts.clone(),
                handover_digest: Some(new.handover_digest),
            },
            event: Ok(new.event.clone()),
        };
        let decision = self.accept_one(&new.party, &incoming, content, now, pending)?;
        self.plan.note_unmapped(&new.event, now);
        Ok(Ok(Receipt {
            event_id: new.event.event_id,
            complaint_id: new.event.complaint_id,
            progress: decision.outcome.progress(),
            repeated: false,
            decision: Some(decision),
        }))
    }

    /// The answer to a hand-over that was here before, by its key or, for a
    /// filing, by its reference.
    fn repeated(
        &mut self,
        new: &NewSubmission,
        refused: Digest,
    ) -> Result<Option<Result<Receipt, SubmitRefusal>>, StoreError> {
        let event = &new.event;
        let filed = match event.body {
            EventBody::Filed { .. } => self.world.complaints.get(&event.complaint_id),
            _ => None,
        };
        let by_id = self.world.events.get(&event.event_id).copied();
        let Some(row) = by_id.or(filed.map(|standing| standing.row)) else {
            return Ok(None);
        };
        let stored = self.stored(row)?;
        // The very same event is the same content, whatever stands beside it.
        if stored.mac != self.shared.mac(&new.handover_digest) && stored.content != refused {
            let stored = stored.content;
            return Ok(Some(Err(SubmitRefusal::Conflict { stored, refused })));
        }
        let decision = stored.decision.clone();
        let receipt = Receipt {
            event_id: stored.event_id.unwrap_or(event.event_id),
            complaint_id: decision.complaint_id.unwrap_or(event.complaint_id),
            progress: decision.outcome.progress(),
            repeated: true,
            decision: Some(decision),
        };
        let head = self.head(&new.party)?;
        head.counts.repeated_handovers += 1;
        head.is_changed = true;
        Ok(Some(Ok(receipt)))
    }

    /// Stores and decides one entry of a party; the decision joins `pending`.
    fn accept_one(
        &mut self,
        party: &PartyId,
        incoming: &IncomingEntry,
        content: Digest,
        now: Micros,
        pending: &mut Option<Pending>,
    ) -> Result<Decision, StoreError> {
        let entry = &incoming.entry;
        let handover_digest = entry.handover_digest.unwrap_or(content);
        let mac = self.shared.mac(&handover_digest);
        let head = self.head(party)?;
        head.place = head.place.after(&content);
        head.is_changed = true;
        let row = row_id(head.journal, head.place.position);
        let chain = head.place.chain;
        let event = incoming.event.as_ref();
        self.plan.put(NewRow {
            id: row,
            now,
            event_id: event.ok().map(|event| event.event_id),
            is_first: false,
            mac,
            event: entry.event.clone(),
            handover_digest: Some(handover_digest),
            parts: entry.parts.iter().take(PARTS_PER_EVENT).cloned().collect(),
            chain,
            decision: None,
        });
        let (decision, is_first) = match event {
            Err(unreadable) => {
                let why = Rejection::unreadable(&unreadable.why, unreadable.fields.clone());
                (refused(None, why), false)
            }
            Ok(event) => {
                let candidate = Candidate {
                    row,
                    content,
                    event,
                    parts: &entry.parts,
                    mac,
                    accepted_at: now,
                    now,
                };
                self.decide(party, &candidate)?
            }
        };
        self.plan.decided(row, &decision, is_first);
        self.keep_known(row, mac, content, event.ok(), &decision, is_first);
        self.head(party)?.count(decision.outcome);
        let place = (self.head(party)?.epoch, position_of(row));
        let full = pend(pending, party, place, decision.clone());
        self.flush(full, now);
        Ok(decision)
    }

    /// Later entries of the batch find this one as they would find it stored.
    fn keep_known(
        &mut self,
        row: i64,
        mac: [u8; 16],
        content: Digest,
        event: Option<&Event>,
        decision: &Decision,
        is_first: bool,
    ) {
        let parts = self.plan.row(row).map(|row| row.parts.clone());
        let parts = parts.unwrap_or_default().into_iter();
        let stored = Stored {
            event_id: event.map(|event| event.event_id),
            mac,
            content,
            decision: decision.clone(),
            parts: parts
                .map(|part| StoredPart {
                    kind: part.kind,
                    sha256: part.sha256,
                    erased_by: match part.state {
                        PartState::Erased(by) => Some(by),
                        PartState::Present(_) | PartState::Withheld => None,
                    },
                })
                .collect(),
        };
        self.world.stored.insert(row, stored);
        if let (Some(event), true) = (event, is_first) {
            self.world.events.insert(event.event_id, row);
        }
    }

    /// Puts decisions that waited into their author's deliveries.
    fn flush(&mut self, pending: Option<Pending>, now: Micros) {
        if let Some(Pending { party, set }) = pending {
            self.plan.tells.push(Tell::Decisions { party, set, now });
        }
    }

    pub(super) fn head(&mut self, party: &PartyId) -> Result<&mut Head, StoreError> {
        self.world
            .heads
            .get_mut(party)
            .ok_or_else(|| damaged("a party without journals"))
    }
}
