//! What a local system hands over at a door, in plain fields: the one shape
//! beneath every door. The node makes an event and its parts of it.

use super::{
    Attachment, Audience, CategoryCode, ComplaintId, EventBody, ForeignReference, Handling,
    IdempotencyKey, InstitutionCode, LocalStatus, Micros, Reference, RegionCode, Reporter,
    SystemName, TrackingId,
};

/// One item, from one local system.
#[derive(Debug, Clone, PartialEq)]
pub struct Handover {
    /// The local system that the door's token names.
    pub system: SystemName,
    /// Idempotency key. Filing: `None` means the reference.
    pub key: Option<IdempotencyKey>,
    /// What it is.
    pub item: Item,
}

/// What is handed over.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A new complaint.
    Complaint(Box<NewComplaint>),
    /// Something that happened to a known one.
    Event(Box<NewEvent>),
}

/// An attachment with its file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAttachment {
    /// By content.
    pub attachment: Attachment,
    /// File name.
    pub name: String,
}

/// A new complaint.
#[derive(Debug, Clone, PartialEq)]
pub struct NewComplaint {
    /// Unique in the local system.
    pub reference: Reference,
    /// Kind of report; empty: `complaint`.
    pub kind: String,
    /// Judul.
    pub title: String,
    /// Isi.
    pub body: String,
    /// Category.
    pub category: Option<CategoryCode>,
    /// Region.
    pub region: Option<RegionCode>,
    /// Address in words.
    pub address: String,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// ISO 8601 day, or empty.
    pub occurred_on: String,
    /// When the citizen filed it; `None`: now.
    pub filed_at: Option<Micros>,
    /// Channel.
    pub channel: String,
    /// Anonim.
    pub anonymous: bool,
    /// Rahasia.
    pub confidential: bool,
    /// Who handles it.
    pub handling: Handling,
    /// Institution addressed.
    pub addressed_to: Option<InstitutionCode>,
    /// The reporter.
    pub reporter: Reporter,
    /// Attachments.
    pub attachments: Vec<NamedAttachment>,
    /// The same complaint elsewhere.
    pub foreign_references: Vec<ForeignReference>,
    /// Local status at filing.
    pub local_status: Option<LocalStatus>,
}

/// How a local system names a complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComplaintName {
    /// By its reference in this local system (its own complaint, or one to
    /// which it attached that reference).
    Reference(Reference),
    /// By the national identifier.
    TrackingId(TrackingId),
    /// By its id.
    Id(ComplaintId),
}

/// Something that happened to a known complaint.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Which.
    pub complaint: ComplaintName,
    /// The local system's own reference, to be attached.
    pub own_reference: Option<Reference>,
    /// When; `None`: now.
    pub occurred_at: Option<Micros>,
    /// Holds only if every later revision is by the same party.
    pub expected_revision: Option<u32>,
    /// On whose behalf.
    pub acting_institution: Option<InstitutionCode>,
    /// Who may read its texts.
    pub audience: Audience,
    /// Answer, note, reason or question.
    pub text: String,
    /// File names of the body's attachments, in order.
    pub attachment_names: Vec<String>,
    /// Raw local status.
    pub local_status: Option<LocalStatus>,
    /// What happened; never `Filed`.
    pub body: EventBody,
}

impl NewComplaint {
    /// With a reference, and everything else empty.
    pub fn new(reference: Reference) -> Self {
        Self {
            reference,
            kind: String::new(),
            title: String::new(),
            body: String::new(),
            category: None,
            region: None,
            address: String::new(),
            latitude: None,
            longitude: None,
            occurred_on: String::new(),
            filed_at: None,
            channel: String::new(),
            anonymous: false,
            confidential: false,
            handling: Handling::default(),
            addressed_to: None,
            reporter: Reporter::default(),
            attachments: Vec::new(),
            foreign_references: Vec::new(),
            local_status: None,
        }
    }
}

impl NewEvent {
    /// With a complaint and a body, and everything else empty.
    pub fn new(complaint: ComplaintName, body: EventBody) -> Self {
        Self {
            complaint,
            own_reference: None,
            occurred_at: None,
            expected_revision: None,
            acting_institution: None,
            audience: Audience::default(),
            text: String::new(),
            attachment_names: Vec::new(),
            local_status: None,
            body,
        }
    }
}
