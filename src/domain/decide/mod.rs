//! Given a complaint and an event: what happens. Pure: the same answer for
//! the same input, on every replica and on every repetition.

mod checks;
mod filing;
mod moves;
mod standing;
mod telling;
#[cfg(test)]
mod tests;

use super::{Complaint, Directory, Event, EventBody, PartKind, PartyId, Policy, Rejection, Role};
use standing::Standing;

pub use checks::check_identity;
pub use telling::{catch_up, readable_parts};

/// What deciding needs to know beside the complaint and the event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Who takes part.
    pub directory: &'a Directory,
    /// The operator's numbers.
    pub policy: &'a Policy,
    /// The complaint that a merging event names as the one that goes on, if
    /// there is one of that id.
    pub merge_target: Option<&'a Complaint>,
}

/// The event holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The complaint after it.
    pub complaint: Complaint,
    /// Who is told which revisions; never the author about its own event.
    pub tellings: Vec<Telling>,
}

/// One party is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// Who.
    pub party: PartyId,
    /// Why.
    pub role: Role,
    /// First revision that it has not had; equal to the last one unless the
    /// party begins to take part now.
    pub from_revision: u32,
    /// Last revision that it is told now.
    pub through_revision: u32,
    /// Kinds of parts that it may read.
    pub readable_parts: Vec<PartKind>,
}

/// Decides one event of a party that [`check_identity`] has confirmed.
///
/// # Errors
/// Why the event does not hold; the complaint stays as it was.
pub fn decide(
    known: Option<&Complaint>,
    event: &Event,
    context: Context<'_>,
) -> Result<Verdict, Rejection> {
    checks::check_fields(event, context.policy)?;
    let Some(before) = known else {
        let mut filed = filing::file(event, context)?;
        let tellings = telling::tell(None, &mut filed, event, context);
        return Ok(Verdict {
            complaint: filed,
            tellings,
        });
    };
    let standing = Standing::of(before, event, context.directory);
    if !standing.takes_part() {
        return Err(Rejection::unknown_complaint());
    }
    if let EventBody::Filed { .. } = event.body {
        return Err(Rejection::illegal_move(
            "filed",
            before.status,
            "It is filed already: send an event.",
            "Laporan sudah ada: kirim kejadian.",
        ));
    }
    standing.check_acting(event)?;
    standing.check_may_speak(event.body.kind())?;
    if before.revision >= context.policy.events_per_complaint && !fits_always(&event.body) {
        return Err(Rejection::too_many_events(
            context.policy.events_per_complaint,
        ));
    }
    check_expected_revision(before, event)?;

    let mut after = before.clone();
    moves::apply(&mut after, event, &standing, context)?;
    after.revision += 1;
    after.overruled |= standing.overrules();
    if after.run_author != event.party {
        after.run_author = event.party.clone();
        after.run_start = after.revision;
    }
    let tellings = telling::tell(Some(before), &mut after, event, context);
    Ok(Verdict {
        complaint: after,
        tellings,
    })
}

/// What may happen to a complaint that is full: it ends (once: reopening needs
/// room), and the law's erasures know no limit.
fn fits_always(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Closed
            | EventBody::Archived { .. }
            | EventBody::Withdrawn
            | EventBody::Merged { .. }
            | EventBody::PartErased { .. }
    )
}

/// An expected revision holds if every later revision is by the same party.
fn check_expected_revision(complaint: &Complaint, event: &Event) -> Result<(), Rejection> {
    let Some(expected) = event.expected_revision else {
        return Ok(());
    };
    let is_current = expected == complaint.revision;
    let only_own_since = complaint.run_author == event.party
        && expected < complaint.revision
        && expected + 1 >= complaint.run_start;
    if is_current || only_own_since {
        Ok(())
    } else {
        Err(Rejection::stale(expected, complaint.revision))
    }
}
