//! A second word on what was not settled: the hub decides a parked submission
//! anew, or gives it up; a node reads a delivery that it could not read before.
//!
//! Invariants: only what is parked is decided again, every other outcome is
//! final; whatever repeated a parked submission gets the result of the first;
//! a submission that stays parked is told to nobody again.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        Decision, DecisionSet, DeliveryRecord, Event, EventHeader, EventId, Micros, Outcome,
        PartyId, Rejection, check_identity,
    },
    exchange::{Direction, Entry, event_digest},
    store::{DeadLetter, ReceivedEntry, StoreError},
};

use super::{
    accept::Candidate,
    damaged,
    decisions::read_decision,
    journal::{position_of, row_id},
    lookup::{Whose, complaint_row},
    writer::Tx,
};

/// Letters that are read at once, at most.
const PAGE: usize = 1_000;
/// Unread deliveries of a party are counted up to this.
const COUNTED: u64 = 1_000;

/// Where a complaint stands at a node: revision, epoch, and the hub's words.
type Stood = (
    u32,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    bool,
);

/// What can be settled at this hub: parked submissions, without those that only
/// repeat another one; in the order of their journals, after an id.
pub(super) fn parked(
    connection: &Connection,
    only: Option<&PartyId>,
    after: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT d.row, j.party, j.epoch, s.stored_at, x'', s.event FROM decision d \
         JOIN journal j ON j.id = d.row >> 36 JOIN submission s ON s.id = d.row \
         WHERE d.outcome = 4 AND d.row > ?1 AND d.duplicate_of = 0 \
         AND (?2 IS NULL OR j.party = ?2) ORDER BY d.row LIMIT ?3",
    )?;
    let mut rows = statement.query(params![
        after as i64,
        only.map(PartyId::as_str),
        limit.min(PAGE) as i64
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut letter = letter(row)?;
        letter.decision = read_decision(connection, row.get(0)?)?;
        found.push(letter);
    }
    Ok(found)
}

/// A letter of its columns: row, party, epoch, when it was stored, header, event.
/// What was decided about it stands elsewhere.
pub(super) fn letter(row: &Row<'_>) -> Result<DeadLetter, StoreError> {
    let id: i64 = row.get(0)?;
    let party: String = row.get(1)?;
    Ok(DeadLetter {
        id: id as u64,
        party: PartyId::parse(&party).map_err(|_| damaged("a party's id"))?,
        epoch: row.get::<_, i64>(2)? as u64,
        position: position_of(id),
        stored_at: Micros(row.get(3)?),
        decision: None,
        entry: Entry {
            header: row.get::<_, Vec<u8>>(4)?.into(),
            event: row.get::<_, Vec<u8>>(5)?.into(),
            ..Entry::default()
        },
    })
}

/// What can be settled at this node: deliveries that it could not read.
pub(super) fn unread(
    connection: &Connection,
    only: Option<&PartyId>,
    after: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT u.row, j.party, j.epoch, d.stored_at, d.header, coalesce(d.event, x'') \
         FROM unread u JOIN journal j ON j.id = u.row >> 36 JOIN delivery d ON d.id = u.row \
         WHERE u.row > ?1 AND (?2 IS NULL OR u.party = ?2) ORDER BY u.row LIMIT ?3",
    )?;
    let mut rows = statement.query(params![
        after as i64,
        only.map(PartyId::as_str),
        limit.min(PAGE) as i64
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(letter(row)?);
    }
    Ok(found)
}

/// Deliveries of a party that this node could not read; counted up to a
/// thousand.
pub(super) fn count_unread(connection: &Connection, party: &PartyId) -> Result<u64, StoreError> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM unread WHERE party = ?1 LIMIT ?2)")?
        .query_row(params![party.as_str(), COUNTED as i64], |row| row.get(0))?;
    Ok(count as u64)
}

/// The row of a journal's position, if there is such a journal.
fn row_of(
    connection: &Connection,
    party: &PartyId,
    direction: Direction,
    (epoch, position): (u64, u64),
) -> Result<Option<i64>, StoreError> {
    let journal: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM journal WHERE party = ?1 AND direction = ?2 AND epoch = ?3",
        )?
        .query_row(
            params![party.as_str(), direction.number(), epoch as i64],
            |row| row.get(0),
        )
        .optional()?;
    Ok(journal.map(|journal| row_id(journal, position)))
}

impl Tx<'_> {
    /// Hub: decides a parked submission once more. `None`: it is not parked.
    pub(super) fn decide_again(
        &mut self,
        party: &PartyId,
        place: (u64, u64),
        event: &Event,
        now: Micros,
    ) -> Result<Option<Decision>, StoreError> {
        let Some((row, said)) = self.parked_at(party, place)? else {
            return Ok(None);
        };
        let bytes: Vec<u8> = self
            .connection
            .prepare_cached("SELECT event FROM submission WHERE id = ?1")?
            .query_row([row], |found| found.get(0))?;
        let mac = self
            .mac_of(row)?
            .ok_or_else(|| damaged("a submission without its mac"))?;
        let parts = self.parts_at(row)?;
        let candidate = Candidate {
            row,
            content: event_digest(&bytes),
            event,
            parts: &parts,
            mac,
            now,
        };
        // It is not among the newest entries any more: readers ask the disk.
        self.current = None;
        self.take_decision(row)?;
        let decision = match check_identity(event, party) {
            Err(rejection) => Decision {
                outcome: Outcome::Rejected,
                rejection: Some(rejection),
                ..said.clone()
            },
            Ok(()) => {
                let complaint = complaint_row(self.connection, Whose::Hub, &event.complaint_id)?;
                self.judge(&candidate, complaint)?.0
            }
        };
        if decision.outcome == Outcome::Parked {
            self.put_decision(row, &said)?;
            return Ok(Some(decision));
        }
        self.settle(party, (row, place.0), &decision, now)?;
        Ok(Some(decision))
    }

    /// Hub: gives a parked submission up. `None`: it is not parked.
    pub(super) fn drop_parked(
        &mut self,
        party: &PartyId,
        place: (u64, u64),
        rejection: Rejection,
        now: Micros,
    ) -> Result<Option<Decision>, StoreError> {
        let Some((row, said)) = self.parked_at(party, place)? else {
            return Ok(None);
        };
        let decision = Decision {
            outcome: Outcome::Rejected,
            rejection: Some(rejection),
            ..said
        };
        self.take_decision(row)?;
        self.settle(party, (row, place.0), &decision, now)?;
        Ok(Some(decision))
    }

    fn parked_at(
        &self,
        party: &PartyId,
        place: (u64, u64),
    ) -> Result<Option<(i64, Decision)>, StoreError> {
        let Some(row) = row_of(self.connection, party, Direction::Submissions, place)? else {
            return Ok(None);
        };
        let said = read_decision(self.connection, row)?;
        let is_parked = |said: &Decision| said.outcome == Outcome::Parked && said.duplicate_of == 0;
        Ok(said.filter(is_parked).map(|said| (row, said)))
    }

    /// Keeps and tells what was decided at last, also of whatever repeats it.
    fn settle(
        &mut self,
        party: &PartyId,
        (row, epoch): (i64, u64),
        decision: &Decision,
        now: Micros,
    ) -> Result<(), StoreError> {
        let repeats = self.parked_repeats(row, decision.event_id.as_ref())?;
        self.settle_one(party, (row, epoch), decision, now)?;
        for (repeat, epoch) in repeats {
            let again = self.original(row)?;
            self.take_decision(repeat)?;
            if let (Outcome::Duplicate, Some(complaint)) = (again.outcome, &again.complaint_id) {
                self.note_repetition(complaint, row, repeat)?;
            }
            self.settle_one(party, (repeat, epoch), &again, now)?;
        }
        Ok(())
    }

    fn settle_one(
        &mut self,
        party: &PartyId,
        (row, epoch): (i64, u64),
        decision: &Decision,
        now: Micros,
    ) -> Result<(), StoreError> {
        if decision.outcome != Outcome::Accepted {
            self.put_decision(row, decision)?;
        }
        if decision.outcome == Outcome::Rejected {
            self.withhold_parts(row)?;
        }
        self.uncount(party, Outcome::Parked)?;
        self.count(party, decision.outcome)?;
        let set = DecisionSet {
            epoch,
            first_position: position_of(row),
            decisions: vec![decision.clone()],
        };
        self.tell_set(party, set, now)
    }

    /// Rows, with their epochs, that repeat a parked one and so are parked too.
    fn parked_repeats(
        &self,
        row: i64,
        event: Option<&EventId>,
    ) -> Result<Vec<(i64, u64)>, StoreError> {
        let Some(event) = event else {
            return Ok(Vec::new());
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT d.row, j.epoch FROM decision d JOIN journal j ON j.id = d.row >> 36 \
             WHERE d.outcome = 4 AND d.event_id = ?2 AND d.row <> ?1 ORDER BY d.row",
        )?;
        let rows = statement.query_map(params![row, event.as_bytes()], |found| {
            Ok((found.get(0)?, found.get::<_, i64>(1)? as u64))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn take_decision(&self, row: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM decision WHERE row = ?1")?
            .execute([row])?;
        Ok(())
    }

    pub(super) fn uncount(&mut self, party: &PartyId, outcome: Outcome) -> Result<(), StoreError> {
        let counts = &mut self.state(party)?.counts;
        let count = match outcome {
            Outcome::Accepted => &mut counts.accepted,
            Outcome::Duplicate => &mut counts.duplicates,
            Outcome::Rejected => &mut counts.rejected,
            Outcome::Parked => &mut counts.parked,
        };
        *count = count.saturating_sub(1);
        Ok(())
    }

    /// Node: the hub said something about this row before. It counts again only
    /// if that was "parked"; `false`: what was said stays.
    pub(super) fn supersede(
        &mut self,
        party: &PartyId,
        row: i64,
        decision: &Decision,
    ) -> Result<bool, StoreError> {
        let Some(said) = read_decision(self.connection, row)? else {
            return Ok(false);
        };
        if said.outcome != Outcome::Parked || decision.outcome == Outcome::Parked {
            if &said != decision {
                tracing::warn!(
                    event = "decision_ignored",
                    %party,
                    position = position_of(row),
                    "the hub has decided this before, and that was final: what it says now is kept and changes nothing"
                );
            }
            return Ok(false);
        }
        self.take_decision(row)?;
        self.uncount(party, said.outcome)?;
        self.put_decision(row, decision)?;
        self.count(party, decision.outcome)?;
        self.note_anew(row)?;
        Ok(true)
    }

    /// Node: a delivery can't be read here, or its event can't.
    pub(super) fn note_unread(&self, party: &PartyId, row: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO unread (row, party) VALUES (?1, ?2)")?
            .execute(params![row, party.as_str()])?;
        Ok(())
    }

    /// Node: takes from a delivery what could not be read when it came. `false`:
    /// it is not among those, or still can't be read.
    pub(super) fn read_again(
        &mut self,
        party: &PartyId,
        place: (u64, u64),
        received: &ReceivedEntry,
    ) -> Result<bool, StoreError> {
        let row = row_of(self.connection, party, Direction::Deliveries, place)?;
        let Some(row) = row.filter(|_| received.is_readable()) else {
            return Ok(false);
        };
        if !self.take_unread(row)? {
            return Ok(false);
        }
        match &received.record {
            Some(DeliveryRecord::Event(header)) => {
                self.heard_late(party, row, header, received.event.as_ref())?;
            }
            Some(DeliveryRecord::Decisions(set)) => self.heard_set(party, set)?,
            None => {}
        }
        self.touch(party);
        Ok(true)
    }

    /// Node: nobody waits for this one any more. `false`: it is not among those.
    pub(super) fn drop_unread(
        &mut self,
        party: &PartyId,
        place: (u64, u64),
    ) -> Result<bool, StoreError> {
        match row_of(self.connection, party, Direction::Deliveries, place)? {
            Some(row) => self.take_unread(row),
            None => Ok(false),
        }
    }

    fn take_unread(&self, row: i64) -> Result<bool, StoreError> {
        let taken = self
            .connection
            .prepare_cached("DELETE FROM unread WHERE row = ?1")?
            .execute([row])?;
        Ok(taken == 1)
    }

    /// An event whose turn was long ago: it never sets a complaint back.
    fn heard_late(
        &mut self,
        party: &PartyId,
        row: i64,
        header: &EventHeader,
        event: Option<&Event>,
    ) -> Result<(), StoreError> {
        let view = self.view(party, &header.complaint_id, row)?;
        let told = self.told_event(view, header.event_id.as_bytes())?;
        if told.is_some_and(|(first, _)| first != row) {
            // Another epoch has brought it meanwhile, and it could be read.
            return Ok(());
        }
        let stood: Stood = self
            .connection
            .prepare_cached(
                "SELECT revision, epoch, status, handler, tracking_id, answer_missing \
                 FROM complaint_view WHERE id = ?1",
            )?
            .query_row([view], |found| {
                Ok((
                    found.get(0)?,
                    found.get(1)?,
                    found.get(2)?,
                    found.get(3)?,
                    found.get(4)?,
                    found.get(5)?,
                ))
            })?;
        self.heard_event(party, row, header, event)?;
        let (revision, epoch, status, handler, tracking_id, answer_missing) = stood;
        if revision > header.revision {
            self.connection
                .prepare_cached(
                    "UPDATE complaint_view SET revision = ?2, epoch = ?3, status = ?4, \
                     handler = ?5, tracking_id = ?6, answer_missing = ?7 WHERE id = ?1",
                )?
                .execute(params![
                    view,
                    revision,
                    epoch,
                    status,
                    handler,
                    tracking_id,
                    answer_missing
                ])?;
        }
        Ok(())
    }

    /// Node: decisions, of whatever epoch.
    fn heard_set(&mut self, party: &PartyId, set: &DecisionSet) -> Result<(), StoreError> {
        let state = self.state(party)?;
        if set.epoch != state.epoch {
            return self.heard_of_ended(party, set);
        }
        let first = state.row(Direction::Submissions, set.first_position);
        for (row, decision) in (first..).zip(&set.decisions) {
            self.heard_decision(party, row, decision)?;
        }
        let through = set.first_position + set.decisions.len() as u64 - 1;
        self.acknowledged_by_decision(party, through)
    }

    /// Node: decisions on submissions of an ended epoch, at a node that has lost
    /// its disk since: the submissions are not here, what became of them is.
    pub(super) fn heard_of_ended(
        &mut self,
        party: &PartyId,
        set: &DecisionSet,
    ) -> Result<(), StoreError> {
        let journal = self.journal(party, Direction::Submissions.number(), set.epoch)?;
        let first = row_id(journal, set.first_position);
        for (row, decision) in (first..).zip(&set.decisions) {
            self.heard_decision(party, row, decision)?;
            self.keep_lost(party, row, decision)?;
        }
        Ok(())
    }

    /// Whether the submission in this row is here, with or without its bytes.
    pub(super) fn has_submission(&self, row: i64) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM submission WHERE id = ?1")?
            .exists([row])?)
    }
}
