//! What the hub writes into deliveries: events for those who are told, and
//! decisions for their authors.

use bytes::Bytes;
use rusqlite::params;

use crate::{
    domain::{
        Complaint, Decision, DecisionSet, DeliveryRecord, Micros, Part, PartKind, PartState,
        PartyId, Telling,
    },
    exchange::{Direction, Entry},
    store::{
        StoreError,
        memory::{Fresh, fresh_entry},
        told::{self, Pending},
    },
};

use super::{parts::readable_bits, writer::Tx};

/// The event that is being decided, as it came.
pub(super) struct Current {
    pub(super) row: i64,
    pub(super) event: Bytes,
    pub(super) parts: Vec<Part>,
}

impl Current {
    /// As it is delivered to someone who may read these parts.
    fn entry_for(&self, header: Bytes, readable: &[PartKind]) -> Entry {
        let parts = self.parts.iter().map(|part| match &part.state {
            PartState::Present(_) if !readable.contains(&part.kind) => Part {
                state: PartState::Withheld,
                ..part.clone()
            },
            _ => part.clone(),
        });
        Entry {
            header,
            event: self.event.clone(),
            parts: parts.collect(),
            handover_digest: None,
        }
    }
}

/// What a delivery brings beside its header.
struct Delivered {
    event_row: Option<i64>,
    readable: i64,
    /// In memory, if it is at hand.
    entry: Option<Entry>,
}

impl Tx<'_> {
    /// Writes the deliveries of one telling.
    pub(super) fn tell(
        &mut self,
        complaint: &Complaint,
        telling: &Telling,
        now: Micros,
    ) -> Result<(), StoreError> {
        for revision in telling.from_revision..=telling.through_revision {
            let (row, header) =
                self.shared
                    .header_of(self.connection, complaint, revision, telling)?;
            let bytes = self.shared.encoder.encode(&DeliveryRecord::Event(header));
            let readable = readable_bits(&telling.readable_parts);
            let entry = self
                .current
                .as_ref()
                .filter(|current| current.row == row)
                .map(|current| current.entry_for(bytes.clone(), &telling.readable_parts));
            let what = Delivered {
                event_row: Some(row),
                readable,
                entry,
            };
            self.deliver(&telling.party, &bytes, what, now)?;
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        party: &PartyId,
        header: &[u8],
        what: Delivered,
        now: Micros,
    ) -> Result<(), StoreError> {
        let state = self.state(party)?;
        state.delivered += 1;
        let (epoch, position) = (state.epoch, state.delivered);
        let id = state.row(Direction::Deliveries, position);
        self.touch(party);
        self.connection
            .prepare_cached(
                "INSERT INTO delivery (id, stored_at, header, event_row, readable) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, now.0, header, what.event_row, what.readable])?;
        self.fresh.push(match what.entry {
            Some(entry) => fresh_entry(party, epoch, position, now, entry),
            None => Fresh::Forget(party.clone()),
        });
        Ok(())
    }

    /// Joins a decision to those of the same author that wait.
    pub(super) fn pend(
        &mut self,
        party: &PartyId,
        position: u64,
        decision: Decision,
        pending: &mut Option<Pending>,
        now: Micros,
    ) -> Result<(), StoreError> {
        let epoch = self.state(party)?.epoch;
        let full = told::pend(pending, party, (epoch, position), decision);
        self.flush_pending(full, now)
    }

    /// Tells an author what was decided at last about a submission that had been
    /// parked: a set of its own.
    pub(super) fn tell_set(
        &mut self,
        party: &PartyId,
        set: DecisionSet,
        now: Micros,
    ) -> Result<(), StoreError> {
        let party = party.clone();
        self.flush_pending(Some(Pending { party, set }), now)
    }

    /// Writes the decisions that wait into their author's deliveries.
    pub(super) fn flush_pending(
        &mut self,
        pending: Option<Pending>,
        now: Micros,
    ) -> Result<(), StoreError> {
        let Some(Pending { party, set }) = pending else {
            return Ok(());
        };
        let bytes = self.shared.encoder.encode(&DeliveryRecord::Decisions(set));
        let entry = Entry {
            header: bytes.clone(),
            event: Bytes::new(),
            parts: Vec::new(),
            handover_digest: None,
        };
        let what = Delivered {
            event_row: None,
            readable: 0,
            entry: Some(entry),
        };
        self.deliver(&party, &bytes, what, now)
    }
}
