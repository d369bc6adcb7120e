//! Who is told: every other participant, each revision once and in order.

use std::collections::BTreeMap;

use crate::domain::{Complaint, Directory, Event, EventBody, PartKind, Participant, PartyId, Role};

use super::{Context, Telling};

/// Kinds of parts of this complaint's events that a party may read in a role.
/// The reporter of an anonymous complaint never reaches the handler.
pub fn readable_parts(complaint: &Complaint, reader: &PartyId, role: Role) -> Vec<PartKind> {
    let is_origin = &complaint.origin == reader;
    let by_role = matches!(role, Role::Handler | Role::Triage);
    if is_origin || (by_role && !complaint.anonymous) {
        vec![PartKind::Content, PartKind::Reporter]
    } else {
        vec![PartKind::Content]
    }
}

/// Brings the participants up to date and says who is told what.
pub(super) fn tell(
    before: Option<&Complaint>,
    after: &mut Complaint,
    event: &Event,
    context: Context<'_>,
) -> Vec<Telling> {
    let (author, directory) = (&event.party, context.directory);
    let revision = after.revision;
    let was = before
        .map(|before| roles(before, directory))
        .unwrap_or_default();
    let is = roles(after, directory);

    // Whoever stops taking part gets the event that relieves it, and nothing
    // later; also one whose institution has gone to another party meanwhile.
    let active = before.map(|before| before.participants.iter().filter(|found| found.active));
    let relieved = active.into_iter().flatten().map(|found| &found.party);
    let relieved = relieved.filter(|party| !is.contains_key(*party));
    let relieved = relieved.map(|party| {
        let role = match was.get(party) {
            Some(Role::Handler | Role::Triage) | None => Role::FormerHandler,
            Some(other) => *other,
        };
        (party.clone(), role, false)
    });
    let mut told: Vec<(PartyId, Role, bool)> = relieved.collect();
    told.extend(is.iter().map(|(party, role)| (party.clone(), *role, true)));
    if !told.iter().any(|(party, ..)| party == author) {
        // Its registration as an observer ended meanwhile, say: it knows its
        // own event, and nothing later.
        told.push((author.clone(), Role::Observer, false));
    }
    if let (EventBody::Merged { .. }, Some(target)) = (&event.body, context.merge_target) {
        // Who takes part in the complaint that goes on gets the history of the
        // one that ends in it.
        for participant in target.participants.iter().filter(|found| found.active) {
            if !told.iter().any(|(party, ..)| party == &participant.party) {
                told.push((participant.party.clone(), Role::Copy, false));
            }
        }
    }

    let mut tellings = Vec::new();
    if let EventBody::PartErased { .. } = event.body {
        // An erasure reaches everybody who ever held the complaint. Who left
        // it is told this one thing: it goes on standing where it left.
        for place in 0..after.participants.len() {
            let Participant {
                party,
                told_through,
                ..
            } = after.participants[place].clone();
            if told.iter().any(|(told, ..)| told == &party) {
                continue;
            }
            if told_through + 1 == revision {
                after.participants[place].told_through = revision;
            }
            tellings.push(Telling {
                readable_parts: readable_parts(after, &party, Role::FormerHandler),
                party,
                role: Role::FormerHandler,
                from_revision: revision,
                through_revision: revision,
            });
        }
    }
    for (party, role, active) in told {
        let place = after
            .participants
            .iter()
            .position(|participant| participant.party == party);
        let told_through = place.map_or(0, |place| after.participants[place].told_through);
        let through_revision = if &party == author {
            revision - 1
        } else {
            revision
        };
        if told_through < through_revision {
            tellings.push(Telling {
                readable_parts: readable_parts(after, &party, role),
                party: party.clone(),
                role,
                from_revision: told_through + 1,
                through_revision,
            });
        }
        let participant = Participant {
            party,
            told_through: revision,
            active,
        };
        match place {
            Some(place) => after.participants[place] = participant,
            None => after.participants.push(participant),
        }
    }
    tellings
}

/// Brings the participants in line with a directory that has changed, without
/// an event: whoever takes part now and has not been told gets what it has not
/// had; whoever takes part no longer is told nothing later.
pub fn catch_up(complaint: &mut Complaint, directory: &Directory) -> Vec<Telling> {
    let is = roles(complaint, directory);
    for participant in &mut complaint.participants {
        participant.active = is.contains_key(&participant.party);
    }
    let revision = complaint.revision;
    let mut tellings = Vec::new();
    for (party, role) in is {
        let found = complaint
            .participants
            .iter_mut()
            .find(|participant| participant.party == party);
        let told_through = match found {
            Some(found) => std::mem::replace(&mut found.told_through, revision),
            None => {
                complaint.participants.push(Participant {
                    party: party.clone(),
                    told_through: revision,
                    active: true,
                });
                0
            }
        };
        if told_through < revision {
            tellings.push(Telling {
                readable_parts: readable_parts(complaint, &party, role),
                party,
                role,
                from_revision: told_through + 1,
                through_revision: revision,
            });
        }
    }
    tellings
}

/// Every participant of a complaint with its strongest role.
fn roles(complaint: &Complaint, directory: &Directory) -> BTreeMap<PartyId, Role> {
    let mut roles = BTreeMap::new();
    for (id, party) in &directory.parties {
        if !party.enabled {
            continue;
        }
        let watches_handler = complaint.handler.as_ref().is_some_and(|handler| {
            party
                .observes_institutions
                .iter()
                .any(|above| directory.is_within(handler, above))
        });
        if party.observes_all || watches_handler {
            roles.insert(id.clone(), Role::Observer);
        }
    }
    for copy in &complaint.copies {
        if let Some(reader) = directory.reader_of(copy) {
            roles.insert(reader.clone(), Role::Copy);
        }
    }
    match &complaint.handler {
        None => {
            if let Some(national) = directory.triage_reader() {
                roles.insert(national.clone(), Role::Triage);
            }
        }
        Some(handler) => {
            if let Some(reader) = directory.reader_of(handler) {
                roles.insert(reader.clone(), Role::Handler);
            }
        }
    }
    // The national desk that has overruled here goes on seeing what comes of it.
    if complaint.overruled
        && let Some(national) = directory.triage_reader()
    {
        roles.entry(national.clone()).or_insert(Role::Observer);
    }
    // The origin relays the reporter, whoever handles it.
    let origin_role = roles.get(&complaint.origin).copied();
    if !matches!(origin_role, Some(Role::Handler | Role::Triage)) {
        roles.insert(complaint.origin.clone(), Role::Origin);
    }
    roles
}
