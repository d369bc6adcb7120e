//! Journals: append-only, positions 1, 2, 3 ... without gaps, and a chain of
//! digests by which two ends prove that they hold the same entries.

use sha2::{Digest as _, Sha256};

use crate::domain::{Digest, PartyId};

use super::Entry;

/// The two journals between a party and the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the party to the hub.
    Submissions,
    /// From the hub to the party.
    Deliveries,
}

impl Direction {
    /// Its number in hashes and stores: 1 submissions, 2 deliveries.
    pub fn number(self) -> u8 {
        match self {
            Self::Submissions => 1,
            Self::Deliveries => 2,
        }
    }
}

/// A place in a journal and the chain there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Position; 0 is before the first entry.
    pub position: u64,
    /// The chain at that position.
    pub chain: Digest,
}

impl Place {
    /// Before the first entry.
    pub fn root(party: &PartyId, direction: Direction, epoch: u64) -> Self {
        Self {
            position: 0,
            chain: root_chain(party, direction, epoch),
        }
    }

    /// After one more entry with this digest.
    #[must_use]
    pub fn after(self, digest: &Digest) -> Self {
        Self {
            position: self.position + 1,
            chain: next_chain(&self.chain, digest),
        }
    }
}

/// chain(0): SHA-256("jembatan/1 journal" ‖ 0x00 ‖ len16(party) ‖ party ‖ direction ‖ epoch).
pub fn root_chain(party: &PartyId, direction: Direction, epoch: u64) -> Digest {
    let mut hash = Sha256::new();
    hash.update("jembatan/1 journal");
    hash.update([0]);
    hash.update((party.as_str().len() as u16).to_be_bytes());
    hash.update(party.as_str());
    hash.update([direction.number()]);
    hash.update(epoch.to_be_bytes());
    Digest(hash.finalize().into())
}

/// chain(n): SHA-256(chain(n−1) ‖ digest(n)).
pub fn next_chain(previous: &Digest, digest: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(previous.as_bytes());
    hash.update(digest.as_bytes());
    Digest(hash.finalize().into())
}

/// Digest of a submission, and of an event wherever it travels:
/// SHA-256(0x01 ‖ event bytes).
pub fn event_digest(event: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(event);
    Digest(hash.finalize().into())
}

/// Digest of a delivery: SHA-256(0x02 ‖ SHA-256(header bytes) ‖ digest of the
/// event that it carries, or 32 zero bytes).
pub fn delivery_digest(header: &[u8], event: Option<&[u8]>) -> Digest {
    let mut hash = Sha256::new();
    hash.update([2]);
    hash.update(Sha256::digest(header));
    match event {
        Some(event) => hash.update(event_digest(event).as_bytes()),
        None => hash.update([0; 32]),
    }
    Digest(hash.finalize().into())
}

/// Digest of an entry of this journal. An entry without event bytes carries none.
pub fn entry_digest(direction: Direction, entry: &Entry) -> Digest {
    match direction {
        Direction::Submissions => event_digest(&entry.event),
        Direction::Deliveries => {
            let event = (!entry.event.is_empty()).then_some(&*entry.event);
            delivery_digest(&entry.header, event)
        }
    }
}

/// The place after some more entries.
#[must_use]
pub fn extend(place: Place, direction: Direction, entries: &[Entry]) -> Place {
    entries.iter().fold(place, |place, entry| {
        place.after(&entry_digest(direction, entry))
    })
}
