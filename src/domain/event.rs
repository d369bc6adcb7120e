//! Events: what happened to a complaint. Codes, ids, times and digests only;
//! texts and personal data stand in parts.

use serde::{Deserialize, Serialize};

use super::{
    CategoryCode, ComplaintId, Digest, EventId, IdempotencyKey, InstitutionCode, Micros, PartKind,
    PartReference, PartyId, Reference, RegionCode, Status, SystemName,
};

/// Who may read a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The reporter and, unless confidential, the public.
    #[default]
    Public,
    /// Institutions only (catatan disposisi).
    Institutions,
}

/// Why a complaint was archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveReason {
    /// The same matter is already here.
    Duplicate,
    /// Unclear or too general.
    Unclear,
    /// Not about a public service.
    Irrelevant,
    /// Spam.
    Spam,
    /// Outside what the system is for.
    OutOfScope,
    /// Not completed in time.
    Incomplete,
    /// Withdrawn by the reporter.
    Withdrawn,
    /// Anything else.
    Other,
}

/// Who handles a complaint from its first moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// The origin's own institution.
    Own,
    /// The institution addressed.
    Addressed,
    /// The routing rules decide, else national triage.
    #[default]
    Route,
}

/// A local system's own status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStatus {
    /// The local code.
    pub code: String,
    /// The local name.
    pub name: String,
    /// What the mapping table made of it.
    pub mapped: Option<Status>,
}

/// An attachment, by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Length of the file.
    pub size_bytes: u64,
    /// Media type.
    pub media_type: String,
}

/// How another system names the same complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignReference {
    /// The other system.
    pub system: String,
    /// Its reference.
    pub reference: String,
}

/// One thing that happened to one complaint.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Author.
    pub party: PartyId,
    /// The author's local system.
    pub system: SystemName,
    /// Idempotency key.
    pub key: IdempotencyKey,
    /// Filed: the complaint's reference. Else: the author's own, to be attached.
    pub reference: Option<Reference>,
    /// Derived from party, system and key.
    pub event_id: EventId,
    /// Derived from the origin's party, system and reference.
    pub complaint_id: ComplaintId,
    /// When it happened, by the author's word.
    pub occurred_at: Micros,
    /// When the author's node stored it.
    pub recorded_at: Micros,
    /// IANA zone in which the author counts days.
    pub time_zone: String,
    /// Holds only if every later revision is by the same party.
    pub expected_revision: Option<u32>,
    /// The institution on whose behalf the party acts; `None`: its own.
    pub acting_institution: Option<InstitutionCode>,
    /// Who may read its texts.
    pub audience: Audience,
    /// Its parts.
    pub parts: Vec<PartReference>,
    /// Raw local status.
    pub local_status: Option<LocalStatus>,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody {
    /// Filed.
    Filed {
        /// Kind of report: `complaint`, `aspiration`, `information_request` ...
        kind: String,
        /// Category code.
        category: Option<CategoryCode>,
        /// Region code.
        region: Option<RegionCode>,
        /// Day of the matter, ISO 8601.
        occurred_on: String,
        /// When the citizen filed it.
        filed_at: Micros,
        /// Channel.
        channel: String,
        /// Anonim.
        anonymous: bool,
        /// Rahasia.
        confidential: bool,
        /// Who handles it.
        handling: Handling,
        /// Institution addressed.
        addressed_to: Option<InstitutionCode>,
        /// Attachments.
        attachments: Vec<Attachment>,
        /// The same complaint elsewhere.
        foreign_references: Vec<ForeignReference>,
    },
    /// Verified (verifikasi).
    Verified,
    /// Classified.
    Classified {
        /// Kind of report.
        kind: Option<String>,
        /// Category code.
        category: Option<CategoryCode>,
        /// Region code.
        region: Option<RegionCode>,
        /// Berkadar pengawasan.
        oversight: Option<bool>,
    },
    /// Forwarded (disposisi).
    Forwarded {
        /// The new owner; `None`: within the present one, to a unit.
        institution: Option<InstitutionCode>,
        /// Unit in charge (OPD).
        unit: String,
    },
    /// Copied (tembusan).
    Copied {
        /// Who gets a copy.
        institutions: Vec<InstitutionCode>,
    },
    /// Declined (bukan wewenang).
    Declined {
        /// Whom the handler thinks competent.
        suggested_institution: Option<InstitutionCode>,
    },
    /// Handling started.
    HandlingStarted {
        /// Unit in charge (OPD).
        unit: String,
    },
    /// Progress reported (tindak lanjut).
    ProgressReported {
        /// Attachments.
        attachments: Vec<Attachment>,
    },
    /// The reporter was asked for something.
    InformationRequested,
    /// The reporter wrote.
    ReporterReplied {
        /// Attachments.
        attachments: Vec<Attachment>,
    },
    /// Answered (tanggapan).
    Responded {
        /// Attachments.
        attachments: Vec<Attachment>,
    },
    /// Put off.
    Postponed {
        /// Until when.
        until: Option<Micros>,
    },
    /// Settled.
    Closed,
    /// Opened again.
    Reopened,
    /// Put away.
    Archived {
        /// Why.
        reason: ArchiveReason,
    },
    /// Withdrawn by the reporter.
    Withdrawn,
    /// Joined into another complaint.
    Merged {
        /// The one that goes on.
        into: ComplaintId,
    },
    /// Rated by the reporter.
    Rated {
        /// 1 to 5.
        stars: u8,
    },
    /// Passed to the Ombudsman.
    Escalated {
        /// The reporter has consented.
        consent: bool,
    },
    /// Anonymity or confidentiality changed.
    VisibilityChanged {
        /// Anonim.
        anonymous: Option<bool>,
        /// Rahasia.
        confidential: Option<bool>,
    },
    /// An attachment was added.
    AttachmentAdded {
        /// The attachment.
        attachment: Attachment,
    },
    /// A part was erased.
    PartErased {
        /// Whose part.
        event_id: EventId,
        /// Which part.
        sha256: Digest,
    },
    /// A local status column changed; see [`Event::local_status`].
    StatusMirrored {
        /// The mapping says: bukan wewenang.
        declined: bool,
        /// The mapping says: means nothing here.
        ignored: bool,
    },
    /// A kind that this version does not know: kept, numbered, passed on.
    Unknown,
}

impl EventBody {
    /// The word for machines, for example `handling_started`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Filed { .. } => "filed",
            Self::Verified => "verified",
            Self::Classified { .. } => "classified",
            Self::Forwarded { .. } => "forwarded",
            Self::Copied { .. } => "copied",
            Self::Declined { .. } => "declined",
            Self::HandlingStarted { .. } => "handling_started",
            Self::ProgressReported { .. } => "progress_reported",
            Self::InformationRequested => "information_requested",
            Self::ReporterReplied { .. } => "reporter_replied",
            Self::Responded { .. } => "responded",
            Self::Postponed { .. } => "postponed",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
            Self::Archived { .. } => "archived",
            Self::Withdrawn => "withdrawn",
            Self::Merged { .. } => "merged",
            Self::Rated { .. } => "rated",
            Self::Escalated { .. } => "escalated",
            Self::VisibilityChanged { .. } => "visibility_changed",
            Self::AttachmentAdded { .. } => "attachment_added",
            Self::PartErased { .. } => "part_erased",
            Self::StatusMirrored { .. } => "status_mirrored",
            Self::Unknown => "unknown",
        }
    }
}

impl Event {
    /// The local status that it mirrors, if no mapping table has a row for that: work
    /// for a person.
    pub fn unmapped_status(&self) -> Option<&LocalStatus> {
        let is_mirrored = matches!(
            self.body,
            EventBody::StatusMirrored {
                declined: false,
                ignored: false
            }
        );
        let status = self.local_status.as_ref().filter(|_| is_mirrored);
        status.filter(|status| status.mapped.is_none())
    }

    /// Whether it names a part of this kind.
    pub fn has_part(&self, kind: PartKind) -> bool {
        self.parts.iter().any(|part| part.kind == kind)
    }
}

impl ArchiveReason {
    /// Every reason, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Duplicate,
        Self::Unclear,
        Self::Irrelevant,
        Self::Spam,
        Self::OutOfScope,
        Self::Incomplete,
        Self::Withdrawn,
        Self::Other,
    ];

    /// The word for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Unclear => "unclear",
            Self::Irrelevant => "irrelevant",
            Self::Spam => "spam",
            Self::OutOfScope => "out_of_scope",
            Self::Incomplete => "incomplete",
            Self::Withdrawn => "withdrawn",
            Self::Other => "other",
        }
    }

    /// The reason that a word for machines means.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}
