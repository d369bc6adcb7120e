//! The world of complaints: values and pure functions.
//!
//! Given a complaint and an event, [`decide()`] says what happens; everything
//! else here is what it needs for that. Invariants: no I/O, no clock, no
//! randomness, no knowledge of protobuf, SQL or the network; time goes in as
//! [`Micros`].

mod complaint;
mod decide;
mod decision;
mod directory;
mod event;
mod handover;
mod handover_digest;
mod ids;
mod invitation;
mod parts;
mod policy;
mod rejection;
mod status;
mod status_map;
mod validate;

pub use complaint::{Complaint, Participant, Role};
pub use decide::{Context, Telling, Verdict, catch_up, check_identity, decide, readable_parts};
pub use decision::{
    Decision, DecisionSet, DeliveryRecord, EventHeader, Outcome, Progress, Rejection,
    RejectionReason, Unreadable,
};
pub use directory::{Category, Directory, Institution, Party, PartyMode, RoutingRule};
pub use event::{
    ArchiveReason, Attachment, Audience, Event, EventBody, ForeignReference, Handling, LocalStatus,
};
pub use handover::{ComplaintName, Handover, Item, NamedAttachment, NewComplaint, NewEvent};
pub use ids::{
    CategoryCode, ComplaintId, Digest, EventId, FieldError, IdempotencyKey, InstitutionCode,
    Micros, PartyId, Reference, RegionCode, SystemName, TrackingId,
};
pub use invitation::{InvitationCode, InvitationLine, LineError};
pub use parts::{Content, Part, PartKind, PartReference, PartState, Reporter};
pub use policy::{
    EVENT_BYTES, HUB_MESSAGE_BYTES, LINK_MESSAGE_BYTES, Limits, MinimumVersion, PART_BYTES,
    PARTS_PER_EVENT, Policy,
};
pub use status::Status;
pub use status_map::{Mapped, StatusMap, StatusMaps};
pub use validate::is_day;
