//! The store of a party of the fleet: its journals in memory, as much of them
//! as a link needs. A thousand of these cost the generator little, and whatever
//! the hub is told is what a real adapter would tell it.
//!
//! A submission counts as handed over when it stands here. Nothing survives the
//! process, which a real adapter must not say of itself: this is a generator.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::{
    cli::now,
    domain::{
        ComplaintId, ComplaintName, Decision, DeliveryRecord, EventId, Micros, PartyId, SystemName,
    },
    exchange::{Direction, Entry, Place, event_digest},
    store::{
        AdapterStore, Answer, ComplaintRecord, CopyWanted, Counts, DeadLetter, EarlierInbox, Heads,
        JournalEntry, LetterName, NewSubmission, Pruned, Receipt, ReceiveBatch, ReceivedCopy,
        ReceivedEntry, Store, StoreError, SubmitRefusal, ToldBefore, UnmappedStatus,
    },
};

use super::ledger::Ledger;

/// A submission that the hub has not acknowledged.
struct Waiting {
    place: Place,
    entry: Entry,
    stored_at: Micros,
    handed_over: Instant,
}

struct Journals {
    epoch: u64,
    head: Place,
    acknowledged: Place,
    waiting: VecDeque<Waiting>,
    received: Place,
}

/// Both journals of one party.
pub(super) struct LightStore {
    party: PartyId,
    instance_id: [u8; 16],
    journals: Mutex<Journals>,
    changes: watch::Sender<u64>,
    ledger: Arc<Ledger>,
}

impl LightStore {
    /// Of a party that has never met its hub.
    pub(super) fn new(party: PartyId, ledger: Arc<Ledger>) -> Self {
        let head = Place::root(&party, Direction::Submissions, 0);
        let journals = Journals {
            epoch: 0,
            head,
            acknowledged: head,
            waiting: VecDeque::new(),
            received: Place::root(&party, Direction::Deliveries, 0),
        };
        Self {
            party,
            instance_id: crate::runtime::random_bytes(),
            journals: Mutex::new(journals),
            changes: watch::Sender::new(0),
            ledger,
        }
    }

    pub(super) fn party(&self) -> &PartyId {
        &self.party
    }

    /// Hands entries over: the clock of each runs from now on.
    pub(super) fn hand_over(&self, entries: impl IntoIterator<Item = Entry>) {
        let handed_over = Instant::now();
        let stored_at = now();
        let mut journals = self.lock();
        for entry in entries {
            let place = journals.head.after(&event_digest(&entry.event));
            journals.head = place;
            journals.waiting.push_back(Waiting {
                place,
                entry,
                stored_at,
                handed_over,
            });
        }
        drop(journals);
        self.changed();
    }

    fn lock(&self) -> MutexGuard<'_, Journals> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn root(&self, direction: Direction, epoch: u64) -> Place {
        Place::root(&self.party, direction, epoch)
    }
}

impl Journals {
    fn heads(&self) -> Heads {
        Heads {
            epoch: self.epoch,
            submissions: self.head,
            submissions_acknowledged: self.acknowledged,
            deliveries: self.received.position,
            deliveries_acknowledged: self.received,
            // A local system that takes over whatever comes.
            consumed_through: self.received.position,
            oldest_waiting: self.waiting.front().map(|first| first.stored_at),
            copy_wanted: None,
        }
    }

    fn submission_at(&self, position: u64) -> Option<Place> {
        let behind = position.checked_sub(self.acknowledged.position)?;
        match behind.checked_sub(1) {
            None => Some(self.acknowledged),
            Some(index) => self.waiting.get(index as usize).map(|found| found.place),
        }
    }
}

fn done<T: Send + 'static>(value: T) -> Answer<'static, T> {
    std::future::ready(Ok(value)).boxed()
}

fn refused<T: Send + 'static>(error: StoreError) -> Answer<'static, T> {
    std::future::ready(Err(error)).boxed()
}

/// What no link asks for.
macro_rules! not_here {
    ($(fn $name:ident(&self $(, $given:ident: $type:ty)*) -> $out:ty;)*) => {
        $(fn $name(&self $(, $given: $type)*) -> Answer<'_, $out> {
            $(let _ = $given;)*
            let why = concat!("a party of the fleet keeps no more than its journals: ", stringify!($name));
            refused(StoreError::Invalid(why.to_owned()))
        })*
    };
}

impl Store for LightStore {
    fn instance_id(&self) -> [u8; 16] {
        self.instance_id
    }

    fn watch(&self, _: &PartyId) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn heads(&self, _: &PartyId) -> Answer<'_, Heads> {
        done(self.lock().heads())
    }

    fn read(
        &self,
        _: &PartyId,
        direction: Direction,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Answer<'_, Vec<JournalEntry>> {
        if direction == Direction::Deliveries {
            return done(Vec::new());
        }
        let journals = self.lock();
        let first = journals.acknowledged.position + 1;
        let Some(skipped) = from.checked_sub(first) else {
            return refused(StoreError::Mismatch(format!(
                "submission {from} was acknowledged and is gone"
            )));
        };
        let mut entries: Vec<JournalEntry> = Vec::new();
        let mut bytes = 0;
        let waiting = journals.waiting.iter().skip(skipped as usize);
        for found in waiting.take(max_entries) {
            bytes += found.entry.window_bytes() as usize;
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(JournalEntry {
                position: found.place.position,
                stored_at: found.stored_at,
                entry: found.entry.clone(),
                told_before: ToldBefore::Nothing,
            });
        }
        done(entries)
    }

    fn place_at(
        &self,
        _: &PartyId,
        direction: Direction,
        position: u64,
    ) -> Answer<'_, Option<Place>> {
        let journals = self.lock();
        let known = match direction {
            Direction::Submissions => journals.submission_at(position),
            Direction::Deliveries => {
                Some(journals.received).filter(|place| place.position == position)
            }
        };
        let root = (position == 0).then(|| self.root(direction, journals.epoch));
        done(known.or(root))
    }

    fn acknowledge(&self, _: &PartyId, direction: Direction, place: Place) -> Answer<'_, ()> {
        if direction == Direction::Deliveries {
            return done(());
        }
        let at = Instant::now();
        let mut journals = self.lock();
        let mut took = Vec::new();
        while let Some(first) = journals.waiting.front()
            && first.place.position <= place.position
        {
            took.push(at - first.handed_over);
            journals.acknowledged = first.place;
            journals.waiting.pop_front();
        }
        drop(journals);
        self.ledger.acknowledged(&took);
        self.changed();
        done(())
    }

    fn expect(&self, _: &EventId) -> oneshot::Receiver<Decision> {
        oneshot::channel().1
    }

    fn probe(&self) -> Answer<'_, ()> {
        done(())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    not_here! {
        fn consume(&self, party: &PartyId, through: u64) -> u64;
        fn earlier_inboxes(&self, party: &PartyId) -> Vec<EarlierInbox>;
        fn knows_epoch(&self, party: &PartyId, epoch: u64) -> bool;
        fn read_earlier(&self, party: &PartyId, from: (u64, u64), max: (usize, usize)) -> Vec<JournalEntry>;
        fn consume_in(&self, party: &PartyId, epoch: u64, through: u64) -> u64;
        fn submit(&self, batch: Vec<NewSubmission>, now: Micros) -> Vec<Result<Receipt, SubmitRefusal>>;
        fn find(&self, party: &PartyId, system: &SystemName, name: &ComplaintName) -> Option<ComplaintId>;
        fn complaint(&self, party: &PartyId, id: &ComplaintId) -> Option<ComplaintRecord>;
        fn receipt(&self, party: &PartyId, event: &EventId, complaint: &ComplaintId) -> Option<Receipt>;
        fn counts(&self, party: &PartyId) -> Counts;
        fn unmapped(&self, party: &PartyId, limit: usize) -> Vec<UnmappedStatus>;
        fn forget_unmapped(&self, party: &PartyId, statuses: Vec<UnmappedStatus>) -> ();
        fn dead_letters(&self, only: Option<&PartyId>, after: u64, limit: usize) -> Vec<DeadLetter>;
        fn letters_named(&self, name: &LetterName) -> Vec<DeadLetter>;
        fn unread(&self, party: &PartyId) -> u64;
    }
}

impl AdapterStore for LightStore {
    fn receive(&self, _: &PartyId, batch: ReceiveBatch) -> Answer<'_, Place> {
        let mut journals = self.lock();
        if journals.received != batch.expected {
            return refused(StoreError::Mismatch(format!(
                "deliveries stand at {}, not at {}",
                journals.received.position, batch.expected.position
            )));
        }
        journals.received = batch.head;
        drop(journals);
        for received in &batch.entries {
            if let Some(DeliveryRecord::Decisions(set)) = &received.record {
                self.ledger.decided(&self.party, &set.decisions);
            }
        }
        self.changed();
        done(batch.head)
    }

    fn adopt_epoch(&self, _: &PartyId, epoch: u64, resend_after: u64) -> Answer<'_, Heads> {
        let mut journals = self.lock();
        if journals.epoch != 0 || resend_after != 0 {
            return refused(StoreError::Invalid(
                "the hub began a new epoch: a fleet does not outlive its hub's store".to_owned(),
            ));
        }
        journals.epoch = epoch;
        let mut place = self.root(Direction::Submissions, epoch);
        journals.acknowledged = place;
        for waiting in &mut journals.waiting {
            place = place.after(&event_digest(&waiting.entry.event));
            waiting.place = place;
        }
        journals.head = place;
        journals.received = self.root(Direction::Deliveries, epoch);
        done(journals.heads())
    }

    fn adopt_consumed(&self, _: &PartyId, _: u64) -> Answer<'_, ()> {
        done(())
    }

    not_here! {
        fn adopt(&self, party: &PartyId, keep_through: u64, head: Place) -> Heads;
        fn fill_copy(&self, party: &PartyId, first: u64, entries: Vec<ReceivedCopy>) -> Option<CopyWanted>;
        fn read_again(&self, party: &PartyId, place: (u64, u64), received: ReceivedEntry) -> bool;
        fn drop_unread(&self, party: &PartyId, place: (u64, u64)) -> bool;
        fn prune(&self, party: &PartyId, before: Micros, now: Micros) -> Pruned;
    }
}
