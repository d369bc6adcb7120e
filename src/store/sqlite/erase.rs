//! Erasing: a part's bytes go, and the hand-over digest with them, in every
//! row that holds them. An entry may stand in a journal more than once
//! (repeated, set aside, copied), so erasing the first row is not enough.
//!
//! Invariants: an erasure reaches only the complaint that it was decided for;
//! chains, counts and the permanent dedup stay as they are.

use rusqlite::OptionalExtension as _;

use crate::{
    domain::{
        ComplaintId, Digest, Event, EventBody, EventId, Part, PartKind, PartState, PartyId,
        Rejection,
    },
    store::{StoreError, memory::Fresh},
};

use super::{
    blob16,
    decisions::read_decision,
    lookup::{Whose, complaint_row, filed_row, find_event},
    view,
    writer::Tx,
};

impl Tx<'_> {
    /// Hub: whether an erasure names a part of an event of its own complaint.
    /// Who may erase there is decided with the complaint.
    pub(super) fn check_erasure(&self, event: &Event) -> Result<Result<(), Rejection>, StoreError> {
        let EventBody::PartErased { event_id, sha256 } = &event.body else {
            return Ok(Ok(()));
        };
        let row = match self.event_of_complaint(&event.complaint_id, event_id)? {
            Some(row) if self.is_about(row, &event.complaint_id)? => row,
            // An event of another complaint looks like one that is not there.
            _ => {
                return Ok(Err(Rejection::invalid(
                    "part_erased.event_id",
                    "this complaint has no such event",
                )));
            }
        };
        if self.kind_of_part(row, sha256)?.is_none() {
            return Ok(Err(Rejection::invalid(
                "part_erased.sha256",
                "that event has no such part",
            )));
        }
        Ok(Ok(()))
    }

    /// Hub: the row of an event, which may be the complaint's filing.
    fn event_of_complaint(
        &self,
        complaint: &ComplaintId,
        event: &EventId,
    ) -> Result<Option<i64>, StoreError> {
        let filed = filed_row(self.connection, Whose::Hub, complaint)?;
        let known = find_event(self.connection, event, filed)?;
        Ok(known.map(|found| found.row))
    }

    fn is_about(&self, row: i64, complaint: &ComplaintId) -> Result<bool, StoreError> {
        let decision = read_decision(self.connection, row)?;
        Ok(decision.and_then(|found| found.complaint_id).as_ref() == Some(complaint))
    }

    /// Hub: erases a part that [`Tx::check_erasure`] has found, in its row and
    /// in every repetition of the event.
    pub(super) fn erase_at_hub(
        &mut self,
        complaint: &ComplaintId,
        erased: &EventId,
        sha256: &Digest,
        by: &EventId,
    ) -> Result<(), StoreError> {
        let Some(first) = self.event_of_complaint(complaint, erased)? else {
            return Ok(());
        };
        let Some(kind) = self.kind_of_part(first, sha256)? else {
            return Ok(());
        };
        self.erase_part(first, sha256, by)?;
        let revision = read_decision(self.connection, first)?.map_or(0, |found| found.revision);
        for (row, event_id) in self.rows_about(Whose::Hub, complaint)? {
            // A filing may be repeated under another key: then the revision
            // of the original says what it repeats.
            let repeats = event_id.as_ref() == Some(erased)
                || (revision > 0
                    && read_decision(self.connection, row)?
                        .is_some_and(|found| found.revision == revision));
            if repeats && row != first {
                self.erase_kind(row, kind, by)?;
            }
        }
        Ok(())
    }

    /// Hub: a row repeats an earlier one. It can be found for an erasure from
    /// now on, and what was erased there goes here as well.
    pub(super) fn note_repetition(
        &mut self,
        complaint: &ComplaintId,
        first: i64,
        row: i64,
    ) -> Result<(), StoreError> {
        if let Some(complaint) = complaint_row(self.connection, Whose::Hub, complaint)? {
            self.put_event_of(complaint, row)?;
        }
        self.erase_as(first, row)
    }

    /// Node: erases a part in every row in which an event of this complaint
    /// stands, submitted or delivered to the party.
    pub(super) fn erase_at_node(
        &mut self,
        rows: &[i64],
        sha256: &Digest,
        by: &EventId,
    ) -> Result<(), StoreError> {
        let mut kind = None;
        for row in rows {
            kind = kind.or(self.kind_of_part(*row, sha256)?);
        }
        let Some(kind) = kind else {
            return Ok(());
        };
        rows.iter()
            .try_for_each(|row| self.erase_kind(*row, kind, by))
    }

    /// Node: the same event may stand in several rows (copied, re-appended,
    /// handed over again after a lost disk): what is erased in one is erased
    /// in all.
    pub(super) fn level_erasures(
        &mut self,
        party: &PartyId,
        complaint: &ComplaintId,
        event: &EventId,
    ) -> Result<(), StoreError> {
        let rows = self.own_rows(party, complaint, event)?;
        for first in &rows {
            for row in rows.iter().filter(|row| *row != first) {
                self.erase_as(*first, *row)?;
            }
        }
        Ok(())
    }

    /// Node: rows of own submissions that hold this event of this complaint.
    pub(super) fn own_rows(
        &self,
        party: &PartyId,
        complaint: &ComplaintId,
        event: &EventId,
    ) -> Result<Vec<i64>, StoreError> {
        let rows = self.rows_about(Whose::Party(party), complaint)?;
        let same = rows
            .into_iter()
            .filter(|(_, found)| found.as_ref() == Some(event));
        Ok(same.map(|(row, _)| row).collect())
    }

    /// Submissions about a complaint: at a node all, at the hub the filing and
    /// those that repeat another one.
    fn rows_about(
        &self,
        whose: Whose<'_>,
        complaint: &ComplaintId,
    ) -> Result<Vec<(i64, Option<EventId>)>, StoreError> {
        let rows = view::rows_about(self.connection, whose, complaint)?;
        let mut statement = self
            .connection
            .prepare_cached("SELECT event_id FROM submission WHERE id = ?1")?;
        let mut found = Vec::new();
        for row in rows {
            let event_id: Option<Option<Vec<u8>>> = statement
                .query_row([row], |found| found.get(0))
                .optional()?;
            let event_id = event_id.flatten().map(|bytes| blob16(&bytes)).transpose()?;
            found.push((row, event_id.map(EventId::from_bytes)));
        }
        Ok(found)
    }

    /// Hub: keeps no texts of a rejected entry. It belongs to no complaint, so
    /// no erasure would ever find it; its author has it, and the decision says
    /// why.
    pub(super) fn withhold_parts(&mut self, row: i64) -> Result<(), StoreError> {
        let mut parts = self.parts_at(row)?;
        for part in &mut parts {
            if let PartState::Present(_) = part.state {
                part.state = PartState::Withheld;
            }
        }
        self.set_parts(row, &parts)?;
        self.connection
            .prepare_cached("UPDATE submission SET handover_digest = NULL WHERE id = ?1")?
            .execute([row])?;
        Ok(())
    }

    fn kind_of_part(&self, row: i64, sha256: &Digest) -> Result<Option<PartKind>, StoreError> {
        let parts = self.parts_at(row)?;
        let found = parts.iter().find(|part| &part.sha256 == sha256);
        Ok(found.map(|part| part.kind))
    }

    /// Erases in a row what is erased in another one. By kind: the same
    /// hand-over, made into an event twice, has other salts and digests.
    fn erase_as(&mut self, first: i64, row: i64) -> Result<(), StoreError> {
        for part in self.parts_at(first)? {
            if let PartState::Erased(by) = part.state {
                self.erase_kind(row, part.kind, &by)?;
            }
        }
        Ok(())
    }

    fn erase_kind(&mut self, row: i64, kind: PartKind, by: &EventId) -> Result<(), StoreError> {
        let mut parts = self.parts_at(row)?;
        let is_erased = |part: &Part| matches!(part.state, PartState::Erased(_));
        let mut left = parts
            .iter_mut()
            .filter(|part| part.kind == kind && !is_erased(part))
            .peekable();
        if left.peek().is_none() {
            return Ok(());
        }
        left.for_each(|part| part.state = PartState::Erased(*by));
        self.set_parts(row, &parts)?;
        self.fresh.push(Fresh::ForgetAll);
        self.connection
            .prepare_cached("UPDATE submission SET handover_digest = NULL WHERE id = ?1")?
            .execute([row])?;
        Ok(())
    }
}
