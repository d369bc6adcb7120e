//! Erasing: a part's bytes go, and the hand-over digest with them, in every
//! row that holds them; and what is erased stays erased in whatever repeats it.
//!
//! Invariants: an erasure reaches only the complaint that it was decided for;
//! chains, counts and the permanent dedup stay as they are.

use crate::{
    domain::{ComplaintId, Digest, Event, EventBody, EventId, PartKind, Rejection},
    store::StoreError,
};

use super::decide::Deciding;

impl Deciding<'_> {
    /// Whether an erasure names a part of an event of its own complaint. Who
    /// may erase there is decided with the complaint.
    pub(super) fn check_erasure(&self, event: &Event) -> Result<(), Rejection> {
        let EventBody::PartErased { event_id, sha256 } = &event.body else {
            return Ok(());
        };
        let row = self.world.events.get(event_id);
        let stored = row.and_then(|row| self.world.stored.get(row));
        // An event of another complaint looks like one that is not there.
        let own = stored.filter(|found| found.decision.complaint_id == Some(event.complaint_id));
        let Some(stored) = own else {
            return Err(Rejection::invalid(
                "part_erased.event_id",
                "this complaint has no such event",
            ));
        };
        if stored.parts.iter().all(|part| part.sha256 != *sha256) {
            return Err(Rejection::invalid(
                "part_erased.sha256",
                "that event has no such part",
            ));
        }
        Ok(())
    }

    /// Erases a part that [`Deciding::check_erasure`] has found, in its row and
    /// in every repetition of the event.
    pub(super) fn erase(
        &mut self,
        complaint: &ComplaintId,
        filing: i64,
        erased: &EventId,
        sha256: &Digest,
        by: EventId,
    ) {
        let Some(first) = self.world.events.get(erased).copied() else {
            return;
        };
        let Some(stored) = self.world.stored.get_mut(&first) else {
            return;
        };
        let found = stored.parts.iter_mut().find(|part| part.sha256 == *sha256);
        let Some(part) = found else { return };
        part.erased_by = Some(by);
        let (kind, revision) = (part.kind, stored.decision.revision);
        self.plan.erase(first, kind, Some(*sha256), by);
        let repetitions = self.world.repetitions.get(complaint);
        let mut about: Vec<i64> = repetitions.cloned().unwrap_or_default();
        about.push(filing);
        for row in about.into_iter().filter(|row| *row != first) {
            // A filing may be repeated under another key: then the revision of
            // the original says what it repeats.
            let repeats = self.world.stored.get(&row).is_some_and(|found| {
                found.event_id.as_ref() == Some(erased)
                    || (revision > 0 && found.decision.revision == revision)
            });
            if repeats {
                self.erase_kind(row, kind, by);
            }
        }
    }

    fn erase_kind(&mut self, row: i64, kind: PartKind, by: EventId) {
        self.plan.erase(row, kind, None, by);
        if let Some(stored) = self.world.stored.get_mut(&row) {
            for part in stored.parts.iter_mut().filter(|part| part.kind == kind) {
                part.erased_by.get_or_insert(by);
            }
        }
    }

    /// A row repeats an earlier one. It can be found for an erasure from now
    /// on, and what was erased there goes here as well. The complaint counts as
    /// changed, so that whoever erases meanwhile looks again.
    pub(super) fn note_repetition(
        &mut self,
        complaint: &ComplaintId,
        first: i64,
        row: i64,
    ) -> Result<(), StoreError> {
        if let Some(standing) = self.world.complaints.get_mut(complaint) {
            standing.is_changed = true;
            self.plan.repetitions.push((standing.row, row));
            let known = self.world.repetitions.entry(*complaint).or_default();
            known.push(row);
        }
        // By kind: the same hand-over, made into an event twice, has other
        // salts and digests.
        for part in self.stored(first)?.parts.clone() {
            if let Some(by) = part.erased_by {
                self.erase_kind(row, part.kind, by);
            }
        }
        Ok(())
    }
}
