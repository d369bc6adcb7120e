//! Headers of deliveries and decisions.

use bytes::Bytes;
use prost::Message as _;

use crate::domain::{
    ComplaintId, Decision, DecisionSet, DeliveryRecord, EventHeader, EventId, InstitutionCode,
    Outcome, PartyId, Rejection, RejectionReason, TrackingId, Unreadable,
};

use super::{
    event::unreadable,
    scalar::{
        Parsed, copied, id16, optional_digest, optional_id, outcome_from, outcome_to,
        part_kind_from, part_kind_to, reason_from, reason_to, required_micros, role_from, role_to,
        status_from, status_to, text_id, timestamp, unknown_value,
    },
    v1,
};

/// The bytes of a delivery's header.
pub fn encode_header(record: &DeliveryRecord) -> Bytes {
    let record = match record {
        DeliveryRecord::Event(header) => {
            v1::delivery_header::Record::Event(event_header_to_proto(header))
        }
        DeliveryRecord::Decisions(set) => v1::delivery_header::Record::Decisions(v1::Decisions {
            epoch: set.epoch,
            first_position: set.first_position,
            decisions: set.decisions.iter().map(decision_to_proto).collect(),
        }),
    };
    let message = v1::DeliveryHeader {
        record: Some(record),
    };
    Bytes::from(message.encode_to_vec())
}

/// What a delivery's header means.
///
/// # Errors
/// It can't be read, or is of a kind that is not known here.
pub fn decode_header(bytes: &Bytes) -> Result<DeliveryRecord, Unreadable> {
    let message = v1::DeliveryHeader::decode(bytes.clone()).map_err(|error| Unreadable {
        why: format!("not a jembatan.v1.DeliveryHeader: {error}"),
        fields: Vec::new(),
    })?;
    let v1::DeliveryHeader { record } = message;
    match record {
        Some(v1::delivery_header::Record::Event(header)) => event_header_from_proto(header)
            .map(DeliveryRecord::Event)
            .map_err(unreadable),
        Some(v1::delivery_header::Record::Decisions(set)) => {
            let v1::Decisions {
                epoch,
                first_position,
                decisions,
            } = set;
            let decisions = decisions
                .into_iter()
                .map(decision_from_proto)
                .collect::<Result<_, _>>()
                .map_err(unreadable)?;
            Ok(DeliveryRecord::Decisions(DecisionSet {
                epoch,
                first_position,
                decisions,
            }))
        }
        None => Err(Unreadable {
            why: "a header of a kind that is not known here".to_owned(),
            fields: vec!["record".to_owned()],
        }),
    }
}

pub(super) fn event_header_to_proto(header: &EventHeader) -> v1::EventHeader {
    v1::EventHeader {
        event_id: copied(header.event_id.as_bytes()),
        complaint_id: copied(header.complaint_id.as_bytes()),
        revision: header.revision,
        status: status_to(header.status),
        handler: institution(header.handler.as_ref()),
        tracking_id: header.tracking_id.as_str().to_owned(),
        party: header.party.as_str().to_owned(),
        accepted_at: Some(timestamp(header.accepted_at)),
        role: role_to(header.role),
        readable_parts: header
            .readable_parts
            .iter()
            .map(|kind| part_kind_to(*kind))
            .collect(),
        hops: header.hops,
        answer_missing: header.answer_missing,
    }
}

fn event_header_from_proto(header: v1::EventHeader) -> Parsed<EventHeader> {
    let v1::EventHeader {
        event_id,
        complaint_id,
        revision,
        status,
        handler,
        tracking_id,
        party,
        accepted_at,
        role,
        readable_parts,
        hops,
        answer_missing,
    } = header;
    Ok(EventHeader {
        event_id: EventId::from_bytes(id16("event_id", &event_id)?),
        complaint_id: ComplaintId::from_bytes(id16("complaint_id", &complaint_id)?),
        revision,
        status: status_from(status).ok_or_else(|| unknown_value("status", status))?,
        handler: optional_id("handler", &handler, InstitutionCode::parse)?,
        tracking_id: text_id("tracking_id", &tracking_id, TrackingId::parse)?,
        party: text_id("party", &party, PartyId::parse)?,
        accepted_at: required_micros("accepted_at", accepted_at)?,
        role: role_from(role).ok_or_else(|| unknown_value("role", role))?,
        readable_parts: readable_parts
            .into_iter()
            .filter_map(part_kind_from)
            .collect(),
        hops,
        answer_missing,
    })
}

/// A decision as it travels, and as doors show it.
pub fn decision_to_proto(decision: &Decision) -> v1::Decision {
    v1::Decision {
        outcome: outcome_to(decision.outcome),
        event_id: decision
            .event_id
            .map_or_else(Bytes::new, |id| copied(id.as_bytes())),
        revision: decision.revision,
        status: decision.status.map_or(0, status_to),
        handler: institution(decision.handler.as_ref()),
        tracking_id: decision
            .tracking_id
            .as_ref()
            .map_or("", |id| id.as_str())
            .to_owned(),
        duplicate_of: decision.duplicate_of,
        rejection: decision.rejection.as_ref().map(rejection_to_proto),
        complaint_id: decision
            .complaint_id
            .map_or_else(Bytes::new, |id| copied(id.as_bytes())),
        answer_missing: decision.answer_missing,
    }
}

fn decision_from_proto(decision: v1::Decision) -> Parsed<Decision> {
    let v1::Decision {
        outcome,
        event_id,
        revision,
        status,
        handler,
        tracking_id,
        duplicate_of,
        rejection,
        complaint_id,
        answer_missing,
    } = decision;
    let id = |field: &str, bytes: &Bytes| -> Parsed<Option<[u8; 16]>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        id16(field, bytes).map(Some)
    };
    // An outcome that is not known here must not cost the rest of its set. What
    // became of the submission nobody knows here: as good as parked, which is
    // not final.
    let known = outcome_from(outcome);
    let mut rejection = rejection.map(rejection_from_proto).transpose()?;
    if known.is_none() {
        rejection.get_or_insert_with(|| Rejection::unknown_outcome(outcome));
    }
    Ok(Decision {
        outcome: known.unwrap_or(Outcome::Parked),
        event_id: id("event_id", &event_id)?.map(EventId::from_bytes),
        complaint_id: id("complaint_id", &complaint_id)?.map(ComplaintId::from_bytes),
        revision,
        status: status_from(status),
        handler: optional_id("handler", &handler, InstitutionCode::parse)?,
        tracking_id: optional_id("tracking_id", &tracking_id, TrackingId::parse)?,
        duplicate_of,
        rejection,
        answer_missing,
    })
}

fn rejection_to_proto(rejection: &Rejection) -> v1::Rejection {
    let bytes = |digest: Option<crate::domain::Digest>| {
        digest.map_or_else(Bytes::new, |digest| copied(digest.as_bytes()))
    };
    v1::Rejection {
        reason: reason_to(rejection.reason),
        fields: rejection.fields.clone(),
        text_id: rejection.text_id.clone(),
        text_en: rejection.text_en.clone(),
        current_revision: rejection.current_revision.unwrap_or(0),
        stored_digest: bytes(rejection.digests.map(|(stored, _)| stored)),
        refused_digest: bytes(rejection.digests.map(|(_, refused)| refused)),
    }
}

fn rejection_from_proto(rejection: v1::Rejection) -> Parsed<Rejection> {
    let v1::Rejection {
        reason,
        fields,
        text_id,
        text_en,
        current_revision,
        stored_digest,
        refused_digest,
    } = rejection;
    let stored = optional_digest("rejection.stored_digest", &stored_digest)?;
    let refused = optional_digest("rejection.refused_digest", &refused_digest)?;
    let reason = reason_from(reason);
    let (mut text_id, mut text_en) = (text_id, text_en);
    if let (RejectionReason::Unknown(number), true) =
        (reason, text_id.is_empty() && text_en.is_empty())
    {
        let told = Rejection::unknown_reason(number);
        (text_id, text_en) = (told.text_id, told.text_en);
    }
    Ok(Rejection {
        reason,
        fields,
        text_id,
        text_en,
        current_revision: (current_revision > 0).then_some(current_revision),
        digests: stored.zip(refused),
    })
}

pub(super) fn institution(code: Option<&InstitutionCode>) -> String {
    code.map_or("", |code| code.as_str()).to_owned()
}
