//! The plain fields of doors: what local systems hand over and get back.

use bytes::Bytes;

use crate::{
    domain::{
        CategoryCode, ComplaintId, ComplaintName, Decision, EventHeader, EventId, FieldError,
        Handling, Handover, IdempotencyKey, InstitutionCode, Item, LocalStatus, NamedAttachment,
        NewComplaint, NewEvent, PartKind, PartState, Progress, Reference, RegionCode, SystemName,
        TrackingId,
    },
    exchange::Entry,
};

use super::{
    body::{
        attachment_from, body_from_door, body_to_event, door_body, foreign_from, foreign_to,
        local_status_from, local_status_to,
    },
    event::event_from_proto,
    header::{decision_to_proto, event_header_to_proto, institution},
    parts::{reporter_from_proto, reporter_to_proto},
    scalar::{
        Parsed, audience_from, audience_to, handling_from, handling_to, optional_id,
        optional_micros, optional_value, part_kind_to, progress_number, status_from, text_id,
        timestamp,
    },
    v1,
};

/// What a local system hands over. `system` is what its token names; without
/// one, what the message names, else the default.
///
/// # Errors
/// Every field that can't be read.
pub fn handover_from_proto(
    handover: v1::Handover,
    system: Option<&SystemName>,
) -> Result<Handover, Vec<FieldError>> {
    let v1::Handover {
        item,
        key,
        system: named,
    } = handover;
    let system = system_of(&named, system).map_err(|error| vec![error])?;
    let key = optional_id("key", &key, IdempotencyKey::parse).map_err(|error| vec![error])?;
    let item = match item {
        Some(v1::handover::Item::Complaint(new)) => {
            complaint_from(new).map(|new| Item::Complaint(Box::new(new)))
        }
        Some(v1::handover::Item::Event(new)) => {
            event_from(new).map(|new| Item::Event(Box::new(new)))
        }
        None => Err(FieldError::new(
            "handover",
            "holds neither a complaint nor an event",
        )),
    };
    let item = item.map_err(|error| vec![error])?;
    Ok(Handover { system, key, item })
}

/// The local system that a caller means.
///
/// # Errors
/// It names another one than its token, or one that is no name.
pub fn system_of(named: &str, by_token: Option<&SystemName>) -> Result<SystemName, FieldError> {
    match (optional_id("system", named, SystemName::parse)?, by_token) {
        (Some(named), Some(token)) if &named != token => Err(FieldError::new(
            "system",
            format!("is {named}, but this token is for {token}"),
        )),
        (_, Some(token)) => Ok(token.clone()),
        (Some(named), None) => Ok(named),
        (None, None) => SystemName::parse(SystemName::DEFAULT),
    }
}

fn complaint_from(new: v1::NewComplaint) -> Parsed<NewComplaint> {
    let v1::NewComplaint {
        reference,
        kind,
        title,
        body,
        category,
        region,
        address,
        latitude,
        longitude,
        occurred_on,
        filed_at,
        channel,
        anonymous,
        confidential,
        handling,
        addressed_to,
        reporter,
        attachments,
        foreign_references,
        local_status,
    } = new;
    let addressed_to = optional_id(
        "complaint.addressed_to",
        &addressed_to,
        InstitutionCode::parse,
    )?;
    let handling = optional_value("complaint.handling", handling, handling_from)?;
    let handling = match (handling, &addressed_to) {
        (Some(handling), _) => handling,
        // Not set: an address is meant to be used.
        (None, Some(_)) => Handling::Addressed,
        (None, None) => Handling::Route,
    };
    Ok(NewComplaint {
        reference: text_id("complaint.reference", &reference, Reference::parse)?,
        kind,
        title,
        body,
        category: optional_id("complaint.category", &category, CategoryCode::parse)?,
        region: optional_id("complaint.region", &region, RegionCode::parse)?,
        address,
        latitude,
        longitude,
        occurred_on,
        filed_at: optional_micros("complaint.filed_at", filed_at)?,
        channel,
        anonymous,
        confidential,
        handling,
        addressed_to,
        reporter: reporter.map(reporter_from_proto).unwrap_or_default(),
        attachments: attachments
            .into_iter()
            .map(named_attachment)
            .collect::<Result<_, _>>()?,
        foreign_references: foreign_from(foreign_references),
        local_status: local_status_said("complaint", local_status)?,
    })
}

/// What a caller says of its status; an event of a newer author keeps what it
/// says, see [`local_status_from`].
fn local_status_said(of: &str, status: Option<v1::LocalStatus>) -> Parsed<Option<LocalStatus>> {
    let mapped = status.as_ref().map_or(0, |status| status.mapped);
    optional_value(&format!("{of}.local_status.mapped"), mapped, status_from)?;
    Ok(local_status_from(status))
}

fn named_attachment(named: v1::NamedAttachment) -> Parsed<NamedAttachment> {
    let v1::NamedAttachment { attachment, name } = named;
    let attachment =
        attachment.ok_or_else(|| FieldError::new("complaint.attachments", "is missing"))?;
    Ok(NamedAttachment {
        attachment: attachment_from("complaint.attachments", attachment)?,
        name,
    })
}

/// How a local system names a complaint.
///
/// # Errors
/// Names nothing, or not in the shape that it says.
pub fn complaint_name_from(name: Option<v1::ComplaintName>) -> Parsed<ComplaintName> {
    use v1::complaint_name::Name;
    let v1::ComplaintName { name } = name.unwrap_or_default();
    match name {
        Some(Name::Reference(text)) => {
            text_id("complaint.reference", &text, Reference::parse).map(ComplaintName::Reference)
        }
        Some(Name::TrackingId(text)) => text_id("complaint.tracking_id", &text, TrackingId::parse)
            .map(ComplaintName::TrackingId),
        Some(Name::ComplaintId(text)) => ComplaintId::from_text(&text)
            .map(ComplaintName::Id)
            .ok_or_else(|| FieldError::new("complaint.complaint_id", "is not a uuid")),
        None => Err(FieldError::new(
            "complaint",
            "is missing: name it by reference, Tracking ID or id",
        )),
    }
}

/// The other way.
pub fn complaint_name_to(name: &ComplaintName) -> v1::ComplaintName {
    use v1::complaint_name::Name;
    v1::ComplaintName {
        name: Some(match name {
            ComplaintName::Reference(reference) => Name::Reference(reference.as_str().to_owned()),
            ComplaintName::TrackingId(id) => Name::TrackingId(id.as_str().to_owned()),
            ComplaintName::Id(id) => Name::ComplaintId(id.to_string()),
        }),
    }
}

fn event_from(new: v1::NewEvent) -> Parsed<NewEvent> {
    let v1::NewEvent {
        complaint,
        own_reference,
        occurred_at,
        expected_revision,
        acting_institution,
        audience,
        text,
        local_status,
        body,
    } = new;
    let body = body.ok_or_else(|| {
        FieldError::new(
            "event",
            "says nothing that happened, or something that this version does not know",
        )
    })?;
    Ok(NewEvent {
        complaint: complaint_name_from(complaint)
            .map_err(|error| FieldError::new(format!("event.{}", error.field), error.problem))?,
        own_reference: optional_id("event.own_reference", &own_reference, Reference::parse)?,
        occurred_at: optional_micros("event.occurred_at", occurred_at)?,
        expected_revision,
        acting_institution: optional_id(
            "event.acting_institution",
            &acting_institution,
            InstitutionCode::parse,
        )?,
        audience: optional_value("event.audience", audience, audience_from)?.unwrap_or_default(),
        text,
        attachment_names: Vec::new(),
        local_status: local_status_said("event", local_status)?,
        body: body_from_door(body)?,
    })
}

/// A hand-over as a client sends it.
pub fn handover_to_proto(handover: &Handover) -> v1::Handover {
    let item = match &handover.item {
        Item::Complaint(new) => v1::handover::Item::Complaint(complaint_to(new)),
        Item::Event(new) => v1::handover::Item::Event(v1::NewEvent {
            complaint: Some(complaint_name_to(&new.complaint)),
            own_reference: new
                .own_reference
                .as_ref()
                .map_or("", |found| found.as_str())
                .to_owned(),
            occurred_at: new.occurred_at.map(timestamp),
            expected_revision: new.expected_revision,
            acting_institution: institution(new.acting_institution.as_ref()),
            audience: audience_to(new.audience),
            text: new.text.clone(),
            local_status: local_status_to(new.local_status.as_ref()),
            body: body_to_event(&new.body).and_then(door_body),
        }),
    };
    v1::Handover {
        item: Some(item),
        key: handover
            .key
            .as_ref()
            .map_or("", |key| key.as_str())
            .to_owned(),
        system: handover.system.as_str().to_owned(),
    }
}

fn complaint_to(new: &NewComplaint) -> v1::NewComplaint {
    v1::NewComplaint {
        reference: new.reference.as_str().to_owned(),
        kind: new.kind.clone(),
        title: new.title.clone(),
        body: new.body.clone(),
        category: new.category.as_ref().map_or("", |c| c.as_str()).to_owned(),
        region: new.region.as_ref().map_or("", |c| c.as_str()).to_owned(),
        address: new.address.clone(),
        latitude: new.latitude,
        longitude: new.longitude,
        occurred_on: new.occurred_on.clone(),
        filed_at: new.filed_at.map(timestamp),
        channel: new.channel.clone(),
        anonymous: new.anonymous,
        confidential: new.confidential,
        handling: handling_to(new.handling),
        addressed_to: institution(new.addressed_to.as_ref()),
        reporter: (!new.reporter.is_empty()).then(|| reporter_to_proto(new.reporter.clone())),
        attachments: new
            .attachments
            .iter()
            .map(|named| v1::NamedAttachment {
                attachment: Some(super::body::attachment_to(&named.attachment)),
                name: named.name.clone(),
            })
            .collect(),
        foreign_references: foreign_to(&new.foreign_references),
        local_status: local_status_to(new.local_status.as_ref()),
    }
}

/// How far something has come.
pub fn progress_to_proto(progress: Progress) -> i32 {
    progress_number(progress)
}

/// A receipt.
pub fn receipt_to_proto(
    event_id: &EventId,
    complaint_id: &ComplaintId,
    progress: Progress,
    repeated_handover: bool,
    decision: Option<&Decision>,
) -> v1::Receipt {
    v1::Receipt {
        event_id: event_id.to_string(),
        complaint_id: complaint_id.to_string(),
        progress: progress_number(progress),
        repeated_handover,
        decision: decision.map(decision_to_proto),
    }
}

/// An event as a local system reads it: with its parts in plain fields.
pub fn inbox_event(header: Option<&EventHeader>, entry: &Entry) -> v1::InboxEvent {
    use prost::Message as _;
    // Empty: its bytes are not at this node.
    let bytes = Some(&entry.event).filter(|bytes| !bytes.is_empty());
    let event = bytes.and_then(|bytes| v1::Event::decode(bytes.clone()).ok());
    let mut withheld_parts = Vec::new();
    let mut erased_parts = Vec::new();
    let mut content = None;
    let mut reporter = None;
    for part in &entry.parts {
        match (&part.state, part.kind) {
            (PartState::Present(bytes), PartKind::Content) => {
                content = salted(bytes).and_then(|bytes| v1::Content::decode(bytes).ok());
            }
            (PartState::Present(bytes), PartKind::Reporter) => {
                reporter = salted(bytes).and_then(|bytes| v1::Reporter::decode(bytes).ok());
            }
            (PartState::Withheld, kind) => withheld_parts.push(part_kind_to(kind)),
            (PartState::Erased(_), kind) => erased_parts.push(part_kind_to(kind)),
        }
    }
    v1::InboxEvent {
        event,
        header: header.map(event_header_to_proto),
        content,
        reporter,
        withheld_parts,
        erased_parts,
    }
}

fn salted(bytes: &Bytes) -> Option<Bytes> {
    (bytes.len() >= super::parts::SALT_BYTES).then(|| bytes.slice(super::parts::SALT_BYTES..))
}

/// Whether the message of an inbox item can be read as an event here.
pub fn is_readable(event: &v1::InboxEvent) -> bool {
    event
        .event
        .clone()
        .is_some_and(|event| event_from_proto(event).is_ok())
}
