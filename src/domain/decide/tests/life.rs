//! Random lives of a complaint.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::{ArchiveReason, Role, Telling, decide::moves::rank};

const MAX_HOPS: u32 = 3;

fn bodies() -> impl Strategy<Value = EventBody> {
    let institution = prop::option::of(0..5_usize)
        .prop_map(|place| place.and_then(|place| (1..4).contains(&place).then(|| code(place))));
    let quiet = || EventBody::HandlingStarted {
        unit: String::new(),
    };
    prop_oneof![
        2 => Just(EventBody::Verified),
        4 => institution.clone().prop_map(|institution| EventBody::Forwarded {
            institution,
            unit: "DPU".to_owned()
        }),
        2 => (1..4_usize).prop_map(|place| EventBody::Copied {
            institutions: vec![code(place)]
        }),
        4 => institution.prop_map(|suggested_institution| EventBody::Declined {
            suggested_institution
        }),
        2 => Just(quiet()),
        2 => Just(progress()),
        1 => Just(EventBody::InformationRequested),
        1 => Just(EventBody::ReporterReplied { attachments: Vec::new() }),
        2 => Just(responded()),
        1 => Just(EventBody::Postponed { until: None }),
        2 => Just(EventBody::Closed),
        2 => Just(EventBody::Reopened),
        1 => Just(EventBody::Archived { reason: ArchiveReason::Spam }),
        1 => Just(EventBody::Withdrawn),
        1 => (0..8_u8).prop_map(|stars| EventBody::Rated { stars }),
        1 => Just(EventBody::Escalated { consent: true }),
        1 => Just(EventBody::VisibilityChanged { anonymous: Some(true), confidential: None }),
        1 => Just(EventBody::Merged { into: other().id }),
        2 => Just(erased()),
        4 => Just(EventBody::StatusMirrored { declined: false, ignored: false }),
        1 => Just(EventBody::StatusMirrored { declined: true, ignored: false }),
        1 => Just(EventBody::Unknown),
    ]
}

/// The complaint into which others are merged: brought by the ministry.
fn other() -> Complaint {
    let reference = Reference::parse("B-1").unwrap();
    let filing = event(3, 0, filed(Handling::Own, None));
    let filing = Event {
        complaint_id: ComplaintId::derive(&party(3), &filing.system, &reference),
        reference: Some(reference),
        ..filing
    };
    let (directory, policy) = (directory(), Policy::default());
    let context = Context {
        directory: &directory,
        policy: &policy,
        merge_target: None,
    };
    decide(None, &filing, context).unwrap().complaint
}

/// Revisions that each party knows: by authoring or by being told.
type Known = BTreeMap<PartyId, Vec<u32>>;

fn learn(known: &mut Known, event: &Event, verdict: &Verdict) {
    for telling in &verdict.tellings {
        let revisions = known.entry(telling.party.clone()).or_default();
        let next = revisions.len() as u32 + 1;
        if telling.from_revision > next {
            assert_is_late_erasure(event, telling, &verdict.complaint);
            continue;
        }
        revisions.extend(telling.from_revision..=telling.through_revision);
    }
    known
        .entry(event.party.clone())
        .or_default()
        .push(verdict.complaint.revision);
}

/// The one thing that is told behind a gap, to whoever left.
fn assert_is_late_erasure(event: &Event, telling: &Telling, complaint: &Complaint) {
    let revision = complaint.revision;
    assert!(
        matches!(event.body, EventBody::PartErased { .. }),
        "{event:?}"
    );
    assert_eq!(telling.role, Role::FormerHandler);
    assert_eq!(
        (telling.from_revision, telling.through_revision),
        (revision, revision)
    );
    assert!(
        complaint
            .participants
            .iter()
            .any(|found| found.party == telling.party && !found.active)
    );
}

fn owner_place(complaint: &Complaint) -> usize {
    let handler = complaint.handler.as_ref();
    handler.map_or(0, |handler| {
        let place = PARTIES.iter().position(|name| *name == handler.as_str());
        place.unwrap()
    })
}

/// Who could do now what only an owner may.
fn owners(complaint: &Complaint, context: Context<'_>) -> BTreeSet<usize> {
    let owns = |author: &usize| {
        let classified = EventBody::Classified {
            kind: None,
            category: None,
            region: None,
            oversight: None,
        };
        decide(Some(complaint), &event(*author, 9_999, classified), context).is_ok()
    };
    (0..PARTIES.len()).filter(owns).collect()
}

fn check(complaint: &Complaint, context: Context<'_>, known: &Known) {
    let directory = context.directory;
    for (party, revisions) in known {
        let whole: Vec<u32> = (1..=revisions.len() as u32).collect();
        assert_eq!(revisions, &whole, "{party}: in order, each once, no gap");
    }
    for participant in complaint.participants.iter().filter(|p| p.active) {
        let revisions = &known[&participant.party];
        assert_eq!(
            revisions.last(),
            Some(&complaint.revision),
            "{}",
            participant.party
        );
    }
    let owner = match &complaint.handler {
        Some(handler) => directory.reader_of(handler),
        None => directory.triage_reader(),
    };
    let owner = owner.expect("somebody reads for the owner");
    assert!(
        complaint
            .participants
            .iter()
            .any(|p| &p.party == owner && p.active),
        "the owner {owner} takes part"
    );
    if complaint.status.is_open() {
        // The national desk may overrule everywhere; beside it exactly the owner.
        let place = PARTIES.iter().position(|name| *name == owner.as_str());
        let expected = BTreeSet::from([0, place.unwrap()]);
        assert_eq!(owners(complaint, context), expected, "one owner");
    }
}

/// Whether an event is somebody's decision to move the complaint, not a late
/// report of how far it has come.
fn moves_on_purpose(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Forwarded { .. }
            | EventBody::Declined { .. }
            | EventBody::StatusMirrored { declined: true, .. }
            | EventBody::InformationRequested
            | EventBody::ReporterReplied { .. }
            | EventBody::Postponed { .. }
            | EventBody::Reopened
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Scenario: random events by random parties, legal or not, some with an
    /// expected revision, some with a mirrored status.
    /// Guarantee: one owner that somebody reads, or triage, and nobody else but
    /// the national desk may do what an owner does; revisions without gaps for
    /// everybody but erasures to those who left; no report moves an open
    /// complaint back, and a mirrored status moves a closed one nowhere but
    /// open; hops end in triage, whence the national desk alone forwards.
    #[test]
    fn any_life_keeps_the_rules(
        first in (0..3_usize, prop::option::of(1..4_usize)),
        steps in prop::collection::vec((0..8_usize, bodies(), prop::option::of(0..12_u32), 0..11_usize), 0..40)
    ) {
        let directory = directory();
        let policy = Policy { max_hops: MAX_HOPS, ..Policy::default() };
        let other = other();
        let context = Context { directory: &directory, policy: &policy, merge_target: Some(&other) };
        let handling = [Handling::Own, Handling::Addressed, Handling::Route][first.0];
        let addressed = if handling == Handling::Addressed { first.1.or(Some(2)) } else { first.1 };
        let filing = event(1, 0, filed(handling, addressed));
        let verdict = decide(None, &filing, context).unwrap();
        let mut known = Known::new();
        learn(&mut known, &filing, &verdict);
        let mut complaint = verdict.complaint;
        check(&complaint, context, &known);
        for (number, (author, body, expected, mapped)) in steps.into_iter().enumerate() {
            // Every second one by who owns it now, else little would hold.
            let author = if author < PARTIES.len() { author } else { owner_place(&complaint) };
            let mut new = event(author, number as u32 + 1, body);
            new.expected_revision = expected.filter(|expected| expected % 3 == 0);
            let mirrors = matches!(new.body, EventBody::StatusMirrored { .. });
            if mirrors {
                new.local_status = Some(local(Status::ALL[mapped]));
            }
            let before = complaint.clone();
            let Ok(verdict) = decide(Some(&before), &new, context) else { continue };
            let after = &verdict.complaint;
            prop_assert_eq!(after.revision, before.revision + 1);
            let (was, is) = (before.status, after.status);
            if was.is_open() && !moves_on_purpose(&new.body) {
                prop_assert!(rank(is) >= rank(was), "{:?}: {:?} to {:?}", new.body, was, is);
            }
            if mirrors && !was.is_open() {
                prop_assert!(is == was || is.is_open(), "{:?} to {:?}", was, is);
            }
            if after.hops > before.hops {
                prop_assert_eq!(after.hops, before.hops + 1);
                if after.hops > MAX_HOPS && author != 0 {
                    prop_assert_eq!(&after.handler, &None);
                }
            } else {
                prop_assert!(after.handler == before.handler || after.handler.is_none());
            }
            learn(&mut known, &new, &verdict);
            complaint = verdict.complaint;
            check(&complaint, context, &known);
        }
    }
}
