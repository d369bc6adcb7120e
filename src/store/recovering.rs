//! What beginning a new epoch did, as plain values.

use crate::domain::{Micros, PartyId};

/// What beginning a new epoch did, or would do, for one party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredParty {
    /// Whose journals.
    pub party: PartyId,
    /// The epoch that ends.
    pub ended_epoch: u64,
    /// The one that begins.
    pub epoch: u64,
    /// Submissions that the hub holds: its node sends later ones again.
    pub submissions: u64,
    /// Deliveries that the hub holds.
    pub deliveries: u64,
    /// Deliveries that are told again, since nobody knows here who has them.
    pub told_again: u64,
}

/// What beginning a new epoch did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// When the copy was made; `None`: the store is not marked as a copy.
    pub copied_at: Option<Micros>,
    /// When the newest thing that it holds was stored.
    pub newest: Option<Micros>,
    /// Invitations that nobody had used in this state: some may have been used
    /// since, and a code works once, so they are taken back.
    pub invitations: u64,
    /// The parties, by id.
    pub parties: Vec<RecoveredParty>,
}
