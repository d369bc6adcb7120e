//! Small values: times, ids, digests, enumerations. Errors name the field.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

use crate::domain::{
    ArchiveReason, Audience, Digest, FieldError, Handling, Micros, Outcome, PartKind, PartyMode,
    Progress, RejectionReason, Role, Status,
};

use super::{Timestamp, v1};

pub(super) type Parsed<T> = Result<T, FieldError>;

/// A time on the wire.
pub fn timestamp(micros: Micros) -> Timestamp {
    Timestamp {
        seconds: micros.0.div_euclid(1_000_000),
        nanos: (micros.0.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

/// A time from the wire; finer than a microsecond is cut off.
///
/// # Errors
/// Out of the range of `google.protobuf.Timestamp`.
pub fn micros(field: &str, timestamp: &Timestamp) -> Parsed<Micros> {
    // 0001-01-01 to 9999-12-31, as google.protobuf.Timestamp says.
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&timestamp.seconds)
        && (0..1_000_000_000).contains(&timestamp.nanos);
    if !in_range {
        return Err(FieldError::new(field, "is not a valid time"));
    }
    Ok(Micros(
        timestamp.seconds * 1_000_000 + i64::from(timestamp.nanos / 1_000),
    ))
}

pub(super) fn optional_micros(field: &str, time: Option<Timestamp>) -> Parsed<Option<Micros>> {
    time.map(|time| micros(field, &time)).transpose()
}

pub(super) fn required_micros(field: &str, time: Option<Timestamp>) -> Parsed<Micros> {
    let time = time.ok_or_else(|| FieldError::new(field, "is missing"))?;
    micros(field, &time)
}

pub(super) fn id16(field: &str, bytes: &[u8]) -> Parsed<[u8; 16]> {
    bytes
        .try_into()
        .map_err(|_| FieldError::new(field, format!("has {} bytes; 16 are needed", bytes.len())))
}

pub(super) fn digest(field: &str, bytes: &[u8]) -> Parsed<Digest> {
    Digest::from_slice(bytes)
        .ok_or_else(|| FieldError::new(field, format!("has {} bytes; 32 are needed", bytes.len())))
}

pub(super) fn optional_digest(field: &str, bytes: &[u8]) -> Parsed<Option<Digest>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    digest(field, bytes).map(Some)
}

/// Ids and digests of messages that are about to be sent: many share one piece of
/// memory, which goes with the last of them.
const PIECE: usize = 4_096;

/// A copy for a message that does not live long.
pub(super) fn copied(bytes: &[u8]) -> Bytes {
    thread_local! {
        static REST: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    }
    REST.with_borrow_mut(|rest| {
        if rest.capacity() < bytes.len() {
            *rest = BytesMut::with_capacity(PIECE.max(bytes.len()));
        }
        rest.extend_from_slice(bytes);
        rest.split().freeze()
    })
}

/// Names the field in which a text id stands.
pub(super) fn text_id<T>(
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, FieldError>,
) -> Parsed<T> {
    parse(text).map_err(|error| FieldError::new(field, error.problem))
}

pub(super) fn optional_id<T>(
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, FieldError>,
) -> Parsed<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text_id(field, text, parse).map(Some)
}

macro_rules! enumeration {
    ($to:ident, $from:ident, $domain:ident, $wire:ident, $($variant:ident),+) => {
        pub(super) fn $to(value: $domain) -> i32 {
            let value = match value {
                $($domain::$variant => v1::$wire::$variant),+
            };
            value as i32
        }

        /// `None`: not set, or a value that this version does not know.
        pub(super) fn $from(number: i32) -> Option<$domain> {
            match v1::$wire::try_from(number) {
                $(Ok(v1::$wire::$variant) => Some($domain::$variant),)+
                Ok(v1::$wire::Unspecified) | Err(_) => None,
            }
        }
    };
}

enumeration!(
    status_to,
    status_from,
    Status,
    Status,
    Received,
    Verified,
    Forwarded,
    InProgress,
    AwaitingReporter,
    Responded,
    Postponed,
    Closed,
    Archived,
    Merged,
    Escalated
);
enumeration!(
    audience_to,
    audience_from,
    Audience,
    Audience,
    Public,
    Institutions
);
enumeration!(
    archive_reason_to,
    archive_reason_from,
    ArchiveReason,
    ArchiveReason,
    Duplicate,
    Unclear,
    Irrelevant,
    Spam,
    OutOfScope,
    Incomplete,
    Withdrawn,
    Other
);
enumeration!(
    handling_to,
    handling_from,
    Handling,
    Handling,
    Own,
    Addressed,
    Route
);
enumeration!(
    part_kind_to,
    part_kind_from,
    PartKind,
    PartKind,
    Content,
    Reporter
);
enumeration!(
    outcome_to,
    outcome_from,
    Outcome,
    Outcome,
    Accepted,
    Duplicate,
    Rejected,
    Parked
);

/// A reason as a number of the contract; one that is not known here keeps its
/// own.
pub(super) fn reason_to(reason: RejectionReason) -> i32 {
    let reason = match reason {
        RejectionReason::Unreadable => v1::RejectionReason::Unreadable,
        RejectionReason::InvalidEvent => v1::RejectionReason::InvalidEvent,
        RejectionReason::ForgedId => v1::RejectionReason::ForgedId,
        RejectionReason::Conflict => v1::RejectionReason::Conflict,
        RejectionReason::UnknownComplaint => v1::RejectionReason::UnknownComplaint,
        RejectionReason::NotPermitted => v1::RejectionReason::NotPermitted,
        RejectionReason::IllegalMove => v1::RejectionReason::IllegalMove,
        RejectionReason::StaleRevision => v1::RejectionReason::StaleRevision,
        RejectionReason::UnknownInstitution => v1::RejectionReason::UnknownInstitution,
        RejectionReason::TooManyEvents => v1::RejectionReason::TooManyEvents,
        RejectionReason::ReferenceTaken => v1::RejectionReason::ReferenceTaken,
        RejectionReason::UnmappedStatus => v1::RejectionReason::UnmappedStatus,
        RejectionReason::Unknown(number) => return number,
    };
    reason as i32
}

/// The other way. A newer hub may have more reasons: what it says about the
/// other submissions of a set must stay readable.
pub(super) fn reason_from(number: i32) -> RejectionReason {
    let known = RejectionReason::ALL.into_iter();
    let mut same = known.filter(|reason| reason_to(*reason) == number);
    same.next().unwrap_or(RejectionReason::Unknown(number))
}
enumeration!(
    role_to,
    role_from,
    Role,
    Role,
    Origin,
    Handler,
    Triage,
    Copy,
    Observer,
    FormerHandler
);
/// How far something has come, as a number of the contract.
pub(super) fn progress_number(progress: Progress) -> i32 {
    let progress = match progress {
        Progress::Stored => v1::Progress::Stored,
        Progress::AtHub => v1::Progress::AtHub,
        Progress::Accepted => v1::Progress::Accepted,
        Progress::Duplicate => v1::Progress::Duplicate,
        Progress::Rejected => v1::Progress::Rejected,
        Progress::Undeliverable => v1::Progress::Undeliverable,
        Progress::Parked => v1::Progress::Parked,
    };
    progress as i32
}
enumeration!(
    party_mode_to,
    party_mode_from,
    PartyMode,
    PartyMode,
    Stream,
    Unary,
    Local
);

/// An enumeration whose 0 means the default. A number that is not known here is
/// none: a newer caller meant something by it, and nobody guesses what.
pub(super) fn optional_value<T>(
    field: &str,
    number: i32,
    from: impl FnOnce(i32) -> Option<T>,
) -> Parsed<Option<T>> {
    match (number, from(number)) {
        (0, _) => Ok(None),
        (_, None) => Err(unknown_value(field, number)),
        (_, known) => Ok(known),
    }
}

pub(super) fn unknown_value(field: &str, number: i32) -> FieldError {
    FieldError::new(
        field,
        format!("has the value {number}, which is not set or not known here"),
    )
}

/// A status, as a number of the contract.
pub fn status_to_proto(status: Status) -> i32 {
    status_to(status)
}
