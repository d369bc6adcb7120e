//! What the hub decides about a submission, and what it says about an event
//! that it delivers.

use serde::{Deserialize, Serialize};

use super::{
    ComplaintId, Digest, EventId, InstitutionCode, Micros, PartKind, PartyId, Role, Status,
    TrackingId,
};

/// What happened to a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds (diterima).
    Accepted,
    /// It was there already (sudah ada).
    Duplicate,
    /// It does not hold (ditolak pusat).
    Rejected,
    /// Deciding it failed; an operator looks (diparkir).
    Parked,
}

impl Outcome {
    /// How far something with this outcome has come.
    pub fn progress(self) -> Progress {
        match self {
            Self::Accepted => Progress::Accepted,
            Self::Duplicate => Progress::Duplicate,
            Self::Rejected => Progress::Rejected,
            Self::Parked => Progress::Parked,
        }
    }
}

/// How far an item has come; the same words at every door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// On disk at this node (tersimpan).
    Stored,
    /// On disk at the hub (sampai di pusat).
    AtHub,
    /// Accepted (diterima).
    Accepted,
    /// Was there already (sudah ada).
    Duplicate,
    /// Refused (ditolak pusat).
    Rejected,
    /// A local system would not take it (gagal kirim).
    Undeliverable,
    /// Not decided; an operator looks (diparkir).
    Parked,
}

/// Closed list: why a submission was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectionReason {
    /// Can't be read as an event.
    Unreadable,
    /// A field is missing or out of its limits.
    InvalidEvent,
    /// Ids or party do not fit the certificate.
    ForgedId,
    /// The id is known with other content.
    Conflict,
    /// No such complaint, or the party takes no part in it.
    UnknownComplaint,
    /// The party may not do this now.
    NotPermitted,
    /// The status does not allow it.
    IllegalMove,
    /// Others changed it since `expected_revision`.
    StaleRevision,
    /// No such institution, or nobody reads for it.
    UnknownInstitution,
    /// The complaint is full.
    TooManyEvents,
    /// The reference names another complaint.
    ReferenceTaken,
    /// No row in the mapping table.
    UnmappedStatus,
    /// One that this version does not know, by its number in the contract: a
    /// newer hub's.
    Unknown(i32),
}

/// Why a submission was refused, for machines and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// For machines.
    pub reason: RejectionReason,
    /// Fields concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// For people, in Indonesian.
    pub text_id: String,
    /// For people, in English.
    pub text_en: String,
    /// Stale: the present revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<u32>,
    /// Conflict: digests of the event stored and of the event refused.
    #[serde(skip)]
    pub digests: Option<(Digest, Digest)>,
}

/// What the hub decided about one submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happened.
    pub outcome: Outcome,
    /// The submission's event; `None` if it can't be read.
    pub event_id: Option<EventId>,
    /// Its complaint; `None` if it can't be read.
    pub complaint_id: Option<ComplaintId>,
    /// Accepted, duplicate: revision that the event took; else 0.
    pub revision: u32,
    /// Accepted, duplicate: status after it.
    pub status: Option<Status>,
    /// Accepted, duplicate: owner after it; `None`: triage.
    pub handler: Option<InstitutionCode>,
    /// Accepted, duplicate: the national identifier.
    pub tracking_id: Option<TrackingId>,
    /// Duplicate: position of the original.
    pub duplicate_of: u64,
    /// Rejected, parked: why.
    pub rejection: Option<Rejection>,
    /// Closed without an answer.
    pub answer_missing: bool,
}

/// Decisions on consecutive submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionSet {
    /// Epoch of the submissions journal.
    pub epoch: u64,
    /// Position of the first.
    pub first_position: u64,
    /// One per position.
    pub decisions: Vec<Decision>,
}

/// What the hub says about an event that it delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHeader {
    /// The event.
    pub event_id: EventId,
    /// Its complaint.
    pub complaint_id: ComplaintId,
    /// Revision that it took.
    pub revision: u32,
    /// Status after it.
    pub status: Status,
    /// Owner after it; `None`: national triage.
    pub handler: Option<InstitutionCode>,
    /// The national identifier.
    pub tracking_id: TrackingId,
    /// The event's author.
    pub party: PartyId,
    /// When the hub accepted it.
    pub accepted_at: Micros,
    /// Why the receiver gets it.
    pub role: Role,
    /// Kinds of parts that the receiver may read.
    pub readable_parts: Vec<PartKind>,
    /// Forwardings so far.
    pub hops: u32,
    /// Closed without an answer.
    pub answer_missing: bool,
}

/// Header of a delivery, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryRecord {
    /// It carries an event.
    Event(EventHeader),
    /// It carries decisions.
    Decisions(DecisionSet),
}

/// Bytes that can't be read as an event, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Why, for people.
    pub why: String,
    /// Fields concerned.
    pub fields: Vec<String>,
}
