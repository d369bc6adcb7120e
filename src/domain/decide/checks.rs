//! What must be true of an event before the complaint is looked at.

use crate::domain::{
    Attachment, ComplaintId, Event, EventBody, EventId, Handling, PartKind, PartyId, Policy,
    Rejection,
};

/// Whether the ids and the party that an event names fit the party of the
/// certificate (or door) that it came through: nobody can occupy another's ids.
///
/// # Errors
/// [`crate::domain::RejectionReason::ForgedId`].
pub fn check_identity(event: &Event, party: &PartyId) -> Result<(), Rejection> {
    if &event.party != party {
        return Err(Rejection::forged("party"));
    }
    if event.event_id != EventId::derive(party, &event.system, &event.key) {
        return Err(Rejection::forged("event_id"));
    }
    if let (EventBody::Filed { .. }, Some(reference)) = (&event.body, &event.reference)
        && event.complaint_id != ComplaintId::derive(party, &event.system, reference)
    {
        return Err(Rejection::forged("complaint_id"));
    }
    Ok(())
}

/// Whether the fields keep their limits; the rest is kept by their types.
pub(super) fn check_fields(event: &Event, policy: &Policy) -> Result<(), Rejection> {
    let needs_text = |what: &str| {
        if event.has_part(PartKind::Content) {
            Ok(())
        } else {
            Err(Rejection::invalid("parts", what))
        }
    };
    match &event.body {
        EventBody::Filed {
            kind,
            handling,
            addressed_to,
            attachments,
            ..
        } => {
            if event.reference.is_none() {
                return Err(Rejection::invalid("reference", "is missing"));
            }
            if kind.is_empty() {
                return Err(Rejection::invalid("filed.kind", "is missing"));
            }
            if *handling == Handling::Addressed && addressed_to.is_none() {
                return Err(Rejection::invalid(
                    "filed.addressed_to",
                    "is missing, though the handling is \"addressed\"",
                ));
            }
            check_attachments("filed.attachments", attachments, policy)?;
            needs_text("a filing needs a content part with title and body")
        }
        EventBody::Responded { attachments } => {
            check_attachments("responded.attachments", attachments, policy)?;
            needs_text("an answer needs a text")
        }
        EventBody::ProgressReported { attachments } => {
            check_attachments("progress_reported.attachments", attachments, policy)
        }
        EventBody::ReporterReplied { attachments } => {
            check_attachments("reporter_replied.attachments", attachments, policy)
        }
        EventBody::InformationRequested => needs_text("a question needs a text"),
        EventBody::Postponed { .. } => needs_text("postponing needs a reason"),
        EventBody::Copied { institutions } => match institutions.len() {
            1..=16 => Ok(()),
            _ => Err(Rejection::invalid(
                "copied.institutions",
                "1 to 16 institutions are needed",
            )),
        },
        EventBody::Rated { stars } if !(1..=5).contains(stars) => Err(Rejection::invalid(
            "rated.stars",
            "must be 1 (bad) to 5 (good)",
        )),
        EventBody::Escalated { consent: false } => Err(Rejection::invalid(
            "escalated.consent",
            "the reporter's consent is needed",
        )),
        EventBody::Merged { into } if *into == event.complaint_id => Err(Rejection::invalid(
            "merged.into_complaint_id",
            "a complaint can't be merged into itself",
        )),
        EventBody::AttachmentAdded { attachment } => check_attachments(
            "attachment_added.attachment",
            std::slice::from_ref(attachment),
            policy,
        ),
        _ => Ok(()),
    }
}

fn check_attachments(
    field: &str,
    attachments: &[Attachment],
    policy: &Policy,
) -> Result<(), Rejection> {
    let most = policy.attachments_per_event as usize;
    if attachments.len() > most {
        return Err(Rejection::invalid(
            field,
            &format!(
                "{} are too many; at most {most} are allowed",
                attachments.len()
            ),
        ));
    }
    match attachments
        .iter()
        .find(|attachment| attachment.size_bytes > policy.attachment_bytes)
    {
        Some(large) => Err(Rejection::invalid(
            field,
            &format!(
                "one has {} bytes; at most {} are allowed",
                large.size_bytes, policy.attachment_bytes
            ),
        )),
        None => Ok(()),
    }
}
