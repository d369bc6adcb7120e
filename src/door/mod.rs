//! What local systems talk to: the same few use cases beneath every door.
//!
//! Invariants: a door answers "stored" only when it is on disk; it refuses at
//! once whatever it can know by itself; a caller acts only for the party and
//! the system that its token, or its certificate, names. This room must not
//! know links.

mod cursor;
mod dead_letters;
mod directory;
mod enrolment;
mod enrolment_error;
mod error;
mod grpc;
mod http;
mod inbox;
mod language;
mod overload;
mod tokens;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use overload::Lanes;
use tokio::time::{Instant, timeout_at};

use crate::{
    domain::{
        ComplaintId, ComplaintName, EVENT_BYTES, EventBody, EventId, FieldError, Handover,
        IdempotencyKey, Item, LocalStatus, Mapped, Micros, NewEvent, PART_BYTES, PartState,
        PartyId, Policy, Progress, Reference, StatusMaps, SystemName,
    },
    runtime::{Clock, random_bytes},
    store::{ComplaintRecord, Heads, JournalEntry, NewSubmission, Receipt, Store},
    wire::{self, Composed, Composing},
};

pub use cursor::Cursor;
pub use dead_letters::{LetterDoor, LettersOf};
pub use directory::{DirectoryDoor, MayOperate};
pub use enrolment::{EnrolmentDoor, Offer, OfferNow};
pub use enrolment_error::EnrolmentError;
pub use error::DoorError;
pub use grpc::{Access, Gateway, Scope};
pub use http::router;
pub use tokens::{PARTY_HEADER, TokenRule, Tokens};

/// Pause between two looks at a receipt.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The party that it acts for.
    pub party: PartyId,
    /// The local system that its token names.
    pub system: Option<SystemName>,
    /// IANA zone in which the party counts days.
    pub time_zone: String,
    /// The party's mapping tables for mirrored statuses.
    pub status_maps: Arc<StatusMaps>,
}

/// Says up to which moment, by the hub's clock, everything for a party is held
/// here; given to the door, which does not know links.
/// The heads were read not before the moment beside them.
pub type Freshness = Arc<dyn Fn(&PartyId, &Heads, Micros) -> Option<Micros> + Send + Sync>;

/// What a door needs.
pub struct DoorOptions {
    /// Where hand-overs are kept.
    pub store: Arc<dyn Store>,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
    /// Limits of events.
    pub policy: Policy,
    /// Longest wait of a call.
    pub longest_wait: Duration,
    /// Hand-overs that are being stored at once.
    pub max_in_flight: u32,
    /// How fresh an inbox is.
    pub freshness: Freshness,
}

/// The use cases.
#[derive(Clone)]
pub struct Door {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    longest_wait: Duration,
    freshness: Freshness,
    lanes: Lanes,
    // Where a system has acknowledged a part of a delivery of several
    // decisions: the store counts whole deliveries. A restart forgets it, and
    // the decisions of that one delivery come again.
    within: Arc<Mutex<HashMap<PartyId, Cursor>>>,
}

/// Items of an inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// In order.
    pub items: Vec<InboxItem>,
    /// Whoever has these items has everything that the hub had for the party
    /// at this moment of the hub's clock; `None`: there is more, or it is not
    /// known now.
    pub complete_up_to: Option<Micros>,
}

/// One item of an inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxItem {
    /// Where it stands.
    pub cursor: Cursor,
    /// The delivery.
    pub entry: JournalEntry,
    /// What its header says; of decisions, the one that is meant.
    pub record: InboxRecord,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq)]
pub enum InboxRecord {
    /// An event of another party.
    Event(Box<crate::domain::EventHeader>),
    /// The hub's decision on an own submission.
    Decision(Box<crate::domain::Decision>),
    /// A header that this version does not know (of a newer hub): kept as it
    /// came, and no reason for others to wait.
    Unreadable,
}

impl Door {
    /// A door before a store.
    pub fn new(options: DoorOptions) -> Self {
        let DoorOptions {
            store,
            clock,
            policy,
            longest_wait,
            max_in_flight,
            freshness,
        } = options;
        Self {
            store,
            clock,
            policy,
            longest_wait,
            freshness,
            lanes: Lanes::new(max_in_flight),
            within: Arc::default(),
        }
    }

    /// Stores hand-overs of a stream; one result each, in order. Waits for
    /// room: a stream slows down before it is refused.
    ///
    /// # Errors
    /// The store can't write, or there was no room for long: nothing of the
    /// batch was stored.
    pub async fn submit(
        &self,
        caller: &Caller,
        handovers: Vec<Handover>,
    ) -> Result<Vec<Result<Receipt, DoorError>>, DoorError> {
        let _room = self.lanes.streamed(handovers.len()).await?;
        self.store_all(caller, handovers).await
    }

    async fn store_all(
        &self,
        caller: &Caller,
        handovers: Vec<Handover>,
    ) -> Result<Vec<Result<Receipt, DoorError>>, DoorError> {
        let now = Micros(self.clock.now_micros());
        let mut results: Vec<Option<Result<Receipt, DoorError>>> = Vec::new();
        let mut batch = Vec::new();
        for handover in handovers {
            match self.prepare(caller, handover, now, &batch).await {
                Ok(new) => {
                    batch.push(new);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let mut stored = self.store.submit(batch, now).await?.into_iter();
        let results = results.into_iter().map(|found| match found {
            Some(refused) => refused,
            None => match stored.next() {
                Some(outcome) => outcome.map_err(DoorError::from),
                None => Err(DoorError::Unavailable(
                    "the store lost an answer".to_owned(),
                )),
            },
        });
        Ok(results.collect())
    }

    /// Stores one hand-over and, with a wait, brings the hub's decision along
    /// if it comes in time; on time-out it says how far it has come.
    ///
    /// # Errors
    /// Why it was not stored; at once if there is no room for it.
    pub async fn submit_one(
        &self,
        caller: &Caller,
        handover: Handover,
        wait: Duration,
    ) -> Result<Receipt, DoorError> {
        let mut changes = self.store.watch(&caller.party);
        // Before it is stored: then no decision on it can be missed.
        let event_id = handover
            .effective_key()
            .map(|key| EventId::derive(&caller.party, &handover.system, &key));
        let expected = event_id
            .filter(|_| !wait.is_zero())
            .map(|event_id| self.store.expect(&event_id));
        let room = self.lanes.single()?;
        let stored = self.store_all(caller, vec![handover]).await;
        // Whoever waits for the hub's decision takes no room from others.
        drop(room);
        let receipt = stored?
            .pop()
            .unwrap_or_else(|| Err(DoorError::Unavailable("no answer".to_owned())))?;
        let deadline = Instant::now() + wait.min(self.longest_wait);
        let mut latest = receipt;
        if latest.decision.is_some() || wait.is_zero() {
            return Ok(latest);
        }
        let mut expected = std::pin::pin!(async move {
            match expected {
                Some(expected) => expected.await.ok(),
                None => None,
            }
        });
        let mut is_expected = true;
        loop {
            tokio::select! {
                decision = &mut expected, if is_expected => match decision {
                    Some(decision) => {
                        latest.progress = decision.outcome.progress();
                        latest.decision = Some(decision);
                        break;
                    }
                    None => is_expected = false,
                },
                // How far it has come meanwhile: not every change of the party
                // is worth a look.
                changed = timeout_at(deadline, async {
                    let _ = changes.changed().await;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }) => {
                    let found = self
                        .store
                        .receipt(&caller.party, &latest.event_id, &latest.complaint_id)
                        .await?;
                    if let Some(found) = found {
                        latest = Receipt {
                            repeated: latest.repeated,
                            ..found
                        };
                    }
                    if changed.is_err() || latest.decision.is_some() {
                        break;
                    }
                }
            }
        }
        Ok(latest)
    }

    /// A new code in a local system's status column.
    ///
    /// # Errors
    /// Why the event was not stored. A code without a row in the mapping table
    /// is stored as it is, logged, and changes nothing.
    pub async fn mirror_status(
        &self,
        caller: &Caller,
        system: SystemName,
        complaint: ComplaintName,
        (status, note, at): (LocalStatus, String, Option<Micros>),
        key: IdempotencyKey,
        wait: Duration,
    ) -> Result<Receipt, DoorError> {
        let mut event = NewEvent::new(
            complaint,
            EventBody::StatusMirrored {
                declined: false,
                ignored: false,
            },
        );
        event.text = note;
        event.occurred_at = at;
        event.local_status = Some(status);
        let handover = Handover {
            system,
            key: Some(key),
            item: Item::Event(Box::new(event)),
        };
        self.submit_one(caller, handover, wait).await
    }

    /// A complaint with its history, as the caller's party may see it.
    ///
    /// # Errors
    /// It is unknown, or the party takes no part in it: they look alike. While a
    /// lost disk is copied back, nobody can say.
    pub async fn complaint(
        &self,
        caller: &Caller,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Result<ComplaintRecord, DoorError> {
        let id = self.find(caller, system, name).await?;
        match self.store.complaint(&caller.party, &id).await? {
            Some(found) => Ok(found),
            None => Err(self.unknown(&caller.party).await?),
        }
    }

    /// What is not known here may be among what a lost disk held.
    async fn unknown(&self, party: &PartyId) -> Result<DoorError, DoorError> {
        let heads = self.store.heads(party).await?;
        Ok(match heads.copy_wanted {
            Some(copy) => DoorError::Restoring {
                missing: copy.last + 1 - copy.first,
            },
            None => DoorError::UnknownComplaint,
        })
    }

    /// Whether this party knows a complaint by this reference.
    ///
    /// # Errors
    /// The store can't read.
    pub async fn knows(
        &self,
        caller: &Caller,
        system: &SystemName,
        reference: Reference,
    ) -> Result<bool, DoorError> {
        let name = ComplaintName::Reference(reference);
        let found = self.store.find(&caller.party, system, &name).await?;
        Ok(found.is_some())
    }

    async fn find(
        &self,
        caller: &Caller,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Result<ComplaintId, DoorError> {
        match self.store.find(&caller.party, system, name).await? {
            Some(found) => Ok(found),
            None => Err(self.unknown(&caller.party).await?),
        }
    }

    /// Checks, maps and composes one hand-over.
    async fn prepare(
        &self,
        caller: &Caller,
        mut handover: Handover,
        now: Micros,
        before: &[NewSubmission],
    ) -> Result<NewSubmission, DoorError> {
        handover
            .validate(&self.policy)
            .map_err(DoorError::Invalid)?;
        let digest = handover.digest();
        let complaint_id = match &mut handover.item {
            Item::Complaint(new) => {
                if let Some(status) = &mut new.local_status {
                    map_status(caller, &handover.system, status);
                }
                None
            }
            Item::Event(new) => {
                let found = self.find(caller, &handover.system, &new.complaint).await;
                let id = match found {
                    Err(unknown @ (DoorError::UnknownComplaint | DoorError::Restoring { .. })) => {
                        filed_before(caller, &handover.system, &new.complaint, before)
                            .ok_or(unknown)?
                    }
                    other => other?,
                };
                map_event(caller, &handover.system, new);
                Some(id)
            }
        };
        let composing = Composing {
            party: &caller.party,
            now,
            time_zone: &caller.time_zone,
            complaint_id,
        };
        let composed = wire::compose(handover, composing, random_bytes::<16>)
            .map_err(|error| DoorError::Invalid(vec![error]))?;
        check_sizes(&composed).map_err(|error| DoorError::Invalid(vec![error]))?;
        Ok(NewSubmission {
            party: caller.party.clone(),
            event: composed.event,
            event_bytes: composed.event_bytes,
            parts: composed.parts,
            // Before any mapping: the same fields are the same hand-over.
            handover_digest: digest,
        })
    }
}

/// What the hub would refuse for its size is refused here, where it can still
/// be made smaller.
fn check_sizes(composed: &Composed) -> Result<(), FieldError> {
    let event = composed.event_bytes.len();
    if event > EVENT_BYTES {
        return Err(FieldError::new(
            "event",
            format!("has {event} bytes with all its fields; at most {EVENT_BYTES} are allowed"),
        ));
    }
    for part in &composed.parts {
        if let PartState::Present(bytes) = &part.state
            && bytes.len() > PART_BYTES
        {
            return Err(FieldError::new(
                "text",
                format!(
                    "the texts have {} bytes together; at most {PART_BYTES} are allowed",
                    bytes.len()
                ),
            ));
        }
    }
    Ok(())
}

/// A complaint that is filed in the same batch, before the event that names
/// it: a stream hands both over, and the store has neither yet.
fn filed_before(
    caller: &Caller,
    system: &SystemName,
    name: &ComplaintName,
    before: &[NewSubmission],
) -> Option<ComplaintId> {
    let id = match name {
        ComplaintName::Reference(reference) => {
            ComplaintId::derive(&caller.party, system, reference)
        }
        ComplaintName::Id(id) => *id,
        ComplaintName::TrackingId(_) => return None,
    };
    let is_filed = before.iter().any(|new| {
        new.event.complaint_id == id && matches!(new.event.body, EventBody::Filed { .. })
    });
    is_filed.then_some(id)
}

fn map_status(caller: &Caller, system: &SystemName, status: &mut LocalStatus) -> Mapped {
    let mapped = caller.status_maps.map(system, &status.code, &status.name);
    if let Mapped::Status(canonical) = mapped {
        status.mapped = Some(canonical);
    }
    mapped
}

fn map_event(caller: &Caller, system: &SystemName, new: &mut NewEvent) {
    let Some(status) = &mut new.local_status else {
        return;
    };
    let asked = status.mapped;
    let mapped = map_status(caller, system, status);
    let EventBody::StatusMirrored { declined, ignored } = &mut new.body else {
        return;
    };
    match mapped {
        Mapped::Status(_) => {}
        Mapped::Declined => *declined = true,
        Mapped::Ignored => *ignored = true,
        // The caller may have mapped it itself, or said what it means.
        Mapped::Unmapped if asked.is_some() || *declined || *ignored => {}
        Mapped::Unmapped => {
            // Kept as it is, never guessed and never dropped: work to do.
            tracing::warn!(
                event = "status_unmapped",
                reason = "UNMAPPED_STATUS",
                party = %caller.party,
                %system,
                code = %status.code,
                name = %status.name,
                "this local status has no row in the mapping table: add one to the file that status_map names"
            );
        }
    }
}

/// Whether an item has come to its end at this node.
pub fn is_settled(progress: Progress) -> bool {
    !matches!(progress, Progress::Stored | Progress::AtHub)
}
