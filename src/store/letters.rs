//! Letters, as a person asks for them: which ones, in which order, and by which
//! name. What both engines do alike, without SQL.
//!
//! Invariants: a list names each letter in full, since one without its epoch may
//! mean several after a recovery; a list goes on after a letter where it stopped,
//! whatever came or was settled meanwhile.

use std::fmt;

use crate::{
    domain::{EventId, FieldError, Micros, Outcome, PartyId, RejectionReason},
    store::{DeadLetter, standing::POSITION_BITS},
};

/// What a letter is, in the order in which kinds are listed: what this node's own
/// operator can settle comes before what is only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LetterKind {
    /// A delivery that this node could not read.
    Unreadable,
    /// A submission that the hub could not decide.
    Parked,
    /// A submission that the hub rejected.
    Rejected,
}

impl LetterKind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Unreadable, Self::Parked, Self::Rejected];

    /// The word for people and machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Parked => "parked",
            Self::Rejected => "rejected",
        }
    }
}

impl DeadLetter {
    /// What it is.
    pub fn kind(&self) -> LetterKind {
        match self.decision.as_ref().map(|found| found.outcome) {
            None => LetterKind::Unreadable,
            Some(Outcome::Parked) => LetterKind::Parked,
            Some(_) => LetterKind::Rejected,
        }
    }

    /// `party/epoch/position`: means this one and, of its kind, no other.
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.party, self.epoch, self.position)
    }

    /// Whether it repeats a parked submission, and so is settled with that one.
    pub fn repeats_another(&self) -> bool {
        let decision = self.decision.as_ref();
        decision.is_some_and(|found| found.duplicate_of != 0)
    }
}

/// Where a list stands: it goes on behind this letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterPlace {
    kind: LetterKind,
    stored_at: Micros,
    id: u64,
}

impl LetterPlace {
    /// Behind this one.
    pub fn of(letter: &DeadLetter) -> Self {
        Self {
            kind: letter.kind(),
            stored_at: letter.stored_at,
            id: letter.id,
        }
    }

    /// Reads what [`fmt::Display`] has written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let (kind, stored_at, id) = (fields.next()?, fields.next()?, fields.next()?);
        let kind = LetterKind::ALL.into_iter().find(|of| of.word() == kind)?;
        let place = Self {
            kind,
            stored_at: Micros(stored_at.parse().ok()?),
            id: id.parse().ok()?,
        };
        fields.next().is_none().then_some(place)
    }
}

impl fmt::Display for LetterPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.kind.word(), self.stored_at.0, self.id)
    }
}

/// Which letters are to be listed. Each field that is set leaves out what does not
/// fit it.
#[derive(Debug, Clone, Default)]
pub struct LetterQuery {
    /// Only this party's.
    pub party: Option<PartyId>,
    /// Only of this kind.
    pub kind: Option<LetterKind>,
    /// Only what was rejected for this reason; every number that this version does
    /// not know counts as the same one.
    pub reason: Option<RejectionReason>,
    /// Only what was stored here then or later.
    pub since: Option<Micros>,
    /// Go on behind this letter.
    pub after: Option<LetterPlace>,
    /// At most so many.
    pub limit: usize,
}

impl LetterQuery {
    /// The kinds to be listed, one after the other, each with the (moment, id)
    /// before which it goes on: the newest come first.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (LetterKind, (i64, i64))> {
        let (only, has_reason, after) = (self.kind, self.reason.is_some(), self.after);
        LetterKind::ALL
            .into_iter()
            .filter(move |kind| only.is_none_or(|only| only == *kind))
            .filter(move |kind| !has_reason || *kind == LetterKind::Rejected)
            .filter_map(move |kind| match after {
                Some(after) if kind < after.kind => None,
                Some(after) if kind == after.kind => {
                    Some((kind, (after.stored_at.0, after.id as i64)))
                }
                _ => Some((kind, (i64::MAX, i64::MAX))),
            })
    }

    /// How the JSON of the reason begins that is asked for.
    pub(super) fn reason_begins(&self) -> Option<String> {
        self.reason.map(|reason| match reason {
            RejectionReason::Unknown(_) => "{\"UNKNOWN\"".to_owned(),
            known => format!("\"{}\"", known.code()),
        })
    }
}

/// How a person names a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterName {
    /// By the event that it is about: whatever is about it.
    Event(EventId),
    /// By its journal's party and its place in it.
    Place {
        /// Whose journal.
        party: PartyId,
        /// In which epoch; `None`: in whichever there is one.
        epoch: Option<u64>,
        /// Where in it.
        position: u64,
    },
}

impl LetterName {
    /// `party/epoch/position`, `party/position`, or an event id.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let wrong = || {
            FieldError::new(
                "selection.which",
                format!(
                    "\"{text}\" is neither party/epoch/position, party/position nor an event id"
                ),
            )
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let fields: Vec<&str> = text.split('/').collect();
        let (party, epoch, position) = match fields.as_slice() {
            [id] => return EventId::from_text(id).map(Self::Event).ok_or_else(wrong),
            [party, position] => (party, None, number(position)?),
            [party, epoch, position] => (party, Some(number(epoch)?), number(position)?),
            _ => return Err(wrong()),
        };
        if position >> POSITION_BITS != 0 || epoch.is_some_and(|epoch| epoch > i64::MAX as u64) {
            return Err(wrong());
        }
        Ok(Self::Place {
            party: PartyId::parse(party).map_err(|_| wrong())?,
            epoch,
            position,
        })
    }

    /// Whether it means what is about this event.
    pub fn is_event(&self, id: &EventId) -> bool {
        matches!(self, Self::Event(named) if named == id)
    }

    /// What is wrong with this name if it means these: a place is one letter, and
    /// which of several is meant nobody guesses.
    pub fn ambiguity(&self, text: &str, found: &[DeadLetter]) -> Option<FieldError> {
        if found.len() < 2 || matches!(self, Self::Event(_)) {
            return None;
        }
        let candidates: Vec<String> = found
            .iter()
            .map(|letter| format!("{} ({})", letter.name(), letter.kind().word()))
            .collect();
        Some(FieldError::new(
            "selection.which",
            format!(
                "\"{text}\" may mean each of these, say which: {}",
                candidates.join(", ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Entry;

    fn letter() -> DeadLetter {
        DeadLetter {
            id: 1,
            party: PartyId::parse("pemda-33.74").unwrap(),
            epoch: 7,
            position: 12,
            stored_at: Micros(5),
            decision: None,
            entry: Entry::default(),
        }
    }

    /// Scenario: names by place, with and without epoch, and by event; what is no
    /// name, or a place that no journal has.
    /// Guarantee: each is read as what it is; the others are errors and never "all".
    #[test]
    fn a_name_is_read_as_what_it_is() {
        let place = |epoch| LetterName::Place {
            party: letter().party,
            epoch,
            position: 12,
        };
        let read = |text: &str| LetterName::parse(text).unwrap();
        assert_eq!(read("pemda-33.74/12"), place(None));
        assert_eq!(read(&letter().name()), place(Some(7)));
        let id = "d796c993-73f8-8a4d-bbd9-50feae044c33";
        let event = EventId::from_text(id).unwrap();
        assert!(read(id).is_event(&event) && read(&id.to_uppercase()).is_event(&event));
        assert!(!read("pemda-33.74/12").is_event(&event));
        let beyond = format!("pemda-33.74/{}", 1_u64 << POSITION_BITS);
        let none = [
            "",
            "12",
            "pemda-33.74/",
            "pemda-33.74/-1",
            "a/1/2/3",
            "*",
            "A B/1",
            &beyond,
        ];
        for text in none {
            assert!(LetterName::parse(text).is_err(), "{text:?}");
        }
    }

    /// Scenario: one letter, then two of different epochs, under a name by place
    /// and under that of their event.
    /// Guarantee: only the place is ambiguous, and both are named in full.
    #[test]
    fn several_are_named_in_full() {
        let later = DeadLetter {
            epoch: 8,
            ..letter()
        };
        let name = LetterName::parse("pemda-33.74/12").unwrap();
        assert_eq!(name.ambiguity("x", &[letter()]), None);
        let both = [letter(), later];
        let why = name.ambiguity("pemda-33.74/12", &both).unwrap().to_string();
        for candidate in ["pemda-33.74/7/12", "pemda-33.74/8/12"] {
            assert!(why.contains(candidate), "{why}");
        }
        let event = LetterName::Event(EventId::from_bytes([7; 16]));
        assert_eq!(event.ambiguity("x", &both), None);
    }

    /// Scenario: the place of a letter, written and read; texts that are none.
    /// Guarantee: it is the same again; the others are refused.
    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = LetterPlace::of(&letter());
        assert_eq!(LetterPlace::parse(&place.to_string()), Some(place));
        for text in [
            "",
            "parked",
            "parked-1",
            "parked-1-x",
            "lost-1-1",
            "parked-1-1-1",
        ] {
            assert_eq!(LetterPlace::parse(text), None, "{text:?}");
        }
    }
}
