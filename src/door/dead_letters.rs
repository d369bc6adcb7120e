//! The dead-letter service of a node's own door: what a person has to settle is
//! tried again, or given up.
//!
//! Invariants: only what waits for a person at this node is touched; what was
//! done is written to the log, with the note, and never with a text of a citizen.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::{
    domain::{Decision, DeliveryRecord, EventId, FieldError, Micros, Outcome, PartyId, Rejection},
    runtime::Clock,
    store::{AdapterStore, DeadLetter, HubStore, ReceivedEntry, Store, StoreError},
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

/// What is to be done.
enum Task {
    Look,
    Retry,
    Drop(String),
}

/// How a letter is named.
enum Named {
    Event(String),
    Place(String, Option<u64>, u64),
}

impl Named {
    /// `party/position`, `party/epoch/position`, or an event id.
    fn parse(text: &str) -> Result<Self, FieldError> {
        let wrong = || {
            FieldError::new(
                "selection.which",
                format!("\"{text}\" is neither party/position nor an event id"),
            )
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let fields: Vec<&str> = text.split('/').collect();
        match fields.as_slice() {
            [id] if EventId::from_text(id).is_some() => Ok(Self::Event((*id).to_lowercase())),
            [party, position] => Ok(Self::Place((*party).to_owned(), None, number(position)?)),
            [party, epoch, position] => {
                let epoch = Some(number(epoch)?);
                Ok(Self::Place((*party).to_owned(), epoch, number(position)?))
            }
            _ => Err(wrong()),
        }
    }

    fn is(&self, letter: &DeadLetter) -> bool {
        match self {
            Self::Event(id) => event_id(letter).is_some_and(|found| &found == id),
            Self::Place(party, epoch, position) => {
                letter.party.as_str() == party
                    && letter.position == *position
                    && epoch.is_none_or(|epoch| letter.epoch == epoch)
            }
        }
    }
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
    ) -> Result<(Vec<v1::DeadLetter>, u64), DoorError> {
        let v1::DeadLetterSelection {
            which,
            party,
            after,
        } = selection.unwrap_or_default();
        if which.len() > NAMED {
            let problem = format!("names more than {NAMED}");
            return Err(invalid("selection.which", &problem));
        }
        let named: Vec<Named> = which
            .iter()
            .map(|text| Named::parse(text))
            .collect::<Result<_, _>>()
            .map_err(|error| DoorError::Invalid(vec![error]))?;
        let only = match party.as_str() {
            "" => None,
            text => {
                let parsed = PartyId::parse(text);
                Some(parsed.map_err(|error| DoorError::Invalid(vec![error]))?)
            }
        };
        let page = self
            .store()
            .dead_letters(only.as_ref(), after, PAGE)
            .await?;
        let next = match page.last() {
            Some(last) if page.len() == PAGE => last.id,
            _ => 0,
        };
        let mut done = Vec::new();
        for letter in page {
            if named.is_empty() || named.iter().any(|named| named.is(&letter)) {
                done.extend(self.one(letter, task).await?);
            }
        }
        Ok((done, next))
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
            kind: match &self.letters {
                LettersOf::Hub(_) => v1::DeadLetterKind::Parked,
                LettersOf::Adapter(_) => v1::DeadLetterKind::Unreadable,
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
    if let Some(decision) = &letter.decision {
        return decision.event_id.map(|id| id.to_string());
    }
    event_of(&letter.entry.header, &letter.entry.event)
}

fn event_of(header: &Bytes, event: &Bytes) -> Option<String> {
    match wire::decode_header(header) {
        Ok(DeliveryRecord::Event(header)) => Some(header.event_id.to_string()),
        Ok(DeliveryRecord::Decisions(_)) => None,
        Err(_) => {
            let event = wire::decode_event(event).ok()?;
            Some(event.event_id.to_string())
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
        let (dead_letters, next) = self.page(selection, &task).await?;
        Ok(Response::new(v1::RetryDeadLettersResponse {
            dead_letters,
            next,
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
        let (dead_letters, next) = self.page(selection, &task).await?;
        Ok(Response::new(v1::DropDeadLettersResponse {
            dead_letters,
            next,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            id: 1,
            party: PartyId::parse("pemda-33.74").unwrap(),
            epoch: 7,
            position: 12,
            stored_at: Micros(0),
            decision: None,
            entry: crate::exchange::Entry::default(),
        }
    }

    /// Scenario: a letter named by its place, with and without its epoch, by
    /// another place, and by what is no name.
    /// Guarantee: only its own names mean it; what is no name is an error and
    /// never "all".
    #[test]
    fn a_name_means_one_letter() {
        let means = |text: &str| Named::parse(text).unwrap().is(&letter());
        assert!(means("pemda-33.74/12") && means("pemda-33.74/7/12"));
        assert!(!means("pemda-33.74/13") && !means("pemda-33.74/8/12"));
        assert!(!means("pemda-33/12") && !means("d796c993-73f8-8a4d-bbd9-50feae044c33"));
        for text in ["", "12", "pemda-33.74/", "pemda-33.74/-1", "a/1/2/3", "*"] {
            assert!(Named::parse(text).is_err(), "{text:?}");
        }
    }

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
