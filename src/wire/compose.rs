//! Makes an event and its parts of what a local system handed over: free text
//! and personal data go into parts, codes and ids into the event.

use bytes::Bytes;

use crate::domain::{
    ComplaintId, Content, Event, EventBody, EventId, FieldError, Handover, IdempotencyKey, Item,
    Micros, NamedAttachment, NewComplaint, NewEvent, Part, PartyId, SystemName,
};

use super::{
    encode_event,
    parts::{SALT_BYTES, content_part, part_reference, reporter_part},
};

/// Kind of report that is meant when none is named.
const DEFAULT_KIND: &str = "complaint";

/// What composing needs to know beside the hand-over.
#[derive(Debug, Clone, Copy)]
pub struct Composing<'a> {
    /// The party of the node.
    pub party: &'a PartyId,
    /// The node's clock.
    pub now: Micros,
    /// IANA zone in which the party counts days.
    pub time_zone: &'a str,
    /// The complaint that an event is about, as the store has found it.
    pub complaint_id: Option<ComplaintId>,
}

/// An event, its bytes, and its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// What the bytes mean.
    pub event: Event,
    /// As they are stored and sent, by every node, for ever.
    pub event_bytes: Bytes,
    /// The parts that the event names, all present.
    pub parts: Vec<Part>,
}

/// Composes an event. `salt` gives fresh random bytes at each call.
///
/// # Errors
/// An event without key, or without a complaint.
pub fn compose(
    handover: Handover,
    composing: Composing<'_>,
    mut salt: impl FnMut() -> [u8; SALT_BYTES],
) -> Result<Composed, FieldError> {
    let key = handover
        .effective_key()
        .ok_or_else(|| FieldError::new("key", "is missing"))?;
    let Handover { system, item, .. } = handover;
    let (mut event, parts) = match item {
        Item::Complaint(new) => filing(system, *new, key, composing, &mut salt),
        Item::Event(new) => happening(system, *new, key, composing, &mut salt)?,
    };
    event.parts = parts.iter().map(part_reference).collect();
    Ok(Composed {
        event_bytes: encode_event(&event),
        event,
        parts,
    })
}

fn filing(
    system: SystemName,
    new: NewComplaint,
    key: IdempotencyKey,
    composing: Composing<'_>,
    salt: &mut impl FnMut() -> [u8; SALT_BYTES],
) -> (Event, Vec<Part>) {
    let filed_at = new.filed_at.unwrap_or(composing.now);
    let (attachments, attachment_names) = new
        .attachments
        .into_iter()
        .map(|NamedAttachment { attachment, name }| (attachment, name))
        .unzip();
    let content = Content {
        title: new.title,
        body: new.body,
        address: new.address,
        latitude: new.latitude,
        longitude: new.longitude,
        text: String::new(),
        attachment_names,
    };
    let mut parts = Vec::with_capacity(2);
    parts.push(content_part(content, salt()));
    if !new.reporter.is_empty() {
        parts.push(reporter_part(new.reporter, salt()));
    }
    let kind = if new.kind.is_empty() {
        DEFAULT_KIND.to_owned()
    } else {
        new.kind
    };
    let event = Event {
        event_id: EventId::derive(composing.party, &system, &key),
        complaint_id: ComplaintId::derive(composing.party, &system, &new.reference),
        party: composing.party.clone(),
        system,
        key,
        reference: Some(new.reference),
        occurred_at: filed_at,
        recorded_at: composing.now,
        time_zone: composing.time_zone.to_owned(),
        expected_revision: None,
        acting_institution: None,
        audience: crate::domain::Audience::Public,
        parts: Vec::new(),
        local_status: new.local_status,
        body: EventBody::Filed {
            kind,
            category: new.category,
            region: new.region,
            occurred_on: new.occurred_on,
            filed_at,
            channel: new.channel,
            anonymous: new.anonymous,
            confidential: new.confidential,
            handling: new.handling,
            addressed_to: new.addressed_to,
            attachments,
            foreign_references: new.foreign_references,
        },
    };
    (event, parts)
}

fn happening(
    system: SystemName,
    new: NewEvent,
    key: IdempotencyKey,
    composing: Composing<'_>,
    salt: &mut impl FnMut() -> [u8; SALT_BYTES],
) -> Result<(Event, Vec<Part>), FieldError> {
    let complaint_id = composing
        .complaint_id
        .ok_or_else(|| FieldError::new("event.complaint", "names no complaint that is known"))?;
    let content = Content {
        text: new.text,
        attachment_names: new.attachment_names,
        ..Content::default()
    };
    let parts = if content.is_empty() {
        Vec::new()
    } else {
        vec![content_part(content, salt())]
    };
    let event = Event {
        event_id: EventId::derive(composing.party, &system, &key),
        complaint_id,
        party: composing.party.clone(),
        system,
        key,
        reference: new.own_reference,
        occurred_at: new.occurred_at.unwrap_or(composing.now),
        recorded_at: composing.now,
        time_zone: composing.time_zone.to_owned(),
        expected_revision: new.expected_revision,
        acting_institution: new.acting_institution,
        audience: new.audience,
        parts: Vec::new(),
        local_status: new.local_status,
        body: new.body,
    };
    Ok((event, parts))
}
