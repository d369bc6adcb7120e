//! Statuses and legal moves, and who may make them.

use crate::domain::{
    Complaint, ComplaintId, Event, EventBody, InstitutionCode, PartKind, Rejection, Status,
};

use super::{Context, standing::Standing};

/// Changes the complaint as the event says.
pub(super) fn apply(
    complaint: &mut Complaint,
    event: &Event,
    standing: &Standing,
    context: Context<'_>,
) -> Result<(), Rejection> {
    let kind = event.body.kind();
    check_permission(&event.body, standing)?;
    if needs_open(&event.body) && !complaint.status.is_open() {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "Reopen it first.",
            "Buka kembali laporan ini lebih dahulu.",
        ));
    }
    match &event.body {
        EventBody::Verified => verify(complaint),
        EventBody::Classified {
            kind,
            category,
            region,
            oversight,
        } => {
            if let Some(kind) = kind {
                complaint.kind.clone_from(kind);
            }
            if category.is_some() {
                complaint.category.clone_from(category);
            }
            if region.is_some() {
                complaint.region.clone_from(region);
            }
            if oversight.is_some() {
                complaint.oversight = *oversight;
            }
        }
        EventBody::Forwarded { institution, unit } => {
            forward(complaint, institution.as_ref(), unit, standing, context)?;
        }
        EventBody::Copied { institutions } => copy(complaint, institutions, context)?,
        EventBody::Declined {
            suggested_institution,
        } => decline(complaint, suggested_institution.as_ref(), kind, context)?,
        EventBody::HandlingStarted { unit } => {
            if !unit.is_empty() {
                complaint.unit.clone_from(unit);
            }
            // A start that comes late never takes an answer back.
            if complaint.status != Status::Responded {
                complaint.status = Status::InProgress;
            }
        }
        // Progress never takes an answer back or wakes what waits for the reporter.
        EventBody::ProgressReported { .. } => {
            if rank(complaint.status) < rank(Status::InProgress)
                || complaint.status == Status::Postponed
            {
                complaint.status = Status::InProgress;
            }
        }
        EventBody::InformationRequested => complaint.status = Status::AwaitingReporter,
        EventBody::ReporterReplied { .. } => {
            if matches!(
                complaint.status,
                Status::AwaitingReporter | Status::Responded
            ) {
                complaint.status = Status::InProgress;
            }
        }
        EventBody::Responded { .. } => {
            complaint.answered = true;
            complaint.answer_missing = false;
            complaint.status = Status::Responded;
        }
        EventBody::Postponed { .. } => complaint.status = Status::Postponed,
        EventBody::Closed => {
            complaint.answered |= event.has_part(PartKind::Content);
            if !complaint.answered {
                return Err(Rejection::illegal_move(
                    kind,
                    complaint.status,
                    "It has no answer yet: respond first, or close with a text.",
                    "Belum ada tanggapan: beri tanggapan lebih dahulu.",
                ));
            }
            complaint.status = Status::Closed;
        }
        EventBody::Reopened => reopen(complaint, kind, context)?,
        EventBody::Archived { .. } | EventBody::Withdrawn => complaint.status = Status::Archived,
        EventBody::Merged { into } => merge(complaint, *into, kind, context)?,
        EventBody::Rated { .. } => {
            if !matches!(complaint.status, Status::Responded | Status::Closed) {
                return Err(Rejection::illegal_move(
                    kind,
                    complaint.status,
                    "Only an answer can be rated.",
                    "Hanya tanggapan yang dapat dinilai.",
                ));
            }
        }
        EventBody::Escalated { .. } => {
            if matches!(complaint.status, Status::Merged | Status::Escalated) {
                return Err(Rejection::illegal_move(kind, complaint.status, "", ""));
            }
            complaint.status = Status::Escalated;
        }
        EventBody::VisibilityChanged {
            anonymous,
            confidential,
        } => {
            complaint.anonymous = anonymous.unwrap_or(complaint.anonymous);
            complaint.confidential = confidential.unwrap_or(complaint.confidential);
        }
        EventBody::StatusMirrored { declined, ignored } => {
            mirror(complaint, event, *declined, *ignored, standing, context)?;
        }
        // Known to change nothing here: they are for the readers.
        EventBody::AttachmentAdded { .. } | EventBody::PartErased { .. } | EventBody::Unknown => {}
        EventBody::Filed { .. } => {}
    }
    Ok(())
}

fn check_permission(body: &EventBody, standing: &Standing) -> Result<(), Rejection> {
    let kind = body.kind();
    match body {
        EventBody::Verified
        | EventBody::Classified { .. }
        | EventBody::Forwarded { .. }
        | EventBody::Copied { .. }
        | EventBody::HandlingStarted { .. }
        | EventBody::ProgressReported { .. }
        | EventBody::InformationRequested
        | EventBody::Responded { .. }
        | EventBody::Postponed { .. }
        | EventBody::Closed
        | EventBody::Declined { .. }
        | EventBody::Archived { .. } => standing.require_owner(kind),
        EventBody::ReporterReplied { .. }
        | EventBody::Rated { .. }
        | EventBody::Withdrawn
        | EventBody::Escalated { .. } => standing.require_origin(kind),
        EventBody::Reopened | EventBody::PartErased { .. } if standing.is_national => Ok(()),
        EventBody::Reopened | EventBody::PartErased { .. } => standing.require_origin(kind),
        EventBody::Merged { .. } => standing.require_national(kind),
        EventBody::VisibilityChanged { .. } if standing.is_national => Ok(()),
        EventBody::VisibilityChanged { .. } => standing.require_origin(kind),
        EventBody::AttachmentAdded { .. } | EventBody::StatusMirrored { .. } => {
            standing.require_origin_or_owner(kind)
        }
        EventBody::Unknown | EventBody::Filed { .. } => Ok(()),
    }
}

fn needs_open(body: &EventBody) -> bool {
    !matches!(
        body,
        EventBody::Reopened
            | EventBody::Rated { .. }
            | EventBody::Escalated { .. }
            | EventBody::VisibilityChanged { .. }
            | EventBody::AttachmentAdded { .. }
            | EventBody::PartErased { .. }
            | EventBody::StatusMirrored { .. }
            | EventBody::Unknown
    )
}

/// May come before or after forwarding, and never moves a complaint back.
fn verify(complaint: &mut Complaint) {
    complaint.verified = true;
    if complaint.status == Status::Received {
        complaint.status = Status::Verified;
    }
}

fn forward(
    complaint: &mut Complaint,
    institution: Option<&InstitutionCode>,
    unit: &str,
    standing: &Standing,
    context: Context<'_>,
) -> Result<(), Rejection> {
    let target = institution.or(complaint.handler.as_ref()).cloned();
    let Some(target) = target else {
        return Err(Rejection::invalid(
            "forwarded.institution",
            "is missing: the complaint stands in national triage, so an institution has to be named",
        ));
    };
    let is_kept = complaint.handler.as_ref() == Some(&target);
    let can_take = if is_kept {
        context.directory.reader_of(&target).is_some()
    } else {
        context.directory.takes_in(&target)
    };
    if !can_take {
        return Err(Rejection::unknown_institution(
            "forwarded.institution",
            target.as_str(),
        ));
    }
    unit.clone_into(&mut complaint.unit);
    if is_kept {
        if rank(complaint.status) < rank(Status::Forwarded) {
            complaint.status = Status::Forwarded;
        }
        return Ok(());
    }
    // What ended in triage after too many hops leaves it by the word of the
    // national desk alone.
    let most = match standing.is_national && !standing.is_handler {
        true => u32::MAX,
        false => context.policy.max_hops,
    };
    hand_over(complaint, Some(target), most);
    Ok(())
}

/// The handler is not competent. With a suggestion that can be reached the
/// complaint goes there at once (no wrong door); without one, to triage.
fn decline(
    complaint: &mut Complaint,
    suggested: Option<&InstitutionCode>,
    kind: &str,
    context: Context<'_>,
) -> Result<(), Rejection> {
    if complaint.handler.is_none() {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "It stands in national triage: forward it instead.",
            "Laporan berada di meja Admin Nasional: disposisikan.",
        ));
    }
    if complaint.status == Status::Responded {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "It is answered already.",
            "Laporan sudah ditanggapi.",
        ));
    }
    let target = suggested
        .filter(|code| complaint.handler.as_ref() != Some(*code))
        .filter(|code| context.directory.takes_in(code))
        .cloned();
    complaint.unit.clear();
    hand_over(complaint, target, context.policy.max_hops);
    Ok(())
}

/// Gives the complaint to another owner in one step; too many hops, or nobody
/// to give it to, is triage.
fn hand_over(complaint: &mut Complaint, target: Option<InstitutionCode>, max_hops: u32) {
    complaint.hops += 1;
    let is_within_limit = complaint.hops <= max_hops;
    complaint.handler = target.filter(|_| is_within_limit);
    complaint.status = match (&complaint.handler, complaint.verified) {
        (Some(_), _) => Status::Forwarded,
        (None, true) => Status::Verified,
        (None, false) => Status::Received,
    };
    if complaint.handler.is_none() {
        complaint.unit.clear();
    }
}

fn copy(
    complaint: &mut Complaint,
    institutions: &[InstitutionCode],
    context: Context<'_>,
) -> Result<(), Rejection> {
    for code in institutions {
        if !context.directory.takes_in(code) {
            return Err(Rejection::unknown_institution(
                "copied.institutions",
                code.as_str(),
            ));
        }
        if !complaint.copies.contains(code) {
            complaint.copies.push(code.clone());
        }
    }
    Ok(())
}

/// Into another complaint that is here and was not itself merged: whoever
/// follows the link finds where the matter goes on.
fn merge(
    complaint: &mut Complaint,
    into: ComplaintId,
    kind: &str,
    context: Context<'_>,
) -> Result<(), Rejection> {
    let target = context.merge_target.filter(|target| target.id == into);
    let Some(target) = target else {
        return Err(Rejection::invalid(
            "merged.into_complaint_id",
            "there is no such complaint",
        ));
    };
    if target.merged_into.is_some() {
        return Err(Rejection::illegal_move(
            kind,
            target.status,
            "Name the complaint that it was merged into.",
            "Sebutkan laporan gabungannya.",
        ));
    }
    complaint.merged_into = Some(into);
    complaint.status = Status::Merged;
    Ok(())
}

fn reopen(complaint: &mut Complaint, kind: &str, context: Context<'_>) -> Result<(), Rejection> {
    if complaint.status.is_open() {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "It is open.",
            "Laporan masih terbuka.",
        ));
    }
    if complaint.status == Status::Merged {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "Go on with the complaint that it was merged into.",
            "Lanjutkan pada laporan gabungannya.",
        ));
    }
    set_reopened(complaint, context);
    Ok(())
}

fn set_reopened(complaint: &mut Complaint, context: Context<'_>) {
    let is_reachable = complaint
        .handler
        .as_ref()
        .is_some_and(|handler| context.directory.reader_of(handler).is_some());
    if !is_reachable {
        complaint.handler = None;
    }
    complaint.status = match (&complaint.handler, complaint.verified) {
        (Some(_), _) => Status::InProgress,
        (None, true) => Status::Verified,
        (None, false) => Status::Received,
    };
    complaint.answer_missing = false;
}

/// A legacy site knows only a status column: its new code *is* the move, if
/// the sender may make it. It may skip steps forwards and never goes back,
/// except to reopen; the first status met is the baseline.
fn mirror(
    complaint: &mut Complaint,
    event: &Event,
    declined: bool,
    ignored: bool,
    standing: &Standing,
    context: Context<'_>,
) -> Result<(), Rejection> {
    let kind = event.body.kind();
    let mapped = event.local_status.as_ref().and_then(|local| local.mapped);
    if !complaint.mirrored.contains(&event.party) {
        complaint.mirrored.push(event.party.clone());
        return Ok(());
    }
    if ignored {
        return Ok(());
    }
    if declined {
        standing.require_owner(kind)?;
        if !complaint.status.is_open() {
            return Err(Rejection::illegal_move(kind, complaint.status, "", ""));
        }
        return decline(complaint, None, kind, context);
    }
    let Some(wanted) = mapped.filter(|wanted| *wanted != complaint.status) else {
        return Ok(());
    };
    if matches!(wanted, Status::Merged | Status::Escalated) || complaint.status == Status::Merged {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "A status column can't merge or escalate.",
            "Kolom status tidak dapat menggabungkan atau meneruskan laporan.",
        ));
    }
    if !complaint.status.is_open() {
        if wanted.is_open() {
            set_reopened(complaint, context);
            return Ok(());
        }
        standing.require_owner(kind)?;
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "Reopen it first.",
            "Buka kembali laporan ini lebih dahulu.",
        ));
    }
    standing.require_owner(kind)?;
    if rank(wanted) < rank(complaint.status) {
        return Err(Rejection::illegal_move(
            kind,
            complaint.status,
            "A mirrored status never moves a complaint back.",
            "Status tidak pernah memundurkan laporan.",
        ));
    }
    complaint.verified |= wanted == Status::Verified;
    match wanted {
        Status::Responded => complaint.answered = true,
        Status::Closed => complaint.answer_missing = !complaint.answered,
        _ => {}
    }
    complaint.status = wanted;
    Ok(())
}

/// How far along a status is; equal ranks may follow each other either way.
pub(super) fn rank(status: Status) -> u8 {
    match status {
        Status::Received => 0,
        Status::Verified => 1,
        Status::Forwarded => 2,
        Status::InProgress | Status::AwaitingReporter | Status::Postponed => 3,
        Status::Responded => 4,
        Status::Closed | Status::Archived | Status::Merged | Status::Escalated => 5,
    }
}
