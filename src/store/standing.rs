//! Where a party's journals stand, as an engine with one writer keeps it, and
//! how their rows are numbered. Knows no SQL.

use crate::{
    domain::{Micros, PartyId},
    exchange::{Direction, Place},
};

use super::{CopyWanted, Counts, Heads, SessionToken};

/// Bits of a row id that hold the position: no journal is longer.
pub(super) const POSITION_BITS: u32 = 36;

/// The number of the journal of what was set aside.
pub(super) const ASIDE: u8 = 3;

/// A row of a journal.
pub(super) fn row_id(journal: i64, position: u64) -> i64 {
    (journal << POSITION_BITS) | position as i64
}

/// The journal of a row.
pub(super) fn journal_of(row: i64) -> i64 {
    row >> POSITION_BITS
}

/// The position of a row.
pub(super) fn position_of(row: i64) -> u64 {
    (row & ((1 << POSITION_BITS) - 1)) as u64
}

/// Where a party's journals stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartyState {
    pub(super) party: PartyId,
    pub(super) epoch: u64,
    pub(super) submissions: i64,
    pub(super) deliveries: i64,
    pub(super) head: Place,
    pub(super) acknowledged: Place,
    pub(super) delivered: u64,
    /// Adapter: the chain at its deliveries head.
    pub(super) delivered_acknowledged: Place,
    pub(super) consumed: u64,
    pub(super) token: Option<SessionToken>,
    pub(super) copy: Option<CopyWanted>,
    pub(super) aside_journal: i64,
    pub(super) aside_from: u64,
    pub(super) aside_to: u64,
    pub(super) counts: Counts,
}

impl PartyState {
    pub(super) fn row(&self, direction: Direction, position: u64) -> i64 {
        let journal = match direction {
            Direction::Submissions => self.submissions,
            Direction::Deliveries => self.deliveries,
        };
        row_id(journal, position)
    }

    pub(super) fn head_of(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Submissions => self.head.position,
            Direction::Deliveries => self.delivered,
        }
    }

    pub(super) fn heads_with(&self, oldest_waiting: Option<Micros>, is_hub: bool) -> Heads {
        Heads {
            epoch: self.epoch,
            submissions: self.head,
            submissions_acknowledged: if is_hub { self.head } else { self.acknowledged },
            deliveries: self.delivered,
            deliveries_acknowledged: self.delivered_acknowledged,
            consumed_through: self.consumed,
            oldest_waiting,
            copy_wanted: self.copy,
        }
    }
}

/// A party that this store has never seen.
pub(super) fn fresh_heads(party: &PartyId, epoch: u64) -> Heads {
    Heads {
        epoch,
        submissions: Place::root(party, Direction::Submissions, epoch),
        submissions_acknowledged: Place::root(party, Direction::Submissions, epoch),
        deliveries: 0,
        deliveries_acknowledged: Place::root(party, Direction::Deliveries, epoch),
        consumed_through: 0,
        oldest_waiting: None,
        copy_wanted: None,
    }
}
