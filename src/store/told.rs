//! What every engine of a hub tells its parties alike: how much of a complaint a
//! party may see and in which role, the header of an event, and which decisions
//! share a delivery. Knows no SQL.

use crate::{
    domain::{
        Complaint, ComplaintId, Decision, DecisionSet, Directory, EventHeader, EventId, Micros,
        PartyId, Role, Telling, TrackingId, readable_parts,
    },
    store::StoreError,
};

/// Decisions in one delivery.
const DECISIONS_PER_DELIVERY: usize = 200;

/// Decisions of one author, of consecutive positions, that are not yet in its
/// deliveries.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) party: PartyId,
    pub(super) set: DecisionSet,
}

/// Joins a decision to those that wait, if it follows them; else those are to
/// be told now and come out, and it waits alone.
#[must_use]
pub(super) fn pend(
    pending: &mut Option<Pending>,
    party: &PartyId,
    (epoch, position): (u64, u64),
    decision: Decision,
) -> Option<Pending> {
    if let Some(Pending { party: of, set }) = pending {
        let next = set.first_position + set.decisions.len() as u64;
        let is_next = of == party && set.epoch == epoch && next == position;
        if is_next && set.decisions.len() < DECISIONS_PER_DELIVERY {
            set.decisions.push(decision);
            return None;
        }
    }
    pending.replace(Pending {
        party: party.clone(),
        set: DecisionSet {
            epoch,
            first_position: position,
            decisions: vec![decision],
        },
    })
}

/// What the history says of one revision.
pub(super) struct ToldEvent {
    pub(super) event_id: EventId,
    pub(super) author: PartyId,
    pub(super) accepted_at: Micros,
    pub(super) hops: u32,
}

/// Header of a delivery that tells of a revision of a complaint.
///
/// # Errors
/// [`StoreError::Corrupt`]: what was decided is no accepted event.
pub(super) fn header(
    complaint: (ComplaintId, &TrackingId),
    decision: &Decision,
    told: ToldEvent,
    telling: &Telling,
) -> Result<EventHeader, StoreError> {
    let (complaint_id, tracking_id) = complaint;
    let status = decision
        .status
        .ok_or_else(|| StoreError::Corrupt("an accepted event without a status".to_owned()))?;
    Ok(EventHeader {
        event_id: told.event_id,
        complaint_id,
        revision: decision.revision,
        status,
        handler: decision.handler.clone(),
        tracking_id: tracking_id.clone(),
        party: told.author,
        accepted_at: told.accepted_at,
        role: telling.role,
        readable_parts: telling.readable_parts.clone(),
        hops: told.hops,
        answer_missing: decision.answer_missing,
    })
}

/// What a party may see of a complaint when it asks for it; `None`: it takes no
/// part in it.
pub(super) fn visible(
    directory: &Directory,
    complaint: &Complaint,
    party: &PartyId,
) -> Option<Telling> {
    let is_national = directory.triage_reader() == Some(party);
    let mut participants = complaint.participants.iter();
    let told = participants.find(|participant| &participant.party == party);
    // Whoever overrules has to see what is there, also where it has not taken
    // part; deciding then tells it what it has not had.
    let through = match told {
        _ if is_national => complaint.revision,
        Some(participant) => participant.told_through.min(complaint.revision),
        None => return None,
    };
    let role = match &complaint.handler {
        Some(handler) if directory.reader_of(handler) == Some(party) => Role::Handler,
        None if is_national => Role::Triage,
        _ if &complaint.origin == party => Role::Origin,
        _ if is_national => Role::Observer,
        _ => Role::Copy,
    };
    Some(Telling {
        party: party.clone(),
        role,
        from_revision: 1,
        through_revision: through,
        readable_parts: readable_parts(complaint, party, role),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::judging::refused;

    /// Scenario: more decisions than a delivery takes, a gap, another author, and
    /// another epoch.
    /// Guarantee: a delivery holds decisions of one author, in one epoch, one
    /// after the other, 200 at most; none is lost and none comes twice.
    #[test]
    fn decisions_share_a_delivery_while_they_follow() {
        let party = |id: &str| PartyId::parse(id).unwrap();
        let decision = || refused(None, crate::domain::Rejection::unknown_complaint());
        let (one, other) = (party("pemda-33"), party("pemda-34"));
        let mut given: Vec<(&PartyId, u64, u64)> = (1..=450).map(|at| (&one, 1, at)).collect();
        given.extend([
            (&one, 1, 460),
            (&one, 1, 461),
            (&other, 1, 462),
            (&other, 2, 463),
        ]);
        let (mut pending, mut told) = (None, Vec::new());
        for (party, epoch, position) in &given {
            told.extend(pend(&mut pending, party, (*epoch, *position), decision()));
        }
        told.extend(pending);
        let found: Vec<(&PartyId, u64, u64, usize)> = told
            .iter()
            .map(|Pending { party, set }| {
                (party, set.epoch, set.first_position, set.decisions.len())
            })
            .collect();
        let expected = [
            (&one, 1, 1, 200),
            (&one, 1, 201, 200),
            (&one, 1, 401, 50),
            (&one, 1, 460, 2),
            (&other, 1, 462, 1),
            (&other, 2, 463, 1),
        ];
        assert_eq!(found, expected);
    }
}
