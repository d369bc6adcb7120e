//! Deciding: random lives of a complaint, and the moves that matter one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Context, decide};
use crate::domain::{
    ArchiveReason, Audience, Complaint, ComplaintId, Digest, Directory, Event, EventBody, EventId,
    Handling, IdempotencyKey, Institution, InstitutionCode, LocalStatus, Micros, PartKind,
    PartReference, Party, PartyId, PartyMode, Policy, Reference, RejectionReason, Role, Status,
    SystemName, Verdict,
};

const PARTIES: [&str; 4] = ["nasional", "pemda-33", "pemda-33.74", "kl-pu"];

fn party(place: usize) -> PartyId {
    PartyId::parse(PARTIES[place]).unwrap()
}

fn code(place: usize) -> InstitutionCode {
    InstitutionCode::parse(PARTIES[place]).unwrap()
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    for place in 0..PARTIES.len() {
        let id = party(place);
        directory.parties.insert(
            id.clone(),
            Party {
                id: id.clone(),
                name: String::new(),
                mode: PartyMode::Stream,
                enabled: true,
                certificate_fingerprints: Vec::new(),
                observes_all: false,
                observes_institutions: Vec::new(),
            },
        );
        if place > 0 {
            directory.institutions.insert(
                code(place),
                Institution {
                    code: code(place),
                    name: String::new(),
                    parent: None,
                    party: id,
                    region: None,
                    enabled: true,
                },
            );
        }
    }
    directory.national = Some(party(0));
    directory
}

fn event(author: usize, key: u32, body: EventBody) -> Event {
    let system = SystemName::parse("sistem").unwrap();
    let key = IdempotencyKey::parse(&format!("k-{key}")).unwrap();
    let reference = Reference::parse("A-1").unwrap();
    let is_filing = matches!(body, EventBody::Filed { .. });
    Event {
        event_id: EventId::derive(&party(author), &system, &key),
        complaint_id: ComplaintId::derive(&party(1), &system, &reference),
        party: party(author),
        system,
        key,
        reference: is_filing.then_some(reference),
        occurred_at: Micros(0),
        recorded_at: Micros(0),
        time_zone: "Asia/Jakarta".to_owned(),
        expected_revision: None,
        acting_institution: None,
        audience: Audience::Public,
        parts: vec![PartReference {
            kind: PartKind::Content,
            sha256: Digest([1; 32]),
            size_bytes: 20,
        }],
        local_status: None,
        body,
    }
}

fn filed(handling: Handling, addressed_to: Option<usize>) -> EventBody {
    EventBody::Filed {
        kind: "complaint".to_owned(),
        category: None,
        region: None,
        occurred_on: String::new(),
        filed_at: Micros(0),
        channel: "web".to_owned(),
        anonymous: false,
        confidential: false,
        handling,
        addressed_to: addressed_to.map(code),
        attachments: Vec::new(),
        foreign_references: Vec::new(),
    }
}

fn bodies() -> impl Strategy<Value = EventBody> {
    let institution = prop::option::of(0..5_usize)
        .prop_map(|place| place.and_then(|place| (1..4).contains(&place).then(|| code(place))));
    prop_oneof![
        Just(EventBody::Verified),
        institution
            .clone()
            .prop_map(|institution| EventBody::Forwarded {
                institution,
                unit: "DPU".to_owned()
            }),
        (1..4_usize).prop_map(|place| EventBody::Copied {
            institutions: vec![code(place)]
        }),
        institution.prop_map(|suggested_institution| EventBody::Declined {
            suggested_institution
        }),
        Just(EventBody::HandlingStarted {
            unit: String::new()
        }),
        Just(EventBody::ProgressReported {
            attachments: Vec::new()
        }),
        Just(EventBody::InformationRequested),
        Just(EventBody::ReporterReplied {
            attachments: Vec::new()
        }),
        Just(EventBody::Responded {
            attachments: Vec::new()
        }),
        Just(EventBody::Postponed { until: None }),
        Just(EventBody::Closed),
        Just(EventBody::Reopened),
        Just(EventBody::Archived {
            reason: ArchiveReason::Spam
        }),
        Just(EventBody::Withdrawn),
        (0..8_u8).prop_map(|stars| EventBody::Rated { stars }),
        Just(EventBody::Escalated { consent: true }),
        Just(EventBody::VisibilityChanged {
            anonymous: Some(true),
            confidential: None
        }),
        Just(EventBody::StatusMirrored {
            declined: false,
            ignored: false
        }),
        Just(EventBody::Unknown),
    ]
}

/// Revisions that each party knows: by authoring or by being told.
type Known = BTreeMap<PartyId, Vec<u32>>;

fn learn(known: &mut Known, author: &PartyId, verdict: &Verdict) {
    for telling in &verdict.tellings {
        let revisions = known.entry(telling.party.clone()).or_default();
        revisions.extend(telling.from_revision..=telling.through_revision);
    }
    known
        .entry(author.clone())
        .or_default()
        .push(verdict.complaint.revision);
}

fn check(complaint: &Complaint, directory: &Directory, known: &Known) {
    match &complaint.handler {
        Some(handler) => assert!(
            directory.reader_of(handler).is_some(),
            "nobody reads {handler}"
        ),
        None => assert!(directory.triage_reader().is_some()),
    }
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
    let owner = complaint
        .handler
        .as_ref()
        .and_then(|handler| directory.reader_of(handler));
    let owner = owner.or(directory.triage_reader()).unwrap();
    assert!(
        complaint
            .participants
            .iter()
            .any(|p| &p.party == owner && p.active),
        "the owner {owner} takes part"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Scenario: random events by random parties, legal or not, some with an
    /// expected revision, some with a mirrored status.
    /// Guarantee: one owner that somebody reads, or triage; revisions without
    /// gaps for everybody; what is rejected changes nothing; a mirrored status
    /// never moves an open complaint back; hops end in triage.
    #[test]
    fn any_life_keeps_the_rules(
        first in (0..3_usize, prop::option::of(1..4_usize)),
        steps in prop::collection::vec((0..4_usize, bodies(), prop::option::of(0..12_u32), 0..11_usize), 0..40)
    ) {
        let directory = directory();
        let policy = Policy { max_hops: 3, ..Policy::default() };
        let context = Context { directory: &directory, policy: &policy, merge_target: None };
        let handling = [Handling::Own, Handling::Addressed, Handling::Route][first.0];
        let addressed = if handling == Handling::Addressed { first.1.or(Some(2)) } else { first.1 };
        let filing = event(1, 0, filed(handling, addressed));
        let verdict = decide(None, &filing, context).unwrap();
        let mut known = Known::new();
        learn(&mut known, &filing.party, &verdict);
        let mut complaint = verdict.complaint;
        check(&complaint, &directory, &known);
        for (number, (author, body, expected, mapped)) in steps.into_iter().enumerate() {
            let mut new = event(author, number as u32 + 1, body);
            new.expected_revision = expected;
            let mirrors = matches!(new.body, EventBody::StatusMirrored { .. });
            if mirrors {
                new.local_status = Some(LocalStatus {
                    code: "x".to_owned(),
                    name: String::new(),
                    mapped: Some(Status::ALL[mapped]),
                });
            }
            let before = complaint.clone();
            match decide(Some(&before), &new, context) {
                Err(_) => {}
                Ok(verdict) => {
                    prop_assert_eq!(verdict.complaint.revision, before.revision + 1);
                    if mirrors && before.status.is_open() {
                        let is_back = before.status == Status::Responded
                            && verdict.complaint.status == Status::Received;
                        prop_assert!(!is_back);
                    }
                    learn(&mut known, &new.party, &verdict);
                    complaint = verdict.complaint;
                    check(&complaint, &directory, &known);
                }
            }
        }
    }
}

fn life(first: EventBody, steps: Vec<(usize, EventBody)>) -> Result<Complaint, RejectionReason> {
    let directory = directory();
    let policy = Policy::default();
    let context = Context {
        directory: &directory,
        policy: &policy,
        merge_target: None,
    };
    let mut complaint = decide(None, &event(1, 0, first), context)
        .map_err(|rejection| rejection.reason)?
        .complaint;
    for (number, (author, body)) in steps.into_iter().enumerate() {
        let new = event(author, number as u32 + 1, body);
        complaint = decide(Some(&complaint), &new, context)
            .map_err(|rejection| rejection.reason)?
            .complaint;
    }
    Ok(complaint)
}

/// Scenario: filings of each handling.
/// Guarantee: "we do", "this institution", "please route" find their owner; a
/// filing that nobody can be found for stands in triage and is never refused.
#[test]
fn a_filing_finds_its_owner() {
    let owner = |handling, to| life(filed(handling, to), Vec::new()).unwrap().handler;
    assert_eq!(owner(Handling::Own, None), Some(code(1)));
    assert_eq!(owner(Handling::Addressed, Some(2)), Some(code(2)));
    assert_eq!(owner(Handling::Route, None), None);
}

/// Scenario: bukan wewenang, with and without a suggestion.
/// Guarantee: it goes to the one suggested if somebody reads there, else to
/// triage; another party may not decline.
#[test]
fn declining_finds_the_next_owner() {
    let declined = |suggested: Option<usize>| EventBody::Declined {
        suggested_institution: suggested.map(code),
    };
    let addressed = || filed(Handling::Addressed, Some(2));
    let to = life(addressed(), vec![(2, declined(Some(3)))]).unwrap();
    assert_eq!(to.handler, Some(code(3)));
    let triage = life(addressed(), vec![(2, declined(None))]).unwrap();
    assert_eq!(triage.handler, None);
    let other = life(addressed(), vec![(1, declined(None))]);
    assert_eq!(other, Err(RejectionReason::NotPermitted));
    let stranger = life(addressed(), vec![(3, declined(None))]);
    assert_eq!(
        stranger,
        Err(RejectionReason::UnknownComplaint),
        "they look alike"
    );
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

/// Scenario: closing, rating, reopening by the origin.
/// Guarantee: closing without an answer is marked when mirrored and refused or
/// marked otherwise; only 1 to 5 stars; reopening keeps the owner.
#[test]
fn an_end_and_a_new_beginning() {
    let responded = || EventBody::Responded {
        attachments: Vec::new(),
    };
    let addressed = || filed(Handling::Addressed, Some(2));
    let closed = life(addressed(), vec![(2, responded()), (2, EventBody::Closed)]).unwrap();
    assert_eq!(closed.status, Status::Closed);
    assert!(!closed.answer_missing);
    let rated = |stars| {
        life(
            addressed(),
            vec![
                (2, responded()),
                (2, EventBody::Closed),
                (1, EventBody::Rated { stars }),
            ],
        )
    };
    assert!(rated(5).is_ok());
    assert_eq!(rated(6), Err(RejectionReason::InvalidEvent));
    let again = vec![
        (2, responded()),
        (2, EventBody::Closed),
        (1, EventBody::Reopened),
    ];
    let again = life(addressed(), again).unwrap();
    assert!(again.status.is_open());
    assert_eq!(again.handler, Some(code(2)));
}

/// Scenario: an expected revision that is current, that only the author has
/// moved on since, and that somebody else has.
/// Guarantee: holds, holds, stale with the current revision.
#[test]
fn an_expected_revision_holds_while_only_its_author_went_on() {
    let directory = directory();
    let policy = Policy::default();
    let context = Context {
        directory: &directory,
        policy: &policy,
        merge_target: None,
    };
    let filed = life(filed(Handling::Addressed, Some(2)), Vec::new()).unwrap();
    let say = |complaint: &Complaint, author, key, body, expected| {
        let mut new = event(author, key, body);
        new.expected_revision = Some(expected);
        decide(Some(complaint), &new, context)
    };
    let one = say(&filed, 2, 1, EventBody::Verified, 1).unwrap().complaint;
    let progress = || EventBody::ProgressReported {
        attachments: Vec::new(),
    };
    let two = say(&one, 2, 2, progress(), 1).unwrap().complaint;
    let reply = EventBody::ReporterReplied {
        attachments: Vec::new(),
    };
    let stale = say(&two, 1, 3, reply, 1).unwrap_err();
    assert_eq!(stale.reason, RejectionReason::StaleRevision);
    assert_eq!(stale.current_revision, Some(3));
}

/// Scenario: a complaint becomes anonymous; who may read its reporter.
/// Guarantee: the origin always, the handler only while it is not anonymous.
#[test]
fn anonymity_hides_the_reporter_from_the_handler() {
    let open = life(filed(Handling::Addressed, Some(2)), Vec::new()).unwrap();
    let hidden = EventBody::VisibilityChanged {
        anonymous: Some(true),
        confidential: None,
    };
    let anonymous = life(filed(Handling::Addressed, Some(2)), vec![(1, hidden)]).unwrap();
    let reads = |complaint: &Complaint, place, role| {
        super::readable_parts(complaint, &party(place), role).contains(&PartKind::Reporter)
    };
    assert!(reads(&open, 2, Role::Handler));
    assert!(!reads(&anonymous, 2, Role::Handler));
    assert!(reads(&anonymous, 1, Role::Origin));
}
