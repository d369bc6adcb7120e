//! Events and their bytes.

use bytes::Bytes;
use prost::Message as _;

use crate::domain::{
    ComplaintId, EVENT_BYTES, Event, EventBody, EventId, FieldError, IdempotencyKey,
    InstitutionCode, PART_BYTES, PARTS_PER_EVENT, PartReference, PartyId, Reference, SystemName,
    Unreadable,
};

use super::{
    body::{body_from_event, body_to_event, local_status_from, local_status_to},
    scalar::{
        Parsed, audience_from, audience_to, copied, digest, id16, optional_id, part_kind_from,
        part_kind_to, required_micros, text_id, timestamp, unknown_value,
    },
    v1,
};

/// The message of an event.
pub fn event_to_proto(event: &Event) -> v1::Event {
    v1::Event {
        party: event.party.as_str().to_owned(),
        system: event.system.as_str().to_owned(),
        key: event.key.as_str().to_owned(),
        reference: event
            .reference
            .as_ref()
            .map_or("", |found| found.as_str())
            .to_owned(),
        event_id: copied(event.event_id.as_bytes()),
        complaint_id: copied(event.complaint_id.as_bytes()),
        occurred_at: Some(timestamp(event.occurred_at)),
        recorded_at: Some(timestamp(event.recorded_at)),
        time_zone: event.time_zone.clone(),
        expected_revision: event.expected_revision,
        acting_institution: event
            .acting_institution
            .as_ref()
            .map_or("", |code| code.as_str())
            .to_owned(),
        audience: audience_to(event.audience),
        parts: event.parts.iter().map(reference_to).collect(),
        local_status: local_status_to(event.local_status.as_ref()),
        body: body_to_event(&event.body),
    }
}

/// The bytes of an event, as its author writes them.
pub fn encode_event(event: &Event) -> Bytes {
    Bytes::from(event_to_proto(event).encode_to_vec())
}

/// What the bytes of an event mean.
///
/// # Errors
/// They are no event, larger than [`EVENT_BYTES`], or a field does not keep
/// its limits; a kind that is not known here is no error.
pub fn decode_event(bytes: &Bytes) -> Result<Event, Unreadable> {
    if bytes.len() > EVENT_BYTES {
        return Err(Unreadable {
            why: format!(
                "the event has {} bytes; at most {EVENT_BYTES} are allowed",
                bytes.len()
            ),
            fields: Vec::new(),
        });
    }
    let message = v1::Event::decode(bytes.clone()).map_err(|error| Unreadable {
        why: format!("not a jembatan.v1.Event: {error}"),
        fields: Vec::new(),
    })?;
    event_from_proto(message).map_err(unreadable)
}

pub(super) fn unreadable(error: FieldError) -> Unreadable {
    Unreadable {
        why: error.to_string(),
        fields: vec![error.field],
    }
}

pub(super) fn event_from_proto(message: v1::Event) -> Parsed<Event> {
    let v1::Event {
        party,
        system,
        key,
        reference,
        event_id,
        complaint_id,
        occurred_at,
        recorded_at,
        time_zone,
        expected_revision,
        acting_institution,
        audience,
        parts,
        local_status,
        body,
    } = message;
    if parts.len() > PARTS_PER_EVENT {
        return Err(FieldError::new(
            "parts",
            format!("has {}; at most {PARTS_PER_EVENT} are allowed", parts.len()),
        ));
    }
    Ok(Event {
        party: text_id("party", &party, PartyId::parse)?,
        system: text_id("system", &system, SystemName::parse)?,
        key: text_id("key", &key, IdempotencyKey::parse)?,
        reference: optional_id("reference", &reference, Reference::parse)?,
        event_id: EventId::from_bytes(id16("event_id", &event_id)?),
        complaint_id: ComplaintId::from_bytes(id16("complaint_id", &complaint_id)?),
        occurred_at: required_micros("occurred_at", occurred_at)?,
        recorded_at: required_micros("recorded_at", recorded_at)?,
        time_zone,
        expected_revision,
        acting_institution: optional_id(
            "acting_institution",
            &acting_institution,
            InstitutionCode::parse,
        )?,
        audience: audience_from(audience).ok_or_else(|| unknown_value("audience", audience))?,
        parts: parts
            .into_iter()
            .map(reference_from)
            .collect::<Result<_, _>>()?,
        local_status: local_status_from(local_status),
        // A kind that this version does not know decodes as no body at all.
        body: body.map_or(Ok(EventBody::Unknown), body_from_event)?,
    })
}

fn reference_to(part: &PartReference) -> v1::PartReference {
    v1::PartReference {
        kind: part_kind_to(part.kind),
        sha256: copied(part.sha256.as_bytes()),
        size_bytes: part.size_bytes,
    }
}

fn reference_from(part: v1::PartReference) -> Parsed<PartReference> {
    let v1::PartReference {
        kind,
        sha256,
        size_bytes,
    } = part;
    if size_bytes as usize > PART_BYTES {
        return Err(FieldError::new(
            "parts.size_bytes",
            format!("is {size_bytes}; at most {PART_BYTES} are allowed"),
        ));
    }
    Ok(PartReference {
        kind: part_kind_from(kind).ok_or_else(|| unknown_value("parts.kind", kind))?,
        sha256: digest("parts.sha256", &sha256)?,
        size_bytes,
    })
}
