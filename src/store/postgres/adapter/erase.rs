//! Erasing: a part's bytes go, and the hand-over digest with them, in every row that
//! holds them. An entry may stand in a journal more than once (set aside, copied,
//! handed over again), so erasing the first row is not enough.
//!
//! Invariants: an erasure reaches only the complaint that it was decided for;
//! chains, counts and the permanent dedup stay as they are.

use crate::{
    domain::{ComplaintId, Digest, EventId, PartKind, PartState, PartyId},
    store::memory::Fresh,
};

use super::world::{Step, Want, World};

impl World {
    /// Erases a part in every row in which an event of this complaint stands,
    /// submitted or delivered to the party.
    pub(super) fn erase_at_node(
        &mut self,
        rows: &[i64],
        sha256: &Digest,
        by: &EventId,
    ) -> Step<()> {
        self.need(rows.iter().map(|row| Want::Parts(*row)))?;
        let mut kinds = rows.iter().filter_map(|row| {
            let parts = &self.parts.get(row)?.parts;
            let found = parts.iter().find(|part| &part.sha256 == sha256);
            found.map(|part| part.kind)
        });
        let Some(kind) = kinds.next() else {
            return Ok(());
        };
        for row in rows {
            self.erase_kind(*row, kind, by)?;
        }
        Ok(())
    }

    /// The same event may stand in several rows: what is erased in one is erased in
    /// all.
    pub(super) fn level_erasures(
        &mut self,
        party: &PartyId,
        complaint: &ComplaintId,
        event: &EventId,
    ) -> Step<()> {
        let rows = self.own_rows(party, complaint, event)?;
        if rows.len() < 2 {
            return Ok(());
        }
        self.need(rows.iter().map(|row| Want::Parts(*row)))?;
        for first in &rows {
            for row in rows.iter().filter(|row| *row != first) {
                self.erase_as(*first, *row)?;
            }
        }
        Ok(())
    }

    /// Rows of own submissions that hold this event of this complaint.
    pub(super) fn own_rows(
        &mut self,
        party: &PartyId,
        complaint: &ComplaintId,
        event: &EventId,
    ) -> Step<Vec<i64>> {
        let mut rows = self.rows_about(party, complaint)?;
        self.need(rows.iter().map(|row| Want::Row(*row)))?;
        let holds = |row: &i64| {
            let sub = self.subs.get(row);
            sub.is_some_and(|sub| sub.event_id.as_ref() == Some(event.as_bytes()))
        };
        rows.retain(holds);
        Ok(rows)
    }

    /// Erases in a row what is erased in another one. By kind: the same hand-over,
    /// made into an event twice, has other salts and digests.
    fn erase_as(&mut self, first: i64, row: i64) -> Step<()> {
        self.need([Want::Parts(first)])?;
        let parts = self.parts.get(&first);
        let erased: Vec<(PartKind, EventId)> = parts
            .into_iter()
            .flat_map(|found| &found.parts)
            .filter_map(|part| match part.state {
                PartState::Erased(by) => Some((part.kind, by)),
                _ => None,
            })
            .collect();
        for (kind, by) in erased {
            self.erase_kind(row, kind, &by)?;
        }
        Ok(())
    }

    fn erase_kind(&mut self, row: i64, kind: PartKind, by: &EventId) -> Step<()> {
        self.need([Want::Parts(row)])?;
        let Some(found) = self.parts.edit(&row) else {
            return Ok(());
        };
        let mut is_new = false;
        for part in found.parts.iter_mut().filter(|part| part.kind == kind) {
            if !matches!(part.state, PartState::Erased(_)) {
                part.state = PartState::Erased(*by);
                is_new = true;
            }
        }
        if is_new {
            found.is_erased = true;
            self.job().fresh.push(Fresh::ForgetAll);
        }
        Ok(())
    }
}
