//! Who is told what, and who may read which parts.

use super::*;
use crate::domain::{Role, decide::readable_parts};

fn copied(to: usize) -> EventBody {
    EventBody::Copied {
        institutions: vec![code(to)],
    }
}

/// Scenario: an observer of everything, and a province that observes the
/// institutions under it; the complaint moves out of the province.
/// Guarantee: both are told from the first event on, read only; the province's
/// last word is the move that takes it away.
#[test]
fn observers_are_told_and_may_do_nothing() {
    let mut directory = directory();
    let observer = |place| Party {
        observes_all: place == 0,
        observes_institutions: if place == 3 {
            vec![code(1)]
        } else {
            Vec::new()
        },
        ..directory.parties[&party(place)].clone()
    };
    let (all, province) = (observer(0), observer(3));
    directory.parties.insert(party(0), all);
    directory.parties.insert(party(3), province);
    directory.institutions.get_mut(&code(2)).unwrap().parent = Some(code(1));
    let filing = filed(Handling::Addressed, Some(2));
    let mut story = Story::with(directory, Policy::default(), filing);
    let observers = [(0, Role::Observer, 1, 1), (2, Role::Handler, 1, 1)];
    assert_eq!(story.told()[..2], observers);
    assert_eq!(story.told()[2], (3, Role::Observer, 1, 1));
    for body in [progress(), EventBody::Unknown] {
        let refused = story.say(3, body);
        assert_eq!(refused, Err(RejectionReason::NotPermitted));
    }
    story.say(2, declined(None)).unwrap();
    let told = [
        (0, Role::Triage, 2, 2),
        (1, Role::Origin, 2, 2),
        (3, Role::Observer, 2, 2),
    ];
    assert_eq!(story.told(), told);
    story.say(0, EventBody::Verified).unwrap();
    assert_eq!(story.told(), [(1, Role::Origin, 3, 3)]);
}

/// Scenario: tembusan to the ministry in the middle of a life.
/// Guarantee: it first gets what it has not had, then each event; it reads the
/// texts, never the reporter, and may do nothing.
#[test]
fn a_copy_begins_with_the_whole_history() {
    let mut story = Story::at_the_city();
    story.say(2, EventBody::Verified).unwrap();
    story.say(2, copied(3)).unwrap();
    let told = [(1, Role::Origin, 3, 3), (3, Role::Copy, 1, 3)];
    assert_eq!(story.told(), told);
    story.say(2, progress()).unwrap();
    assert_eq!(story.told()[1], (3, Role::Copy, 4, 4));
    let verdict = story.last.as_ref().unwrap();
    let copy = verdict
        .tellings
        .iter()
        .find(|found| found.party == party(3));
    assert_eq!(copy.unwrap().readable_parts, [PartKind::Content]);
    let refused = story.say(3, progress());
    assert_eq!(refused, Err(RejectionReason::NotPermitted));
}

/// Scenario: the handler declines; others work on; then it is given the
/// complaint again.
/// Guarantee: it authored what relieves it and is told nothing later; when it
/// is back it gets what it missed, each revision once.
#[test]
fn a_former_handler_is_told_nothing_later() {
    let mut story = Story::at_the_city();
    story.say(2, declined(Some(3))).unwrap();
    assert_eq!(
        story.told(),
        [(1, Role::Origin, 2, 2), (3, Role::Handler, 1, 2)]
    );
    story.say(3, progress()).unwrap();
    assert_eq!(story.told(), [(1, Role::Origin, 3, 3)]);
    assert!(story.say(2, progress()).is_err(), "it is relieved");
    // Relieved by somebody else, it gets that event.
    story.say(0, forwarded(2)).unwrap();
    let told = [
        (0, Role::Observer, 1, 3),
        (1, Role::Origin, 4, 4),
        (2, Role::Handler, 3, 4),
        (3, Role::FormerHandler, 4, 4),
    ];
    assert_eq!(story.told(), told);
}

/// Scenario: a handler declined, and another one works; then the origin erases
/// a part; then the former handler gets the complaint back.
/// Guarantee: the erasure alone reaches it meanwhile, and later it has every
/// revision.
#[test]
fn an_erasure_reaches_a_former_handler() {
    let mut story = Story::at_the_city();
    story.say(2, declined(Some(3))).unwrap();
    story.say(3, progress()).unwrap();
    story.say(1, erased()).unwrap();
    let told = [(2, Role::FormerHandler, 4, 4), (3, Role::Handler, 4, 4)];
    assert_eq!(story.told(), told);
    story.say(3, declined(Some(2))).unwrap();
    assert_eq!(
        story.told(),
        [(1, Role::Origin, 5, 5), (2, Role::Handler, 3, 5)]
    );
    for nobody in [2, 3] {
        let refused = story.say(nobody, erased());
        assert!(refused.is_err(), "origin and national desk only");
    }
}

/// Scenario: the national desk overrules what never stood before it; then the
/// handler works on.
/// Guarantee: it is told what it had not had and takes part from then on; it
/// reads texts, not the reporter.
#[test]
fn overruling_is_taking_part() {
    let mut story = Story::at_the_city();
    story.say(2, progress()).unwrap();
    story.say(0, forwarded(3)).unwrap();
    assert_eq!(story.told()[0], (0, Role::Observer, 1, 2));
    let verdict = story.last.as_ref().unwrap();
    assert_eq!(
        verdict
            .tellings
            .iter()
            .filter(|t| t.party == party(0))
            .count(),
        1
    );
    let desk = verdict
        .tellings
        .iter()
        .find(|t| t.party == party(0))
        .unwrap();
    assert_eq!(desk.readable_parts, [PartKind::Content]);
    story.say(3, progress()).unwrap();
    assert_eq!(story.told()[0], (0, Role::Observer, 4, 4));
}

/// Scenario: a complaint of the province is merged into one of the ministry.
/// Guarantee: its own participants are told of the merger; those of the other
/// one get its history up to it, and nothing later.
#[test]
fn a_merger_is_told_to_both_sides() {
    let mut target = Story::begin(filed(Handling::Addressed, Some(3))).complaint;
    let system = SystemName::parse("sistem").unwrap();
    target.id = ComplaintId::derive(&party(3), &system, &Reference::parse("B-1").unwrap());
    let mut story = Story::at_the_city();
    let into = target.id;
    story.merge_target = Some(target);
    story.say(0, EventBody::Merged { into }).unwrap();
    let told = [
        (0, Role::Observer, 1, 1),
        (1, Role::Origin, 2, 2),
        (2, Role::Handler, 2, 2),
        (3, Role::Copy, 1, 2),
    ];
    assert_eq!(story.told(), told);
    let hidden = EventBody::VisibilityChanged {
        anonymous: Some(true),
        confidential: None,
    };
    story.say(1, hidden).unwrap();
    let told = [(0, Role::Observer, 3, 3), (2, Role::Handler, 3, 3)];
    assert_eq!(story.told(), told);
}

/// Scenario: every role, for a complaint with a name and for an anonymous one.
/// Guarantee: everybody who is told reads the texts; the reporter is for the
/// origin, and for handler and triage unless the complaint is anonymous.
#[test]
fn parts_are_withheld_by_role() {
    let open = Story::at_the_city().complaint;
    let anonymous = Complaint {
        anonymous: true,
        ..open.clone()
    };
    let roles = [
        (2, Role::Handler, true),
        (0, Role::Triage, true),
        (3, Role::Copy, false),
        (3, Role::Observer, false),
        (2, Role::FormerHandler, false),
    ];
    for (place, role, reads_reporter) in roles {
        let named = readable_parts(&open, &party(place), role);
        assert!(named.contains(&PartKind::Content), "{role:?}");
        let is_read = named.contains(&PartKind::Reporter);
        assert_eq!(is_read, reads_reporter, "{role:?}");
        let hidden = readable_parts(&anonymous, &party(place), role);
        assert_eq!(hidden, [PartKind::Content], "{role:?}");
    }
    let origin = readable_parts(&anonymous, &party(1), Role::Origin);
    assert!(origin.contains(&PartKind::Reporter));
}
