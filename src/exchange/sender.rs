//! The sending half: a window of entries and bytes beyond the last
//! acknowledgement is the only back-pressure.

use std::collections::VecDeque;

use crate::domain::Limits;

use super::{Acknowledgement, Direction, Entries, Entry, Place, extend};

/// A peer that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It acknowledged what was never sent, or another chain.
    #[error("the peer acknowledged position {position} with a chain that we never sent")]
    WrongAcknowledgement {
        /// Where.
        position: u64,
    },
    /// It sent more than the window allows.
    #[error("the peer sent more than the window allows")]
    WindowExceeded,
    /// It sends so many of these that it can only mean harm, or be broken.
    #[error("the peer sent too many frames of this kind: {0}")]
    TooMany(&'static str),
    /// A frame that has no place here.
    #[error("the peer sent a frame that has no place here: {0}")]
    Unexpected(&'static str),
    /// A frame is larger than the limit, or an entry is.
    #[error("the peer sent a frame beyond the limits")]
    TooLarge,
}

#[derive(Debug, Clone, Copy)]
struct Boundary {
    place: Place,
    bytes: u64,
}

/// The sending half of a session.
#[derive(Debug, Clone)]
pub struct Sender {
    direction: Direction,
    epoch: u64,
    window_entries: u64,
    window_bytes: u64,
    acknowledged: Place,
    sent: Place,
    bytes_under_way: u64,
    under_way: VecDeque<Boundary>,
}

impl Sender {
    /// Begins behind a place that the peer holds.
    pub fn new(direction: Direction, epoch: u64, peer_holds: Place, limits: &Limits) -> Self {
        Self {
            direction,
            epoch,
            window_entries: u64::from(limits.window_entries),
            window_bytes: limits.window_bytes,
            acknowledged: peer_holds,
            sent: peer_holds,
            bytes_under_way: 0,
            under_way: VecDeque::new(),
        }
    }

    /// Makes the next frame of entries that follow what was sent; `bytes` is
    /// what they count against the window.
    pub fn frame(&mut self, entries: Vec<Entry>, bytes: u64) -> Entries {
        let first_position = self.sent.position + 1;
        let previous_chain = self.sent.chain;
        self.sent = extend(self.sent, self.direction, &entries);
        self.bytes_under_way += bytes;
        self.under_way.push_back(Boundary {
            place: self.sent,
            bytes,
        });
        Entries {
            direction: self.direction,
            epoch: self.epoch,
            first_position,
            previous_chain,
            entries,
            copy: false,
        }
    }

    /// Takes an acknowledgement: `Some` if it moved. An old one is ignored.
    ///
    /// # Errors
    /// It names a place that was never a frame's end.
    pub fn acknowledge(
        &mut self,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Place>, Violation> {
        let place = acknowledgement.place;
        if place.position < self.acknowledged.position || acknowledgement.epoch != self.epoch {
            return Ok(None);
        }
        if place.position == self.acknowledged.position {
            return if place.chain == self.acknowledged.chain {
                Ok(None)
            } else {
                Err(Violation::WrongAcknowledgement {
                    position: place.position,
                })
            };
        }
        let found = self
            .under_way
            .iter()
            .position(|boundary| boundary.place == place);
        let Some(last) = found else {
            return Err(Violation::WrongAcknowledgement {
                position: place.position,
            });
        };
        for boundary in self.under_way.drain(..=last) {
            self.bytes_under_way -= boundary.bytes;
        }
        self.acknowledged = place;
        Ok(Some(place))
    }

    /// Entries and bytes that may still be sent; `None` if the window is full.
    pub fn room(&self) -> Option<(u64, u64)> {
        let entries = self
            .window_entries
            .saturating_sub(self.sent.position - self.acknowledged.position);
        let bytes = self.window_bytes.saturating_sub(self.bytes_under_way);
        (entries > 0 && bytes > 0).then_some((entries, bytes))
    }

    /// The last place that was sent.
    pub fn sent(&self) -> Place {
        self.sent
    }

    /// The last place that the peer acknowledged.
    pub fn acknowledged(&self) -> Place {
        self.acknowledged
    }

    /// The journal's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}
