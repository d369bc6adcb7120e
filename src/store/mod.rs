//! What a node keeps: the [`Store`] contract, its engines, and the one
//! conformance suite that every engine passes.
//!
//! Invariants: an answer means that the commit is on disk; the bytes of an
//! event are kept exactly once and as they came; a delivery points to them;
//! dedup is for ever. SQL stays in the engines. This room must not know the
//! wire: event and header bytes are opaque here, and whoever hands them over
//! hands over what they mean beside them.

pub mod postgres;
pub mod sqlite;

#[cfg(test)]
mod conformance;

mod enrolling;
mod error;
mod fence;
mod judging;
mod kept;
mod letters;
mod memory;
mod parts;
mod recovering;
mod standing;
mod told;
mod values;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use crate::{
    domain::{
        Category, Complaint, ComplaintId, ComplaintName, Context, Decision, DeliveryRecord, Event,
        EventId, Institution, InstitutionCode, Micros, Party, PartyId, Rejection, RoutingRule,
        SystemName, Verdict,
    },
    exchange::{Direction, Entry, Place},
};

pub use enrolling::{Invitation, InvitationUse, IssuedCertificate, RefusedJoin};
pub use error::StoreError;
pub use letters::{LetterKind, LetterName, LetterPlace, LetterQuery};
pub use recovering::{Recovered, RecoveredParty};
pub use values::{
    AcceptBatch, ComplaintRecord, CopyWanted, Counts, DeadLetter, DirectoryChange, EarlierInbox,
    EndedEpoch, Heads, HistoryRecord, IncomingEntry, JournalEntry, NewSubmission, Pruned, Receipt,
    ReceiveBatch, ReceivedEntry, Registry, SessionToken, SubmitRefusal, ToldBefore, UnmappedStatus,
};

/// What every answer of a store looks like: it comes when the commit is on
/// disk (or the read is done), or says why not.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Deciding, as a function: tests give one that panics.
pub type Decide = fn(Option<&Complaint>, &Event, Context<'_>) -> Result<Verdict, Rejection>;

/// Writes the headers that the hub's store puts before deliveries. Given to
/// an engine when it is opened, since engines do not know the wire.
pub trait HeaderEncoder: Send + Sync + 'static {
    /// The bytes that are stored, hashed and sent.
    fn encode(&self, record: &DeliveryRecord) -> bytes::Bytes;
}

/// What every node keeps. All calls may come at once from many tasks; an
/// engine joins what waits into one commit.
pub trait Store: Send + Sync + 'static {
    /// Made with the data directory: tells a cloned machine from a reconnect.
    fn instance_id(&self) -> [u8; 16];

    /// Changes whenever a commit touches a journal, the consumed mark or a
    /// decision of this party. The value is only a counter.
    fn watch(&self, party: &PartyId) -> watch::Receiver<u64>;

    /// How often whoever watches looks by itself whether something has changed,
    /// in case it was not told: seldom, where the store itself looks for all.
    fn look_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Where this party's journals stand. A party that the store has never
    /// seen stands at epoch 0 (adapter) or in a fresh epoch (hub), at 0.
    fn heads(&self, party: &PartyId) -> Answer<'_, Heads>;

    /// Entries from a position on, in order: at most `max_entries`, and at
    /// most `max_bytes` of them but always one if there is one. Stops before
    /// a stretch that is still being copied. Deliveries come with their event
    /// and with the parts that the party may read; the others as withheld.
    fn read(
        &self,
        party: &PartyId,
        direction: Direction,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Answer<'_, Vec<JournalEntry>>;

    /// The chain at a position of the current epoch; `None` beyond the head,
    /// or in a stretch that is still being copied.
    fn place_at(
        &self,
        party: &PartyId,
        direction: Direction,
        position: u64,
    ) -> Answer<'_, Option<Place>>;

    /// The peer holds everything through this place, on its disk. Never goes
    /// back; a lower place changes nothing.
    fn acknowledge(&self, party: &PartyId, direction: Direction, place: Place) -> Answer<'_, ()>;

    /// The local system has taken over everything through this position of
    /// the deliveries. Never goes back, never beyond the head.
    fn consume(&self, party: &PartyId, through: u64) -> Answer<'_, u64>;

    /// Adapter: what ended epochs left that the local system has not taken
    /// over, the oldest first. It is handed over before anything of the epoch
    /// in force.
    fn earlier_inboxes(&self, party: &PartyId) -> Answer<'_, Vec<EarlierInbox>>;

    /// Whether this party has been in this epoch here.
    fn knows_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, bool>;

    /// As [`Store::read`], of the deliveries of an ended epoch: (epoch, first
    /// position), (entries, bytes) at most.
    fn read_earlier(
        &self,
        party: &PartyId,
        from: (u64, u64),
        max: (usize, usize),
    ) -> Answer<'_, Vec<JournalEntry>>;

    /// As [`Store::consume`], of the deliveries of this epoch, which may have
    /// ended.
    fn consume_in(&self, party: &PartyId, epoch: u64, through: u64) -> Answer<'_, u64>;

    /// Takes hand-overs from a door: dedup, journal entry, complaint view, in
    /// one commit with whatever else waits. One result per item, in order; a
    /// refusal never touches its neighbours. At the hub (for parties behind
    /// its own door and unary ones) the items are decided in the same commit
    /// and the receipts carry the decision.
    fn submit(
        &self,
        batch: Vec<NewSubmission>,
        now: Micros,
    ) -> Answer<'_, Vec<Result<Receipt, SubmitRefusal>>>;

    /// The complaint that a local system of this party names, if the party
    /// takes part in it.
    fn find(
        &self,
        party: &PartyId,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Answer<'_, Option<ComplaintId>>;

    /// A complaint with its history as this party may see it; `None` if it is
    /// unknown or the party takes no part in it.
    fn complaint(&self, party: &PartyId, id: &ComplaintId) -> Answer<'_, Option<ComplaintRecord>>;

    /// Where an event about a complaint, which this party submitted, stands.
    fn receipt(
        &self,
        party: &PartyId,
        event: &EventId,
        complaint: &ComplaintId,
    ) -> Answer<'_, Option<Receipt>>;

    /// The hub's decision on an event that this node has handed up, as soon as
    /// it comes: it is on the hub's disk, and whatever is asked here afterwards
    /// finds it. Whoever waits must look at the receipt as well: it may have come
    /// before.
    fn expect(&self, event: &EventId) -> oneshot::Receiver<Decision>;

    /// Outcomes counted since the store was made.
    fn counts(&self, party: &PartyId) -> Answer<'_, Counts>;

    /// Local statuses of this party that were handed over here without a row
    /// in their mapping table; the latest first, at most `limit`.
    fn unmapped(&self, party: &PartyId, limit: usize) -> Answer<'_, Vec<UnmappedStatus>>;

    /// These have a row now and are no work any more.
    fn forget_unmapped(&self, party: &PartyId, statuses: Vec<UnmappedStatus>) -> Answer<'_, ()>;

    /// What a person can settle at this node, in the order of its journals, after
    /// an id (0: from the beginning), at most `limit` and 1 000; of one party, if
    /// it is named. At the hub: submissions that are parked, without those that
    /// repeat one of them. At an adapter: deliveries whose header or event it
    /// could not read.
    fn dead_letters(
        &self,
        only: Option<&PartyId>,
        after: u64,
        limit: usize,
    ) -> Answer<'_, Vec<DeadLetter>>;

    /// What a person may have to look at here and this name means, in the order of
    /// the journals: whatever was rejected or parked, and deliveries that this node
    /// could not read; these by their place only.
    fn letters_named(&self, name: &LetterName) -> Answer<'_, Vec<DeadLetter>>;

    /// How many deliveries of this party the node could not read and nobody has
    /// settled, counted up to 1 000; 0 at a hub.
    fn unread(&self, party: &PartyId) -> Answer<'_, u64>;

    /// Commits a small row: shows that the store can write now.
    fn probe(&self) -> Answer<'_, ()>;

    /// Finishes what waits, checkpoints and closes. Later calls fail with
    /// [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What the node of a region keeps besides.
pub trait AdapterStore: Store {
    /// Stores deliveries, their place in the inbox, the complaint views and
    /// the outcomes of own submissions that they bring: one transaction.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the journal does not stand at `expected`;
    /// nothing is stored then.
    fn receive(&self, party: &PartyId, batch: ReceiveBatch) -> Answer<'_, Place>;

    /// Opening, rules 3 and 4: the hub is right. Keeps own submissions through
    /// `keep_through`, sets later ones aside, takes `head` as head and as
    /// acknowledged, in one transaction; then re-appends all that was set
    /// aside before anything newer. What is missing up to `head` is wanted as
    /// a copy (see [`Heads::copy_wanted`]). With `head` not beyond
    /// `keep_through` nothing is set aside and only the acknowledgement moves.
    fn adopt(&self, party: &PartyId, keep_through: u64, head: Place) -> Answer<'_, Heads>;

    /// Enters an epoch that the hub began: both journals start at 1 again and
    /// own submissions after `resend_after` (a position of the epoch that
    /// ends; 0 = all) are re-appended in order. `consumed_through` of the new
    /// deliveries starts at 0; events already handed to the local system in
    /// the old epoch are not handed over again.
    fn adopt_epoch(&self, party: &PartyId, epoch: u64, resend_after: u64) -> Answer<'_, Heads>;

    /// Puts copied submissions into their gap, from the first missing position
    /// on. When the gap is closed the chain must be the one wanted.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if it is not the next stretch or the chain
    /// does not fit; nothing is stored then.
    fn fill_copy(
        &self,
        party: &PartyId,
        first: u64,
        entries: Vec<ReceivedCopy>,
    ) -> Answer<'_, Option<CopyWanted>>;

    /// Takes from a delivery of this (epoch, position) what could not be read when
    /// it came: view, history, effects, decisions. It never sets a complaint back
    /// and leaves journal and inbox as they are. `false`: it is none of those, or
    /// still can't be read.
    fn read_again(
        &self,
        party: &PartyId,
        place: (u64, u64),
        received: ReceivedEntry,
    ) -> Answer<'_, bool>;

    /// Takes a delivery of this (epoch, position) out of what could not be read;
    /// nothing else changes. `false`: it is none of those.
    fn drop_unread(&self, party: &PartyId, place: (u64, u64)) -> Answer<'_, bool>;

    /// Lets go of bytes and parts of own submissions, in pages: those that were
    /// stored, acknowledged and decided for good (not parked) before a moment, and
    /// whose decision was taken over by the local system. They stay known by event
    /// id, outcome and mac, their chains stay, and they are never sent again. What
    /// is decided is noted at each call, with `now`; it counts as decided since
    /// then, and as taken over once the local system has consumed through where
    /// the deliveries stood. So the first call lets go of nothing.
    fn prune(&self, party: &PartyId, before: Micros, now: Micros) -> Answer<'_, Pruned>;

    /// A node that lost its disk takes over how far its local system had
    /// consumed. Only ever raises the mark, also beyond the head.
    fn adopt_consumed(&self, party: &PartyId, through: u64) -> Answer<'_, ()>;
}

/// One entry of a background copy, with its meaning beside it.
pub type ReceivedCopy = IncomingEntry;

/// What the hub keeps besides.
pub trait HubStore: Store {
    /// Begins a session: from now on only this token may write for the party.
    fn open_session(&self, party: &PartyId, token: SessionToken) -> Answer<'_, Heads>;

    /// Takes consecutive submissions of a party and decides them: dedup,
    /// journal, complaints, deliveries for every other participant, decisions;
    /// one transaction with whatever else waits. The answer is the new head.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another session took over;
    /// [`StoreError::Mismatch`] if the journal does not stand at `expected`.
    fn accept(&self, party: &PartyId, batch: AcceptBatch) -> Answer<'_, Place>;

    /// Where this epoch of a party ended, if it has ended here.
    fn ended_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, Option<EndedEpoch>>;

    /// A node comes from an epoch that has ended, or from none (0), and holds
    /// its deliveries through `received`: what it lacks of ended epochs is put
    /// behind the deliveries of the one in force. Nothing is put there twice,
    /// but when this was cut by a crash; a node knows again what it has had.
    fn catch_up(&self, party: &PartyId, node_epoch: u64, received: u64) -> Answer<'_, ()>;

    /// Decides the parked submission at this (epoch, position) once more; `event`
    /// is what its bytes mean. If it is not parked any more then, that decision
    /// replaces the first one, stands in the author's deliveries as a set of its
    /// own, and is what every parked repetition of the submission repeats from
    /// now on (each told in the same way); one transaction. If it parks again
    /// nothing changes. `None`: no submission is parked there, or it only repeats
    /// another one.
    fn decide_again(
        &self,
        party: &PartyId,
        place: (u64, u64),
        event: Event,
        now: Micros,
    ) -> Answer<'_, Option<Decision>>;

    /// As [`HubStore::decide_again`], with this rejection instead of deciding; its
    /// texts are kept no longer.
    fn drop_parked(
        &self,
        party: &PartyId,
        place: (u64, u64),
        rejection: Rejection,
        now: Micros,
    ) -> Answer<'_, Option<Decision>>;

    /// Keeps a place of a deliveries journal that the link computed, so that
    /// [`Store::place_at`] need not hash from the beginning.
    fn mark(&self, party: &PartyId, place: Place) -> Answer<'_, ()>;

    /// Who may take part, and which certificates are revoked; changes are seen
    /// at once.
    fn registry(&self) -> watch::Receiver<Arc<Registry>>;

    /// Changes the directory in one commit, however many parties and institutions
    /// it names. If another party reads for an institution now, or one that may
    /// read from now on and might not before, that party is told its open
    /// complaints, with their whole history, and the one before is told nothing
    /// later.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], and nothing has changed, if the party of an
    /// institution is not registered, or a rule names an unknown institution.
    fn change_directory(&self, change: DirectoryChange) -> Answer<'_, ()>;

    /// Adds or replaces a party: see [`HubStore::change_directory`].
    fn put_party(&self, party: Party) -> Answer<'_, ()> {
        self.change_directory(DirectoryChange {
            parties: vec![party],
            ..DirectoryChange::default()
        })
    }

    /// Adds or replaces an institution: see [`HubStore::change_directory`].
    fn put_institution(&self, institution: Institution) -> Answer<'_, ()> {
        self.change_directory(DirectoryChange {
            institutions: vec![institution],
            ..DirectoryChange::default()
        })
    }

    /// Tells open complaints to whoever reads for their institutions now, where
    /// a registration has changed: what a stop in between left undone. Done by
    /// [`HubStore::change_directory`] itself.
    fn retell(&self) -> Answer<'_, ()>;

    /// Replaces the categories and the routing rules: see
    /// [`HubStore::change_directory`].
    fn put_policy(&self, categories: Vec<Category>, rules: Vec<RoutingRule>) -> Answer<'_, ()> {
        self.change_directory(DirectoryChange {
            policy: Some((categories, rules)),
            ..DirectoryChange::default()
        })
    }

    /// The party that reads for national triage: see
    /// [`HubStore::change_directory`].
    fn set_national(&self, party: PartyId) -> Answer<'_, ()> {
        self.change_directory(DirectoryChange {
            national: Some(party),
            ..DirectoryChange::default()
        })
    }

    /// Revokes a certificate by its serial number (lower-case hex).
    fn revoke(&self, serial: String, note: String, now: Micros) -> Answer<'_, ()>;

    /// Open complaints whose owner nobody reads for; must be 0.
    fn orphans(&self) -> Answer<'_, Vec<(ComplaintId, Option<InstitutionCode>)>>;

    /// Open complaints in national triage.
    fn in_triage(&self) -> Answer<'_, u64>;

    /// Adds an invitation, open: `revoked_at` and `used` are not looked at.
    fn put_invitation(&self, invitation: Invitation) -> Answer<'_, ()>;

    /// The invitation of this id.
    fn invitation(&self, id: &str) -> Answer<'_, Option<Invitation>>;

    /// Invitations, the newest first, at most 1000.
    fn invitations(&self) -> Answer<'_, Vec<Invitation>>;

    /// Takes an invitation back; the first time counts. `false`: there is none
    /// of this id.
    fn revoke_invitation(&self, id: &str, now: Micros) -> Answer<'_, bool>;

    /// Keeps that a certificate was issued. For an invitation (`used`, which
    /// goes with `certificate.invitation`) it is marked as used in the same
    /// commit, and keeps when it was used first. `false`, and nothing is kept:
    /// by then it is revoked, expired at `used.at`, used with another key, or
    /// not there. Of two that come at once one wins.
    fn record_issued(
        &self,
        certificate: IssuedCertificate,
        used: Option<InvitationUse>,
    ) -> Answer<'_, bool>;

    /// Certificates that were issued to a party, the newest first, at most
    /// 1000.
    fn issued_to(&self, party: &PartyId) -> Answer<'_, Vec<IssuedCertificate>>;

    /// Keeps that an attempt to join was refused; of all only the newest 1000
    /// stay.
    fn note_refused_join(&self, refused: RefusedJoin) -> Answer<'_, ()>;

    /// Refused attempts, the newest first, at most 100.
    fn refused_joins(&self) -> Answer<'_, Vec<RefusedJoin>>;
}

/// An entry as it travels, with its position.
impl JournalEntry {
    /// Bytes that count against the window.
    pub fn size_bytes(&self) -> usize {
        entry_size(&self.entry)
    }
}

/// Bytes of an entry that count against windows and frames.
pub fn entry_size(entry: &Entry) -> usize {
    entry.window_bytes() as usize
}
