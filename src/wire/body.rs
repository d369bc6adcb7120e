//! What happened, both as an event carries it and as a door takes it: the
//! same messages under the same numbers in two oneofs.

use crate::domain::{
    Attachment, CategoryCode, ComplaintId, EventBody, EventId, FieldError, ForeignReference,
    InstitutionCode, RegionCode,
};

use super::{
    scalar::{
        self, Parsed, archive_reason_from, archive_reason_to, copied, digest, handling_from,
        handling_to, id16, optional_id, optional_micros, required_micros, text_id, timestamp,
        unknown_value,
    },
    v1,
};

/// Maps the kinds that both oneofs have; `filed` is an event's alone.
macro_rules! bodies {
    ($($kind:ident $from:ident),+ $(,)?) => {
        /// The body of an event.
        ///
        /// # Errors
        /// Names the field.
        pub(super) fn body_from_event(body: v1::event::Body) -> Parsed<EventBody> {
            match body {
                v1::event::Body::Filed(filed) => filed_from(filed),
                $(v1::event::Body::$kind(message) => $from(message)),+
            }
        }

        /// The body of what a door takes.
        ///
        /// # Errors
        /// Names the field.
        pub(super) fn body_from_door(body: v1::new_event::Body) -> Parsed<EventBody> {
            match body {
                $(v1::new_event::Body::$kind(message) => $from(message)),+
            }
        }

        /// The body of what a door takes, for an event's; filing has none.
        pub(super) fn door_body(body: v1::event::Body) -> Option<v1::new_event::Body> {
            match body {
                v1::event::Body::Filed(_) => None,
                $(v1::event::Body::$kind(message) => Some(v1::new_event::Body::$kind(message))),+
            }
        }
    };
}

bodies!(
    Verified verified_from,
    Classified classified_from,
    Forwarded forwarded_from,
    Copied copied_from,
    Declined declined_from,
    HandlingStarted handling_started_from,
    ProgressReported progress_reported_from,
    InformationRequested information_requested_from,
    ReporterReplied reporter_replied_from,
    Responded responded_from,
    Postponed postponed_from,
    Closed closed_from,
    Reopened reopened_from,
    Archived archived_from,
    Withdrawn withdrawn_from,
    Merged merged_from,
    Rated rated_from,
    Escalated escalated_from,
    VisibilityChanged visibility_changed_from,
    AttachmentAdded attachment_added_from,
    PartErased part_erased_from,
    StatusMirrored status_mirrored_from,
);

/// A body as an event carries it; `None` for a kind that is not known here.
pub(super) fn body_to_event(body: &EventBody) -> Option<v1::event::Body> {
    use v1::event::Body;
    let text = |code: &Option<InstitutionCode>| code.as_ref().map_or("", |c| c.as_str()).to_owned();
    Some(match body {
        EventBody::Filed {
            kind,
            category,
            region,
            occurred_on,
            filed_at,
            channel,
            anonymous,
            confidential,
            handling,
            addressed_to,
            attachments,
            foreign_references,
        } => Body::Filed(v1::Filed {
            kind: kind.clone(),
            category: category.as_ref().map_or("", |c| c.as_str()).to_owned(),
            region: region.as_ref().map_or("", |c| c.as_str()).to_owned(),
            occurred_on: occurred_on.clone(),
            filed_at: Some(timestamp(*filed_at)),
            channel: channel.clone(),
            anonymous: *anonymous,
            confidential: *confidential,
            handling: handling_to(*handling),
            addressed_to: text(addressed_to),
            attachments: attachments_to(attachments),
            foreign_references: foreign_to(foreign_references),
        }),
        EventBody::Verified => Body::Verified(v1::Verified {}),
        EventBody::Classified {
            kind,
            category,
            region,
            oversight,
        } => Body::Classified(v1::Classified {
            kind: kind.clone(),
            category: category.as_ref().map(|c| c.as_str().to_owned()),
            region: region.as_ref().map(|c| c.as_str().to_owned()),
            oversight: *oversight,
        }),
        EventBody::Forwarded { institution, unit } => Body::Forwarded(v1::Forwarded {
            institution: text(institution),
            unit: unit.clone(),
        }),
        EventBody::Copied { institutions } => Body::Copied(v1::Copied {
            institutions: institutions.iter().map(|c| c.as_str().to_owned()).collect(),
        }),
        EventBody::Declined {
            suggested_institution,
        } => Body::Declined(v1::Declined {
            suggested_institution: text(suggested_institution),
        }),
        EventBody::HandlingStarted { unit } => {
            Body::HandlingStarted(v1::HandlingStarted { unit: unit.clone() })
        }
        EventBody::ProgressReported { attachments } => {
            Body::ProgressReported(v1::ProgressReported {
                attachments: attachments_to(attachments),
            })
        }
        EventBody::InformationRequested => Body::InformationRequested(v1::InformationRequested {}),
        EventBody::ReporterReplied { attachments } => Body::ReporterReplied(v1::ReporterReplied {
            attachments: attachments_to(attachments),
        }),
        EventBody::Responded { attachments } => Body::Responded(v1::Responded {
            attachments: attachments_to(attachments),
        }),
        EventBody::Postponed { until } => Body::Postponed(v1::Postponed {
            until: until.map(timestamp),
        }),
        EventBody::Closed => Body::Closed(v1::Closed {}),
        EventBody::Reopened => Body::Reopened(v1::Reopened {}),
        EventBody::Archived { reason } => Body::Archived(v1::Archived {
            reason: archive_reason_to(*reason),
        }),
        EventBody::Withdrawn => Body::Withdrawn(v1::Withdrawn {}),
        EventBody::Merged { into } => Body::Merged(v1::Merged {
            into_complaint_id: copied(into.as_bytes()),
        }),
        EventBody::Rated { stars } => Body::Rated(v1::Rated {
            stars: u32::from(*stars),
        }),
        EventBody::Escalated { consent } => Body::Escalated(v1::Escalated { consent: *consent }),
        EventBody::VisibilityChanged {
            anonymous,
            confidential,
        } => Body::VisibilityChanged(v1::VisibilityChanged {
            anonymous: *anonymous,
            confidential: *confidential,
        }),
        EventBody::AttachmentAdded { attachment } => Body::AttachmentAdded(v1::AttachmentAdded {
            attachment: Some(attachment_to(attachment)),
        }),
        EventBody::PartErased { event_id, sha256 } => Body::PartErased(v1::PartErased {
            event_id: copied(event_id.as_bytes()),
            sha256: copied(sha256.as_bytes()),
        }),
        EventBody::StatusMirrored { declined, ignored } => {
            Body::StatusMirrored(v1::StatusMirrored {
                declined: *declined,
                ignored: *ignored,
            })
        }
        EventBody::Unknown => return None,
    })
}

fn filed_from(filed: v1::Filed) -> Parsed<EventBody> {
    let v1::Filed {
        kind,
        category,
        region,
        occurred_on,
        filed_at,
        channel,
        anonymous,
        confidential,
        handling,
        addressed_to,
        attachments,
        foreign_references,
    } = filed;
    Ok(EventBody::Filed {
        kind,
        category: optional_id("filed.category", &category, CategoryCode::parse)?,
        region: optional_id("filed.region", &region, RegionCode::parse)?,
        occurred_on,
        filed_at: required_micros("filed.filed_at", filed_at)?,
        channel,
        anonymous,
        confidential,
        handling: handling_from(handling)
            .ok_or_else(|| unknown_value("filed.handling", handling))?,
        addressed_to: optional_id("filed.addressed_to", &addressed_to, InstitutionCode::parse)?,
        attachments: attachments_from("filed.attachments", attachments)?,
        foreign_references: foreign_from(foreign_references),
    })
}

fn verified_from(message: v1::Verified) -> Parsed<EventBody> {
    let v1::Verified {} = message;
    Ok(EventBody::Verified)
}

fn classified_from(message: v1::Classified) -> Parsed<EventBody> {
    let v1::Classified {
        kind,
        category,
        region,
        oversight,
    } = message;
    Ok(EventBody::Classified {
        kind,
        category: category
            .map(|text| text_id("classified.category", &text, CategoryCode::parse))
            .transpose()?,
        region: region
            .map(|text| text_id("classified.region", &text, RegionCode::parse))
            .transpose()?,
        oversight,
    })
}

fn forwarded_from(message: v1::Forwarded) -> Parsed<EventBody> {
    let v1::Forwarded { institution, unit } = message;
    Ok(EventBody::Forwarded {
        institution: optional_id(
            "forwarded.institution",
            &institution,
            InstitutionCode::parse,
        )?,
        unit,
    })
}

fn copied_from(message: v1::Copied) -> Parsed<EventBody> {
    let v1::Copied { institutions } = message;
    let institutions = institutions
        .iter()
        .map(|code| text_id("copied.institutions", code, InstitutionCode::parse));
    Ok(EventBody::Copied {
        institutions: institutions.collect::<Result<_, _>>()?,
    })
}

fn declined_from(message: v1::Declined) -> Parsed<EventBody> {
    let v1::Declined {
        suggested_institution,
    } = message;
    Ok(EventBody::Declined {
        suggested_institution: optional_id(
            "declined.suggested_institution",
            &suggested_institution,
            InstitutionCode::parse,
        )?,
    })
}

fn handling_started_from(message: v1::HandlingStarted) -> Parsed<EventBody> {
    let v1::HandlingStarted { unit } = message;
    Ok(EventBody::HandlingStarted { unit })
}

fn progress_reported_from(message: v1::ProgressReported) -> Parsed<EventBody> {
    let v1::ProgressReported { attachments } = message;
    Ok(EventBody::ProgressReported {
        attachments: attachments_from("progress_reported.attachments", attachments)?,
    })
}

fn information_requested_from(message: v1::InformationRequested) -> Parsed<EventBody> {
    let v1::InformationRequested {} = message;
    Ok(EventBody::InformationRequested)
}

fn reporter_replied_from(message: v1::ReporterReplied) -> Parsed<EventBody> {
    let v1::ReporterReplied { attachments } = message;
    Ok(EventBody::ReporterReplied {
        attachments: attachments_from("reporter_replied.attachments", attachments)?,
    })
}

fn responded_from(message: v1::Responded) -> Parsed<EventBody> {
    let v1::Responded { attachments } = message;
    Ok(EventBody::Responded {
        attachments: attachments_from("responded.attachments", attachments)?,
    })
}

fn postponed_from(message: v1::Postponed) -> Parsed<EventBody> {
    let v1::Postponed { until } = message;
    Ok(EventBody::Postponed {
        until: optional_micros("postponed.until", until)?,
    })
}

fn closed_from(message: v1::Closed) -> Parsed<EventBody> {
    let v1::Closed {} = message;
    Ok(EventBody::Closed)
}

fn reopened_from(message: v1::Reopened) -> Parsed<EventBody> {
    let v1::Reopened {} = message;
    Ok(EventBody::Reopened)
}

fn archived_from(message: v1::Archived) -> Parsed<EventBody> {
    let v1::Archived { reason } = message;
    Ok(EventBody::Archived {
        reason: archive_reason_from(reason)
            .ok_or_else(|| unknown_value("archived.reason", reason))?,
    })
}

fn withdrawn_from(message: v1::Withdrawn) -> Parsed<EventBody> {
    let v1::Withdrawn {} = message;
    Ok(EventBody::Withdrawn)
}

fn merged_from(message: v1::Merged) -> Parsed<EventBody> {
    let v1::Merged { into_complaint_id } = message;
    Ok(EventBody::Merged {
        into: ComplaintId::from_bytes(id16("merged.into_complaint_id", &into_complaint_id)?),
    })
}

fn rated_from(message: v1::Rated) -> Parsed<EventBody> {
    let v1::Rated { stars } = message;
    Ok(EventBody::Rated {
        stars: u8::try_from(stars)
            .map_err(|_| FieldError::new("rated.stars", "must be 1 (bad) to 5 (good)"))?,
    })
}

fn escalated_from(message: v1::Escalated) -> Parsed<EventBody> {
    let v1::Escalated { consent } = message;
    Ok(EventBody::Escalated { consent })
}

fn visibility_changed_from(message: v1::VisibilityChanged) -> Parsed<EventBody> {
    let v1::VisibilityChanged {
        anonymous,
        confidential,
    } = message;
    Ok(EventBody::VisibilityChanged {
        anonymous,
        confidential,
    })
}

fn attachment_added_from(message: v1::AttachmentAdded) -> Parsed<EventBody> {
    let v1::AttachmentAdded { attachment } = message;
    let attachment =
        attachment.ok_or_else(|| FieldError::new("attachment_added.attachment", "is missing"))?;
    Ok(EventBody::AttachmentAdded {
        attachment: attachment_from("attachment_added.attachment", attachment)?,
    })
}

fn part_erased_from(message: v1::PartErased) -> Parsed<EventBody> {
    let v1::PartErased { event_id, sha256 } = message;
    Ok(EventBody::PartErased {
        event_id: EventId::from_bytes(id16("part_erased.event_id", &event_id)?),
        sha256: digest("part_erased.sha256", &sha256)?,
    })
}

fn status_mirrored_from(message: v1::StatusMirrored) -> Parsed<EventBody> {
    let v1::StatusMirrored { declined, ignored } = message;
    Ok(EventBody::StatusMirrored { declined, ignored })
}

pub(super) fn attachment_to(attachment: &Attachment) -> v1::Attachment {
    v1::Attachment {
        sha256: copied(attachment.sha256.as_bytes()),
        size_bytes: attachment.size_bytes,
        media_type: attachment.media_type.clone(),
    }
}

fn attachments_to(attachments: &[Attachment]) -> Vec<v1::Attachment> {
    attachments.iter().map(attachment_to).collect()
}

pub(super) fn attachment_from(field: &str, attachment: v1::Attachment) -> Parsed<Attachment> {
    let v1::Attachment {
        sha256,
        size_bytes,
        media_type,
    } = attachment;
    Ok(Attachment {
        sha256: digest(&format!("{field}.sha256"), &sha256)?,
        size_bytes,
        media_type,
    })
}

fn attachments_from(field: &str, attachments: Vec<v1::Attachment>) -> Parsed<Vec<Attachment>> {
    attachments
        .into_iter()
        .map(|attachment| attachment_from(field, attachment))
        .collect()
}

pub(super) fn foreign_to(references: &[ForeignReference]) -> Vec<v1::ForeignReference> {
    references
        .iter()
        .map(|foreign| v1::ForeignReference {
            system: foreign.system.clone(),
            reference: foreign.reference.clone(),
        })
        .collect()
}

pub(super) fn foreign_from(references: Vec<v1::ForeignReference>) -> Vec<ForeignReference> {
    references
        .into_iter()
        .map(|foreign| {
            let v1::ForeignReference { system, reference } = foreign;
            ForeignReference { system, reference }
        })
        .collect()
}

pub(super) fn local_status_to(
    status: Option<&crate::domain::LocalStatus>,
) -> Option<v1::LocalStatus> {
    status.map(|status| v1::LocalStatus {
        code: status.code.clone(),
        name: status.name.clone(),
        mapped: status.mapped.map_or(0, scalar::status_to),
    })
}

pub(super) fn local_status_from(
    status: Option<v1::LocalStatus>,
) -> Option<crate::domain::LocalStatus> {
    status.map(|status| {
        let v1::LocalStatus { code, name, mapped } = status;
        crate::domain::LocalStatus {
            code,
            name,
            mapped: scalar::status_from(mapped),
        }
    })
}
