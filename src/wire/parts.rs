//! Parts: 16 random salt bytes and an encoded message, named by SHA-256.

use bytes::Bytes;
use prost::Message;

use crate::domain::{
    Content, Digest, EventId, FieldError, PART_BYTES, Part, PartKind, PartReference, PartState,
    Reporter,
};

use super::{
    scalar::{Parsed, copied, digest, id16, part_kind_from, part_kind_to, unknown_value},
    v1,
};

/// Bytes of salt before the message.
pub(super) const SALT_BYTES: usize = 16;

/// A content part of these texts.
pub fn content_part(content: Content, salt: [u8; 16]) -> Part {
    part(PartKind::Content, &content_to_proto(content), salt)
}

/// A reporter part.
pub fn reporter_part(reporter: Reporter, salt: [u8; 16]) -> Part {
    part(PartKind::Reporter, &reporter_to_proto(reporter), salt)
}

fn part(kind: PartKind, message: &impl Message, salt: [u8; 16]) -> Part {
    let mut bytes = Vec::with_capacity(SALT_BYTES + message.encoded_len());
    bytes.extend_from_slice(&salt);
    // A vector grows: encoding into it can't fail.
    let _ = message.encode(&mut bytes);
    Part {
        kind,
        sha256: Digest::of(&bytes),
        state: PartState::Present(Bytes::from(bytes)),
    }
}

/// How an event names a part that is present.
pub fn part_reference(part: &Part) -> PartReference {
    let size_bytes = match &part.state {
        PartState::Present(bytes) => bytes.len() as u32,
        PartState::Withheld | PartState::Erased(_) => 0,
    };
    PartReference {
        kind: part.kind,
        sha256: part.sha256,
        size_bytes,
    }
}

/// The texts in a content part; `None`: not readable.
pub fn decode_content(bytes: &Bytes) -> Option<Content> {
    message_of::<v1::Content>(bytes).map(content_from_proto)
}

/// The reporter in a reporter part; `None`: not readable.
pub fn decode_reporter(bytes: &Bytes) -> Option<Reporter> {
    message_of::<v1::Reporter>(bytes).map(reporter_from_proto)
}

fn message_of<M: Message + Default>(bytes: &Bytes) -> Option<M> {
    if bytes.len() < SALT_BYTES || bytes.len() > PART_BYTES {
        return None;
    }
    M::decode(bytes.slice(SALT_BYTES..)).ok()
}

pub(super) fn content_to_proto(content: Content) -> v1::Content {
    let Content {
        title,
        body,
        address,
        latitude,
        longitude,
        text,
        attachment_names,
    } = content;
    v1::Content {
        title,
        body,
        address,
        latitude,
        longitude,
        text,
        attachment_names,
    }
}

pub(super) fn content_from_proto(content: v1::Content) -> Content {
    let v1::Content {
        title,
        body,
        address,
        latitude,
        longitude,
        text,
        attachment_names,
    } = content;
    Content {
        title,
        body,
        address,
        latitude,
        longitude,
        text,
        attachment_names,
    }
}

pub(super) fn reporter_to_proto(reporter: Reporter) -> v1::Reporter {
    let Reporter {
        name,
        nik,
        phone,
        email,
        address,
    } = reporter;
    v1::Reporter {
        name,
        nik,
        phone,
        email,
        address,
    }
}

pub(super) fn reporter_from_proto(reporter: v1::Reporter) -> Reporter {
    let v1::Reporter {
        name,
        nik,
        phone,
        email,
        address,
    } = reporter;
    Reporter {
        name,
        nik,
        phone,
        email,
        address,
    }
}

pub(super) fn part_to_proto(part: Part) -> v1::Part {
    let state = match part.state {
        PartState::Present(bytes) => v1::part::State::Content(bytes),
        PartState::Withheld => v1::part::State::Withheld(v1::Withheld {}),
        PartState::Erased(by) => v1::part::State::Erased(v1::Erased {
            event_id: copied(by.as_bytes()),
        }),
    };
    v1::Part {
        kind: part_kind_to(part.kind),
        sha256: copied(part.sha256.as_bytes()),
        state: Some(state),
    }
}

/// A part that travels; one that is sealed, or in a state that is not known
/// here, is as good as withheld.
///
/// # Errors
/// Larger than [`PART_BYTES`], of a kind that is not known here, or without a
/// digest.
pub(super) fn part_from_proto(part: v1::Part) -> Parsed<Part> {
    let v1::Part {
        kind,
        sha256,
        state,
    } = part;
    let state = match state {
        Some(v1::part::State::Content(bytes)) if bytes.len() > PART_BYTES => {
            return Err(FieldError::new(
                "parts.content",
                format!(
                    "has {} bytes; at most {PART_BYTES} are allowed",
                    bytes.len()
                ),
            ));
        }
        Some(v1::part::State::Content(bytes)) => PartState::Present(bytes),
        Some(v1::part::State::Erased(v1::Erased { event_id })) => {
            PartState::Erased(EventId::from_bytes(id16("parts.erased", &event_id)?))
        }
        Some(v1::part::State::Withheld(_) | v1::part::State::Sealed(_)) | None => {
            PartState::Withheld
        }
    };
    Ok(Part {
        kind: part_kind_from(kind).ok_or_else(|| unknown_value("parts.kind", kind))?,
        sha256: digest("parts.sha256", &sha256)?,
        state,
    })
}
