//! A second word on what was parked: it is decided anew, or given up.
//!
//! Invariants: only what is parked is settled, every other outcome is final;
//! whatever repeats a parked submission gets the result of the first; what
//! stays parked is told to nobody again. A settling is a batch of its own, and
//! no batch that was decided before it commits after it: a repetition that was
//! decided by the parked one would else stay parked.

use crate::{
    domain::{
        Decision, DecisionSet, Event, EventId, Micros, Outcome, Part, PartState, PartyId,
        Rejection, check_identity,
    },
    exchange::event_digest,
    store::StoreError,
};

use super::{
    decide::{Candidate, Deciding},
    decisions, journal,
    plan::Tell,
    rows::{ALL_READABLE, POSITION_BITS, id16, number, part, position_of},
    session::{Session, maybe, rows},
    world::{Stored, StoredPart, World},
};

/// What is to become of a parked submission.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) party: PartyId,
    /// Epoch and position.
    pub(super) place: (u64, u64),
    pub(super) how: How,
    pub(super) now: Micros,
}

#[derive(Debug)]
pub(super) enum How {
    /// Decide what its bytes mean.
    Decide(Box<Event>),
    /// Give it up.
    Reject(Rejection),
}

/// A parked submission, and the rows, with their epochs, that repeat it.
#[derive(Debug)]
pub(super) struct Parked {
    row: i64,
    stored_at: Micros,
    event: Vec<u8>,
    mac: [u8; 16],
    said: Decision,
    parts: Vec<Part>,
    repeats: Vec<(i64, u64)>,
}

// What can be settled at this hub. A decision that repeats another one says which; others have no such field.
pub(super) const LETTERS: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, ''::bytea, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome = 4 AND s.id > $1 AND ($2::text IS NULL OR j.party = $2) \
         AND (s.decision::json ->> 'duplicate_of') IS NULL \
     ORDER BY s.id LIMIT $3";

const PARKED_AT: &str = "SELECT s.id, s.stored_at, s.event, s.mac, s.decision FROM journal j \
     JOIN submission s ON s.id = (j.id << 36) | $3 \
     WHERE j.party = $1 AND j.direction = 1 AND j.epoch = $2 AND s.outcome = 4";

const REPEATS: &str = "SELECT s.id, j.epoch FROM submission s JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome = 4 AND s.event_id = $2 AND s.id <> $1 ORDER BY s.id";

/// The parked submission that is meant. It holds for as long as the party's
/// head and the directory do, so it is read after both.
pub(super) async fn load(
    client: &Session,
    settling: &Settling,
) -> Result<Option<Parked>, StoreError> {
    let (epoch, position) = settling.place;
    let (Ok(epoch), Ok(at)) = (i64::try_from(epoch), i64::try_from(position)) else {
        return Ok(None);
    };
    if at >> POSITION_BITS != 0 {
        return Ok(None);
    }
    let name = settling.party.as_str();
    let Some(found) = maybe(client, PARKED_AT, &[&name, &epoch, &at]).await? else {
        return Ok(None);
    };
    let said = decisions::from_json(found.try_get(4)?)?;
    if said.outcome != Outcome::Parked || said.duplicate_of != 0 {
        return Ok(None);
    }
    let row: i64 = found.try_get(0)?;
    let parts = rows(client, journal::PARTS, &[&vec![row]]).await?;
    let parts = parts.iter().map(|found| part(found, 1, ALL_READABLE));
    let parts = parts.collect::<Result<_, _>>()?;
    let event_id = said.event_id.as_ref().map(EventId::as_bytes);
    let event_id = event_id.map(|bytes| bytes.as_slice());
    let repeats = rows(client, REPEATS, &[&row, &event_id]).await?;
    let repeats = repeats
        .iter()
        .map(|found| Ok::<_, StoreError>((found.try_get(0)?, number(found, 1)?)));
    Ok(Some(Parked {
        row,
        stored_at: Micros(found.try_get(1)?),
        event: found.try_get(2)?,
        mac: id16(found.try_get(3)?)?,
        said,
        parts,
        repeats: repeats.collect::<Result<_, _>>()?,
    }))
}

impl World {
    /// Takes in the parked submission that a batch settles.
    pub(super) fn add_parked(&mut self, parked: Parked) {
        let parts = parked.parts.iter().map(|part| StoredPart {
            kind: part.kind,
            sha256: part.sha256,
            erased_by: match part.state {
                PartState::Erased(by) => Some(by),
                PartState::Present(_) | PartState::Withheld => None,
            },
        });
        let stored = Stored {
            event_id: parked.said.event_id,
            mac: parked.mac,
            content: event_digest(&parked.event),
            decision: parked.said.clone(),
            parts: parts.collect(),
        };
        self.stored.insert(parked.row, stored);
        self.parked = Some(parked);
    }
}

impl Deciding<'_> {
    /// What becomes of a parked submission. `None`: it is not parked.
    pub(super) fn settle(&mut self, settling: &Settling) -> Result<Option<Decision>, StoreError> {
        let Some(parked) = self.world.parked.take() else {
            return Ok(None);
        };
        let (party, now) = (&settling.party, settling.now);
        let decision = match &settling.how {
            How::Decide(event) => self.decide_parked(party, event, &parked, now)?,
            How::Reject(rejection) => rejected(&parked, rejection.clone()),
        };
        if decision.outcome == Outcome::Parked {
            return Ok(Some(decision));
        }
        if let Some(stored) = self.world.stored.get_mut(&parked.row) {
            stored.decision = decision.clone();
        }
        self.conclude(party, (parked.row, settling.place.0), &decision, now)?;
        for (repeat, epoch) in parked.repeats {
            let again = self.original(parked.row)?;
            if let (Outcome::Duplicate, Some(complaint)) = (again.outcome, &again.complaint_id) {
                self.note_repetition(complaint, parked.row, repeat)?;
            }
            self.conclude(party, (repeat, epoch), &again, now)?;
        }
        Ok(Some(decision))
    }

    fn decide_parked(
        &mut self,
        party: &PartyId,
        event: &Event,
        parked: &Parked,
        now: Micros,
    ) -> Result<Decision, StoreError> {
        if let Err(rejection) = check_identity(event, party) {
            return Ok(rejected(parked, rejection));
        }
        self.judge(&Candidate {
            row: parked.row,
            content: event_digest(&parked.event),
            event,
            parts: &parked.parts,
            mac: parked.mac,
            accepted_at: parked.stored_at,
            now,
        })
    }

    /// Keeps what was decided at last, and tells its author.
    fn conclude(
        &mut self,
        party: &PartyId,
        (row, epoch): (i64, u64),
        decision: &Decision,
        now: Micros,
    ) -> Result<(), StoreError> {
        self.plan.settled.push((row, decision.clone()));
        let head = self.head(party)?;
        head.settled += 1;
        head.count(decision.outcome);
        self.plan.tells.push(Tell::Decisions {
            party: party.clone(),
            set: DecisionSet {
                epoch,
                first_position: position_of(row),
                decisions: vec![decision.clone()],
            },
            now,
        });
        Ok(())
    }
}

fn rejected(parked: &Parked, rejection: Rejection) -> Decision {
    Decision {
        outcome: Outcome::Rejected,
        rejection: Some(rejection),
        ..parked.said.clone()
    }
}
