//! The moves that matter, one by one.

use super::*;
use crate::domain::ArchiveReason;

/// Scenario: filings of each handling.
/// Guarantee: "we do", "this institution", "please route" find their owner; a
/// filing that nobody can be found for stands in triage and is never refused.
#[test]
fn a_filing_finds_its_owner() {
    let owner = |handling, to| Story::begin(filed(handling, to)).complaint.handler;
    assert_eq!(owner(Handling::Own, None), Some(code(1)));
    assert_eq!(owner(Handling::Addressed, Some(2)), Some(code(2)));
    assert_eq!(owner(Handling::Route, None), None);
}

/// Scenario: bukan wewenang, with and without a suggestion.
/// Guarantee: it goes to the one suggested if somebody reads there, else to
/// triage; another party may not decline.
#[test]
fn declining_finds_the_next_owner() {
    let owner = |suggested| {
        let mut story = Story::at_the_city();
        story.say(2, declined(suggested)).unwrap();
        story.complaint.handler
    };
    assert_eq!(owner(Some(3)), Some(code(3)));
    assert_eq!(owner(None), None);
    assert_eq!(owner(Some(2)), None, "not back to itself");
    let other = Story::at_the_city().say(1, declined(None));
    assert_eq!(other, Err(RejectionReason::NotPermitted));
    let stranger = Story::at_the_city().say(3, declined(None));
    assert_eq!(
        stranger,
        Err(RejectionReason::UnknownComplaint),
        "they look alike"
    );
}

/// Scenario: closing with an answer, with a text, with nothing; rating;
/// reopening by the origin, by the handler, and of what is open.
/// Guarantee: closing without any answer is refused (and marked only when it
/// is mirrored); a text with it is the answer; only 1 to 5 stars, for an answer
/// only; reopening is the origin's, and keeps the owner and the answer.
#[test]
fn an_end_and_a_new_beginning() {
    let mut story = Story::at_the_city();
    let bare = Event {
        parts: Vec::new(),
        ..story.event(2, EventBody::Closed)
    };
    let refused = story.decide(&bare).map(|complaint| complaint.status);
    assert_eq!(refused, Err(RejectionReason::IllegalMove));
    let early = story.say(1, EventBody::Rated { stars: 5 });
    assert_eq!(early, Err(RejectionReason::IllegalMove));
    story.mirror(2, Status::Received).unwrap();
    assert_eq!(story.mirror(2, Status::Closed), Ok(Status::Closed));
    assert!(story.complaint.answer_missing, "mirrored: marked");

    let mut story = Story::at_the_city();
    assert_eq!(story.say(2, EventBody::Closed), Ok(Status::Closed));
    assert!(story.complaint.answered && !story.complaint.answer_missing);

    let mut story = Story::at_the_city();
    story.say(2, responded()).unwrap();
    let bare = Event {
        parts: Vec::new(),
        ..story.event(2, EventBody::Closed)
    };
    assert_eq!(story.decide(&bare).unwrap().status, Status::Closed);
    for (stars, outcome) in [
        (1, Ok(Status::Closed)),
        (5, Ok(Status::Closed)),
        (0, Err(RejectionReason::InvalidEvent)),
        (6, Err(RejectionReason::InvalidEvent)),
    ] {
        assert_eq!(story.say(1, EventBody::Rated { stars }), outcome, "{stars}");
    }
    for refused in [progress(), responded(), forwarded(3), EventBody::Closed] {
        assert_eq!(story.say(2, refused), Err(RejectionReason::IllegalMove));
    }
    let by_handler = story.say(2, EventBody::Reopened);
    assert_eq!(by_handler, Err(RejectionReason::NotPermitted));
    assert_eq!(story.say(1, EventBody::Reopened), Ok(Status::InProgress));
    assert_eq!(story.complaint.handler, Some(code(2)));
    assert!(story.complaint.answered);
    let again = story.say(1, EventBody::Reopened);
    assert_eq!(again, Err(RejectionReason::IllegalMove));
}

/// Scenario: reports that come late: verified and started after the answer,
/// progress after the answer.
/// Guarantee: accepted, and the complaint stays where it is.
#[test]
fn late_reports_move_nothing_back() {
    let mut story = Story::at_the_city();
    story.say(2, responded()).unwrap();
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    for late in [EventBody::Verified, started, progress()] {
        assert_eq!(story.say(2, late), Ok(Status::Responded));
    }
    assert!(story.complaint.verified);
    assert_eq!(story.complaint.unit, "DPU");
}

/// Scenario: two institutions pass a complaint to each other; after the limit
/// it stands in triage; the national desk decides; the new handler declines.
/// Guarantee: hops are counted and end in triage with the history; the national
/// desk alone forwards from there, and from then on every "not mine" goes back
/// to it.
#[test]
fn hops_end_in_triage_and_the_national_desk_decides() {
    let mut story = Story::at_the_city();
    assert_eq!(story.policy.max_hops, 5);
    for hop in 1..=5 {
        let (from, to) = if hop % 2 == 1 { (2, 3) } else { (3, 2) };
        story.say(from, declined(Some(to))).unwrap();
        assert_eq!(story.complaint.handler, Some(code(to)), "hop {hop}");
    }
    assert_eq!(story.say(3, forwarded(2)), Ok(Status::Received));
    assert_eq!(
        (story.complaint.handler.clone(), story.complaint.hops),
        (None, 6)
    );
    let passed_on = story.say(3, forwarded(2));
    assert!(passed_on.is_err(), "relieved: {passed_on:?}");
    assert_eq!(story.say(0, forwarded(2)), Ok(Status::Forwarded));
    assert_eq!(story.complaint.handler, Some(code(2)));
    story.say(2, declined(Some(3))).unwrap();
    assert_eq!((story.complaint.handler, story.complaint.hops), (None, 8));
}

/// Scenario: merging, by whom and into what.
/// Guarantee: the national desk alone, into a complaint that exists, is another
/// one and was not merged itself; what was merged is not reopened.
#[test]
fn merging_is_the_national_desks() {
    let mut target = Story::at_the_city().complaint;
    let system = SystemName::parse("sistem").unwrap();
    target.id = ComplaintId::derive(&party(1), &system, &Reference::parse("B-1").unwrap());
    let merged = || EventBody::Merged { into: target.id };
    let mut story = Story::at_the_city();
    let nowhere = story.say(0, merged());
    assert_eq!(nowhere, Err(RejectionReason::InvalidEvent));
    story.merge_target = Some(target.clone());
    let itself = EventBody::Merged {
        into: story.complaint.id,
    };
    assert_eq!(story.say(0, itself), Err(RejectionReason::InvalidEvent));
    assert_eq!(story.say(2, merged()), Err(RejectionReason::NotPermitted));
    story.merge_target.as_mut().unwrap().merged_into = Some(story.complaint.id);
    assert_eq!(story.say(0, merged()), Err(RejectionReason::IllegalMove));
    story.merge_target = Some(target.clone());
    assert_eq!(story.say(0, merged()), Ok(Status::Merged));
    assert_eq!(story.complaint.merged_into, Some(target.id));
    let reopened = story.say(1, EventBody::Reopened);
    assert_eq!(reopened, Err(RejectionReason::IllegalMove));
}

/// Scenario: escalating to the Ombudsman without and with the reporter's
/// consent, by the origin and by the handler, from open and from closed.
/// Guarantee: only with consent, only by who relays the reporter; also after
/// the end, and once.
#[test]
fn escalating_needs_the_reporters_consent() {
    let escalated = |consent| EventBody::Escalated { consent };
    let mut story = Story::at_the_city();
    let without = story.say(1, escalated(false));
    assert_eq!(without, Err(RejectionReason::InvalidEvent));
    let by_handler = story.say(2, escalated(true));
    assert_eq!(by_handler, Err(RejectionReason::NotPermitted));
    story.say(2, EventBody::Closed).unwrap();
    assert_eq!(story.say(1, escalated(true)), Ok(Status::Escalated));
    let again = story.say(1, escalated(true));
    assert_eq!(again, Err(RejectionReason::IllegalMove));
}

/// Scenario: a party with two institutions, of which one is the handler, acts
/// for it, for the other one, and for one that is not its own; another files
/// in the name of somebody else's.
/// Guarantee: the handler's move is made on behalf of the handler; an
/// institution of somebody else is refused by name.
#[test]
fn a_party_acts_for_its_own_institutions_only() {
    let mut directory = directory();
    let second = InstitutionCode::parse("dinas-kota").unwrap();
    directory.institutions.insert(
        second.clone(),
        Institution {
            code: second.clone(),
            name: String::new(),
            parent: Some(code(2)),
            party: party(2),
            region: None,
            enabled: true,
        },
    );
    let filing = filed(Handling::Addressed, Some(2));
    let policy = Policy::default();
    let foreign = Event {
        acting_institution: Some(code(3)),
        ..event(1, 0, filing.clone())
    };
    let context = Context {
        directory: &directory,
        policy: &policy,
        merge_target: None,
    };
    let refused = decide(None, &foreign, context).unwrap_err();
    assert_eq!(refused.reason, RejectionReason::UnknownInstitution);
    let mut story = Story::with(directory, policy, filing);
    let mut act = |acting: Option<InstitutionCode>| {
        let event = Event {
            acting_institution: acting,
            ..story.event(2, EventBody::Verified)
        };
        story.decide(&event).map(|complaint| complaint.status)
    };
    assert_eq!(act(Some(code(3))), Err(RejectionReason::UnknownInstitution));
    assert_eq!(act(Some(second)), Err(RejectionReason::NotPermitted));
    assert_eq!(act(Some(code(2))), Ok(Status::Verified));
    assert_eq!(act(None), Ok(Status::Verified));
}

/// Scenario: an expected revision that is current, that only the author has
/// moved on since, that somebody else has, and one that is not there yet.
/// Guarantee: holds, holds, stale with the current revision, stale.
#[test]
fn an_expected_revision_holds_while_only_its_author_went_on() {
    let mut story = Story::at_the_city();
    let say = |story: &mut Story, author, body, expected| {
        let event = Event {
            expected_revision: Some(expected),
            ..story.event(author, body)
        };
        let context = Context {
            directory: &story.directory,
            policy: &story.policy,
            merge_target: None,
        };
        let outcome = decide(Some(&story.complaint), &event, context);
        outcome.map(|verdict| story.complaint = verdict.complaint)
    };
    say(&mut story, 2, EventBody::Verified, 1).unwrap();
    say(&mut story, 2, progress(), 1).unwrap();
    let reply = || EventBody::ReporterReplied {
        attachments: Vec::new(),
    };
    for expected in [1, 2, 4] {
        let stale = say(&mut story, 1, reply(), expected).unwrap_err();
        assert_eq!(stale.reason, RejectionReason::StaleRevision, "{expected}");
        assert_eq!(stale.current_revision, Some(3));
        assert_eq!(stale.fields, ["expected_revision"]);
    }
    say(&mut story, 1, reply(), 3).unwrap();
    let stale = say(&mut story, 2, progress(), 3).unwrap_err();
    assert_eq!(stale.current_revision, Some(4));
}

/// Scenario: a complaint has as many events as one may have.
/// Guarantee: the limit is 1 000 by policy; then another event is refused, but
/// it can still be ended, and what the law wants erased is erased.
#[test]
fn a_full_complaint_takes_only_its_end_and_erasures() {
    assert_eq!(Policy::default().events_per_complaint, 1_000);
    let policy = Policy {
        events_per_complaint: 3,
        ..Policy::default()
    };
    let filing = filed(Handling::Addressed, Some(2));
    let mut story = Story::with(directory(), policy, filing);
    story.say(2, progress()).unwrap();
    story.say(2, progress()).unwrap();
    let full = Err(RejectionReason::TooManyEvents);
    assert_eq!(story.say(2, progress()), full);
    assert_eq!(story.say(1, EventBody::Unknown), full);
    assert_eq!(story.say(2, EventBody::Closed), Ok(Status::Closed));
    assert_eq!(story.say(1, EventBody::Reopened), full);
    assert_eq!(story.say(1, erased()), Ok(Status::Closed));
}

/// Scenario: an unknown kind of event, by a participant and by a stranger.
/// Guarantee: it takes a revision, changes nothing and is told on; the stranger
/// meets an unknown complaint.
#[test]
fn an_unknown_kind_is_numbered_and_passed_on() {
    let mut story = Story::at_the_city();
    assert_eq!(story.say(2, EventBody::Unknown), Ok(Status::Received));
    assert_eq!(story.complaint.revision, 2);
    assert_eq!(story.told(), [(1, crate::domain::Role::Origin, 2, 2)]);
    let stranger = story.say(3, EventBody::Unknown);
    assert_eq!(stranger, Err(RejectionReason::UnknownComplaint));
    let archived = EventBody::Archived {
        reason: ArchiveReason::Unclear,
    };
    assert_eq!(story.say(2, archived), Ok(Status::Archived));
}

/// Scenario: an institution is disabled while it has a complaint; others are
/// filed to it, forwarded to it, suggested and copied to it.
/// Guarantee: what it has stays with it and can be handled to its end; nothing
/// new goes to it: a filing goes to triage, a forwarding is told why not.
#[test]
fn a_disabled_institution_keeps_what_it_has_and_gets_no_more() {
    let policy = Policy::default();
    let mut directory = directory();
    let decide = |directory: &Directory, before: Option<&Complaint>, author, key, body| {
        let context = Context {
            directory,
            policy: &policy,
            merge_target: None,
        };
        decide(before, &event(author, key, body), context)
            .map(|verdict| verdict.complaint)
            .map_err(|rejection| rejection.reason)
    };
    let to_two = || filed(Handling::Addressed, Some(2));
    let had = decide(&directory, None, 1, 0, to_two()).unwrap();
    let elsewhere = filed(Handling::Addressed, Some(3));
    let elsewhere = decide(&directory, None, 1, 0, elsewhere).unwrap();
    directory.institutions.get_mut(&code(2)).unwrap().enabled = false;

    let within = EventBody::Forwarded {
        institution: None,
        unit: "DPU".to_owned(),
    };
    let had = decide(&directory, Some(&had), 2, 1, within).unwrap();
    let started = EventBody::HandlingStarted {
        unit: String::new(),
    };
    let had = decide(&directory, Some(&had), 2, 2, started).unwrap();
    assert_eq!(had.handler, Some(code(2)));

    let new = decide(&directory, None, 1, 0, to_two()).unwrap();
    assert_eq!(new.handler, None, "triage");
    let forwarded = EventBody::Forwarded {
        institution: Some(code(2)),
        unit: String::new(),
    };
    let refused = decide(&directory, Some(&elsewhere), 3, 3, forwarded);
    assert_eq!(refused, Err(RejectionReason::UnknownInstitution));
    let declined = EventBody::Declined {
        suggested_institution: Some(code(2)),
    };
    let declined = decide(&directory, Some(&elsewhere), 3, 4, declined).unwrap();
    assert_eq!(declined.handler, None, "triage");
}
