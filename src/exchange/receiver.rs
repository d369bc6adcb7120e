//! The receiving half: a frame is stored whole or not at all, and only if it
//! continues what is here.

use std::collections::VecDeque;

use crate::domain::{EVENT_BYTES, Limits, PART_BYTES, PARTS_PER_EVENT};

use super::{Acknowledgement, Direction, Entries, Entry, Place, Violation, extend};

/// How far a sender may go beyond the window's bytes: it looks whether there is
/// room, and then sends one entry, however large.
const ONE_ENTRY: u64 = (2 * EVENT_BYTES + PARTS_PER_EVENT * PART_BYTES) as u64;

/// What to do with a frame of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Store its entries but for the first `skip`, which are here already.
    Store {
        /// Entries that are here already.
        skip: usize,
        /// Where the journal stands before.
        expected: Place,
        /// Where it stands after.
        head: Place,
    },
    /// It ends below the head: if our chain at this place is the same, all of
    /// it is known; otherwise the journals differ.
    Compare(Place),
}

/// The frame does not continue what is here; the sender has to open again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A gap.
    #[error("the frame begins at {first}, but this end stands at {head}")]
    Gap {
        /// The frame's first position.
        first: u64,
        /// Where this end stands.
        head: u64,
    },
    /// Another epoch.
    #[error("the frame is of epoch {theirs}, this end is in {ours}")]
    Epoch {
        /// The frame's.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// Another chain.
    #[error("the frame continues another chain at {position}")]
    Chain {
        /// Where.
        position: u64,
    },
}

/// The receiving half of a session.
#[derive(Debug, Clone)]
pub struct Receiver {
    direction: Direction,
    epoch: u64,
    window_entries: u64,
    window_bytes: u64,
    taken: Place,
    durable: Place,
    bytes_under_way: u64,
    under_way: VecDeque<(u64, u64)>,
}

impl Receiver {
    /// Begins at what is on disk.
    pub fn new(direction: Direction, epoch: u64, head: Place, limits: &Limits) -> Self {
        Self {
            direction,
            epoch,
            window_entries: u64::from(limits.window_entries),
            window_bytes: limits.window_bytes,
            taken: head,
            durable: head,
            bytes_under_way: 0,
            under_way: VecDeque::new(),
        }
    }

    /// Checks a frame against what has been taken so far.
    ///
    /// # Errors
    /// It does not continue it; nothing may be stored.
    pub fn check(&self, frame: &Entries) -> Result<Check, Mismatch> {
        if frame.epoch != self.epoch {
            return Err(Mismatch::Epoch {
                theirs: frame.epoch,
                ours: self.epoch,
            });
        }
        let head = self.taken;
        let before = frame.first_position.saturating_sub(1);
        if frame.first_position == 0 || before > head.position {
            return Err(Mismatch::Gap {
                first: frame.first_position,
                head: head.position,
            });
        }
        let start = Place {
            position: before,
            chain: frame.previous_chain,
        };
        let known = usize::try_from(head.position - before).unwrap_or(usize::MAX);
        if known > frame.entries.len() {
            return Ok(Check::Compare(extend(
                start,
                self.direction,
                &frame.entries,
            )));
        }
        let (old, new) = frame.entries.split_at(known);
        let at_head = extend(start, self.direction, old);
        if at_head != head {
            return Err(Mismatch::Chain {
                position: head.position,
            });
        }
        Ok(Check::Store {
            skip: known,
            expected: head,
            head: extend(head, self.direction, new),
        })
    }

    /// These entries, the new ones of a frame, are on their way to the disk.
    ///
    /// # Errors
    /// More is under way than the window allows.
    pub fn take(&mut self, head: Place, entries: &[Entry]) -> Result<(), Violation> {
        self.taken = head;
        let bytes: u64 = entries.iter().map(Entry::window_bytes).sum();
        self.bytes_under_way += bytes;
        self.under_way.push_back((head.position, bytes));
        let is_beyond = self.taken.position - self.durable.position > self.window_entries
            || self.bytes_under_way > self.window_bytes + ONE_ENTRY;
        if is_beyond {
            return Err(Violation::WindowExceeded);
        }
        Ok(())
    }

    /// They are on disk.
    pub fn stored(&mut self, place: Place) {
        debug_assert!(place.position <= self.taken.position);
        if place.position > self.durable.position {
            self.durable = place;
        }
        while let Some((position, bytes)) = self.under_way.front()
            && *position <= self.durable.position
        {
            self.bytes_under_way -= bytes;
            self.under_way.pop_front();
        }
    }

    /// What may be acknowledged now.
    pub fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement {
            direction: self.direction,
            epoch: self.epoch,
            place: self.durable,
        }
    }

    /// What is on disk.
    pub fn durable(&self) -> Place {
        self.durable
    }

    /// Which journal.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}
