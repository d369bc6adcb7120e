//! The dead-letter service of a node's own door: what a person has to settle is
//! tried again, or given up.
//!
//! Invariants: only what waits for a person at this node is touched; what was
//! done is written to the log, with the note, and never with a text of a citizen.

use std::{collections::BTreeMap, sync::Arc};

use tonic::{Request, Response, Status};

use crate::{
    domain::{Decision, DeliveryRecord, EventId, FieldError, Micros, Outcome, PartyId, Rejection},
    runtime::Clock,
    store::{
        AdapterStore, DeadLetter, HubStore, LetterKind, LetterName, ReceivedEntry, Store,
        StoreError,
    },
    wire::{
        self,
        v1::{self, dead_letter_service_server::DeadLetterService},
    },
};

use super::{Cursor, DoorError, MayOperate};

/// Letters of one answer.
const PAGE: usize = 200;
/// Letters that may be named in one call.
const NAMED: usize = 1_000;
/// Characters of a note: it stands in a decision, which is never erased.
const NOTE_CHARACTERS: usize = 200;

/// At which node.
#[derive(Clone)]
pub enum LettersOf {
    /// Parked submissions.
    Hub(Arc<dyn HubStore>),
    /// Unread deliveries.
    Adapter(Arc<dyn AdapterStore>),
}

/// The service.
#[derive(Clone)]
pub struct LetterDoor {
    /// The node's store.
    pub letters: LettersOf,
    /// Who may.
    pub may_operate: MayOperate,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
}

/// A page of letters: to be settled, then what became of them.
#[derive(Default)]
struct Page {
    letters: Vec<DeadLetter>,
    done: Vec<v1::DeadLetter>,
    next: u64,
    not_found: Vec<String>,
}

/// What is to be done.
enum Task {
    Look,
    Retry,
    Drop(String),
}

impl LetterDoor {
    fn store(&self) -> &dyn Store {
        match &self.letters {
            LettersOf::Hub(store) => &**store,
            LettersOf::Adapter(store) => &**store,
        }
    }

    /// Does a page of the task; what became of each letter, and where to go on.
    async fn page(
        &self,
        selection: Option<v1::DeadLetterSelection>,
        task: &Task,
    ) -> Result<Page, DoorError> {
        let v1::DeadLetterSelection {
            which,
            party,
            after,
        } = selection.unwrap_or_default();
        let only = match party.as_str() {
            "" => None,
            text => {
                let parsed = PartyId::parse(text);
                Some(parsed.map_err(|error| DoorError::Invalid(vec![error]))?)
            }
        };
        let mut page = match which.is_empty() {
            true => self.next(only.as_ref(), after).await?,
            false => self.named(which, only.as_ref()).await?,
        };
        for letter in std::mem::take(&mut page.letters) {
            page.done.extend(self.one(letter, task).await?);
        }
        Ok(page)
    }

    /// All that can be settled here, from a letter on.
    async fn next(&self, only: Option<&PartyId>, after: u64) -> Result<Page, DoorError> {
        let letters = self.store().dead_letters(only, after, PAGE).await?;
        let next = match letters.last() {
            Some(last) if letters.len() == PAGE => last.id,
            _ => 0,
        };
        Ok(Page {
            letters,
            next,
            ..Page::default()
        })
    }

    /// What can be settled here of what is named, in the order of the journals.
    /// Nothing is settled before every name has been looked up.
    async fn named(&self, which: Vec<String>, only: Option<&PartyId>) -> Result<Page, DoorError> {
        if which.len() > NAMED {
            let problem = format!("names more than {NAMED}");
            return Err(invalid("selection.which", &problem));
        }
        let mut names = Vec::with_capacity(which.len());
        for text in &which {
            let name = LetterName::parse(text);
            names.push(name.map_err(|error| DoorError::Invalid(vec![error]))?);
        }
        let about = self.unreadable_about(&names).await?;
        let (mut found, mut not_found, mut ambiguous) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (text, name) in which.into_iter().zip(&names) {
            let mut meant = self.store().letters_named(name).await?;
            meant.retain(|letter| letter.kind() == self.kind() && !letter.repeats_another());
            meant.extend(
                about
                    .iter()
                    .filter(|(id, _)| name.is_event(id))
                    .map(|(_, letter)| letter.clone()),
            );
            meant.retain(|letter| only.is_none_or(|only| letter.party == *only));
            ambiguous.extend(name.ambiguity(&text, &meant));
            if meant.is_empty() {
                not_found.push(text);
            }
            found.extend(meant.into_iter().map(|letter| (letter.id, letter)));
        }
        if !ambiguous.is_empty() {
            return Err(DoorError::Invalid(ambiguous));
        }
        Ok(Page {
            letters: found.into_values().collect(),
            not_found,
            ..Page::default()
        })
    }

    /// Unread deliveries about the events that are named: only this room reads
    /// what a delivery says, so it looks through all of them.
    async fn unreadable_about(
        &self,
        names: &[LetterName],
    ) -> Result<Vec<(EventId, DeadLetter)>, DoorError> {
        let mut about = Vec::new();
        let is_any_event = names
            .iter()
            .any(|name| matches!(name, LetterName::Event(_)));
        if self.kind() != LetterKind::Unreadable || !is_any_event {
            return Ok(about);
        }
        let mut after = 0;
        loop {
            let page = self.next(None, after).await?;
            for letter in page.letters {
                if let Some(id) = unread_event(&letter)
                    && names.iter().any(|name| name.is_event(&id))
                {
                    about.push((id, letter));
                }
            }
            match page.next {
                0 => return Ok(about),
                next => after = next,
            }
        }
    }

    /// What can be settled at this node.
    fn kind(&self) -> LetterKind {
        match &self.letters {
            LettersOf::Hub(_) => LetterKind::Parked,
            LettersOf::Adapter(_) => LetterKind::Unreadable,
        }
    }

    /// `None`: somebody else has settled it meanwhile.
    async fn one(
        &self,
        letter: DeadLetter,
        task: &Task,
    ) -> Result<Option<v1::DeadLetter>, StoreError> {
        let Some(did) = self.settle(&letter, task).await? else {
            return Ok(None);
        };
        if let Some(done) = did.done {
            tracing::warn!(
                event = "dead_letter_settled",
                done,
                party = %letter.party,
                epoch = letter.epoch,
                position = letter.position,
                event_id = event_id(&letter).unwrap_or_default(),
                note = did.note,
            );
        }
        let decision = did.decision.as_ref().or(letter.decision.as_ref());
        Ok(Some(v1::DeadLetter {
            party: letter.party.as_str().to_owned(),
            epoch: letter.epoch,
            position: letter.position,
            kind: match self.kind() {
                LetterKind::Parked => v1::DeadLetterKind::Parked,
                LetterKind::Unreadable => v1::DeadLetterKind::Unreadable,
                LetterKind::Rejected => v1::DeadLetterKind::Rejected,
            } as i32,
            event_id: event_id(&letter).unwrap_or_default(),
            settled: did.done.is_some(),
            decision: decision.map(wire::decision_to_proto),
            explanation: did.explanation,
        }))
    }

    async fn settle(&self, letter: &DeadLetter, task: &Task) -> Result<Option<Did>, StoreError> {
        let place = (letter.epoch, letter.position);
        let now = Micros(self.clock.now_micros());
        match (&self.letters, task) {
            (_, Task::Look) => Ok(Some(Did::not("would be settled, or tried"))),
            (LettersOf::Hub(hub), Task::Retry) => {
                let event = match wire::decode_event(&letter.entry.event) {
                    Ok(event) => event,
                    Err(error) => return Ok(Some(Did::not(&error.why))),
                };
                let decided = hub.decide_again(&letter.party, place, event, now).await?;
                Ok(decided.map(Did::decided))
            }
            (LettersOf::Hub(hub), Task::Drop(note)) => {
                let rejection = Rejection::dropped(note);
                let dropped = hub
                    .drop_parked(&letter.party, place, rejection, now)
                    .await?;
                Ok(dropped.map(|decision| Did {
                    done: Some("dropped"),
                    note: note.clone(),
                    ..Did::decided(decision)
                }))
            }
            (LettersOf::Adapter(node), Task::Retry) => {
                let received = match received(letter) {
                    Ok(received) => received,
                    Err(why) => return Ok(Some(Did::not(&why))),
                };
                let is_read = node.read_again(&letter.party, place, received).await?;
                Ok(is_read.then(|| Did {
                    done: Some("read"),
                    explanation: format!(
                        "read; a local system that has passed it by fetches its inbox once after {}",
                        Cursor::at(letter.epoch, letter.position.saturating_sub(1))
                    ),
                    ..Did::not("")
                }))
            }
            (LettersOf::Adapter(node), Task::Drop(note)) => {
                let is_dropped = node.drop_unread(&letter.party, place).await?;
                Ok(is_dropped.then(|| Did {
                    done: Some("dropped"),
                    note: note.clone(),
                    ..Did::not("given up: what it says is not taken over here")
                }))
            }
        }
    }
}

/// What became of a letter.
struct Did {
    /// For the log; `None`: it is not settled.
    done: Option<&'static str>,
    note: String,
    decision: Option<Decision>,
    explanation: String,
}

impl Did {
    fn not(why: &str) -> Self {
        Self {
            done: None,
            note: String::new(),
            decision: None,
            explanation: why.to_owned(),
        }
    }

    fn decided(decision: Decision) -> Self {
        let text = decision.rejection.as_ref().map(|told| told.text_en.clone());
        let (done, explanation) = match decision.outcome {
            Outcome::Parked => (
                None,
                "deciding it failed again: it needs a corrected version of this software"
                    .to_owned(),
            ),
            Outcome::Accepted => (Some("accepted"), "accepted; its author is told".to_owned()),
            Outcome::Duplicate => (
                Some("duplicate"),
                "it was there already; its author is told".to_owned(),
            ),
            Outcome::Rejected => (Some("rejected"), text.unwrap_or_default()),
        };
        Self {
            done,
            note: String::new(),
            decision: Some(decision),
            explanation,
        }
    }
}

/// What a delivery says, if this version can read it.
fn received(letter: &DeadLetter) -> Result<ReceivedEntry, String> {
    let record = wire::decode_header(&letter.entry.header).map_err(|error| {
        format!(
            "this version can't read it: {}: update this node",
            error.why
        )
    })?;
    let event = match &record {
        DeliveryRecord::Event(_) => {
            let read = wire::decode_event(&letter.entry.event);
            Some(read.map_err(|error| {
                format!(
                    "this version can't read its event: {}: update this node",
                    error.why
                )
            })?)
        }
        DeliveryRecord::Decisions(_) => None,
    };
    Ok(ReceivedEntry {
        entry: letter.entry.clone(),
        record: Some(record),
        event,
    })
}

/// The event that a letter is about, as far as it can be read.
fn event_id(letter: &DeadLetter) -> Option<String> {
    let found = match &letter.decision {
        Some(decision) => decision.event_id,
        None => unread_event(letter),
    };
    found.map(|id| id.to_string())
}

/// The event of a delivery, as far as this version can read it.
fn unread_event(letter: &DeadLetter) -> Option<EventId> {
    match wire::decode_header(&letter.entry.header) {
        Ok(DeliveryRecord::Event(header)) => Some(header.event_id),
        Ok(DeliveryRecord::Decisions(_)) => None,
        Err(_) => {
            let event = wire::decode_event(&letter.entry.event).ok()?;
            Some(event.event_id)
        }
    }
}

fn invalid(field: &str, problem: &str) -> DoorError {
    DoorError::Invalid(vec![FieldError::new(field, problem)])
}

/// A note stands in decisions and in the log, one line each.
fn check_note(note: &str) -> Result<String, DoorError> {
    let note = note.trim();
    let is_good = !note.is_empty()
        && note.chars().count() <= NOTE_CHARACTERS
        && !note.chars().any(char::is_control);
    if is_good {
        return Ok(note.to_owned());
    }
    Err(invalid(
        "note",
        &format!(
            "says why, in 1 to {NOTE_CHARACTERS} characters of one line, without personal data"
        ),
    ))
}

#[tonic::async_trait]
impl DeadLetterService for LetterDoor {
    async fn retry_dead_letters(
        &self,
        request: Request<v1::RetryDeadLettersRequest>,
    ) -> Result<Response<v1::RetryDeadLettersResponse>, Status> {
        (self.may_operate)(request.metadata())?;
        let v1::RetryDeadLettersRequest { selection, dry_run } = request.into_inner();
        let task = if dry_run { Task::Look } else { Task::Retry };
        let page = self.page(selection, &task).await?;
        Ok(Response::new(v1::RetryDeadLettersResponse {
            dead_letters: page.done,
            next: page.next,
            not_found: page.not_found,
        }))
    }

    async fn drop_dead_letters(
        &self,
        request: Request<v1::DropDeadLettersRequest>,
    ) -> Result<Response<v1::DropDeadLettersResponse>, Status> {
        (self.may_operate)(request.metadata())?;
        let v1::DropDeadLettersRequest {
            selection,
            note,
            dry_run,
        } = request.into_inner();
        let note = check_note(&note)?;
        let task = match dry_run {
            true => Task::Look,
            false => Task::Drop(note),
        };
        let page = self.page(selection, &task).await?;
        Ok(Response::new(v1::DropDeadLettersResponse {
            dead_letters: page.done,
            next: page.next,
            not_found: page.not_found,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: notes that are empty, of two lines, or of 201 characters.
    /// Guarantee: refused; one of 200 characters is taken, without blanks around.
    #[test]
    fn a_note_is_one_line() {
        for note in ["", "  ", "a\nb", &"x".repeat(201)] {
            assert!(check_note(note).is_err(), "{note:?}");
        }
        let long = "é".repeat(200);
        assert_eq!(check_note(&format!(" {long} ")).unwrap(), long);
    }
}
