//! What travels on a link, as plain values. `wire` knows their encoding.

use bytes::Bytes;

use crate::domain::{Digest, Limits, Micros, Part, PartState, PartyId};

use super::{Direction, Place};

/// What travels on a link.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// First frame of the node.
    Open(Box<Open>),
    /// First frame of the hub.
    Opened(Box<Opened>),
    /// Journal entries.
    Entries(Entries),
    /// "Safely here."
    Acknowledgement(Acknowledgement),
    /// Sign of life.
    Heartbeat(Box<Heartbeat>),
    /// "This session will end."
    Drain(Drain),
    /// The node asks for a copy of its own submissions.
    CopyRequest(CopyRequest),
    /// A kind that this version does not know: ignored.
    Unknown,
}

/// The node opens the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Versions that the node speaks.
    pub versions: Vec<u32>,
    /// Optional capabilities.
    pub capabilities: Vec<String>,
    /// Made with the data directory.
    pub instance_id: [u8; 16],
    /// For people.
    pub software: String,
    /// The node's epoch; 0: none yet.
    pub epoch: u64,
    /// Submissions: (A, chain(A)).
    pub acknowledged: Place,
    /// Submissions: (N, chain(N)).
    pub head: Place,
    /// Deliveries: (R, chain(R)).
    pub received: Place,
    /// Deliveries: consumed by the local system.
    pub consumed_through: u64,
    /// The node's clock.
    pub sent_at: Micros,
    /// Made at the start of the node's process; `None`: it does not say.
    pub incarnation: Option<[u8; 16]>,
}

/// The hub answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The version chosen.
    pub version: u32,
    /// Capabilities of both sides.
    pub capabilities: Vec<String>,
    /// The hub's instance.
    pub instance_id: [u8; 16],
    /// For people.
    pub software: String,
    /// The epoch in force.
    pub epoch: u64,
    /// The hub's chain at A; `None`: A is beyond H.
    pub at_acknowledged: Option<Place>,
    /// The hub's chain at min(N, H).
    pub at_shorter_head: Place,
    /// (H, chain(H)).
    pub head: Place,
    /// Deliveries: the hub's head.
    pub deliveries_head: u64,
    /// Deliveries: the hub's chain at R; `None`: R is beyond its head.
    pub at_received: Option<Place>,
    /// Deliveries: consumed through, as the hub last heard.
    pub consumed_through: u64,
    /// Limits that the hub keeps.
    pub limits: Limits,
    /// The hub's clock.
    pub sent_at: Micros,
    /// After a new epoch was begun: the one before.
    pub previous_epoch: Option<PreviousEpoch>,
    /// The party as the certificate names it.
    pub party: PartyId,
}

/// Where the epoch before this one ended at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousEpoch {
    /// Its number.
    pub epoch: u64,
    /// Submissions: last place.
    pub submissions: Place,
    /// Deliveries: last place.
    pub deliveries: Place,
}

/// Consecutive entries of one journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Which journal.
    pub direction: Direction,
    /// Its epoch.
    pub epoch: u64,
    /// Position of the first.
    pub first_position: u64,
    /// chain(first_position − 1).
    pub previous_chain: Digest,
    /// At least one.
    pub entries: Vec<Entry>,
    /// An answer to [`CopyRequest`].
    pub copy: bool,
}

/// One entry of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Deliveries: header bytes. Submissions: empty.
    pub header: Bytes,
    /// Event bytes; empty in a delivery of decisions.
    pub event: Bytes,
    /// The parts that the event names.
    pub parts: Vec<Part>,
    /// Submissions only.
    pub handover_digest: Option<Digest>,
}

impl Entry {
    /// What it counts against the window, the same at both ends.
    pub fn window_bytes(&self) -> u64 {
        let parts: usize = self
            .parts
            .iter()
            .map(|part| {
                48 + match &part.state {
                    PartState::Present(bytes) => bytes.len(),
                    PartState::Withheld | PartState::Erased(_) => 0,
                }
            })
            .sum();
        (self.header.len() + self.event.len() + parts + 48) as u64
    }
}

/// Everything through here is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which journal.
    pub direction: Direction,
    /// Its epoch.
    pub epoch: u64,
    /// Where, and the chain there.
    pub place: Place,
}

/// Sign of life, and where the sender stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// Sender's clock.
    pub sent_at: Micros,
    /// `sent_at` of the last heartbeat that the sender received.
    pub echo: Option<Micros>,
    /// Submissions: sender's head.
    pub submissions_head: u64,
    /// Deliveries: sender's head.
    pub deliveries_head: u64,
    /// Held by the sender, not acknowledged.
    pub backlog_entries: u64,
    /// When the oldest of them was stored.
    pub oldest_waiting: Option<Micros>,
    /// Deliveries: consumed by the local system.
    pub consumed_through: u64,
    /// For people.
    pub software: String,
    /// When the sender's certificate ends.
    pub certificate_expires_at: Option<Micros>,
    /// Earliest software accepted from the date below on.
    pub minimum_version: String,
    /// From when on.
    pub minimum_version_from: Option<Micros>,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DrainReason {
    /// The process is stopping.
    Stopping,
    /// The session is old enough.
    Age,
    /// A certificate ends.
    CertificateExpires,
    /// A certificate was replaced.
    Reloaded,
    /// Disabled or revoked.
    Revoked,
    /// Another session took over.
    Fenced,
    /// A reason that this version does not know.
    Unknown,
}

/// This session will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Why.
    pub reason: DrainReason,
    /// When to come back.
    pub retry_after_ms: u32,
}

/// Asks for a copy of a stretch of the submissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRequest {
    /// Epoch.
    pub epoch: u64,
    /// First position wanted.
    pub first_position: u64,
    /// Last position wanted.
    pub last_position: u64,
}
