//! Given a complaint and an event: what happens.

use super::{
    Complaint, Directory, Event, PartKind, PartyId, Policy, Rejection, RejectionReason, Role,
};

/// What deciding needs to know beside the complaint and the event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Who takes part.
    pub directory: &'a Directory,
    /// The operator's numbers.
    pub policy: &'a Policy,
}

/// The event holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The complaint after it.
    pub complaint: Complaint,
    /// Who is told, and which revisions; never the author for its own event.
    pub tellings: Vec<Telling>,
}

/// One party is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// Who.
    pub party: PartyId,
    /// Why.
    pub role: Role,
    /// First revision that it has not had; equal to the complaint's revision
    /// unless the party begins to take part now.
    pub from_revision: u32,
    /// Kinds of parts that it may read.
    pub readable_parts: Vec<PartKind>,
}

/// Whether the ids and the party that an event names fit the party of the
/// certificate (or door) that it came through.
///
/// # Errors
/// [`RejectionReason::ForgedId`].
pub fn check_identity(event: &Event, party: &PartyId) -> Result<(), Rejection> {
    let _ = (event, party, RejectionReason::ForgedId);
    Ok(())
}

/// Kinds of parts of this complaint's events that a party may read in a role.
pub fn readable_parts(complaint: &Complaint, reader: &PartyId, role: Role) -> Vec<PartKind> {
    let _ = (complaint, reader, role);
    vec![PartKind::Content, PartKind::Reporter]
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
    let _ = (known, event, context);
    Err(Rejection {
        reason: RejectionReason::UnknownComplaint,
        fields: Vec::new(),
        text_id: String::new(),
        text_en: String::new(),
        current_revision: None,
        digests: None,
    })
}
