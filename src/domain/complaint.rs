//! A complaint as an aggregate of events: what is known of it after them.

use serde::{Deserialize, Serialize};

use super::{
    CategoryCode, ComplaintId, InstitutionCode, PartyId, Reference, RegionCode, Status, SystemName,
    TrackingId,
};

/// What part a party takes in a complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It brought the complaint.
    Origin,
    /// It reads for the institution that owns the complaint.
    Handler,
    /// The national desk, while the complaint stands in triage.
    Triage,
    /// It has a copy (tembusan).
    Copy,
    /// It observes, by registration.
    Observer,
    /// It has just been relieved: its last event.
    FormerHandler,
}

/// A party that has been told about the complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Who.
    pub party: PartyId,
    /// Told through this revision. An author knows its own events.
    pub told_through: u32,
    /// Takes part now; a relieved handler is kept so that it is not told the
    /// same revisions again when it comes back.
    pub active: bool,
}

/// What is known of a complaint at the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Its id.
    pub id: ComplaintId,
    /// Its national identifier.
    pub tracking_id: TrackingId,
    /// The origin's party.
    pub origin: PartyId,
    /// The origin's local system.
    pub system: SystemName,
    /// The origin's reference.
    pub reference: Reference,
    /// Kind of report.
    pub kind: String,
    /// Category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<CategoryCode>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionCode>,
    /// Berkadar pengawasan, once classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oversight: Option<bool>,
    /// Anonim.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// Rahasia.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confidential: bool,
    /// Where it stands.
    pub status: Status,
    /// The institution that owns it; `None`: national triage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<InstitutionCode>,
    /// Unit in charge at the handler (OPD).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Number of events accepted so far.
    pub revision: u32,
    /// Forwardings between institutions so far.
    pub hops: u32,
    /// Found to be a report that can be worked on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// An answer was given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered: bool,
    /// Closed without one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer_missing: bool,
    /// Institutions with a copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<InstitutionCode>,
    /// Who has been told, and how far.
    pub participants: Vec<Participant>,
    /// Author of the latest run of events by one party.
    pub run_author: PartyId,
    /// First revision of that run.
    pub run_start: u32,
    /// Parties whose mirrored status has had its baseline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrored: Vec<PartyId>,
    /// The national desk has acted on it while it did not stand in triage; it
    /// takes part from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overruled: bool,
    /// The complaint into which it was merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<ComplaintId>,
}
