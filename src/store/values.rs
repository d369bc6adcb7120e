//! Plain values that go in and out of a store.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    domain::{
        Category, ComplaintId, Decision, DeliveryRecord, Digest, Directory, Event, EventHeader,
        EventId, Institution, InstitutionCode, Micros, Outcome, Part, Party, PartyId, Progress,
        Reference, RoutingRule, Status, SystemName, TrackingId, Unreadable,
    },
    exchange::{Entry, Place},
};

/// Where a party's journals stand at this node, in the current epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads {
    /// Current epoch; 0 at an adapter that has never met its hub.
    pub epoch: u64,
    /// Submissions: head.
    pub submissions: Place,
    /// Submissions: acknowledged by the hub (adapter); at the hub, its head.
    pub submissions_acknowledged: Place,
    /// Deliveries: head.
    pub deliveries: u64,
    /// Deliveries: acknowledged by the node (hub), or held here (adapter).
    pub deliveries_acknowledged: Place,
    /// Deliveries: consumed by the local system.
    pub consumed_through: u64,
    /// When the oldest entry that waits for an acknowledgement was stored.
    pub oldest_waiting: Option<Micros>,
    /// Adapter: a stretch of own submissions that is still to be copied.
    pub copy_wanted: Option<CopyWanted>,
}

/// A stretch of own submissions that the hub has and this node lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyWanted {
    /// First missing position.
    pub first: u64,
    /// Last missing position.
    pub last: u64,
    /// The chain that it must end in.
    pub end_chain: Digest,
}

/// Where an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedEpoch {
    /// Its number.
    pub epoch: u64,
    /// Submissions: last place.
    pub submissions: Place,
    /// Deliveries: last place.
    pub deliveries: Place,
}

/// What an ended epoch left in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierInbox {
    /// Which epoch.
    pub epoch: u64,
    /// Its last delivery.
    pub head: u64,
    /// Consumed by the local system.
    pub consumed_through: u64,
}

/// An entry as it travels, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Position.
    pub position: u64,
    /// When this node stored it.
    pub stored_at: Micros,
    /// What travels.
    pub entry: Entry,
    /// What of a delivery an earlier epoch brought already: the door does not
    /// hand it over again.
    pub told_before: ToldBefore,
}

/// What of a delivery an earlier epoch brought already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToldBefore {
    /// None of it.
    #[default]
    Nothing,
    /// The decisions at these places.
    Decisions(BTreeSet<u32>),
    /// All of it.
    Everything,
}

/// A hand-over, made into an event and parts.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSubmission {
    /// Whose journal.
    pub party: PartyId,
    /// What the bytes mean.
    pub event: Event,
    /// The bytes that are kept.
    pub event_bytes: Bytes,
    /// The parts that the event names, all present.
    pub parts: Vec<Part>,
    /// The same whenever the same fields are handed over.
    pub handover_digest: Digest,
}

/// Where a submission stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The event.
    pub event_id: EventId,
    /// Its complaint.
    pub complaint_id: ComplaintId,
    /// How far it has come.
    pub progress: Progress,
    /// This node had it already.
    pub repeated: bool,
    /// The hub's decision, once known.
    pub decision: Option<Decision>,
}

/// Why a hand-over was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefusal {
    /// The id is known with other content.
    #[error(
        "this key or reference is known with other content (stored event {stored}, refused event {refused}); nothing was overwritten: send corrections as new events, under a new key"
    )]
    Conflict {
        /// Digest of the event that is stored.
        stored: Digest,
        /// Digest of the event that was refused.
        refused: Digest,
    },
    /// The complaint is not known here, or the party takes no part in it.
    #[error("no such complaint is known here")]
    UnknownComplaint,
    /// The own reference names another complaint already.
    #[error("this reference already names another complaint")]
    ReferenceTaken,
}

/// A submission that came over a link.
#[derive(Debug, Clone, PartialEq)]
pub struct IncomingEntry {
    /// As it travelled.
    pub entry: Entry,
    /// What its event bytes mean.
    pub event: Result<Event, Unreadable>,
}

/// Consecutive submissions that came over a link.
#[derive(Debug, Clone)]
pub struct AcceptBatch {
    /// The session that writes.
    pub token: SessionToken,
    /// Where the journal stands before.
    pub expected: Place,
    /// The entries, from `expected.position + 1` on.
    pub entries: Vec<IncomingEntry>,
    /// Where the journal stands after; the link has checked the chain.
    pub head: Place,
    /// The hub's clock.
    pub now: Micros,
}

/// A delivery that came over a link.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedEntry {
    /// As it travelled.
    pub entry: Entry,
    /// What its header means. A header that can't be read (from a newer hub)
    /// is kept and shown, and changes nothing.
    pub record: Option<DeliveryRecord>,
    /// What its event bytes mean, if it carries an event and it can be read.
    pub event: Option<Event>,
}

impl ReceivedEntry {
    /// Whether this version could read all of it.
    pub fn is_readable(&self) -> bool {
        match &self.record {
            Some(DeliveryRecord::Event(_)) => self.event.is_some() || self.entry.event.is_empty(),
            Some(DeliveryRecord::Decisions(_)) => true,
            None => false,
        }
    }
}

/// Something that a person may have to look at: a submission that the hub
/// refused or parked, or a delivery that a node could not read.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its place in the order in which letters are listed; only a number.
    pub id: u64,
    /// Whose journal.
    pub party: PartyId,
    /// In which epoch of it; at a node, 0 for a submission that waits to go
    /// again.
    pub epoch: u64,
    /// Where in it.
    pub position: u64,
    /// When this node stored it.
    pub stored_at: Micros,
    /// Of a submission, what the hub said; `None`: a delivery.
    pub decision: Option<Decision>,
    /// Header and event, without parts.
    pub entry: Entry,
}

/// What a node has let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Own submissions.
    pub entries: u64,
    /// Bytes of their events and parts.
    pub bytes: u64,
}

/// Consecutive deliveries that came over a link.
#[derive(Debug, Clone)]
pub struct ReceiveBatch {
    /// Where the journal stands before.
    pub expected: Place,
    /// The entries, from `expected.position + 1` on.
    pub entries: Vec<ReceivedEntry>,
    /// Where the journal stands after; the link has checked the chain.
    pub head: Place,
    /// This node's clock.
    pub now: Micros,
}

/// Fences old sessions: every write compares it. 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionToken(pub [u8; 16]);

/// Outcomes of a party's submissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Accepted.
    pub accepted: u64,
    /// Duplicates that the hub answered.
    pub duplicates: u64,
    /// Rejected.
    pub rejected: u64,
    /// Parked.
    pub parked: u64,
    /// Repeated hand-overs that this node's door answered.
    pub repeated_handovers: u64,
}

impl Counts {
    /// One more of this outcome.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Duplicate => self.duplicates += 1,
            Outcome::Rejected => self.rejected += 1,
            Outcome::Parked => self.parked += 1,
        }
    }
}

/// Who may take part, and which certificates may not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registry {
    /// Parties, institutions, categories, rules.
    pub directory: Directory,
    /// Serial numbers, lower-case hex without leading zeros.
    pub revoked_serials: BTreeSet<String>,
}

/// Changes of the directory that are made together: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectoryChange {
    /// Parties that are added or replaced.
    pub parties: Vec<Party>,
    /// Institutions that are added or replaced, by parties of before or of this
    /// change.
    pub institutions: Vec<Institution>,
    /// The categories and the routing rules from now on; `None`: as before.
    pub policy: Option<(Vec<Category>, Vec<RoutingRule>)>,
    /// The party that reads for national triage from now on; `None`: as before.
    pub national: Option<PartyId>,
}

/// A complaint as one party may see it at this node.
#[derive(Debug, Clone, PartialEq)]
pub struct ComplaintRecord {
    /// Its id.
    pub id: ComplaintId,
    /// The national identifier, once known here.
    pub tracking_id: Option<TrackingId>,
    /// The origin's party, system and reference, once the filing is known here.
    pub origin: Option<(PartyId, SystemName, Reference)>,
    /// Status by the hub's word.
    pub status: Option<Status>,
    /// Owner by the hub's word; `None`: triage, or not decided yet.
    pub handler: Option<InstitutionCode>,
    /// Revision by the hub's word; 0: not decided yet.
    pub revision: u32,
    /// Anonim.
    pub anonymous: bool,
    /// Rahasia.
    pub confidential: bool,
    /// Closed without an answer.
    pub answer_missing: bool,
    /// The party's own reference for it, if it attached one.
    pub own_reference: Option<Reference>,
    /// In the hub's order; own events that are not decided yet come last.
    pub history: Vec<HistoryRecord>,
}

/// One step of a complaint's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRecord {
    /// Revision; 0: not decided yet.
    pub revision: u32,
    /// Event bytes, and parts as the party may read them.
    pub entry: Entry,
    /// The hub's header, in plain values; `None` for own events not decided.
    pub header: Option<EventHeader>,
    /// Own events: how far it has come, and the hub's decision.
    pub receipt: Option<Receipt>,
}

/// A local status without a row in its mapping table: work for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmappedStatus {
    /// Local system.
    pub system: SystemName,
    /// Its code for it.
    pub code: String,
    /// Its name for it.
    pub name: String,
    /// Hand-overs with it.
    pub count: u64,
    /// When the last of them was stored.
    pub last_seen: Micros,
}
