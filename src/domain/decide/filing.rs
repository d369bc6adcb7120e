//! A complaint begins: who owns it from the first event.

use crate::domain::{
    Complaint, Event, EventBody, Handling, InstitutionCode, Rejection, Status, TrackingId,
};

use super::Context;

pub(super) fn file(event: &Event, context: Context<'_>) -> Result<Complaint, Rejection> {
    let EventBody::Filed {
        kind,
        category,
        region,
        anonymous,
        confidential,
        ..
    } = &event.body
    else {
        return Err(Rejection::unknown_complaint());
    };
    let reference = event
        .reference
        .clone()
        .ok_or_else(|| Rejection::invalid("reference", "is missing"))?;
    if let Some(acting) = &event.acting_institution
        && context.directory.reader_of(acting) != Some(&event.party)
    {
        return Err(Rejection::unknown_institution(
            "acting_institution",
            acting.as_str(),
        ));
    }
    let mirrored = event.local_status.iter().map(|_| event.party.clone());
    Ok(Complaint {
        id: event.complaint_id,
        tracking_id: TrackingId::derive(&event.complaint_id, 0),
        origin: event.party.clone(),
        system: event.system.clone(),
        reference,
        kind: kind.clone(),
        category: category.clone(),
        region: region.clone(),
        oversight: None,
        anonymous: *anonymous,
        confidential: *confidential,
        status: Status::Received,
        handler: first_handler(event, context).cloned(),
        unit: String::new(),
        revision: 1,
        hops: 0,
        verified: false,
        answered: false,
        answer_missing: false,
        copies: Vec::new(),
        participants: Vec::new(),
        run_author: event.party.clone(),
        run_start: 1,
        // The local status at filing is the baseline; the next one is a move.
        mirrored: mirrored.collect(),
        overruled: false,
        merged_into: None,
    })
}

/// No wrong door: whoever can't be found or reached is never a reason to
/// reject; the complaint goes to national triage.
fn first_handler<'a>(event: &Event, context: Context<'a>) -> Option<&'a InstitutionCode> {
    let EventBody::Filed {
        category,
        region,
        handling,
        addressed_to,
        ..
    } = &event.body
    else {
        return None;
    };
    let directory = context.directory;
    let found = match handling {
        Handling::Own => directory.own_institution(&event.party, event.acting_institution.as_ref()),
        Handling::Addressed => addressed_to
            .as_ref()
            .and_then(|code| directory.institutions.get(code))
            .map(|institution| &institution.code),
        Handling::Route => {
            let known_category = category
                .as_ref()
                .filter(|code| directory.categories.contains_key(*code));
            let is_unknown = category.is_some() && known_category.is_none();
            if is_unknown && !directory.categories.is_empty() {
                None
            } else {
                directory.route(region.as_ref(), category.as_ref())
            }
        }
    };
    found.filter(|code| directory.takes_in(code))
}
