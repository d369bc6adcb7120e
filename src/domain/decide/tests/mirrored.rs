//! A status column that is mirrored: every rule of it.

use super::*;
use crate::domain::decide::moves::rank;

/// A complaint that stands at the city with this status, whose column has had
/// its baseline.
fn standing(status: Status) -> Story {
    let mut story = Story::at_the_city();
    story.mirror(2, Status::Received).unwrap();
    story.complaint.status = status;
    story.complaint.answered = matches!(status, Status::Responded | Status::Closed);
    story
}

/// Scenario: the handler's column moves from each status to each other one.
/// Guarantee: forwards (also over steps) it is the move; to the same it is
/// nothing; backwards it is refused and nothing changes; from an end only to
/// reopen; merging and escalating never.
#[test]
fn skips_forwards_and_never_goes_back_but_to_reopen() {
    for from in Status::ALL {
        for to in Status::ALL {
            let mut story = standing(from);
            let before = story.complaint.clone();
            let outcome = story.mirror(2, to);
            let cannot_mirror = matches!(to, Status::Merged | Status::Escalated);
            let expected = if from == to {
                Ok(from)
            } else if cannot_mirror || from == Status::Merged {
                Err(RejectionReason::IllegalMove)
            } else if !from.is_open() && to.is_open() {
                // Opened again: it goes on at its handler.
                Ok(Status::InProgress)
            } else if !from.is_open() || rank(to) < rank(from) {
                Err(RejectionReason::IllegalMove)
            } else {
                Ok(to)
            };
            assert_eq!(outcome, expected, "{from:?} to {to:?}");
            if outcome.is_err() {
                assert_eq!(story.complaint, before, "{from:?} to {to:?}");
            }
        }
    }
}

/// Scenario: what is refused is followed by what is legal.
/// Guarantee: it never blocks the next one.
#[test]
fn what_is_refused_does_not_block_the_next() {
    let mut story = standing(Status::InProgress);
    let refused = story.mirror(2, Status::Received);
    assert_eq!(refused, Err(RejectionReason::IllegalMove));
    assert_eq!(story.mirror(2, Status::Responded), Ok(Status::Responded));
}

/// Scenario: the first status of a party's column, however far along, and the
/// next one; a filing that brings its local status with it.
/// Guarantee: the first is the baseline and moves nothing; the next is a move;
/// each party has a baseline of its own.
#[test]
fn the_first_status_met_is_the_baseline() {
    let mut story = Story::at_the_city();
    assert_eq!(story.mirror(2, Status::Closed), Ok(Status::Received));
    assert_eq!(story.mirror(1, Status::Closed), Ok(Status::Received));
    assert_eq!(story.mirror(2, Status::Verified), Ok(Status::Verified));
    assert!(story.complaint.verified);

    let filing = Event {
        local_status: Some(local(Status::Received)),
        ..event(1, 0, filed(Handling::Own, None))
    };
    let context = Context {
        directory: &story.directory,
        policy: &story.policy,
        merge_target: None,
    };
    story.complaint = decide(None, &filing, context).unwrap().complaint;
    assert_eq!(story.mirror(1, Status::InProgress), Ok(Status::InProgress));
}

/// Scenario: a column goes straight to closed; another one over an answer; a
/// third is opened again.
/// Guarantee: accepted each time; without an answer it is marked, with one it
/// is not, and opening again takes the mark away.
#[test]
fn closing_without_an_answer_is_accepted_and_marked() {
    let mut story = standing(Status::InProgress);
    assert_eq!(story.mirror(2, Status::Closed), Ok(Status::Closed));
    assert!(story.complaint.answer_missing);
    assert_eq!(story.mirror(2, Status::InProgress), Ok(Status::InProgress));
    assert!(!story.complaint.answer_missing);

    let mut story = standing(Status::InProgress);
    story.mirror(2, Status::Responded).unwrap();
    assert_eq!(story.mirror(2, Status::Closed), Ok(Status::Closed));
    assert!(!story.complaint.answer_missing);
}

/// Scenario: the mapping says that a code means nothing, or bukan wewenang.
/// Guarantee: ignored takes a revision and moves nothing; declined is that
/// move, for the handler alone, while the complaint is open and unanswered.
#[test]
fn a_mapping_may_ignore_or_decline() {
    let say = |story: &mut Story, author, declined| {
        let body = EventBody::StatusMirrored {
            declined,
            ignored: !declined,
        };
        let event = Event {
            local_status: Some(local(Status::Closed)),
            ..story.event(author, body)
        };
        story.decide(&event).map(|complaint| complaint.status)
    };
    let mut story = standing(Status::InProgress);
    let revision = story.complaint.revision;
    assert_eq!(say(&mut story, 2, false), Ok(Status::InProgress));
    assert_eq!(story.complaint.revision, revision + 1);
    story.mirror(1, Status::Received).unwrap();
    let by_origin = say(&mut story, 1, true);
    assert_eq!(by_origin, Err(RejectionReason::NotPermitted));
    assert_eq!(say(&mut story, 2, true), Ok(Status::Received));
    assert_eq!(story.complaint.handler, None, "to triage");
    for status in [Status::Responded, Status::Closed] {
        let mut story = standing(status);
        let late = say(&mut story, 2, true);
        assert_eq!(late, Err(RejectionReason::IllegalMove), "{status:?}");
    }
}

/// Scenario: the origin, which does not own it, mirrors its column; so does a
/// stranger.
/// Guarantee: the origin may not move what stands at somebody else, but may
/// reopen; the stranger meets an unknown complaint.
#[test]
fn only_who_may_make_the_move_mirrors_it() {
    let mut story = standing(Status::InProgress);
    story.mirror(1, Status::Received).unwrap();
    let refused = story.mirror(1, Status::Responded);
    assert_eq!(refused, Err(RejectionReason::NotPermitted));
    story.complaint.status = Status::Closed;
    assert_eq!(story.mirror(1, Status::Received), Ok(Status::InProgress));
    let stranger = story.mirror(3, Status::Closed);
    assert_eq!(stranger, Err(RejectionReason::UnknownComplaint));
}
