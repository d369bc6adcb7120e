//! Deciding: random lives of a complaint, and the moves that matter one by one.

mod life;
mod mirrored;
mod moves;
mod telling;

use super::{Context, decide};
use crate::domain::{
    Audience, Complaint, ComplaintId, Digest, Directory, Event, EventBody, EventId, Handling,
    IdempotencyKey, Institution, InstitutionCode, LocalStatus, Micros, PartKind, PartReference,
    Party, PartyId, PartyMode, Policy, Reference, RejectionReason, Status, SystemName, Verdict,
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

/// One complaint's life, with whoever is told of it.
struct Story {
    directory: Directory,
    policy: Policy,
    merge_target: Option<Complaint>,
    complaint: Complaint,
    last: Option<Verdict>,
    events: u32,
}

impl Story {
    /// Filed by the province (1).
    fn begin(filing: EventBody) -> Self {
        Self::with(directory(), Policy::default(), filing)
    }

    fn with(directory: Directory, policy: Policy, filing: EventBody) -> Self {
        let context = Context {
            directory: &directory,
            policy: &policy,
            merge_target: None,
        };
        let verdict = decide(None, &event(1, 0, filing), context).unwrap();
        Self {
            complaint: verdict.complaint.clone(),
            last: Some(verdict),
            merge_target: None,
            events: 0,
            directory,
            policy,
        }
    }

    /// The city (2) is addressed.
    fn at_the_city() -> Self {
        Self::begin(filed(Handling::Addressed, Some(2)))
    }

    fn event(&mut self, author: usize, body: EventBody) -> Event {
        self.events += 1;
        event(author, self.events, body)
    }

    fn decide(&mut self, event: &Event) -> Result<&Complaint, RejectionReason> {
        let context = Context {
            directory: &self.directory,
            policy: &self.policy,
            merge_target: self.merge_target.as_ref(),
        };
        let verdict = decide(Some(&self.complaint), event, context);
        let verdict = verdict.map_err(|rejection| rejection.reason)?;
        self.complaint = verdict.complaint.clone();
        self.last = Some(verdict);
        Ok(&self.complaint)
    }

    fn say(&mut self, author: usize, body: EventBody) -> Result<Status, RejectionReason> {
        let event = self.event(author, body);
        self.decide(&event).map(|complaint| complaint.status)
    }

    /// The party's status column says this now.
    fn mirror(&mut self, author: usize, mapped: Status) -> Result<Status, RejectionReason> {
        let body = EventBody::StatusMirrored {
            declined: false,
            ignored: false,
        };
        let event = Event {
            local_status: Some(local(mapped)),
            ..self.event(author, body)
        };
        self.decide(&event).map(|complaint| complaint.status)
    }

    /// Who the last event told what: party, role, first and last revision.
    fn told(&self) -> Vec<(usize, crate::domain::Role, u32, u32)> {
        let tellings = &self.last.as_ref().unwrap().tellings;
        let place = |id: &PartyId| PARTIES.iter().position(|name| *name == id.as_str());
        let mut told: Vec<_> = tellings
            .iter()
            .map(|telling| {
                (
                    place(&telling.party).unwrap(),
                    telling.role,
                    telling.from_revision,
                    telling.through_revision,
                )
            })
            .collect();
        told.sort_by_key(|(place, ..)| *place);
        told
    }
}

fn local(mapped: Status) -> LocalStatus {
    LocalStatus {
        code: "x".to_owned(),
        name: String::new(),
        mapped: Some(mapped),
    }
}

fn responded() -> EventBody {
    EventBody::Responded {
        attachments: Vec::new(),
    }
}

fn progress() -> EventBody {
    EventBody::ProgressReported {
        attachments: Vec::new(),
    }
}

fn declined(suggested: Option<usize>) -> EventBody {
    EventBody::Declined {
        suggested_institution: suggested.map(code),
    }
}

fn forwarded(to: usize) -> EventBody {
    EventBody::Forwarded {
        institution: Some(code(to)),
        unit: String::new(),
    }
}

fn erased() -> EventBody {
    EventBody::PartErased {
        event_id: event(1, 0, EventBody::Unknown).event_id,
        sha256: Digest([1; 32]),
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
