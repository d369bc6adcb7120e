//! Finding events, complaints and references, and where an own event stands.

use crate::{
    domain::{
        ComplaintId, ComplaintName, Decision, Event, EventBody, EventId, Outcome, PartyId,
        Progress, Reference, SystemName, TrackingId,
    },
    store::{
        Receipt,
        standing::{PartyState, journal_of, position_of},
    },
};

use super::{
    damaged,
    world::{Step, Sub, View, Want, World, of_complaint, of_event},
};

/// Where an event stands that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) row: i64,
    /// Of its hand-over; `None` where only an erased copy came, or a decision.
    pub(super) mac: Option<[u8; 16]>,
}

impl World {
    /// A row of own submissions, if it is here.
    pub(super) fn sub(&mut self, row: i64) -> Step<Option<&Sub>> {
        self.need([Want::Row(row)])?;
        Ok(self.subs.get(&row))
    }

    /// What was decided about a row, if it was.
    pub(super) fn decision(&mut self, row: i64) -> Step<Option<&Decision>> {
        self.need([Want::Row(row)])?;
        Ok(self.decisions.get(&row))
    }

    /// A complaint as a party knows it, if it does.
    pub(super) fn view_of(&mut self, party: &PartyId, id: &ComplaintId) -> Step<Option<&View>> {
        self.need([of_complaint(party, id)])?;
        Ok(self.views.get(&(party.clone(), *id.as_bytes())))
    }

    /// The same, for changing; made if it is not there. Its number.
    pub(super) fn view(&mut self, party: &PartyId, id: &ComplaintId) -> Step<i64> {
        if let Some(view) = self.view_of(party, id)? {
            return Ok(view.id);
        }
        self.numbers.view += 1;
        let view = View {
            id: self.numbers.view,
            number: TrackingId::number_of(id, 0) as i64,
            ..View::default()
        };
        self.views.set((party.clone(), *id.as_bytes()), view);
        Ok(self.numbers.view)
    }

    /// The complaint, for changing; it is there.
    pub(super) fn edit_view(&mut self, party: &PartyId, id: &ComplaintId) -> Step<&mut View> {
        self.need([of_complaint(party, id)])?;
        self.views
            .edit(&(party.clone(), *id.as_bytes()))
            .ok_or_else(|| damaged("a complaint's view").into())
    }

    /// Where an event stands, if it is known.
    pub(super) fn find_event(&mut self, event: &EventId) -> Step<Option<Known>> {
        self.need([of_event(event)])?;
        let Some(row) = self.keys.get(event.as_bytes()).copied() else {
            return Ok(None);
        };
        let found = self.sub(row)?;
        let is_it = |sub: &&Sub| sub.event_id.as_ref() == Some(event.as_bytes());
        Ok(found.filter(is_it).map(|sub| Known { row, mac: sub.mac }))
    }

    /// Remembers where an event stands, for ever; the first place counts for as
    /// long as it holds the event.
    pub(super) fn remember(&mut self, event: &EventId, row: i64) -> Step<()> {
        if self.find_event(event)?.is_none() {
            self.keys.set(*event.as_bytes(), row);
        }
        Ok(())
    }

    /// The event stands in another row from now on.
    pub(super) fn moved(
        &mut self,
        party: &PartyId,
        event: &EventId,
        complaint: &ComplaintId,
        (old, new): (i64, i64),
    ) -> Step<()> {
        self.need([of_event(event), of_complaint(party, complaint)])?;
        if self.keys.get(event.as_bytes()) == Some(&old) {
            self.keys.set(*event.as_bytes(), new);
        }
        let Some(view) = self.view_of(party, complaint)? else {
            return Ok(());
        };
        let (id, filed_row) = (view.id, view.filed_row);
        if filed_row == Some(old) {
            self.edit_view(party, complaint)?.filed_row = Some(new);
        }
        if self.events_of.get(&(id, old)).is_some() {
            self.events_of.take(&(id, old));
            self.events_of.set((id, new), ());
        }
        for name in self.names_of(party, complaint) {
            if let Some((of, row)) = self.called.get(&name).copied()
                && row == old
            {
                self.called.set(name, (of, new));
            }
        }
        Ok(())
    }

    /// Names that a party has attached to a complaint that is here.
    pub(super) fn names_of(
        &self,
        party: &PartyId,
        complaint: &ComplaintId,
    ) -> Vec<(PartyId, SystemName, Reference)> {
        let names = self.named.get(&(party.clone(), *complaint.as_bytes()));
        let names = names.into_iter().flatten();
        names
            .map(|(system, reference)| (party.clone(), system.clone(), reference.clone()))
            .collect()
    }

    /// The complaint to which a party attached this reference.
    pub(super) fn attached(
        &mut self,
        party: &PartyId,
        system: &SystemName,
        reference: &Reference,
    ) -> Step<Option<ComplaintId>> {
        let name = (party.clone(), system.clone(), reference.clone());
        self.need([Want::Called(name.0.clone(), name.1.clone(), name.2.clone())])?;
        let found = self.called.get(&name);
        Ok(found.map(|(complaint, _)| ComplaintId::from_bytes(*complaint)))
    }

    /// The reference that a party attached to a complaint, in one of its systems or
    /// in any.
    pub(super) fn reference_of(
        &mut self,
        party: &PartyId,
        system: Option<&SystemName>,
        id: &ComplaintId,
    ) -> Step<Option<Reference>> {
        // They come with the complaint.
        self.need([of_complaint(party, id)])?;
        let mut names = self.names_of(party, id).into_iter();
        let found = names.find(|(_, of, _)| system.is_none_or(|system| system == of));
        Ok(found.map(|(_, _, reference)| reference))
    }

    /// A party's reference for a complaint in one of its systems: the origin's own,
    /// or one that was attached.
    pub(super) fn known_reference(
        &mut self,
        party: &PartyId,
        system: &SystemName,
        id: &ComplaintId,
    ) -> Step<Option<Reference>> {
        if let Some(view) = self.view_of(party, id)? {
            let is_origin = view.origin_party.as_deref() == Some(party.as_str())
                && view.origin_system.as_deref() == Some(system.as_str());
            if let (true, Some(own)) = (is_origin, &view.origin_reference) {
                let own = Reference::parse(own).map_err(|_| damaged("a reference"))?;
                return Ok(Some(own));
            }
        }
        self.reference_of(party, Some(system), id)
    }

    /// The row of the filing of a complaint.
    pub(super) fn filed_row(&mut self, party: &PartyId, id: &ComplaintId) -> Step<Option<i64>> {
        Ok(self.view_of(party, id)?.and_then(|view| view.filed_row))
    }

    /// Own submissions about a complaint: its filing, and what is noted beside it.
    pub(super) fn rows_about(&mut self, party: &PartyId, id: &ComplaintId) -> Step<Vec<i64>> {
        let Some(view) = self.view_of(party, id)? else {
            return Ok(Vec::new());
        };
        let (id, filed_row) = (view.id, view.filed_row);
        let others = self.events_of.range((id, i64::MIN)..=(id, i64::MAX));
        let mut rows: Vec<i64> = others.into_iter().map(|((_, row), ())| row).collect();
        rows.extend(filed_row);
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// Where a row of a party's submissions stands.
    pub(super) fn receipt_of(&mut self, party: &PartyId, row: i64) -> Step<Option<Receipt>> {
        let state = self.state(party)?.clone();
        let Some(sub) = self.sub(row)? else {
            return Ok(None);
        };
        let Some(event_id) = sub.event_id else {
            return Ok(None);
        };
        let complaint_id = sub.complaint_id.map(ComplaintId::from_bytes);
        let decision = self.decision(row)?.cloned();
        let said = decision.as_ref().and_then(|found| found.complaint_id);
        let progress = match decision.as_ref().map(|found| found.outcome) {
            Some(outcome) => outcome.progress(),
            None if is_acknowledged(&state, row) => Progress::AtHub,
            None => Progress::Stored,
        };
        Ok(Some(Receipt {
            event_id: EventId::from_bytes(event_id),
            complaint_id: complaint_id
                .or(said)
                .unwrap_or_else(|| ComplaintId::from_bytes([0; 16])),
            progress,
            repeated: false,
            decision,
        }))
    }

    /// The receipt of an own event, by its id.
    pub(super) fn receipt(&mut self, party: &PartyId, event: &EventId) -> Step<Option<Receipt>> {
        self.need([Want::Party(party.clone()), of_event(event)])?;
        if self.states.get(party).is_none() {
            return Ok(None);
        }
        match self.find_event(event)? {
            Some(known) => self.receipt_of(party, known.row),
            None => Ok(None),
        }
    }

    /// Whether a row stands in a journal of this party, in whatever epoch.
    pub(super) fn is_of(&self, party: &PartyId, row: i64) -> bool {
        let all = self.journals.range(..).into_iter();
        let journal = journal_of(row);
        all.filter(|((of, ..), _)| of == party)
            .any(|(_, number)| number == journal)
    }

    /// The complaint that a name means to a local system of a party, but by its
    /// Tracking ID.
    pub(super) fn find(
        &mut self,
        party: &PartyId,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Step<Option<ComplaintId>> {
        let id = match name {
            ComplaintName::Reference(reference) => {
                let filed = ComplaintId::derive(party, system, reference);
                let name = Want::Called(party.clone(), system.clone(), reference.clone());
                self.need([of_complaint(party, &filed), name])?;
                match self.filed_row(party, &filed)? {
                    Some(_) => Some(filed),
                    None => self.attached(party, system, reference)?,
                }
            }
            ComplaintName::Id(id) => Some(*id),
            ComplaintName::TrackingId(_) => None,
        };
        let Some(id) = id else { return Ok(None) };
        Ok(self.view_of(party, &id)?.is_some().then_some(id))
    }

    /// The filing of this complaint, unless the hub refused it: a corrected one may
    /// come then.
    pub(super) fn filed_before(
        &mut self,
        party: &PartyId,
        complaint: &ComplaintId,
    ) -> Step<Option<Known>> {
        let Some(row) = self.filed_row(party, complaint)? else {
            return Ok(None);
        };
        let decision = self.decision(row)?;
        let was_refused = decision.is_some_and(|found| found.outcome == Outcome::Rejected);
        let mac = self.sub(row)?.and_then(|found| found.mac);
        Ok((!was_refused).then_some(Known { row, mac }))
    }
}

/// Whether the hub holds what stands in this row.
fn is_acknowledged(state: &PartyState, row: i64) -> bool {
    if journal_of(row) == state.submissions {
        return position_of(row) <= state.acknowledged.position;
    }
    // What stayed in the journal of an ended epoch the hub holds.
    journal_of(row) != state.aside_journal
}

/// Whether it files a complaint.
pub(super) fn is_filing(event: &Event) -> bool {
    matches!(event.body, EventBody::Filed { .. })
}
