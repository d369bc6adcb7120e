//! Copied submissions, which the hub has and this node lacks, come into their gap.

use crate::{
    domain::{Digest, Micros, Outcome, PartyId},
    exchange::{event_digest, next_chain},
    store::{
        CopyWanted, IncomingEntry, StoreError, kept::OwnEffect, memory::Fresh, standing::row_id,
    },
};

use super::{
    damaged,
    own::NewRow,
    world::{NewSub, Step, Sub, Want, World},
};

impl World {
    /// Puts copied submissions into their gap.
    pub(super) fn fill_copy(
        &mut self,
        party: &PartyId,
        first: u64,
        entries: &[IncomingEntry],
    ) -> Step<Option<CopyWanted>> {
        let state = self.state(party)?.clone();
        let Some(wanted) = state.copy else {
            return Ok(None);
        };
        if first != wanted.first || entries.is_empty() {
            return Err(StoreError::Mismatch(format!(
                "a copy from {first} on came, but {} is wanted",
                wanted.first
            ))
            .into());
        }
        self.job().fresh.push(Fresh::Forget(party.clone()));
        let mut chain = self
            .submission_chain(&state, first - 1)?
            .ok_or_else(|| damaged("the chain before a copy"))?;
        let mut position = first;
        for incoming in entries.iter().take((wanted.last - first + 1) as usize) {
            chain = next_chain(&chain, &event_digest(&incoming.entry.event));
            let row = row_id(state.submissions, position);
            self.step(|world| world.put_copy(party, row, incoming, chain))?;
            position += 1;
        }
        let left = (position <= wanted.last).then_some(CopyWanted {
            first: position,
            ..wanted
        });
        if left.is_none() && chain != wanted.end_chain {
            return Err(StoreError::Mismatch(
                "the copy does not end in the chain that the hub had named".to_owned(),
            )
            .into());
        }
        self.state(party)?.copy = left;
        self.touch(party);
        Ok(left)
    }

    fn put_copy(
        &mut self,
        party: &PartyId,
        row: i64,
        incoming: &IncomingEntry,
        chain: Digest,
    ) -> Step<()> {
        let event = incoming.event.as_ref().ok();
        self.need([Want::Row(row)])?;
        if let Some(event) = event {
            self.need_for(event)?;
        }
        // After a second opening the stretch may reach over rows that are here.
        match self.subs.get(&row) {
            Some(found) if found.chain == chain => return Ok(()),
            Some(_) => self.job().back.push(row),
            None => {}
        }
        // Erased with its parts, the digest is no longer there: then the hub,
        // which remembers, answers a repetition.
        let handover_digest = incoming.entry.handover_digest;
        let mac = handover_digest.map(|digest| self.mac(&digest));
        // Before the row is another one: it may be where the event stood.
        let known = match event {
            Some(event) => self.find_event(&event.event_id)?,
            None => None,
        };
        self.put_submission(
            row,
            NewRow {
                sub: Sub {
                    event_id: event.map(|event| *event.event_id.as_bytes()),
                    mac,
                    complaint_id: event.map(|event| *event.complaint_id.as_bytes()),
                    effect: event.map(OwnEffect::json_of).transpose()?.flatten(),
                    chain,
                    is_gone: incoming.entry.event.is_empty(),
                },
                new: NewSub {
                    stored_at: event.map_or(Micros(0), |event| event.recorded_at),
                    event: incoming.entry.event.clone(),
                    handover_digest,
                },
                parts: &incoming.entry.parts,
            },
        );
        let Some(event) = event else {
            return Ok(());
        };
        // Re-appended meanwhile: the first place is what counts.
        if let Some(later) = known.filter(|known| known.row != row) {
            let places = (later.row, row);
            self.moved(party, &event.event_id, &event.complaint_id, places)?;
            let view = self.view(party, &event.complaint_id)?;
            self.events_of.set((view, later.row), ());
        } else {
            self.note_own(event, row)?;
        }
        self.level_erasures(party, &event.complaint_id, &event.event_id)?;
        let decision = self.decision(row)?;
        if decision.is_some_and(|found| found.outcome == Outcome::Accepted) {
            self.take_own_effect(party, row)?;
        }
        Ok(())
    }
}
